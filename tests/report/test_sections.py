"""Genes, classes and tables of the report agree with `find_genes`; the gene track holds the exons of the annotation."""

import csv

import pandas as pd
import pyBigWig
import pytest
from conftest import dna, make_fasta
from html_page import read_page
from report_files import LENGTHS, stanzas, write_run

import zflipon
from zflipon.errors import InputError
from zflipon.report.bundle import bundle

SEQUENCES = {name: dna(length, length) for name, length in LENGTHS.items()}
SEQUENCES["chr1"] = SEQUENCES["chr1"][:100] + "CG" * 20 + SEQUENCES["chr1"][140:]

GTF = """\
1\tx\ttranscript\t301\t6000\t.\t+\t.\tgene_id "G1"; transcript_id "T1"; gene_name "ONE"; gene_type "coding";
1\tx\texon\t301\t400\t.\t+\t.\tgene_id "G1"; transcript_id "T1"; gene_name "ONE"; gene_type "coding";
1\tx\texon\t5050\t6000\t.\t+\t.\tgene_id "G1"; transcript_id "T1"; gene_name "ONE"; gene_type "coding";
1\tx\tCDS\t5100\t5200\t.\t+\t.\tgene_id "G1"; transcript_id "T1"; gene_name "ONE"; gene_type "coding";
chr10\tx\texon\t100\t2005\t.\t-\t.\tgene_id "<G2>"; transcript_id "T2";
scaffold\tx\texon\t100\t200\t.\t-\t.\tgene_id "G3"; transcript_id "T3";
"""


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """Return a folder with tracks, a genome, an annotation, and their bundle in ``hub``."""
    folder = tmp_path_factory.mktemp("annotated")
    genome = make_fasta(folder, SEQUENCES)
    (folder / "genes.gtf").write_text(GTF)
    tracks = write_run(folder, model={"name": "m"})
    bundle(tracks, folder / "hub", genome, "hg38", gtf=folder / "genes.gtf")
    return folder


def read_table(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_the_table_of_calls_agrees_with_find_genes(annotated):
    expected = zflipon.find_genes(
        annotated / "z.bed", annotated / "genes.gtf", genome=annotated / "genome.fa"
    )
    calls = pd.read_csv(annotated / "hub" / "z.calls.tsv", sep="\t", keep_default_na=False)
    assert len(calls) == 5
    for column in ("contig", "start", "end", "class", "sequence", "feature", "gene", "gene_id", "strand"):
        assert calls[column].tolist() == expected.calls[column].tolist(), column
    distances = [int(text) if text != "" else None for text in calls["tss_distance"].astype(str)]
    assert distances == [None if pd.isna(each) else each for each in expected.calls["tss_distance"]]
    assert calls["gene"].tolist() == ["ONE", "ONE", "", "<G2>", "<G2>"]
    features = read_table(annotated / "hub" / "z.features.tsv")
    assert [row["feature"] for row in features] == expected.enrichment["feature"].tolist()
    for column in ("observed", "expected", "fold_low", "p"):
        values = [float(row[column]) if row[column] else None for row in features]
        known = [None if pd.isna(value) else value for value in expected.enrichment[column]]
        assert values == pytest.approx(known, rel=1e-5), column
    genes = read_table(annotated / "hub" / "z.genes.tsv")
    assert [row["gene_id"] for row in genes] == expected.genes["gene_id"].tolist()


def test_the_page_shows_genes_classes_and_zhunt(annotated):
    page = read_page(annotated / "hub")
    columns, *rows = page.tables["longest-1"]
    calls = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    assert calls["chr1:101-140"]["class"] == "(CG)n"
    assert calls["chr1:101-140"]["sequence"] == "CG" * 20
    assert calls["chr1:101-140"]["gene"] == "ONE"
    assert calls["chr1:101-140"]["from TSS (bp)"] == "-161"
    assert calls["chr1:101-140"]["feature"] == "promoter"
    assert calls["chr1:5,001-5,100"]["sequence"] == f"{SEQUENCES['chr1'][5000:5040]}…"
    assert calls["chr2:51-70"]["gene"] == "–"
    assert page.tables["sequence-1"][1][:3] == ["(CG)n", "1", "20.0%"]
    assert page.tables["features-1"][1][:3] == ["promoter", "3", "60.0%"]
    assert [row[:2] for row in page.tables["genes-1"][1:]] == [["<G2>", "–"], ["ONE", "coding"]]
    assert page.tables["zhunt-1"][1][1] == "5"
    assert "genes-figure-1" in page.figures
    assert not page.external


def test_files_of_the_tables_have_links(annotated):
    links = read_page(annotated / "hub").links
    names = ("calls", "contigs", "genes", "features", "kmers")
    assert {f"z.{name}.tsv" for name in names} <= set(links)
    contigs = read_table(annotated / "hub" / "z.contigs.tsv")
    assert [(row["contig"], row["bases"], row["calls"]) for row in contigs] == [
        ("chr1", "8500", "2"), ("chr2", "5500", "1"), ("chr10", "2500", "2"),
    ]  # fmt: skip
    assert float(contigs[0]["calls_per_mb"]) == pytest.approx(2 / 8500 * 1e6, rel=1e-5)


def test_the_gene_track_is_a_bigbed_of_exons(annotated):
    with pyBigWig.open(str(annotated / "hub" / "genes.bb")) as file:
        assert file.chroms("chr1") == LENGTHS["chr1"]
        ((start, end, rest),) = file.entries("chr1", 0, 9000)
        assert (start, end) == (300, 6000)
        assert rest.split("\t") == ["ONE", "0", "+", "5099", "5200", "0", "2", "100,951", "0,4749"]
        assert file.entries("chr10", 0, 3000)[0][2].startswith("<G2>\t0\t-\t99\t2005")
    track = stanzas((annotated / "hub" / "hub.txt").read_text())[-1]
    assert (track["bigDataUrl"], track["type"]) == ("genes.bb", "bigBed 12")
    assert "genes.bb" in (annotated / "hub" / "igv_session.xml").read_text()


def test_shuffled_calls_stay_in_the_regions_of_the_run(tmp_path):
    (tmp_path / "genes.gtf").write_text(GTF)
    tracks = write_run(tmp_path, regions=["chr1:4900-5800", "chr2:1-100", "chr10:1900-3000"])
    bundle(tracks, tmp_path / "hub", gtf=tmp_path / "genes.gtf")
    features = {row["feature"]: row for row in read_table(tmp_path / "hub" / "z.features.tsv")}
    assert float(features["promoter"]["expected"]) > 0.5  # of the gene on chr10, at 1,906 to 3,000
    with_genes = zflipon.find_genes(tracks[1], tmp_path / "genes.gtf").enrichment
    assert with_genes["expected"].tolist() == pytest.approx(
        [float(row["expected"]) for row in features.values()], rel=1e-5
    )
    assert float(features["intergenic"]["expected"]) == pytest.approx(1)  # chr2


def test_runs_are_compared_with_each_other(tmp_path):
    (tmp_path / "one.bed").write_text("chr1\t10\t20\nchr1\t100\t120\nchr2\t5\t9\n")
    (tmp_path / "two.bed").write_text("chr1\t119\t130\nchr1\t12\t13\nchr1\t15\t16\n")
    genome = make_fasta(tmp_path, SEQUENCES)
    bundle([tmp_path / "one.bed", tmp_path / "two.bed"], tmp_path / "hub", genome)
    assert read_page(tmp_path / "hub").tables["shared"][1:] == [
        ["one", "–", "66.7%"],
        ["two", "100.0%", "–"],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('chr1\tx\texon\t1\t99999\t.\t+\t.\tgene_id "G";\n', "same assembly"),
        ('chrQ\tx\texon\t1\t99\t.\t+\t.\tgene_id "G";\n', "no contig of the tracks"),
        ("chr1\tx\n", "expected GTF"),
        ("", "no genes"),
    ],
)
def test_an_annotation_that_does_not_fit_is_one_line(tmp_path, text, message):
    (tmp_path / "genes.gtf").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        bundle(write_run(tmp_path), tmp_path / "hub", gtf=tmp_path / "genes.gtf")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "hub").exists()


def test_regions_of_a_record_that_are_not_in_the_genome_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r"z\.bw: the regions in its record"):
        bundle(write_run(tmp_path, regions=["chr1:9-99999"]), tmp_path / "hub")
