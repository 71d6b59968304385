"""BED and bedGraph files, region strings, and interval arithmetic against slow loops."""

import gzip

import numpy as np
import pysam
import pytest

from zflipon.errors import InputError
from zflipon.genome.interval_files import read_bed, read_bedgraph
from zflipon.genome.intervals import find_overlapping, interval_mask, merge, parse_region

LENGTHS = {"chr2": 1000, "chr10": 500, "track1": 50, "HLA:A*01": 80, "a.1|x": 70}


def write(path, text):
    """Write a text file, packed as its name says."""
    if path.name.endswith(".bgz.bed.gz"):
        plain = path.with_suffix(".plain")
        plain.write_text(text)
        pysam.tabix_compress(str(plain), str(path))
    else:
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def plain(intervals):
    return {contig: rows.tolist() for contig, rows in intervals.items()}


# ---- BED ----------------------------------------------------------------------------------------------------

BED = """# a comment
browser position chr2:1-100
track name="Z-DNA" description="browser track"
chr10\t5\t9\tname with spaces\t3.5\t+

chr2 300 310
chr2\t10\t20
chr2\t10\t15
track1\t0\t50
chrUn\t0\t99999
HLA:A*01\t79\t80
track
"""


@pytest.mark.parametrize("name", ["a.bed", "a.bed.gz", "a.bgz.bed.gz"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_bed_of_any_packing(tmp_path, name, newline):
    found = read_bed(write(tmp_path / name, BED.replace("\n", newline)), LENGTHS)
    assert list(found) == ["chr2", "chr10", "track1", "HLA:A*01"]  # in the order of the genome
    assert plain(found) == {
        "chr2": [[10, 15], [10, 20], [300, 310]],
        "chr10": [[5, 9]],
        "track1": [[0, 50]],
        "HLA:A*01": [[79, 80]],
    }
    assert {rows.dtype for rows in found.values()} == {np.dtype(np.int64)}


def test_bed_without_lines_has_no_intervals(tmp_path):
    assert read_bed(write(tmp_path / "a.bed", "# nothing\n"), LENGTHS) == {}


def test_no_contig_in_common_shows_both_name_sets(tmp_path):
    path = write(tmp_path / "a.bed", "1\t0\t5\n2\t0\t5\n1\t7\t9\n")
    with pytest.raises(InputError) as caught:
        read_bed(path, {"chr1": 100, "chr2": 100}, "labels")
    assert str(caught.value) == (
        f"{path}: no labels on the genome's contigs: the file has 1, 2, the genome chr1, chr2; "
        "rename the contigs of one of them"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chr2\t5", "expected BED (contig, start, end), found 'chr2\\t5'"),
        ("chr2\tfive\t9", "expected BED (contig, start, end), found"),
        ("chr2\t1.5\t9", "expected BED (contig, start, end), found"),
        ("chr2", "expected BED (contig, start, end), found 'chr2'"),
        ("chr2\t-1\t9", "expected 0 ≤ start ≤ end, found -1 and 9"),
        ("chr2\t9\t5", "expected 0 ≤ start ≤ end, found 9 and 5"),
        ("chr2\t990\t1001", "chr2:990-1001 passes the end of the contig (1000 bases); are both of the same"),
    ],
)
def test_malformed_line_is_named(tmp_path, line, message):
    path = write(tmp_path / "a.bed", f"# comment\nchr2\t0\t1000\n{line}\n")
    with pytest.raises(InputError) as caught:
        read_bed(path, LENGTHS)
    assert str(caught.value).startswith(f"{path}:3: {message}")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_bed(tmp_path / "none.bed", LENGTHS)
    packed = write(tmp_path / "a.bed.gz", "chr2\t0\t5\n" * 5000)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(InputError, match="damaged or truncated"):
        read_bed(packed, LENGTHS)
    (tmp_path / "b.bed").write_bytes(b"chr2\t0\t5\n\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        read_bed(tmp_path / "b.bed", LENGTHS)


# ---- bedGraph -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_bedgraph_in_blocks_is_the_whole(tmp_path, block):
    text = "track type=bedGraph\nchr10\t0\t5\t0.25\nchr10\t5\t6\t1e-3\nchr10\t9\t12\t1\n"
    text += "chrUn\t0\t3\t1\nchr2\t7\t9\t-2\n"
    found = list(read_bedgraph(write(tmp_path / "a.bed.gz", text), LENGTHS, block))
    assert max(len(rows) for _, rows, _ in found) <= block
    flat = [
        (contig, *row, value)
        for contig, rows, values in found
        for row, value in zip(rows.tolist(), values.tolist(), strict=True)
    ]
    assert flat == [
        ("chr10", 0, 5, 0.25),
        ("chr10", 5, 6, 0.001),
        ("chr10", 9, 12, 1.0),
        ("chr2", 7, 9, -2.0),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("chr2\t5\t9\t1\nchr2\t8\t10\t1\n", ":2: chr2:8-10 overlaps or precedes"),
        ("chr2\t5\t9\t1\nchr2\t1\t3\t1\n", ":2: chr2:1-3 overlaps or precedes"),
        ("chr2\t5\t9\t1\nchr10\t1\t3\t1\nchr2\t20\t30\t1\n", ":3: chr2:20-30 overlaps or precedes"),
        ("chr2\t5\t9\n", ":1: expected bedGraph"),
        ("chr2\t5\t9\tx\n", ":1: expected bedGraph"),
        ("chr2\t5\t1009\t1\n", ":1: chr2:5-1009 passes the end"),
        ("2\t5\t9\t1\n", ": no values on the genome's contigs: the file has 2, the genome chr2"),
    ],
)
@pytest.mark.parametrize("block", [1, 100])
def test_bedgraph_that_is_refused(tmp_path, lines, message, block):
    path = write(tmp_path / "a.bedgraph", lines)
    with pytest.raises(InputError) as caught:
        list(read_bedgraph(path, LENGTHS, block))
    assert str(caught.value).startswith(f"{path}{message}")


# ---- regions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chr2", ("chr2", 0, 1000)),
        ("chr2:1-1000", ("chr2", 0, 1000)),
        ("chr2:1-1,000", ("chr2", 0, 1000)),
        ("chr2:100-100", ("chr2", 99, 100)),
        ("chr2:100", ("chr2", 99, 1000)),
        ("chr2:100-", ("chr2", 99, 1000)),
        ("HLA:A*01", ("HLA:A*01", 0, 80)),
        ("HLA:A*01:5-8", ("HLA:A*01", 4, 8)),
        ("a.1|x:2-3", ("a.1|x", 1, 3)),
    ],
)
def test_region(text, expected):
    assert parse_region(text, LENGTHS) == expected


def test_whole_name_wins_over_a_range():
    lengths = {"chr2": 1000, "chr2:5-10": 60}
    assert parse_region("chr2:5-10", lengths) == ("chr2:5-10", 0, 60)
    assert parse_region("chr2:5-11", lengths) == ("chr2", 4, 11)
    assert parse_region("chr2:5-10:2-3", lengths) == ("chr2:5-10", 1, 3)


@pytest.mark.parametrize(
    "text", ["chr2:0-10", "chr2:0", "chr2:11-10", "chr2:1-1001", "chr2:1001", "chr2:1001-1002", "chr2:,-5"]
)
def test_range_outside_the_contig(text):
    with pytest.raises(InputError) as caught:
        parse_region(text, LENGTHS)
    assert str(caught.value) == f"region '{text}': expected 1 ≤ start ≤ end ≤ 1000, the length of chr2"


@pytest.mark.parametrize("text", ["2:1-10", "chr2:a-b", "chr2:-10", "chr2:1-2-3", "", ":1-10", "chr2 :1-10"])
def test_region_of_no_contig(text):
    with pytest.raises(InputError, match=r"no such contig; expected NAME or NAME:START-END .*chr2, chr10"):
        parse_region(text, LENGTHS)


def test_region_of_an_empty_contig():
    assert parse_region("void", {"void": 0}) == ("void", 0, 0)
    with pytest.raises(InputError, match="1 ≤ start ≤ end ≤ 0"):
        parse_region("void:1-1", {"void": 0})


# ---- arithmetic ---------------------------------------------------------------------------------------------


def random_intervals(seed, count=12, span=100):
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, span, count)
    rows = zip(starts.tolist(), (starts + rng.integers(1, 12, count)).tolist(), strict=True)
    return np.array(sorted(rows), dtype=np.int64).reshape(-1, 2)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("gap", [0, 1, 3, 50])
def test_merge_against_a_slow_loop(seed, gap):
    rows = random_intervals(seed)
    expected = []
    for start, end in rows.tolist():
        if expected and start - expected[-1][1] <= gap:
            expected[-1][1] = max(expected[-1][1], end)
        else:
            expected.append([start, end])
    assert merge(rows, gap).tolist() == expected


def test_merge_joins_what_touches_and_leaves_its_input():
    rows = np.array([[0, 5], [5, 8], [9, 10]])
    assert merge(rows).tolist() == [[0, 8], [9, 10]]
    assert merge(rows, 1).tolist() == [[0, 10]]
    assert rows.tolist() == [[0, 5], [5, 8], [9, 10]]
    assert merge(np.empty((0, 2), dtype=np.int64)).shape == (0, 2)


@pytest.mark.parametrize("seed", range(20))
def test_fill_against_a_slow_loop(seed):
    rows = random_intervals(seed)
    covered = {base for start, end in rows.tolist() for base in range(start, end)}
    for start, end in [(0, 120), (30, 70), (50, 51), (110, 200), (40, 40)]:
        found = interval_mask(rows, start, end)
        assert found.dtype == bool
        assert found.tolist() == [base in covered for base in range(start, end)]


def test_fill_of_nothing():
    assert interval_mask(None, 5, 8).tolist() == [False] * 3
    assert interval_mask(np.empty((0, 2), dtype=np.int64), 5, 8).tolist() == [False] * 3
    assert interval_mask(np.array([[6, 6]]), 5, 8).tolist() == [False] * 3


@pytest.mark.parametrize("seed", range(20))
def test_overlapping_against_a_slow_loop(seed):
    merged = merge(random_intervals(seed))
    for start in range(0, 115, 3):
        for length in (1, 4, 40):
            expected = [row for row in merged.tolist() if row[0] < start + length and row[1] > start]
            assert find_overlapping(merged, start, start + length).tolist() == expected
