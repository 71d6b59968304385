"""Parsers on generated text: valid rows are read as they were written; any other text is an error of the user."""

import contextlib
import gzip
import json
import os

import numpy as np
import pysam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustness.inputs import RECIPE
from robustness.oracles import parse_bed
from zflipon.errors import InputError, ModelError, RecipeError, ZfliponError
from zflipon.explain.table_files import read_table
from zflipon.genome.interval_files import read_bed, read_bedgraph
from zflipon.models.files import locate
from zflipon.models.weight_files import find_weights, read_json
from zflipon.omics.spec import read_track_table
from zflipon.training.recipe import load_recipe
from zflipon.training.sequence_files import read_sequences
from zflipon.workflows.calibration_file import read_calibration
from zflipon.workflows.variants.vcf import MAX_LINE, open_vcf

LENGTHS = {"chr1": 1000, "chr 2": 50}
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

WORDS = 'chr1,chr 2,chrX,0,5,10,-1,1e3,nan,1_0,１０,+1,#,track,A,N,<DEL>,.,;,=,"'
words = st.sampled_from(WORDS.split(",")) | st.text(max_size=4)
lines = st.lists(words, max_size=6).map("\t".join)
texts = st.lists(lines, max_size=6).map("\n".join) | st.text(max_size=60)


def write(folder, text):
    path = folder / "input.txt"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def read_vcf(path):
    with open_vcf(path) as (_, records):
        return [(record.contig, record.start, record.ref, record.alts, record.info) for record in records]


@pytest.mark.parametrize(
    "read",
    [
        lambda path: read_bed(path, LENGTHS),
        lambda path: list(read_bedgraph(path, LENGTHS)),
        read_track_table,
        read_table,
        read_sequences,
        load_recipe,
        read_vcf,
        read_json,
    ],
    ids=["BED", "bedGraph", "tracks", "table", "sequences", "recipe", "VCF", "JSON"],
)
@FEW
@given(text=texts)
def test_any_text_is_read_or_one_clear_error(tmp_path, read, text):
    message = str(tmp_path)
    try:
        read(write(tmp_path, text))
    except ZfliponError as error:
        message = str(error)
    assert str(tmp_path) in message


@FEW
@given(text=texts)
def test_beds_agree_with_a_strict_reader(tmp_path, text):
    expected = parse_bed(text.encode("utf-8", "surrogatepass"), LENGTHS)
    if expected is None:
        return
    found = read_bed(write(tmp_path, text), LENGTHS)
    rows = [(contig, *row) for contig in found for row in found[contig].tolist() if row[0] < row[1]]
    assert sorted(rows) == sorted(expected)


finite = st.floats(allow_nan=False, allow_infinity=False)


@FEW
@given(runs=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), finite), min_size=1, max_size=20))
def test_bedgraphs_are_read_as_written(tmp_path, runs):
    ends = np.cumsum([gap + width for gap, width, _ in runs])
    rows = [(int(end) - width, int(end), value) for end, (_, width, value) in zip(ends, runs, strict=True)]
    text = "".join(f"chr1\t{start}\t{end}\t{value!r}\n" for start, end, value in rows)
    parts = list(read_bedgraph(write(tmp_path, text), LENGTHS, block=7))
    found = [
        (*interval, value)
        for _, intervals, values in parts
        for interval, value in zip(intervals.tolist(), values.tolist(), strict=True)
    ]
    assert found == rows


names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=5)


@FEW
@given(
    contig=names,
    position=st.integers(1, 10**9),
    ref=st.text("ACGTN", min_size=1, max_size=6),
    alts=st.lists(st.text("ACGT", min_size=1, max_size=6), min_size=1, max_size=3),
    info=st.lists(names.map("K{}=1".format), min_size=1, max_size=3),
)
def test_vcf_fields_are_read_as_written(tmp_path, contig, position, ref, alts, info):
    row = [contig, str(position), ".", ref, ",".join(alts), ".", "PASS", ";".join(info)]
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    path = write(tmp_path, header + "\t".join(row) + "\n")
    assert read_vcf(path) == [(contig, position - 1, ref, tuple(alts), info)]


VALUES = '1,0,-1,1e9,nan,inf,true,"","x",[],{},[[]],1979-05-27,99999999999999999999,"\\u0000"'
values = st.sampled_from(VALUES.split(","))


@FEW
@given(data=st.data())
def test_any_value_of_a_recipe_is_accepted_or_named(tmp_path, data):
    rows = RECIPE.splitlines()
    number = data.draw(st.sampled_from([number for number, row in enumerate(rows) if " = " in row]))
    key = rows[number].split(" = ")[0]
    rows[number] = f"{key} = {data.draw(values)}"
    with contextlib.suppress(RecipeError, InputError):
        load_recipe(write(tmp_path, "\n".join(rows)))


def containers(inner):
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3), containers, max_leaves=8
)


@FEW
@given(value=json_values)
def test_json_objects_are_read_as_written(tmp_path, value):
    path = write(tmp_path, json.dumps(value))
    if isinstance(value, dict):
        assert json.dumps(read_json(path)) == json.dumps(value)
    else:
        with pytest.raises(ModelError, match="expected a JSON object"):
            read_json(path)


def test_a_vcf_with_an_endless_line_is_refused(tmp_path):
    """A sparse file of zeros: its line would fill the memory."""
    path = write(tmp_path, "##fileformat=VCFv4.2\n")
    with open(path, "rb+") as file:
        file.truncate(MAX_LINE + 100)
    with pytest.raises(InputError, match=r":2: .*a line of more than 134,217,728 bytes"):
        read_vcf(path)


def test_a_bcf_that_ends_within_a_record_is_one_clear_error(tmp_path):
    header = pysam.VariantHeader()
    header.add_line("##contig=<ID=a,length=99>")
    path = str(tmp_path / "v.bcf")
    with pysam.VariantFile(path, "wb", header=header) as out:
        out.write(header.new_record("a", 5, 6, ("A", "C")))
    content = gzip.decompress((tmp_path / "v.bcf").read_bytes())
    with pysam.BGZFile(path, "wb") as packed:
        packed.write(content[:-3])
    with pytest.raises(InputError, match=r"v\.bcf:\d+: cannot be read as VCF or BCF \(truncated file\)"):
        read_vcf(tmp_path / "v.bcf")


def test_a_contig_of_a_vcf_with_an_endless_length_is_ignored(tmp_path):
    header = f"##fileformat=VCFv4.2\n##contig=<ID=a,length={'9' * 5000}>\n##contig=<ID=b,length=7>\n"
    path = write(tmp_path, header + "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
    with open_vcf(path) as (vcf_header, _):
        assert vcf_header.longest_contig == 7


@pytest.mark.parametrize(
    "read",
    [find_weights, locate, read_table, read_track_table, read_sequences, load_recipe, read_calibration],
)
def test_a_pipe_is_refused_not_awaited(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ZfliponError, match="regular file"):
        read(tmp_path / "pipe")
