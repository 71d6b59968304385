"""Genes of alleles agree with `find_genes`, in tables and in VCF; an annotation that does not fit is one line."""

import pysam
import pytest
from conftest import dna, make_fasta
from pyarrow import parquet

import zflipon
from zflipon.config import InferenceConfig
from zflipon.errors import InputError
from zflipon.workflows.variants import TABLE_COLUMNS, saturate, score_variants
from zflipon.workflows.variants.fields import GENE_FIELDS
from zflipon.workflows.variants.genes import group_batches

CONTIGS = {"chr1": dna(600, 1) + "CG" * 10 + dna(2000, 2), "chr2": dna(200, 3)}
SETTINGS = InferenceConfig(device="cpu", threads=1, precision="float32")
GTF = """\
1\tx\ttranscript\t1201\t2400\t.\t-\t.\tgene_id "G1"; transcript_id "T1"; gene_name "ONE or=1,5%";
1\tx\texon\t1201\t1400\t.\t-\t.\tgene_id "G1"; transcript_id "T1"; gene_name "ONE or=1,5%";
1\tx\texon\t2001\t2400\t.\t-\t.\tgene_id "G1"; transcript_id "T1"; gene_name "ONE or=1,5%";
1\tx\tCDS\t2101\t2200\t.\t-\t.\tgene_id "G1"; transcript_id "T1"; gene_name "ONE or=1,5%";
"""
PLACES = [("chr1", 605, 1), ("chr1", 1290, 3), ("chr1", 1395, 8), ("chr1", 2150, 1), ("chr1", 2450, 1),
          ("chr2", 50, 1)]  # fmt: skip
COLUMNS = [field.column for field in GENE_FIELDS]


@pytest.fixture
def files(tmp_path):
    """Return the folder with a genome, an annotation, and a VCF with two alleles at each place."""
    make_fasta(tmp_path, CONTIGS)
    (tmp_path / "genes.gtf").write_text(GTF)
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for contig, start, length in PLACES:
        ref = CONTIGS[contig][start : start + length]
        alts = [letter + ref[1:] for letter in "ACGT" if letter != ref[0]][:2]
        lines.append(f"{contig}\t{start + 1}\t.\t{ref}\t{','.join(alts)}\t.\t.\tDP=7")
    (tmp_path / "in.vcf").write_text("\n".join(lines) + "\n")
    return tmp_path


def score(folder, output, vcf="in.vcf", **options):
    given = {"settings": SETTINGS, "force": True, **options}
    return score_variants(folder / vcf, folder / "genome.fa", folder / output, "zhunt", **given)


def expected_rows(folder):
    """Return the gene columns of each place as text, from `find_genes`."""
    bed = folder / "places.bed"
    bed.write_text("".join(f"{contig}\t{start}\t{start + length}\n" for contig, start, length in PLACES))
    table = zflipon.find_genes(bed, folder / "genes.gtf").calls[COLUMNS]
    return [[str(value) for value in row] for row in table.astype(object).fillna("").to_numpy()]


def test_tables_have_the_columns_of_find_genes(files):
    score(files, "out.tsv", gtf=files / "genes.gtf")
    lines = [line.split("\t") for line in (files / "out.tsv").read_text().splitlines() if line[0] != "#"]
    assert lines[0] == [*TABLE_COLUMNS, *COLUMNS]
    found = [["" if value == "." else value for value in line[-5:]] for line in lines[1:]]
    expected = [row for row in expected_rows(files) for _ in range(2)]
    assert found == expected
    assert [row[0] for row in found[::2]] == [
        "intergenic",
        "3'UTR",
        "3'UTR",
        "exon",
        "promoter",
        "intergenic",
    ]
    score(files, "plain.tsv")
    plain = [line.split("\t") for line in (files / "plain.tsv").read_text().splitlines() if line[0] != "#"]
    assert plain == [line[:-5] for line in lines]
    score(files, "out.parquet", gtf=files / "genes.gtf")
    table = parquet.read_table(files / "out.parquet").to_pylist()
    assert [row["tss_distance"] for row in table[:2]] == [1794, 1794]
    assert table[-1]["gene"] is None


def test_vcf_has_escaped_fields_with_headers_and_loses_those_of_an_earlier_run(files):
    score(files, "out.vcf.gz", gtf=files / "genes.gtf")
    with pysam.VariantFile(str(files / "out.vcf.gz")) as file:
        assert file.header.info["ZF_TSSDIST"].type == "Integer"
        assert file.header.info["ZF_GENE"].number == "A"
        first, *_, last = list(file)
    assert first.info["ZF_GENE"] == ("ONE%20or%3D1%2C5%25",) * 2
    assert first.info["ZF_TSSDIST"] == (1794, 1794)
    assert first.info["DP"] == ("7",)
    assert last.info["ZF_FEATURE"] == ("intergenic",) * 2
    assert "ZF_GENE" not in last.info
    score(files, "again.vcf", vcf="out.vcf.gz")
    text = (files / "again.vcf").read_text()
    assert "ZF_GENE" not in text
    assert "ZF_GAIN" in text


def test_every_allele_of_a_region_has_genes_and_the_table_can_be_looked_up(files):
    table = files / "all.tsv.gz"
    given = {"settings": SETTINGS, "gtf": files / "genes.gtf"}
    saturate(["chr1:606-607", "chr1:2151-2151"], files / "genome.fa", table, "zhunt", **given)
    with pysam.TabixFile(str(table)) as file:
        rows = [line.split("\t") for line in file.fetch("chr1")]
    assert [row[-5] for row in rows] == ["intergenic"] * 6 + ["exon"] * 3
    score(files, "found.tsv", table=table)
    score(files, "computed.tsv")
    assert (files / "found.tsv").read_text() == (files / "computed.tsv").read_text()


def test_batches_are_joined_in_order():
    import numpy as np

    batches = [([index], np.array([index])) for index in range(5)]
    groups = list(group_batches(batches, 2))
    assert [records for records, _ in groups] == [[0, 1], [2, 3], [4]]
    assert [scores.tolist() for _, scores in groups] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no genes"), (GTF.replace("2400", "99999"), "same assembly"), ("a\tb\n", "expected GTF")],
)
def test_an_annotation_that_does_not_fit_is_one_line(files, text, message):
    (files / "bad.gtf").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        score(files, "out.vcf", gtf=files / "bad.gtf")
    assert "\n" not in str(error.value)
    assert not list(files.glob("out.vcf*"))
