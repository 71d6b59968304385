"""Whatever stops a run: the same command resumes and ends with the same bytes."""

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
from zflipon.jobs.locks import OutputLocks

KILLS = 20


def annotate(fasta: Path, checkpoint: Path, out: Path, **settings) -> None:
    """Write ``z.bw`` and ``z.bed`` in a folder."""
    import zflipon.workflows.annotate

    defaults = {"settings": InferenceConfig(device="cpu", threads=1, batch_size=8), "shard_bases": 2000}
    zflipon.workflows.annotate.annotate(
        fasta, [str(out / "z.bw"), str(out / "z.bed")], str(checkpoint), **defaults | settings
    )


@pytest.fixture
def fasta(tmp_path):
    return make_fasta(tmp_path, {"one": dna(30_000, 1), "two": "N" * 200 + dna(9_000, 2), "tiny": "ACG"})


@pytest.fixture
def complete(fasta, tiny_checkpoint, tmp_path):
    """Return the bytes of an uninterrupted run."""
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
    """Return a context whose processes begin with torch loaded, so that kills do not only hit its import."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["zflipon.workflows.annotate", "zflipon.models.families.compact", "test_resume"]
    )
    return context


def test_killed_at_random_instants_a_run_ends_with_the_same_bytes(
    servers, fasta, tiny_checkpoint, complete, out
):
    """SIGKILL leaves no time for anything: only files on the disk count."""
    for _ in range(2):  # the first starts the server too
        started = time.monotonic()
        process = servers.Process(target=annotate, args=(fasta, tiny_checkpoint, out), kwargs={"force": True})
        process.start()
        process.join()
        took = time.monotonic() - started
    assert contents(out) == complete
    instants = np.random.default_rng(5)
    kills = finished = resumed = 0
    while kills < KILLS:
        if (out / "z.bed.json").exists() and not list(out.glob("*.unfinished")):  # at its end before the kill
            assert contents(out) == complete
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
            assert (out / "z.bed").read_bytes() == complete["z.bed"]
    if list(out.glob("*.unfinished")) or not (out / "z.bw").exists():
        annotate(fasta, tiny_checkpoint, out)
    assert contents(out) == complete
    assert resumed > 3
    assert {path.name for path in out.iterdir()} == {"z.bw", "z.bw.json", "z.bed", "z.bed.json"}


def test_a_run_killed_between_two_final_names_resumes(fasta, tiny_checkpoint, complete, out, monkeypatch):
    def kill(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("zflipon.jobs.job.write_record", kill)
        with pytest.raises(KeyboardInterrupt):
            annotate(fasta, tiny_checkpoint, out)
    (out / "z.bw").unlink()  # as if it had been killed after the other
    annotate(fasta, tiny_checkpoint, out)
    assert contents(out) == complete
    with pytest.raises(OutputError, match="exists already"):
        annotate(fasta, tiny_checkpoint, out)


def fail_after(monkeypatch, shards: int, error: BaseException):
    """Make a run fail once it has stored this number of shards."""
    from zflipon.jobs.journal import Journal

    write = Journal.write

    def fail(self, number, content):
        if len(self.stored()) == shards:
            raise error
        write(self, number, content)

    monkeypatch.setattr(Journal, "write", fail)


@pytest.fixture
def half_done(fasta, tiny_checkpoint, out, monkeypatch):
    """Leave a run whose disk was full after five shards."""
    with monkeypatch.context() as patch:
        fail_after(patch, 5, OutputError("the disk is full"))
        with pytest.raises(OutputError, match="the disk is full"):
            annotate(fasta, tiny_checkpoint, out)
    assert len(list((out / "z.bw.unfinished").glob("*.shard"))) == 5
    return out


def test_finished_shards_are_not_recomputed(half_done, fasta, tiny_checkpoint, complete, monkeypatch):
    from zflipon.inference.predictor import Predictor

    computed, batches = [], Predictor.batches

    def count(self, sequences, *rest, **options):
        computed.append(len(sequences))
        return batches(self, sequences, *rest, **options)

    monkeypatch.setattr(Predictor, "batches", count)
    annotate(fasta, tiny_checkpoint, half_done)
    assert contents(half_done) == complete
    assert (
        len(computed) == 15 + 5 - 5
    )  # shards of 2,000 bases; the third contig shares the last of the second


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"selection": Selection(contigs=("one",))}, "regions"),
        ({"settings": InferenceConfig(device="cpu", both_strands=True)}, "strands"),
        ({"settings": InferenceConfig(device="cpu", precision="bfloat16")}, "precision"),
    ],
)
def test_other_settings_are_refused_and_named(half_done, fasta, tiny_checkpoint, complete, settings, name):
    with pytest.raises(ZfliponError, match=f"differs in .*{name}.*--restart") as failure:
        annotate(fasta, tiny_checkpoint, half_done, **settings)
    assert "\n" not in str(failure.value)
    annotate(fasta, tiny_checkpoint, half_done)  # nothing was mixed
    assert contents(half_done) == complete


def test_another_genome_is_refused(half_done, fasta, tiny_checkpoint):
    make_fasta(fasta, {"one": dna(30_000, 7), "two": "N" * 200 + dna(9_000, 2), "tiny": "ACG"})
    with pytest.raises(ZfliponError, match="differs in genome"):
        annotate(fasta, tiny_checkpoint, half_done)


def test_restart_starts_over(half_done, fasta, tiny_checkpoint, tmp_path):
    both = InferenceConfig(device="cpu", both_strands=True)
    annotate(fasta, tiny_checkpoint, half_done, settings=both, restart=True)
    (tmp_path / "both").mkdir()
    annotate(fasta, tiny_checkpoint, tmp_path / "both", settings=both)
    assert contents(half_done) == contents(tmp_path / "both")


def test_a_damaged_shard_is_predicted_again(half_done, fasta, tiny_checkpoint, complete):
    shards = sorted((half_done / "z.bw.unfinished").glob("*.shard"))
    content = bytearray(shards[1].read_bytes())
    content[len(content) // 2] ^= 1
    shards[1].write_bytes(content)
    shards[2].write_bytes(shards[2].read_bytes()[:7])
    shards[3].write_bytes(b"")
    annotate(fasta, tiny_checkpoint, half_done)
    assert contents(half_done) == complete


def test_a_shard_damaged_during_the_run_is_named(fasta, tiny_checkpoint, out, complete, monkeypatch):
    from zflipon.jobs.journal import Journal

    write = Journal.write

    def write_and_damage(self, number, content):
        write(self, number, content)
        if number == 3:
            (self.folder / "000003.shard").write_bytes(b"x" * 40)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", write_and_damage)
        with pytest.raises(OutputError, match=r"000003\.shard: wrong checksum"):
            annotate(fasta, tiny_checkpoint, out)
    assert not (out / "z.bw").exists()
    annotate(fasta, tiny_checkpoint, out)
    assert contents(out) == complete


def test_a_second_run_of_any_of_the_outputs_is_refused(half_done, fasta, tiny_checkpoint):
    for name in ("z.bw", "z.bed"):
        with OutputLocks([half_done / name]), pytest.raises(OutputError, match="another run is writing"):
            annotate(fasta, tiny_checkpoint, half_done)
    annotate(fasta, tiny_checkpoint, half_done)
    assert (half_done / "z.bw").exists()


def test_nan_is_an_error_with_its_place_and_other_shards_are_saved(
    fasta, tiny_checkpoint, out, complete, monkeypatch
):
    from zflipon.inference.executor import Executor, PendingOutput

    submit, batches = Executor.submit, []

    def submit_with_nan(self, batch):
        batches.append(batch)
        pending = submit(self, batch)
        return PendingOutput(pending.output.result() * float("nan")) if len(batches) == 12 else pending

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "submit", submit_with_nan)
        with pytest.raises(
            NotANumberError, match=r"^one:[\d,]+-[\d,]+: the model returned a value that is not"
        ):
            annotate(fasta, tiny_checkpoint, out)
    assert list(out.glob("*.unfinished/*.shard"))
    annotate(fasta, tiny_checkpoint, out)
    assert contents(out) == complete


def test_out_of_memory_halves_the_batch(fasta, tiny_checkpoint, out, complete, monkeypatch):
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
    assert (out / "z.bed").read_bytes() == complete["z.bed"] != b""

    def none(self, *_arguments, **_inputs):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(made, "forward", none)
    with pytest.raises(ZfliponError, match="one window of 256 bases does not fit"):
        annotate(fasta, tiny_checkpoint, out, force=True)


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_the_run_and_its_message_explains_how_to_resume(
    tiny_checkpoint, tmp_path, number, status
):
    fasta = make_fasta(tmp_path, {"long": dna(3_000_000, 3)})
    words = ["-o", tmp_path / "z.bw", "--model", tiny_checkpoint, "--device", "cpu", "-t", "1"]
    words = [sys.executable, "-m", "zflipon", "annotate", str(fasta), *map(str, words)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        line = process.stderr.readline()  # printed when the work begins
        while not list(tmp_path.glob("z.bw.unfinished/*.shard")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        rest = process.stderr.read()
    assert "windows of 256" in line
    assert process.returncode == status
    assert "Traceback" not in rest
    assert "shards are saved in" in rest.splitlines()[-1]
    assert not (tmp_path / "z.bw").exists()
    assert list(tmp_path.glob("z.bw.unfinished/*.shard"))
    assert not list(tmp_path.glob(".*.part.*"))


def test_one_two_and_three_processes_write_the_same_bytes(fasta, tiny_checkpoint, out, complete):
    words = ["-o", "z.bw", "-o", "z.bed", "--model", tiny_checkpoint, "--device", "cpu", "--batch-size", "8"]
    script = "from zflipon.cli import main; main()"
    folder = out / "patched"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import zflipon.genome.shards; zflipon.genome.shards.SHARD_BASES = 2000\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])
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
        assert contents(place) == complete
        assert len(list(place.iterdir())) == 4


def test_a_killed_worker_ends_the_run_and_finished_shards_stay(tiny_checkpoint, tmp_path):
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
    ("words", "message"),
    [(["absent.fa"], "absent.fa: no such file"), (["genome.fa", "--contigs", "chrQ"], "no contig chrQ")],
)
def test_an_error_of_all_processes_is_printed_once(fasta, tiny_checkpoint, tmp_path, words, message):
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
    assert message in line


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_stop_is_not_an_error_of_the_user():
    assert not issubclass(Stopped, ZfliponError)
