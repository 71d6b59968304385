"""The demo genome has the properties that its README states, and the example scripts run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyBigWig
import pytest

from zflipon.cli import COMMANDS

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("[0-9]*.sh"))


def read_fasta(path: Path) -> dict[str, str]:
    contigs = {}
    for record in path.read_text().split(">")[1:]:
        header, *lines = record.splitlines()
        contigs[header.split()[0]] = "".join(lines)
    return contigs


def read_rows(path: Path) -> list[tuple[str, int, int]]:
    rows = (line.split("\t") for line in path.read_text().splitlines())
    return [(contig, int(start), int(end)) for contig, start, end, *_ in rows]


def alternating_runs(sequence: str, min_length: int) -> list[tuple[int, int]]:
    """Return maximal runs of alternating purine and pyrimidine, found by regular expression."""
    classes = sequence.upper().translate(str.maketrans("AGCTN", "RRYY-"))
    return [match.span() for match in re.finditer("R?(?:YR)*Y?", classes) if len(match[0]) >= min_length]


def cpg_ratio(sequence: str) -> float:
    return sequence.count("CG") * len(sequence) / (sequence.count("C") * sequence.count("G"))


@pytest.fixture(scope="module")
def demo():
    return read_fasta(EXAMPLES / "demo.fa")


@pytest.fixture(scope="module")
def truth():
    return read_rows(EXAMPLES / "demo_truth.bed")


def test_the_script_writes_the_same_bytes(tmp_path):
    subprocess.run(
        [sys.executable, EXAMPLES / "make_demo.py", "-o", tmp_path], check=True, capture_output=True
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.fa", "demo_truth.bed"]
    for written in tmp_path.iterdir():
        assert written.read_bytes() == (EXAMPLES / written.name).read_bytes()


def test_the_demo_is_marked_as_synthetic():
    headers = [line for line in (EXAMPLES / "demo.fa").read_text().splitlines() if line.startswith(">")]
    assert len(headers) == 3
    assert all(line.startswith(">synthetic") and "SYNTHETIC" in line for line in headers)


def test_the_demo_resembles_human_dna(demo, truth):
    sizes = sorted(map(len, demo.values()))
    assert sum(sizes) == 200_000
    assert sizes[0] < 2048
    genome = "N".join(demo.values())
    assert set(genome) <= set("ACGTNacgt")
    assert [len(gap) for gap in re.findall("N{2,}", genome)] == [3000]
    assert 0.4 < sum(map(str.islower, genome)) / len(genome) < 0.55
    assert 0.4 < len(re.findall("[CGcg]", genome)) / len(genome) < 0.46
    flanks = "N".join(demo[contig][max(0, start - 250) : end + 250] for contig, start, end in truth).upper()
    assert cpg_ratio(genome.upper()) < 0.5
    assert cpg_ratio(flanks) > 0.6
    assert "cacacacacaca" in genome
    assert "tgtgtgtgtgtg" in genome


def test_truth_consists_of_complete_alternating_runs_in_gc_rich_sequence(demo, truth):
    assert len(truth) > 20
    assert {contig for contig, _, _ in truth} == set(demo)
    for contig, start, end in truth:
        assert (start, end) in alternating_runs(demo[contig], 14)
        assert end - start <= 40
        region = demo[contig][max(0, start - 250) : end + 250]
        assert region.isupper()
        assert len(re.findall("[CG]", region)) / len(region) > 0.5


def test_about_one_z_forming_run_in_five_is_truth(demo, truth):
    runs = [(contig, *span) for contig, bases in demo.items() for span in alternating_runs(bases, 14)]
    assert set(truth) < set(runs)
    assert 3.5 < (len(runs) - len(truth)) / len(truth) < 4.5
    others = "".join(demo[contig][start:end] for contig, start, end in set(runs) - set(truth))
    assert sum(map(str.islower, others)) / len(others) > 0.6


def test_each_command_has_a_script_and_each_script_a_line_in_the_readme():
    readme = (EXAMPLES / "README.md").read_text()
    assert re.findall(r"`bash examples/(\S+)`", readme) == SCRIPTS
    texts = [(EXAMPLES / name).read_text() for name in SCRIPTS]
    commands = {name for text in texts for name in re.findall(r"^zflipon (\w+)", text, re.MULTILINE)}
    assert commands == set(COMMANDS)


@pytest.mark.slow
def test_the_scripts_run_in_their_order(tmp_path, truth):
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("*.fai"))
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
    }
    for name in SCRIPTS:
        done = subprocess.run(
            ["bash", f"examples/{name}"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert done.stdout, name
    outputs = tmp_path / "runs"

    with pyBigWig.open(str(outputs / "demo" / "demo.bw")) as track:
        assert track.chroms() == {"synthetic1": 130_000, "synthetic2": 68_500, "synthetic3": 1_500}
        inside = sum(track.stats(contig, start, end, exact=True)[0] for contig, start, end in truth) / len(
            truth
        )
        assert inside > 5 * track.stats("synthetic2", exact=True)[0]
    calls = read_rows(outputs / "demo" / "demo.bed")
    called = [
        any(row[0] == contig and row[1] < end and start < row[2] for row in calls)
        for contig, start, end in truth
    ]
    # the model was trained on real promoters, which the synthetic ones only resemble
    assert sum(called) > len(truth) / 3
    correct = [
        any(row[0] == contig and row[1] < end and start < row[2] for contig, start, end in truth)
        for row in calls
    ]
    # by chance, one in five calls would be correct
    assert sum(correct) >= len(calls) / 2

    scores = json.loads((outputs / "demo" / "scores.json").read_text())["tracks"]
    assert set(scores) == {"demo.bw", "demo.bed"}
    assert scores["demo.bw"]["genome"]["average_precision"] > 0.2
    assert (outputs / "tiny" / "model.safetensors").is_file()
