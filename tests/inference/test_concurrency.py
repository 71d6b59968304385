"""Worker pool, prefetch and stage timer: order, limits, errors, and the number of torch threads."""

from itertools import count
from threading import Barrier, Thread, current_thread

import pytest
import torch

from zflipon.inference.concurrency import Prefetch, StageTimer, WorkerPool


def in_new_thread(function):
    results = []
    thread = Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_a_pool_returns_results_in_order():
    assert list(WorkerPool(3).map(lambda number: number * number, range(50))) == [n * n for n in range(50)]
    assert list(WorkerPool(3).map(lambda number: number, [])) == []


def test_a_pool_has_as_many_threads_as_torch_by_default():
    assert WorkerPool().threads == torch.get_num_threads()


def test_workers_use_one_torch_thread_and_other_threads_keep_theirs():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        pool = WorkerPool(2)
        both_started = Barrier(2, timeout=60)  # a worker that starts later would change the default meanwhile
        assert {*pool.map(lambda _: (both_started.wait(), torch.get_num_threads())[1], range(2))} == {1}
        with Prefetch(iter(lambda: torch.get_num_threads(), None), 1) as numbers:
            assert next(numbers) == 1
        assert torch.get_num_threads() == 3
        assert in_new_thread(torch.get_num_threads) == 3
    finally:
        torch.set_num_threads(before)


def test_submit_runs_in_a_worker_thread():
    name, thread = WorkerPool(1).submit(lambda name: (name, current_thread().name), "a").result()
    assert name == "a"
    assert thread.startswith("zflipon-worker")


def test_a_pool_takes_items_lazily():
    taken = []
    results = WorkerPool(2).map(lambda number: number, (taken.append(number) or number for number in count()))
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(taken) <= 5 + 2


def test_an_error_in_a_worker_is_raised_in_its_turn():
    results = WorkerPool(2).map(lambda number: 1 // (2 - number), range(9))
    assert next(results) == 0
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_prefetch_keeps_the_order_and_raises_errors_in_the_reader():
    def numbers():
        yield from range(20)
        raise ValueError("here")

    with Prefetch(numbers(), 3) as items:
        assert [next(items) for _ in range(20)] == list(range(20))
        with pytest.raises(ValueError, match="here"):
            next(items)


def test_prefetch_ends_its_thread_when_the_reader_leaves():
    prefetch = Prefetch(iter(count()), 2)
    with prefetch as items:
        assert next(items) == 0
    assert not prefetch._thread.is_alive()


def test_prefetch_can_be_nested():
    with Prefetch(iter(range(30)), 1) as first, Prefetch((2 * number for number in first), 4) as second:
        assert list(second) == list(range(0, 60, 2))
    with Prefetch(iter(count()), 1) as first, Prefetch((2 * number for number in first), 4) as second:
        assert [next(second) for _ in range(3)] == [0, 2, 4]


def test_the_timer_adds_up_stages():
    timer = StageTimer()
    for stage in ("read", "model", "read"):
        with timer(stage):
            pass
    assert set(timer.seconds) == {"read", "model"}
    assert min(timer.seconds.values()) > 0
