"""Runs over a VCF: their record, resuming, several processes, incomplete headers, long contigs, packings."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pysam
import pytest
from conftest import dna, make_fasta

from zflipon.config import InferenceConfig, VariantConfig
from zflipon.errors import InputError, OutputError, Stopped, ZfliponError
from zflipon.jobs.signals import stop_on_signals

CONTIGS = {"one": dna(9000, 1), "two": dna(4000, 2)}
SMALL_BATCH = 16
OUTPUT = "z.vcf.gz"
KILLS = 6


def score(vcf: Path, fasta: Path, checkpoint: Path, out: Path, name: str = OUTPUT, **settings) -> dict:
    """Write the output into a folder, in many small batches."""
    import zflipon.workflows.variants

    defaults = {
        "settings": InferenceConfig(device="cpu", threads=1, batch_size=8),
        "batch_records": SMALL_BATCH,
    }
    return zflipon.workflows.variants.score_variants(
        vcf, fasta, out / name, str(checkpoint), **defaults | settings
    )


@pytest.fixture
def fasta(tmp_path):
    return make_fasta(tmp_path, CONTIGS)


def rows(step=60):
    for contig, text in CONTIGS.items():
        for at in range(1, len(text), step):
            ref = text[at - 1]
            yield contig, at, ref, "ACGT"["CGTA".index(ref)]


def write_vcf(path, records, header=None, lengths=None):
    lines = ["##fileformat=VCFv4.2"]
    if header is None:
        lengths = lengths or {name: len(text) for name, text in CONTIGS.items()}
        header = [f"##contig=<ID={name},length={length}>" for name, length in lengths.items()]
    lines += [*header, "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for contig, at, ref, alt, *rest in records:
        lines.append("\t".join([contig, str(at), ".", ref, alt, ".", *(rest or ["PASS", "."])]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def vcf(tmp_path):
    odd = [("two", 3990, "N", "A"), ("two", 3991, CONTIGS["two"][3990], "*,<DEL>")]
    return write_vcf(tmp_path / "in.vcf", [*rows(), *odd])


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def complete(vcf, fasta, tiny_checkpoint, tmp_path):
    """Return the bytes of an uninterrupted run."""
    (tmp_path / "complete").mkdir()
    score(vcf, fasta, tiny_checkpoint, tmp_path / "complete")
    return contents(tmp_path / "complete")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (OUTPUT, f"{OUTPUT}.tbi")}


def test_the_record_says_how_the_output_was_made(vcf, fasta, tiny_checkpoint, out):
    config = VariantConfig(shifts=2, min_delta=0.01)
    counts = score(vcf, fasta, tiny_checkpoint, out, config=config)
    record = json.loads((out / f"{OUTPUT}.json").read_text())
    number = len(list(rows()))
    assert record["counts"] == counts
    assert counts["records"] == number + 2
    assert counts["alleles"] == number
    assert 2 <= counts["written"] < number + 2
    assert (counts["ref_mismatch"], counts["spanning_deletion"], counts["symbolic"]) == (1, 1, 1)
    assert record["variants"] | {"shifts": 2, "min_delta": 0.01, "regions": []} == record["variants"]
    assert len(record["geometry"]["offsets"]) == 2
    assert len(record["model"]["sha256"]) == 64
    assert record["input"]["records"] == number + 2
    assert record["command"].startswith("zflipon")
    assert {"zflipon", "torch", "pysam"} <= set(record["versions"])
    assert record["seconds"] > 0
    assert not list(out.glob("*.unfinished"))


def test_killed_at_random_instants_a_run_ends_with_the_same_bytes(vcf, fasta, tiny_checkpoint, complete, out):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["zflipon.workflows.variants", "zflipon.models.families.compact", "test_variants_runs"]
    )
    arguments = (vcf, fasta, tiny_checkpoint, out)
    for _ in range(2):  # the first starts the server too
        started = time.monotonic()
        process = context.Process(target=score, args=arguments, kwargs={"force": True})
        process.start()
        process.join()
        took = time.monotonic() - started
    assert contents(out) == complete
    instants = np.random.default_rng(7)
    kills = resumed = 0
    while kills < KILLS:
        if (out / f"{OUTPUT}.json").exists() and not list(out.glob("*.unfinished")):
            assert contents(out) == complete
            for path in out.iterdir():
                path.unlink()
        resumed += bool(list(out.glob("*.unfinished/*.shard")))
        process = context.Process(target=score, args=arguments)
        process.start()
        process.join(instants.uniform(0.2, 1) * took)
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if (out / OUTPUT).exists():
            assert contents(out) == complete
    if list(out.glob("*.unfinished")) or not (out / OUTPUT).exists():
        score(*arguments)
    assert contents(out) == complete
    assert resumed
    assert {path.name for path in out.iterdir()} == {OUTPUT, f"{OUTPUT}.tbi", f"{OUTPUT}.json"}


@pytest.fixture
def half_done(vcf, fasta, tiny_checkpoint, out, monkeypatch):
    """Leave a run whose disk was full after five batches."""
    from zflipon.jobs.journal import Journal

    write = Journal.write

    def fail(self, number, content):
        if len(self.stored()) == 5:
            raise OutputError("the disk is full")
        write(self, number, content)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", fail)
        with pytest.raises(OutputError, match="the disk is full"):
            score(vcf, fasta, tiny_checkpoint, out)
    assert [path.name for path in out.iterdir()] == [f"{OUTPUT}.unfinished"]
    return out


@pytest.fixture
def batches_scored(monkeypatch):
    """Return a list that grows by one with each scored batch."""
    from zflipon.inference.predictor import Predictor

    read, plain = [], Predictor.predict_probabilities
    monkeypatch.setattr(
        Predictor, "predict_probabilities", lambda *them, **named: read.append(1) or plain(*them, **named)
    )
    return read


def test_finished_batches_are_not_scored_again(
    half_done, vcf, fasta, tiny_checkpoint, complete, batches_scored
):
    torn = sorted((half_done / f"{OUTPUT}.unfinished").glob("*.shard"))[2]
    torn.write_bytes(torn.read_bytes()[:-3])
    score(vcf, fasta, tiny_checkpoint, half_done)
    assert len(batches_scored) == -(-(len(list(rows())) + 2) // SMALL_BATCH) - 4
    assert contents(half_done) == complete


def test_other_settings_are_refused_and_named(
    half_done, vcf, fasta, tiny_checkpoint, complete, batches_scored
):
    arguments = (vcf, fasta, tiny_checkpoint, half_done)
    for config, message in [
        (VariantConfig(shifts=3), r"differs in shifts \(1, now 3\)"),
        (VariantConfig(flank=5), r"differs in flank"),
        (VariantConfig(regions=("two",)), r"differs in records .*regions \(all, now two\)"),
    ]:
        with pytest.raises(ZfliponError, match=message):
            score(*arguments, config=config)
    write_vcf(vcf, list(rows())[1:])
    with pytest.raises(ZfliponError, match="differs in records"):
        score(*arguments)
    assert not batches_scored
    score(*arguments, restart=True)
    assert len(batches_scored) == -(-(len(list(rows())) - 1) // SMALL_BATCH)
    assert contents(half_done) != complete


def test_a_rerun_may_write_other_records(half_done, vcf, fasta, tiny_checkpoint, batches_scored):
    """`min_delta` does not change the scores."""
    score(vcf, fasta, tiny_checkpoint, half_done, config=VariantConfig(min_delta=0.5))
    assert len(batches_scored) < 11


def test_a_signal_stops_the_run_and_explains_how_to_resume(
    vcf, fasta, tiny_checkpoint, out, complete, monkeypatch
):
    from zflipon.inference.predictor import Predictor

    predict, calls = Predictor.predict_probabilities, []

    def predict_and_signal(*arguments, **named):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return predict(*arguments, **named)

    with monkeypatch.context() as patch, stop_on_signals() as stop:
        patch.setattr(Predictor, "predict_probabilities", predict_and_signal)
        with pytest.raises(Stopped, match="3 of 14 shards are saved") as caught:
            score(vcf, fasta, tiny_checkpoint, out, stop=stop)
    assert caught.value.signal_number == signal.SIGTERM
    score(vcf, fasta, tiny_checkpoint, out)
    assert contents(out) == complete


def command(folder: Path, *words, small: bool = False):
    """Run the command line; optionally with small batches."""
    environment = dict(os.environ)
    if small:
        patched = folder / "patched"
        patched.mkdir()
        (patched / "sitecustomize.py").write_text(
            f"import zflipon.config; zflipon.config.RECORDS_PER_BATCH = {SMALL_BATCH}\n"
        )
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(patched), environment.get("PYTHONPATH")])
        )
    return subprocess.run(
        [sys.executable, "-m", "zflipon", "variants", *map(str, words), "--device", "cpu"],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_two_processes_write_the_same_bytes(vcf, fasta, tiny_checkpoint, out, complete):
    words = [vcf, "--genome", fasta, "--model", tiny_checkpoint, "-o", OUTPUT, "--batch-size", 8]
    found = command(out, *words, "--num-processes", 2, small=True)
    assert found.returncode == 0, found.stderr
    assert "2 processes" in found.stderr
    assert contents(out) == complete
    record = json.loads((out / f"{OUTPUT}.json").read_text())
    assert record["processes"] == 2
    assert record["counts"]["alleles"] == len(list(rows()))
    assert sorted(path.name for path in out.iterdir()) == [
        "patched",
        OUTPUT,
        f"{OUTPUT}.json",
        f"{OUTPUT}.tbi",
    ]


def test_an_error_is_one_line_whatever_the_number_of_processes(fasta, tiny_checkpoint, tmp_path):
    foreign = write_vcf(tmp_path / "foreign.vcf", [("other", 5, "A", "C")])
    found = command(
        tmp_path, foreign, "--genome", fasta, "--model", tiny_checkpoint, "-o", "x.vcf.gz", "-n", 2
    )
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line.startswith("zflipon: error: ")
    assert "the file has other, the genome one, two; rename" in line
    assert not list(tmp_path.glob("x*"))


DECLARED = [f"##contig=<ID={name},length={len(text)}>" for name, text in CONTIGS.items()]
REF = CONTIGS["one"][4]


@pytest.mark.parametrize(
    ("record", "header", "message"),
    [
        (("Chr1", 5, REF, "A"), ["##contig=<ID=Chr1>"], "the genome one, two; rename .* --contig-aliases"),
        (("other", 5, REF, "A"), ["##contig=<ID=other>"], "the file has other, the genome one, two; rename"),
    ],
)
def test_a_file_of_another_genome_is_refused(fasta, tiny_checkpoint, out, record, header, message):
    bad = write_vcf(out / "bad.vcf", [record], header=header)
    with pytest.raises(InputError, match=message):
        score(bad, fasta, tiny_checkpoint, out)
    assert [path.name for path in out.iterdir()] == ["bad.vcf"]


def test_other_names_of_contigs_give_the_same_scores(fasta, out, caplog):
    records = list(rows(900))
    (out / "aliases.txt").write_text("two\tNW_2.1\n")
    named = {"one": "chrone", "two": "NW_2.1"}
    renamed = [(named[contig], *rest) for contig, *rest in records]
    settings = {"config": VariantConfig(regions=("one:1-5,000", "two"))}
    given = score(write_vcf(out / "a.vcf", records), fasta, "zhunt", out, "a.tsv", **settings)
    settings["contig_aliases"] = out / "aliases.txt"
    with caplog.at_level("INFO", "zflipon"):
        other = score(write_vcf(out / "b.vcf", renamed, header=[]), fasta, "zhunt", out, "b.tsv", **settings)
    assert given == other
    assert given["alleles"] > 5
    assert "2 contig names translated (chrone to one, NW_2.1 to two)" in caplog.text
    text = (out / "a.tsv").read_text().replace("\none\t", "\nchrone\t").replace("\ntwo\t", "\nNW_2.1\t")
    data = [
        [line for line in each.splitlines() if line[0] != "#"] for each in (text, (out / "b.tsv").read_text())
    ]
    assert data[0] == data[1]


@pytest.mark.parametrize("name", ["z.vcf", "z.vcf.gz", "z.bcf"])
def test_names_that_the_header_lacks_are_declared(fasta, tiny_checkpoint, out, caplog, name):
    records = [("one", 5, REF, "A", "q10", "XX=5;FLAG"), ("three", 7, "A", "C", "PASS", "XX=a,b")]
    path = write_vcf(out / "bare.vcf", records, header=[])
    counts = score(path, fasta, tiny_checkpoint, out, name)
    assert (counts["alleles"], counts["off_contig"]) == (1, 1)
    with pysam.VariantFile(str(out / name)) as file:
        first, second = file
        assert file.header.contigs["one"].length == len(CONTIGS["one"])
        assert (first.info["XX"], first.info["FLAG"], list(first.filter)) == (("5",), True, ["q10"])
        assert (second.contig, second.info["XX"]) == ("three", ("a", "b"))
    assert "does not declare contig three, FILTER q10, INFO XX, INFO FLAG" in caplog.text


def test_declared_names_cause_no_warning(vcf, fasta, tiny_checkpoint, out, caplog):
    score(vcf, fasta, tiny_checkpoint, out)
    assert "does not declare" not in caplog.text


@pytest.mark.parametrize("name", ["z.vcf", "z.vcf.gz", "z.bcf"])
def test_formats_that_the_header_lacks_are_declared(fasta, tiny_checkpoint, out, name):
    path = write_vcf(out / "in.vcf", [("one", 5, REF, "A", "PASS", ".", "GT:ZZ", "0/1:5")])
    path.write_text(path.read_text().replace("FILTER\tINFO", "FILTER\tINFO\tFORMAT\ts1"))
    score(path, fasta, tiny_checkpoint, out, name)
    with pysam.VariantFile(str(out / name)) as file:
        (record,) = file
        assert (record.samples["s1"]["GT"], record.samples["s1"]["ZZ"]) == ((0, 1), ("5",))


def test_a_compressed_vcf_that_was_cut_is_refused(vcf, fasta, tiny_checkpoint, out):
    pysam.tabix_compress(str(vcf), str(out / "in.vcf.gz"))
    content = (out / "in.vcf.gz").read_bytes()
    (out / "cut.vcf.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read as VCF or BCF"):
        score(out / "cut.vcf.gz", fasta, tiny_checkpoint, out)
    (out / "cut.vcf.gz").write_bytes(content[:-28])  # at a block's end: the mark of the file's end is missing
    with pytest.raises(InputError, match="truncated"):
        score(out / "cut.vcf.gz", fasta, tiny_checkpoint, out)


@pytest.mark.parametrize("name", ["z.vcf.gz", "z.bcf"])
def test_contigs_beyond_half_a_gigabase_have_an_index_that_reaches(fasta, tiny_checkpoint, out, name):
    """Their records are off the FASTA's contigs, and kept."""
    far = 700_000_000
    lengths = {"one": len(CONTIGS["one"]), "long": 800_000_000}
    path = write_vcf(out / "in.vcf", [("one", 5, REF, "A,C"), ("long", far, "A", "C")], lengths=lengths)
    counts = score(path, fasta, tiny_checkpoint, out, name)
    assert counts["off_contig"] == 1
    assert (out / f"{name}.csi").is_file()
    assert not (out / f"{name}.tbi").exists()
    with pysam.VariantFile(str(out / name)) as file:
        assert [record.pos for record in file.fetch("long", far - 10, far + 10)] == [far]
        assert [record.pos for record in file.fetch("one")] == [5]


def test_bcf_in_and_compressed_vcf_in_give_what_the_plain_vcf_gives(
    vcf, fasta, tiny_checkpoint, out, complete
):
    score(vcf, fasta, tiny_checkpoint, out, "in.bcf")
    pysam.tabix_compress(str(vcf), str(out / "in.vcf.gz"))
    expected = list(parsed(out.parent / "complete" / OUTPUT))
    for name in ("in.bcf", "in.vcf.gz"):
        score(out / name, fasta, tiny_checkpoint, out, force=True)
        assert list(parsed(out / OUTPUT)) == expected
    assert len(expected) == len(list(rows())) + 2


def parsed(path):
    with pysam.VariantFile(str(path)) as file:
        for record in file:
            yield record.contig, record.pos, record.alts, dict(record.info)
