"""Written tracks, read back by pyBigWig, pysam and as text."""

import resource
import struct

import numpy as np
import pyBigWig
import pysam
import pytest

from zflipon.errors import OutputError
from zflipon.tracks import calling
from zflipon.tracks.calling import CALL_DTYPE, NO_VALUE, ContigTrack, call_track
from zflipon.tracks.outputs import TrackOutputs

LENGTHS = {"chrB": 3000, "empty": 0, "chr10": 50, "chr2": 1000, "chrM|x:1*": 10}
"""Not in alphabetical order; with an empty contig and one with punctuation in its name."""

ALL = ["a.bw", "a.bedgraph", "a.bdg.gz", "a.bed", "a.bed.gz"]


def no_calls():
    return np.empty(0, dtype=CALL_DTYPE)


@pytest.fixture
def genome():
    """Tracks of three contigs in adjacent chunks, and the expected value of each base."""
    rng = np.random.default_rng(0)
    found, expected = [], {contig: np.full(length, np.nan) for contig, length in LENGTHS.items()}
    for contig, stretches in {
        "chrB": [(10, 1500), (1600, 3000)],
        "chr2": [(0, 1000)],
        "chrM|x:1*": [(3, 7)],
    }.items():
        chunks = []
        for start, end in stretches:
            levels = np.array([0, 3, 500, 501, 950, 1000, NO_VALUE], dtype=np.uint16)
            values = np.repeat(rng.choice(levels, end - start), rng.integers(1, 9, end - start))[
                : end - start
            ]
            known = values != NO_VALUE
            expected[contig][start:end][known] = values[known] / 1000
            middle = (end - start) // 2
            chunks += [(start, values[:middle]), (start + middle, values[middle:])]
        found.append(ContigTrack(contig, chunks))
    return found, expected


def write(outputs, contigs, lengths=LENGTHS):
    with TrackOutputs(outputs, lengths) as out:
        for track in contigs:
            out.add(track, call_track(track, 0.5, 1, 0))
        out.commit()


def rows_of(text):
    return [line.split("\t") for line in text.splitlines()]


def reference_runs(expected):
    """List contig, start, end, probability of every run, base by base."""
    rows = []
    for contig, values in expected.items():
        for base, value in enumerate(values):
            if np.isnan(value):
                continue
            if rows and rows[-1][0] == contig and rows[-1][2] == base and rows[-1][3] == value:
                rows[-1][2] = base + 1
            else:
                rows.append([contig, base, base + 1, value])
    return rows


@pytest.mark.parametrize("block", [13, 1 << 20])
def test_bigwig_reads_back(tmp_path, genome, block, monkeypatch):
    monkeypatch.setattr(calling, "_BLOCK", block)
    contigs, expected = genome
    write([tmp_path / "a.bw"], contigs)
    with pyBigWig.open(str(tmp_path / "a.bw")) as file:
        assert list(file.chroms().items()) == [(c, n) for c, n in LENGTHS.items() if n]
        assert file.header()["nLevels"] > 0
        rows = []
        for contig, length in file.chroms().items():
            values = file.values(contig, 0, length, numpy=True)
            np.testing.assert_array_equal(values, expected[contig].astype(np.float32))
            rows += [
                [contig, start, end, round(value, 3)] for start, end, value in file.intervals(contig) or ()
            ]
        assert rows == reference_runs(expected)
        assert file.header()["nBasesCovered"] == sum(end - start for _, start, end, _ in rows)


def test_bigwig_zoom_levels_hold_the_mean(tmp_path):
    values = np.tile(np.repeat(np.array([0, 600], dtype=np.uint16), 5), 10_000)
    write([tmp_path / "a.bw"], [ContigTrack("c", [(0, values)])], {"c": 100_000})
    with pyBigWig.open(str(tmp_path / "a.bw")) as file:
        assert file.header()["nLevels"] >= 2
        assert file.stats("c", nBins=4) == pytest.approx([0.3] * 4, abs=0.01)
        assert file.stats("c", type="max") == pytest.approx([0.6])


@pytest.mark.parametrize("values", [[900, 100], [400, 400]])
def test_bigwig_summary_has_the_true_range(tmp_path, values):
    write([tmp_path / "a.bw"], [ContigTrack("c", [(2, np.array(values, dtype=np.uint16))])], {"c": 9})
    data = (tmp_path / "a.bw").read_bytes()
    (at,) = struct.unpack_from("<Q", data, 44)
    expected = (np.float32(min(values) / 1000), np.float32(max(values) / 1000))  # as the entries have them
    assert struct.unpack_from("<Qdd", data, at) == (2, *expected)


def test_a_contig_that_fills_a_block_of_pybigwig(tmp_path):
    many = np.resize(np.array([1, 2], dtype=np.uint16), 2728)
    write(
        [tmp_path / "a.bw"],
        [ContigTrack("a", [(0, many)]), ContigTrack("b", [(0, many)])],
        {"a": 2728, "b": 2728},
    )
    with pyBigWig.open(str(tmp_path / "a.bw")) as file:
        assert [len(file.intervals(contig)) for contig in "ab"] == [2728, 2728]
        np.testing.assert_array_equal(file.values("b", 0, 2728, numpy=True), many.astype(np.float32) / 1000)


def test_bigwig_refuses_a_genome_without_bases(tmp_path):
    with pytest.raises(OutputError, match="at least one base"):
        write([tmp_path / "a.bw"], [], {"empty": 0})
    with pytest.raises(OutputError, match="2\\^32"):
        write([tmp_path / "a.bw"], [], {"long": 1 << 32})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.bedgraph", "a.bdg.gz"])
def test_bedgraph_reads_back(tmp_path, genome, name):
    contigs, expected = genome
    write([tmp_path / name], contigs)
    runs = [[c, str(start), str(end), f"{value:.3f}"] for c, start, end, value in reference_runs(expected)]
    if name.endswith(".gz"):
        with pysam.TabixFile(str(tmp_path / name)) as file:
            assert [line.split("\t") for line in file.fetch()] == runs
            inside = [row for row in runs if row[0] == "chr2" and int(row[2]) > 100 and int(row[1]) < 200]
            assert [line.split("\t") for line in file.fetch("chr2", 100, 200)] == inside
    else:
        assert rows_of((tmp_path / name).read_text()) == runs


def test_bed_in_full(tmp_path):
    track = ContigTrack("chr2", [(5, np.array([100, 500, 700, 601, 0, 1000], dtype=np.uint16))])
    write([tmp_path / "a.bed"], [track])
    assert (tmp_path / "a.bed").read_text() == (
        "chr2\t6\t9\tZ_chr2:7-9\t600\t.\t6\t9\t132,94,173\t0.600\t0.700\n"
        "chr2\t10\t11\tZ_chr2:11-11\t1000\t.\t10\t11\t74,20,134\t1.000\t1.000\n"
    )


def test_bed_gz_is_the_bed_and_is_indexed(tmp_path, genome):
    contigs, expected = genome
    write([tmp_path / "a.bed", tmp_path / "a.bed.gz"], contigs)
    rows = rows_of((tmp_path / "a.bed").read_text())
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), key=list(LENGTHS).index)
    assert [row[3] for row in rows] == [f"Z_{row[0]}:{int(row[1]) + 1}-{row[2]}" for row in rows]
    covered = {contig: np.zeros(length, dtype=bool) for contig, length in LENGTHS.items()}
    for contig, start, end, *_ in rows:
        covered[contig][int(start) : int(end)] = True
    for contig, values in expected.items():
        np.testing.assert_array_equal(covered[contig], np.nan_to_num(values) >= 0.5)
    with pysam.TabixFile(str(tmp_path / "a.bed.gz")) as file:
        assert [line.split("\t") for line in file.fetch()] == rows
        assert [line.split("\t") for line in file.fetch("chrM|x:1*")] == [
            row for row in rows if "M" in row[0]
        ]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.bed", "a.bed.gz", "a.bed.gz.tbi"]


def test_long_contigs_get_a_csi_index(tmp_path):
    track = ContigTrack("long", [(600_000_000, np.full(10, 900, dtype=np.uint16))])
    (tmp_path / "a.bed.gz.tbi").write_text("of an earlier file")
    write([tmp_path / "a.bed.gz"], [track], {"long": 700_000_000})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.bed.gz", "a.bed.gz.csi"]
    with pysam.TabixFile(str(tmp_path / "a.bed.gz"), index=str(tmp_path / "a.bed.gz.csi")) as file:
        assert len(list(file.fetch("long", 600_000_005, 600_000_006))) == 1


def test_bed_on_stdout_is_the_bed(tmp_path, genome, capsys):
    write([tmp_path / "a.bed", "-"], genome[0])
    assert capsys.readouterr().out == (tmp_path / "a.bed").read_text()


def test_without_calls_or_values_all_formats_are_empty_and_readable(tmp_path, capfd):
    nothing = ContigTrack("chr2", [(0, np.full(9, NO_VALUE, dtype=np.uint16))])
    write([tmp_path / name for name in ALL], [nothing])
    with pyBigWig.open(str(tmp_path / "a.bw")) as file:
        assert list(file.chroms()) == [contig for contig, length in LENGTHS.items() if length]
        assert file.intervals("chr2") is None
        assert file.stats("chrB") == [None]
        assert file.header()["nBasesCovered"] == file.header()["maxVal"] == file.header()["minVal"] == 0
    for name in ("a.bed", "a.bedgraph"):
        assert (tmp_path / name).read_text() == ""
    for name in ("a.bed.gz", "a.bdg.gz"):
        with pysam.TabixFile(str(tmp_path / name)) as file:
            assert list(file.fetch()) == []
    assert capfd.readouterr().err == ""


def test_an_empty_bigwig_is_well_formed(tmp_path):
    write([tmp_path / "a.bw"], [])
    data = (tmp_path / "a.bw").read_bytes()
    _, _, zooms, _, blocks, index = struct.unpack_from("<IHHQQQ", data)
    assert struct.unpack_from("<Q", data, blocks) == (0,)
    assert struct.unpack_from("<IIQ", data, index) == (0x2468ACE0, 256, 0)
    assert zooms == 0
    assert struct.unpack_from("<BBHI", data, index + 48) == (1, 0, 0, 0x888FFC26)
    assert len(data) == index + 56


def add_and_fail(path, genome, error):
    with TrackOutputs([path / name for name in ALL], LENGTHS) as out:
        for track in genome[0]:
            out.add(track, call_track(track, 0.5, 1, 0))
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), None])
def test_nothing_is_left_unless_committed(tmp_path, genome, error):
    (tmp_path / "a.bw").write_text("old")
    if error is None:
        add_and_fail(tmp_path, genome, error)
    else:
        with pytest.raises(type(error)):
            add_and_fail(tmp_path, genome, error)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.bw", "old")]


@pytest.fixture
def small_files():
    """Let no file grow past 20 kB, which fails like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["a.bedgraph", "a.bdg.gz", "a.bw"])
def test_failed_write_leaves_nothing(tmp_path, small_files, name):
    values = np.random.default_rng(0).integers(0, 1000, 50_000).astype(np.uint16)
    with pytest.raises(OutputError, match=f"{name}: cannot be written"):
        write([tmp_path / name], [ContigTrack("c", [(0, values)])], {"c": 50_000})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ALL)
def test_missing_folder(tmp_path, name):
    with pytest.raises(OutputError, match="cannot be written"):
        write([tmp_path / "none" / name], [])


def test_an_output_is_named_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="named twice"):
        TrackOutputs(["a.bw", tmp_path / "a.bw"], LENGTHS)


def test_contigs_out_of_order_and_values_past_the_end_are_errors(tmp_path):
    values = np.zeros(20, dtype=np.uint16)
    with TrackOutputs([tmp_path / "a.bw"], LENGTHS) as out:
        out.add(ContigTrack("chr10", [(30, values)]), no_calls())
        with pytest.raises(ValueError, match="order"):
            out.add(ContigTrack("chrB", []), no_calls())
        with pytest.raises(ValueError, match="pass the end"):
            out.add(ContigTrack("chr2", [(981, values)]), no_calls())
