"""Readers of all track formats, compared with scores painted base by base."""

import gzip

import numpy as np
import pyBigWig
import pytest

from zflipon.errors import InputError, OutputError
from zflipon.tracks.bed import BedReader, BedWriter
from zflipon.tracks.bedgraph import BedGraphReader
from zflipon.tracks.bigwig import BigWigReader
from zflipon.tracks.registry import FORMATS, INPUT_FORMATS, find_writer, open_track

LENGTHS = {"one": 100, "two": 64, "track_1": 40, "four": 7}
ENTRIES = {  # "four" has none
    "two": [(0, 1, 0.5), (1, 20, -0.25), (63, 64, 1.0)],
    "track_1": [(5, 9, 0.75), (30, 40, 0.125)],
    "one": [(10, 33, 0.625), (33, 34, 0.875), (50, 100, 2.0)],
}
"""In an order that is not the genome's; the values are exact in float32."""

NAMES = ["t.bw", "T.BigWig", "t.bedgraph", "t.bdg", "t.bedGraph.gz", "t.bdg.gz", "t.bed", "t.BED.gz"]
NAMES += ["t.narrowPeak", "t.narrowpeak.gz"]


def write(path, entries=ENTRIES, lengths=LENGTHS):
    """Write a track in the format of its extension; text formats get a line on an unknown contig."""
    name = path.name.lower()
    if name.endswith((".bw", ".bigwig")):
        with pyBigWig.open(str(path), "w") as file:
            file.addHeader(list(lengths.items()))
            for contig in lengths:
                for start, end, value in entries.get(contig, []):
                    file.addEntries([contig], [start], ends=[end], values=[value])
        return path
    rows = [(contig, *entry) for contig, listed in entries.items() for entry in listed]
    rows.append(("elsewhere", 0, 10, 0.9))
    fields = (
        "{}\t{}\t{}\tname\t{}\n" if ".bed" in name and "graph" not in name else "{}\t{}\t{}\t{}\n"
    ).format
    text = "track name=scores\n" + "".join(fields(*row) for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def painted(contig, scored, entries=ENTRIES):
    scores = [0.0] * LENGTHS[contig]
    for start, end, value in entries.get(contig, []):
        for base in range(start, end):
            scores[base] = value if scored else 1.0
    return scores


def read(track, lengths, size):
    """Return the scores of each contig, and check that its chunks are consecutive."""
    found = {}
    for contig, start, scores in track.chunks(lengths, size):
        before = found.setdefault(contig, [])
        assert scores.dtype == np.float32
        assert start == len(before)
        assert len(scores) == min(size, lengths[contig] - start)
        before += scores.tolist()
    return found


# ---- scores ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 10, 33, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_chunks_equal_painted_scores(tmp_path, name, size):
    track = open_track(write(tmp_path / name), LENGTHS)
    assert read(track, LENGTHS, size) == {contig: painted(contig, track.scored) for contig in LENGTHS}


@pytest.mark.parametrize("name", NAMES)
def test_only_requested_contigs_are_read(tmp_path, name):
    track = open_track(write(tmp_path / name), LENGTHS)
    requested = {contig: LENGTHS[contig] for contig in ("track_1", "four")}
    for _ in range(2):  # a track can be read again
        assert read(track, requested, 16) == {contig: painted(contig, track.scored) for contig in requested}


def test_the_extension_selects_the_reader(tmp_path):
    kinds = [type(open_track(write(tmp_path / name), LENGTHS)) for name in NAMES]
    assert kinds == [BigWigReader] * 2 + [BedGraphReader] * 4 + [BedReader] * 4
    extensions = [extension for each in INPUT_FORMATS for extension in each.extensions]
    assert all(any(name.lower().endswith(extension) for name in NAMES) for extension in extensions)


def test_the_extension_selects_the_writer():
    for track_format in FORMATS:
        for extension in track_format.extensions:
            assert find_writer(f"x.y{extension.upper()}") is track_format.writer
            assert track_format.strip_extension(f"x.y{extension.upper()}") == "x.y"
    assert find_writer("-") is BedWriter
    for name in ("a.bigbed", "a.gz", "bw", "a.bw.gz"):
        with pytest.raises(
            OutputError, match=r"unknown extension; expected one of \.bw, .*\.bed\[\.gz\], .*or -"
        ):
            find_writer(name)


@pytest.mark.parametrize("size", [9999, 65535, 65536, 65537, 1 << 20])  # a block ends with a chunk, or nearly
def test_blocks_of_a_bedgraph_are_merged(tmp_path, size):
    length = 70_000  # more lines than a block of 65,536 holds
    values = (np.arange(length) % 511 + 1) / 512  # none is 0, which a lost line would leave
    path = tmp_path / "t.bedgraph"
    path.write_text(
        "".join(f"c\t{base}\t{base + 1}\t{value}\n" for base, value in enumerate(values.tolist()))
    )
    assert read(open_track(path, {"c": length}), {"c": length}, size) == {"c": values.tolist()}


def test_a_bed_may_be_unsorted_and_overlap(tmp_path):
    calls = {"one": [(50, 60, 0), (3, 9, 0), (5, 7, 0), (8, 12, 0), (12, 13, 0), (70, 70, 0)]}
    track = open_track(write(tmp_path / "t.bed", calls), LENGTHS)
    assert read(track, LENGTHS, 8)["one"] == painted("one", False, calls)


def test_nan_is_zero_and_infinity_the_largest_number(tmp_path):
    path = tmp_path / "odd.bedgraph"
    path.write_text("one\t0\t10\tinf\none\t10\t20\t-inf\none\t20\t30\tnan\none\t30\t40\t1e300\n")
    (_, _, scores), *_ = open_track(path, LENGTHS).chunks({"one": 100}, 100)
    largest = np.finfo(np.float32).max
    assert scores[5:45:10].tolist() == [largest, -largest, 0, largest]
    assert not scores[40:].any()


def test_a_finished_bigwig_without_values_is_all_zero(tmp_path):
    track = open_track(write(tmp_path / "empty.bw", {}), LENGTHS)
    assert read(track, LENGTHS, 32) == {contig: [0.0] * length for contig, length in LENGTHS.items()}


# ---- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.wig", "", "expected a file name that ends in .bw"),
        ("t.bw.gz", "", "expected a file name that ends in .bw"),
        ("t.bw", "one\t0\t10\t0.5\n", "not a bigWig"),
        ("t.bed", "three\t0\t10\n", "the file has three, the genome one, two"),
        ("t.bed", "one\t0\t101\n", "passes the end of the contig"),
        ("t.bedgraph", "three\t0\t10\t0.5\n", "the file has three, the genome one, two"),
        ("t.bedgraph", "one\t0\t10\n", ":1: expected bedGraph"),
        ("t.bedgraph", "one\t0\t101\t0.5\n", "passes the end of the contig"),
    ],
)
def test_an_invalid_track_is_refused_when_opened(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        open_track(path, LENGTHS)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one\t20\t30\t0.5\none\t10\t15\t0.5\n", ":2: one:10-15 overlaps or precedes"),
        ("one\t20\t30\t0.5\none\t29\t35\t0.5\n", ":2: one:29-35 overlaps or precedes"),
        ("one\t0\t5\t1\ntwo\t0\t5\t1\none\t5\t9\t1\n", ":3: one:5-9 overlaps or precedes"),
    ],
)
def test_a_bedgraph_out_of_order_is_refused_at_the_line(tmp_path, text, message):
    path = tmp_path / "t.bedgraph"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        list(open_track(path, LENGTHS).chunks(LENGTHS, 50))
    assert str(caught.value).startswith(f"{path}{message}")


def test_bigwigs_of_another_genome_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_track(tmp_path / "absent.bw", LENGTHS)
    with pytest.raises(InputError, match="the track has three, the genome one, two"):
        open_track(write(tmp_path / "names.bw", lengths={"three": 100}), LENGTHS)
    with pytest.raises(InputError, match="one has 111 bases, in the genome 100"):
        open_track(write(tmp_path / "lengths.bw", lengths={"one": 111}), LENGTHS)


def test_truncated_bigwigs_are_refused(tmp_path):
    complete = write(tmp_path / "t.bw").read_bytes()
    for size in (0, 3, 20, 200, len(complete) // 2):
        (tmp_path / "cut.bw").write_bytes(complete[:size])
        with pytest.raises(InputError, match=r"not a bigWig|truncated"):
            open_track(tmp_path / "cut.bw", LENGTHS)


def test_a_bigwig_whose_writer_was_killed_is_refused(tmp_path):
    unfinished = pyBigWig.open(str(tmp_path / "unfinished.bw"), "w")
    unfinished.addHeader([("one", 100)])
    copy = tmp_path / "killed.bw"
    copy.write_bytes((tmp_path / "unfinished.bw").read_bytes())
    unfinished.close()
    with pytest.raises(InputError, match="never finished"):
        open_track(copy, LENGTHS)
