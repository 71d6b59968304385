"""The bundle as a whole: files, labels, assembly, atomic replacement, messages for invalid inputs, command line."""

import json
import struct
from xml.etree import ElementTree

import numpy as np
import pyBigWig
import pytest
from click.testing import CliRunner
from conftest import SHARED, dna, make_fasta, needs_shared
from html_page import read_page
from report_files import LENGTHS, stanzas, write_run

from zflipon.cli import cli
from zflipon.errors import InputError, MissingExtraError, OutputError, ZfliponError
from zflipon.report.bundle import MARK_FILE, bundle
from zflipon.tracks import bigbed
from zflipon.tracks.atomic import atomic_folder
from zflipon.tracks.bigwig_writer import write_bigwig_values


def test_tracks_and_records_are_copied_unchanged(written):
    folder, _ = written
    for name in ("z.bw", "z.bed", "z.bw.json", "z.bed.json"):
        assert (folder / "hub" / name).read_bytes() == (folder / name).read_bytes()
    with pyBigWig.open(str(folder / "hub" / "z.bw")) as file:
        assert file.values("chr1", 99, 101) == pytest.approx([0.01, 0.9], abs=1e-6)


def test_labels_become_a_bigbed(written):
    with pyBigWig.open(str(written[0] / "hub" / "known_zdna.bb")) as file:
        assert [row[:2] for row in file.entries("chr1", 0, 9000)] == [(120, 160)]


def test_the_result_lists_files_and_calls(written):
    folder, result = written
    assert result.calls == {"z": 5}
    assert (result.assembly, result.at_ucsc) == ("hg38", True)
    assert result.files == sorted(path.name for path in (folder / "hub").iterdir())


def test_each_run_has_its_own_files(tmp_path):
    (tmp_path / "other").mkdir()
    one = write_run(tmp_path, ("z.bw", "calls.bed.gz"))
    two = write_run(tmp_path / "other", ("z.bw",), "2026-02-02T00:00:00+0000")
    result = bundle([*one, *two], tmp_path / "hub")
    assert result.calls == {"z": 5, "z_2": 5}
    assert {"z.bb", "z_2.bb", "z.bed.gz", "z_2.bw"} <= set(result.files)
    assert len(read_page(tmp_path / "hub").tables["overview"]) == 3


def test_names_are_valid_in_addresses_and_unique(tmp_path):
    for name in ("my run-1.bed", "my_run_1.bed", "known_zdna.bed"):
        (tmp_path / name).write_text("chr1\t5\t15\n")
    labels = tmp_path / "known_zdna.bed"
    genome = make_fasta(tmp_path, {"chr1": dna(100)})
    tracks = [tmp_path / name for name in ("my run-1.bed", "my_run_1.bed", "known_zdna.bed")]
    result = bundle(tracks, tmp_path / "hub", genome, labels=labels)
    assert set(result.calls) == {"my_run_1", "my_run_1_2", "known_zdna_2"}
    tracks = stanzas((tmp_path / "hub" / "hub.txt").read_text())[2:]
    assert len({track["track"] for track in tracks}) == len({track["bigDataUrl"] for track in tracks}) == 4


def test_files_of_the_same_name_in_two_folders_are_two_runs(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "calls.bed").write_text("chr1\t5\t15\n")
    genome = make_fasta(tmp_path, {"chr1": dna(100)})
    result = bundle([tmp_path / "a/calls.bed", tmp_path / "b/calls.bed"], tmp_path / "hub", genome)
    assert result.calls == {"calls": 1, "calls_2": 1}


def test_narrowpeak_files_are_calls_without_probabilities(tmp_path):
    peaks = tmp_path / "chip.narrowPeak"
    peaks.write_text("chr1\t5\t15\tpeak1\t2000\t.\t7.5\t12.0\t9.1\t4\n")
    genome = make_fasta(tmp_path, {"chr1": dna(100)})
    result = bundle([peaks], tmp_path / "hub", genome)
    assert result.calls == {"chip": 1}
    assert "chip.narrowPeak" in result.files
    assert stanzas((tmp_path / "hub" / "hub.txt").read_text())[2]["type"] == "bigBed 9"


def test_a_bed_without_scores(tmp_path):
    bed = tmp_path / "peer.bed"
    bed.write_text("chr2\t5\t15\nchr1\t7\t19\nchr1\t10\t29\n")
    genome = make_fasta(tmp_path, {name: dna(length) for name, length in LENGTHS.items()})
    bundle([bed], tmp_path / "hub", genome)
    with pyBigWig.open(str(tmp_path / "hub" / "peer.bb")) as file:
        rows = file.entries("chr1", 0, 100)
        assert [row[:2] for row in rows] == [(7, 19), (10, 29)]
        assert len(rows[0][2].split("\t")) == 6
    page = read_page(tmp_path / "hub")
    assert page.tables["overview"][1][1:5] == ["unknown model", "–", "3", "32"]
    assert "strongest-1" not in page.tables
    assert stanzas((tmp_path / "hub" / "hub.txt").read_text())[2]["type"] == "bigBed 9"


def test_a_run_without_calls_has_no_bigbed(tmp_path):
    (tmp_path / "z.bed").write_text("")
    write_bigwig_values(tmp_path / "z.bw", LENGTHS, {"chr1": [(0, np.full(9000, 0.01))]})
    result = bundle([tmp_path / "z.bw", tmp_path / "z.bed"], tmp_path / "hub")
    assert "z.bb" not in result.files
    assert read_page(tmp_path / "hub").tables["overview"][1][2:5] == ["9,000", "0", "0"]


@pytest.mark.parametrize(
    ("values", "limits"),
    [([-2.0, 5.0, 30.0], "-2:30"), ([-0.4, 0.9], "-0.4:0.9"), ([0.25, 1.5], "0:1.5"), ([-3.0, -1.0], "-3:0")],
)
def test_values_that_are_no_probabilities_have_exact_limits(tmp_path, values, limits):
    write_bigwig_values(tmp_path / "z.bw", LENGTHS, {"chr1": [(0, np.array(values))]})
    bundle([tmp_path / "z.bw"], tmp_path / "hub")
    signal = stanzas((tmp_path / "hub" / "hub.txt").read_text())[2]
    assert signal["viewLimits"] == limits
    assert "calls are not known" in (tmp_path / "hub" / "index.html").read_text()


def test_nan_in_a_bigwig_counts_as_missing(tmp_path):
    with pyBigWig.open(str(tmp_path / "z.bw"), "w") as file:
        file.addHeader([("chr1", 9000)])
        file.addEntries(["chr1"] * 3, [0, 1, 2], ends=[1, 2, 3], values=[0.5, np.nan, 0.75])
    bundle([tmp_path / "z.bw"], tmp_path / "hub")
    assert read_page(tmp_path / "hub").tables["overview"][1][2] == "2"


@needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "bundle_near_unit/max1_5.bw",
        "bundle_near_unit/min_neg0_4.bw",
        "bundle_near_unit/own_attributions.bw",
        "bigwig_nan_segfault/nan.bw",
        "bigwig_nan_segfault/large.bw",
    ],
)
def test_known_faulty_bigwigs_are_bundled(tmp_path, name):
    result = bundle([SHARED / "faults" / name], tmp_path / "hub")
    assert "index.html" in result.files


def test_an_empty_bigwig(tmp_path):
    write_bigwig_values(tmp_path / "z.bw", LENGTHS, {})
    bundle([tmp_path / "z.bw"], tmp_path / "hub")
    assert read_page(tmp_path / "hub").tables["overview"][1][2] == "0"


def read_twobit(path):
    """Return contig → sequence of a 2bit file."""
    data, contigs = path.read_bytes(), {}
    signature, _, count, _ = struct.unpack_from("<4I", data)
    assert signature == 0x1A412743
    position = 16
    for _ in range(count):
        name = data[position + 1 : position + 1 + data[position]].decode()
        position += 5 + data[position]
        (offset,) = struct.unpack_from("<I", data, position - 4)
        length, blocks = struct.unpack_from("<2I", data, offset)
        gaps = np.frombuffer(data, "<u4", 2 * blocks, offset + 8).reshape(2, blocks).T
        packed = np.frombuffer(data, np.uint8, -(-length // 4), offset + 16 + 8 * blocks)
        letters = np.array(list("TCAG"))[(packed[:, None] >> [6, 4, 2, 0]) & 3].ravel()[:length]
        for start, size in gaps:
            letters[start : start + size] = "N"
        contigs[name] = "".join(letters)
    return contigs


def test_the_sequence_of_an_unknown_assembly_is_included(tmp_path, monkeypatch):
    monkeypatch.setattr("zflipon.genome.twobit._CHUNK", 1000)
    contigs = {name: dna(length, length) for name, length in LENGTHS.items()}
    contigs["chr1"] = contigs["chr1"][:995] + 10 * "N" + contigs["chr1"][1005:-1] + "N"
    contigs["odd"] = "ACGTA"
    genome = make_fasta(tmp_path, contigs)
    bundle(write_run(tmp_path), tmp_path / "hub", genome)
    assert read_twobit(tmp_path / "hub" / "genome.2bit") == contigs
    stanza = stanzas((tmp_path / "hub" / "hub.txt").read_text())[1]
    assert stanza["twoBitPath"] == "genome.2bit"
    assert stanza["defaultPos"].startswith("chr10:")
    session = ElementTree.parse(tmp_path / "hub" / "igv_session.xml").getroot()
    assert session.get("genome") == "genome.2bit"


# ---- replacing a folder ----------------------------------------------------------------------------------


def test_the_folder_appears_complete_or_not_at_all(tmp_path, monkeypatch):
    tracks = write_run(tmp_path)
    target = tmp_path / "hub"
    bundle(tracks, target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with pytest.raises(OutputError, match="--force"):
        bundle(tracks, target)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zflipon.report.bundle.write_calls", fail)
    with pytest.raises(OutputError, match="No space left"):
        bundle(tracks, target, force=True)
    with pytest.raises(OutputError, match="No space left"):
        bundle(tracks, tmp_path / "new")
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*"))
    (target / "stale").touch()
    bundle(tracks, target, force=True)
    assert {path.name for path in target.iterdir()} == set(before)
    assert not list(tmp_path.glob(".*"))


def test_force_replaces_no_folder_without_the_mark_file(tmp_path):
    tracks = write_run(tmp_path)
    with pytest.raises(OutputError, match=MARK_FILE):
        bundle(tracks, tmp_path, force=True)
    assert tracks[0].is_file()
    site = tmp_path / "site"
    site.mkdir()
    for name in ("hub.txt", "index.html"):
        (site / name).write_text("mine")
    with pytest.raises(OutputError, match=MARK_FILE):
        bundle(tracks, site, force=True)
    assert (site / "index.html").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "[]", '{"format": "other"}', "\x00"])
def test_force_replaces_no_folder_with_a_foreign_mark_file(tmp_path, content):
    tracks = write_run(tmp_path)
    site = tmp_path / "site"
    site.mkdir()
    (site / MARK_FILE).write_text(content)
    with pytest.raises(OutputError, match="not written by zflipon bundle"):
        bundle(tracks, site, force=True)
    assert [path.name for path in site.iterdir()] == [MARK_FILE]


def test_a_link_to_a_bundle_is_not_replaced(tmp_path):
    tracks = write_run(tmp_path)
    bundle(tracks, tmp_path / "hub")
    (tmp_path / "link").symlink_to(tmp_path / "hub")
    with pytest.raises(OutputError, match="not a folder"):
        bundle(tracks, tmp_path / "link", force=True)
    assert (tmp_path / "hub" / "index.html").is_file()


def test_nothing_is_left_when_the_writer_is_interrupted(tmp_path):
    def interrupted():
        with atomic_folder(tmp_path / "new") as part:
            (part / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


# ---- invalid inputs --------------------------------------------------------------------------------------


def test_a_missing_pybigtools_is_reported_first(tmp_path, monkeypatch):
    monkeypatch.setattr(bigbed, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"zflipon\[bundle\]"):
        bundle([tmp_path / "absent.bw"], tmp_path / "hub")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent.bw", None, "no such file"),
        ("z.wig", "", "unknown kind of track"),
        ("z.bw", "chr1\t1\t2\n", "not a bigWig"),
        ("z.bed", "chr1\t1\t2\n", "lengths of the contigs are not known"),
    ],
)
def test_invalid_tracks_are_errors_of_one_line(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ZfliponError, match=message) as error:
        bundle([tmp_path / name], tmp_path / "hub")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "hub").exists()


def test_invalid_records_and_genomes_are_errors_of_one_line(tmp_path):
    signal, bed = write_run(tmp_path)
    genome = make_fasta(tmp_path, {name: dna(length + 1) for name, length in LENGTHS.items()})
    with pytest.raises(InputError, match="same assembly"):
        bundle([signal], tmp_path / "hub", genome)
    genome = make_fasta(tmp_path, {"1": dna(9000)})
    with pytest.raises(InputError, match="genome lacks"):
        bundle([signal], tmp_path / "hub", genome)
    with pytest.raises(InputError, match="one word"):
        bundle([signal], tmp_path / "hub", assembly="two words")
    (tmp_path / "z.bed.json").write_text("{")
    with pytest.raises(InputError, match=r"z\.bed\.json"):
        bundle([bed], tmp_path / "hub")
    (tmp_path / "z.bed.json").write_text('{"model": 3}')
    with pytest.raises(InputError, match=r"z\.bed\.json"):
        bundle([bed], tmp_path / "hub")
    (tmp_path / "empty.bed").write_text("")
    with pytest.raises(InputError, match="no labels"):
        bundle([signal], tmp_path / "hub", labels=tmp_path / "empty.bed")


# ---- command line ----------------------------------------------------------------------------------------


def test_the_command_prints_the_report_and_the_calls(tmp_path):
    tracks = write_run(tmp_path)
    done = CliRunner().invoke(cli, ["bundle", *map(str, tracks), "-o", str(tmp_path / "hub")])
    assert done.exit_code == 0, done.output
    assert "5 calls of z" in done.output
    assert json.loads((tmp_path / "hub" / MARK_FILE).read_text())["format"] == "zflipon bundle"


def test_a_url_is_refused_and_shown_in_full(tmp_path):
    url = "https://example.org/tracks/z.bw"
    done = CliRunner().invoke(cli, ["bundle", url, "-o", str(tmp_path / "hub")])
    assert done.exit_code == 2
    assert f"{url} is a URL; download the file" in done.output
