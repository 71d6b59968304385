"""True-positive ratio of each token: the share of its occurrences that are both called and labelled.

Libina & Skvortsova (2025), section 5.7.1 and Table 5.4. Windows are those on which the published models were tested
(`zflipon.genome.tiled_windows`): all with a label, and a sample of the others.

A token is labelled if the share of its bases that are labelled passes the label threshold in the metadata of the
model, which is how its training data were labelled. It is called if the share of its bases that are called passes the
same threshold. A token head gives all bases of a token one probability, so that this is the call of the head itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zflipon.config import ARGMAX, DEFAULT_MODEL, InferenceConfig, TokenRatioConfig
from zflipon.errors import InputError, format_names
from zflipon.explain.call_rules import call_threshold, calling_checkpoint, describe_threshold
from zflipon.explain.run_windows import part_windows
from zflipon.explain.table_files import align_columns
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

_WINDOWS_AT_ONCE = 4096
"""Windows in memory at a time; results do not depend on it."""


@dataclass
class TokenCounts:
    """Occurrences of each token of a vocabulary.

    Attributes
    ----------
    total, called, labelled, tp : numpy.ndarray
        int64, shape (vocabulary,), by token id: all occurrences, those that are called, those that are labelled, and
        those that are both.
    """

    total: np.ndarray
    called: np.ndarray
    labelled: np.ndarray
    tp: np.ndarray

    @classmethod
    def zeros(cls, vocabulary: int) -> TokenCounts:
        """Return counts of 0 for a vocabulary of this size."""
        return cls(*np.zeros((4, vocabulary), dtype=np.int64))

    def add(self, ids: np.ndarray, called: np.ndarray, labelled: np.ndarray) -> None:
        """Count occurrences of tokens.

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
    """True-positive ratios of the tokens of a model.

    Attributes
    ----------
    names : list of str
        Text of each token, by id.
    counts : TokenCounts
    settings : dict
        Model, data and settings, for the header of the CSV file.
    """

    names: list[str]
    counts: TokenCounts
    settings: dict[str, object]

    def header(self) -> dict[str, object]:
        """Return the header of the CSV file."""
        return {
            "table": "true positives of each token; tp_percent is tp / total, from 0 to 1",
            **self.settings,
        }

    def rows(self) -> list[tuple[str, int, int, float]]:
        """Return the rows of `COLUMNS` for tokens that occur: by descending ratio, descending total, then token."""
        ids = np.flatnonzero(self.counts.total)
        rows = [
            (self.names[i], int(tp), int(total), float(tp / total))
            for i, tp, total in zip(ids, self.counts.tp[ids], self.counts.total[ids], strict=True)
        ]
        return sorted(rows, key=lambda row: (-row[3], -row[2], row[0]))

    def to_text(self, count: int) -> str:
        """Return the totals and the first `count` rows as text for the console."""
        rows = [
            [token, f"{tp:,}", f"{total:,}", f"{ratio:.4f}"]
            for token, tp, total, ratio in self.rows()[:count]
        ]
        counts = self.counts
        return (
            f"{self.settings['windows']}: {counts.total.sum():,} tokens, {counts.labelled.sum():,} of them labelled, "
            f"{counts.called.sum():,} called, {counts.tp.sum():,} both\n" + align_columns(COLUMNS, rows)
        )


def token_ratios(
    genome: str | Path,
    labels: str | Path,
    model: str | Path = DEFAULT_MODEL,
    blacklist: str | Path | None = None,
    contigs: Sequence[str] = (),
    config: TokenRatioConfig | None = None,
    predict: InferenceConfig | None = None,
    progress: Callable[[int, int], object] = lambda windows, total: None,
    features: str | Path | None = None,
    missing_features: str = "error",
    contig_aliases: str | Path | None = None,
) -> TokenRatios:
    """Count the true positives of each token over the windows of the published protocol.

    Parameters
    ----------
    genome : str or Path
        FASTA.
    labels : str or Path
        BED of Z-DNA.
    model : str or Path
        A checkpoint that calls tokens or bases, as `zflipon.models.load` accepts it.
    blacklist : str or Path, optional
        BED; windows that touch it are left out.
    contigs : sequence of str
        Contigs to read; all if empty.
    config : TokenRatioConfig, optional
    predict : InferenceConfig, optional
        How the model is run. Only the forward strand is predicted.
    progress : callable
        Called with the number of windows that were just predicted and the number of all windows.
    features : str or Path, optional
        Table of omics tracks, for a model that reads them; see `zflipon.omics.features`.
    missing_features : str
        One of `zflipon.config.MISSING_FEATURES`.
    contig_aliases : str or Path, optional
        Table of contig aliases; see `zflipon.genome.names.read_aliases`.

    Raises
    ------
    InputError
        If a file cannot be used, no window has a label, or there is no true positive.
    ModelError
        If the model calls neither tokens nor bases, or the device or precision is not available.
    """
    config = config or TokenRatioConfig()
    with Genome(genome, contig_aliases) as source:
        lengths = source.select_contigs(contigs)
        label_intervals = _read_labels(source, labels, lengths)
        avoided = (
            merge_by_contig(read_bed(blacklist, source.lengths, "blacklisted regions"), lengths)
            if blacklist
            else {}
        )
        checkpoint = load(model)
        omics = open_model_features(checkpoint, features, source.lengths, missing_features)
        predictor = Predictor(calling_checkpoint(checkpoint, config.threshold), predict, features=omics)
        width = config.window or checkpoint.metadata.window
        segments = {contig: source.scan(contig, min_gap=1).segments for contig in lengths}
        tiled = build_tiled_windows(lengths, label_intervals, segments, avoided, width)
        if config.part:
            chosen = part_windows(source, tiled, model, config.part, config.negatives, config.seed)
        else:
            chosen = sample_windows(tiled, 0, config.negatives, config.seed)
        if not tiled.labelled[chosen].any():
            raise InputError(
                f"{labels}: no window of {width} bases has a label; windows that are more than half N or touch the "
                "blacklist are left out"
            )
        counts = count_tokens(predictor, source, tiled, chosen, label_intervals, config.threshold, progress)
    settings = _describe_settings(checkpoint, predictor, config, tiled, chosen) | {
        "genome": Path(genome).name,
        "labels": Path(labels).name,
        "blacklist": Path(blacklist).name if blacklist else "none",
        "contigs": ", ".join(lengths),
    }
    _require_true_positives(counts, settings)
    return TokenRatios(checkpoint.tokenizer.names(), counts, settings)


def count_tokens(
    predictor: Predictor,
    genome: Genome,
    tiled: TiledWindows,
    chosen: np.ndarray,
    labels: Intervals,
    threshold: float | str | None = None,
    progress: Callable[[int, int], object] = lambda windows, total: None,
) -> TokenCounts:
    """Count the tokens of windows.

    Parameters
    ----------
    predictor : Predictor
        Of a model that calls tokens or bases.
    genome : Genome
    tiled : TiledWindows
    chosen : numpy.ndarray
        int64: indices of the windows to count.
    labels : Intervals
        Disjoint and sorted.
    threshold : float or str, optional
        Probability from which a base is called, or ``'argmax'``, for which the predictor has to be without calibration;
        the threshold of the model by default.
    progress : callable
        As for `token_ratios`.
    """
    lowest = np.float32(call_threshold(predictor.metadata, threshold))
    counts = TokenCounts.zeros(len(predictor.tokenizer.names()))
    for first in range(0, len(chosen), _WINDOWS_AT_ONCE):
        windows = chosen[first : first + _WINDOWS_AT_ONCE]
        sequences, labelled = _read_windows(genome, tiled, windows, labels)
        tracks = _read_tracks(predictor, tiled, windows)
        for batch, logits in predictor.run_batches(sequences, features=tracks):
            called = predictor.base_values(batch, logits)[0] >= lowest
            counts.add(*_classify_tokens(batch, called, labelled[batch.indices].ravel(), predictor.metadata))
            progress(len(batch.indices), len(chosen))
    return counts


def _classify_tokens(
    batch: Batch, called: np.ndarray, labelled: np.ndarray, metadata: ModelMetadata
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return id, call and label of each token with bases in a batch; the bases of its windows are concatenated."""
    rule = (batch.tokens.lengths, metadata.label_threshold, metadata.label_comparison)
    has_bases = batch.tokens.lengths > 0
    token_called, token_labelled = (
        labels_to_tokens(bases, *rule)[has_bases] == 1 for bases in (called, labelled)
    )
    return batch.tokens.ids[has_bases], token_called, token_labelled


def _read_tracks(predictor: Predictor, tiled: TiledWindows, windows: np.ndarray) -> list[np.ndarray] | None:
    """Return the omics tracks of windows as the model reads them; None for a model without."""
    if predictor.features is None:
        return None
    tracks: list[np.ndarray] = []
    for window in windows:
        start, contig = int(tiled.start[window]), tiled.contigs[tiled.contig[window]]
        bounds = np.array([[start, start + tiled.width]])
        tracks += predictor.features.windows(contig, bounds, predictor.module.view)
    return tracks


def _read_windows(
    genome: Genome, tiled: TiledWindows, windows: np.ndarray, labels: Intervals
) -> tuple[list[str], np.ndarray]:
    """Return the sequences of windows, and their labelled bases: bool, shape (windows, width)."""
    starts, contig_numbers = tiled.start[windows], tiled.contig[windows]
    sequences = [
        genome.fetch(tiled.contigs[number], int(start), int(start) + tiled.width)
        for number, start in zip(contig_numbers, starts, strict=True)
    ]
    positions = starts[:, None] + np.arange(tiled.width)
    labelled = np.zeros(positions.shape, dtype=bool)
    for number in np.unique(contig_numbers):
        rows = contig_numbers == number
        labelled[rows] = contains_positions(labels.get(tiled.contigs[number]), positions[rows])
    return sequences, labelled


def _read_labels(genome: Genome, path: str | Path, lengths: dict[str, int]) -> Intervals:
    intervals = merge_by_contig(read_bed(path, genome.lengths, "labels"), lengths)
    if not intervals:
        raise InputError(
            f"{path}: no label on the selected contigs ({format_names(lengths)}); expected a BED of Z-DNA"
        )
    return intervals


def _describe_settings(
    checkpoint: Checkpoint,
    predictor: Predictor,
    config: TokenRatioConfig,
    tiled: TiledWindows,
    chosen: np.ndarray,
) -> dict[str, object]:
    metadata = checkpoint.metadata
    positive = int(tiled.labelled[chosen].sum())
    called = describe_threshold(metadata, config.threshold)
    called = f"by {called}" if called == ARGMAX else f"at a probability >= {called}"
    rule = f"tokens with a share {metadata.label_comparison} {metadata.label_threshold:g} of their bases"
    return {
        "model": checkpoint.name,
        "sha256": checkpoint.sha256,
        "objective": metadata.objective,
        "windows": f"{positive:,} windows of {tiled.width} bp with a label, {len(chosen) - positive:,} without",
        "part": config.part or "none",
        "negatives": f"{config.negatives:g} for each window with a label",
        "seed": config.seed,
        "labelled": f"{rule} labelled",
        "called": f"{rule} called {called}",
        "precision": str(predictor.dtype).removeprefix("torch."),
    }


def _require_true_positives(counts: TokenCounts, settings: dict[str, object]) -> None:
    if not counts.tp.any():
        raise InputError(
            f"no true positives in {settings['windows']}: of {counts.total.sum():,} tokens "
            f"{counts.labelled.sum():,} are labelled and {counts.called.sum():,} are called by {settings['model']}, "
            "but none is both; use a lower --threshold, other contigs or another model"
        )
