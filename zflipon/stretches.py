"""Windows of a genome → the probabilities of their cores, read and tokenized ahead of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from zflipon.config import DECIMALS
from zflipon.errors import NotANumberError
from zflipon.genome import Genome, reverse_complement
from zflipon.overlap import ahead
from zflipon.predict import AHEAD, Batch, Launched, Predictor

FLOOR = 0.0
"""Probability of bases that a screen found not worth reading."""

UNWRITTEN = 0.4 * 10**-DECIMALS
"""A base that can have no more than this is 0 in a track; half of the last digit, but for what floats may differ by."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive windows of one stretch of a contig.

    Attributes
    ----------
    contig : str
    tiles : numpy.ndarray
        `zflipon.windows.WINDOW_DTYPE`, shape (n,).
    read : numpy.ndarray or None
        bool, shape (n,): windows that the model reads; the cores of the others get `FLOOR`. None: all.
    written : bool
        Whether nothing but the digits that tracks have is wanted of the probabilities: then windows of which the
        model's first factor says that all of them are 0 are read no further, and get what it leaves them at most
        (`Predictor.ceilings`).
    """

    contig: str
    tiles: np.ndarray
    read: np.ndarray | None = None
    written: bool = False


def predict_tiles(
    predictor: Predictor,
    genome: Genome,
    contig: str,
    tiles: np.ndarray,
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
        `zflipon.windows.WINDOW_DTYPE`, consecutive windows of one stretch.
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
    ((_, found),) = predict_stretches(predictor, genome, [Stretch(contig, tiles, written=written)], progress)
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
    with ahead(_prepared(predictor, genome, stretches), AHEAD) as items:
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
    """A stretch on its way: its text in windows, and the probabilities that have come in."""

    def __init__(self, stretch: Stretch, text: str, predictor: Predictor):
        tiles = stretch.tiles
        origin = int(tiles["start"].min())
        self.stretch = stretch
        letters = np.frombuffer(text.encode("ascii"), dtype=np.uint8) == ord("N")
        unknown = np.concatenate([[0], np.cumsum(letters)])
        start, end = tiles["start"] - origin, tiles["end"] - origin
        kept = 2 * (unknown[end] - unknown[start]) <= end - start
        first = int(tiles["core_start"][0])
        size = int(tiles["core_end"][-1]) - first
        self.nothing = letters[first - origin :][:size]
        self.found = np.full(size, np.nan, dtype=np.float32)
        places, counts = tiles["core_start"] - first, tiles["core_end"] - tiles["core_start"]
        read, left = stretch.read, np.full(size, FLOOR, dtype=np.float32)
        # a screen, where there is one, leaves little that this would find
        if read is None and stretch.written and (ceilings := predictor.ceilings(text)) is not None:
            read, left = _undecided(ceilings, tiles["core_start"] - origin), ceilings[first - origin :]
            self.stretch = replace(stretch, read=read)
        if read is not None:
            unread = kept & ~read
            unread = _ranges(places[unread], counts[unread])
            self.found[unread] = left[unread]
            kept &= read
        windows = np.flatnonzero(kept)
        self.sequences = [text[low:high] for low, high in zip(start[windows], end[windows], strict=True)]
        self.features = predictor.seen(
            stretch.contig, np.stack([tiles["start"], tiles["end"]], axis=1)[windows]
        )
        self.widths = (end - start)[windows]
        self.places, self.counts = places[windows], counts[windows]
        inner = (tiles["core_start"] - tiles["start"])[windows]
        self.cores = np.stack([inner, inner + self.counts], axis=1)
        self.skipped = size - int(self.counts.sum())
        self.forward = len(windows)
        self.shares = predictor.shares
        # a strand adds to each kind of value what it counts for
        self.values = np.zeros((len(self.shares[0]), size), dtype=np.float32)
        if predictor.both_strands:
            self.sequences += [reverse_complement(sequence) for sequence in self.sequences]
            if self.features is not None:
                self.features += [seen[:, ::-1] for seen in self.features]
            self.cores = np.concatenate([self.cores, (self.widths[:, None] - self.cores)[:, ::-1]])
            self.widths, self.places, self.counts = (
                np.tile(each, 2) for each in (self.widths, self.places, self.counts)
            )

    def add(self, predictor: Predictor, batch: Batch, rows: np.ndarray) -> int:
        """Lay down a batch; return how many bases it has decided."""
        values = predictor.base_values(batch, rows)
        chosen = np.array(batch.indices)
        ends = np.cumsum(self.widths[chosen])
        counts, turned = self.counts[chosen], chosen >= self.forward
        starts, places = ends - self.widths[chosen] + self.cores[chosen, 0], self.places[chosen]
        for back, share in enumerate(self.shares):  # one strand first: a base may be here twice, once on each
            mine = turned == bool(back)
            if mine.any():
                wanted = values[:, _ranges(starts[mine], counts[mine])]
                into = _ranges(places[mine], counts[mine], turned=bool(back))
                self.values[:, into] += share * wanted
        return int(counts[~turned].sum())

    def collected(self, predictor: Predictor, launched: Launched) -> np.ndarray:
        """Wait for a batch; an error says where in the genome it was."""
        try:
            return predictor.collect(launched)
        except NotANumberError as error:
            tiles = self.stretch.tiles
            place = f"{self.stretch.contig}:{tiles['start'].min() + 1:,}-{tiles['end'].max():,}"
            raise NotANumberError(f"{place}: {error}") from None

    def result(self, predictor: Predictor) -> np.ndarray:
        """Return all probabilities, without a value at N."""
        read = _ranges(self.places[: self.forward], self.counts[: self.forward])
        self.found[read] = predictor.joined(self.values[:, read])
        self.found[self.nothing] = np.nan
        return self.found


def _undecided(ceilings: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return which cores, side by side from each start on, may hold a base that a track tells from 0."""
    # what is not a number settles nothing: the window is read, and the run fails aloud
    return ~(np.maximum.reduceat(ceilings, starts) <= UNWRITTEN)


def _ranges(starts: np.ndarray, counts: np.ndarray, turned: bool = False) -> np.ndarray:
    """Return the places of runs of so many from each start on, one run after the other; turned, each from its end."""
    total = int(counts.sum())
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    if turned:
        within = np.repeat(counts - 1, counts) - within
    return np.repeat(starts, counts) + within


def _prepared(
    predictor: Predictor, genome: Genome, stretches: Iterable[Stretch]
) -> Iterator[tuple[_Job, Batch | None]]:
    """Yield the batches of each stretch, then None for its end."""
    for stretch in stretches:
        with predictor.clock("read"):
            tiles = stretch.tiles
            text = genome.fetch(stretch.contig, int(tiles["start"].min()), int(tiles["end"].max()))
            job = _Job(stretch, text, predictor)
        batches = predictor.batches(job.sequences, job.cores, job.features, predictor.in_factors)
        while True:
            with predictor.clock("tokenize"):
                batch = next(batches, None)
            yield job, batch
            if batch is None:
                break
