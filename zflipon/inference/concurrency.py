"""Stages that work side by side: what is read ahead, and what each takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import Full, Queue
from threading import Event, Lock, Thread
from time import perf_counter
from typing import TypeVar

import torch

Item, Result = TypeVar("Item"), TypeVar("Result")


class Clock:
    """Adds up what each stage takes; stages run side by side, so that the sum may pass the time that went by.

    Attributes
    ----------
    seconds : dict of str to float
    """

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._adding = Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the body's time for a stage."""
        started = perf_counter()
        try:
            yield
        finally:
            with self._adding:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - started


class WorkerPool:
    """The cores of a CPU, each with a piece of work of its own, in the place of all of them at each product.

    They wait for each other at none then, and what is computed does not depend on how many there are.

    Parameters
    ----------
    count : int, optional
        As many as torch has threads by default.
    """

    def __init__(self, count: int | None = None):
        self.count = count or torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self.count, "zflipon-core", lambda: torch.set_num_threads(1))

    def submit(self, work: Callable[..., Result], *arguments: object) -> Future[Result]:
        """Set a core to work."""
        return self._pool.submit(work, *arguments)

    def each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield what comes of each item, in order, begun no further ahead than keeps all cores busy."""
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(self.submit(work, item))
            if len(waiting) > self.count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class Prefetch:
    """Runs an iterator in a thread of its own, up to `depth` items ahead.

    A context manager, so that the thread ends when its reader does. What the iterator raises is raised to the reader.

    Parameters
    ----------
    items : iterator
    depth : int
    """

    _END = object()

    def __init__(self, items: Iterator, depth: int):
        self._items = items
        self._queue: Queue = Queue(depth)
        self._stopped = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Iterator:
        """Start the thread."""
        self._thread.start()
        return self._read()

    def __exit__(self, *_exception) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()

    def _read(self) -> Iterator:
        while True:
            item, error = self._queue.get()
            if error is not None:
                raise error
            if item is self._END:
                return
            yield item

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(item, None):
                    return
            self._put(self._END, None)
        except BaseException as error:  # whatever it is, the reader has to know
            self._put(None, error)

    def _put(self, item: object, error: BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put((item, error), timeout=0.1)
            except Full:
                continue
            return True
        return False
