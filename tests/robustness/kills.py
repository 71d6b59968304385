"""Kills: the same command, given again, ends with the bytes of an uninterrupted run.

Runs of annotate, variants and train are killed at the changes of their files and at random times; with two processes,
the launcher or one worker is killed. Most reruns are killed again before they end.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

from conftest import dna, make_fasta

from robustness.inputs import RECIPE, build_inputs
from robustness.instants import Instant, Strike
from robustness.reports import Report
from robustness.runner import run_cli, start

_WAIT = 600.0
"""Seconds that a run, or what it left, may take to end."""

_PR_SET_CHILD_SUBREAPER = 36

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_MODEL = ("-m", "tiny", "-t", "1", "--device", "cpu", "--precision", "float32", "--batch-size", "16")


@dataclass(frozen=True)
class Target:
    """A command that is killed.

    Attributes
    ----------
    name : str
    command : tuple of str
    outputs : tuple of str
        Files whose bytes are compared.
    victim : str
        ``process``, or with two processes ``launcher`` or ``worker``.
    """

    name: str
    command: tuple[str, ...]
    outputs: tuple[str, ...]
    victim: str = "process"

    def in_two_processes(self, victim: str) -> Target:
        """Return the same command in two processes, of which one is killed."""
        name, command = f"{self.name}, {victim} of 2", (*self.command, "-n", "2")
        return replace(self, name=name, command=command, victim=victim)


ANNOTATE = Target(
    "kills of annotate",
    ("annotate", "long.fa", *_MODEL, "-o", "out.bw", "-o", "out.bed"),
    ("out.bw", "out.bed"),
)
VARIANTS = Target(
    "kills of variants",
    ("variants", "long.vcf", "-g", "long.fa", *_MODEL, "-o", "out.vcf.gz"),
    ("out.vcf.gz",),
)
TRAIN = Target(
    "kills of train", ("train", "long.toml", "-o", "run", "-t", "1", "-q"), ("run/model.safetensors",)
)
TARGETS = (
    ANNOTATE,
    VARIANTS,
    TRAIN,
    *(
        target.in_two_processes(victim)
        for target in (ANNOTATE, VARIANTS)
        for victim in ("launcher", "worker")
    ),
)


class ForkedWorker:
    """Stands in for `subprocess.Popen` in the launcher: a fork need not import torch again."""

    victim = "process"
    strike: Strike

    def __init__(self, command, env, start_new_session, stderr):
        self.returncode = None
        number = sys.__stderr__.fileno() if stderr is None else stderr.fileno()
        arguments = list(command[3:])
        launcher = os.getpid()

        def body() -> int:
            for name in _SIGNALS:
                signal.signal(name, signal.SIG_DFL if name != signal.SIGINT else signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            if self.victim != "process":
                self.strike.arm(launcher if self.victim == "launcher" else None)
            return run_cli(arguments)

        # the launcher's handlers must not run in the fork
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self.pid = start(body, Path.cwd(), 1, number, environment=env)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout):
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("zflipon", timeout)
            time.sleep(0.02)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)


def kill_runs(
    kills: int,
    targets: tuple[Target, ...] = TARGETS,
    seed: int = 0,
    show: Callable[[str], object] = lambda _: None,
) -> Iterator[Report]:
    """Kill runs of each target and compare the result of the rerun.

    Parameters
    ----------
    kills : int
        Kills in all, divided among the targets.
    targets : tuple of Target
    seed : int
        Seed of the instants.
    show : callable
        Called with a line about each fault.

    Yields
    ------
    Report
        ``same``: kills after which the run ended with the same bytes.
    """
    ctypes.CDLL(None).prctl(
        _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0
    )  # workers of a killed launcher become our children
    with tempfile.TemporaryDirectory(prefix="kills") as root:
        clean = Path(root, "clean")
        clean.mkdir()
        _build(clean)
        for number, target in enumerate(targets):
            share = kills // len(targets) + (number < kills % len(targets))
            if share:
                yield _Killer(target, clean, Path(root, "run"), random.Random(seed), show).kill(share)


def _build(folder: Path) -> None:
    build_inputs(folder)
    contigs = {f"c{number}": dna(700, number) for number in range(6)}
    make_fasta(folder / "long.fa", contigs)
    header = ["##fileformat=VCFv4.2", *(f"##contig=<ID={name},length=700>" for name in contigs)]
    header.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    rows = [
        f"{name}\t{position}\t.\t{sequence[position - 1]}\t{'ACGT'.replace(sequence[position - 1], '')[0]}\t.\t.\t."
        for name, sequence in contigs.items()
        for position in range(100, 700, 100)
    ]
    (folder / "long.vcf").write_text("\n".join([*header, *rows]) + "\n")
    (folder / "long.toml").write_text(
        RECIPE.replace("steps = 4", "steps = 8").replace("evaluations = 1", "evaluations = 4")
    )
    shutil.rmtree(folder / "out.bed.unfinished")


class _Killer:
    """Kills the runs of one target."""

    def __init__(
        self, target: Target, clean: Path, folder: Path, rng: random.Random, show: Callable[[str], object]
    ):
        self._target, self._clean, self._folder, self._rng, self._show = target, clean, folder, rng, show
        self._report = Report(target.name)

    def kill(self, kills: int) -> Report:
        """Kill runs until `kills` were killed; return the report."""
        report = self._report
        self._measure()
        self._start_afresh()
        while report.tried < kills:
            instant = Instant.choose(self._rng, self._changes)
            fault, killed = self._run(instant)
            report.tried += killed
            if not fault and (
                not killed or self._is_complete()
            ):  # the run ended, or was killed after its end
                fault = self._compare()
                self._start_afresh()
            if fault:
                self._add_fault(fault, instant)
        if any(self._folder.glob("*.unfinished")) or self._target.name == TRAIN.name:
            fault = self._run(Instant(share=1e9))[0] or self._compare()
            if fault:
                self._add_fault(fault, Instant())
        shutil.rmtree(self._folder)
        report.same = report.tried - len(report.faults)
        return report

    def _add_fault(self, fault: str, instant: Instant) -> None:
        self._report.add_fault(fault, self._target.name)
        self._show(f"  {self._target.name}, kill {self._report.tried}, {instant}: {fault}")
        self._start_afresh()

    def _start_afresh(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self._clean, self._folder)

    def _measure(self) -> None:
        """Run twice without a kill: note the bytes, the changes of files and, of the second run, the time."""
        for _ in range(2):
            self._start_afresh()
            started = time.monotonic()
            fault, _ = self._run(Instant(share=1e9))
            if fault:
                raise RuntimeError(f"{self._target.name}: without a kill: {fault}")
            self._took = time.monotonic() - started
            self._expected = self._contents()

    def _run(self, instant: Instant) -> tuple[str, bool]:
        """Run the command and kill it at an instant. Return the fault, if there is one, and whether it was killed."""
        strike = Strike(instant, self._folder)
        with tempfile.TemporaryFile() as messages:
            child = start(lambda: self._body(strike), self._folder, messages.fileno(), messages.fileno())
            killed = False
            if not instant.change and instant.share <= 1:
                time.sleep(instant.share * self._took)
                killed = self._shoot(child)
            status = _reap(child)
            killed |= strike.happened
            if not instant.change and instant.share > 1:
                self._changes = strike.changes
            strike.close()
            messages.seek(0)
            text = messages.read().decode(errors="replace")
        if isinstance(status, str):
            return status, killed
        if "Traceback" in text:
            return f"traceback: {text[-1500:]}", killed
        return (f"failed: {status} {text[-500:]}" if status and not killed else ""), killed

    def _body(self, strike: Strike) -> int:
        import zflipon.cli.launch
        import zflipon.genome.shards

        zflipon.genome.shards.SHARD_BASES = 400
        ForkedWorker.victim, ForkedWorker.strike = self._target.victim, strike
        zflipon.cli.launch.subprocess = SimpleNamespace(
            Popen=ForkedWorker, TimeoutExpired=subprocess.TimeoutExpired
        )
        sys.__stderr__ = sys.stderr
        if self._target.victim == "process":
            strike.arm()
        return run_cli(self._target.command)

    def _shoot(self, child: int) -> bool:
        """Kill the victim. Return whether it was there to be killed."""
        victim = child
        if self._target.victim == "worker":
            workers = _children(child)
            if not workers:
                return False
            victim = self._rng.choice(workers)
        if not _is_running(victim):
            return False
        os.kill(victim, signal.SIGKILL)
        return True

    def _compare(self) -> str:
        """Return the fault in what a complete run has left, or an empty string."""
        if self._contents() != self._expected:
            return "silent: the bytes differ"
        names = [path.name for path in self._folder.rglob("*")]
        left = [name for name in names if name.startswith(".zflipon.") or name.endswith(".unfinished")]
        return f"leftover: {left}" if left else ""

    def _is_complete(self) -> bool:
        outputs = all((self._folder / name).exists() for name in self._target.outputs)
        return outputs and self._target.name != TRAIN.name and not any(self._folder.glob("*.unfinished"))

    def _contents(self) -> dict[str, bytes]:
        paths = {name: self._folder / name for name in self._target.outputs}
        return {name: path.read_bytes() if path.exists() else b"" for name, path in paths.items()}


def _reap(child: int) -> int | str:
    """Wait for a run and all processes that it started; return its status, or a fault."""
    deadline, code = time.monotonic() + _WAIT, 0
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:  # none is left
            return code
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            deadline = time.monotonic() + _WAIT
        if pid:
            continue
        if time.monotonic() > deadline:
            is_alive = _is_running(child)
            while left := _children(os.getpid()):  # workers of a killed launcher become our children
                for each in left:
                    os.kill(each, signal.SIGKILL)
                    os.waitpid(each, 0)
            return "hang: it does not end" if is_alive else "orphan: a worker does not end"
        time.sleep(0.02)


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _is_running(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
