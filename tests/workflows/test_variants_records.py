"""Records of a VCF keep every column; scores are added to INFO, whatever the packing and the format."""

import gzip

import pysam
import pysam.bcftools
import pytest
from conftest import dna, make_fasta

from zflipon.errors import InputError
from zflipon.workflows.variants import FIELDS, score_variants

TEXT = dna(900, 1)
HEADER = [
    "##fileformat=VCFv4.2",
    "##contig=<ID=chr1,length=900>",
    '##INFO=<ID=X,Number=1,Type=String,Description="x">',
    '##INFO=<ID=END,Number=1,Type=Integer,Description="end">',
    '##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="len">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="gt">',
]
OUTPUTS = ["z.vcf", "z.vcf.gz", "z.bcf"]


@pytest.fixture
def fasta(tmp_path):
    return make_fasta(tmp_path, {"chr1": TEXT})


@pytest.fixture
def score(fasta, tiny_checkpoint, tmp_path):
    """Score the lines of a VCF and return the output's path."""

    def run(content, name="z.vcf", packing=None):
        path = tmp_path / ("in.vcf.gz" if packing else "in.vcf")
        content = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(content) if packing else content)
        score_variants(path, fasta, tmp_path / name, str(tiny_checkpoint), force=True)
        return tmp_path / name

    return run


def vcf(*records, header=HEADER, samples=()):
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", *samples]
    lines = [*header, "\t".join(columns)]
    lines += ["\t".join(map(str, record)) for record in records]
    return "\n".join(lines) + "\n"


def record(position, alt, info=".", *rest, ref=None):
    return "chr1", position, ".", ref or TEXT[position - 1], alt, ".", ".", info, *rest


def other(position):
    return "ACGT"["CGTA".index(TEXT[position - 1])]


def columns_of(path):
    """Return the records as bcftools prints them, without our fields."""
    lines = pysam.bcftools.view("-H", "--no-version", str(path)).splitlines()
    rows = [line.split("\t") for line in lines]
    for row in rows:
        entries = [entry for entry in row[7].split(";") if entry.partition("=")[0] not in FIELDS]
        row[7] = ";".join(entries) or "."
    return rows


def our_fields(path):
    with pysam.VariantFile(str(path)) as file:
        return [{name: record.info.get(name) for name in FIELDS} for record in file]


@pytest.mark.parametrize("name", OUTPUTS)
def test_end_is_neither_dropped_nor_changed_nor_invented(score, tmp_path, name):
    records = [
        record(95, "G", "END=99;SVLEN=-4", ref="GTATG"),
        record(200, "<DEL>", "END=299;SVLEN=100"),
        record(210, "<CNV>", "X=noend"),
        record(220, TEXT[219] + "[chr1:9[", "END=9"),
    ]
    content = vcf(*records)
    out = score(content, name)
    (tmp_path / "expected.vcf").write_text(content)
    assert columns_of(out) == columns_of(tmp_path / "expected.vcf")


def test_gzip_that_is_not_bgzip_is_read(score):
    out = score(vcf(record(50, other(50))), packing="gzip")
    assert our_fields(out)[0]["ZF_GAIN"] is not None


def test_bytes_that_are_not_utf8_survive(score):
    content = vcf(record(50, other(50), "X=caf%")).encode().replace(b"%", b"\xe9")
    assert b"\tX=caf\xe9;ZF_GAIN=" in score(content).read_bytes()


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_allele_that_is_not_scored_has_a_dot_among_scored_ones(score, name):
    first, second = our_fields(
        score(vcf(record(50, f"{other(50)},<NON_REF>"), record(51, f"{other(51)},*")), name)
    )
    assert first["ZF_WHY"] == (".", "symbolic")
    assert second["ZF_WHY"] == (".", "spanning_deletion")
    assert first["ZF_GAIN"][1] is None


def test_missing_values_are_written_as_a_dot(score):
    text = score(vcf(record(50, f"{other(50)},<NON_REF>"))).read_text()
    assert ";ZF_WHY=.,symbolic\n" in text


def test_records_without_sample_columns_are_kept(score):
    content = vcf(record(50, other(50)), samples=("FORMAT", "s1", "s2"))
    row = score(content).read_text().splitlines()[-1].split("\t")
    assert len(row) == 8


def test_numbers_of_bcf_in_the_header_are_ignored(score):
    header = [
        "##fileformat=VCFv4.3",
        '##FILTER=<ID=PASS,Description="All filters passed",IDX=0>',
        "##contig=<ID=chr1,length=900,IDX=3>",
    ]
    for name in OUTPUTS:
        assert len(our_fields(score(vcf(record(50, other(50)), header=header), name))) == 1


@pytest.mark.parametrize("end", ["\n", "\n\n", "\r\n"])
def test_blank_lines_and_windows_line_ends_are_read(score, end):
    for name in ("z.vcf", "z.bcf"):
        assert len(our_fields(score(vcf(record(50, other(50))) + end, name))) == 1


def test_a_second_run_over_the_output_replaces_the_fields(score, tmp_path):
    first = score(vcf(record(50, other(50), "X=1")))
    again = score(first.read_bytes(), "again.vcf")
    assert again.read_bytes() == first.read_bytes()


def test_what_cannot_be_bcf_is_refused_before_scoring(score, tmp_path, monkeypatch):
    def predict(*_arguments, **_settings):
        raise AssertionError("must not be called")

    monkeypatch.setattr("zflipon.inference.predictor.Predictor.predict_probabilities", predict)
    content = vcf(record(50, other(50), ".", "GT"), samples=("FORMAT", "s1"))
    with pytest.raises(InputError, match=r"cannot be written as BCF .*\.vcf\.gz"):
        score(content, "z.bcf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genome.fa", "genome.fa.fai", "in.vcf"]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ((".",), r"the record at chr1:50 has 0 sample columns, the header 2"),
        ((".", "GT:GT", "0/1:0/1", "0/1:0/1"), r"bcftools: a record does not fit the header"),
    ],
)
def test_a_refusal_of_bcf_names_the_reason(score, columns, reason):
    content = vcf(record(50, other(50), *columns), samples=("FORMAT", "s1", "s2"))
    with pytest.raises(InputError, match=rf"cannot be written as BCF \({reason}\)"):
        score(content, "z.bcf")


def test_declarations_of_an_earlier_run_do_not_hinder_bcf(score):
    """The input's own ZF fields have other types, and a filter is not declared."""
    header = [*HEADER, '##INFO=<ID=ZF_GAIN,Number=1,Type=Integer,Description="old">']
    row = list(record(50, other(50), "ZF_GAIN=high"))
    row[6] = "q10"
    assert len(our_fields(score(vcf(row, header=header), "z.bcf"))) == 1


def test_a_bcf_keeps_every_column(score, tmp_path, fasta, tiny_checkpoint):
    content = vcf(
        record(50, other(50), "X=a", "GT", "0/1"), record(60, other(60), "END=70", "GT", "./."),
        samples=("FORMAT", "s1"),
    )  # fmt: skip
    (tmp_path / "source.vcf").write_text(content)
    pysam.bcftools.view(
        "-Ob", "-o", str(tmp_path / "in.bcf"), str(tmp_path / "source.vcf"), catch_stdout=False
    )
    for name in OUTPUTS:
        score_variants(tmp_path / "in.bcf", fasta, tmp_path / name, str(tiny_checkpoint))
        assert columns_of(tmp_path / name) == columns_of(tmp_path / "source.vcf")


def test_a_bcf_in_plain_gzip_is_one_clear_error(score, tmp_path):
    (tmp_path / "source.vcf").write_text(vcf(record(20, other(20))))
    files = [str(tmp_path / name) for name in ("in.bcf", "source.vcf")]
    pysam.bcftools.view("-Ob", "-o", *files, catch_stdout=False)
    with pytest.raises(InputError, match="a BCF in plain gzip, expected bgzip"):
        score(gzip.decompress((tmp_path / "in.bcf").read_bytes()), packing="gzip")
