"""Calls as narrowPeak, GFF3, TSV and Parquet: each file follows the rules of its format and holds the same calls."""

import csv
import re
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow.parquet
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zflipon.errors import InputError, MissingExtraError, OutputError
from zflipon.genome.interval_files import read_bed
from zflipon.tracks.calling import NO_VALUE, ContigTrack, call_summits, call_track
from zflipon.tracks.description import TrackDescription
from zflipon.tracks.outputs import TrackOutputs
from zflipon.tracks.registry import FORMATS, PARQUET, find_writer, list_extensions, open_track

LENGTHS = {"chr2": 1000, "empty": 5, "HLA:1=a;b,c&d%e": 400}
"""With a contig whose name has every character that GFF3 escapes."""

DESCRIPTION = TrackDescription("compact", "Probability of Z-DNA", 0.5, "Zabc")


def write(outputs, description=DESCRIPTION):
    """Write two calls on each of two contigs; return contig, start, end, mean, max and summit of each."""
    values = np.zeros(300, dtype=np.uint16)
    values[10:16] = [500, 700, 900, 900, 900, 600]
    values[40:43] = [501, 502, 502]
    with TrackOutputs(outputs, LENGTHS, description) as opened:
        for contig in ("chr2", "HLA:1=a;b,c&d%e"):
            track = ContigTrack(contig, [(5, values[:13]), (18, values[13:])])
            opened.add(track, call_track(track, 0.5, 1, 0))
        opened.commit()
    return [
        row
        for contig in ("chr2", "HLA:1=a;b,c&d%e")
        for row in ((contig, 15, 21, 0.75, 0.9, 18), (contig, 45, 48, 0.502, 0.502, 46))
    ]


def name_of(contig, start, end):
    return f"Zabc_{contig}:{start + 1}-{end}"


def read_lines(path):
    if path.suffix == ".gz":
        with pysam.BGZFile(str(path)) as file:
            return file.read().decode().splitlines()
    return path.read_text().splitlines()


@pytest.mark.parametrize("name", ["a.narrowpeak", "a.narrowPeak.gz"])
def test_narrowpeak_is_bed6_with_four_more_columns(tmp_path, name):
    calls = write([tmp_path / name])
    rows = [line.split("\t") for line in read_lines(tmp_path / name)]
    assert len(rows) == len(calls)
    for row, (contig, start, end, mean, highest, summit) in zip(rows, calls, strict=True):
        assert row[:4] == [contig, str(start), str(end), name_of(contig, start, end)]
        assert int(row[4]) == round(mean * 1000)
        assert 0 <= int(row[4]) <= 1000
        assert row[5] == "."
        assert float(row[6]) == highest
        assert row[7:9] == ["-1", "-1"]  # no p-value and no q-value
        assert int(row[9]) == summit - start < end - start
    assert read_bed(tmp_path / name, LENGTHS)["chr2"].tolist() == [[15, 21], [45, 48]]


@pytest.mark.parametrize("name", ["a.gff3", "a.gff3.gz"])
def test_gff3_follows_the_specification(tmp_path, name):
    calls = write([tmp_path / name])
    lines = read_lines(tmp_path / name)
    assert lines[0] == "##gff-version 3"
    regions = [line.split(" ") for line in lines if line.startswith("##sequence-region")]
    assert {unquote(contig): (int(start), int(end)) for _, contig, start, end in regions} == {
        contig: (1, LENGTHS[contig]) for contig in ("chr2", "HLA:1=a;b,c&d%e")
    }
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    identifiers = set()
    for row, (contig, start, end, mean, highest, summit) in zip(rows, calls, strict=True):
        assert len(row) == 9
        assert re.fullmatch(r"(?!>)([a-zA-Z0-9.:^*$@!+_?|-]|%[0-9A-F]{2})+", row[0])
        assert unquote(row[0]) == contig
        assert row[1:3] == ["zflipon", "DNA_sequence_secondary_structure"]
        assert (int(row[3]), int(row[4])) == (start + 1, end)
        assert float(row[5]) == pytest.approx(mean)
        assert row[6:8] == [".", "."]
        attributes = dict(
            pair.split("=") for pair in row[8].split(";")
        )  # fails at a character without escape
        assert unquote(attributes["ID"]) == unquote(attributes["Name"]) == name_of(contig, start, end)
        assert not set(attributes["ID"]) & set(",&\t")
        assert (float(attributes["max"]), int(attributes["summit"])) == (highest, summit + 1)
        assert all(key[0].islower() for key in attributes if key not in ("ID", "Name"))
        identifiers.add(attributes["ID"])
    assert len(identifiers) == len(calls)


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.parquet"])
def test_tables_hold_the_calls(tmp_path, name):
    calls = write([tmp_path / name])
    path = tmp_path / name
    table = pd.read_parquet(path) if name.endswith("parquet") else pd.read_table(path, quoting=csv.QUOTE_NONE)
    assert list(table) == ["contig", "start", "end", "name", "length", "mean", "max", "summit"]
    columns = ["contig", "start", "end", "mean", "max", "summit"]
    assert [tuple(row) for row in table[columns].itertuples(index=False)] == calls
    assert table["name"].tolist() == [name_of(*call[:3]) for call in calls]
    assert table["length"].tolist() == [6, 3, 6, 3]


def test_parquet_has_types_and_a_label_and_equal_bytes(tmp_path):
    write([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    schema = pyarrow.parquet.read_schema(tmp_path / "a.parquet")
    assert [str(kind) for kind in schema.types] == [
        "string", "int64", "int64", "string", "int64", "double", "double", "int64",
    ]  # fmt: skip
    assert schema.metadata[b"zflipon.label"] == b"Probability of Z-DNA"
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_table_without_calls_has_its_columns(tmp_path):
    with TrackOutputs([tmp_path / "a.parquet", tmp_path / "a.tsv", tmp_path / "a.gff3"], LENGTHS) as opened:
        opened.commit()
    assert list(pd.read_parquet(tmp_path / "a.parquet")) == list(pd.read_table(tmp_path / "a.tsv"))
    assert (tmp_path / "a.gff3").read_text() == "##gff-version 3\n"


@pytest.mark.parametrize("name", ["a.narrowpeak.gz", "a.gff3.gz", "a.tsv.gz", "a.bed.gz", "a.bedgraph.gz"])
def test_compressed_files_are_indexed_whatever_header_lines_they_have(tmp_path, name):
    described = TrackDescription("compact", threshold=0.5, track_line=True, header=True)
    write([tmp_path / name], described)
    with pysam.TabixFile(str(tmp_path / name)) as file:
        assert set(file.contigs) <= {"chr2", "HLA:1=a;b,c&d%e", "HLA:1%3Da%3Bb%2Cc%26d%25e"}
        assert len(list(file.fetch("chr2", 47, 48))) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0, 400, 500, 501, 900, NO_VALUE]), max_size=40), st.integers(0, 3), st.data()
)
def test_a_summit_is_the_middle_of_the_first_highest_run(levels, gap, data):
    values = np.array(levels, dtype=np.uint16)
    cut = data.draw(st.integers(0, len(values)))
    track = ContigTrack("c", [(7, values[:cut]), (7 + cut, values[cut:])])
    calls = call_track(track, 0.5, 1, gap)
    expected = []
    for call in calls:
        inside = values[call["start"] - 7 : call["end"] - 7].tolist()
        first = last = inside.index(max(inside))
        while last + 1 < len(inside) and inside[last + 1] == inside[first]:
            last += 1
        expected.append(call["start"] + (first + last) // 2)
    assert call_summits(track, calls).tolist() == expected


# ---- header lines ----------------------------------------------------------------------------------------


def test_a_custom_track_has_a_track_line_and_nine_columns(tmp_path):
    write([tmp_path / "a.bed"], TrackDescription('my "model"', threshold=0.5, track_line=True))
    first, *rows = (tmp_path / "a.bed").read_text().splitlines()
    settings = dict(re.findall(r'(\w+)=("[^"]*"|\S+)', first))
    assert first.startswith("track ")
    assert settings["name"] == "\"my 'model' calls\""
    assert settings["description"] == "\"Probability of Z-DNA >= 0.5 by my 'model'\""
    assert settings["itemRgb"] == "On"
    assert {len(row.split("\t")) for row in rows} == {9}  # with eleven, UCSC would read blocks


def test_values_and_peaks_have_the_track_line_of_their_type(tmp_path):
    write([tmp_path / "a.bedgraph", tmp_path / "a.narrowpeak"], TrackDescription(track_line=True))
    lines = [(tmp_path / name).read_text().splitlines()[0] for name in ("a.bedgraph", "a.narrowpeak")]
    assert [re.search(r"type=(\w+)", line)[1] for line in lines] == ["bedGraph", "narrowPeak"]
    assert len({re.search(r'name="([^"]*)"', line)[1] for line in lines}) == 2  # UCSC replaces equal names


def test_a_header_names_each_column(tmp_path):
    names = ["a.bed", "a.bedgraph", "a.narrowpeak"]
    write([tmp_path / name for name in names], TrackDescription(header=True))
    for name in names:
        header, row, *_ = (tmp_path / name).read_text().splitlines()
        assert header.startswith("#chrom\tchromStart\tchromEnd\t")
        assert len(header.split("\t")) == len(row.split("\t"))


def test_files_with_header_lines_are_read_like_those_without(tmp_path):
    described = TrackDescription(track_line=True, header=True)
    for name in ("a.bed", "a.bedgraph", "a.narrowpeak"):
        write([tmp_path / name])
        write([tmp_path / f"h{name}"], described)
        plain, headed = (open_track(tmp_path / each, LENGTHS) for each in (name, f"h{name}"))
        for one, other in zip(plain.chunks(LENGTHS, 512), headed.chunks(LENGTHS, 512), strict=True):
            assert one[:2] == other[:2]
            np.testing.assert_array_equal(one[2], other[2])


# ---- registry --------------------------------------------------------------------------------------------


def test_output_formats_are_refused_as_inputs(tmp_path):
    for track_format in FORMATS:
        if not track_format.reader_path:
            path = tmp_path / f"a{track_format.extensions[0]}"
            with pytest.raises(
                InputError, match=rf"{track_format.name} is written only; expected .*\.bw, .*\.bed"
            ):
                open_track(path, LENGTHS)


def test_a_format_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("zflipon.tracks.registry.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"Parquet needs pyarrow.*pip install 'zflipon\[parquet\]'"):
        find_writer("a.parquet")


def test_parquet_needs_a_file():
    with pytest.raises(OutputError, match="cannot be written to standard output"):
        PARQUET.writer(None, LENGTHS, DESCRIPTION)


def test_the_list_of_extensions_covers_every_format():
    assert [part.removesuffix("[.gz]") for part in list_extensions().split(", ")] == [
        track_format.extensions[0] for track_format in FORMATS
    ]
