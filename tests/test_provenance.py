"""A track's record tells how it was made; a place that is read again agrees, or the verdict says by how much not."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pyBigWig
import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta

from zflipon.annotate import annotate
from zflipon.cli import cli
from zflipon.config import PredictConfig
from zflipon.errors import InputError, ModelError
from zflipon.provenance import verify

PLACE = "one:2,001-5,000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_checkpoint):
    """Return a folder with a genome and its tracks."""
    folder = tmp_path_factory.mktemp("tracks")
    make_fasta(folder, {"one": dna(9000, 1) + "N" * 300 + dna(700, 2), "two": dna(3000, 3)})
    outputs = [str(folder / name) for name in ("z.bw", "z.bed", "z.bedgraph.gz", "z.bed.gz")]
    annotate(
        folder / "genome.fa", outputs, str(tiny_checkpoint), predict=PredictConfig(device="cpu"), quiet=True
    )
    return folder


def run(*words):
    done = CliRunner().invoke(cli, ["provenance", *map(str, words)])
    return done.exit_code, done.output, done.exception


def test_the_record_is_told(folder, tiny_checkpoint):
    status, told, _ = run(folder / "z.bw")
    assert status == 0
    record = json.loads((folder / "z.bw.json").read_text())
    assert record["command"] in told
    assert record["model"]["sha256"] in told
    for name, contig in record["contigs"].items():
        assert f"{name}: {contig['length']:,} bp, MD5 {contig['md5']}" in told
    assert record["model"]["path"] == str(tiny_checkpoint)
    _, told, _ = run(folder / "z.bw", "--json")
    assert json.loads(told)["record"] == record


def test_the_same_genome_and_another(folder, tmp_path):
    status, told, _ = run(folder / "z.bw", "--genome", folder / "genome.fa")
    assert status == 0
    assert "all contigs are those of the track" in told
    text = (folder / "genome.fa").read_text().splitlines()
    text[3] = text[3].replace("A", "G", 1)
    (tmp_path / "other.fa").write_text("\n".join(text) + "\n")
    status, told, _ = run(folder / "z.bw", "--genome", tmp_path / "other.fa")
    assert status == 1
    assert "one: another sequence of the same length (MD5 differs)" in told
    short = make_fasta(tmp_path / "short.fa", {"one": dna(100)})
    _, told, _ = run(folder / "z.bw", "--genome", short)
    assert "one: 100 bases, recorded are 10,000" in told
    assert "two: not in short.fa" in told


@pytest.mark.parametrize("name", ["z.bw", "z.bed", "z.bedgraph.gz", "z.bed.gz"])
@pytest.mark.parametrize("place", [PLACE, "one:8,900-9,400", "two", "one:10-30"])
def test_a_place_that_is_read_again_agrees(folder, name, place):
    found = verify(folder / name, place, device="cpu")
    assert found.agrees
    assert found.bases > 0
    assert found.notes == []
    if found.largest is not None:
        assert found.largest <= 0.0015


def copied(folder, tmp_path, name):
    for each in (name, f"{name}.json"):
        shutil.copy(folder / each, tmp_path / each)
    return tmp_path / name


def test_a_track_that_was_changed_is_found_out(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bw")
    with pyBigWig.open(str(folder / "z.bw")) as before:
        values = np.array(before.values("one", 0, 9000))
        chroms = before.chroms()
    values[3000:3010] += 0.25
    with pyBigWig.open(str(track), "w") as out:
        out.addHeader(list(chroms.items()))
        out.addEntries("one", 0, values=values.tolist(), span=1, step=1)
    found = verify(track, PLACE, device="cpu")
    assert not found.agrees
    assert found.differing == 10
    assert found.largest == pytest.approx(0.25, abs=0.002)
    status, told, _ = run(track, "--verify", PLACE)
    assert status == 1
    assert "10 bases differ, the largest difference is 0.25" in told


def test_a_call_that_was_added_is_found_out(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bed")
    rows = [line.split("\t") for line in track.read_text().splitlines() if line[0] != "#"]
    inside = [row for row in rows if row[0] == "one" and int(row[1]) > 2100 and int(row[2]) < 4900]
    assert inside
    removed = inside[0]
    track.write_text("".join("\t".join(row) + "\n" for row in rows if row != removed))
    found = verify(track, PLACE, device="cpu")
    assert found.differing == int(removed[2]) - int(removed[1])


def test_other_weights_are_noted(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bw")
    record = json.loads((tmp_path / "z.bw.json").read_text())
    record["model"]["sha256"] = "0" * 64
    (tmp_path / "z.bw.json").write_text(json.dumps(record))
    found = verify(track, PLACE, device="cpu")
    assert len(found.notes) == 1
    assert "the weights are not those of the track" in found.notes[0]


def test_what_cannot_be_told(folder, tmp_path):
    (tmp_path / "x.bw").write_bytes(b"")
    for words, said in (
        ([tmp_path / "nowhere.bw"], "nowhere.bw: no such file"),
        ([tmp_path / "x.bw"], "no record x.bw.json beside it"),
        ([folder / "z.bw", "--verify", "three:1-20"], "no such contig"),
        ([folder / "z.bw", "--verify", "one:9,051-9,250"], "all of it is N"),
        ([folder / "z.bw", "--verify", PLACE, "--genome", tmp_path / "no.fa"], "no.fa"),
        (
            [folder / "z.bw", "--verify", PLACE, "--model", tmp_path / "no"],
            "name the track's model with --model",
        ),
    ):
        status, _, failure = run(*words)
        assert status == 1, words
        assert isinstance(failure, InputError | ModelError), words
        assert said in str(failure)


def test_a_genome_that_went_is_asked_for(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bw")
    record = json.loads((tmp_path / "z.bw.json").read_text())
    record["genome"] = str(tmp_path / "gone.fa")
    (tmp_path / "z.bw.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="the recorded genome is not there; name it with --genome"):
        verify(track, PLACE)
    assert verify(track, PLACE, genome=folder / "genome.fa", device="cpu").agrees


def test_a_screened_track_is_read_again_as_it_was(folder, tmp_path, tiny_checkpoint):
    out = tmp_path / "s.bw"
    annotate(folder / "genome.fa", [str(out)], str(tiny_checkpoint), predict=PredictConfig(device="cpu"),
             quiet=True, screen=True)  # fmt: skip
    assert verify(out, "two", device="cpu").agrees


def test_one_line_on_the_command_line(folder):
    words = [sys.executable, "-m", "zflipon", "provenance", str(folder / "genome.fa")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no record genome.fa.json beside it" in done.stderr
