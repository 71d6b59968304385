"""Runs over a VCF: their record, going on after a stop, several processes, odd headers, long contigs."""

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
def whole(vcf, fasta, tiny_checkpoint, tmp_path):
    """Return the bytes of a run that nothing stopped."""
    (tmp_path / "whole").mkdir()
    score(vcf, fasta, tiny_checkpoint, tmp_path / "whole")
    return contents(tmp_path / "whole")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (OUTPUT, f"{OUTPUT}.tbi")}


def test_the_record_tells_how_the_output_was_made(vcf, fasta, tiny_checkpoint, out):
    config = VariantConfig(shifts=2, min_delta=0.01)
    told = score(vcf, fasta, tiny_checkpoint, out, config=config)
    record = json.loads((out / f"{OUTPUT}.json").read_text())
    number = len(list(rows()))
    assert record["counts"] == told
    assert told["records"] == number + 2
    assert told["alleles"] == number
    assert 2 <= told["written"] < number + 2
    assert (told["ref_mismatch"], told["spanning_deletion"], told["symbolic"]) == (1, 1, 1)
    assert record["variants"] | {"shifts": 2, "min_delta": 0.01, "regions": []} == record["variants"]
    assert len(record["geometry"]["offsets"]) == 2
    assert len(record["model"]["sha256"]) == 64
    assert record["input"]["records"] == number + 2
    assert record["command"].startswith("zflipon")
    assert {"zflipon", "torch", "pysam"} <= set(record["versions"])
    assert record["seconds"] > 0
    assert not list(out.glob("*.unfinished"))


def test_killed_at_random_instants_a_run_ends_with_the_same_bytes(vcf, fasta, tiny_checkpoint, whole, out):
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
    assert contents(out) == whole
    instants = np.random.default_rng(7)
    kills = resumed = 0
    while kills < KILLS:
        if (out / f"{OUTPUT}.json").exists() and not list(out.glob("*.unfinished")):
            assert contents(out) == whole
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
            assert contents(out) == whole
    if list(out.glob("*.unfinished")) or not (out / OUTPUT).exists():
        score(*arguments)
    assert contents(out) == whole
    assert resumed
    assert {path.name for path in out.iterdir()} == {OUTPUT, f"{OUTPUT}.tbi", f"{OUTPUT}.json"}


@pytest.fixture
def half_done(vcf, fasta, tiny_checkpoint, out, monkeypatch):
    """Leave a run whose disk was full after five pools."""
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
def pools_read(monkeypatch):
    """Count the pools that are scored."""
    from zflipon.inference.predictor import Predictor

    read, plain = [], Predictor.predict_probabilities
    monkeypatch.setattr(
        Predictor, "predict_probabilities", lambda *them, **named: read.append(1) or plain(*them, **named)
    )
    return read


def test_what_is_done_is_not_done_again(half_done, vcf, fasta, tiny_checkpoint, whole, pools_read):
    torn = sorted((half_done / f"{OUTPUT}.unfinished").glob("*.shard"))[2]
    torn.write_bytes(torn.read_bytes()[:-3])
    score(vcf, fasta, tiny_checkpoint, half_done)
    assert len(pools_read) == -(-(len(list(rows())) + 2) // SMALL_BATCH) - 4
    assert contents(half_done) == whole


def test_another_command_says_what_differs(half_done, vcf, fasta, tiny_checkpoint, whole, pools_read):
    arguments = (vcf, fasta, tiny_checkpoint, half_done)
    for config, words in [
        (VariantConfig(shifts=3), r"differs in shifts \(1, now 3\)"),
        (VariantConfig(flank=5), r"differs in flank"),
        (VariantConfig(regions=("two",)), r"differs in records .*regions \(all, now two\)"),
    ]:
        with pytest.raises(ZfliponError, match=words):
            score(*arguments, config=config)
    write_vcf(vcf, list(rows())[1:])
    with pytest.raises(ZfliponError, match="differs in records"):
        score(*arguments)
    assert not pools_read
    score(*arguments, restart=True)
    assert len(pools_read) == -(-(len(list(rows())) - 1) // SMALL_BATCH)
    assert contents(half_done) != whole


def test_what_is_written_may_be_chosen_anew(half_done, vcf, fasta, tiny_checkpoint, pools_read):
    """Scores do not follow from it."""
    score(vcf, fasta, tiny_checkpoint, half_done, config=VariantConfig(min_delta=0.5))
    assert len(pools_read) < 11


def test_a_signal_stops_and_says_how_to_go_on(vcf, fasta, tiny_checkpoint, out, whole, monkeypatch):
    from zflipon.inference.predictor import Predictor

    plain, seen = Predictor.predict_probabilities, []

    def read(*arguments, **named):
        seen.append(1)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict_probabilities", read)
        with pytest.raises(Stopped, match="3 of 14 shards are kept") as caught:
            score(vcf, fasta, tiny_checkpoint, out)
    assert caught.value.signal_number == signal.SIGTERM
    score(vcf, fasta, tiny_checkpoint, out)
    assert contents(out) == whole


def command(folder: Path, *words, small: bool = False):
    """Run the command line; in small pools where asked for."""
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


def test_two_processes_write_the_same_bytes(vcf, fasta, tiny_checkpoint, out, whole):
    words = [vcf, "--genome", fasta, "--model", tiny_checkpoint, "-o", OUTPUT, "--batch-size", 8]
    found = command(out, *words, "--num-processes", 2, small=True)
    assert found.returncode == 0, found.stderr
    assert "2 processes" in found.stderr
    assert contents(out) == whole
    record = json.loads((out / f"{OUTPUT}.json").read_text())
    assert record["processes"] == 2
    assert record["counts"]["alleles"] == len(list(rows()))
    assert sorted(path.name for path in out.iterdir()) == [
        "patched",
        OUTPUT,
        f"{OUTPUT}.json",
        f"{OUTPUT}.tbi",
    ]


def test_an_odd_header_is_one_line_whatever_the_processes(fasta, tiny_checkpoint, tmp_path):
    bare = write_vcf(tmp_path / "bare.vcf", list(rows())[:3], header=[])
    found = command(tmp_path, bare, "--genome", fasta, "--model", tiny_checkpoint, "-o", "x.vcf.gz", "-n", 2)
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line.startswith("zflipon: error: ")
    assert "does not declare contig one" in line
    assert not list(tmp_path.glob("x*"))


DECLARED = [f"##contig=<ID={name},length={len(text)}>" for name, text in CONTIGS.items()]
REF = CONTIGS["one"][4]


@pytest.mark.parametrize(
    ("record", "header", "words"),
    [
        (("one", 5, REF, "A", "q10", "."), DECLARED, "does not declare FILTER q10"),
        (("one", 5, REF, "A", "PASS", "XX=5"), DECLARED, "does not declare INFO XX"),
        (("three", 5, REF, "A"), DECLARED, "does not declare contig three"),
        (("chrone", 5, REF, "A"), ["##contig=<ID=chrone>"], "they differ by 'chr'; rename"),
        (("other", 5, REF, "A"), ["##contig=<ID=other>"], "the file has other, the genome one, two; rename"),
    ],
)
def test_what_the_header_lacks_is_named(fasta, tiny_checkpoint, out, record, header, words):
    bad = write_vcf(out / "bad.vcf", [record], header=header)
    with pytest.raises(InputError, match=words):
        score(bad, fasta, tiny_checkpoint, out)
    assert [path.name for path in out.iterdir()] == ["bad.vcf"]


def test_a_format_that_the_header_lacks_is_named(fasta, tiny_checkpoint, out):
    bad = write_vcf(out / "bad.vcf", [("one", 5, REF, "A", "PASS", ".", "GT:ZZ", "0/1:5")])
    bad.write_text(bad.read_text().replace("FILTER\tINFO", "FILTER\tINFO\tFORMAT\ts1"))
    with pytest.raises(InputError, match="does not declare FORMAT GT, FORMAT ZZ"):
        score(bad, fasta, tiny_checkpoint, out)


def test_a_compressed_vcf_that_was_cut_is_refused(vcf, fasta, tiny_checkpoint, out):
    pysam.tabix_compress(str(vcf), str(out / "in.vcf.gz"))
    content = (out / "in.vcf.gz").read_bytes()
    (out / "cut.vcf.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read as VCF or BCF"):
        score(out / "cut.vcf.gz", fasta, tiny_checkpoint, out)
    (out / "cut.vcf.gz").write_bytes(content[:-28])  # at a block's end: the mark of the file's end is missing
    with pytest.raises(InputError, match="truncated"):
        score(out / "cut.vcf.gz", fasta, tiny_checkpoint, out)


@pytest.mark.parametrize("name", ["z.vcf", "z.vcf.gz", "z.bcf"])
def test_records_with_symbolic_alleles_stay_as_they_are(fasta, tiny_checkpoint, out, name):
    """As GATK's gVCF has them; pysam adds an END to such, which a BCF may hold and a VCF need not."""
    ref = CONTIGS["one"][7]
    path = write_vcf(out / "in.vcf", [("one", 5, REF, "A,<NON_REF>"), ("one", 8, ref, "<DEL>")])
    score(path, fasta, tiny_checkpoint, out, name)
    with pysam.VariantFile(str(out / name)) as file:
        first, second = file
        assert first.alts == ("A", "<NON_REF>")
        assert first.info["ZF_WHY"] == (None, "symbolic")
        assert second.info["ZF_WHY"] == ("symbolic",)
        assert (first.stop, second.stop) == (5, 8)
        assert ("END" in str(file.header)) == (name == "z.bcf")


@pytest.mark.parametrize("name", ["z.vcf.gz", "z.bcf"])
def test_contigs_beyond_half_a_gigabase_have_an_index_that_reaches(fasta, tiny_checkpoint, out, name):
    """Their records are off the FASTA's contigs, and kept."""
    far = 700_000_000
    lengths = {"one": len(CONTIGS["one"]), "long": 800_000_000}
    path = write_vcf(out / "in.vcf", [("one", 5, REF, "A,C"), ("long", far, "A", "C")], lengths=lengths)
    told = score(path, fasta, tiny_checkpoint, out, name)
    assert told["off_contig"] == 1
    assert (out / f"{name}.csi").is_file()
    assert not (out / f"{name}.tbi").exists()
    with pysam.VariantFile(str(out / name)) as file:
        assert [record.pos for record in file.fetch("long", far - 10, far + 10)] == [far]
        assert [record.pos for record in file.fetch("one")] == [5]


def test_bcf_in_and_compressed_vcf_in_give_what_the_plain_vcf_gives(vcf, fasta, tiny_checkpoint, out, whole):
    score(vcf, fasta, tiny_checkpoint, out, "in.bcf")
    pysam.tabix_compress(str(vcf), str(out / "in.vcf.gz"))
    expected = list(told(out.parent / "whole" / OUTPUT))
    for name in ("in.bcf", "in.vcf.gz"):
        score(out / name, fasta, tiny_checkpoint, out, force=True)
        assert list(told(out / OUTPUT)) == expected
    assert len(expected) == len(list(rows())) + 2


def told(path):
    with pysam.VariantFile(str(path)) as file:
        for record in file:
            yield record.contig, record.pos, record.alts, dict(record.info)
