"""True-positive ratio of each token: of how often a token occurs, how often it is called and labelled.

Libina & Skvortsova (2025), section 5.7.1 and Table 5.4. Windows are those that the published models were tested on
(`zflipon.genome.tiled_windows`): tiled side by side, those with a label and some of the others.

One rule tells tokens for every objective. A token is labelled where the share of its bases that is labelled passes
the label threshold of the model's story, by which its training data were labelled. It is called where the share of its
bases that is called passes the same threshold. A token head gives all bases of a token one probability,
so that this is its own call; a base head's calls are put together to those of tokens as labels are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zflipon.config import DEFAULT_MODEL, InferenceConfig, TokenRatioConfig
from zflipon.errors import InputError, format_names
from zflipon.explain.table_files import aligned
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import Intervals, contains_positions, merge_by_contig
from zflipon.genome.tiled_windows import TiledWindows, build_tiled_windows, sample_windows
from zflipon.inference.batching import Batch
from zflipon.inference.predictor import Predictor
from zflipon.models import load
from zflipon.omics.features import open_model_features
from zflipon.tokenization.alignment import labels_to_tokens

if TYPE_CHECKING:
    from zflipon.models import Checkpoint, ModelMetadata

COLUMNS = ("token", "tp", "total", "tp_percent")

_POOL = 4096
"""Windows that are read at a time, so that memory does not grow with the genome."""


@dataclass
class TokenCounts:
    """How often each token of a vocabulary occurs, by id.

    Attributes
    ----------
    total, called, labelled, tp : numpy.ndarray
        int64, shape (vocabulary,): all that hold a base, those called, those labelled, and those that are both.
    """

    total: np.ndarray
    called: np.ndarray
    labelled: np.ndarray
    tp: np.ndarray

    @classmethod
    def none(cls, vocabulary: int) -> TokenCounts:
        """Return counts of nothing."""
        return cls(*np.zeros((4, vocabulary), dtype=np.int64))

    def add(self, ids: np.ndarray, called: np.ndarray, labelled: np.ndarray) -> None:
        """Count tokens.

        Parameters
        ----------
        ids : numpy.ndarray
            int64, shape (tokens,).
        called, labelled : numpy.ndarray
            bool, shape (tokens,).
        """
        size = len(self.total)
        self.total += np.bincount(ids, minlength=size)
        self.called += np.bincount(ids[called], minlength=size)
        self.labelled += np.bincount(ids[labelled], minlength=size)
        self.tp += np.bincount(ids[called & labelled], minlength=size)


@dataclass(frozen=True)
class TokenRatios:
    """What was counted, and of what.

    Attributes
    ----------
    names : list of str
        Of the tokens, by id.
    counts : TokenCounts
    settings : dict
        Model, data and settings, as the CSV file tells them.
    """

    names: list[str]
    counts: TokenCounts
    settings: dict[str, object]

    def about(self) -> dict[str, object]:
        """Return what the CSV file tells of itself."""
        return {
            "table": "true positives of each token; tp_percent is tp / total, from 0 to 1",
            **self.settings,
        }

    def rows(self) -> list[tuple[str, int, int, float]]:
        """Return a row of `COLUMNS` for each token that occurs: by falling ratio, then total, then token."""
        rows = [
            (self.names[i], int(self.counts.tp[i]), int(self.counts.total[i]), float(ratio))
            for i, ratio in zip(*self._ratios(), strict=True)
        ]
        return sorted(rows, key=lambda row: (-row[3], -row[2], row[0]))

    def told(self, count: int) -> str:
        """Lay the first `count` tokens out for reading."""
        rows = [
            [token, f"{tp:,}", f"{total:,}", f"{ratio:.4f}"]
            for token, tp, total, ratio in self.rows()[:count]
        ]
        counts = self.counts
        return (
            f"{self.settings['windows']}: {counts.total.sum():,} tokens, {counts.labelled.sum():,} of them labelled, "
            f"{counts.called.sum():,} called, {counts.tp.sum():,} both\n" + aligned(COLUMNS, rows)
        )

    def _ratios(self) -> tuple[np.ndarray, np.ndarray]:
        met = np.flatnonzero(self.counts.total)
        return met, self.counts.tp[met] / self.counts.total[met]


def token_ratios(
    genome: str | Path,
    labels: str | Path,
    model: str | Path = DEFAULT_MODEL,
    blacklist: str | Path | None = None,
    contigs: Sequence[str] = (),
    config: TokenRatioConfig | None = None,
    predict: InferenceConfig | None = None,
    advance: Callable[[int, int], object] = lambda windows, total: None,
    features: str | Path | None = None,
    missing_features: str = "error",
) -> TokenRatios:
    """Count each token's true positives over the windows of the published protocol.

    Parameters
    ----------
    genome : str or Path
        FASTA.
    labels : str or Path
        BED of Z-DNA.
    model : str or Path
        A checkpoint that calls tokens or bases, as `zflipon.models.load` finds it.
    blacklist : str or Path, optional
        BED; windows that touch it are left out.
    contigs : sequence of str
        The contigs to read; none means all.
    config : TokenRatioConfig, optional
    predict : InferenceConfig, optional
        How the model is run; one strand is read.
    advance : callable
        Told, now and again, the windows just done and the windows in all.
    features : str or Path, optional
        Table of the omics tracks that the model reads; see `zflipon.omics.features`.
    missing_features : str
        One of `zflipon.config.MISSING_FEATURES`.

    Raises
    ------
    InputError
        If a file cannot be used, no window has a label, or there is no true positive.
    ModelError
        If the model calls neither tokens nor bases, or the device or precision is not there.
    """
    config = config or TokenRatioConfig()
    with Genome(genome) as source:
        lengths = source.select_contigs(contigs)
        runs = _labels(source, labels, lengths)
        avoided = (
            merge_by_contig(read_bed(blacklist, source.lengths, "blacklisted regions"), lengths)
            if blacklist
            else {}
        )
        checkpoint = load(model)
        omics = open_model_features(checkpoint, features, source.lengths, missing_features)
        predictor = Predictor(checkpoint, predict, features=omics)
        tiled = _tiled(source, lengths, runs, avoided, config.window or checkpoint.metadata.window)
        chosen = sample_windows(tiled, 0, config.negatives, config.seed)
        if not tiled.labelled.any():
            raise InputError(
                f"{labels}: no window of {tiled.width} bases has a label; those that are mostly N or touch the "
                "blacklist are left out"
            )
        counts = count(predictor, source, tiled, chosen, runs, config.threshold, advance)
    settings = _settings(checkpoint, predictor, config, tiled, chosen) | {
        "genome": Path(genome).name,
        "labels": Path(labels).name,
        "blacklist": Path(blacklist).name if blacklist else "none",
        "contigs": ", ".join(lengths),
    }
    _require_true_positives(counts, settings)
    return TokenRatios(checkpoint.tokenizer.names(), counts, settings)


def count(
    predictor: Predictor,
    genome: Genome,
    tiled: TiledWindows,
    chosen: np.ndarray,
    labels: Intervals,
    threshold: float | None = None,
    advance: Callable[[int, int], object] = lambda windows, total: None,
) -> TokenCounts:
    """Count the tokens of windows, in batches.

    Parameters
    ----------
    predictor : Predictor
        Of a model that calls tokens or bases.
    genome : Genome
    tiled : TiledWindows
    chosen : numpy.ndarray
        int64: the windows to read.
    labels : Intervals
        Disjoint and sorted.
    threshold : float, optional
        Probability from which a base is called; the model's own where nothing is said.
    advance : callable
        As `token_ratios` has it.
    """
    threshold = np.float32(predictor.metadata.threshold if threshold is None else threshold)
    counts = TokenCounts.none(len(predictor.tokenizer.names()))
    for first in range(0, len(chosen), _POOL):
        windows = chosen[first : first + _POOL]
        sequences, labelled = _read(genome, tiled, windows, labels)
        for batch, logits in predictor.run_batches(sequences, features=_seen(predictor, tiled, windows)):
            called = predictor.base_values(batch, logits)[0] >= threshold
            counts.add(*_tokens(batch, called, labelled[batch.indices].ravel(), predictor.metadata))
            advance(len(batch.indices), len(chosen))
    return counts


def _tokens(
    batch: Batch, called: np.ndarray, labelled: np.ndarray, metadata: ModelMetadata
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a batch's tokens that hold bases: ids, whether they are called and whether they are labelled."""
    # tokens tile their windows, so that those of all windows are told in one go
    rule = (batch.tokens.lengths, metadata.label_threshold, metadata.label_comparison)
    holding = batch.tokens.lengths > 0
    told = (labels_to_tokens(bases, *rule)[holding] == 1 for bases in (called, labelled))
    return batch.tokens.ids[holding], *told


def _seen(predictor: Predictor, tiled: TiledWindows, windows: np.ndarray) -> list[np.ndarray] | None:
    """Return what the model sees of the tracks in windows; None for a model without."""
    if predictor.features is None:
        return None
    found = []
    for window in windows:
        start, contig = int(tiled.start[window]), tiled.contigs[tiled.contig[window]]
        found += predictor.read_features(contig, np.array([[start, start + tiled.width]]))
    return found


def _read(
    genome: Genome, tiled: TiledWindows, windows: np.ndarray, labels: Intervals
) -> tuple[list[str], np.ndarray]:
    """Return the sequences of windows, and which of their bases are labelled: bool, shape (windows, width)."""
    starts, numbers = tiled.start[windows], tiled.contig[windows]
    contigs = [tiled.contigs[number] for number in numbers]
    sequences = [
        genome.fetch(contig, int(start), int(start) + tiled.width)
        for contig, start in zip(contigs, starts, strict=True)
    ]
    places = starts[:, None] + np.arange(tiled.width)
    labelled = np.zeros(places.shape, dtype=bool)
    for number in np.unique(numbers):
        own = numbers == number
        labelled[own] = contains_positions(labels.get(tiled.contigs[number]), places[own])
    return sequences, labelled


def _labels(genome: Genome, path: str | Path, lengths: dict[str, int]) -> Intervals:
    runs = merge_by_contig(read_bed(path, genome.lengths, "labels"), lengths)
    if not runs:
        raise InputError(
            f"{path}: no label on the contigs that are read ({format_names(lengths)}); expected a BED of Z-DNA"
        )
    return runs


def _tiled(
    genome: Genome, lengths: dict[str, int], labels: Intervals, blacklist: Intervals, width: int
) -> TiledWindows:
    stretches = {contig: genome.scan(contig, min_gap=1).segments for contig in lengths}
    return build_tiled_windows(lengths, labels, stretches, blacklist, width)


def _settings(
    checkpoint: Checkpoint,
    predictor: Predictor,
    config: TokenRatioConfig,
    tiled: TiledWindows,
    chosen: np.ndarray,
) -> dict[str, object]:
    metadata = checkpoint.metadata
    positive = int(tiled.labelled.sum())
    threshold = metadata.threshold if config.threshold is None else config.threshold
    kind = f"tokens of which a share {metadata.label_comparison} {metadata.label_threshold:g} of the bases"
    return {
        "model": checkpoint.path.name if checkpoint.path else metadata.family,
        "sha256": checkpoint.sha256,
        "objective": metadata.objective,
        "windows": f"{positive:,} windows of {tiled.width} bp with a label, {len(chosen) - positive:,} without",
        "negatives": f"{config.negatives:g} for each window with a label",
        "seed": config.seed,
        "labelled": f"{kind} is labelled",
        "called": f"{kind} has a probability >= {threshold:g}",
        "precision": str(predictor.dtype).removeprefix("torch."),
    }


def _require_true_positives(counts: TokenCounts, settings: dict[str, object]) -> None:
    if not counts.tp.any():
        raise InputError(
            f"no true positives in {settings['windows']}: of {counts.total.sum():,} tokens "
            f"{counts.labelled.sum():,} are labelled and {counts.called.sum():,} called by {settings['model']}, none "
            "both; try a lower --threshold, other contigs or another model"
        )
