"""Features, nearest TSS and tables of genes, compared with loops over bases; files of other assemblies are refused."""

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta
from workflows.genes.gene_files import (
    base_features,
    random_calls,
    random_genes,
    tss_of,
    write_bed,
    write_gtf,
)

import zflipon
from zflipon.cli import cli
from zflipon.config import GeneConfig
from zflipon.errors import InputError
from zflipon.tracks.bigbed import write_calls
from zflipon.tracks.bigwig_writer import write_bigwig_values
from zflipon.workflows.genes.calls import read_call_set
from zflipon.workflows.genes.features import FEATURES

CONFIG = GeneConfig(upstream=50, downstream=20, shuffles=2)


def describe(tmp_path, genes, calls, **options):
    gtf = write_gtf(tmp_path / "genes.gtf", genes)
    return zflipon.find_genes(write_bed(tmp_path / "calls.bed", calls), gtf, config=CONFIG, **options)


@pytest.mark.parametrize("seed", range(2))
def test_features_agree_with_a_loop_over_bases(tmp_path, seed):
    genes, calls = random_genes(seed), random_calls(seed)
    bases = base_features(genes, CONFIG.upstream, CONFIG.downstream)
    report = describe(tmp_path, genes, calls)
    for row in report.calls.itertuples():
        touched = set().union(*bases[row.contig][row.start : row.end])
        assert row.feature == next((name for name in FEATURES if name in touched), "intergenic")
        assert (row.feature_gene == "") == (row.feature == "intergenic")
    assert report.calls["feature"].nunique() == len(FEATURES)


def test_the_nearest_tss_agrees_with_a_loop_over_transcripts(tmp_path):
    genes, calls = random_genes(5), random_calls(5)
    report = describe(tmp_path, genes, calls)
    by_id = {gene["id"]: gene for gene in genes}
    for row in report.calls.itertuples():
        distances = {}
        for gene in genes:
            for transcript in gene["transcripts"]:
                if gene["contig"] == row.contig:
                    tss = tss_of(gene, transcript)
                    nearest = min(range(row.start, row.end), key=lambda base, tss=tss: abs(base - tss))
                    signed = nearest - tss if gene["strand"] == "+" else tss - nearest
                    distances.setdefault(gene["id"], []).append(signed)
        shortest = min(abs(each) for found in distances.values() for each in found)
        assert abs(row.tss_distance) == shortest
        assert row.tss_distance in distances[row.gene_id]
        assert row.strand == by_id[row.gene_id]["strand"]
        assert row.gene == "N" + row.gene_id


def test_the_table_of_genes_counts_calls_in_promoters_and_bodies(tmp_path):
    genes = [
        {"contig": "chr1", "strand": "+", "id": "A", "transcripts": [([(100, 200), (300, 400)], None)]},
        {"contig": "chr1", "strand": "-", "id": "B", "transcripts": [([(1000, 1100)], None)]},
        {"contig": "chr2", "strand": "-", "id": "C", "transcripts": [([(500, 600)], None)]},
    ]
    calls = [
        ("chr1", 60, 70, "Z1", 600), ("chr1", 110, 115, "Z2", 900), ("chr1", 250, 260, "Z3", 800),
        ("chr1", 1090, 1120, "Z4", 950), ("chr2", 10, 20, "Z5", 990),
    ]  # fmt: skip
    table = describe(tmp_path, genes, calls).genes
    columns = ["gene_id", "calls", "promoter_calls", "body_calls", "best_score", "best_call"]
    assert table[columns].to_numpy().tolist() == [
        ["B", 1, 1, 1, 0.95, "chr1:1090-1120"],
        ["A", 3, 2, 2, 0.9, "chr1:110-115"],
    ]


def test_names_without_chr_are_translated(tmp_path, caplog):
    genes, calls = random_genes(2), random_calls(2)
    expected = describe(tmp_path, genes, calls)
    for gene in genes:
        gene["contig"] = gene["contig"].removeprefix("chr")
    with caplog.at_level("INFO", logger="zflipon"):
        translated = describe(tmp_path, genes, calls)
    assert translated.calls.equals(expected.calls)
    assert "2 contig names translated (" in caplog.text


def test_accession_numbers_are_translated_without_known_lengths(tmp_path):
    (tmp_path / "genes.gff").write_text(
        "NC_000022.11\tRefSeq\tgene\t1001\t1900\t.\t+\t.\tID=gene-ONE;Name=ONE\n"
    )
    calls = write_bed(tmp_path / "calls.bed", [("chr22", 1500, 1520)])
    assert zflipon.find_genes(calls, tmp_path / "genes.gff").calls["feature_gene"].tolist() == ["ONE"]


def test_sequence_and_repeats_are_added(tmp_path):
    sequence = dna(1000, 1) + "CG" * 10 + dna(480, 2) + "NNNN" + dna(1496, 3)
    genome = make_fasta(tmp_path, {"chr1": sequence, "chr2": dna(2000, 4)})
    repeats = write_bed(
        tmp_path / "rmsk.bed",
        [("1", 990, 1003, "AluY"), ("1", 1004, 1200, "(CG)n"), ("2", 0, 5, "L1"), ("scaffold", 0, 9, "L2")],
    )
    calls = [("chr1", 1000, 1020), ("chr1", 1498, 1506), ("chr2", 100, 110)]
    table = describe(tmp_path, random_genes(1), calls, genome=genome, repeats=repeats).calls
    assert table["repeat"].tolist() == ["(CG)n", "", ""]
    assert table["repeat_bases"].tolist() == [16, 0, 0]
    assert table["sequence"].tolist() == [sequence[1000:1020], sequence[1498:1506], dna(2000, 4)[100:110]]
    assert table["class"][0] == "(CG)n"
    assert table["gc"][0] == 1
    known = sequence[1498:1500] + sequence[1504:1506]
    assert table["gc"][1] == pytest.approx(sum(map(known.count, "GC")) / 4)


# ---- files that do not fit --------------------------------------------------------------------------------


def refused(tmp_path, genes, calls, match, **options):
    with pytest.raises(InputError, match=match):
        describe(tmp_path, genes, calls, **options)


def test_an_annotation_without_a_contig_of_the_calls_is_refused(tmp_path):
    refused(
        tmp_path, random_genes(1), [("scaffold_7", 1, 20)], r"genes.gtf: no contig of the calls.*scaffold_7"
    )


def test_a_gene_beyond_the_end_of_a_contig_is_refused(tmp_path):
    genome = make_fasta(tmp_path, {"chr1": dna(600), "chr2": dna(500)})
    refused(tmp_path, random_genes(1), [("chr1", 1, 20)], "same assembly", genome=genome)


def test_a_call_beyond_the_end_that_a_gff3_states_is_refused(tmp_path):
    gff = tmp_path / "genes.gff3"
    gff.write_text(
        "##gff-version 3\n##sequence-region chr1 1 900\nchr1\tx\tgene\t11\t90\t.\t+\t.\tID=gene:G1;Name=ONE\n"
    )
    calls = write_bed(tmp_path / "calls.bed", [("chr1", 895, 905)])
    with pytest.raises(InputError, match=r"calls.bed: reaches base 905 of chr1, which has 900 bases"):
        zflipon.find_genes(calls, gff)


def test_calls_of_an_unknown_format_or_without_rows_are_refused(tmp_path):
    gtf = write_gtf(tmp_path / "genes.gtf", random_genes(1))
    (tmp_path / "calls.csv").write_text("chr1,1,2\n")
    with pytest.raises(InputError, match="unknown format of calls"):
        zflipon.find_genes(tmp_path / "calls.csv", gtf)
    (tmp_path / "calls.bed").write_text("# nothing\n")
    with pytest.raises(InputError, match="no calls"):
        zflipon.find_genes(tmp_path / "calls.bed", gtf)


def test_contigs_without_genes_are_reported(tmp_path, caplog):
    describe(tmp_path, random_genes(1), [("chr1", 5, 20), ("chrUn", 5, 20)])
    assert "no genes on 1 contig (chrUn); 1 call is there intergenic" in caplog.text


# ---- command line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["tsv", "tsv.gz", "parquet", "xlsx"])
def test_tables_in_all_formats_hold_the_same(tmp_path, extension):
    pd = pytest.importorskip("pandas")
    genes = [
        *random_genes(1),
        {"contig": "chr1", "strand": "+", "id": "=1+1", "transcripts": [([(5, 50)], None)]},
    ]
    gtf = write_gtf(tmp_path / "genes.gtf", genes)
    bed = write_bed(tmp_path / "calls.bed", [(*row, "Z", 500) for row in random_calls(1, 30)])
    output = tmp_path / f"t.{extension}"
    command = ["genes", str(bed), "--gtf", str(gtf), "-o", str(output), "--shuffles", "2", "-q"]
    assert CliRunner().invoke(cli, command).exit_code == 0
    read = {
        "tsv": lambda path: pd.read_csv(path, sep="\t", comment="#"),
        "tsv.gz": lambda path: pd.read_csv(path, sep="\t", comment="#"),
        "parquet": pd.read_parquet,
        "xlsx": pd.read_excel,
    }[extension]
    table = read(output)
    expected = zflipon.find_genes(bed, gtf, config=GeneConfig(shuffles=2)).calls
    assert list(table.columns) == list(expected.columns)
    assert table["gene_id"].tolist() == expected["gene_id"].tolist()
    assert table["tss_distance"].tolist() == expected["tss_distance"].tolist()
    again = CliRunner().invoke(cli, command)
    assert isinstance(again.exception, Exception)
    assert "exists already" in str(again.exception)


def test_one_of_gtf_and_regions_is_needed(tmp_path):
    bed = write_bed(tmp_path / "calls.bed", [("chr1", 1, 20)])
    result = CliRunner().invoke(cli, ["genes", str(bed), "-o", str(tmp_path / "t.tsv")])
    assert result.exit_code == 2
    assert "--gtf FILE" in result.output


def test_the_figure_is_drawn(tmp_path):
    gtf = write_gtf(tmp_path / "genes.gtf", random_genes(1))
    bed = write_bed(tmp_path / "calls.bed", random_calls(1, 30))
    figure, table = tmp_path / "f.svg", tmp_path / "t.tsv"
    command = [
        "genes",
        str(bed),
        "--gtf",
        str(gtf),
        "-o",
        str(table),
        "--plot",
        str(figure),
        "--shuffles",
        "2",
    ]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split()[:2] == ["feature", "calls"]
    assert figure.read_text().startswith("<?xml")


# ---- contig aliases ---------------------------------------------------------------------------------------


def test_aliases_name_the_contigs_of_every_file(tmp_path):
    genes, calls = random_genes(2), random_calls(2)
    expected = describe(tmp_path, genes, calls)
    aliases = tmp_path / "aliases.txt"
    aliases.write_text("scaffold_7\tchr1\tctgA\nscaffold_9\tchr2\tctgB\n")
    own, others = {"chr1": "scaffold_7", "chr2": "scaffold_9"}, {"chr1": "ctgA", "chr2": "ctgB"}
    for gene in genes:
        gene["contig"] = own[gene["contig"]]
    repeats = write_bed(tmp_path / "rmsk.bed", [(others[name], 0, 3000, "L1") for name in others])
    found = describe(tmp_path, genes, calls, contig_aliases=aliases, repeats=repeats)
    assert found.calls[list(expected.calls)].equals(expected.calls)
    assert set(found.calls["repeat"]) == {"L1"}
    regions = write_bed(tmp_path / "regions.bed", [("ctgA", 0, 3000)])
    table = zflipon.summarize_regions(tmp_path / "calls.bed", regions, contig_aliases=aliases)
    assert table["calls"].tolist() == [sum(call[0] == "chr1" for call in calls)]
    refused(tmp_path, genes, calls, "--contig-aliases")


def test_tracks_are_read_by_the_names_of_the_genome(tmp_path):
    values = np.zeros(2000)
    values[100:130], values[500:520] = 0.9, 0.8
    write_bigwig_values(tmp_path / "z.bw", {"chr1": 2000}, {"chr1": [(0, values)]})
    genome = make_fasta(tmp_path, {"1": dna(2000, 1)})
    gtf = tmp_path / "genes.gtf"
    gtf.write_text('NC_1\tx\texon\t90\t140\t.\t+\t.\tgene_id "G";\n')
    aliases = tmp_path / "aliases.txt"
    aliases.write_text("1\tNC_1\n")
    call_set = read_call_set(tmp_path / "z.bw", {"1": 2000}, 0.5)
    calls = {"1": call_set.table[["start", "end", "mean", "max"]].to_records(index=False)}
    write_calls(tmp_path / "z.bb", {"chr1": 2000}, {"chr1": calls["1"]}, True)
    for name in ("z.bw", "z.bb"):
        report = zflipon.find_genes(
            tmp_path / name, gtf, genome=genome, config=GeneConfig(shuffles=2, threshold=0.5),
            contig_aliases=aliases,
        )  # fmt: skip
        assert report.calls[["contig", "start", "end", "feature_gene"]].to_numpy().tolist() == [
            ["1", 100, 130, "G"], ["1", 500, 520, ""],
        ]  # fmt: skip
