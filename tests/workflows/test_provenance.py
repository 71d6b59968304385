"""A track's record tells how it was made; a place that is read again agrees, or the verdict says by how much not."""

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta

from zflipon.cli import cli
from zflipon.config import OMICS_MODEL, CallConfig, InferenceConfig, Selection
from zflipon.errors import InputError, ModelError
from zflipon.workflows.annotate import annotate
from zflipon.workflows.provenance import verify

PLACE = "one:2,001-5,000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_checkpoint):
    """Return a folder with a genome and its tracks."""
    folder = tmp_path_factory.mktemp("tracks")
    make_fasta(folder, {"one": dna(9000, 1) + "N" * 300 + dna(700, 2), "two": dna(3000, 3)})
    outputs = [str(folder / name) for name in ("z.bw", "z.bed", "z.bedgraph.gz", "z.bed.gz")]
    annotate(
        folder / "genome.fa", outputs, str(tiny_checkpoint), settings=InferenceConfig(device="cpu")
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
    assert found.largest <= 0.0015
    assert (found.calls is None) == (".bed" not in name.replace(".bedgraph", ""))


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
    assert "DIFFERS at 10 bases; the largest difference is 0.25" in told
    assert "changed since it was written" in told


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
    assert "the model is not the track's" in found.notes[0]


def test_what_cannot_be_told(folder, tmp_path):
    (tmp_path / "x.bw").write_bytes(b"")
    for words, said in (
        ([tmp_path / "nowhere.bw"], "nowhere.bw: no such file"),
        ([tmp_path / "x.bw"], "no record x.bw.json beside it"),
        ([folder / "z.bw", "--verify", "three:1-20"], "no such contig"),
        ([folder / "z.bw", "--verify", "one:9,051-9,250"], "it is all N"),
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


def test_a_file_that_was_changed_is_told_without_reading_again(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bedgraph.gz")
    status, told, _ = run(track)
    assert status == 0
    digest = hashlib.sha256(track.read_bytes()).hexdigest()
    assert f"as it was written, SHA-256 {digest}" in told
    content = bytearray(track.read_bytes())
    content[-100] ^= 1
    track.write_bytes(content)
    status, told, _ = run(track)
    assert status == 1
    assert "as long as recorded, but its SHA-256 differs" in told
    track.write_bytes(content[:-10])
    status, told, _ = run(track, "--json")
    assert status == 1
    assert f"{len(content) - 10:,} bytes, recorded are {len(content):,}" in json.loads(told)["changed"][0]


def edited(folder, tmp_path, name, change):
    """Copy a plain-text track with its rows changed."""
    track = copied(folder, tmp_path, name)
    rows = [line.split("\t") for line in track.read_text().splitlines()]
    track.write_text("".join("\t".join(row) + "\n" for row in change(rows)))
    return track


def a_call_inside(rows):
    return next(row for row in rows if row[0] == "one" and int(row[1]) > 2200 and int(row[2]) < 4800)


@pytest.mark.parametrize("column", [9, 10], ids=["mean", "highest"])
def test_a_call_with_another_probability_is_found_out(folder, tmp_path, column):
    def change(rows):
        row = a_call_inside(rows)
        row[column] = f"{float(row[column]) - 0.1:.3f}"
        return rows

    found = verify(edited(folder, tmp_path, "z.bed", change), PLACE, device="cpu")
    assert found.largest == pytest.approx(0.1, abs=0.002)
    assert found.differing > 0


def test_a_call_that_was_moved_is_found_out(folder, tmp_path):
    def change(rows):
        row = a_call_inside(rows)
        row[1:3] = [str(int(each) + 30) for each in row[1:3]]
        return rows

    assert not verify(edited(folder, tmp_path, "z.bed", change), PLACE, device="cpu").agrees


def test_a_value_that_is_gone_is_found_out(folder, tmp_path):
    with gzip.open(folder / "z.bedgraph.gz", "rt") as lines:
        rows = [line.split("\t") for line in lines]
    removed = next(row for row in rows if row[0] == "one" and int(row[1]) > 2500)
    track = tmp_path / "z.bedgraph"
    track.write_text("".join("\t".join(row) for row in rows if row != removed))
    shutil.copy(folder / "z.bedgraph.gz.json", tmp_path / "z.bedgraph.json")
    found = verify(track, PLACE, device="cpu")
    assert found.differing == int(removed[2]) - int(removed[1])
    assert found.largest <= 0.0015  # what is left is right


@pytest.mark.parametrize("gap", [0, 8])
def test_calls_that_the_place_cuts_agree(tmp_path, tiny_checkpoint, gap):
    """Joined calls and calls near the least length, cut at every base of the way."""
    make_fasta(tmp_path, {"one": dna(3000, 1)})
    out = tmp_path / "z.bed"
    annotate(tmp_path / "genome.fa", [str(out)], str(tiny_checkpoint), settings=InferenceConfig(device="cpu"),
             call=CallConfig(0.6, 12, gap))  # fmt: skip
    assert len(out.read_text().splitlines()) > 5
    for start in range(1001, 1401, 25):
        assert verify(out, f"one:{start}-{start + 60}", device="cpu").agrees


def test_what_the_run_was_not_asked_for(folder, tmp_path, tiny_checkpoint):
    outputs = [str(tmp_path / "r.bw"), str(tmp_path / "r.bed")]
    selection = Selection(regions=("one:2,001-3,000", "one:4,001-4,500"))
    annotate(folder / "genome.fa", outputs, str(tiny_checkpoint), selection, settings=InferenceConfig(device="cpu"))  # fmt: skip
    for track in outputs:
        assert json.loads(Path(f"{track}.json").read_text())["regions"] == ["one:2001-3000", "one:4001-4500"]
        found = verify(track, "one:1,501-4,200", device="cpu")
        assert found.agrees
        assert found.bases == 1200
        with pytest.raises(InputError, match="asked for one:2001-3000, one:4001-4500"):
            verify(track, "one:3,001-4,000", device="cpu")
        with pytest.raises(InputError, match="did not read this contig; it read one"):
            verify(track, "two", device="cpu")


def test_both_strands_and_a_bigwig_without_entries(folder, tmp_path, tiny_checkpoint):
    out = tmp_path / "b.bw"
    annotate(folder / "genome.fa", [str(out)], str(tiny_checkpoint),
             settings=InferenceConfig(device="cpu", both_strands=True))  # fmt: skip
    assert verify(out, PLACE, device="cpu").agrees
    with pyBigWig.open(str(out), "w") as empty:
        empty.addHeader([("one", 10_000), ("two", 3000)])
    assert verify(out, PLACE, device="cpu").differing == 3000


def test_half_precision_may_differ_by_more(folder, tmp_path, tiny_checkpoint):
    out = tmp_path / "h.bw"
    annotate(folder / "genome.fa", [str(out)], str(tiny_checkpoint),
             settings=InferenceConfig(device="cpu", precision="bfloat16"))  # fmt: skip
    found = verify(out, PLACE, device="cpu")
    assert found.agrees
    assert found.allowed == 0.05


def test_a_model_with_the_weights_and_another_threshold_is_noted(folder, tmp_path, tiny_checkpoint):
    shutil.copytree(tiny_checkpoint, tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    config["zflipon"]["threshold"] = 0.9
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    found = verify(folder / "z.bed", PLACE, model=tmp_path / "other", device="cpu")
    assert found.agrees  # calls are by the recorded threshold
    assert found.notes == ["the model has the track's weights, and another threshold"]


def test_other_versions_are_noted(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bw")
    record = json.loads((tmp_path / "z.bw.json").read_text())
    record["versions"]["torch"] = "1.0"
    (tmp_path / "z.bw.json").write_text(json.dumps(record))
    (note,) = verify(track, PLACE, device="cpu").notes
    assert note.startswith("the track was made with torch 1.0, this is ")


def test_omics_tracks_are_read_again(tmp_path):
    make_fasta(tmp_path, {"one": dna(6000, 4, "CG")})
    marks = tmp_path / "marks.bed"
    marks.write_text("one\t1000\t3000\n")
    (tmp_path / "tracks.tsv").write_text("H3K9ac\tmarks.bed\tbinary\n")
    out = tmp_path / "z.bw"
    annotate(tmp_path / "genome.fa", [str(out)], OMICS_MODEL, settings=InferenceConfig(device="cpu"),
             features=tmp_path / "tracks.tsv", missing_features="zero")  # fmt: skip
    found = verify(out, "one:1,001-2,000", device="cpu")
    assert (found.agrees, found.notes) == (True, [])
    marks.write_text("one\t1000\t2000\n")
    (note,) = verify(out, "one:1,001-2,000", device="cpu").notes
    assert "another file than the track 'H3K9ac' of the run" in note
    marks.unlink()
    with pytest.raises(InputError, match=r"marks\.bed: no such file"):
        verify(out, "one:1,001-2,000", device="cpu")


def test_a_record_of_another_verb_is_told_and_not_read_again(folder, tmp_path):
    shutil.copy(folder / "z.bed", tmp_path / "v.vcf")
    record = json.loads((folder / "z.bed.json").read_text())
    plain = {key: record[key] for key in ("command", "model", "predict", "versions", "file")}
    (tmp_path / "v.vcf.json").write_text(json.dumps(plain))
    status, told, _ = run(tmp_path / "v.vcf")
    assert status == 0
    assert "as it was written" in told
    _, told, _ = run(tmp_path / "v.vcf", "--genome", folder / "genome.fa")
    assert "holds no checksums of contigs" in told
    _, _, failure = run(tmp_path / "v.vcf", "--verify", "one")
    assert "only tracks of annotate's can be read again" in str(failure)
    (tmp_path / "v.vcf.json").write_text('{"command": "x"}')
    assert "lacks model, predict, versions" in str(run(tmp_path / "v.vcf")[2])


def test_a_track_that_has_lost_its_rows_for_an_index_is_one_line(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bed.gz")
    (tmp_path / "z.bed.gz.tbi").write_bytes(b"no index")
    with pytest.raises(InputError, match="cannot be read by its index"):
        verify(track, PLACE, device="cpu")


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
    annotate(folder / "genome.fa", [str(out)], str(tiny_checkpoint), settings=InferenceConfig(device="cpu"), screen=True)  # fmt: skip
    assert verify(out, "two", device="cpu").agrees


def test_one_line_on_the_command_line(folder):
    words = [sys.executable, "-m", "zflipon", "provenance", str(folder / "genome.fa")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no record genome.fa.json beside it" in done.stderr
