"""Omics tracks that a model reads beside the sequence: chromatin marks, bound factors, methylation.

What a track says of a base is one number x, by its kind:

- ``binary``: 1 inside an interval (or where a height is above 0), else 0;
- ``signal``: log(1 + height), for heights of bigWig or bedGraph, below 0 taken as 0;
- ``distance``: log2(1 + bases to the nearest interval of a BED file), at most that of `FARTHEST`.

A model's story says by which mean and scale x is brought to the range that it learnt. BED and bedGraph are held in
memory as intervals; of a bigWig no more is read than is asked for.
"""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zflipon.errors import InputError, format_names, suggest
from zflipon.genome.interval_files import read_bed, read_bedgraph
from zflipon.genome.intervals import Intervals, count_covered, merge, merged_interval_mask
from zflipon.checksums import sha256_of
from zflipon.models.metadata import FEATURE_KINDS, Feature, View
from zflipon.tracks.base import paint_intervals
from zflipon.tracks.bigwig import BigWigReader as BigWigTrack
from zflipon.tracks.registry import BED, BIGWIG, require_format

if TYPE_CHECKING:
    from zflipon.models import Checkpoint

log = logging.getLogger("zflipon")

MAX_DISTANCE = 1 << 20
"""Bases beyond which an interval is no nearer or farther than another."""

_SAMPLE, _PIECE = 512, 1 << 13
"""Stretches, and their bases, from which mean and scale of a track are measured."""


class NamedTrack(NamedTuple):
    """A row of a table of tracks.

    Attributes
    ----------
    name : str
    path : Path
    kind : str or None
        One of `FEATURE_KINDS`; None: as the model has it.
    """

    name: str
    path: Path
    kind: str | None


class Reader(ABC):
    """x of one track; see the module."""

    @abstractmethod
    def read(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return x of a part of a contig: float32, shape (end - start,)."""

    def sums(self, contig: str, edges: np.ndarray) -> np.ndarray:
        """Return the sum of x between neighbouring edges: float64, shape (edges - 1,)."""
        return sums_between(self.read(contig, int(edges[0]), int(edges[-1])), edges)


def sums_between(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the sums between edges of values that begin at the first: float64, which holds them to the last bit."""
    total = np.concatenate([[0.0], np.cumsum(x, dtype=np.float64)])
    return np.diff(total[edges - edges[0]])


class InsideReader(Reader):
    """1 inside the intervals of a BED file."""

    def __init__(self, intervals: Intervals):
        self._intervals = {contig: merge(rows) for contig, rows in intervals.items()}

    def read(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return x of a part of a contig: float32, shape (end - start,)."""
        return merged_interval_mask(self._intervals.get(contig), start, end).astype(np.float32)

    def sums(self, contig: str, edges: np.ndarray) -> np.ndarray:
        """Return the bases inside between neighbouring edges, without a look at each base."""
        return count_covered(self._intervals.get(contig), edges).astype(np.float64)


class DistanceReader(Reader):
    """How far the nearest interval of a BED file is."""

    def __init__(self, intervals: Intervals):
        self._intervals = {contig: merge(rows) for contig, rows in intervals.items()}

    def read(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return x of a part of a contig: float32, shape (end - start,)."""
        places, away = np.arange(start, end), np.full(end - start, MAX_DISTANCE)
        rows = self._intervals.get(contig)
        if rows is not None and len(rows):
            after = np.searchsorted(rows[:, 1], places, side="right")  # the first that ends beyond a place
            next_start = np.where(
                after < len(rows), rows[np.minimum(after, len(rows) - 1), 0] - places, MAX_DISTANCE
            )
            behind = np.where(after > 0, places - rows[np.maximum(after, 1) - 1, 1] + 1, MAX_DISTANCE)
            away = np.minimum(np.maximum(next_start, 0), behind).clip(max=MAX_DISTANCE)
        return np.log2(1 + away).astype(np.float32)


class HeightReader(Reader):
    """Heights of a bedGraph, as they are or, for binary tracks, whether there is one."""

    def __init__(self, path: Path, lengths: Mapping[str, int], kind: str):
        self._kind = kind
        pieces: dict[str, list] = {}
        for contig, intervals, values in read_bedgraph(path, lengths):
            pieces.setdefault(contig, []).append((intervals.astype(np.int32), values.astype(np.float32)))
        self._contigs = {
            contig: tuple(map(np.concatenate, zip(*blocks, strict=True))) for contig, blocks in pieces.items()
        }

    def read(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return x of a part of a contig: float32, shape (end - start,)."""
        heights = np.zeros(end - start, dtype=np.float32)
        if contig in self._contigs:
            intervals, values = self._contigs[contig]
            paint_intervals(heights, intervals - start, values)
        return _of_heights(heights, self._kind)


class BigWigReader(Reader):
    """Heights of a bigWig, read as they are asked for; each process opens the file for itself."""

    def __init__(self, path: Path, lengths: Mapping[str, int], kind: str):
        self._path, self._lengths, self._kind = path, lengths, kind
        self._opened: tuple[int, BigWigTrack] = (os.getpid(), BigWigTrack(path, lengths))

    def read(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return x of a part of a contig: float32, shape (end - start,)."""
        if self._opened[0] != os.getpid():  # a handle shared over a fork would mix reads
            self._opened = (os.getpid(), BigWigTrack(self._path, self._lengths))
        return _of_heights(self._opened[1].scores(contig, start, end), self._kind)


def _of_heights(heights: np.ndarray, kind: str) -> np.ndarray:
    return (heights > 0).astype(np.float32) if kind == "binary" else np.log1p(heights.clip(min=0))


def open_reader(track: NamedTrack, lengths: Mapping[str, int]) -> Reader:
    """Open a track as its kind asks for; raise `InputError` where its format has no such values."""
    track_format = require_format(track.path)
    if track_format is BED and track.kind != "signal":
        kind = InsideReader if track.kind == "binary" else DistanceReader
        return kind(read_bed(track.path, lengths, f"intervals of {track.name}"))
    if track_format is BED or track.kind == "distance":
        takes = "bigWig or bedGraph" if track.kind == "signal" else "BED"
        raise InputError(f"{track.path}: track '{track.name}' of kind '{track.kind}' must be {takes}")
    return (BigWigReader if track_format is BIGWIG else HeightReader)(track.path, lengths, track.kind)


@dataclass(frozen=True)
class FeatureTracks:
    """The tracks of a model on one genome.

    Attributes
    ----------
    features : tuple of Feature
        In the model's order.
    readers : dict of str to Reader
        Name → track; those that are not given lack.
    lengths : dict of str to int
        The genome's contigs.
    paths : dict of str to Path
        Name → file.
    shifted : frozenset of str
        Tracks that are read half a contig away from where they belong: as they are, but for their place.
    hashes : dict of str to str
        Name → SHA-256 of files that were read for it already.
    """

    features: tuple[Feature, ...]
    readers: Mapping[str, Reader]
    lengths: Mapping[str, int]
    paths: Mapping[str, Path]
    shifted: frozenset[str] = frozenset()
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def present(self) -> np.ndarray:
        """Which tracks there are: float32, shape (tracks,), 1 or 0."""
        return np.array([feature.name in self.readers for feature in self.features], dtype=np.float32)

    @cached_property
    def file_hashes(self) -> dict[str, str]:
        """Name → SHA-256 of the file, as hex."""
        paths = {name: path for name, path in sorted(self.paths.items()) if name in self.readers}
        return {name: self.hashes.get(name) or sha256_of(path) for name, path in paths.items()}

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names and files of the tracks that there are, as hex."""
        return sha256(
            "".join(f"{name} {digest}\n" for name, digest in self.file_hashes.items()).encode()
        ).hexdigest()

    def values(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return what the tracks say of bases, which may lie beyond the ends of the contig.

        Returns
        -------
        numpy.ndarray
            float32, shape (tracks, end - start): (x - mean) / scale; 0 of a track that is not there, and beyond
            the contig's ends.
        """
        found = np.zeros((len(self.features), end - start), dtype=np.float32)
        low, high = max(start, 0), min(end, self.lengths[contig])
        for row, feature in zip(found, self.features, strict=True):
            if feature.name in self.readers and low < high:
                x = self._read(feature.name, contig, low, high)
                row[low - start : high - start] = (x - np.float32(feature.mean)) / np.float32(feature.scale)
        return found

    def window(self, contig: str, start: int, end: int, view: View) -> np.ndarray:
        """Return what a model with this view sees of a window: float32, shape (tracks, steps)."""
        return self.windows(contig, np.array([[start, end]]), view)[0]

    def windows(self, contig: str, bounds: np.ndarray, view: View) -> list[np.ndarray]:
        """Return what a model with this view sees of windows, which had better lie close together.

        Parameters
        ----------
        contig : str
        bounds : numpy.ndarray
            int64, shape (n, 2): starts and ends.
        view : View

        Returns
        -------
        list of numpy.ndarray
            float32, shape (tracks, steps): the mean of each step, from `view.flank` bases before the window to as
            many behind its last step.
        """
        if not len(bounds):
            return []
        firsts = bounds[:, 0] - view.flank
        counts = np.array([view.steps(end - start) for start, end in bounds.tolist()])
        found: list[np.ndarray] = [np.empty(0)] * len(bounds)
        for offset in np.unique(firsts % view.step):  # mostly one: windows lie a whole number of steps apart
            mine = np.flatnonzero(firsts % view.step == offset)
            origin = int(firsts[mine].min())
            cells = int((firsts[mine] + counts[mine] * view.step).max() - origin) // view.step
            means = self._means(contig, origin, cells, view.step)
            for window in mine:
                first = (firsts[window] - origin) // view.step
                found[window] = means[:, first : first + counts[window]]
        return found

    def _means(self, contig: str, origin: int, cells: int, step: int) -> np.ndarray:
        """Return the mean of each step from a base on, which may lie before the contig: float32, (tracks, cells)."""
        if step == 1:
            return self.values(contig, origin, origin + cells)
        edges = (origin + step * np.arange(cells + 1)).clip(0, self.lengths[contig])
        inside = np.diff(edges)
        found = np.zeros((len(self.features), cells), dtype=np.float32)
        if edges[0] < edges[-1]:
            for row, feature in zip(found, self.features, strict=True):
                if feature.name in self.readers:
                    total = self._sums(feature.name, contig, edges) - feature.mean * inside
                    row[:] = total / (feature.scale * step)
        return found

    def drop_tracks(self, names: Iterable[str]) -> FeatureTracks:
        """Return the tracks less some, as if they had not been given."""
        lost = set(names)
        kept = {name: reader for name, reader in self.readers.items() if name not in lost}
        return replace(self, readers=kept)

    def shift_track(self, name: str) -> FeatureTracks:
        """Return the tracks, one of them read half a contig away from where it belongs."""
        return replace(self, shifted=self.shifted | {name})

    def _sums(self, name: str, contig: str, edges: np.ndarray) -> np.ndarray:
        if name in self.shifted:
            return sums_between(self._read(name, contig, int(edges[0]), int(edges[-1])), edges)
        return self.readers[name].sums(contig, edges)

    def _read(self, name: str, contig: str, low: int, high: int) -> np.ndarray:
        reader, length = self.readers[name], self.lengths[contig]
        if name not in self.shifted:
            return reader.read(contig, low, high)
        at, pieces = (low + length // 2) % length, []
        while high > low:  # on over the contig's end to its beginning
            size = min(high - low, length - at)
            pieces.append(reader.read(contig, at, at + size))
            low, at = low + size, 0
        return np.concatenate(pieces)


def read_table(path: str | Path) -> list[NamedTrack]:
    """Read a table of tracks: name, path and kind, separated by tabs; ``#`` begins a comment.

    Raises
    ------
    InputError
        If the file is missing or malformed, a name occurs twice, or there is no track in it.
    """
    path, found = Path(path), {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read as a table of tracks ({getattr(error, 'strerror', None) or 'not a text file'})"
        ) from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, place, kind = _row(f"{path}:{number}", line)
        if name in found:
            raise InputError(f"{path}:{number}: a second track '{name}'; expected names that differ")
        found[name] = NamedTrack(name, path.parent / place, kind)
    if not found:
        raise InputError(f"{path}: no tracks in it; expected lines of name, path and kind, separated by tabs")
    return list(found.values())


def _row(where: str, line: str) -> tuple[str, str, str | None]:
    fields = [field.strip() for field in line.split("\t")]
    if len(fields) not in (2, 3) or not all(fields):
        raise InputError(f"{where}: expected name, path and kind, separated by tabs, found {line[:60]!r}")
    name, place, kind = (*fields, None)[:3]
    if kind is not None and kind not in FEATURE_KINDS:
        raise InputError(
            f"{where}: kind '{kind}' is unknown; expected {', '.join(FEATURE_KINDS)}{suggest(kind, FEATURE_KINDS)}"
        )
    return name, place, kind


def fit_features(
    path: str | Path, lengths: Mapping[str, int], contigs: Mapping[str, int], seed: int
) -> FeatureTracks:
    """Open the tracks of a table for a model to be trained, scaled by what they are on the training contigs.

    Parameters
    ----------
    path : str or Path
        Table of tracks, with kinds.
    lengths : mapping of str to int
        The genome's contigs.
    contigs : mapping of str to int
        Those that train.
    seed : int
        Of the stretches from which mean and scale are taken.

    Raises
    ------
    InputError
        If the table or a track cannot be used.
    """
    tracks = read_table(path)
    for track in tracks:
        if track.kind is None:
            raise InputError(
                f"{path}: track '{track.name}' has no kind; expected one of {', '.join(FEATURE_KINDS)}"
            )
    readers = {track.name: open_reader(track, lengths) for track in tracks}
    places = _places(contigs, np.random.default_rng(seed))
    features = tuple(_measured(track, readers[track.name], places) for track in tracks)
    return FeatureTracks(features, readers, lengths, {track.name: track.path for track in tracks})


def open_features(
    features: Sequence[Feature], path: str | Path | None, lengths: Mapping[str, int], missing: str = "error"
) -> FeatureTracks:
    """Open the tracks that a trained model reads.

    Parameters
    ----------
    features : sequence of Feature
        Of the model's story.
    path : str or Path or None
        Table of tracks with the model's names; the kind may be left out. None: no track is given.
    lengths : mapping of str to int
        The genome's contigs.
    missing : str
        ``'error'``, or ``'zero'``: the model does without those that are not given.

    Raises
    ------
    InputError
        If a track is missing, unknown to the model, of another kind, or not of this assembly.
    """
    known = {feature.name: feature for feature in features}
    tracks = read_table(path) if path else []
    extra = [track.name for track in tracks if track.name not in known]
    if extra:
        raise InputError(
            f"{path}: the model knows no track {format_names(extra, 3)}{suggest(extra[0], known)}; it reads {format_names(known)}"
        )
    lacking = [name for name in known if name not in {track.name for track in tracks}]
    if lacking and missing == "error":
        raise InputError(
            f"{path or 'no table of tracks'}: {len(lacking)} of the model's {len(known)} tracks are missing "
            f"({format_names(lacking)}); give them, or say --missing-features zero to do without"
        )
    tracks = [track._replace(kind=track.kind or known[track.name].kind) for track in tracks]
    for track in tracks:
        kind = known[track.name].kind
        if track.kind != kind:
            raise InputError(
                f"{path}: track '{track.name}' is '{track.kind}', the model was trained with '{kind}'"
            )
    readers = {track.name: open_reader(track, lengths) for track in tracks}
    return FeatureTracks(tuple(features), readers, lengths, {track.name: track.path for track in tracks})


def open_model_features(
    checkpoint: Checkpoint, path: str | Path | None, lengths: Mapping[str, int], missing: str = "error"
) -> FeatureTracks | None:
    """Open what a model reads beside the sequence; None for one that reads the sequence alone.

    Parameters and errors are those of `open_features`, and it is an error to give tracks to a model without.
    """
    wanted = checkpoint.metadata.features
    if not wanted and path is None:
        return None
    if not wanted:
        raise InputError(
            f"{path}: this model reads no omics tracks; choose one that does, or leave the table out"
        )
    found = open_features(wanted, path, lengths, missing)
    if not checkpoint.metadata.allows_missing_features and not found.present.all():
        log.warning("the model was not trained to do without tracks that are not given: expect worse calls")
    return found


def _places(contigs: Mapping[str, int], rng: np.random.Generator) -> list[tuple[str, int, int]]:
    """Return stretches from all over the contigs, by their lengths."""
    names, sizes = list(contigs), np.array(list(contigs.values()))
    chosen = rng.choice(len(names), _SAMPLE, p=sizes / sizes.sum())
    starts = [int(rng.integers(max(1, sizes[i] - _PIECE + 1))) for i in chosen]
    return [
        (names[i], start, min(start + _PIECE, int(sizes[i]))) for i, start in zip(chosen, starts, strict=True)
    ]


def _measured(track: NamedTrack, reader: Reader, places: list[tuple[str, int, int]]) -> Feature:
    if track.kind == "binary":
        return Feature(track.name, track.kind)
    x = np.concatenate([reader.read(*place) for place in places]).astype(np.float64)
    spread = float(x.std())
    return Feature(
        track.name, track.kind, round(float(x.mean()), 6), round(spread, 6) if spread > 1e-6 else 1.0
    )
