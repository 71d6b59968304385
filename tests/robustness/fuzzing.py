"""Mutation fuzzing: damage each kind of input, run its command, and classify the result."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from robustness.inputs import CLASSES, InputClass, build_inputs
from robustness.mutations import mutate
from robustness.reports import Report
from robustness.runner import Outcome, run_command


def fuzz(
    classes: Sequence[InputClass] = CLASSES,
    cases: int = 60,
    first_seed: int = 0,
    keep: Path | None = None,
    show: Callable[[str], object] = lambda _: None,
    clean: Path | None = None,
) -> Iterator[Report]:
    """Run damaged inputs of each class.

    Parameters
    ----------
    classes : sequence of InputClass
    cases : int
        Cases of each class.
    first_seed : int
        Seed of the first case; a case follows from its class and seed.
    keep : Path, optional
        Folder for the damaged file and the messages of each fault.
    show : callable
        Called with a line about each fault.
    clean : Path, optional
        Folder of clean inputs; without it, they are made.

    Yields
    ------
    Report
    """
    with tempfile.TemporaryDirectory(prefix="fuzz") as root:
        if clean is None:
            clean = Path(root, "clean")
            clean.mkdir()
            build_inputs(clean)
        for kind in classes:
            report = Report(kind.name)
            try:
                expected = _expected(kind, clean, Path(root, "expected"))
            except RuntimeError as error:
                report.add_fault("clean input", str(error))
                show(f"  {error}")
                yield report
                continue
            for seed in range(first_seed, first_seed + cases):
                folder = Path(root, "case")
                damaged = mutate((clean / kind.file).read_bytes(), kind.kind, seed)
                outcome = run_case(kind, clean, damaged, folder)
                fault = judge(kind, damaged, folder, outcome, expected)
                _count(report, kind, folder, outcome, expected, fault)
                if fault:
                    report.add_fault(fault, f"{kind.name} {seed}")
                    show(f"  {kind.name}, seed {seed}: {fault} [{outcome.status}] {outcome.last_line[:200]}")
                    if keep is not None:
                        _keep(keep / f"{kind.name.replace(' ', '_')}.{seed}", kind, damaged, outcome)
                shutil.rmtree(folder, ignore_errors=True)
            yield report


def run_case(kind: InputClass, clean: Path, damaged: bytes, folder: Path) -> Outcome:
    """Run a command on a copy of its clean inputs and one damaged file."""
    folder.mkdir()
    for name in kind.needs:
        (shutil.copytree if (clean / name).is_dir() else shutil.copyfile)(clean / name, folder / name)
    path = folder / kind.file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(damaged)
    return run_command(kind.command, folder)


def result(kind: InputClass, folder: Path, outcome: Outcome) -> bytes | None:
    """Return what a command wrote; None if it wrote nothing or more than one file."""
    if not kind.output:
        return outcome.stdout.encode()
    path = folder / kind.output
    return path.read_bytes() if path.is_file() else None


def judge(kind: InputClass, damaged: bytes, folder: Path, outcome: Outcome, expected: bytes | None) -> str:
    """Return the fault with the end of a command, or an empty string."""
    if outcome.fault:
        return outcome.fault
    if outcome.status:
        if kind.output and (folder / kind.output).exists() and kind.output not in kind.needs:
            return "output: written although the command failed" if kind.name != "recipe" else ""
        leftovers = [path.name for path in folder.rglob(".*part*")]
        return f"leftover: {leftovers}" if leftovers else ""
    written = result(kind, folder, outcome)
    if written == expected:
        return ""
    if kind.redundant:
        return "silent: the result differs"
    if kind.oracle is not None:
        wrong = kind.oracle(damaged, folder, outcome)
        return f"silent: {wrong}" if wrong else ""
    if expected and not written and not (outcome.has_warning or kind.alters_scores):
        return "silent: the result is empty"
    return ""


def _expected(kind: InputClass, clean: Path, folder: Path) -> bytes | None:
    outcome = run_case(kind, clean, (clean / kind.file).read_bytes(), folder)
    expected = result(kind, folder, outcome)
    shutil.rmtree(folder)
    if outcome.status or outcome.fault:
        raise RuntimeError(f"{kind.name}: the clean input fails: {outcome.last_line}")
    return expected


def _count(
    report: Report, kind: InputClass, folder: Path, outcome: Outcome, expected: bytes | None, fault: str
) -> None:
    report.tried += 1
    if fault:
        return
    if outcome.status:
        report.refused += 1
    elif result(kind, folder, outcome) == expected:
        report.same += 1
    else:
        report.other += 1


def _keep(folder: Path, kind: InputClass, damaged: bytes, outcome: Outcome) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / Path(kind.file).name).write_bytes(damaged)
    (folder / "command.txt").write_text(" ".join(["zflipon", *kind.command]) + "\n")
    (folder / "stdout.txt").write_text(outcome.stdout)
    (folder / "stderr.txt").write_text(outcome.stderr)
