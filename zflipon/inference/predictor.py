"""Sequences → probabilities: the batched forward pass, on whatever device there is."""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from zflipon.config import InferenceConfig, ModelConfig
from zflipon.errors import ModelError, NotANumberError, ZfliponError, format_names
from zflipon.genome.alphabet import base_codes
from zflipon.genome.sequence_windows import SequenceWindows
from zflipon.inference.concurrency import Clock, Prefetch, WorkerPool
from zflipon.inference.devices import pick_device, pick_precision, size_of
from zflipon.models.collate import collate, part_of
from zflipon.tokenization.alignment import tokens_to_bases
from zflipon.tokenization.tokens import TokenBatch, Tokens, pad_rows

if TYPE_CHECKING:
    from zflipon.models import Calibration, Checkpoint
    from zflipon.models.metadata import ModelMetadata
    from zflipon.omics.features import FeatureTracks

log = logging.getLogger("zflipon")

_TOKENS_PER_BATCH = {"cpu": 1 << 12, "mps": 1 << 15, "cuda": 1 << 18}
"""Automatic batch size: tokens that keep a device busy and fit the smallest of its kind; on a CPU each core has a
batch of its own, which should not leave its caches."""

POOL = 4096
"""Windows sorted by token count together, so that a batch holds little padding, and laid out, and projected."""

_LEAST = np.float32(1e-30)
"""A product of probabilities that float32 still tells from 0."""

_BUSY = {"cuda": 1 << 15}
"""Tokens that keep a device busy: a batch of more ends where padding would be more than `_PADDING` of it."""

_PADDING = 1 / 16

_BASES_AT_ONCE = {"cpu": 1 << 15, "cuda": 1 << 20}
"""Bases whose first factor is told together: on a CPU what that needs stays in a core's cache."""

_AHEAD = {"cpu": 24, "cuda": 4}
"""Batches that are read ahead of the model: those of a shard or two, which on a CPU are small."""

_TOKENIZING = {"cuda": 3}
"""Threads that tokenize and lay out, a stretch each: one would keep a GPU waiting. On a CPU the model has the cores,
and who reads far ahead takes shards that another process could begin."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Batch:
    """Sequences that are predicted together.

    Attributes
    ----------
    indices : numpy.ndarray
        int64, shape (n,): of the sequences.
    tokens : TokenBatch
    widths : numpy.ndarray
        int64, shape (n,): bases of each.
    inputs : dict of str to Tensor
        On the CPU.
    core : (int, int) or None
        Where the bases lie that are wanted of any of them; None: anywhere.
    in_factors : bool
        Whether a base head's two factors, as probabilities, are wanted in the place of their product's log-odds: for a
        mean over strands.
    """

    indices: np.ndarray
    tokens: TokenBatch
    widths: np.ndarray
    inputs: dict[str, torch.Tensor]
    core: tuple[int, int] | None = None
    in_factors: bool = False

    @property
    def own(self) -> np.ndarray:
        """Which bases, of rows as long as the longest sequence, are a sequence's own: bool, shape (n, longest)."""
        return np.arange(self.widths.max()) < self.widths[:, None]


@dataclass(frozen=True)
class Launched:
    """A batch that the device is at: where its logits will be, and what tells that they are.

    Attributes
    ----------
    logits : Tensor or Future of Tensor
        Of a CPU's cores, a promise.
    done : torch.cuda.Event or None
        Of a GPU.
    """

    logits: torch.Tensor | Future[torch.Tensor]
    done: torch.cuda.Event | None = None


class Predictor:
    """Runs a checkpoint over sequences.

    Parameters
    ----------
    checkpoint : Checkpoint
        With a token or a base head.
    config : InferenceConfig
    objectives : tuple of str
        Heads that will do; `probabilities` needs one that calls bases.
    features : FeatureTracks, optional
        Omics tracks of the genome, for a model that reads them.

    Raises
    ------
    ModelError
        If the checkpoint's head decides neither tokens nor bases, or the device or precision is not there, or if the
        model reads other tracks than there are.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: InferenceConfig | None = None,
        objectives: tuple[str, ...] = ("base", "token"),
        features: FeatureTracks | None = None,
    ):
        self.config = config or InferenceConfig()
        self.metadata, self.tokenizer = checkpoint.metadata, checkpoint.tokenizer
        if self.metadata.objective not in objectives:
            wanted = " or ".join(map(repr, objectives))
            raise ModelError(
                f"a model with the objective '{self.metadata.objective}' calls no bases; expected {wanted}"
            )
        self.both_strands = strands(self.config, self.metadata)
        self.features = features
        check_features(checkpoint, features)
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        self.device = pick_device(self.config.device)
        module = checkpoint.module.to(self.device).eval()
        self.dtype = pick_precision(self.config.precision, self.device, size_of(module))
        self.module = with_narrow_weights(module, self.dtype)
        self.clock = Clock()
        threads = _TOKENIZING.get(self.device.type)
        self.tokenizing = None if threads is None else WorkerPool(threads)
        self._most = _TOKENS_PER_BATCH.get(self.device.type, _TOKENS_PER_BATCH["cpu"])
        self._at_once = 2
        if self.device.type == "cpu":
            self._cores = WorkerPool()
            self._at_once = self._cores.count + 1

    def probabilities(
        self,
        sequences: Sequence[str],
        features: Sequence[np.ndarray] | None = None,
        cores: np.ndarray | None = None,
        advance: Callable[[int], None] = lambda _: None,
    ) -> list[np.ndarray]:
        """Return the probability of each base of each sequence.

        Parameters
        ----------
        sequences : sequence of str
            Windows, upper case.
        features : sequence of numpy.ndarray, optional
            What the model sees of the tracks there: float32, shape (tracks, steps); not given: no tracks.
        cores : numpy.ndarray, optional
            int64, shape (sequences, 2): the bases of each that are wanted, which is quicker under a base head; what
            it says of others means nothing then.
        advance : callable, optional
            Called with how many sequences were read, batch by batch; with both strands, each is read twice.

        Returns
        -------
        list of numpy.ndarray
            float32, one array of shape (bases,) for each sequence.

        Raises
        ------
        ModelError
            If the model returns a value that is not a number.
        """
        sequences = SequenceWindows.from_sequences(sequences)
        forward = self._strand(sequences, features, cores, advance)
        if not self.both_strands:
            return [self.joined(values) for values in forward]
        backward = self._strand(
            sequences.reverse_complement(),
            features and [seen[:, ::-1] for seen in features],
            None if cores is None else (sequences.widths[:, None] - cores)[:, ::-1],
            advance,
        )
        ours, theirs = self.shares
        return [
            self.joined(ours * one + theirs * other[:, ::-1])
            for one, other in zip(forward, backward, strict=True)
        ]

    @property
    def prefetch_depth(self) -> int:
        """How many batches are read and tokenized while the model works."""
        return _AHEAD.get(self.device.type, _AHEAD["cuda"])

    @property
    def shares(self) -> tuple[np.ndarray, np.ndarray]:
        """What each strand counts for, the one that is read and the other: float32, shape (kinds, 1).

        By `base_values`: of a base head, what can form Z-DNA is told by rules of the strand that is read, as published
        maps are, and the other strand has no say in it.
        """
        if not self.both_strands:
            return np.ones((1, 1), dtype=np.float32), np.zeros((1, 1), dtype=np.float32)
        ours, theirs = ([1, 0.5], [0, 0.5]) if self.in_factors else ([0.5], [0.5])
        return np.array(ours, dtype=np.float32)[:, None], np.array(theirs, dtype=np.float32)[:, None]

    def seen(self, contig: str, bounds: np.ndarray) -> list[np.ndarray] | None:
        """Return what the model sees of the tracks in windows of a contig; None for a model without.

        Parameters
        ----------
        contig : str
        bounds : numpy.ndarray
            int64, shape (windows, 2): starts and ends, close together.
        """
        if self.features is None:
            return None
        return self.features.windows(contig, bounds, self.module.view)

    def ceilings(self, text: str) -> np.ndarray | None:
        """Return what the probability of each base is at most.

        A base head's probability is a product. One factor, what can form Z-DNA at all, needs no tokens and no context,
        and takes a small part of the time of both; hardly a base has much of it.

        Parameters
        ----------
        text : str
            Upper case. Bases within a margin of either end may be told otherwise than with their surroundings.

        Returns
        -------
        numpy.ndarray or None
            float32, shape (bases,); None for a head of another kind.
        """
        if self._base_head is None:
            return None
        codes = torch.from_numpy(base_codes(text))
        step = _BASES_AT_ONCE.get(self.device.type, _BASES_AT_ONCE["cpu"])
        places = range(0, len(text), step)
        each = self._cores.each if self.device.type == "cpu" else map
        odds = np.concatenate(list(each(lambda start: self._can_form(codes, start, start + step), places)))
        return _sigmoid(calibrated(odds, self.metadata.calibration))

    @torch.inference_mode()
    def _can_form(self, codes: torch.Tensor, start: int, end: int) -> np.ndarray:
        """Return the first factor of ``[start, end)``, as its surroundings have it: float32 log-odds.

        Where memory does not suffice, of one half after the other.
        """
        first, end = max(0, start - self.metadata.margin), min(end, len(codes))
        # on a CPU the base head computes in full whatever the encoder does
        narrow = self.dtype != torch.float32 and self.device.type != "cpu"
        try:
            rows = codes[first : end + self.metadata.margin][None].to(self.device)
            with torch.autocast(self.device.type, self.dtype, enabled=narrow):
                forms = self._base_head.can_form(rows)
            return forms[0, start - first : end - first].cpu().numpy()
        except RuntimeError as error:
            self._require_want_of_memory(error, end - start > self.metadata.window)
        self._give_memory_back()
        middle = (start + end) // 2
        log.warning(
            "%d bases at once do not fit the memory of %s; going on with %d",
            end - start,
            self.device,
            middle - start,
        )
        return np.concatenate([self._can_form(codes, start, middle), self._can_form(codes, middle, end)])

    def logits(
        self, sequences: Sequence[str], features: Sequence[np.ndarray] | None = None
    ) -> Iterator[tuple[int, Tokens, np.ndarray]]:
        """Run the model, sequences of like token counts together.

        Parameters
        ----------
        sequences : sequence of str
            Upper case.
        features : sequence of numpy.ndarray, optional
            As `probabilities` has them.

        Yields
        ------
        index : int
            Of the sequence; they come in no order.
        tokens : Tokens
        logits : numpy.ndarray
            float32, of shape (tokens, classes), (bases,) or (classes,), as the objective has it.
        """
        for batch, logits in self.run(sequences, features=features):
            sizes = {"base": batch.widths, "token": batch.tokens.counts}.get(self.metadata.objective)
            for i, (index, tokens) in enumerate(zip(batch.indices.tolist(), batch.tokens, strict=True)):
                yield index, tokens, logits[i] if sizes is None else logits[i, : sizes[i]]

    def run(
        self,
        sequences: Sequence[str],
        cores: np.ndarray | None = None,
        features: Sequence[np.ndarray] | None = None,
        in_factors: bool = False,
    ) -> Iterator[tuple[Batch, np.ndarray]]:
        """Yield batches with their logits, tokenizing ahead of the model; arguments as `batches` has them."""
        with Prefetch(self.batches(sequences, cores, features, in_factors), self.prefetch_depth) as batches:
            for _, batch, launched in self.launched((None, batch) for batch in batches):
                yield batch, self.collect(launched)

    def batches(
        self,
        sequences: Sequence[str],
        cores: np.ndarray | None = None,
        features: Sequence[np.ndarray] | None = None,
        in_factors: bool = False,
    ) -> Iterator[Batch]:
        """Tokenize sequences, and lay those of like token counts side by side.

        What is in a batch follows from the sequences and the batch size alone, so that other processes
        and later runs get the same values to the last bit.

        Parameters
        ----------
        sequences : sequence of str
        cores : numpy.ndarray, optional
            int64, shape (sequences, 2): the bases of each that are wanted; a base head may leave others undecided.
        features : sequence of numpy.ndarray, optional
            As `probabilities` has them.
        in_factors : bool
            As `Batch` has it.
        """
        sequences = SequenceWindows.from_sequences(sequences)
        for first in range(0, len(sequences), POOL):
            pool = sequences[first : first + POOL]
            tokens = self.tokenizer.encode(pool)
            order = np.argsort(tokens.counts, kind="stable")
            pool, tokens = pool[order], tokens[order]
            # what is laid out of all of them at once takes few calls
            inputs = collate(
                tokens,
                pool,
                self.tokenizer.pad_id,
                self.metadata.objective == "base",
                features=features and [features[first + i] for i in order],
                present=self.features and self.features.present,
            )
            for part in self._parts(tokens.counts):
                mine = part_of(inputs, part, tokens.counts[part], pool.widths[part])
                if self.device.type == "cuda":
                    mine = {name: tensor.contiguous().pin_memory() for name, tensor in mine.items()}
                indices = first + order[part]
                core = None if cores is None else _span(cores[indices])
                yield Batch(indices, tokens[part], pool.widths[part], mine, core, in_factors)

    def launch(self, batch: Batch) -> Launched:
        """Set the model to work on a batch; it may still be at it when this returns."""
        if self.device.type == "cpu":
            return Launched(self._cores.submit(self._forward, batch.inputs, batch.core, batch.in_factors))
        logits = self._forward(batch.inputs, batch.core, batch.in_factors)
        if logits.device.type != "cuda":
            return Launched(logits)
        host = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
        host.copy_(logits, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return Launched(host, done)

    def launched(
        self, items: Iterable[tuple[Item, Batch | None]]
    ) -> Iterator[tuple[Item, Batch | None, Launched | None]]:
        """Launch batches, some before the first of them is handed on, so that no device waits for the next one.

        Parameters
        ----------
        items : iterable of (object, Batch or None)
            What goes with a batch is handed on beside it; without a batch, in its turn.
        """
        waiting: deque[tuple[Item, Batch | None, Launched | None]] = deque()
        for mark, batch in items:
            with self.clock("model"):
                waiting.append((mark, batch, None if batch is None else self.launch(batch)))
            if len(waiting) >= self._at_once:
                yield waiting.popleft()
        yield from waiting

    def collect(self, launched: Launched) -> np.ndarray:
        """Wait for a batch; return float32 logits, a row a sequence; raise `NotANumberError` where one is none."""
        if launched.done is not None:
            launched.done.synchronize()
        logits = launched.logits
        rows = (logits.result() if isinstance(logits, Future) else logits.cpu()).numpy()
        if not np.isfinite(rows).all():
            raise NotANumberError("the model returned a value that is not a number; try --precision float32")
        return rows

    def values(self, batches: Sequence[Batch], rows: Sequence[np.ndarray]) -> np.ndarray:
        """Return what a strand says of the bases of some batches.

        Parameters
        ----------
        batches : sequence of Batch
            At least one; all are wanted in factors, or none is.
        rows : sequence of numpy.ndarray
            What `collect` returned of each.

        Returns
        -------
        numpy.ndarray
            float32, shape (sequences of all, kinds, longest): probabilities; of batches in factors, those of the two,
            uncalibrated. Beyond the end of a sequence they mean nothing.
        """
        if self.metadata.objective == "base":
            values = _below_each_other(rows)
            if batches[0].in_factors:
                return values
            return _sigmoid(calibrated(values, self.metadata.calibration))[:, None]
        odds = [
            (each[..., 1] - each[..., 0])[np.arange(each.shape[1]) < batch.tokens.counts[:, None]]
            for batch, each in zip(batches, rows, strict=True)
        ]
        values = _sigmoid(calibrated(np.concatenate(odds), self.metadata.calibration))
        lengths, widths = (
            np.concatenate(each)
            for each in zip(*((batch.tokens.lengths, batch.widths) for batch in batches), strict=True)
        )
        return pad_rows(tokens_to_bases(values, lengths), widths, 0)[:, None]

    def base_values(self, batch: Batch, rows: np.ndarray) -> np.ndarray:
        """Return what `values` does of one batch, one sequence after the other: float32, shape (kinds, bases)."""
        return self.values([batch], [rows]).swapaxes(0, 1)[:, batch.own]

    def joined(self, values: np.ndarray) -> np.ndarray:
        """Return the probabilities that what the strands say comes to: float32, (bases,) of (kinds, bases)."""
        if not self.in_factors:
            return values[0]
        both = np.maximum(values[0] * values[1], _LEAST)
        return _sigmoid(calibrated(np.log(both) - np.log1p(-both), self.metadata.calibration))

    @property
    def in_factors(self) -> bool:
        """Whether what strands say is put together factor by factor: a base head's, of both strands."""
        return self.both_strands and self._base_head is not None

    @property
    def _base_head(self) -> torch.nn.Module | None:
        return getattr(self.module, "base_head", None)

    def _strand(
        self,
        sequences: Sequence[str],
        features: Sequence[np.ndarray] | None,
        cores: np.ndarray | None,
        advance: Callable[[int], None],
    ) -> list[np.ndarray]:
        found: list[np.ndarray] = [np.empty((1, 0), dtype=np.float32)] * len(sequences)
        for batch, rows in self.run(sequences, cores, features, self.in_factors):
            for i, width, values in zip(
                batch.indices, batch.widths, self.values([batch], [rows]), strict=True
            ):
                found[i] = values[:, :width]
            advance(len(batch.indices))
        return found

    def _parts(self, counts: np.ndarray) -> Iterator[slice]:
        """Yield which sequences are a batch, of a pool in the order of their token counts."""
        size = self.config.batch_size or max(1, self._most // max(int(counts.max()), 1))
        busy, at = _BUSY.get(self.device.type), 0
        while at < len(counts):
            part = counts[at : at + size]
            if busy is not None:
                own, laid_out = np.cumsum(part), part * np.arange(1, len(part) + 1)
                wasteful = np.flatnonzero((own > busy) & (laid_out - own > _PADDING * laid_out))
                part = part[: wasteful[0]] if len(wasteful) else part
            yield slice(at, at + len(part))
            at += len(part)

    @torch.inference_mode()
    def _forward(
        self, inputs: dict[str, torch.Tensor], core: tuple[int, int] | None, in_factors: bool
    ) -> torch.Tensor:
        """Run the model; where memory does not suffice, on one half of the batch after the other."""
        try:
            moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()}
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                told = self.module(**moved, core=core)
            if not in_factors:
                return told.logits.float()
            odds = torch.stack([told.forms, told.flips], 1).float()
            return odds.sigmoid().where(odds.isfinite(), torch.nan)  # infinite odds are a failure too
        except RuntimeError as error:  # of which torch.OutOfMemoryError is one
            size = len(inputs["input_ids"])
            self._require_want_of_memory(error, size > 1)
        self._give_memory_back()
        half = size // 2
        log.warning(
            "%d windows at once do not fit the memory of %s; going on with %d", size, self.device, half
        )
        self._most = min(self._most, half * inputs["input_ids"].shape[1])
        parts = (
            {name: tensor[rows] for name, tensor in inputs.items()}
            for rows in (slice(half), slice(half, None))
        )
        return torch.cat([self._forward(part, core, in_factors) for part in parts])

    def _require_want_of_memory(self, error: RuntimeError, divisible: bool) -> None:
        """Raise an error again that is of another kind, and one that says so where there is nothing left to halve."""
        if not _is_out_of_memory(error):
            raise error
        if not divisible:
            raise ZfliponError(
                f"one window of {self.metadata.window} bases does not fit the memory of {self.device}; "
                "free some, or take a smaller model or --device cpu"
            ) from None

    def _give_memory_back(self) -> None:
        """Free what an attempt had taken; called after the except block, which holds it."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def with_narrow_weights(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Return a module whose encoder's products have their weights in a type already, all else shared with it.

    Autocast would turn all of them for each batch anew.
    """
    if dtype == torch.float32:
        return module
    shared = {id(each): each for each in (*module.parameters(), *module.buffers())}
    for layer in module.base_model.modules():
        if isinstance(layer, torch.nn.Linear):
            for each in layer.parameters(recurse=False):
                shared[id(each)] = torch.nn.Parameter(each.detach().to(dtype), requires_grad=False)
    return copy.deepcopy(module, shared)


def strands(config: InferenceConfig | ModelConfig, metadata: ModelMetadata) -> bool:
    """Return whether both strands are read: as the user or the recipe says, else as the model does."""
    return metadata.both_strands if config.both_strands is None else config.both_strands


def check_features(checkpoint: Checkpoint, features: FeatureTracks | None) -> None:
    """Raise `ModelError` where a model reads other tracks than there are."""
    wanted = checkpoint.metadata.features
    if wanted and features is None:
        raise ModelError(
            f"the model reads {len(wanted)} omics tracks ({format_names([each.name for each in wanted])}); name their files "
            "with --features TABLE, or say --missing-features zero to do without"
        )
    if features is not None and features.features != wanted:
        raise ModelError(f"the model reads {len(wanted)} omics tracks, not those that were opened")


def base_log_odds(logits: np.ndarray, tokens: Tokens) -> np.ndarray:
    """Return log-odds of each base, shape (bases,), from a base head's logits or from a token head's."""
    if logits.ndim == 1:
        return logits
    return tokens_to_bases(logits[:, 1] - logits[:, 0], tokens.lengths)


def calibrated(log_odds: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Return the log-odds under which probabilities mean what they say, of the same shape."""
    odds = calibration.scale * log_odds + calibration.bias
    if calibration.correction:
        places, added = zip(*calibration.correction, strict=True)
        odds = odds + np.interp(odds, places, added).astype(np.float32)
    return odds


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-np.clip(odds, -80, 80)))).astype(np.float32)


def _below_each_other(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Lay rows of several lengths below each other; what is beyond the end of shorter ones means nothing."""
    longest = max(each.shape[-1] for each in rows)
    if any(each.shape[-1] < longest for each in rows):
        rows = [np.pad(each, [(0, 0)] * (each.ndim - 1) + [(0, longest - each.shape[-1])]) for each in rows]
    return np.concatenate(rows) if len(rows) > 1 else rows[0]


def _span(cores: np.ndarray) -> tuple[int, int]:
    return int(cores[:, 0].min()), int(cores[:, 1].max())


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Tell want of memory from other failures; on CPUs torch has no class for it."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
