"""The processes of a run wait for the main process for as long as it works, and no longer."""

import itertools
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from torch.distributed import HashStore

import zflipon
from zflipon.cli.launch import _free_port
from zflipon.errors import ZfliponError
from zflipon.jobs.distributed import (
    COLLECTIVE_TIMEOUT,
    compute_in_main_first,
    process_state,
    signs_of_life,
    wait_for_main_process,
)

LIMIT = 1.0
"""Timeout in seconds that the processes set for their group."""

WORKER = """
import os, sys, time
from datetime import timedelta
import torch.distributed as dist
from torch.distributed.distributed_c10d import _set_pg_timeout
from transformers import TrainingArguments
from zflipon.errors import ZfliponError
from zflipon.jobs.distributed import broadcast_from_main, compute_in_main_first, process_state

limit, folder = float(sys.argv[1]), sys.argv[2]
state = process_state("cpu")
TrainingArguments(output_dir=folder, use_cpu=True).device  # without ours, it would open another group
backend = dist.group.WORLD._get_backend(state.device)
print("timeout", backend.options._timeout.total_seconds())
_set_pg_timeout(timedelta(seconds=limit), dist.group.WORLD)

def long_evaluation():
    time.sleep(1.5 * limit)
    return state.process_index

print("evaluation", broadcast_from_main(state, long_evaluation))
path = os.path.join(folder, "tokenizer.txt")

def train_or_read():
    if state.is_main_process:
        with open(path, "w") as file:
            file.write("trained")
    with open(path) as file:
        return file.read()

print("tokenizer", compute_in_main_first(state, train_or_read), flush=True)
try:
    broadcast_from_main(state, lambda: os._exit(9))
except ZfliponError as error:
    print("error", error, flush=True)
os._exit(3)
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Return the lines that two processes print; in the end the first one dies."""
    folder = tmp_path_factory.mktemp("processes")
    common = {
        **os.environ,
        "PYTHONPATH": str(Path(zflipon.__file__).parents[1]),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(LIMIT), str(folder)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    results = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [9, 3], results
    return [dict(line.split(" ", 1) for line in stdout.splitlines()) for stdout, _ in results]


def test_the_group_has_the_timeout_of_zflipon(outputs):
    assert [float(lines["timeout"]) for lines in outputs] == [COLLECTIVE_TIMEOUT] * 2


def test_an_evaluation_longer_than_the_timeout_of_the_group_ends_well(outputs):
    assert [lines["evaluation"] for lines in outputs] == ["0", "0"]


def test_the_main_process_writes_what_the_others_read(outputs):
    assert [lines["tokenizer"] for lines in outputs] == ["trained", "trained"]


def test_the_death_of_the_main_process_is_reported(outputs):
    assert re.fullmatch(
        r"another process of this run has ended \(.+\); run the same command again to resume",
        outputs[1]["error"],
    )


def test_signs_of_life_and_the_end_of_a_block_are_seen():
    store, seen = HashStore(), threading.Event()
    with signs_of_life(store, "a", interval=0.001):
        for _ in range(10_000):
            if store.add("a/signs", 0) >= 2:
                seen.set()
                break
            threading.Event().wait(0.001)
    assert seen.is_set()
    wait_for_main_process(store, "a")
    assert not store.check(["b/finished"])


def test_a_block_ends_after_an_error_as_well():
    store = HashStore()
    with pytest.raises(ZeroDivisionError), signs_of_life(store, "a"):
        _ = 1 / 0
    wait_for_main_process(store, "a")


def test_days_with_signs_of_life_are_waited_for_and_silence_is_not():
    store, hours = HashStore(), itertools.count()

    def work() -> None:
        if (hour := next(progress)) < 100:
            store.add("a/signs", 1)
        elif hour == 102:
            store.set("a/finished", "")

    progress = itertools.count()
    wait_for_main_process(store, "a", timeout=5, clock=lambda: next(hours), pause=work)
    assert next(hours) > 100
    with pytest.raises(ZfliponError, match="no sign of life for 5 s; check that it still runs"):
        wait_for_main_process(store, "b", timeout=5, clock=lambda: next(hours), pause=lambda: None)


def test_one_process_computes_once():
    calls = []
    assert compute_in_main_first(process_state("cpu"), lambda: calls.append(1) or 7) == 7
    assert calls == [1]
