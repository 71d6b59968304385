"""The life of a long run: check and lock its outputs, resume, stop on request, publish, write its records.

`annotate`, `variants` and `train` all go through `Job`. It knows nothing about models or genomes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from accelerate import PartialState

from zflipon.errors import Stopped
from zflipon.jobs.distributed import broadcast_from_main
from zflipon.jobs.journal import Journal, temporary_folder
from zflipon.jobs.locks import OutputLocks
from zflipon.jobs.outputs import journal_path
from zflipon.jobs.record import write_record
from zflipon.jobs.signals import StopRequest
from zflipon.tracks.atomic import record_path, remove_partial_files, temporary_path

log = logging.getLogger("zflipon")

GRACE_PERIOD = 5.0
"""Seconds that the rest of a shard may take after a request to stop. A longer rest is abandoned."""


class Job:
    """A run with outputs. A context manager that holds the locks of the outputs.

    Parameters
    ----------
    outputs : sequence of Path
        Files that the run writes. They are locked for its duration, by the main process.
    state : accelerate.PartialState
        The processes that share the work.
    stop : StopRequest, optional
        Checked while shards are computed.

    Attributes
    ----------
    journal : Journal
        After `open_journal`.
    resumed : set of int
        Shards that an earlier run finished, after `open_journal`.
    """

    journal: Journal
    resumed: set[int]

    def __init__(self, outputs: Sequence[Path], state: PartialState, stop: StopRequest | None = None):
        self.outputs, self._state = list(outputs), state
        self._stop = stop if stop is not None else StopRequest()
        self._shards = 0
        self._stack = ExitStack()
        self.start_shard()

    # ---- outputs and journal -------------------------------------------------------------------------------

    def __enter__(self) -> Job:
        if self._state.is_main_process:
            self._stack.enter_context(OutputLocks(self.outputs))
            for path in self.outputs:
                remove_partial_files(path)
                remove_partial_files(record_path(path))
        self._stop.is_deferred = True
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._stop.is_deferred = False
        with self._stack:
            if self._owns_journal and not (self.outputs and self.journal.stored()):
                self.journal.remove()

    def open_journal(self, key: Mapping[str, object], shards: int, restart: bool = False) -> None:
        """Open the journal that all processes share, and find out which shards are finished already.

        Parameters
        ----------
        key : mapping
            Settings that determine the values; see `Journal`.
        shards : int
            Number of shards of the whole run.
        restart : bool
            Delete the shards of an earlier run.

        Raises
        ------
        ZfliponError
            If the outputs have an unfinished run with another key.
        """
        first = self.outputs[0] if self.outputs else None
        folder = journal_path(first) if first else broadcast_from_main(self._state, temporary_folder)
        journal = Journal(folder, key)

        def begin() -> set[int]:
            journal.begin(restart)
            return journal.finished(range(shards))

        self.resumed = broadcast_from_main(self._state, begin)
        self.journal, self._shards = journal, shards
        if self.resumed:
            log.info("resuming: %d of %d shards are finished", len(self.resumed), shards)

    def publish(self) -> None:
        """Call this just before the outputs get their final names.

        If the run is killed between two names, its rerun may replace the outputs that have theirs.
        """
        parts: dict[Path, os.stat_result] = {}
        for output in self.outputs:
            with suppress(OSError):
                parts[output] = temporary_path(output).stat()
        self.journal.mark_publishing(parts)

    def finish(self, record: dict, details: Mapping[Path, dict] | None = None) -> None:
        """Write the record of each output and delete the journal. The main process calls this at the end.

        Parameters
        ----------
        record : dict
            What the records of all outputs have in common.
        details : mapping of Path to dict, optional
            Output → what only its record has.
        """
        for output in self.outputs:
            write_record(output, record | (details or {}).get(output, {}))
        self.journal.remove()

    @property
    def _owns_journal(self) -> bool:
        return self._state.is_main_process and hasattr(self, "journal")

    # ---- stopping ------------------------------------------------------------------------------------------

    @property
    def is_stopping(self) -> bool:
        """Whether somebody asked the run to stop."""
        return bool(self._stop)

    def check_stop(self) -> None:
        """Raise `Stopped` if somebody asked the run to stop."""
        if not self._stop:
            return
        number, self._stop.signal_number = self._stop.signal_number, 0
        message = "stopped"
        if hasattr(self, "journal") and self.outputs:
            message = (
                f"stopped; {len(self.journal.stored())} of {self._shards} shards are saved in {self.journal.folder}. "
                "Run the same command again to resume"
            )
        raise Stopped(number, message)

    def start_shard(self) -> None:
        """Start the clock of a shard."""
        self._shard_started, self._shard_done = time.monotonic(), 0

    def advance_shard(self, done: int, size: int) -> None:
        """Count finished parts of a shard; show that this process is alive; stop if the rest would take too long.

        Parameters
        ----------
        done : int
            Parts finished since the last call.
        size : int
            Parts of the whole shard.

        Raises
        ------
        Stopped
            If somebody asked to stop and the rest of the shard would take longer than `GRACE_PERIOD`.
        """
        self.journal.beat()
        self._shard_done += done
        elapsed = time.monotonic() - self._shard_started
        rest = max(0, size - self._shard_done) / max(1, self._shard_done) * elapsed
        if self._stop and rest > GRACE_PERIOD:
            self.check_stop()


class ShardProgress:
    """Progress over shards, reported to a callback. The sum of the reports never exceeds the total.

    Parameters
    ----------
    report : callable or None
        Called with the number of units finished since the last call, and with the total. The first call is about
        what an earlier run finished.
    sizes : sequence of int
        Units (bases, records) of each shard.
    finished : set of int
        Shards that are finished already.
    """

    def __init__(self, report: Callable[[int, int], object] | None, sizes: Sequence[int], finished: set[int]):
        self._report, self._sizes, self._finished = report, sizes, set(finished)
        self._total = sum(sizes)
        self._whole = self._reported = sum(sizes[number] for number in self._finished)
        if report is not None:
            report(self._whole, self._total)

    def part(self, number: int, done: int) -> None:
        """Report that `done` units of a shard are finished."""
        if number not in self._finished:
            self._show(self._whole + min(done, self._sizes[number]))

    def shards(self, numbers: Iterable[int]) -> None:
        """Report finished shards, also those of other processes."""
        new = set(numbers) - self._finished
        self._finished |= new
        self._whole += sum(self._sizes[number] for number in new)
        self._show(self._whole)

    def _show(self, units: int) -> None:
        if self._report is not None and units > self._reported:
            self._report(units - self._reported, self._total)
            self._reported = units
