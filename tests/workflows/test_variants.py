"""Scores of alleles: known answers, coordinates, reasons, formats."""

from pathlib import Path

import numpy as np
import pysam
import pytest
from conftest import dna, make_fasta

from zflipon.config import CallConfig, VariantConfig
from zflipon.errors import InputError, OutputError, ZfliponError
from zflipon.genome.fasta import Genome
from zflipon.inference.predictor import Predictor
from zflipon.workflows.variants import (
    FIELDS,
    AlleleBatch,
    Geometry,
    insertion_point,
    score_alleles,
    score_variants,
)

QUIET = dna(
    3000, 1, "AGG"
)  # purines alone do not form Z-DNA; their G gives the context that the model expects
REPEAT = "CG" * 12
GENOME = {
    "chr1": QUIET + REPEAT + QUIET,
    "chr2": QUIET + REPEAT[:11] + "C" + REPEAT[12:] + QUIET,
    "chr3": dna(700, 5),
}
EXAMPLES = Path(__file__).parents[2] / "examples"
AT = len(QUIET) + 1  # 1-based, of the repeat's first base


def alternation(sequences):
    """The share of the 12 bases around each that are C or G: slow and deterministic."""
    found = []
    for text in sequences:
        strong = np.array([letter in "CG" for letter in text], dtype=float)
        found.append(np.convolve(strong, np.ones(13) / 13, mode="same").astype(np.float32))
    return found


@pytest.fixture
def stub(monkeypatch):
    """Put the slow predictor in the model's place; windows read are counted."""
    counted = []

    def read(_predictor, sequences, _features, _cores, advance):
        advance(len(sequences))
        counted.append(len(sequences))
        return alternation(sequences)

    monkeypatch.setattr(Predictor, "predict_probabilities", read)
    return counted


@pytest.fixture
def genome(tmp_path):
    return make_fasta(tmp_path, GENOME)


def write_vcf(path, rows, contigs=GENOME, header=()):
    lines = ["##fileformat=VCFv4.2", *header, '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">']
    lines += [f"##contig=<ID={name},length={len(text)}>" for name, text in contigs.items()]
    lines += ["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines += [
        "\t".join([contig, str(at), ".", ref, alt, ".", "PASS", "DP=7"]) for contig, at, ref, alt in rows
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def run(tmp_path, genome, rows, name="out.vcf.gz", model="compact", config=None, **more):
    path = write_vcf(tmp_path / "in.vcf", rows, **more)
    counts = score_variants(path, genome, tmp_path / name, model, config)
    return counts, list(pysam.VariantFile(str(tmp_path / name)))


@pytest.mark.parametrize("pairs", [5, 12])
def test_breaking_a_repeat_loses_mending_it_gains_and_distant_variants_do_nothing(tmp_path, pairs):
    """With the bundled model: each half of (CG)5 is too short for Z-DNA, each half of (CG)12 is not."""
    # the context of a called repeat of the demo genome, with A that cannot form Z-DNA next to the repeat
    demo = (EXAMPLES / "demo.fa").read_text().split(">")[1].split("\n", 1)[1].replace("\n", "").upper()
    before, after = demo[10_291:14_391] + "A" * 10, "A" * 10 + demo[14_411:18_511]
    whole, middle, at, far = "CG" * pairs, pairs - 1, len(before) + 1, len(before) - 2999
    broken = whole[:middle] + "A" + whole[middle + 1 :]
    contigs = {"chr1": before + whole + after, "chr2": before + broken + after}
    base = before[far - 1]
    rows = [
        ("chr1", far, base, "T" if base == "A" else "A"),
        ("chr1", at + middle, whole[middle], "A"),
        ("chr2", at + middle, "A", whole[middle]),
    ]
    path = write_vcf(tmp_path / "in.vcf", rows, contigs=contigs)
    genome, out = make_fasta(tmp_path, contigs), tmp_path / "out.vcf.gz"
    score_variants(path, genome, out, "compact")
    records = list(pysam.VariantFile(str(out)))
    away, breaks, mends = ({name: record.info[name][0] for name in [*FIELDS][:7]} for record in records)
    if pairs == 5:
        assert breaks["ZF_LOSS"] < -0.2
        assert -breaks["ZF_LOSS"] > 2 * breaks["ZF_GAIN"]
        assert at - 10 <= breaks["ZF_POS"] <= at + 2 * pairs + 10
        assert breaks["ZF_SUM"] < -1
    else:
        assert max(breaks["ZF_GAIN"], -breaks["ZF_LOSS"]) < 0.1
        assert breaks["ZF_ALT"] > 0.3
    assert mends["ZF_GAIN"] == pytest.approx(-breaks["ZF_LOSS"], abs=1e-3)
    assert mends["ZF_SUM"] == pytest.approx(-breaks["ZF_SUM"], abs=1e-2)
    assert max(away["ZF_GAIN"], -away["ZF_LOSS"]) < 0.02


def test_an_allele_equal_to_the_reference_changes_nothing(tmp_path, genome, stub):
    _, (record,) = run(tmp_path, genome, [("chr1", AT, "C", "C")])
    assert record.info["ZF_GAIN"] == record.info["ZF_LOSS"] == record.info["ZF_SUM"] == (0,)
    assert record.info["ZF_POS"] == (AT,)


def align_slowly(text, start, ref, alt, low, high):
    """Return (position, before, after) for each column of the alignment, from the whole contigs."""
    other = text[:start] + alt + text[start + len(ref) :]
    before, after = alternation([text, other])
    columns = [(at, before[at], after[at]) for at in range(low, start)]
    head = 0
    while head < min(len(ref), len(alt)) and ref[head] == alt[head]:
        head += 1
    tail = 0
    while tail < min(len(ref), len(alt)) - head and ref[-1 - tail] == alt[-1 - tail]:
        tail += 1
    both = min(len(ref), len(alt)) - tail
    columns += [(start + i, before[start + i], after[start + i]) for i in range(both)]
    columns += [(start + both - 1, 0, after[start + i]) for i in range(both, len(alt) - tail)]
    columns += [(start + i, before[start + i], 0) for i in range(both, len(ref) - tail)]
    grown = len(alt) - len(ref)
    columns += [(at, before[at], after[at + grown]) for at in range(start + len(ref) - tail, high)]
    return columns


@pytest.mark.parametrize("shifts", [1, 3])
@pytest.mark.parametrize(
    ("contig", "at", "ref", "alt"),
    [
        ("chr1", AT + 11, "G", "A"),
        ("chr1", AT + 2, "CGCG", "C"),
        ("chr1", AT + 2, "C", "CGGAACG"),
        ("chr1", AT + 2, "CGCGC", "CAT"),
        ("chr1", AT + 2, "CGC", "TTT"),
        ("chr1", AT + 2, "CGCG", "CTTACG"),
        ("chr3", 3, None, "AAAAACCCC"),
        ("chr3", 350, None, "ACCGGA"),
        ("chr3", 690, None, "TTGCA"),
        ("chr1", 5, None, "CGCGCG"),
        ("chr1", 6015, None, "CGCGCG"),
    ],
)
def test_coordinates_line_up(genome, contig, at, ref, alt, shifts):
    text = GENOME[contig]
    ref = ref or text[at - 1 : at + 3]
    with Genome(genome) as opened:
        batch = AlleleBatch(opened, Geometry.fit(512, 64, VariantConfig(shifts=shifts)))
        batch.add(contig, at - 1, ref, alt)
        (found,) = score_alleles(batch.pairs, alternation(batch.sequences), CallConfig(threshold=0.6))
        (pair,) = batch.pairs
    assert all(len(sequence) <= 512 for sequence in batch.sequences)
    assert pair.low <= at - 1
    assert pair.high >= at - 1 + len(ref)
    columns = align_slowly(text, at - 1, ref, alt, pair.low, pair.high)
    delta = np.array([after - before for _, before, after in columns])
    assert found["gain"] == pytest.approx(max(0, delta.max()), abs=1e-6)
    assert found["loss"] == pytest.approx(min(0, delta.min()), abs=1e-6)
    assert found["sum"] == pytest.approx(delta.sum(), abs=1e-5)
    extremes = [
        one[0] + 1 for one, size in zip(columns, delta, strict=True) if abs(size) > abs(delta).max() - 1e-4
    ]
    assert found["pos"] in extremes
    last = at - 1 + len(ref) - 1
    distance = {one: min(0, one - at) + max(0, one - 1 - last) for one in extremes}
    assert abs(found["distance"]) == min(map(abs, distance.values()))
    assert found["distance"] == distance[found["pos"]]
    near = [one for one in columns if at - 1 - 16 <= one[0] <= last + 16]
    assert found["ref"] == pytest.approx(max(before for _, before, _ in near), abs=1e-6)
    assert found["alt"] == pytest.approx(max(after for _, _, after in near), abs=1e-6)
    assert np.isnan(found["spread"]) if shifts == 1 else found["spread"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("ref", "alt", "expected"),
    [("A", "AT", 1), ("AT", "A", 1), ("A", "C", 1), ("CAT", "CT", 1), ("AC", "GTT", 2), ("AA", "A", 1)],
)
def test_insertion_point(ref, alt, expected):
    assert insertion_point(ref, alt) == expected


def test_every_allele_has_scores_or_a_reason(tmp_path, genome, stub):
    rows = [
        ("chr1", AT, "C", "A,*,<DEL>,G"),
        ("chr1", AT + 1, "A", "T"),
        ("chr1", AT + 2, "C", "N"),
        ("chr1", AT + 3, "G", "G" * 500),
        ("chr1", AT + 4, "C", "."),
        ("chr1", AT + 5, "G", "G[chr2:5["),
        ("chr1", 90000, "C", "A"),
        ("chrUn", 5, "C", "A"),
    ]
    config = VariantConfig(max_length=100)
    contigs = {**GENOME, "chrUn": "ACGTACGT"}
    counts, records = run(tmp_path, genome, rows, config=config, contigs=contigs)
    assert [record.pos for record in records] == [row[1] for row in rows]
    assert records[0].info["ZF_WHY"] == (".", "spanning_deletion", "symbolic", ".")
    assert [value is None for value in records[0].info["ZF_LOSS"]] == [False, True, True, False]
    assert [record.info.get("ZF_WHY", (None,))[0] for record in records[1:]] == [
        *("ref_mismatch", "not_acgt", "too_long", None, "symbolic", "off_contig", "off_contig")
    ]
    assert all("ZF_GAIN" not in record.info for record in records[1:])
    assert counts["alleles"] == 2
    assert counts["ref_mismatch"] == 1
    assert counts["written"] == len(rows)


def test_ten_thousand_records_stay_in_order(tmp_path, genome, stub):
    rows = []
    for at in range(1, 10_001):
        contig, place = ("chr1", at) if at <= 5000 else ("chr2", at - 5000)
        base = GENOME[contig][place - 1]
        rows.append((contig, place, base, "G" if base == "A" else "A"))
    _, records = run(tmp_path, genome, rows, header=["##kept=yes"])
    assert [(one.contig, one.pos, one.ref, one.alts[0]) for one in records] == rows
    assert sum(stub) < 10_000 * 1.1  # neighbours share the reference's windows
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        assert "##kept=yes" in str(file.header)
        assert set(FIELDS) < set(file.header.info)
        assert 'Version="' in str(file.header)
        assert file.header.info["ZF_GAIN"].number == "A"
        assert [one.pos for one in file.fetch("chr2", 99, 102)] == [100, 101, 102]
        assert all(one.info["DP"] == 7 for one in file.fetch("chr2", 99, 102))


@pytest.mark.parametrize("name", ["out.vcf", "out.bcf", "out.vcf.gz"])
def test_formats(tmp_path, genome, stub, name):
    _, (record,) = run(tmp_path, genome, [("chr1", AT + 4, "C", "A")], name)
    assert record.info["ZF_LOSS"][0] == pytest.approx(-1 / 13, abs=1e-4)
    made = {path.name for path in tmp_path.iterdir()} - {"in.vcf", "genome.fa", "genome.fa.fai"}
    index = {"out.bcf": {"out.bcf.csi"}, "out.vcf.gz": {"out.vcf.gz.tbi"}}
    assert made == {name, f"{name}.json"} | index.get(name, set())


def test_a_run_over_its_own_output_replaces_its_fields(tmp_path, genome, stub):
    run(tmp_path, genome, [("chr1", AT + 4, "C", "A,T")])
    score_variants(tmp_path / "out.vcf.gz", genome, tmp_path / "again.bcf", "compact")
    one, two = (next(iter(pysam.VariantFile(str(tmp_path / name)))) for name in ("out.vcf.gz", "again.bcf"))
    assert dict(one.info) == dict(two.info)


def test_a_table_has_a_row_per_allele(tmp_path, genome, stub):
    path = write_vcf(tmp_path / "in.vcf", [("chr1", AT + 4, "C", "A,*")])
    score_variants(path, genome, tmp_path / "out.tsv", "compact")
    lines = [line for line in (tmp_path / "out.tsv").read_text().splitlines() if not line.startswith("#")]
    columns, first, second = (line.split("\t") for line in lines)
    assert columns == [
        "contig",
        "pos",
        "id",
        "ref",
        "alt",
        "gain",
        "loss",
        "sum",
        "at",
        "distance",
        "ref_max",
        "alt_max",
        "lost",
        "gained",
        "ref_calls",
        "alt_calls",
        "spread",
        "why",
    ]
    assert first[:5] == ["chr1", str(AT + 4), ".", "C", "A"]
    assert float(first[6]) == pytest.approx(-1 / 13, abs=1e-4)
    assert second[5:] == ["."] * 12 + ["spanning_deletion"]


def test_small_changes_and_other_regions_are_left_out(tmp_path, genome, stub):
    rows = [
        ("chr1", AT + 4, "C", "G"),
        ("chr1", AT + 6, "C", "A"),
        ("chr1", AT + 7, "T", "A"),
        ("chr2", AT, "C", "A"),
    ]
    region = f"chr1:{AT}-{AT + 30}"
    counts, records = run(tmp_path, genome, rows, config=VariantConfig(min_delta=0.05, regions=(region,)))
    assert [record.pos for record in records] == [AT + 6, AT + 7]  # records without scores are written
    assert counts["records"] == 3


def test_bad_input_is_one_clear_error_and_leaves_nothing(tmp_path, genome, stub):
    good = write_vcf(tmp_path / "in.vcf", [("chr1", 5, "A", "C")])
    text = good.read_text()
    cases = {
        "renamed": (text.replace("chr", "scaffold"), "none of its contigs"),
        "unsorted": (text + "chr1\t2\t.\tA\tC\t.\tPASS\tDP=7\n", "out of order"),
        "few columns": (text + "chr1\tx\n", r"vcf:8: expected 8 columns"),
        "no position": (text.replace("\t5\t", "\tfive\t"), r"vcf:7: POS should be a whole number"),
        "no VCF": ("hello\n", "cannot be read as VCF"),
        "no records": ("##fileformat=VCFv4.2\n", "no line of column names"),
    }
    for name, (content, message) in cases.items():
        bad = tmp_path / f"{name}.vcf"
        bad.write_text(content)
        with pytest.raises(InputError, match=message):
            score_variants(bad, genome, tmp_path / "out.vcf.gz", "compact")
    with pytest.raises(InputError, match="no such file"):
        score_variants(tmp_path / "absent.vcf", genome, tmp_path / "out.vcf.gz", "compact")
    with pytest.raises(OutputError, match="extension"):
        score_variants(good, genome, tmp_path / "out.txt", "compact")
    with pytest.raises(ZfliponError, match="do not fit"):
        score_variants(good, genome, tmp_path / "out.vcf", "compact", VariantConfig(flank=5000))
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
