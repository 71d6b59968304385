"""`zflipon annotate` from a FASTA to tracks that other programs read."""

import json
import re
import subprocess
import sys

import numpy as np
import pyBigWig
import pysam
import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta

from zflipon.cli import cli
from zflipon.config import MIN_GAP, InferenceConfig, Selection
from zflipon.errors import ZfliponError
from zflipon.genome.digests import sequence_collection, sha512t24u
from zflipon.genome.fasta import Genome
from zflipon.genome.shards import make_plan
from zflipon.genome.windows import tile_windows
from zflipon.inference.predictor import Predictor
from zflipon.models import load
from zflipon.workflows.verification import verify


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def random_dna(rng, length):
    return "".join(rng.choice(list("ACGT"), size=length))


@pytest.fixture
def contigs(rng):
    """Contigs of every kind that has broken a genome annotator."""
    return {
        "chr2": random_dna(rng, 2500) + "N" * 400 + random_dna(rng, 1300),
        "chr10": "N" * 120 + random_dna(rng, 300).lower() + "NNN" + random_dna(rng, 500) + "N",
        "tiny": "ACG",
        "HLA:A*01|x.1": random_dna(rng, 450),
        "empty": "",
        "gap": "N" * 700,
        "odd": "ACGTRYKM" * 20,
    }


@pytest.fixture
def run(tiny_checkpoint, contigs, tmp_path):
    """Run annotate and return the click result; the genome and the model are given."""

    def call(*arguments, genome=None, model=None):
        fasta = genome or make_fasta(tmp_path, contigs)
        words = [
            "annotate",
            str(fasta),
            "--model",
            str(model or tiny_checkpoint),
            "--device",
            "cpu",
            *map(str, arguments),
        ]
        return CliRunner().invoke(cli, words)

    return call


def read_bigwig(path):
    """Return contig → values, NaN at bases without a value, and the names in the header's order."""
    with pyBigWig.open(str(path)) as track:
        names = list(track.chroms())
        return {name: np.array(track.values(name, 0, track.chroms(name))) for name in names}, names


def expected_track(contigs, folder):
    """Compute the track in plain loops: segments between gaps, windows, one sequence at a time."""
    checkpoint = load(folder)
    predictor = Predictor(checkpoint, InferenceConfig(device="cpu", batch_size=1))
    tracks = {}
    for name, text in contigs.items():
        text = text.upper()
        values = np.full(len(text), np.nan)
        segments, start = [], None
        runs, i = [], 0
        while i < len(text):
            if text[i] == "N":
                j = i
                while j < len(text) and text[j] == "N":
                    j += 1
                if j - i >= MIN_GAP or i == 0 or j == len(text):
                    runs.append((i, j))
                i = j
            else:
                i += 1
        start = 0
        for low, high in [*runs, (len(text), len(text))]:
            if low > start:
                segments.append((start, low))
            start = high
        for low, high in segments:
            for s, e, core_start, core_end in tile_windows(
                low, high, checkpoint.metadata.window, checkpoint.metadata.margin
            ):
                row = predictor.predict_probabilities([text[s:e]])[0]
                for base in range(core_start, core_end):
                    if text[base] != "N":
                        values[base] = round(float(row[base - s]), 3)
        tracks[name] = values
    return tracks


def test_every_base_with_sequence_is_decided_once(run, contigs, tiny_checkpoint, tmp_path):
    result = run("-o", tmp_path / "z.bw")
    assert result.exit_code == 0, result.output
    found, names = read_bigwig(tmp_path / "z.bw")
    assert names == [name for name, text in contigs.items() if text]
    expected = expected_track(contigs, tiny_checkpoint)
    for name in names:
        silent = np.array([letter == "N" for letter in contigs[name].upper()])
        assert (np.isnan(found[name]) == silent).all(), name
        np.testing.assert_allclose(found[name], expected[name], atol=1.001e-3)
    decided = np.concatenate([values[~np.isnan(values)] for values in found.values()])
    assert len(np.unique(decided)) > 50


def test_the_track_does_not_depend_on_batches_shards_or_case(run, contigs, tmp_path, monkeypatch):
    run("-o", tmp_path / "a.bw", "-o", tmp_path / "a.bed", "--threshold", 0.5)
    monkeypatch.setattr("zflipon.genome.shards.SHARD_BASES", 300)
    monkeypatch.setattr("zflipon.inference.batching.POOL_WINDOWS", 3)
    lower_case = make_fasta(
        tmp_path / "lower.bgz.fa.gz", {name: text.lower() for name, text in contigs.items()}
    )
    result = run(
        "-o",
        tmp_path / "b.bw",
        "-o",
        tmp_path / "b.bed",
        "--batch-size",
        1,
        "--threshold",
        0.5,
        genome=lower_case,
    )
    assert result.exit_code == 0, result.output
    one, _ = read_bigwig(tmp_path / "a.bw")
    other, _ = read_bigwig(tmp_path / "b.bw")
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1.001e-3)
    assert (tmp_path / "a.bed").read_text() == (tmp_path / "b.bed").read_text() != ""


def test_the_size_of_shards_changes_the_plan_and_not_the_windows(tmp_path):
    with Genome(
        make_fasta(tmp_path, {"one": dna(9000, 1), "two": dna(500, 2) + "N" * 100 + dna(3000, 3)})
    ) as genome:
        small, large = (make_plan(genome, Selection(), 256, 64, size) for size in (1000, 4000))
    assert len(small.shards) > len(large.shards) > 2
    assert (small.bases, small.windows) == (large.bases, large.windows)
    assert max(shard.bases for shard in large.shards) <= 4000 + 256
    for one, other in zip(
        *(np.concatenate([s.windows for s in p.spans]) for p in (small, large)), strict=True
    ):
        assert one == other
    assert small.digest() != large.digest()


def test_a_region_has_the_values_of_the_whole_genome(run, tmp_path):
    run("-o", tmp_path / "all.bw")
    result = run(
        "-o",
        tmp_path / "some.bw",
        "--region",
        "chr2:1,001-3,000",
        "--region",
        "HLA:A*01|x.1",
        "-r",
        "chr2:990-1,010",
    )
    assert result.exit_code == 0, result.output
    whole, _ = read_bigwig(tmp_path / "all.bw")
    some, _ = read_bigwig(tmp_path / "some.bw")
    inside = np.zeros(len(whole["chr2"]), dtype=bool)
    inside[989:3000] = True
    assert np.array_equal(some["chr2"][inside], whole["chr2"][inside], equal_nan=True)
    assert np.isnan(some["chr2"][~inside]).all()
    assert np.array_equal(some["HLA:A*01|x.1"], whole["HLA:A*01|x.1"])
    assert np.isnan(some["odd"]).all()


def test_selection_by_bed_and_by_name(run, tmp_path):
    bed = tmp_path / "regions.bed"
    bed.write_text("odd\t10\t20\nchr2\t0\t5\n")
    assert run("-o", tmp_path / "a.bw", "--regions", bed, "--exclude-contigs", "chr2").exit_code == 0
    found, _ = read_bigwig(tmp_path / "a.bw")
    assert [name for name, values in found.items() if not np.isnan(values).all()] == ["odd"]
    assert np.flatnonzero(~np.isnan(found["odd"])).tolist() == list(range(10, 20))
    assert run("-o", tmp_path / "b.bw", "--contigs", "tiny,odd").exit_code == 0
    found, _ = read_bigwig(tmp_path / "b.bw")
    assert [name for name, values in found.items() if not np.isnan(values).all()] == ["tiny", "odd"]


def test_calls_are_runs_at_the_threshold(run, tmp_path):
    outputs = [tmp_path / name for name in ("z.bw", "z.bed.gz", "z.bedgraph")]
    words = [word for path in outputs for word in ("-o", path)]
    calls = 0
    for threshold in (0.3, 0.5):
        result = run(*words, "--threshold", threshold, "--min-length", 1, "--force")
        assert result.exit_code == 0, result.output
        values, names = read_bigwig(outputs[0])
        expected = []
        for name in names:
            start = None
            for base, value in enumerate([*values[name], np.nan]):
                if value >= threshold - 1e-4 and start is None:
                    start = base
                elif not value >= threshold - 1e-4 and start is not None:
                    expected.append((name, start, base))
                    start = None
        with pysam.TabixFile(str(outputs[1]), parser=pysam.asTuple()) as bed:
            rows = [tuple(row) for name in names if name in bed.contigs for row in bed.fetch(name)]
        assert {len(row) for row in rows} == {11}
        assert [(name, int(start), int(end)) for name, start, end, *_ in rows] == expected
        calls += len(rows)
    assert calls > 5


def test_bed_on_stdout_is_data_only(run, tmp_path):
    words = ["-o", "-", "--threshold", 0.5, "-q"]
    result = run(*words)
    run("-o", tmp_path / "z.bed", "--threshold", 0.5)
    assert result.exit_code == 0
    assert result.stdout == (tmp_path / "z.bed").read_text() != ""


def test_the_record_describes_the_run(run, contigs, tmp_path):
    import hashlib

    run("-o", tmp_path / "z.bw", "--threshold", 0.25)
    record = json.loads((tmp_path / "z.bw.json").read_text())
    assert record["call"]["threshold"] == 0.25
    assert record["contigs"]["chr10"] == {
        "length": len(contigs["chr10"]),
        "refget": "SQ." + sha512t24u(contigs["chr10"].upper().encode()),
        "md5": hashlib.md5(contigs["chr10"].upper().encode()).hexdigest(),
    }
    assert record["model"]["family"] == "compact"
    assert len(record["model"]["sha256"]) == 64
    decided = sum(len(text) - text.upper().count("N") for text in contigs.values())
    assert record["tracks"]["bases"] == decided
    assert {"zflipon", "torch", "python"} <= set(record["versions"])


def test_dry_run_writes_nothing(run, tmp_path):
    before = set(tmp_path.iterdir())
    result = run("-o", tmp_path / "z.bw", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "would write" in result.stdout
    assert not (tmp_path / "z.bw").exists()
    assert not (tmp_path / "z.bw.json").exists()
    assert not [path for path in set(tmp_path.iterdir()) - before if "shards" in path.name]


def test_a_failure_while_writing_keeps_finished_shards(run, tmp_path, monkeypatch):
    def fail(*_arguments, **_rest):
        raise ZfliponError("the disk is on fire")

    words = ["-o", tmp_path / "out" / "z.bw", "-o", tmp_path / "out" / "z.bed.gz"]
    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("zflipon.workflows.stored_shards.call_track", fail)
        assert isinstance(run(*words).exception, ZfliponError)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["z.bw.unfinished"]
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "resuming" in result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "z.bw",
        "z.bw.json",
        "z.bed.gz",
        "z.bed.gz.tbi",
        "z.bed.gz.json",
    }


def test_a_failure_before_the_first_shard_leaves_nothing(run, tmp_path, monkeypatch):
    def fail(*_arguments, **_rest):
        raise ZfliponError("the disk is on fire")

    monkeypatch.setattr("zflipon.inference.executor.Executor.submit", fail)
    (tmp_path / "out").mkdir()
    assert isinstance(run("-o", tmp_path / "out" / "z.bw").exception, ZfliponError)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-o", "z.txt"], "unknown extension"),
        (["-o", "none/z.bw"], "no folder"),
        (["-o", "z.bw", "--region", "chr3:1-5"], "no such contig"),
        (["-o", "z.bw", "--region", "chr2:1-99999"], "the length of chr2"),
        (["-o", "z.bw", "--contigs", "chrZ"], "no contig chrZ"),
        (["-o", "z.bw", "--contigs", "tiny", "--region", "chr2:1-9"], "nothing is left"),
        (["-o", "z.bw", "-o", "z.bw"], "given twice"),
        (["-o", "z.bw", "--regions", "absent.bed"], "no such file"),
        (["-o", "z.bw", "--device", "warp"], "not available"),
    ],
)
def test_invalid_requests_are_refused(run, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    before = {path.name for path in tmp_path.iterdir() if path.suffix == ".bw"}
    result = run(*words)
    assert isinstance(result.exception, ZfliponError), result.output
    assert expected in str(result.exception)
    assert "\n" not in str(result.exception)
    assert {path.name for path in tmp_path.iterdir() if path.suffix == ".bw"} == before


def test_an_existing_output_is_kept_without_force(run, tmp_path):
    out = tmp_path / "z.bw"
    out.write_text("precious")
    result = run("-o", out)
    assert "exists already" in str(result.exception)
    assert out.read_text() == "precious"
    assert run("-o", out, "--force").exit_code == 0
    assert read_bigwig(out)[1]


@pytest.mark.parametrize("threshold", ["0", "1.5", "-1", "half"])
def test_a_threshold_out_of_range_is_a_usage_error(run, tmp_path, threshold):
    result = run("-o", tmp_path / "z.bw", "--threshold", threshold)
    assert result.exit_code == 2
    assert "--threshold" in result.output


def test_errors_are_one_line_with_status_one(tmp_path):
    words = ["annotate", str(tmp_path / "absent.fa"), "-o", str(tmp_path / "z.bw")]
    found = subprocess.run(
        [sys.executable, "-m", "zflipon", *words], capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.splitlines() == [f"zflipon: error: {tmp_path / 'absent.fa'}: no such file"]


def test_two_processes_write_what_one_writes(run, contigs, tiny_checkpoint, tmp_path):
    fasta = make_fasta(tmp_path, contigs)
    alone = run("-o", tmp_path / "one.bw", "-o", tmp_path / "one.bed", "--threshold", 0.5, genome=fasta)
    assert alone.exit_code == 0, alone.output
    words = [
        "-o",
        tmp_path / "two.bw",
        "-o",
        tmp_path / "two.bed",
        "--threshold",
        0.5,
        "--model",
        tiny_checkpoint,
    ]
    # on CPUs, `accelerate launch` starts a second process under MPI alone; torch's launcher needs none
    launch = ["torch.distributed.run", "--nproc_per_node", "2", "-m", "zflipon", "annotate", str(fasta)]
    found = subprocess.run(
        [sys.executable, "-m", *launch, *map(str, words), "--device", "cpu"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 processes" in found.stderr
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "two.bw").read_bytes() == (tmp_path / "one.bw").read_bytes()
    assert (tmp_path / "two.bed").read_text() == (tmp_path / "one.bed").read_text() != ""
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".shards")]


def test_the_files_written_are_named_at_the_end(run, tmp_path):
    result = run("-o", tmp_path / "z.bw", "-o", tmp_path / "z.bed")
    assert result.stderr.splitlines()[-1] == f"zflipon: wrote {tmp_path / 'z.bw'}, {tmp_path / 'z.bed'}"


def test_an_output_that_is_also_the_regions_file_is_refused(run, tmp_path):
    bed = tmp_path / "r.bed"
    bed.write_text("chr2\t0\t50\n")
    result = run("--regions", bed, "-o", bed, "--force")
    assert "is an input of this run" in str(result.exception)
    assert bed.read_text() == "chr2\t0\t50\n"


def test_call_names_are_unique_across_regions_and_runs(tmp_path, tiny_checkpoint):
    fasta = make_fasta(tmp_path, {"a": "CG" * 40 + dna(300, 3) + "CA" * 40, "b": dna(200, 4) + "GC" * 50})
    runs = [
        annotate_to_bed(fasta, tmp_path / f"{number}.bed", *words)
        for number, words in enumerate(
            [
                ("zhunt", "a:1-200"),
                ("zhunt", "a:201-460"),
                ("zhunt", "b"),
                ("zhunt", "b", "--threshold", "0.4"),
                (tiny_checkpoint, "b", "--threshold", "0.001"),
            ]
        )
    ]
    names = [row[3] for rows in runs for row in rows]
    assert all(runs)
    assert len(set(names)) == len(names)
    whole = annotate_to_bed(fasta, tmp_path / "whole.bed", "zhunt", "a")
    assert {row[3] for row in whole} >= {row[3] for row in runs[0]}  # the same call has the same name


def annotate_to_bed(fasta, output, model, region, *options):
    words = ["annotate", fasta, "-o", output, "--model", model, "--region", region, "--device", "cpu", "-q"]
    done = CliRunner().invoke(cli, [*map(str, words), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return [line.split("\t") for line in output.read_text().splitlines()]


def test_a_header_line_that_no_output_can_have_is_refused(run, tmp_path):
    result = run("-o", tmp_path / "z.bw", "-o", tmp_path / "z.gff3", "--track-line")
    assert isinstance(result.exception, ZfliponError)
    assert "a track line is for bedGraph, BED or narrowPeak only; add such an output" in str(result.exception)
    assert not (tmp_path / "z.bw").exists()


def test_a_custom_track_is_labelled_and_verified(tmp_path):
    fasta = make_fasta(tmp_path, {"a": dna(200, 3) + "CG" * 40 + dna(200, 5)})
    first, *rows = annotate_to_bed(fasta, tmp_path / "z.bed", "zhunt", "a", "--track-line")
    assert 'description="Probability of Z-DNA >= 0.5 by zhunt"' in first[0]
    assert {len(row) for row in rows} == {9}
    record = json.loads((tmp_path / "z.bed.json").read_text())
    assert record["label"] == "Probability of Z-DNA"
    assert rows[0][3].startswith(record["call_prefix"] + "_a:")
    verified = verify(tmp_path / "z.bed", "a", device="cpu")
    assert (verified.agrees, verified.calls) == (True, len(rows))
    text = (tmp_path / "z.bed").read_text()
    (tmp_path / "z.bed").write_text(text.replace(f"\t{rows[0][4]}\t", f"\t{int(rows[0][4]) - 90}\t"))
    assert not verify(tmp_path / "z.bed", "a", device="cpu").agrees


def test_bases_without_full_context_are_counted_and_written(run, contigs, tmp_path):
    result = run("-o", tmp_path / "z.bw", "--edges", tmp_path / "edges.bed")
    assert result.exit_code == 0, result.output
    margin, edges = 64, set()
    for name, text in contigs.items():
        for run_of_sequence in re.finditer(r"(?:[^N]|(?<!N)N{1,49}(?!N|$))+", text.upper()):
            low, high = run_of_sequence.span()
            edges |= {
                (name, base) for base in range(low, high) if base < low + margin or base >= high - margin
            }
    rows = [line.split("\t") for line in (tmp_path / "edges.bed").read_text().splitlines()]
    written = [(name, base) for name, start, end in rows for base in range(int(start), int(end))]
    assert len(written) == len(set(written))
    assert set(written) == edges
    record = json.loads((tmp_path / "z.bw.json").read_text())
    assert record["bases_without_full_context"] == len(edges) > 500
    assert "exists already" in str(run("-o", tmp_path / "y.bw", "--edges", tmp_path / "edges.bed").exception)


def test_the_record_has_digests_of_the_sequences(run, contigs, tmp_path):
    run("-o", tmp_path / "z.bw", "--contigs", "tiny,odd")
    record = json.loads((tmp_path / "z.bw.json").read_text())
    refget = {name: "SQ." + sha512t24u(contigs[name].encode()) for name in ("tiny", "odd")}
    assert {name: each["refget"] for name, each in record["contigs"].items()} == refget
    assert record["sequence_collection"] == sequence_collection(refget)


def test_regions_may_use_other_names_of_contigs(run, tmp_path):
    (tmp_path / "aliases.txt").write_text("odd\tNW_5.1\n")
    (tmp_path / "regions.bed").write_text("2\t10\t300\nNW_5.1\t0\t20\n")
    result = run(
        "-o",
        tmp_path / "z.bw",
        "--regions",
        tmp_path / "regions.bed",
        "--contig-aliases",
        tmp_path / "aliases.txt",
    )
    assert result.exit_code == 0, result.output
    assert "2 contig names translated (2 to chr2, NW_5.1 to odd)" in result.stderr
    found, _ = read_bigwig(tmp_path / "z.bw")
    decided = {name: int((~np.isnan(values)).sum()) for name, values in found.items()}
    assert (decided["chr2"], decided["odd"], decided["tiny"]) == (290, 20, 0)


def test_short_contigs_share_shards_and_have_the_values_of_contigs_alone(run, tmp_path):
    """As many files in the journal as for one contig; the same bytes as with a shard for each contig."""
    contigs = {f"c{i}": dna(30 + 7 * i, i) + "CG" * (i % 12) for i in range(60)}
    genome = make_fasta(tmp_path / "short.fa", contigs)
    with Genome(genome) as source:
        assert len(make_plan(source, Selection(), 256, 64).shards) == 1
    outputs = [["-o", tmp_path / f"{name}.{kind}"] for kind in ("bw", "bed") for name in ("packed", "alone")]
    assert run(*outputs[0], *outputs[2], genome=genome).exit_code == 0
    assert run(*outputs[1], *outputs[3], "--batch-size", 1, genome=genome).exit_code == 0
    assert (tmp_path / "packed.bw").read_bytes() == (tmp_path / "alone.bw").read_bytes()
    assert (tmp_path / "packed.bed").read_bytes() == (tmp_path / "alone.bed").read_bytes()
