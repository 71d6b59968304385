"""The fast part of the robustness harness; ``benchmarks/robustness.py`` runs the rest."""

import json
import os
import resource
import signal
import time

import pytest

from robustness import attacks, runner
from robustness.fuzzing import fuzz
from robustness.inputs import CLASSES, build_inputs
from robustness.mutations import KINDS, mutate
from robustness.oracles import parse_bed, parse_fasta, union
from robustness.runner import Outcome, run_command

FAST = "FASTA|fai|regions BED|bigWig|provenance|VCF|BCF|table of tokens|config.json|safetensors|journal, 000000.shard"
"""Kinds of input that are damaged here; the full harness damages all."""


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    build_inputs(folder)
    return folder


def outcome(status=0, stdout="", stderr="", stopped=""):
    return Outcome(status, stdout, stderr, 1.0, 0, stopped)


# ---- the harness itself ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "fault"),
    [
        (outcome(), ""),
        (outcome(1, stderr="zflipon: error: a.bed: no such file\n"), ""),
        (outcome(2, stderr="Usage: zflipon\n"), ""),
        (outcome(1, stderr="Traceback (most recent call last):\n"), "traceback"),
        (outcome(-signal.SIGSEGV), "crash"),
        (outcome(134), "crash"),
        (outcome(1, stderr="zflipon: error: a\nzflipon: error: b\n"), "no message"),
        (outcome(1), "no message"),
        (outcome(0, stderr="zflipon: \x1b[31mred\n"), "escape"),
        (outcome(-signal.SIGKILL, stopped="time"), "hang"),
        (outcome(-signal.SIGKILL, stopped="memory"), "memory"),
    ],
)
def test_outcomes_are_classified(ended, fault):
    assert ended.fault == fault


def faulty(tmp_path, monkeypatch, main, **settings):
    """Run a replacement of the command line as a case."""
    monkeypatch.setattr("zflipon.cli.main", main)
    return run_command([], tmp_path, **settings)


def test_a_crash_a_traceback_and_a_hang_are_noticed(tmp_path, monkeypatch):
    assert faulty(tmp_path, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL)).fault == "crash"
    assert faulty(tmp_path, monkeypatch, lambda: 1 / 0).fault == "traceback"
    assert faulty(tmp_path, monkeypatch, lambda: time.sleep(60), seconds=0.2).fault == "hang"
    monkeypatch.setattr("robustness.runner.MAX_MEMORY", 50 << 20)
    assert faulty(tmp_path, monkeypatch, lambda: (b"x" * (200 << 20), time.sleep(5))).fault == "memory"


@pytest.mark.parametrize("kind", KINDS)
def test_mutations_follow_from_the_seed_and_change_the_content(clean, kind):
    file = next(each.file for each in CLASSES if each.kind == kind)
    content = (clean / file).read_bytes()
    damaged = [mutate(content, kind, seed) for seed in range(40)]
    assert damaged == [mutate(content, kind, seed) for seed in range(40)]
    assert len(set(damaged) - {content}) > 25


def test_oracles():
    assert parse_fasta(b">a b\nAC\n\nGT\r\n>c\n") == {"a": "ACGT", "c": ""}
    assert parse_fasta(b"ACGT\n") is None
    assert parse_bed(b"#\na\t1\t3\tx\na\t0\t2\n", {"a": 3}) == [("a", 1, 3), ("a", 0, 2)]
    assert parse_bed(b"a\t1\t4\n", {"a": 3}) is None
    assert union([("a", 1, 3), ("a", 0, 2), ("b", 5, 6)]) == [("a", 0, 3), ("b", 5, 6)]


# ---- zflipon --------------------------------------------------------------------------------------------------


def test_damaged_inputs_are_no_faults(clean):
    classes = [kind for kind in CLASSES if kind.name in FAST.split("|")]
    assert len(classes) == 11
    reports = list(fuzz(classes, cases=1, first_seed=3, clean=clean))
    assert [report.tried for report in reports] == [1] * len(classes)
    assert [fault for report in reports for fault in report.faults] == []


def test_failing_writes_are_one_line_and_leave_nothing(clean, tmp_path):
    for name in ("annotate o.bw", "variants o.vcf.gz", "annotate o.bed"):
        command, output = attacks.WRITERS[name]
        ended, written, left = attacks._run(
            command, clean, tmp_path / "case", output, {resource.RLIMIT_FSIZE: 1000}
        )
        assert (ended.fault, ended.status, written, left) == ("", 1, None, []), ended.stderr
        assert "cannot be written (" in ended.stderr


@pytest.mark.parametrize("words", [["models", "show", "x" * 300], ["provenance", "x" * 300]])
def test_names_that_are_too_long_are_one_line(tmp_path, words):
    ended = run_command(words, tmp_path)
    assert (ended.fault, ended.status) == ("", 1), ended.stderr


def test_hostile_requests_do_not_stop_the_server():
    (report,) = attacks.requests(60)
    assert (report.tried, report.faults) == (60, [])


def test_hostile_names_are_printed_as_text(clean, tmp_path):
    record = json.loads((clean / "z.bw.json").read_text())
    record["model"]["name"] = "".join(attacks.NAMES)
    (tmp_path / "z.bw.json").write_text(json.dumps(record))
    (tmp_path / "z.bw").write_bytes((clean / "z.bw").read_bytes())
    ended = run_command(["provenance", "z.bw"], tmp_path)
    assert ended.fault == ""
    assert attacks._markup(tmp_path, ended, "") == ""
    assert r"\x1b[31mred" in ended.stdout


def test_all_commands_print_names_as_text():
    """`print_line` and `print_data` alone write to the terminal."""
    from pathlib import Path

    import zflipon.cli

    folder = Path(zflipon.cli.__file__).parent
    allowed = {folder / "__init__.py", folder / "options.py"}
    wrong = [
        path.name for path in folder.rglob("*.py") if path not in allowed and "click.echo" in path.read_text()
    ]
    assert wrong == []
    assert runner.MAX_MEMORY == 4 << 30
