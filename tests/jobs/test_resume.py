"""Whatever stops a run, the same command goes on and ends with the same bytes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import dna, make_fasta

from zflipon.config import InferenceConfig, Selection
from zflipon.errors import NotANumberError, OutputError, Stopped, ZfliponError

KILLS = 20


def annotate(fasta: Path, checkpoint: Path, out: Path, shard: int = 2000, **settings) -> None:
    """Write ``z.bw`` and ``z.bed`` in a folder."""
    import zflipon.genome.shards
    import zflipon.workflows.annotate

    zflipon.genome.shards.SHARD_BASES = shard
    settings = {"predict": InferenceConfig(device="cpu", threads=1, batch_size=8), "quiet": True} | settings
    zflipon.workflows.annotate.annotate(
        fasta, [str(out / "z.bw"), str(out / "z.bed")], str(checkpoint), **settings
    )


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Put the size of a shard back after each test."""
    import zflipon.genome.shards

    monkeypatch.setattr(zflipon.genome.shards, "SHARD_BASES", zflipon.genome.shards.SHARD_BASES)


@pytest.fixture
def fasta(tmp_path):
    return make_fasta(tmp_path, {"one": dna(30_000, 1), "two": "N" * 200 + dna(9_000, 2), "tiny": "ACG"})


@pytest.fixture
def whole(fasta, tiny_checkpoint, tmp_path):
    """Return the bytes of a run that nothing stopped."""
    (tmp_path / "whole").mkdir()
    annotate(fasta, tiny_checkpoint, tmp_path / "whole")
    return contents(tmp_path / "whole")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("z.bw", "z.bed")}


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture(scope="module")
def servers():
    """Return a context whose processes begin with torch loaded, so that a kill does not hit the loading."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["zflipon.workflows.annotate", "zflipon.models.families.compact", "test_resume"]
    )
    return context


def test_killed_at_random_instants_a_run_ends_with_the_same_bytes(
    servers, fasta, tiny_checkpoint, whole, out
):
    """SIGKILL leaves no time for anything: what counts is what lies on the disk at each instant."""
    for _ in range(2):  # the first starts the server too
        started = time.monotonic()
        process = servers.Process(target=annotate, args=(fasta, tiny_checkpoint, out), kwargs={"force": True})
        process.start()
        process.join()
        took = time.monotonic() - started
    assert contents(out) == whole
    instants = np.random.default_rng(5)
    kills = finished = resumed = 0
    while kills < KILLS:
        if (out / "z.bed.json").exists() and not list(out.glob("*.unfinished")):  # at its end before the kill
            assert contents(out) == whole
            finished += 1
            for path in out.iterdir():
                path.unlink()
        resumed += bool(list(out.glob("*.unfinished/*.shard")))
        process = servers.Process(target=annotate, args=(fasta, tiny_checkpoint, out))
        process.start()
        process.join(instants.uniform(0, took))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if (out / "z.bed").exists():
            assert (out / "z.bed").read_bytes() == whole["z.bed"]
    if list(out.glob("*.unfinished")) or not (out / "z.bw").exists():
        annotate(fasta, tiny_checkpoint, out)
    assert contents(out) == whole
    assert resumed > 3
    assert {path.name for path in out.iterdir()} == {"z.bw", "z.bw.json", "z.bed", "z.bed.json"}


def test_killed_between_two_names_a_run_goes_on(fasta, tiny_checkpoint, whole, out, monkeypatch):
    def killed(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("zflipon.workflows.annotate.write_record", killed)
        with pytest.raises(KeyboardInterrupt):
            annotate(fasta, tiny_checkpoint, out)
    (out / "z.bw").unlink()  # as if it had been killed after the other
    annotate(fasta, tiny_checkpoint, out)
    assert contents(out) == whole
    with pytest.raises(OutputError, match="exists already"):
        annotate(fasta, tiny_checkpoint, out)


def stopped_after(monkeypatch, shards: int, error: BaseException):
    """Have a run fail once it has stored so many shards."""
    from zflipon.jobs.journal import Journal

    plain = Journal.store

    def store(self, number, values, read):
        if len(self.stored()) == shards:
            raise error
        plain(self, number, values, read)

    monkeypatch.setattr(Journal, "store", store)


@pytest.fixture
def half_done(fasta, tiny_checkpoint, out, monkeypatch):
    """Leave a run whose disk was full after five shards."""
    with monkeypatch.context() as patch:
        stopped_after(patch, 5, OutputError("the disk is full"))
        with pytest.raises(OutputError, match="the disk is full"):
            annotate(fasta, tiny_checkpoint, out)
    assert len(list((out / "z.bw.unfinished").glob("*.shard"))) == 5
    return out


def test_what_is_done_is_not_done_again(half_done, fasta, tiny_checkpoint, whole, monkeypatch):
    from zflipon.inference.predictor import Predictor

    read = []
    plain = Predictor.batches

    def batches(self, sequences, *rest):
        read.append(len(sequences))
        return plain(self, sequences, *rest)

    monkeypatch.setattr(Predictor, "batches", batches)
    annotate(fasta, tiny_checkpoint, half_done)
    assert contents(half_done) == whole
    assert len(read) == 15 + 5 + 1 - 5  # of three contigs, by 2,000 bases


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"selection": Selection(contigs=("one",))}, "regions"),
        ({"predict": InferenceConfig(device="cpu", both_strands=True)}, "strands"),
        ({"predict": InferenceConfig(device="cpu", precision="bfloat16")}, "precision"),
    ],
)
def test_another_command_is_told_what_differs(half_done, fasta, tiny_checkpoint, whole, settings, named):
    with pytest.raises(ZfliponError, match=f"differs in .*{named}.*--restart") as failure:
        annotate(fasta, tiny_checkpoint, half_done, **settings)
    assert "\n" not in str(failure.value)
    annotate(fasta, tiny_checkpoint, half_done)  # nothing was mixed
    assert contents(half_done) == whole


def test_another_genome_is_told(half_done, fasta, tiny_checkpoint):
    make_fasta(fasta, {"one": dna(30_000, 7), "two": "N" * 200 + dna(9_000, 2), "tiny": "ACG"})
    with pytest.raises(ZfliponError, match="differs in genome"):
        annotate(fasta, tiny_checkpoint, half_done)


def test_restart_starts_over(half_done, fasta, tiny_checkpoint, tmp_path):
    both = InferenceConfig(device="cpu", both_strands=True)
    annotate(fasta, tiny_checkpoint, half_done, predict=both, restart=True)
    (tmp_path / "both").mkdir()
    annotate(fasta, tiny_checkpoint, tmp_path / "both", predict=both)
    assert contents(half_done) == contents(tmp_path / "both")


def test_a_damaged_shard_is_predicted_again(half_done, fasta, tiny_checkpoint, whole):
    shards = sorted((half_done / "z.bw.unfinished").glob("*.shard"))
    content = bytearray(shards[1].read_bytes())
    content[len(content) // 2] ^= 1
    shards[1].write_bytes(content)
    shards[2].write_bytes(shards[2].read_bytes()[:7])
    shards[3].write_bytes(b"")
    annotate(fasta, tiny_checkpoint, half_done)
    assert contents(half_done) == whole


def test_a_shard_that_is_damaged_meanwhile_is_named(fasta, tiny_checkpoint, out, whole, monkeypatch):
    from zflipon.jobs.journal import Journal

    plain = Journal.store

    def store(self, number, values, read):
        plain(self, number, values, read)
        if number == 3:
            self._path(number).write_bytes(b"what is this?")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "store", store)
        with pytest.raises(OutputError, match=r"000003\.shard: fails its checksum"):
            annotate(fasta, tiny_checkpoint, out)
    assert not (out / "z.bw").exists()
    annotate(fasta, tiny_checkpoint, out)
    assert contents(out) == whole


def test_a_second_run_of_the_same_output_is_refused(half_done, fasta, tiny_checkpoint):
    from zflipon.jobs.journal import Journal

    running = Journal(half_done / "z.bw.unfinished")
    running._take()
    with pytest.raises(ZfliponError, match="another run is writing"):
        annotate(fasta, tiny_checkpoint, half_done)
    running.release()
    annotate(fasta, tiny_checkpoint, half_done)
    assert (half_done / "z.bw").exists()


def test_no_number_is_placed_and_the_rest_kept(fasta, tiny_checkpoint, out, whole, monkeypatch):
    from zflipon.inference.executor import Executor, PendingOutput

    plain, batches = Executor.submit, []

    def submit(self, batch):
        batches.append(batch)
        pending = plain(self, batch)
        return PendingOutput(pending.output.result() * float("nan")) if len(batches) == 12 else pending

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "submit", submit)
        with pytest.raises(
            NotANumberError, match=r"^one:[\d,]+-[\d,]+: the model returned a value that is not"
        ):
            annotate(fasta, tiny_checkpoint, out)
    assert list(out.glob("*.unfinished/*.shard"))
    annotate(fasta, tiny_checkpoint, out)
    assert contents(out) == whole


def test_want_of_memory_halves_the_batch(fasta, tiny_checkpoint, out, whole, monkeypatch):
    import torch

    from zflipon.models import load

    made = type(load(tiny_checkpoint).module)
    plain, sizes = made.forward, []

    def forward(self, *arguments, **inputs):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("out of memory")
        return plain(self, *arguments, **inputs)

    monkeypatch.setattr(made, "forward", forward)
    annotate(fasta, tiny_checkpoint, out)
    assert max(sizes) == 8
    assert (out / "z.bed").read_bytes() == whole["z.bed"] != b""

    def none(self, *_arguments, **_inputs):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(made, "forward", none)
    with pytest.raises(ZfliponError, match="one window of 256 bases does not fit"):
        annotate(fasta, tiny_checkpoint, out, force=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_says_how_to_go_on(tiny_checkpoint, tmp_path, number, status):
    fasta = make_fasta(tmp_path, {"long": dna(3_000_000, 3)})
    words = ["-o", tmp_path / "z.bw", "--model", tiny_checkpoint, "--device", "cpu", "-t", "1"]
    words = [sys.executable, "-m", "zflipon", "annotate", str(fasta), *map(str, words)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        line = process.stderr.readline()  # the announcement: the work begins
        while not list(tmp_path.glob("z.bw.unfinished/*.shard")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        rest = process.stderr.read()
    assert "windows of 256" in line
    assert process.returncode == status
    assert "Traceback" not in rest
    assert "shards are kept in" in rest.splitlines()[-1]
    assert not (tmp_path / "z.bw").exists()
    assert list(tmp_path.glob("z.bw.unfinished/*.shard"))
    assert not list(tmp_path.glob(".*.part.*"))


def test_one_two_and_three_processes_write_the_same_bytes(fasta, tiny_checkpoint, out, whole):
    words = ["-o", "z.bw", "-o", "z.bed", "--model", tiny_checkpoint, "--device", "cpu", "--batch-size", "8"]
    script = "import zflipon.genome.shards; zflipon.genome.shards.SHARD_BASES = 2000; from zflipon.cli import main; main()"
    folder = out / "patched"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import zflipon.config; zflipon.config.SHARD_BASES = 2000\n")
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    for processes in ("2", "3"):
        place = out / processes
        place.mkdir()
        found = subprocess.run(
            [sys.executable, "-c", script, "annotate", str(fasta), *map(str, words), "-n", processes],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        assert f"{processes} processes" in found.stderr
        assert contents(place) == whole
        assert len(list(place.iterdir())) == 4


def test_a_lost_process_ends_the_others_and_nothing_is_lost(tiny_checkpoint, tmp_path):
    fasta = make_fasta(tmp_path, {"long": dna(3_000_000, 3)})
    words = ["-o", tmp_path / "z.bw", "--model", tiny_checkpoint, "--device", "cpu", "-n", "2"]
    words = [sys.executable, "-m", "zflipon", "annotate", str(fasta), *map(str, words)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("z.bw.unfinished/*.shard")) and process.poll() is None:
            time.sleep(0.02)
        victim = max(children(process.pid))
        os.kill(victim, signal.SIGKILL)
        rest = process.stderr.read()
    assert process.returncode == 128 + signal.SIGKILL, rest
    assert "Traceback" not in rest
    assert list(tmp_path.glob("z.bw.unfinished/*.shard"))


@pytest.mark.parametrize(
    ("words", "said"),
    [(["absent.fa"], "absent.fa: no such file"), (["genome.fa", "--contigs", "chrQ"], "no contig chrQ")],
)
def test_what_all_processes_refuse_is_said_once(fasta, tiny_checkpoint, tmp_path, words, said):
    options = ["-o", "z.bw", "--model", str(tiny_checkpoint), "--device", "cpu", "-n", "2"]
    found = subprocess.run(
        [sys.executable, "-m", "zflipon", "annotate", *words, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line.startswith("zflipon: error: ")
    assert said in line


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_process_that_is_silent_for_long_is_lost(tmp_path, monkeypatch):
    """Each shows that it lives by touching what it has taken; the first process waits for the others' shards."""
    from zflipon.jobs.journal import LOST_AFTER, Journal

    monkeypatch.setattr("zflipon.jobs.journal._BEAT", 0.3)
    mine, other = Journal(tmp_path), Journal(tmp_path)
    mine.begin({})
    assert list(mine.claim([0])) == [0]
    assert list(other.claim([0, 1])) == [1]
    other.store(1, np.arange(5, dtype=np.uint16), 3)
    mine.wait([1])
    values, read = mine.load(1)
    assert values.tolist() == [0, 1, 2, 3, 4]
    assert read == 3
    claim = tmp_path / "000000.claim"
    past = time.time() - LOST_AFTER - 5
    os.utime(claim, (past, past))
    with pytest.raises(ZfliponError, match="has not been heard of for"):
        other.wait([0])
    mine._beats[claim] -= 60  # a minute has passed
    mine.alive()
    assert time.time() - claim.stat().st_mtime < 30

    def enough():
        raise Stopped(2, "")

    with pytest.raises(Stopped):
        other.wait([0], enough)


def test_the_next_run_of_a_folder_may_take_what_a_killed_one_had_taken(tmp_path):
    from zflipon.jobs.journal import Journal

    killed = Journal(tmp_path)
    killed.begin({})
    assert list(killed.claim([0, 1])) == [0, 1]
    killed.release()
    after = Journal(tmp_path)
    after.begin({})
    assert list(after.claim([0, 1])) == [0, 1]


def test_stopped_is_no_error_of_the_user():
    assert not issubclass(Stopped, ZfliponError)
