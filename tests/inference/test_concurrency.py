"""Work that goes on side by side: in order, no further ahead than it should, and loud where it fails."""

from itertools import count
from threading import current_thread

import pytest
import torch

from zflipon.inference.concurrency import Prefetch, WorkerPool


def test_cores_give_back_what_they_are_asked_in_order():
    assert list(WorkerPool().each(lambda number: number * number, range(50))) == [n * n for n in range(50)]
    assert list(WorkerPool().each(lambda number: number, [])) == []


def test_each_core_computes_by_itself():
    cores = WorkerPool()
    assert set(cores.each(lambda _: torch.get_num_threads(), range(8))) == {1}
    assert cores.submit(lambda name: (name, current_thread().name), "a").result()[0] == "a"
    assert torch.get_num_threads() == cores.count


def test_cores_do_not_run_away():
    begun = []
    cores = WorkerPool()
    found = cores.each(lambda number: number, (begun.append(number) or number for number in count()))
    assert [next(found) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(begun) <= 5 + cores.count


def test_what_a_core_raises_is_raised():
    found = WorkerPool().each(lambda number: 1 // (2 - number), range(9))
    assert next(found) == 0
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_reading_ahead_keeps_the_order_and_raises_what_is_raised():
    def items():
        yield from range(20)
        raise ValueError("here")

    with Prefetch(items(), 3) as read:
        assert [next(read) for _ in range(20)] == list(range(20))
        with pytest.raises(ValueError, match="here"):
            next(read)


def test_a_reader_that_leaves_ends_the_thread():
    reader = Prefetch(iter(count()), 2)
    with reader as read:
        assert next(read) == 0
    assert not reader._thread.is_alive()


def test_readers_of_readers():
    with Prefetch(iter(range(30)), 1) as first, Prefetch((2 * number for number in first), 4) as second:
        assert list(second) == list(range(0, 60, 2))
    with Prefetch(iter(count()), 1) as first, Prefetch((2 * number for number in first), 4) as second:
        assert [next(second) for _ in range(3)] == [0, 2, 4]
