"""The bundle: bigBed and bigWig by a second library, hub and session by parsers, the page's tables and plots."""

import json
import re
import shutil
import struct
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import numpy as np
import pyBigWig
import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta

from zflipon.cli import cli
from zflipon.errors import InputError, MissingExtraError, OutputError, ZfliponError
from zflipon.report.bundle import bundle
from zflipon.report.call_summary import Signal, find, read_calls
from zflipon.report.sources import assembly_of, contig_lengths, gather
from zflipon.tracks import bigbed
from zflipon.tracks.atomic import atomic_folder
from zflipon.tracks.bigwig import write_bigwig_values
from zflipon.tracks.calling import NO_VALUE, ContigTrack, call_track
from zflipon.tracks.outputs import TrackOutputs

LENGTHS = {"chr1": 9000, "chr2": 6000, "chr10": 3000, "chrUn": 500}
CALL = {"threshold": 0.5, "min_length": 6, "merge_gap": 2}
PLANTED = {
    "chr1": [(100, 130, 900), (131, 140, 700), (5000, 5100, 600), (5200, 5204, 990)],
    "chr2": [(50, 70, 510)],
    "chr10": [(2000, 2012, 999), (2980, 3000, 800)],
}
"""Where the tracks are high, and how high; of these the second lies near the first and the fourth is too short."""

CALLS = {
    "chr1": [(100, 140), (5000, 5100)],
    "chr2": [(50, 70)],
    "chr10": [(2000, 2012), (2980, 3000)],
}


def values_of(contig):
    values = np.full(LENGTHS[contig], 10, dtype=np.uint16)
    values[1000:1500] = NO_VALUE
    for start, end, value in PLANTED[contig]:
        values[start:end] = value
    return values


def write_run(folder, outputs=("z.bw", "z.bed"), started="2026-01-01T00:00:00+0000", **more):
    """Tracks and their records as annotate writes them."""
    paths = [folder / name for name in outputs]
    with TrackOutputs(paths, LENGTHS) as writers:
        for contig in PLANTED:
            track = ContigTrack(contig, [(0, values_of(contig))])
            writers.add(track, call_track(track, *CALL.values()))
        writers.commit()
    record = {
        "command": "zflipon annotate <genome> & more",
        "started": started,
        "genome": str(folder / "genome.fa"),
        "contigs": {name: {"length": LENGTHS[name], "md5": "0"} for name in PLANTED},
        "model": {"name": "test-model", "sha256": "abc123"},
        "call": CALL,
        "predict": {"both_strands": True, "device": "cpu", "precision": "float32"},
        "tracks": {"calls": 5, "called_bases": 192, "bases": 16_500, "windows_read": 9},
        **more,
    }
    for path in paths:
        path.with_name(path.name + ".json").write_text(json.dumps(record))
    return paths


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    genome = make_fasta(folder, {name: dna(length, length) for name, length in LENGTHS.items()})
    labels = folder / "labels.bed"
    labels.write_text("chr1\t120\t150\nchr1\t145\t160\nchr10\t0\t10\n")
    tracks = write_run(folder)
    told = bundle(tracks, folder / "hub", genome, "hg38", labels, "me@example.org")
    return folder, told


class Page(HTMLParser):
    """Tables, plots and links of a page."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.plots, self.links, self.open = {}, {}, [], []
        self.contigs, self.fetched, self._table = {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag != "meta":
            self.open.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault(attrs["id"], [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._table[-1].append("")
        elif tag == "svg":
            self._plot = self.plots.setdefault(attrs["id"], [])
        elif tag == "rect":
            self._plot.append(int(attrs["data-count"]))
        elif tag == "g":
            self.contigs[attrs["data-contig"]] = int(attrs["data-calls"])
            self._plot.append(int(attrs["data-calls"]))
        elif tag == "a":
            self.links.append(attrs["href"])
        if tag in ("script", "link", "img", "iframe") or "src" in attrs:
            self.fetched.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self._table and any(tag in ("td", "th") for tag in self.open):
            self._table[-1][-1] += data


def read_page(folder):
    text = (folder / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    return page


def stanzas(text):
    return [dict(line.split(" ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]


def test_the_bigbed_is_read_by_a_second_library(made):
    folder, told = made
    assert told["calls"] == {"z": 5}
    with pyBigWig.open(str(folder / "hub" / "z.bb")) as file:
        assert file.isBigBed()
        assert list(file.chroms().items()) == [(name, LENGTHS[name]) for name in sorted(CALLS)]
        found = {contig: file.entries(contig, 0, LENGTHS[contig]) for contig in CALLS}
        described = file.SQL().decode()
    assert {name: [row[:2] for row in rows] for name, rows in found.items()} == CALLS
    bed = [line.split("\t") for line in (folder / "z.bed").read_text().splitlines()]
    rows = [[name, str(s), str(e), *rest.split("\t")] for name in CALLS for s, e, rest in found[name]]
    assert rows == bed
    assert described == (folder / "hub" / "z.as").read_text()
    fields = re.findall(r"^\s+[\w\[\]]+ (\w+);", described, re.MULTILINE)
    assert len(fields) == len(bed[0]) == 11
    assert fields[:3] == ["chrom", "chromStart", "chromEnd"]


def test_the_bigwig_and_records_are_those_of_the_run(made):
    folder, _ = made
    for name in ("z.bw", "z.bed", "z.bw.json", "z.bed.json"):
        assert (folder / "hub" / name).read_bytes() == (folder / name).read_bytes()
    with pyBigWig.open(str(folder / "hub" / "z.bw")) as file:
        assert file.values("chr1", 99, 101) == pytest.approx([0.01, 0.9], abs=1e-6)


def test_labels_are_a_bigbed_too(made):
    with pyBigWig.open(str(made[0] / "hub" / "known_zdna.bb")) as file:
        assert [row[:2] for row in file.entries("chr1", 0, 9000)] == [(120, 160)]


def test_the_hub_has_its_keys_and_its_files_exist(made):
    folder = made[0] / "hub"
    hub, genome, *tracks = stanzas((folder / "hub.txt").read_text())
    assert {"hub", "shortLabel", "longLabel", "useOneFile", "email"} <= set(hub)
    assert hub["useOneFile"] == "on"
    assert hub["email"] == "me@example.org"
    assert genome == {"genome": "hg38"}
    assert len(tracks) == 3
    for track in tracks:
        assert {"track", "type", "shortLabel", "longLabel", "bigDataUrl", "visibility"} <= set(track)
        assert re.fullmatch(r"[A-Za-z]\w*", track["track"])
        assert len(track["shortLabel"]) <= 17
        assert len(track["longLabel"]) <= 76
        assert not Path(track["bigDataUrl"]).is_absolute()
        assert (folder / track["bigDataUrl"]).is_file()
    assert len({track["track"] for track in tracks}) == 3
    signal, calls, labels = tracks
    assert (signal["type"], signal["viewLimits"], signal["autoScale"]) == ("bigWig 0 1", "0:1", "off")
    assert (calls["type"], calls["itemRgb"]) == ("bigBed 9 +", "on")
    assert labels["type"] == "bigBed 3"


def test_the_session_names_what_exists(made):
    folder = made[0] / "hub"
    session = ElementTree.parse(folder / "igv_session.xml").getroot()
    assert (session.tag, session.get("genome")) == ("Session", "hg38")
    resources = [each.get("path") for each in session.iter("Resource")]
    assert resources == ["z.bw", "z.bb", "known_zdna.bb"]
    assert all((folder / path).is_file() for path in resources)
    tracks = list(session.iter("Track"))
    assert [track.get("id") for track in tracks] == resources
    assert tracks[0].get("autoScale") == "false"
    shown = tracks[0].find("DataRange")
    assert (float(shown.get("minimum")), float(shown.get("maximum"))) == (0, 1)
    contig, start, end = re.fullmatch(r"(\w+):(\d+)-(\d+)", session.get("locus")).groups()
    assert contig == "chr10"
    assert int(start) <= 2000 < int(end)


def test_the_page_tells_the_known_numbers(made):
    page = read_page(made[0] / "hub")
    assert not page.fetched
    _, run = page.tables["overview"]
    assert run == ["z", "test-model", "16,500", "5", "192", "1.1636%", "303.0"]
    facts = dict(page.tables["run-1"][1:])
    assert facts["command"] == "zflipon annotate <genome> & more"
    assert facts["model SHA-256"] == "abc123"
    assert facts["calls that touch a label"] == "1 of 5"
    assert page.tables["contigs-1"][1:] == [
        ["chr1", "9,000", "8,500", "2", "140", "235.3"],
        ["chr2", "6,000", "5,500", "1", "20", "181.8"],
        ["chr10", "3,000", "2,500", "2", "32", "800.0"],
    ]
    longest = page.tables["longest-1"][1:]
    assert [row[:2] for row in longest[:2]] == [["chr1:5,001-5,100", "100"], ["chr1:101-140", "40"]]
    strongest = page.tables["strongest-1"][1:]
    assert [row[0] for row in strongest[:2]] == ["chr10:2,001-2,012", "chr1:101-140"]
    assert strongest[0][2:4] == ["0.999", "0.999"]
    assert strongest[1][2] == f"{(30 * 0.9 + 0.01 + 9 * 0.7) / 40:.3f}"
    assert page.contigs == {"chr1": 2, "chr2": 1, "chr10": 2}
    assert sum(page.plots["lengths-1"]) == sum(page.plots["scores-1"]) == 5
    assert sum(page.plots["probabilities-1"]) == 16_500
    assert page.plots["probabilities-1"][0] == 16_500 - 195
    assert {"density-1", "lengths-1", "scores-1", "probabilities-1"} == set(page.plots)
    assert len(page.tables["kmers-1"]) > 5
    assert dict(page.tables["classes-1"][1:])["number of regions"] == "5"


def test_links_lead_to_the_locus_or_to_files(made):
    folder = made[0] / "hub"
    links = read_page(folder).links
    local = [link for link in links if not urlsplit(link).scheme]
    assert local
    assert all((folder / link).is_file() for link in local)
    away = [link for link in links if urlsplit(link).scheme]
    assert {urlsplit(link).netloc for link in away} == {"genome.ucsc.edu", "localhost:60151"}
    assert any("db=hg38&position=chr10%3A1789-2224" in link for link in away)


def test_a_bigwig_alone_is_called_as_annotate_did(tmp_path):
    signal, bed = write_run(tmp_path)
    (run,) = gather([signal])
    found = find(run, LENGTHS)
    expected = read_calls(bed, LENGTHS)
    assert list(found.calls) == list(expected)
    for contig, rows in expected.items():
        assert found.calls[contig]["start"].tolist() == rows["start"].tolist()
        assert found.calls[contig]["end"].tolist() == rows["end"].tolist()
        np.testing.assert_allclose(found.calls[contig]["mean"], rows["mean"], atol=6e-4)


def test_where_chunks_end_makes_no_difference(tmp_path, monkeypatch):
    signal, _ = write_run(tmp_path)
    whole = Signal(signal).call(LENGTHS, CALL), Signal(signal).totals(LENGTHS, lambda bases: None)
    monkeypatch.setattr("zflipon.report.call_summary._CHUNK", 57)
    cut = Signal(signal).call(LENGTHS, CALL), Signal(signal).totals(LENGTHS, lambda bases: None)
    assert all((whole[0][name] == cut[0][name]).all() for name in CALLS)
    assert whole[1][0] == cut[1][0]
    assert (whole[1][1] == cut[1][1]).all()


def test_runs_are_told_apart_and_put_together(tmp_path):
    (tmp_path / "other").mkdir()
    one = write_run(tmp_path, ("z.bw", "calls.bed.gz"))
    two = write_run(tmp_path / "other", ("z.bw",), "2026-02-02T00:00:00+0000")
    runs = gather([*one, *two])
    assert [(run.name, run.signal, run.calls) for run in runs] == [("z", *one), ("z_2", two[0], None)]
    told = bundle([*one, *two], tmp_path / "hub")
    assert told["calls"] == {"z": 5, "z_2": 5}
    assert {"z.bb", "z_2.bb", "z.bed.gz", "z_2.bw"} <= set(told["files"])
    assert len(read_page(tmp_path / "hub").tables["overview"]) == 3
    with pytest.raises(InputError, match="same run and kind"):
        gather([one[0], one[0]])


def test_names_are_fit_for_addresses_and_do_not_clash(tmp_path):
    for name in ("my run-1.bed", "my_run_1.bed", "known_zdna.bed"):
        (tmp_path / name).write_text("chr1\t5\t15\n")
    labels = tmp_path / "known_zdna.bed"
    genome = make_fasta(tmp_path, {"chr1": dna(100)})
    tracks = [tmp_path / name for name in ("my run-1.bed", "my_run_1.bed", "known_zdna.bed")]
    told = bundle(tracks, tmp_path / "hub", genome, labels=labels)
    assert set(told["calls"]) == {"my_run_1", "my_run_1_2", "known_zdna_2"}
    tracks = stanzas((tmp_path / "hub" / "hub.txt").read_text())[2:]
    assert len({track["track"] for track in tracks}) == len({track["bigDataUrl"] for track in tracks}) == 4


def test_a_bed_alone_takes_its_bases_from_the_record(tmp_path):
    _, bed = write_run(tmp_path)
    bundle([bed], tmp_path / "hub")
    page = read_page(tmp_path / "hub")
    assert page.tables["overview"][1][2:5] == ["16,500", "5", "192"]
    assert "no links" in (tmp_path / "hub" / "index.html").read_text()
    assert page.tables["contigs-1"][0][2].startswith("bases (no bigWig")


def test_a_peers_bed_without_scores(tmp_path):
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


def test_a_run_without_calls_has_a_page_and_no_bigbed(tmp_path):
    (tmp_path / "z.bed").write_text("")
    write_bigwig_values(tmp_path / "z.bw", LENGTHS, {"chr1": [(0, np.full(9000, 0.01))]})
    told = bundle([tmp_path / "z.bw", tmp_path / "z.bed"], tmp_path / "hub")
    assert "z.bb" not in told["files"]
    assert read_page(tmp_path / "hub").tables["overview"][1][2:5] == ["9,000", "0", "0"]


def test_values_that_are_no_probabilities_get_limits_of_their_own(tmp_path):
    write_bigwig_values(tmp_path / "z.bw", LENGTHS, {"chr1": [(0, np.array([-2.0, 5.0, 30.0]))]})
    bundle([tmp_path / "z.bw"], tmp_path / "hub")
    signal = stanzas((tmp_path / "hub" / "hub.txt").read_text())[2]
    assert signal["viewLimits"] == "-2:30"
    assert "No calls" in (tmp_path / "hub" / "index.html").read_text()


def test_an_empty_bigwig(tmp_path):
    write_bigwig_values(tmp_path / "z.bw", LENGTHS, {})
    bundle([tmp_path / "z.bw"], tmp_path / "hub")
    assert read_page(tmp_path / "hub").tables["overview"][1][2] == "0"


def test_the_assembly_is_known_by_chr1(tmp_path):
    write_bigwig_values(tmp_path / "z.bw", {"chr1": 248_956_422}, {"chr1": [(0, np.full(10, 0.5))]})
    (run,) = gather([tmp_path / "z.bw"])
    assert assembly_of(contig_lengths([run], None)) == "hg38"


def read_twobit(path):
    """Contigs of a 2bit file."""
    data, contigs = path.read_bytes(), {}
    signature, _, count, _ = struct.unpack_from("<4I", data)
    assert signature == 0x1A412743
    at = 16
    for _ in range(count):
        name = data[at + 1 : at + 1 + data[at]].decode()
        at += 5 + data[at]
        (place,) = struct.unpack_from("<I", data, at - 4)
        length, blocks = struct.unpack_from("<2I", data, place)
        runs = np.frombuffer(data, "<u4", 2 * blocks, place + 8).reshape(2, blocks).T
        packed = np.frombuffer(data, np.uint8, -(-length // 4), place + 16 + 8 * blocks)
        letters = np.array(list("TCAG"))[(packed[:, None] >> [6, 4, 2, 0]) & 3].ravel()[:length]
        for start, size in runs:
            letters[start : start + size] = "N"
        contigs[name] = "".join(letters)
    return contigs


def test_an_assembly_that_nobody_knows_goes_along(tmp_path, monkeypatch):
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


def test_names_are_escaped(tmp_path):
    tracks = write_run(tmp_path, model={"name": "<script>alert(1)</script>"})
    bundle(tracks, tmp_path / "hub")
    page = read_page(tmp_path / "hub")
    assert not page.fetched
    assert page.tables["overview"][1][1] == "<script>alert(1)</script>"


def test_the_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    tracks = write_run(tmp_path)
    target = tmp_path / "hub"
    bundle(tracks, target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with pytest.raises(OutputError, match="--force"):
        bundle(tracks, target)

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zflipon.report.bundle.write_calls", broken)
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


def test_force_replaces_no_folder_of_another_kind(tmp_path):
    tracks = write_run(tmp_path)
    with pytest.raises(OutputError, match="not one of ours"):
        bundle(tracks, tmp_path, force=True)
    assert tracks[0].is_file()


def test_a_folder_is_left_alone_when_its_writer_is_stopped(tmp_path):
    def stopped():
        with atomic_folder(tmp_path / "new") as part:
            (part / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not list(tmp_path.iterdir())


def test_a_missing_pybigtools_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(bigbed, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"zflipon\[bundle\]"):
        bundle([tmp_path / "absent.bw"], tmp_path / "hub")


def test_a_bigbed_that_lacks_calls_is_refused(tmp_path):
    calls = read_calls(write_run(tmp_path)[1], LENGTHS)
    with pytest.raises(OutputError, match="whole"):
        bigbed.write_calls(tmp_path / "z.bb", {"chr1": 9000}, {"chr1": calls["chr1"][::-1]}, True)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("absent.bw", None, "no such file"),
        ("z.wig", "", "unknown kind of track"),
        ("z.bw", "chr1\t1\t2\n", "not a bigWig"),
        ("z.bed", "chr1\t1\t2\n", "lengths of the contigs are not known"),
    ],
)
def test_bad_tracks_are_one_line(tmp_path, name, text, told):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ZfliponError, match=told) as error:
        bundle([tmp_path / name], tmp_path / "hub")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "hub").exists()


def test_bad_records_and_genomes_are_one_line(tmp_path):
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
    with pytest.raises(InputError, match="record cannot be read"):
        bundle([bed], tmp_path / "hub")
    (tmp_path / "z.bed.json").write_text('{"model": 3}')
    with pytest.raises(InputError, match="not a record"):
        bundle([bed], tmp_path / "hub")
    (tmp_path / "empty.bed").write_text("")
    with pytest.raises(InputError, match="no labels"):
        bundle([signal], tmp_path / "hub", labels=tmp_path / "empty.bed")


def test_the_command_line(tmp_path):
    tracks = write_run(tmp_path)
    done = CliRunner().invoke(cli, ["bundle", *map(str, tracks), "-o", str(tmp_path / "hub")])
    assert done.exit_code == 0, done.output
    assert "5 calls of z" in done.output


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no headless browser")
def test_a_browser_shows_the_page(made, tmp_path):
    page = made[0] / "hub" / "index.html"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    done = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120
    )
    shown = Page(done.stdout)
    assert shown.plots == read_page(page.parent).plots
    assert shown.tables.keys() == read_page(page.parent).tables.keys()
