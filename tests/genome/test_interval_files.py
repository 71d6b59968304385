"""BED and bedGraph files: compression, byte-order marks, unknown contigs and malformed lines."""

import gzip
import logging
import os

import numpy as np
import pysam
import pytest
from conftest import SHARED, needs_shared
from hypothesis import given
from hypothesis import strategies as st

from zflipon.errors import InputError, ZfliponError
from zflipon.genome.interval_files import read_bed, read_bedgraph

LENGTHS = {"chr2": 1000, "chr10": 500, "track1": 50, "HLA:A*01": 80, "a.1|x": 70}


def write(path, text):
    """Write a text file, compressed as its extension requires."""
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
def test_bed_of_any_compression(tmp_path, name, newline):
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
    path = write(tmp_path / "a.bed", "I\t0\t5\nII\t0\t5\nI\t7\t9\n")
    with pytest.raises(InputError) as caught:
        read_bed(path, {"chr1": 100, "chr2": 100}, "labels")
    assert str(caught.value) == (
        f"{path}: no labels on the genome's contigs: the file has I, II, the genome chr1, chr2; "
        "rename the contigs of one of them, or give --contig-aliases if the command has it"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chr2\t5", "expected BED (contig, start, end), found 'chr2\\t5'"),
        ("chr2\tfive\t9", "expected BED (contig, start, end), found"),
        ("chr2\t1.5\t9", "expected BED (contig, start, end), found"),
        ("chr2", "expected BED (contig, start, end), found 'chr2'"),
        ("chr2\t-1\t9", "expected 0 ≤ start ≤ end, found -1 and 9"),
        ("chr2\t+1\t9", "expected BED (contig, start, end), found"),
        ("chr2\t1_0\t20", "expected BED (contig, start, end), found"),
        ("chr2\t１\t9", "expected BED (contig, start, end), found"),
        ("chr2\t1\t" + "9" * 5000, "expected BED (contig, start, end), found"),
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"BAM\x01" + bytes(100), mtime=0), "a BAM file, not a text file; expected BED"),
        (b"\x26\xfc\x8f\x88" + bytes(60), "a bigWig file, not a text file; expected BED"),
        ("chr2\t0\t5\n".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        (b"chr2\t0\t5\nchr2\0\t0\t5\n", ":2: not a text file"),
        (b"x" * 3_000_000, ":1: a line of more than 1,048,576 characters"),
    ],
)
def test_files_of_another_format_are_named(tmp_path, content, message):
    (tmp_path / "a.bed").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_bed(tmp_path / "a.bed", LENGTHS)
    assert message in str(caught.value)


def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.bed")
    for path in (tmp_path / "pipe.bed", "/dev/zero", tmp_path):
        with pytest.raises(InputError, match="not a regular file"):
            read_bed(path, LENGTHS)


@pytest.mark.parametrize("name", ["a.bed", "a.bed.gz"])
def test_a_byte_order_mark_is_skipped(tmp_path, name):
    path = write(tmp_path / name, "\ufeffchr2\t0\t5\nchr2\t7\t9\n")
    assert plain(read_bed(path, LENGTHS)) == {"chr2": [[0, 5], [7, 9]]}
    path = write(tmp_path / "a.bedgraph", "\ufeffchr2\t0\t5\t1\n")
    ((contig, rows, values),) = read_bedgraph(path, LENGTHS)
    assert (contig, rows.tolist(), values.tolist()) == ("chr2", [[0, 5]], [1.0])


@needs_shared
def test_files_with_byte_order_marks_that_lost_their_first_row():
    lengths = {"chr1": 854}
    for name in ("labels.bed", "track.bed"):
        path = SHARED / "faults" / "bom" / name
        rows = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        assert sum(len(found) for found in read_bed(path, lengths).values()) == len(rows)


def test_rows_on_unknown_contigs_are_counted(tmp_path, caplog):
    path = write(tmp_path / "a.bed", "chr2\t0\t5\nchrU\t0\t5\nchr2\t7\t9\n")
    with caplog.at_level(logging.WARNING, "zflipon"):
        for _ in range(2):  # a file that is read twice warns once
            assert plain(read_bed(path, LENGTHS)) == {"chr2": [[0, 5], [7, 9]]}
    assert caplog.messages == [
        f"{path}: 1 of 3 rows are on contigs that are not in the genome (chrU); these rows are left out"
    ]


@pytest.mark.parametrize("name", ["a.bed", "a.bedgraph"])
def test_most_rows_on_unknown_contigs_is_an_error(tmp_path, name):
    path = write(tmp_path / name, "chr2\t0\t5\t1\nI\t0\t5\t1\nII\t0\t5\t1\n")
    reader = read_bed if name == "a.bed" else lambda *arguments: list(read_bedgraph(*arguments))
    with pytest.raises(InputError) as caught:
        reader(path, LENGTHS)
    assert "2 of 3 rows are on contigs that are not in the genome (I, II; the genome has chr2" in str(
        caught.value
    )


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.tuples(
                st.sampled_from(["chr2", "chr10", "x", "#", ""]), st.text(max_size=6), st.text(max_size=6)
            )
        ).map(lambda rows: "\n".join("\t".join(row) for row in rows).encode("utf-8", "surrogatepass")),
    )
)
def test_garbage_never_raises_anything_but_a_zflipon_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "garbage.bed"
    path.write_bytes(content)
    for read in (read_bed, lambda *arguments: list(read_bedgraph(*arguments))):
        try:
            read(path, LENGTHS)
        except ZfliponError as error:
            assert str(error).startswith(str(path))  # noqa: PT017


# ---- bedGraph -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_blocks_of_a_bedgraph(tmp_path, block):
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
        ("chr2\t5\t9\t1_0\n", ":1: expected bedGraph"),
        ("chr2\t5\t9\t１\n", ":1: expected bedGraph"),
        ("chr2\t5\t1009\t1\n", ":1: chr2:5-1009 passes the end"),
        ("II\t5\t9\t1\n", ": no values on the genome's contigs: the file has II, the genome chr2"),
    ],
)
@pytest.mark.parametrize("block", [1, 100])
def test_malformed_bedgraph(tmp_path, lines, message, block):
    path = write(tmp_path / "a.bedgraph", lines)
    with pytest.raises(InputError) as caught:
        list(read_bedgraph(path, LENGTHS, block))
    assert str(caught.value).startswith(f"{path}{message}")
