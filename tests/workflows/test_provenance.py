"""Records of tracks are printed and compared; predicting a region again agrees, or the difference is reported."""

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
from zflipon.workflows.verification import verify

PLACE = "one:2,001-5,000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_checkpoint):
    """Return a folder with a genome and its tracks."""
    folder = tmp_path_factory.mktemp("tracks")
    make_fasta(folder, {"one": dna(9000, 1) + "N" * 300 + dna(700, 2), "two": dna(3000, 3)})
    outputs = [str(folder / name) for name in ("z.bw", "z.bed", "z.bedgraph.gz", "z.bed.gz")]
    annotate(folder / "genome.fa", outputs, str(tiny_checkpoint), settings=InferenceConfig(device="cpu"))
    return folder


def run(*words):
    done = CliRunner().invoke(cli, ["provenance", *map(str, words)])
    return done.exit_code, done.output, done.exception


def test_the_record_is_printed(folder, tiny_checkpoint):
    status, output, _ = run(folder / "z.bw")
    assert status == 0
    record = json.loads((folder / "z.bw.json").read_text())
    assert record["command"] in output
    assert record["model"]["sha256"] in output
    for name, contig in record["contigs"].items():
        assert f"{name}: {contig['length']:,} bp, MD5 {contig['md5']}" in output
    assert record["model"]["path"] == str(tiny_checkpoint)
    _, output, _ = run(folder / "z.bw", "--json")
    assert json.loads(output)["record"] == record


def test_genomes_are_compared(folder, tmp_path):
    status, output, _ = run(folder / "z.bw", "--genome", folder / "genome.fa")
    assert status == 0
    assert "all contigs are those of the track" in output
    text = (folder / "genome.fa").read_text().splitlines()
    text[3] = text[3].replace("A", "G", 1)
    (tmp_path / "other.fa").write_text("\n".join(text) + "\n")
    status, output, _ = run(folder / "z.bw", "--genome", tmp_path / "other.fa")
    assert status == 1
    assert "one: another sequence of the same length (MD5 differs)" in output
    short = make_fasta(tmp_path / "short.fa", {"one": dna(100)})
    _, output, _ = run(folder / "z.bw", "--genome", short)
    assert "one: 100 bases, recorded are 10,000" in output
    assert "two: not in short.fa" in output


@pytest.mark.parametrize("name", ["z.bw", "z.bed", "z.bedgraph.gz", "z.bed.gz"])
@pytest.mark.parametrize("place", [PLACE, "one:8,900-9,400", "two", "one:10-30"])
def test_a_new_prediction_agrees(folder, name, place):
    result = verify(folder / name, place, device="cpu")
    assert result.agrees
    assert result.bases > 0
    assert result.notes == []
    assert result.largest <= 0.0015
    assert (result.calls is None) == (".bed" not in name.replace(".bedgraph", ""))


def copied(folder, tmp_path, name):
    for each in (name, f"{name}.json"):
        shutil.copy(folder / each, tmp_path / each)
    return tmp_path / name


def test_changed_values_are_detected(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bw")
    with pyBigWig.open(str(folder / "z.bw")) as before:
        values = np.array(before.values("one", 0, 9000))
        chroms = before.chroms()
    values[3000:3010] += 0.25
    with pyBigWig.open(str(track), "w") as out:
        out.addHeader(list(chroms.items()))
        out.addEntries("one", 0, values=values.tolist(), span=1, step=1)
    result = verify(track, PLACE, device="cpu")
    assert not result.agrees
    assert result.differing == 10
    assert result.largest == pytest.approx(0.25, abs=0.002)
    status, output, _ = run(track, "--verify", PLACE)
    assert status == 1
    assert "DIFFERS at 10 bases; the largest difference is 0.25" in output
    assert "changed since it was written" in output


def test_a_missing_call_is_detected(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bed")
    rows = [line.split("\t") for line in track.read_text().splitlines() if line[0] != "#"]
    inside = [row for row in rows if row[0] == "one" and int(row[1]) > 2100 and int(row[2]) < 4900]
    assert inside
    removed = inside[0]
    track.write_text("".join("\t".join(row) + "\n" for row in rows if row != removed))
    result = verify(track, PLACE, device="cpu")
    assert result.differing == int(removed[2]) - int(removed[1])


def test_other_weights_are_noted(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bw")
    record = json.loads((tmp_path / "z.bw.json").read_text())
    record["model"]["sha256"] = "0" * 64
    (tmp_path / "z.bw.json").write_text(json.dumps(record))
    result = verify(track, PLACE, device="cpu")
    assert len(result.notes) == 1
    assert "another model" in result.notes[0]


def test_unusable_requests_are_one_clear_error(folder, tmp_path):
    (tmp_path / "x.bw").write_bytes(b"")
    for words, message in (
        ([tmp_path / "nowhere.bw"], "nowhere.bw: no such file"),
        ([tmp_path / "x.bw"], "the record x.bw.json, which zflipon writes with every output, is missing"),
        ([folder / "z.bw", "--verify", "three:1-20"], "no such contig"),
        ([folder / "z.bw", "--verify", "one:9,051-9,250"], "only N"),
        ([folder / "z.bw", "--verify", PLACE, "--genome", tmp_path / "no.fa"], "no.fa"),
        (
            [folder / "z.bw", "--verify", PLACE, "--model", tmp_path / "no"],
            "give the model of the track with --model",
        ),
    ):
        status, _, failure = run(*words)
        assert status == 1, words
        assert isinstance(failure, InputError | ModelError), words
        assert message in str(failure)


def test_a_changed_file_is_reported_without_a_new_prediction(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bedgraph.gz")
    status, output, _ = run(track)
    assert status == 0
    digest = hashlib.sha256(track.read_bytes()).hexdigest()
    assert f"as it was written, SHA-256 {digest}" in output
    content = bytearray(track.read_bytes())
    content[-100] ^= 1
    track.write_bytes(content)
    status, output, _ = run(track)
    assert status == 1
    assert "the size is as recorded, but the SHA-256 differs" in output
    track.write_bytes(content[:-10])
    status, output, _ = run(track, "--json")
    assert status == 1
    assert f"{len(content) - 10:,} bytes, recorded are {len(content):,}" in json.loads(output)["changed"][0]


def edited(folder, tmp_path, name, change):
    """Copy a plain-text track with its rows changed."""
    track = copied(folder, tmp_path, name)
    rows = [line.split("\t") for line in track.read_text().splitlines()]
    track.write_text("".join("\t".join(row) + "\n" for row in change(rows)))
    return track


def a_call_inside(rows):
    return next(row for row in rows if row[0] == "one" and int(row[1]) > 2200 and int(row[2]) < 4800)


@pytest.mark.parametrize("column", [9, 10], ids=["mean", "highest"])
def test_a_call_with_another_probability_is_detected(folder, tmp_path, column):
    def change(rows):
        row = a_call_inside(rows)
        row[column] = f"{float(row[column]) - 0.1:.3f}"
        return rows

    result = verify(edited(folder, tmp_path, "z.bed", change), PLACE, device="cpu")
    assert result.largest == pytest.approx(0.1, abs=0.002)
    assert result.differing > 0


def test_a_moved_call_is_detected(folder, tmp_path):
    def change(rows):
        row = a_call_inside(rows)
        row[1:3] = [str(int(each) + 30) for each in row[1:3]]
        return rows

    assert not verify(edited(folder, tmp_path, "z.bed", change), PLACE, device="cpu").agrees


def test_a_missing_value_is_detected(folder, tmp_path):
    with gzip.open(folder / "z.bedgraph.gz", "rt") as lines:
        rows = [line.split("\t") for line in lines]
    removed = next(row for row in rows if row[0] == "one" and int(row[1]) > 2500)
    track = tmp_path / "z.bedgraph"
    track.write_text("".join("\t".join(row) for row in rows if row != removed))
    shutil.copy(folder / "z.bedgraph.gz.json", tmp_path / "z.bedgraph.json")
    result = verify(track, PLACE, device="cpu")
    assert result.differing == int(removed[2]) - int(removed[1])
    assert result.largest <= 0.0015  # the remaining rows are right


@pytest.mark.parametrize("gap", [0, 8])
def test_calls_that_the_region_cuts_agree(tmp_path, tiny_checkpoint, gap):
    """Merged calls and calls near the minimum length, with regions that start anywhere in them."""
    make_fasta(tmp_path, {"one": dna(3000, 1)})
    out = tmp_path / "z.bed"
    cpu = InferenceConfig(device="cpu")
    annotate(tmp_path / "genome.fa", [str(tmp_path / "z.bw")], str(tiny_checkpoint), settings=cpu)
    with pyBigWig.open(str(tmp_path / "z.bw")) as track:  # a threshold that calls two fifths of the bases
        threshold = round(float(np.quantile(track.values("one", 0, 3000, numpy=True), 0.6)), 3)
    call = CallConfig(threshold, 12, gap)
    annotate(tmp_path / "genome.fa", [str(out)], str(tiny_checkpoint), settings=cpu, call=call)
    assert len(out.read_text().splitlines()) > 5
    for start in range(1001, 1401, 25):
        assert verify(out, f"one:{start}-{start + 60}", device="cpu").agrees


def test_only_annotated_regions_can_be_verified(folder, tmp_path, tiny_checkpoint):
    outputs = [str(tmp_path / "r.bw"), str(tmp_path / "r.bed")]
    selection = Selection(regions=("one:2,001-3,000", "one:4,001-4,500"))
    cpu = InferenceConfig(device="cpu")
    annotate(folder / "genome.fa", outputs, str(tiny_checkpoint), selection, settings=cpu)
    for track in outputs:
        assert json.loads(Path(f"{track}.json").read_text())["regions"] == ["one:2001-3000", "one:4001-4500"]
        result = verify(track, "one:1,501-4,200", device="cpu")
        assert result.agrees
        assert result.bases == 1200
        with pytest.raises(InputError, match="its regions are one:2001-3000, one:4001-4500"):
            verify(track, "one:3,001-4,000", device="cpu")
        with pytest.raises(InputError, match="did not annotate this contig; it annotated one"):
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
    result = verify(out, PLACE, device="cpu")
    assert result.agrees
    assert result.allowed == 0.05


def test_a_model_with_the_weights_and_another_threshold_is_noted(folder, tmp_path, tiny_checkpoint):
    shutil.copytree(tiny_checkpoint, tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    config["zflipon"]["threshold"] = 0.9
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    result = verify(folder / "z.bed", PLACE, model=tmp_path / "other", device="cpu")
    assert result.agrees  # calls are by the recorded threshold
    assert result.notes == ["the model has the recorded weights, but another threshold"]


def test_other_versions_are_noted(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bw")
    record = json.loads((tmp_path / "z.bw.json").read_text())
    record["versions"]["torch"] = "1.0"
    (tmp_path / "z.bw.json").write_text(json.dumps(record))
    (note,) = verify(track, PLACE, device="cpu").notes
    assert note.startswith("the track was made with torch 1.0, installed is ")


def test_omics_tracks_are_verified_too(tmp_path):
    make_fasta(tmp_path, {"one": dna(6000, 4, "CG")})
    marks = tmp_path / "marks.bed"
    marks.write_text("one\t1000\t3000\n")
    (tmp_path / "tracks.tsv").write_text("H3K9ac\tmarks.bed\tbinary\n")
    out = tmp_path / "z.bw"
    annotate(tmp_path / "genome.fa", [str(out)], OMICS_MODEL, settings=InferenceConfig(device="cpu"),
             features=tmp_path / "tracks.tsv", missing_features="zero")  # fmt: skip
    result = verify(out, "one:1,001-2,000", device="cpu")
    assert (result.agrees, result.notes) == (True, [])
    marks.write_text("one\t1000\t2000\n")
    (note,) = verify(out, "one:1,001-2,000", device="cpu").notes
    assert "not the recorded file of the track 'H3K9ac'" in note
    marks.unlink()
    with pytest.raises(InputError, match=r"marks\.bed: no such file"):
        verify(out, "one:1,001-2,000", device="cpu")


def test_records_of_other_commands_are_printed_but_not_verified(folder, tmp_path):
    shutil.copy(folder / "z.bed", tmp_path / "v.vcf")
    record = json.loads((folder / "z.bed.json").read_text())
    plain = {key: record[key] for key in ("command", "model", "predict", "versions", "file")}
    (tmp_path / "v.vcf.json").write_text(json.dumps(plain))
    status, output, _ = run(tmp_path / "v.vcf")
    assert status == 0
    assert "as it was written" in output
    _, output, _ = run(tmp_path / "v.vcf", "--genome", folder / "genome.fa")
    assert "holds no checksums of contigs" in output
    _, _, failure = run(tmp_path / "v.vcf", "--verify", "one")
    assert "only tracks of annotate can be verified" in str(failure)
    (tmp_path / "v.vcf.json").write_text('{"command": "x"}')
    assert "model, predict, versions is missing" in str(run(tmp_path / "v.vcf")[2])


def test_a_damaged_index_is_one_clear_error(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bed.gz")
    (tmp_path / "z.bed.gz.tbi").write_bytes(b"no index")
    with pytest.raises(InputError, match="cannot be read by its index"):
        verify(track, PLACE, device="cpu")


def test_a_missing_genome_is_named(folder, tmp_path):
    track = copied(folder, tmp_path, "z.bw")
    record = json.loads((tmp_path / "z.bw.json").read_text())
    record["genome"] = str(tmp_path / "gone.fa")
    (tmp_path / "z.bw.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="the recorded genome is missing; give its place with --genome"):
        verify(track, PLACE)
    assert verify(track, PLACE, genome=folder / "genome.fa", device="cpu").agrees


def test_a_screened_track_is_verified_with_the_screen(folder, tmp_path, tiny_checkpoint):
    out = tmp_path / "s.bw"
    cpu = InferenceConfig(device="cpu")
    annotate(folder / "genome.fa", [str(out)], str(tiny_checkpoint), settings=cpu, screen=True)
    assert verify(out, "two", device="cpu").agrees


def test_one_line_on_the_command_line(folder):
    words = [sys.executable, "-m", "zflipon", "provenance", str(folder / "genome.fa")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the record genome.fa.json" in done.stderr
