"""Concurrent stages of inference: a thread that prefetches, a pool of worker threads, and a timer of stages.

Processes are started elsewhere (`zflipon.cli.launch`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import Full, Queue
from threading import Event, Lock, Thread
from time import perf_counter
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_POLL_SECONDS = 0.1
"""How often a prefetch thread with a full queue checks whether its reader has left."""

_thread_limit_lock = Lock()


class StageTimer:
    """Adds up the seconds of each stage. Stages run concurrently, so the sum may exceed the elapsed time.

    Attributes
    ----------
    seconds : dict of str to float
        Stage → seconds.

    Examples
    --------
    >>> timer = StageTimer()
    >>> with timer("read"):
    ...     pass
    >>> list(timer.seconds)
    ['read']
    """

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._lock = Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of the ``with`` block to a stage."""
        started = perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - started


class WorkerPool:
    """Threads that each compute on one CPU core.

    Each task runs on one core, instead of one task on all cores at a time: no core waits for another within a matrix
    product, and results do not depend on the number of threads.

    Parameters
    ----------
    threads : int, optional
        Default: the number that torch uses.
    """

    def __init__(self, threads: int | None = None):
        self.threads = threads or torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self.threads, "zflipon-worker", use_one_torch_thread)

    def submit(self, function: Callable[..., Result], *arguments: object) -> Future[Result]:
        """Run a function in the pool."""
        return self._pool.submit(function, *arguments)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the results in order. Items are taken lazily: one more than there are threads is in progress."""
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(self.submit(function, item))
            if len(pending) > self.threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


class Prefetch(Generic[Item]):
    """Runs an iterator in another thread, up to `depth` items ahead of its reader.

    A context manager: the thread ends with the ``with`` block. Errors of the iterator are raised in the reader.

    Parameters
    ----------
    items : iterator
    depth : int

    Examples
    --------
    >>> with Prefetch(iter([1, 2, 3]), depth=2) as items:
    ...     list(items)
    [1, 2, 3]
    """

    _END = object()

    def __init__(self, items: Iterator[Item], depth: int):
        self._items = items
        self._queue: Queue = Queue(depth)
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="zflipon-prefetch", daemon=True)

    def __enter__(self) -> Iterator[Item]:
        """Start the thread."""
        self._thread.start()
        return self._read()

    def __exit__(self, *_exception) -> None:
        """Stop the thread."""
        self._stopped.set()
        self._thread.join()

    def _read(self) -> Iterator[Item]:
        while True:
            item, error = self._queue.get()
            if error is not None:
                raise error
            if item is self._END:
                return
            yield item

    def _run(self) -> None:
        use_one_torch_thread()
        try:
            for item in self._items:
                if not self._put(item, None):
                    return
            self._put(self._END, None)
        except BaseException as error:  # raised again in the reader's thread
            self._put(None, error)

    def _put(self, item: object, error: BaseException | None) -> bool:
        """Put an item into the queue; return False if the reader has left."""
        while not self._stopped.is_set():
            try:
                self._queue.put((item, error), timeout=_POLL_SECONDS)
            except Full:
                continue
            return True
        return False


def use_one_torch_thread() -> None:
    """Make torch compute with one thread in the calling thread, which must be new; leave other threads as they are.

    `torch.set_num_threads` also sets the default that new threads take when they first use torch. That default is
    restored by one more thread, because the calling one would change its own number again.
    """

    def restore() -> None:
        if torch.get_num_threads() == 1:  # otherwise another thread has set a number meanwhile
            torch.set_num_threads(default)

    with _thread_limit_lock:
        default = torch.get_num_threads()  # the first call in a thread takes the default
        torch.set_num_threads(1)
        thread = Thread(target=restore)
        thread.start()
        thread.join()
