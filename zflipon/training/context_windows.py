"""Training windows of the context network: chromatin targets in 128-bp bins, and labelled calls.

The loop that learns from them is in `zflipon.training.context`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zflipon.errors import InputError
from zflipon.models.heads.context_network import COARSE_BIN, FINE_BIN

_UNKNOWN = 4
"""Code of N and of bases outside a contig."""

_COMPLEMENT = np.array([3, 2, 1, 0, _UNKNOWN], dtype=np.uint8)


@dataclass(frozen=True)
class ContextTraining:
    """Settings of the context training.

    Attributes
    ----------
    steps : int
    window : int
        Bases of a window, a multiple of 128.
    batch_size : int
        Windows per step.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises during `warmup` steps and falls as a cosine to a hundredth.
    warmup : int
    call_share : float
        Share of windows that are placed around a Z-HUNT call; the others are placed uniformly.
    call_weight : float
        Weight of the loss of the calls, relative to that of the tracks.
    first_call_step : int
        Step from which the loss of the calls counts; before it, the tracks alone are learnt.
    average : float
        Decay of the running average of the weights, which is what the training returns.
    seed : int
    checkpoint_every : int
        Steps between two checkpoints.
    """

    steps: int = 6000
    window: int = 8192
    batch_size: int = 16
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    warmup: int = 300
    call_share: float = 0.5
    call_weight: float = 0.3
    first_call_step: int = 0
    average: float = 0.999
    seed: int = 0
    checkpoint_every: int = 500


class ChromatinTargets:
    """Chromatin tracks as bits over 128-bp bins.

    Parameters
    ----------
    names : list of str
        Of the tracks.
    rows : numpy.ndarray
        uint8, shape (bins, tracks / 8 rounded up): bit 7 of the first byte is the first track.
    offset : dict of str to int
        Contig → row of its first bin.
    """

    def __init__(self, names: list[str], rows: np.ndarray, offset: Mapping[str, int]):
        self.names, self.rows, self.offset = names, rows, offset

    @classmethod
    def load(cls, path: str | Path) -> ChromatinTargets:
        """Read an ``.npz`` file with ``names``, ``contigs``, ``offset`` and ``bits``.

        ``bits[t]`` holds track `t` over the bins of all contigs, eight to a byte; ``offset[i]`` is the first bin of
        ``contigs[i]``.

        Raises
        ------
        InputError
            If the file cannot be read or lacks an array.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                names, contigs, offset, bits = (
                    arrays[name] for name in ("names", "contigs", "offset", "bits")
                )
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{path}: not a file of chromatin targets ({error}); expected an .npz file with the arrays names, "
                "contigs, offset and bits"
            ) from error
        bins = int(offset[-1])
        rows = np.empty((bins, -(-len(names) // 8)), dtype=np.uint8)
        for first in range(0, len(names), 8):
            tracks = np.zeros((8, bins), dtype=np.uint8)
            block = bits[first : first + 8]
            tracks[: len(block)] = np.unpackbits(block, axis=1)[:, :bins]
            rows[:, first // 8] = np.packbits(tracks.T, axis=1)[:, 0]
        starts = dict(zip(map(str, contigs), map(int, offset[:-1]), strict=True))
        return cls([str(name) for name in names], rows, starts)

    def coverage(self) -> np.ndarray:
        """Return the share of bins that each track covers: float64, shape (tracks,)."""
        total = np.zeros(8 * self.rows.shape[1])
        for first in range(0, len(self.rows), 1 << 16):
            total += np.unpackbits(self.rows[first : first + (1 << 16)], axis=1).sum(0)
        return total[: len(self.names)] / len(self.rows)


class Call(NamedTuple):
    """A Z-HUNT call of a training contig.

    Attributes
    ----------
    contig : int
        Index of the contig.
    middle : int
        Position of its middle on the contig.
    labelled : bool
    """

    contig: int
    middle: int
    labelled: bool


class Batch(NamedTuple):
    """Tensors of one training step.

    Attributes
    ----------
    bases : Tensor
        float32, shape (batch, window, 4).
    tracks : Tensor
        uint8, shape (batch, bins, tracks): 1 where a track covers a 128-bp bin.
    inside : Tensor
        bool, shape (batch, bins): bins of the contig.
    rows, bins : Tensor
        int64, shape (calls,): the window of each call, and its 32-bp bin.
    labelled : Tensor
        float32, shape (calls,).
    groups : Tensor
        int64, shape (calls,): chromosome of each call.
    """

    bases: Tensor
    tracks: Tensor
    inside: Tensor
    rows: Tensor
    bins: Tensor
    labelled: Tensor
    groups: Tensor


class ContextWindows:
    """Draws training windows.

    Parameters
    ----------
    codes : dict of str to numpy.ndarray
        Contig → uint8 nucleotide codes: 0–3, and 4 for N.
    targets : ChromatinTargets
    calls : dict of str to numpy.ndarray
        Contig → int64, shape (calls, 2): starts and ends of Z-HUNT calls, sorted.
    labelled : dict of str to numpy.ndarray
        Contig → bool, shape (calls,).
    settings : ContextTraining

    Raises
    ------
    InputError
        If a contig has no targets, or if there are no calls.
    """

    def __init__(
        self,
        codes: Mapping[str, np.ndarray],
        targets: ChromatinTargets,
        calls: Mapping[str, np.ndarray],
        labelled: Mapping[str, np.ndarray],
        settings: ContextTraining,
    ):
        missing = [contig for contig in codes if contig not in targets.offset]
        if missing:
            raise InputError(
                f"the chromatin targets have no bins of {len(missing)} contigs, {missing[0]} among them; "
                "add these contigs to data.exclude_contigs, or make the targets for this genome"
            )
        self.targets, self.settings = targets, settings
        self.contigs = list(codes)
        self._codes = [codes[contig] for contig in self.contigs]
        self._bins = np.array([-(-len(each) // COARSE_BIN) for each in self._codes])
        self._cumulative = np.cumsum(self._bins)
        self._middles = [
            np.asarray(calls.get(contig, np.empty((0, 2)))).sum(1) // 2 for contig in self.contigs
        ]
        self._middles = [each.astype(np.int64) for each in self._middles]
        self._labelled = [labelled.get(contig, np.empty(0, dtype=bool)) for contig in self.contigs]
        self._calls = [
            Call(index, int(middle), bool(label))
            for index, (middles, labels) in enumerate(zip(self._middles, self._labelled, strict=True))
            for middle, label in zip(middles, labels, strict=True)
        ]
        if not self._calls:
            raise InputError("the training contigs have no Z-HUNT call; the context training needs some")
        chromosomes = [contig.split("_")[0] for contig in self.contigs]
        self.chromosomes = sorted(set(chromosomes))
        self._group = [self.chromosomes.index(chromosome) for chromosome in chromosomes]

    @property
    def calls_per_chromosome(self) -> list[int]:
        """Number of calls of each of `chromosomes`."""
        groups = [self._group[call.contig] for call in self._calls]
        return np.bincount(groups, minlength=len(self.chromosomes)).tolist()

    def batch(self, step: int) -> Batch:
        """Return the batch of a step; it depends on the seed and the step alone."""
        random = np.random.default_rng([self.settings.seed, step])
        windows = [self._window(random) for _ in range(self.settings.batch_size)]
        calls = np.concatenate(
            [
                np.column_stack([np.full(len(window.bins), row), window.bins, window.labelled, window.groups])
                for row, window in enumerate(windows)
            ]
        )
        codes = torch.from_numpy(np.stack([window.codes for window in windows]))
        packed = np.stack([window.tracks for window in windows])
        tracks = np.unpackbits(packed, axis=2)[..., : len(self.targets.names)]
        table = torch.zeros(_UNKNOWN + 1, _UNKNOWN)
        table[:_UNKNOWN] = torch.eye(_UNKNOWN)
        rows, bins, labelled, groups = torch.from_numpy(calls.T)
        inside = torch.from_numpy(np.stack([window.inside for window in windows]))
        return Batch(
            F.embedding(codes.long(), table),
            torch.from_numpy(tracks),
            inside,
            rows,
            bins,
            labelled.float(),
            groups,
        )

    def _window(self, random: np.random.Generator) -> _Window:
        bins = self.settings.window // COARSE_BIN
        if random.random() < self.settings.call_share:
            call = self._calls[random.integers(len(self._calls))]
            contig, place = call.contig, call.middle // COARSE_BIN
        else:
            number = random.integers(self._cumulative[-1])
            contig = int(np.searchsorted(self._cumulative, number, side="right"))
            place = int(number - (self._cumulative[contig] - self._bins[contig]))
        first = place - int(random.integers(bins // 4, bins - bins // 4))
        if self._bins[contig] >= bins:  # a long contig fills the window
            first = min(max(first, 0), int(self._bins[contig]) - bins)
        window = self._cut(contig, first, bins)
        return window.reverse_complement(self.settings.window) if random.random() < 0.5 else window

    def _cut(self, contig: int, first: int, bins: int) -> _Window:
        """Return `bins` bins of a contig from bin `first` on; outside the contig bases are unknown."""
        low, high = max(first, 0), min(first + bins, int(self._bins[contig]))
        codes = np.full(bins * COARSE_BIN, _UNKNOWN, dtype=np.uint8)
        part = self._codes[contig][low * COARSE_BIN : high * COARSE_BIN]
        begin = (low - first) * COARSE_BIN
        codes[begin : begin + len(part)] = part
        row = self.targets.offset[self.contigs[contig]]
        tracks = np.zeros((bins, self.targets.rows.shape[1]), dtype=np.uint8)
        tracks[low - first : high - first] = self.targets.rows[row + low : row + high]
        inside = np.zeros(bins, dtype=bool)
        inside[low - first : high - first] = True
        middles = self._middles[contig]
        chosen = slice(*np.searchsorted(middles, [first * COARSE_BIN, (first + bins) * COARSE_BIN]))
        places = middles[chosen] - first * COARSE_BIN
        groups = np.full(len(places), self._group[contig])
        return _Window(codes, tracks, inside, places // FINE_BIN, self._labelled[contig][chosen], groups)


class _Window(NamedTuple):
    codes: np.ndarray
    tracks: np.ndarray
    inside: np.ndarray
    bins: np.ndarray
    labelled: np.ndarray
    groups: np.ndarray

    def reverse_complement(self, size: int) -> _Window:
        return _Window(
            _COMPLEMENT[self.codes][::-1],
            self.tracks[::-1],
            self.inside[::-1],
            size // FINE_BIN - 1 - self.bins,
            self.labelled,
            self.groups,
        )
