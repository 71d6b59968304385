"""Windows of a genome → the probabilities of their cores, read and tokenized ahead of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np

from zflipon.config import PROBABILITY_DECIMALS
from zflipon.errors import NotANumberError
from zflipon.genome.fasta import Genome
from zflipon.genome.sequence_windows import SequenceWindows
from zflipon.inference.concurrency import Prefetch
from zflipon.inference.predictor import POOL, Batch, Launched, Predictor

FLOOR = 0.0
"""Probability of bases that a screen found not worth reading."""

UNWRITTEN = 0.4 * 10**-PROBABILITY_DECIMALS
"""A base that can have no more than this is 0 in a track; half of the last digit, but for what floats may differ by."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive windows of one stretch of a contig.

    Attributes
    ----------
    contig : str
    tiles : numpy.ndarray
        `zflipon.genome.windows.WINDOW_DTYPE`, shape (n,).
    read : numpy.ndarray or None
        bool, shape (n,): windows that the model reads; the cores of the others get `FLOOR`. None: all.
    written : bool
        Whether nothing but the digits that tracks have is wanted of the probabilities: then windows of which the
        model's first factor says that all of them are 0 are read no further, and get what it leaves them at most
        (`Predictor.ceilings`).
    """

    contig: str
    windows: np.ndarray
    read: np.ndarray | None = None
    written: bool = False


def predict_windows(
    predictor: Predictor,
    genome: Genome,
    contig: str,
    windows: np.ndarray,
    progress: Callable[[int], None] = lambda bases: None,
    written: bool = False,
) -> np.ndarray:
    """Return the probabilities of a run of consecutive cores.

    Parameters
    ----------
    predictor : Predictor
    genome : Genome
    contig : str
    tiles : numpy.ndarray
        `zflipon.genome.windows.WINDOW_DTYPE`, consecutive windows of one stretch.
    progress : callable
        Called with the number of bases decided since the last call.
    written : bool
        As `Stretch` has it.

    Returns
    -------
    numpy.ndarray
        float32, shape (tiles["core_end"][-1] - tiles["core_start"][0],); NaN at N and
        in windows of which more than half is N.
    """
    ((_, found),) = predict_stretches(
        predictor, genome, [Stretch(contig, windows, written=written)], progress
    )
    return found


def predict_stretches(
    predictor: Predictor,
    genome: Genome,
    stretches: Iterable[Stretch],
    progress: Callable[[int], None] = lambda bases: None,
) -> Iterator[tuple[Stretch, np.ndarray]]:
    """Predict one stretch after the other, reading and tokenizing ahead of the model.

    Parameters
    ----------
    predictor, genome, progress
        As `predict_tiles` has them. Nothing else may read the genome meanwhile.
    stretches : iterable of Stretch
        Taken one by one, some batches ahead.

    Yields
    ------
    stretch : Stretch
        As it was given, but that it tells which windows were read where it has no more than what is `written`.
    probabilities : numpy.ndarray
        float32, as `predict_tiles` returns them.
    """
    jobs = _jobs(predictor, genome, stretches)
    with (
        nullcontext(jobs) if predictor.tokenizing is None else Prefetch(jobs, 1) as jobs,
        Prefetch(_tokenized(predictor, jobs), predictor.prefetch_depth) as items,
    ):
        for job, batch, launched in predictor.launched(items):
            if batch is None:
                progress(job.skipped)
                with predictor.clock("project"):
                    found = job.result(predictor)
                yield job.stretch, found
                continue
            with predictor.clock("model"):
                rows = job.collected(predictor, launched)
            with predictor.clock("project"):
                progress(job.add(predictor, batch, rows))


class _Job:
    """A stretch on its way: its windows as parts of its text, and the probabilities that have come in.

    The cores of a stretch's windows stand side by side, so that what is known of windows is repeated for their bases.
    """

    def __init__(self, stretch: Stretch, text: str, predictor: Predictor):
        windows = stretch.windows
        origin = int(windows["start"].min())
        self.stretch = stretch
        letters = np.frombuffer(text.encode("ascii"), dtype=np.uint8) == ord("N")
        unknown = np.concatenate([[0], np.cumsum(letters)])
        start, end = windows["start"] - origin, windows["end"] - origin
        kept = 2 * (unknown[end] - unknown[start]) <= end - start
        counts = windows["core_end"] - windows["core_start"]
        first, size = int(windows["core_start"][0]) - origin, int(counts.sum())
        self.nothing = letters[first:][:size]
        self.found = np.full(size, np.nan, dtype=np.float32)
        read, left = stretch.read, FLOOR
        # a screen, where there is one, leaves little that this would find
        if read is None and stretch.written and (ceilings := predictor.ceilings(text)) is not None:
            read, left = _undecided(ceilings, windows["core_start"] - origin), ceilings[first:][:size]
            self.stretch = replace(stretch, read=read)
        if read is not None:
            np.copyto(self.found, left, where=np.repeat(kept & ~read, counts))
            kept &= read
        rows = np.flatnonzero(kept)
        self.sequences = SequenceWindows(text, start[rows], end[rows])
        self.features = predictor.seen(
            stretch.contig, np.stack([windows["start"], windows["end"]], axis=1)[rows]
        )
        inner = (windows["core_start"] - windows["start"])[rows]
        self.decided, self.counts = np.repeat(kept, counts), counts[rows]
        self.cores = np.stack([inner, inner + self.counts], axis=1)
        self.skipped = size - int(self.counts.sum())
        self.forward = len(rows)
        self.waiting: list[tuple[Batch, np.ndarray]] = []
        self.shares = predictor.shares
        # a strand adds to each kind of value what it counts for
        kinds = len(self.shares[0])
        self.values = np.zeros((len(rows), kinds, self.counts.max(initial=0)), dtype=np.float32)
        if predictor.both_strands:
            if self.features is not None:
                self.features += [seen[:, ::-1] for seen in self.features]
            turned = (self.sequences.widths[:, None] - self.cores)[:, ::-1]
            self.cores = np.concatenate([self.cores, turned])
            self.sequences = self.sequences.with_reverse_complement()
        # nearly all cores lie at one place of their windows, but for those at the ends of a stretch
        self.places, self.place = np.unique(self.cores, axis=0, return_inverse=True)

    def add(self, predictor: Predictor, batch: Batch, rows: np.ndarray) -> int:
        """Take a batch in; return how many bases it has decided."""
        self.waiting.append((batch, rows))
        if sum(len(each.indices) for each, _ in self.waiting) >= POOL:
            self._lay_down(predictor)
        return int(self.counts[batch.indices[batch.indices < self.forward]].sum())

    def _lay_down(self, predictor: Predictor) -> None:
        """Add what the batches say to the values; many at once, since small calls cost more than what they do."""
        if not self.waiting:
            return
        batches, rows = zip(*self.waiting, strict=True)
        self.waiting.clear()
        values = predictor.values(batches, rows)
        indices = np.concatenate([batch.indices for batch in batches])
        turned, place = indices >= self.forward, self.place[indices]
        windows = indices - self.forward * turned
        for number in np.unique(place):
            low, high = self.places[number]
            # one strand first: a window may be here twice, once on each
            for back, share in enumerate(self.shares):
                mine = np.flatnonzero((place == number) & (turned == bool(back)))
                wanted = values[mine, :, low:high]
                self.values[windows[mine], :, : high - low] += share * (wanted[..., ::-1] if back else wanted)

    def collected(self, predictor: Predictor, launched: Launched) -> np.ndarray:
        """Wait for a batch; an error says where in the genome it was."""
        try:
            return predictor.collect(launched)
        except NotANumberError as error:
            windows = self.stretch.windows
            place = f"{self.stretch.contig}:{windows['start'].min() + 1:,}-{windows['end'].max():,}"
            raise NotANumberError(f"{place}: {error}") from None

    def result(self, predictor: Predictor) -> np.ndarray:
        """Return all probabilities, without a value at N."""
        self._lay_down(predictor)
        own = np.arange(self.values.shape[2]) < self.counts[:, None]
        self.found[self.decided] = predictor.joined(self.values.swapaxes(0, 1)[:, own])
        self.found[self.nothing] = np.nan
        return self.found


def _undecided(ceilings: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return which cores, side by side from each start on, may hold a base that a track tells from 0."""
    # what is not a number settles nothing: the window is read, and the run fails aloud
    return ~(np.maximum.reduceat(ceilings, starts) <= UNWRITTEN)


def _jobs(predictor: Predictor, genome: Genome, stretches: Iterable[Stretch]) -> Iterator[_Job]:
    """Read one stretch after the other."""
    for stretch in stretches:
        with predictor.clock("read"):
            windows = stretch.windows
            text = genome.fetch(stretch.contig, int(windows["start"].min()), int(windows["end"].max()))
            job = _Job(stretch, text, predictor)
        yield job


def _tokenized(predictor: Predictor, jobs: Iterable[_Job]) -> Iterator[tuple[_Job, Batch | None]]:
    """Yield the batches of each stretch, then None for its end."""

    def batches(job: _Job) -> tuple[_Job, list[Batch]]:
        with predictor.clock("tokenize"):
            return job, list(predictor.batches(job.sequences, job.cores, job.features, predictor.in_factors))

    each = map if predictor.tokenizing is None else predictor.tokenizing.each
    for job, found in each(batches, jobs):
        yield from ((job, batch) for batch in found)
        yield job, None
