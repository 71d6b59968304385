"""Every allele of a region: the scores of one-at-a-time runs, formats, resuming, look-ups, figures."""

import gzip
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pysam
import pytest
from conftest import dna, make_fasta

from zflipon.config import InferenceConfig, VariantConfig
from zflipon.errors import InputError, OutputError, Stopped, ZfliponError
from zflipon.genome.fasta import Genome
from zflipon.jobs.signals import StopRequest
from zflipon.workflows.variants import TABLE_COLUMNS, saturate, score_variants
from zflipon.workflows.variants.saturation import list_alleles, read_regions

REPEAT = "CG" * 10
CONTIGS = {
    "chr1": dna(500, 1) + REPEAT + dna(300, 2) + "N" * 60 + dna(220, 3) + "NNN" + "TG" * 12 + dna(120, 4),
    "chr2": dna(90, 5) + "CG" * 8,
}
SETTINGS = InferenceConfig(device="cpu", threads=1, precision="float32")
ALONE = replace(SETTINGS, batch_size=1)  # a wide context reads the padding behind short windows
NUMBERS = ("gain", "loss", "sum", "ref_max", "alt_max")


@pytest.fixture(scope="module")
def wide(tokenizer, tmp_path_factory):
    """Return the folder of a checkpoint with a wide context and random weights, in windows of 512 bases."""
    import torch

    from zflipon.models import Calibration, create, save

    torch.manual_seed(5)
    context = {"widths": [8, 12, 16], "dilations": [1, 2], "blocks": [1, 1, 2]}
    head = {"channels": 8, "kernel": 5, "dilations": [1, 2], "dropout": 0.0, "wide_context": context}
    shape = {"hidden_size": 8, "num_hidden_layers": 0, "num_attention_heads": 1, "intermediate_size": 8}
    made = create("compact", "base", tokenizer, initializer_range=0.5, base_head=head, **shape)
    changes = {"window": 512, "margin": 64, "threshold": 0.3, "calibration": Calibration(1.0, 4.0)}
    folder = tmp_path_factory.mktemp("wide") / "wide"
    save(replace(made, metadata=replace(made.metadata, **changes)), folder)
    return str(folder)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    return make_fasta(tmp_path_factory.mktemp("genome"), CONTIGS)


def read_rows(path):
    content = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    lines = [line.split("\t") for line in content.splitlines() if not line.startswith("#")]
    assert tuple(lines[0]) == TABLE_COLUMNS
    return [dict(zip(TABLE_COLUMNS, line, strict=True)) for line in lines[1:]]


def write_vcf(path, rows):
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines += [f"{row['contig']}\t{row['pos']}\t.\t{row['ref']}\t{row['alt']}\t.\t.\t." for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def assert_equal_scores(found, expected):
    """Texts are equal but for rounding: the last decimal of numbers, and the base of equal changes."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert [one[name] for name in TABLE_COLUMNS[:5]] == [other[name] for name in TABLE_COLUMNS[:5]]
        for name in NUMBERS:
            # the rounding errors of a network with random weights add up over a few hundred bases
            tolerance = 0.01 if name == "sum" else 3.1e-4
            assert float(one[name]) == pytest.approx(float(other[name]), abs=tolerance), (name, one, other)
    same = [
        one["ref_calls"] == other["ref_calls"] and one["at"] == other["at"]
        for one, other in zip(found, expected, strict=True)
    ]
    assert np.mean(same) > 0.99


@pytest.mark.parametrize("both", [False, True])
def test_scores_are_those_of_one_allele_at_a_time(wide, genome, tmp_path, both):
    settings = replace(ALONE, both_strands=both)
    # a repeat, a border of a gap, a run of N, both ends of a contig
    regions = ["chr1:501-504", "chr1:819-820", "chr1:1099-1104", "chr2:1-2", "chr2:105-106"]
    saturate(regions, genome, tmp_path / "all.tsv.gz", wide, settings=settings)
    rows = read_rows(tmp_path / "all.tsv.gz")
    vcf = write_vcf(tmp_path / "all.vcf", rows)
    score_variants(vcf, genome, tmp_path / "one.tsv", wide, settings=settings)
    assert_equal_scores(rows, read_rows(tmp_path / "one.tsv"))
    assert any(abs(float(row["sum"])) > 0.05 for row in rows)


@pytest.mark.parametrize("name", ["zhunt", "wide", "tiny"])
def test_insertions_and_deletions_are_those_of_one_allele_at_a_time(
    wide, tiny_checkpoint, genome, tmp_path, name
):
    model = {"zhunt": "zhunt", "wide": wide, "tiny": str(tiny_checkpoint)}[name]
    config = VariantConfig(shifts=2) if name != "zhunt" else None
    regions = ["chr1:518-519", "chr1:1099-1101", "chr2:1-1"]
    saturate(regions, genome, tmp_path / "all.tsv.gz", model, config, ALONE, indels=True)
    rows = read_rows(tmp_path / "all.tsv.gz")
    assert any(len(row["ref"]) == 2 for row in rows)
    vcf = write_vcf(tmp_path / "all.vcf", rows)
    score_variants(vcf, genome, tmp_path / "one.tsv", model, config, ALONE)
    assert_equal_scores(rows, read_rows(tmp_path / "one.tsv"))


def test_all_alleles_are_listed_once(genome):
    text = CONTIGS["chr1"]
    with Genome(genome) as opened:
        alleles = list_alleles(opened, "chr1", 480, 560, indels=True)
        assert not list_alleles(opened, "chr1", 825, 835, indels=True)  # N
    results = [text[400:at] + alt + text[at + len(ref) : 700] for at, ref, alt in alleles]
    assert len(set(results)) == len(results)
    assert alleles == sorted(alleles, key=lambda allele: allele[0])
    expected = {text[400:at] + letter + text[at + 1 : 700] for at in range(480, 560) for letter in "ACGT"}
    expected |= {text[400:at] + letter + text[at:700] for at in range(481, 561) for letter in "ACGT"}
    expected |= {text[400:at] + text[at + 1 : 700] for at in range(481, 561)}
    # of equal alleles the leftmost is listed, which may lie before the region
    assert set(results) <= expected
    assert len(expected - set(results) - {text[400:700]}) <= 2


@pytest.mark.parametrize("name", ["all.tsv.gz", "all.vcf.gz", "all.parquet"])
def test_alleles_are_looked_up(genome, tmp_path, name, monkeypatch):
    saturate(["chr1:511-520"], genome, tmp_path / name, "zhunt", settings=SETTINGS)
    text = CONTIGS["chr1"]
    rows = [
        {"contig": "chr1", "pos": 512, "ref": text[511], "alt": "A"},
        {"contig": "chr1", "pos": 512, "ref": text[511], "alt": "T"},
        {"contig": "chr1", "pos": 515, "ref": "N", "alt": "A"},
        {"contig": "chr2", "pos": 95, "ref": "C", "alt": "A"},
    ]
    vcf = write_vcf(tmp_path / "in.vcf", rows)
    score_variants(vcf, genome, tmp_path / "computed.tsv", "zhunt", settings=SETTINGS)
    computed = []
    import zflipon.workflows.variants.run as run

    score = run.score_one_by_one
    monkeypatch.setattr(run, "score_one_by_one", lambda *given: computed.extend(given[1]) or score(*given))
    counts = score_variants(
        vcf, genome, tmp_path / "found.tsv", "zhunt", settings=SETTINGS, table=tmp_path / name
    )
    assert [allele[1] for allele in computed] == [514, 94]
    assert counts["alleles"] == 3
    assert read_rows(tmp_path / "found.tsv") == read_rows(tmp_path / "computed.tsv")


def test_a_table_of_a_genome_with_other_contig_names_is_used(genome, tmp_path, monkeypatch):
    table = tmp_path / "all.tsv.gz"
    saturate(["chr1:511-520"], genome, table, "zhunt", settings=SETTINGS)
    renamed = make_fasta(tmp_path / "renamed.fa", {"scaffold_7": CONTIGS["chr1"], "chr2": CONTIGS["chr2"]})
    row = {"contig": "ctgA", "pos": 512, "ref": CONTIGS["chr1"][511], "alt": "A"}
    vcf = write_vcf(tmp_path / "in.vcf", [row])
    (tmp_path / "aliases.txt").write_text("scaffold_7\tctgA\n")
    monkeypatch.setattr("zflipon.workflows.variants.run.score_one_by_one", lambda *_: pytest.fail("computed"))
    given = {"settings": SETTINGS, "table": table, "contig_aliases": tmp_path / "aliases.txt"}
    assert score_variants(vcf, renamed, tmp_path / "found.tsv", "zhunt", **given)["alleles"] == 1
    (expected,) = [row for row in read_rows(table) if row["pos"] == "512" and row["alt"] == "A"]
    assert read_rows(tmp_path / "found.tsv")[0] == {**expected, "contig": "ctgA"}


def test_a_table_of_another_run_is_refused_in_one_line(wide, genome, tmp_path):
    table = tmp_path / "all.tsv.gz"
    saturate(["chr1:511-512"], genome, table, "zhunt", settings=SETTINGS)
    vcf = write_vcf(tmp_path / "in.vcf", [{"contig": "chr1", "pos": 512, "ref": "G", "alt": "A"}])
    other = make_fasta(tmp_path / "other.fa", {**CONTIGS, "chr1": CONTIGS["chr1"][:-1]})
    plain = tmp_path / "plain.tsv.gz"
    plain.write_bytes(b"hello")
    cases = [
        ({"model": wide}, "another run: it differs in"),
        ({"genome_path": other}, "another genome: the sequence of chr1 differs"),
        ({"config": VariantConfig(flank=10)}, r"differs in flank \(1499, here 10\)"),
        ({"table": tmp_path / "absent.tsv.gz"}, "no such file"),
        ({"table": vcf}, "expected a table that ends in"),
        ({"table": plain}, "cannot be read as an indexed table"),
    ]
    for changes, message in cases:
        given = {"genome_path": genome, "model": "zhunt", "table": table, "settings": SETTINGS, **changes}
        with pytest.raises(InputError, match=message) as caught:
            score_variants(vcf, output=tmp_path / "out.tsv", **given)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out*"))


def test_a_stopped_run_resumes_with_the_same_bytes(genome, tmp_path):
    given = {"settings": SETTINGS, "batch_positions": 4}
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    saturate(["chr1:505-520"], genome, tmp_path / "whole" / "z.tsv.gz", "zhunt", **given)
    stop, output = StopRequest(), tmp_path / "halves" / "z.tsv.gz"

    def stop_after_two(done, _total):
        reported.append(done)
        if sum(reported) >= 24:
            stop.signal_number = 15

    reported = []
    with pytest.raises(Stopped, match="2 of 4 shards are saved"):
        saturate(["chr1:505-520"], genome, output, "zhunt", **given, progress=stop_after_two, stop=stop)
    with pytest.raises(ZfliponError, match="differs in indels"):
        saturate(["chr1:505-520"], genome, output, "zhunt", **given, indels=True)
    saturate(["chr1:505-520"], genome, output, "zhunt", **given)
    assert output.read_bytes() == (tmp_path / "whole" / "z.tsv.gz").read_bytes()
    assert not output.with_name("z.tsv.gz.unfinished").exists()


def test_a_killed_run_resumes_with_the_same_bytes(genome, tmp_path):
    output, whole = tmp_path / "z.tsv.gz", tmp_path / "whole.tsv.gz"
    given = {"settings": SETTINGS, "batch_positions": 4}
    script = f"""
import os
from zflipon.config import InferenceConfig
from zflipon.workflows.variants import saturate
done = []
def die(records, total):
    done.append(records)
    if sum(done) >= 24:
        os._exit(9)
settings = {SETTINGS!r}
saturate(
    ["chr1:505-520"], {str(genome)!r}, {str(output)!r}, "zhunt", settings=settings, batch_positions=4, progress=die
)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert len(list(tmp_path.glob("z.tsv.gz.unfinished/*.shard"))) >= 1
    assert not output.exists()
    saturate(["chr1:505-520"], genome, output, "zhunt", **given)
    saturate(["chr1:505-520"], genome, whole, "zhunt", **given)
    assert output.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))


def test_tables_have_an_index_and_vcf_validates(genome, tmp_path):
    for name in ("z.tsv.gz", "z.vcf.gz", "z.parquet"):
        saturate(["chr1:511-514", "chr2:92-93"], genome, tmp_path / name, "zhunt", settings=SETTINGS)
    with pysam.TabixFile(str(tmp_path / "z.tsv.gz")) as file:
        rows = [line.split("\t") for line in file.fetch("chr1", 511, 512)]
    assert [row[1] for row in rows] == ["512"] * 3
    with pysam.VariantFile(str(tmp_path / "z.vcf.gz")) as file:
        records = list(file.fetch("chr1", 511, 512))
    assert [record.alts[0] for record in records] == [row[4] for row in rows]
    assert records[0].info["ZF_LOSS"][0] == pytest.approx(float(rows[0][6]), abs=1e-4)
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "z.parquet", filters=[("contig", "=", "chr1"), ("pos", "=", 512)])
    assert table.column("alt").to_pylist() == [row[4] for row in rows]
    assert table.column("at").to_pylist() == [int(row[8]) for row in rows]


def test_regions_are_merged_and_checked(genome, tmp_path):
    with Genome(genome) as opened:
        bed = tmp_path / "r.bed"
        bed.write_text("chr2\t3\t9\nchr1\t0\t5\n")
        merged = read_regions([str(bed), "chr1:3-8"], opened.lengths)
        assert {contig: rows.tolist() for contig, rows in merged.items()} == {
            "chr1": [[0, 8]],
            "chr2": [[3, 9]],
        }
        for regions, message in (
            (["chr3:1-5"], "no such contig"),
            (["chr2:1-500"], "expected 1 ≤ start ≤ end"),
            ([str(tmp_path / "absent.bed")], "absent.bed"),
        ):
            with pytest.raises(InputError, match=message):
                read_regions(regions, opened.lengths)


def test_a_figure_of_each_region(genome, tmp_path):
    pytest.importorskip("matplotlib")
    regions = ["chr1:511-520", "chr2:92-95"]
    saturate(
        regions,
        genome,
        tmp_path / "z.tsv.gz",
        "zhunt",
        settings=SETTINGS,
        indels=True,
        figure=tmp_path / "z.png",
    )
    assert (tmp_path / "z.chr1_511-520.png").stat().st_size > 1000
    assert (tmp_path / "z.chr2_92-95.png").stat().st_size > 1000
    with pytest.raises(OutputError, match="exists already"):
        saturate(
            regions, genome, tmp_path / "y.tsv.gz", "zhunt", settings=SETTINGS, figure=tmp_path / "z.png"
        )
    long = make_fasta(tmp_path / "long.fa", {"chr1": "A" * 6000})
    with pytest.raises(InputError, match="too many for a figure"):
        saturate(["chr1"], long, tmp_path / "x.tsv.gz", "zhunt", settings=SETTINGS, figure=tmp_path / "x.png")
    assert not list(tmp_path.glob("[xy].*"))
