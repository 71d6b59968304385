"""Omics features of windows: the tracks of a model on one genome, scaled and averaged as the model expects.

Reading single tracks is in `zflipon.omics.tracks`, the table of tracks in `zflipon.omics.spec`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zflipon.checksums import sha256_of
from zflipon.errors import InputError, format_names, suggest
from zflipon.models.metadata import FEATURE_KINDS, Feature, View
from zflipon.omics.spec import TrackEntry, read_track_table
from zflipon.omics.tracks import OmicsReader, open_reader, sum_between

if TYPE_CHECKING:
    from zflipon.models import Checkpoint

log = logging.getLogger("zflipon")

_SAMPLES, _SAMPLE_BASES = 512, 1 << 13
"""Number and length of the random intervals in which mean and scale of a track are measured."""


@dataclass(frozen=True)
class FeatureTracks:
    """The tracks of a model on one genome.

    Attributes
    ----------
    features : tuple of Feature
        In the model's order.
    readers : dict of str to OmicsReader
        Name → reader, of the tracks that were provided.
    lengths : dict of str to int
        The genome's contigs.
    paths : dict of str to Path
        Name → file.
    shifted : frozenset of str
        Tracks that are read half a contig away from their position, as a control: the same values in other places.
    hashes : dict of str to str
        Name → SHA-256 of the file, where it is known already.
    """

    features: tuple[Feature, ...]
    readers: Mapping[str, OmicsReader]
    lengths: Mapping[str, int]
    paths: Mapping[str, Path]
    shifted: frozenset[str] = frozenset()
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def present(self) -> np.ndarray:
        """1 for tracks that were provided, else 0: float32, shape (tracks,)."""
        return np.array([feature.name in self.readers for feature in self.features], dtype=np.float32)

    @cached_property
    def file_hashes(self) -> dict[str, str]:
        """Name → SHA-256 of the file, as hex, of the tracks that were provided."""
        paths = {name: path for name, path in sorted(self.paths.items()) if name in self.readers}
        return {name: self.hashes.get(name) or sha256_of(path) for name, path in paths.items()}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the names and files of the tracks that were provided, as hex."""
        return sha256(
            "".join(f"{name} {digest}\n" for name, digest in self.file_hashes.items()).encode()
        ).hexdigest()

    def values(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return the scaled values of all tracks; the range may pass the ends of the contig.

        Returns
        -------
        numpy.ndarray
            float32, shape (tracks, end - start): (x - mean) / scale; 0 for a missing track and outside of the
            contig.
        """
        values = np.zeros((len(self.features), end - start), dtype=np.float32)
        low, high = max(start, 0), min(end, self.lengths[contig])
        for row, feature in zip(values, self.features, strict=True):
            if feature.name in self.readers and low < high:
                x = self._read(feature.name, contig, low, high)
                row[low - start : high - start] = (x - np.float32(feature.mean)) / np.float32(feature.scale)
        return values

    def window(self, contig: str, start: int, end: int, view: View) -> np.ndarray:
        """Return the omics input of one window: float32, shape (tracks, steps); see `windows`."""
        return self.windows(contig, np.array([[start, end]]), view)[0]

    def windows(self, contig: str, bounds: np.ndarray, view: View) -> list[np.ndarray]:
        """Return the omics input of windows. It is fast if the windows are close to each other.

        Parameters
        ----------
        contig : str
        bounds : numpy.ndarray
            int64, shape (n, 2): starts and ends.
        view : View
            Bases of a step, and bases read beyond each end of a window.

        Returns
        -------
        list of numpy.ndarray
            float32, shape (tracks, steps): the mean of each step, from `view.flank` bases before the window to the
            same number after its last step.
        """
        if not len(bounds):
            return []
        firsts = bounds[:, 0] - view.flank
        counts = np.array([view.steps(end - start) for start, end in bounds.tolist()])
        inputs: list[np.ndarray] = [np.empty(0)] * len(bounds)
        for offset in np.unique(firsts % view.step):  # usually one: windows are a whole number of steps apart
            group = np.flatnonzero(firsts % view.step == offset)
            origin = int(firsts[group].min())
            steps = int((firsts[group] + counts[group] * view.step).max() - origin) // view.step
            means = self._means(contig, origin, steps, view.step)
            for window in group:
                first = (firsts[window] - origin) // view.step
                inputs[window] = means[:, first : first + counts[window]]
        return inputs

    def _means(self, contig: str, origin: int, steps: int, step: int) -> np.ndarray:
        """Return the mean of each step from `origin` on, which may be before the contig: float32, (tracks, steps)."""
        if step == 1:
            return self.values(contig, origin, origin + steps)
        edges = (origin + step * np.arange(steps + 1)).clip(0, self.lengths[contig])
        inside = np.diff(edges)
        means = np.zeros((len(self.features), steps), dtype=np.float32)
        if edges[0] < edges[-1]:
            for row, feature in zip(means, self.features, strict=True):
                if feature.name in self.readers:
                    total = self._sums(feature.name, contig, edges) - feature.mean * inside
                    row[:] = total / (feature.scale * step)
        return means

    def drop_tracks(self, names: Iterable[str]) -> FeatureTracks:
        """Return the tracks without some, as if these had not been provided."""
        dropped = set(names)
        return replace(
            self, readers={name: reader for name, reader in self.readers.items() if name not in dropped}
        )

    def shift_track(self, name: str) -> FeatureTracks:
        """Return the tracks with one of them read half a contig away from its position."""
        return replace(self, shifted=self.shifted | {name})

    def _sums(self, name: str, contig: str, edges: np.ndarray) -> np.ndarray:
        if name in self.shifted:
            return sum_between(self._read(name, contig, int(edges[0]), int(edges[-1])), edges)
        return self.readers[name].sums(contig, edges)

    def _read(self, name: str, contig: str, low: int, high: int) -> np.ndarray:
        reader, length = self.readers[name], self.lengths[contig]
        if name not in self.shifted:
            return reader.read(contig, low, high)
        position, parts = (low + length // 2) % length, []
        while high > low:  # continues at the contig's start when it passes the end
            size = min(high - low, length - position)
            parts.append(reader.read(contig, position, position + size))
            low, position = low + size, 0
        return np.concatenate(parts)


def fit_features(
    path: str | Path, lengths: Mapping[str, int], contigs: Mapping[str, int], seed: int
) -> FeatureTracks:
    """Open the tracks of a table for training, and measure mean and scale on the training contigs.

    Parameters
    ----------
    path : str or Path
        Table of tracks, with kinds.
    lengths : mapping of str to int
        The genome's contigs.
    contigs : mapping of str to int
        Training contigs and their lengths.
    seed : int
        For the random intervals in which mean and scale are measured.

    Raises
    ------
    InputError
        If the table or a track cannot be used.
    """
    tracks = read_track_table(path)
    for track in tracks:
        if track.kind is None:
            raise InputError(
                f"{path}: track '{track.name}' has no kind; expected one of {', '.join(FEATURE_KINDS)}"
            )
    readers = {track.name: open_reader(track, lengths) for track in tracks}
    samples = _sample_intervals(contigs, np.random.default_rng(seed))
    features = tuple(_fit_feature(track, readers[track.name], samples) for track in tracks)
    return FeatureTracks(features, readers, lengths, {track.name: track.path for track in tracks})


def open_features(
    features: Sequence[Feature], path: str | Path | None, lengths: Mapping[str, int], missing: str = "error"
) -> FeatureTracks:
    """Open the tracks that a trained model reads.

    Parameters
    ----------
    features : sequence of Feature
        From the model's metadata.
    path : str or Path or None
        Table of tracks with the model's names; the kind may be left out. None: no tracks are provided.
    lengths : mapping of str to int
        The genome's contigs.
    missing : str
        ``'error'``, or ``'zero'``: run the model without the tracks that are not in the table.

    Raises
    ------
    InputError
        If a track is missing, unknown to the model, of another kind, or not of this assembly.
    """
    expected = {feature.name: feature for feature in features}
    tracks = read_track_table(path) if path else []
    extra = [track.name for track in tracks if track.name not in expected]
    if extra:
        raise InputError(
            f"{path}: the model has no track {format_names(extra, 3)}{suggest(extra[0], expected)}; it reads "
            f"{format_names(expected)}"
        )
    absent = [name for name in expected if name not in {track.name for track in tracks}]
    if absent and missing == "error":
        raise InputError(
            f"{path or 'no table of tracks'}: {len(absent)} of the model's {len(expected)} tracks are missing "
            f"({format_names(absent)}); add them, or pass --missing-features zero to run without them"
        )
    tracks = [track._replace(kind=track.kind or expected[track.name].kind) for track in tracks]
    for track in tracks:
        kind = expected[track.name].kind
        if track.kind != kind:
            raise InputError(
                f"{path}: track '{track.name}' is '{track.kind}', the model was trained with '{kind}'; correct the kind"
            )
    readers = {track.name: open_reader(track, lengths) for track in tracks}
    return FeatureTracks(tuple(features), readers, lengths, {track.name: track.path for track in tracks})


def open_model_features(
    checkpoint: Checkpoint, path: str | Path | None, lengths: Mapping[str, int], missing: str = "error"
) -> FeatureTracks | None:
    """Open the omics tracks that a model reads; return None for a model that reads only the sequence.

    Parameters and errors are those of `open_features`. A table for a model that reads only the sequence is an error.
    """
    features = checkpoint.metadata.features
    if not features and path is None:
        return None
    if not features:
        raise InputError(
            f"{path}: this model reads no omics tracks; choose one that does, or leave out the table"
        )
    tracks = open_features(features, path, lengths, missing)
    if not checkpoint.metadata.allows_missing_features and not tracks.present.all():
        log.warning("the model was not trained with missing tracks: expect less accurate calls")
    return tracks


def _sample_intervals(contigs: Mapping[str, int], rng: np.random.Generator) -> list[tuple[str, int, int]]:
    """Return random intervals of all contigs, in proportion to their lengths."""
    names, sizes = list(contigs), np.array(list(contigs.values()))
    sampled = rng.choice(len(names), _SAMPLES, p=sizes / sizes.sum())
    starts = [int(rng.integers(max(1, sizes[i] - _SAMPLE_BASES + 1))) for i in sampled]
    return [
        (names[i], start, min(start + _SAMPLE_BASES, int(sizes[i])))
        for i, start in zip(sampled, starts, strict=True)
    ]


def _fit_feature(track: TrackEntry, reader: OmicsReader, samples: list[tuple[str, int, int]]) -> Feature:
    if track.kind == "binary":
        return Feature(track.name, track.kind)
    x = np.concatenate([reader.read(*sample) for sample in samples]).astype(np.float64)
    deviation = float(x.std())
    scale = round(deviation, 6) if deviation > 1e-6 else 1.0
    return Feature(track.name, track.kind, round(float(x.mean()), 6), scale)
