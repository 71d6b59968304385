"""Several processes on one computer: where they import from, and how they end."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import dna, make_fasta

from zflipon.cli.launch import launch

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"}


def command(*words):
    return [sys.executable, "-m", "zflipon", *map(str, words)]


def annotate(fasta, checkpoint, folder, processes=2):
    return command(
        *["annotate", fasta, "-o", folder / "z.bw", "--model", checkpoint],
        *["--device", "cpu", "--num-processes", processes],
    )


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_import_nothing_from_the_current_folder(tiny_checkpoint, tmp_path):
    fasta = make_fasta(tmp_path, {"one": dna(3000, 1)})
    place = tmp_path / "place"
    place.mkdir()
    for name in ("json", "torch", "zflipon"):
        (place / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w'); raise SystemExit(77)")
    words = ["zflipon", *annotate(fasta, tiny_checkpoint, tmp_path)[3:]]
    code = f"import sys; sys.path.pop(0); from zflipon.cli import main; sys.argv = {words!r}; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "executed").exists()


def test_the_status_is_that_of_the_worker_that_failed(tmp_path, capfd):
    assert launch(2, 1, ["annotate", str(tmp_path / "absent.fa"), "-o", str(tmp_path / "z.bw")]) == 1
    assert capfd.readouterr().err.splitlines() == [f"zflipon: error: {tmp_path / 'absent.fa'}: no such file"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_waits_for_the_others_ends_at_once_on_a_signal(tiny_checkpoint, tmp_path, number):
    """Rank 0 of 2, and rank 1 never starts."""
    fasta, port = make_fasta(tmp_path, {"one": dna(3000, 1)}), free_port()
    alone = {
        **ENVIRONMENT, "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    words = annotate(fasta, tiny_checkpoint, tmp_path)
    with started(words, env=alone, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: is_listening(port) or process.poll() is not None)
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert not list(tmp_path.glob("z.bw*"))


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT are not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": "1"}, "MASTER_ADDR is not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', expected the number of processes"),
    ],
)
def test_incomplete_variables_of_a_launcher_are_one_line(tiny_checkpoint, tmp_path, variables, message):
    fasta = make_fasta(tmp_path, {"one": dna(3000, 1)})
    words = annotate(fasta, tiny_checkpoint, tmp_path)
    done = subprocess.run(words, env=ENVIRONMENT | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("zflipon: error: ")
    assert message in line


@contextmanager
def started(words, **settings):
    """Run a command and kill it at the end, whatever happens."""
    with subprocess.Popen(words, **settings) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_die_with_their_launcher(tiny_checkpoint, tmp_path):
    fasta = make_fasta(tmp_path, {"long": dna(3_000_000, 3)})
    with started(annotate(fasta, tiny_checkpoint, tmp_path), stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: list(tmp_path.glob("z.bw.unfinished/*.claim")))
        workers = children(process.pid)
        assert len(workers) == 2
    wait_until(lambda: not any(map(is_running, workers)))
    assert not list(tmp_path.glob(".z.bw*"))  # they released the lock and removed their temporary files


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("moment", ["at once", "later"])
def test_a_worker_killed_during_start_up_ends_the_run(tiny_checkpoint, tmp_path, moment):
    fasta = make_fasta(tmp_path, {"long": dna(3_000_000, 3)})
    with started(annotate(fasta, tiny_checkpoint, tmp_path), stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: len(children(process.pid)) == 2)
        victim = max(children(process.pid))
        if moment == "later":  # torch is loaded, and the processes look for each other
            wait_until(lambda: "libtorch_cpu" in Path(f"/proc/{victim}/maps").read_text())
        os.kill(victim, signal.SIGKILL)
        assert process.wait(120) == 128 + signal.SIGKILL
