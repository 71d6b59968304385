"""Sequences → batches: tokenize, sort by token count, pad and collate.

Batches are run in `zflipon.inference.executor`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from zflipon.genome.intervals import complete_runs
from zflipon.genome.sequence_windows import SequenceWindows
from zflipon.inference.devices import DeviceProfile, device_profile
from zflipon.models.collate import collate, select_rows
from zflipon.tokenization.tokenizers import DnaTokenizer
from zflipon.tokenization.tokens import TokenBatch, single_tokens

POOL_WINDOWS = 4096
"""Windows that are tokenized, sorted by token count and collated together, so that batches need little padding."""

POOL_BASES = 1 << 23
"""Most bases of a pool, padding included: a long sequence among many short ones would fill the memory."""

MAX_PADDING = 1 / 16
"""Largest fraction of padding in a trimmed batch; see `DeviceProfile.trim_from_tokens`."""


@dataclass(frozen=True)
class Batch:
    """Sequences of one forward pass.

    Attributes
    ----------
    indices : numpy.ndarray
        int64, shape (sequences,): position of each sequence in the input of `Batcher.batches`.
    tokens : TokenBatch
    widths : numpy.ndarray
        int64, shape (sequences,): bases of each sequence.
    inputs : dict of str to Tensor
        Arguments of the model, on the CPU.
    core : (int, int) or None
        Range of bases that is needed of every sequence; None: all bases.
    return_factors : bool
        Whether the model returns the probabilities of its two factors instead of the log-odds of their product.
    return_product : bool
        Whether these log-odds are returned too, before the factors.
    """

    indices: np.ndarray
    tokens: TokenBatch
    widths: np.ndarray
    inputs: dict[str, torch.Tensor]
    core: tuple[int, int] | None = None
    return_factors: bool = False
    return_product: bool = False

    @property
    def base_mask(self) -> np.ndarray:
        """Positions that are bases and not padding: bool, shape (sequences, longest)."""
        return np.arange(self.widths.max()) < self.widths[:, None]


class Batcher:
    """Turns sequences into batches. Which sequences share a batch depends on them and the batch size alone.

    Other processes and later runs therefore compute the same values to the last bit.

    Parameters
    ----------
    tokenizer : DnaTokenizer
    device : torch.device
        The device that will run the batches.
    with_bases : bool
        Whether the model reads nucleotides beside tokens.
    batch_size : int, optional
        Sequences per batch. Default: the number that fills `DeviceProfile.tokens_per_batch`, or `bases_per_batch`.
    profile : DeviceProfile, optional
        Default: the device's own.
    reads_tokens : bool
        Whether the model reads tokens; if not, batches are measured in bases.
    """

    def __init__(
        self,
        tokenizer: DnaTokenizer,
        device: torch.device,
        with_bases: bool,
        batch_size: int | None = None,
        profile: DeviceProfile | None = None,
        reads_tokens: bool = True,
    ):
        self.tokenizer, self.device = tokenizer, device
        self.with_bases, self.batch_size = with_bases, batch_size
        self.profile = profile or device_profile(device)
        self.reads_tokens = reads_tokens

    def batches(
        self,
        sequences: Sequence[str],
        cores: np.ndarray | None = None,
        features: Sequence[np.ndarray] | None = None,
        present: np.ndarray | None = None,
        return_factors: bool = False,
        return_product: bool = False,
        first_factors: Sequence[np.ndarray] | None = None,
        needs_tokens: bool = True,
    ) -> Iterator[Batch]:
        """Yield batches of sequences of similar size.

        Parameters
        ----------
        sequences : sequence of str
        cores : numpy.ndarray, optional
            int64, shape (sequences, 2): the range of bases that is needed of each, at least one; other bases may be
            undefined. With `first_factors`, the model gets it with whole calls: the activity of a call is the mean over
            its bases, and must not depend on the other sequences of a batch.
        features : sequence of numpy.ndarray, optional
            Omics tracks of each sequence: float32, shape (tracks, steps).
        present : numpy.ndarray, optional
            Which tracks are given: float32, shape (tracks,). Required with `features`.
        return_factors, return_product : bool
            As in `Batch`.
        first_factors : sequence of numpy.ndarray, optional
            First factor of each sequence, if it is known: float32, shape (2, bases).
        needs_tokens : bool
            False: a model that does not read tokens gets each sequence as one token.
        """
        sequences = SequenceWindows.from_sequences(sequences)
        if cores is not None and first_factors is not None:
            pairs = zip(cores.tolist(), first_factors, strict=True)
            cores = np.array(
                [complete_runs(start, end, factor[1] > 0) for (start, end), factor in pairs]
            ).reshape(-1, 2)
        first = end = 0
        while end < len(sequences):
            first, end = end, end + _pool_size(sequences.widths[end : end + POOL_WINDOWS])
            pool = sequences[first:end]
            is_read = self.reads_tokens or needs_tokens
            tokens = self.tokenizer.encode(pool) if is_read else single_tokens(pool.widths)
            order = _order(tokens.counts if self.reads_tokens else pool.widths, cores, first)
            pool, tokens = pool[order], tokens[order]
            # one call for the whole pool, because calls for each batch cost more than their work
            inputs = collate(
                tokens,
                pool,
                self.tokenizer.pad_id,
                self.with_bases,
                features=features and [features[first + i] for i in order],
                present=present,
                first_factors=first_factors and [first_factors[first + i] for i in order],
            )
            for rows in self._split(tokens.counts if self.reads_tokens else pool.widths):
                batch_inputs = select_rows(inputs, rows, tokens.counts[rows], pool.widths[rows])
                if self.device.type == "cuda":
                    batch_inputs = {
                        name: tensor.contiguous().pin_memory() for name, tensor in batch_inputs.items()
                    }
                indices = first + order[rows]
                core = None if cores is None else _enclosing_range(cores[indices])
                widths, rows_of_output = pool.widths[rows], (return_factors, return_product)
                yield Batch(indices, tokens[rows], widths, batch_inputs, core, *rows_of_output)

    def _split(self, sizes: np.ndarray) -> Iterator[slice]:
        """Yield the rows of each batch of a pool whose sizes, in tokens or bases, are sorted."""
        most = self.profile.tokens_per_batch if self.reads_tokens else self.profile.bases_per_batch
        size = self.batch_size or max(1, most // max(int(sizes.max()), 1))
        trim_from, start = self.profile.trim_from_tokens, 0
        while start < len(sizes):
            rows = size
            if self.batch_size is None:  # short contigs: more rows of the same size
                while (
                    start + rows < len(sizes)
                    and 2 * rows * max(sizes[start : start + 2 * rows][-1], 1) <= most
                ):
                    rows *= 2
            batch = sizes[start : start + rows]
            if trim_from is not None:
                used, padded = np.cumsum(batch), batch * np.arange(1, len(batch) + 1)
                wasteful = np.flatnonzero((used > trim_from) & (padded - used > MAX_PADDING * padded))
                batch = batch[: wasteful[0]] if len(wasteful) else batch
            yield slice(start, start + len(batch))
            start += len(batch)


def _pool_size(widths: np.ndarray) -> int:
    """Return how many of the next sequences make a pool of at most `POOL_BASES`; at least one."""
    padded = np.maximum.accumulate(widths) * np.arange(1, len(widths) + 1)
    return max(1, int(np.searchsorted(padded, POOL_BASES, side="right")))


def _order(sizes: np.ndarray, cores: np.ndarray | None, first: int) -> np.ndarray:
    """Return the order of sequences by size, then by the start of their cores: a batch computes one range for all."""
    if cores is None:
        return np.argsort(sizes, kind="stable")
    return np.lexsort((cores[first : first + len(sizes), 0], sizes))


def _enclosing_range(cores: np.ndarray) -> tuple[int, int]:
    return int(cores[:, 0].min()), int(cores[:, 1].max())
