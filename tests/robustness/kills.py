"""Kills at random instants: the same command, given again, ends with the bytes of an uninterrupted run.

Targets are annotate, variants and train in one process, and annotate and variants in two processes, of which the
launcher or one worker is killed.
"""

from __future__ import annotations

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
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from conftest import dna, make_fasta

from robustness.inputs import RECIPE, build_inputs
from robustness.reports import Report
from robustness.runner import run_cli, start

_WAIT = 240.0
"""Seconds that a run, or what it left, may take to end."""

_MODEL = ("-m", "tiny", "-t", "1", "--device", "cpu", "--precision", "float32", "--batch-size", "4")


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


_ANNOTATE = ("annotate", "long.fa", *_MODEL, "-o", "out.bw", "-o", "out.bed")
_VARIANTS = ("variants", "long.vcf", "-g", "long.fa", *_MODEL, "-o", "out.vcf.gz")

TARGETS = (
    Target("kills of annotate", _ANNOTATE, ("out.bw", "out.bed")),
    Target("kills of variants", _VARIANTS, ("out.vcf.gz",)),
    Target(
        "kills of train",
        ("train", "long.toml", "-o", "run", "-t", "1", "-q"),
        ("run/model.safetensors",),
    ),
    Target(
        "kills of annotate, launcher of 2",
        (*_ANNOTATE, "-n", "2"),
        ("out.bw", "out.bed"),
        "launcher",
    ),
    Target(
        "kills of annotate, worker of 2",
        (*_ANNOTATE, "-n", "2"),
        ("out.bw", "out.bed"),
        "worker",
    ),
    Target("kills of variants, worker of 2", (*_VARIANTS, "-n", "2"), ("out.vcf.gz",), "worker"),
)


class ForkedWorker:
    """Stands in for `subprocess.Popen` in the launcher: a fork need not import torch again."""

    def __init__(self, command, env, start_new_session, stderr):
        self.returncode = None
        number = sys.__stderr__.fileno() if stderr is None else stderr.fileno()
        arguments = list(command[3:])

        def body() -> int:
            for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(name, signal.SIG_DFL if name != signal.SIGINT else signal.default_int_handler)
            return run_cli(arguments)

        self.pid = start(body, Path.cwd(), 1, number, environment=env)

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
    with tempfile.TemporaryDirectory(prefix="kills") as root:
        clean = Path(root, "clean")
        clean.mkdir()
        _build(clean)
        for number, target in enumerate(targets):
            share = kills // len(targets) + (number < kills % len(targets))
            if share:
                yield _kill(target, share, clean, Path(root), random.Random(seed), show)


def _build(folder: Path) -> None:
    build_inputs(folder)
    contigs = {f"c{number}": dna(3000, number) for number in range(12)}
    make_fasta(folder / "long.fa", contigs)
    header = ["##fileformat=VCFv4.2", *(f"##contig=<ID={name},length=3000>" for name in contigs)]
    header.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    rows = [
        f"{name}\t{position}\t.\t{sequence[position - 1]}\t{'ACGT'.replace(sequence[position - 1], '')[0]}\t.\t.\t."
        for name, sequence in contigs.items()
        for position in range(100, 2900, 100)
    ]
    (folder / "long.vcf").write_text("\n".join([*header, *rows]) + "\n")
    (folder / "long.toml").write_text(
        RECIPE.replace("steps = 4", "steps = 40").replace("evaluations = 1", "evaluations = 8")
    )
    shutil.rmtree(folder / "out.bed.unfinished")


def _kill(
    target: Target,
    kills: int,
    clean: Path,
    root: Path,
    instants: random.Random,
    show: Callable[[str], object],
) -> Report:
    report, folder = Report(target.name), root / "run"
    expected, took = _uninterrupted(target, clean, folder)
    shutil.copytree(clean, folder)
    while report.tried < kills:
        if _is_complete(target, folder):  # the last kill was after the end
            if _contents(target, folder) != expected:
                report.add_fault("silent: the bytes differ", target.name)
            shutil.rmtree(folder)
            shutil.copytree(clean, folder)
        child, messages = _start(target, folder)
        time.sleep(instants.uniform(0, took))
        ended = _shoot(target, child, instants)
        report.tried += not ended
        fault = _wait(child, messages, target, killed=not ended)
        if not fault and (ended or instants.random() < 0.5):
            fault = _finish(target, folder, expected, messages)
            shutil.rmtree(folder)
            shutil.copytree(clean, folder)
        if fault:
            report.add_fault(fault, target.name)
            show(f"  {target.name}, kill {report.tried}: {fault}")
            shutil.rmtree(folder)
            shutil.copytree(clean, folder)
        messages.close()
    fault = ""
    if any(folder.glob("*.unfinished")):
        with tempfile.TemporaryFile() as messages:
            fault = _finish(target, folder, expected, messages)
    if fault:
        report.add_fault(fault, target.name)
        show(f"  {target.name}, last rerun: {fault}")
    shutil.rmtree(folder)
    report.same = report.tried - len(report.faults)
    return report


def _uninterrupted(target: Target, clean: Path, folder: Path) -> tuple[dict[str, bytes], float]:
    took = 0.0
    for _ in range(2):  # the first run is slower
        shutil.copytree(clean, folder)
        started = time.monotonic()
        child, messages = _start(target, folder)
        with messages:
            fault = _wait(child, messages, target, killed=False)
        if fault:
            raise RuntimeError(f"{target.name}: without a kill: {fault}")
        took = time.monotonic() - started
        contents = _contents(target, folder)
        shutil.rmtree(folder)
    return contents, took


def _start(target: Target, folder: Path):
    messages = tempfile.TemporaryFile()  # noqa: SIM115 (its caller closes it)

    def body() -> int:
        import zflipon.cli.launch
        import zflipon.genome.shards

        zflipon.genome.shards.SHARD_BASES = 2000
        zflipon.cli.launch.subprocess = SimpleNamespace(
            Popen=ForkedWorker, TimeoutExpired=subprocess.TimeoutExpired
        )
        sys.__stderr__ = sys.stderr
        return run_cli(target.command)

    return start(body, folder, messages.fileno(), messages.fileno()), messages


def _shoot(target: Target, child: int, instants: random.Random) -> bool:
    """Kill the victim. Return whether the run had ended before."""
    victim = child
    if target.victim == "worker":
        workers = _children(child)
        if not workers:
            return True
        victim = instants.choice(workers)
    with suppress(ProcessLookupError):
        if _is_running(victim):
            os.kill(victim, signal.SIGKILL)
            return False
    return True


def _wait(child: int, messages, target: Target, killed: bool) -> str:
    """Wait for the end of a run and of all processes that it started; return a fault."""
    deadline, workers = time.monotonic() + _WAIT, set(_children(child))
    while True:
        workers |= set(_children(child))
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > deadline:
            for each in (child, *workers):
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hang: it does not end"
        time.sleep(0.02)
    while any(map(_is_running, workers)):
        if time.monotonic() > deadline:
            for each in workers:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            return "orphan: a worker does not end"
        time.sleep(0.05)
    messages.seek(0)
    text = messages.read().decode(errors="replace")
    if "Traceback" in text:
        return f"traceback: {text[-1500:]}"
    code = os.waitstatus_to_exitcode(status)
    return f"failed: {code} {text[-500:]}" if code and not killed else ""


def _finish(target: Target, folder: Path, expected: dict[str, bytes], messages) -> str:
    """Run the command to its end unless it has ended; compare the bytes."""
    if not _is_complete(target, folder):
        child, messages = _start(target, folder)
        with messages:
            fault = _wait(child, messages, target, killed=False)
        if fault:
            return fault
    if _contents(target, folder) != expected:
        return "silent: the bytes differ"
    names = [path.name for path in folder.rglob("*")]
    left = [name for name in names if name.startswith(".zflipon.") or name.endswith(".unfinished")]
    return f"leftover: {left}" if left else ""


def _is_complete(target: Target, folder: Path) -> bool:
    return all((folder / name).exists() for name in target.outputs) and not any(folder.glob("*.unfinished"))


def _contents(target: Target, folder: Path) -> dict[str, bytes]:
    return {
        name: (folder / name).read_bytes() if (folder / name).exists() else b"" for name in target.outputs
    }


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _is_running(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
