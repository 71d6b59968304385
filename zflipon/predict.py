"""Sequences → probabilities: the batched forward pass, on whatever device there is."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Full, Queue
from threading import Event, Thread
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from zflipon.config import PredictConfig
from zflipon.errors import ModelError, NotANumberError, ZfliponError, some
from zflipon.genome import Genome, reverse_complement
from zflipon.models.batch import collate
from zflipon.project import tokens_to_bases
from zflipon.tokens import Tokens

if TYPE_CHECKING:
    from zflipon.features import FeatureTracks
    from zflipon.models import Calibration, Checkpoint

log = logging.getLogger("zflipon")

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

LARGE = 20_000_000
"""Parameters from which a model's time goes into matrix products."""

_TOKENS_PER_BATCH = {"cpu": 1 << 13, "mps": 1 << 15, "cuda": 1 << 18}
"""Automatic batch size: tokens that keep a device busy and fit the smallest of its kind."""

_POOL = 4096
"""Windows sorted by token count together, so that a batch holds little padding."""

FLOOR = 0.0
"""Probability of bases that a screen found not worth reading."""

_AHEAD = 4
"""Batches that are read and tokenized while the model works."""


class Clock:
    """Adds up what each stage takes; stages run side by side, so that the sum may pass the time that went by.

    Attributes
    ----------
    seconds : dict of str to float
    """

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the body's time for a stage."""
        started = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - started


@dataclass(frozen=True)
class Batch:
    """Sequences that are predicted together.

    Attributes
    ----------
    indices : list of int
        Of the sequences.
    tokens : list of Tokens
    sizes : list of int or None
        Rows of the logits that are a sequence's own; None: all.
    inputs : dict of str to Tensor
        On the CPU.
    core : (int, int) or None
        Where the bases lie that are wanted of any of them; None: anywhere.
    """

    indices: list[int]
    tokens: list[Tokens]
    sizes: list[int | None]
    inputs: dict[str, torch.Tensor]
    core: tuple[int, int] | None = None

    def rows(self, logits: np.ndarray) -> Iterator[tuple[int, Tokens, np.ndarray]]:
        """Yield index, tokens and own logits of each sequence."""
        for index, tokens, size, row in zip(self.indices, self.tokens, self.sizes, logits, strict=True):
            yield index, tokens, row[:size]


@dataclass(frozen=True)
class Launched:
    """A batch that the device is at: where its logits will be, and what tells that they are."""

    logits: torch.Tensor
    done: torch.cuda.Event | None


class Predictor:
    """Runs a checkpoint over sequences.

    Parameters
    ----------
    checkpoint : Checkpoint
        With a token or a base head.
    config : PredictConfig
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
        config: PredictConfig | None = None,
        objectives: tuple[str, ...] = ("base", "token"),
        features: FeatureTracks | None = None,
    ):
        self.config = config or PredictConfig()
        self.story, self.tokenizer = checkpoint.story, checkpoint.tokenizer
        if self.story.objective not in objectives:
            wanted = " or ".join(map(repr, objectives))
            raise ModelError(
                f"a model with the objective '{self.story.objective}' calls no bases; expected {wanted}"
            )
        self.features = features
        check_features(checkpoint, features)
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        self.device = pick_device(self.config.device)
        self.module = checkpoint.module.to(self.device).eval()
        self.dtype = pick_precision(self.config.precision, self.device, size_of(self.module))
        self.clock = Clock()
        self._most = _TOKENS_PER_BATCH.get(self.device.type, _TOKENS_PER_BATCH["cpu"])

    def probabilities(
        self, sequences: Sequence[str], features: Sequence[np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Return the probability of each base of each sequence.

        Parameters
        ----------
        sequences : sequence of str
            Windows, upper case.
        features : sequence of numpy.ndarray, optional
            What the model sees of the tracks there: float32, shape (tracks, steps); not given: no tracks.

        Returns
        -------
        list of numpy.ndarray
            float32, one array of shape (bases,) for each sequence.

        Raises
        ------
        ModelError
            If the model returns a value that is not a number.
        """
        forward = self._strand(sequences, features)
        if not self.config.both_strands:
            return forward
        backward = self._strand(
            [reverse_complement(sequence) for sequence in sequences],
            features and [seen[:, ::-1] for seen in features],
        )
        return [(one + other[::-1]) / 2 for one, other in zip(forward, backward, strict=True)]

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
        for batch in self.batches(sequences, features=features):
            yield from batch.rows(self.collect(self.launch(batch)))

    def batches(
        self,
        sequences: Sequence[str],
        cores: np.ndarray | None = None,
        features: Sequence[np.ndarray] | None = None,
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
        """
        for first in range(0, len(sequences), _POOL):
            pool = sequences[first : first + _POOL]
            tokens = self.tokenizer.encode(pool)
            order = sorted(range(len(pool)), key=lambda i: len(tokens[i].ids))
            size = self.config.batch_size or self._batch_size(len(tokens[order[-1]].ids))
            for at in range(0, len(order), size):
                chosen = order[at : at + size]
                own = [tokens[i] for i in chosen]
                inputs = collate(
                    own,
                    [pool[i] for i in chosen],
                    self.tokenizer.pad_id,
                    self.story.objective == "base",
                    features=features and [features[first + i] for i in chosen],
                    present=self.features and self.features.present,
                )
                if self.device.type == "cuda":
                    inputs = {name: tensor.pin_memory() for name, tensor in inputs.items()}
                indices = [first + i for i in chosen]
                sizes = [self._size(pool[i], tokens[i]) for i in chosen]
                yield Batch(indices, own, sizes, inputs, None if cores is None else _span(cores[indices]))

    def launch(self, batch: Batch) -> Launched:
        """Set the model to work on a batch; a GPU may still be at it when this returns."""
        logits = self._forward(batch.inputs, batch.core)
        if logits.device.type != "cuda":
            return Launched(logits, None)
        host = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
        host.copy_(logits, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return Launched(host, done)

    def collect(self, launched: Launched) -> np.ndarray:
        """Wait for a batch; return float32 logits, a row a sequence; raise `NotANumberError` where one is none."""
        if launched.done is not None:
            launched.done.synchronize()
        rows = launched.logits.cpu().numpy()
        if not np.isfinite(rows).all():
            raise NotANumberError("the model returned a value that is not a number; try --precision float32")
        return rows

    def _strand(self, sequences: Sequence[str], features: Sequence[np.ndarray] | None) -> list[np.ndarray]:
        found: list[np.ndarray | None] = [None] * len(sequences)
        for batch in self.batches(sequences, features=features):
            values = self.base_probabilities(batch, self.collect(self.launch(batch)))
            ends = np.cumsum([len(sequences[i]) for i in batch.indices])
            for i, row in zip(batch.indices, np.split(values, ends[:-1]), strict=True):
                found[i] = row
        return found

    def base_probabilities(self, batch: Batch, rows: np.ndarray) -> np.ndarray:
        """Return the probabilities of a batch's bases, one sequence after the other: float32, shape (bases,)."""
        if self.story.objective == "base":
            odds = rows[np.arange(rows.shape[1]) < np.array(batch.sizes)[:, None]]
        else:
            lengths = np.zeros(rows.shape[:2], dtype=np.int64)
            for line, tokens in zip(lengths, batch.tokens, strict=True):
                line[: len(tokens.lengths)] = tokens.lengths
            odds = tokens_to_bases((rows[..., 1] - rows[..., 0]).ravel(), lengths.ravel())
        return self._to_probability(odds)

    def _batch_size(self, tokens: int) -> int:
        return max(1, self._most // max(tokens, 1))

    @torch.inference_mode()
    def _forward(self, inputs: dict[str, torch.Tensor], core: tuple[int, int] | None) -> torch.Tensor:
        """Run the model; where memory does not suffice, on one half of the batch after the other."""
        try:
            moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()}
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                return self.module(**moved, core=core).logits.float()
        except RuntimeError as error:  # of which torch.OutOfMemoryError is one
            size = len(inputs["input_ids"])
            if not _is_out_of_memory(error):
                raise
            if size == 1:
                raise ZfliponError(
                    f"one window of {self.story.window} bases does not fit the memory of {self.device}; "
                    "free some, or take a smaller model or --device cpu"
                ) from None
        if self.device.type == "cuda":  # after the except block, which held what the attempt had taken
            torch.cuda.empty_cache()
        half = size // 2
        log.warning(
            "%d windows at once do not fit the memory of %s; going on with %d", size, self.device, half
        )
        self._most = min(self._most, half * inputs["input_ids"].shape[1])
        parts = (
            {name: tensor[rows] for name, tensor in inputs.items()}
            for rows in (slice(half), slice(half, None))
        )
        return torch.cat([self._forward(part, core) for part in parts])

    def _size(self, sequence: str, tokens: Tokens) -> int | None:
        """Return how many rows of the logits are the sequence's own: bases, tokens, or all there are."""
        return {"base": len(sequence), "sequence": None}.get(self.story.objective, len(tokens.ids))

    def _to_probability(self, log_odds: np.ndarray) -> np.ndarray:
        odds = calibrated(log_odds, self.story.calibration)
        return (1 / (1 + np.exp(-np.clip(odds, -80, 80)))).astype(np.float32)


def check_features(checkpoint: Checkpoint, features: FeatureTracks | None) -> None:
    """Raise `ModelError` where a model reads other tracks than there are."""
    wanted = checkpoint.story.features
    if wanted and features is None:
        raise ModelError(
            f"the model reads {len(wanted)} omics tracks ({some([each.name for each in wanted])}); name their files "
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
    if calibration.bend:
        places, added = zip(*calibration.bend, strict=True)
        odds = odds + np.interp(odds, places, added).astype(np.float32)
    return odds


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
    """

    contig: str
    tiles: np.ndarray
    read: np.ndarray | None = None


def predict_tiles(
    predictor: Predictor,
    genome: Genome,
    contig: str,
    tiles: np.ndarray,
    progress: Callable[[int], None] = lambda bases: None,
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

    Returns
    -------
    numpy.ndarray
        float32, shape (tiles["core_end"][-1] - tiles["core_start"][0],); NaN at N and
        in windows of which more than half is N.
    """
    ((_, found),) = predict_stretches(predictor, genome, [Stretch(contig, tiles)], progress)
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
    probabilities : numpy.ndarray
        float32, as `predict_tiles` returns them.
    """
    with ahead(_prepared(predictor, genome, stretches), _AHEAD) as items:
        for job, pending in _launched(predictor, items):
            if isinstance(pending, _Job):
                progress(job.skipped)
                with predictor.clock("project"):
                    found = pending.result()
                yield pending.stretch, found
                continue
            with predictor.clock("model"):
                rows = job.collected(predictor, pending[1])
            with predictor.clock("project"):
                progress(job.add(predictor, pending[0], rows))


def _launched(
    predictor: Predictor, items: Iterable[tuple[_Job, Batch | None]]
) -> Iterator[tuple[_Job, tuple[Batch, Launched] | _Job]]:
    """Keep the device busy: a batch is launched before the one before it is asked for."""
    waiting: tuple[_Job, tuple[Batch, Launched] | _Job] | None = None
    for job, batch in items:
        if batch is None:
            step = (job, job)
        else:
            with predictor.clock("model"):
                step = (job, (batch, predictor.launch(batch)))
        if waiting is not None:
            yield waiting
        waiting = step
        if predictor.device.type != "cuda":  # whose results are there already
            yield waiting
            waiting = None
    if waiting is not None:
        yield waiting


class _Job:
    """A stretch on its way: its text in windows, and the probabilities that have come in."""

    def __init__(self, stretch: Stretch, text: str, predictor: Predictor):
        both_strands = predictor.config.both_strands
        tiles = stretch.tiles
        origin = int(tiles["start"].min())
        self.stretch, self.both_strands = stretch, both_strands
        letters = np.frombuffer(text.encode("ascii"), dtype=np.uint8) == ord("N")
        unknown = np.concatenate([[0], np.cumsum(letters)])
        start, end = tiles["start"] - origin, tiles["end"] - origin
        kept = 2 * (unknown[end] - unknown[start]) <= end - start
        first = int(tiles["core_start"][0])
        size = int(tiles["core_end"][-1]) - first
        self.nothing = letters[first - origin :][:size]
        self.found = np.full(size, np.nan, dtype=np.float32)
        places, counts = tiles["core_start"] - first, tiles["core_end"] - tiles["core_start"]
        if stretch.read is not None:
            unread = kept & ~stretch.read
            self.found[_ranges(places[unread], counts[unread])] = FLOOR
            kept &= stretch.read
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
        if both_strands:
            self.found[_ranges(self.places, self.counts)] = 0  # each strand adds its half
            self.sequences += [reverse_complement(sequence) for sequence in self.sequences]
            if self.features is not None:
                self.features += [seen[:, ::-1] for seen in self.features]
            self.cores = np.concatenate([self.cores, (self.widths[:, None] - self.cores)[:, ::-1]])
            self.widths, self.places, self.counts = (
                np.tile(each, 2) for each in (self.widths, self.places, self.counts)
            )

    def add(self, predictor: Predictor, batch: Batch, rows: np.ndarray) -> int:
        """Lay down a batch; return how many bases it has decided."""
        values = predictor.base_probabilities(batch, rows)
        chosen = np.array(batch.indices)
        ends = np.cumsum(self.widths[chosen])
        counts, turned = self.counts[chosen], chosen >= self.forward
        wanted = values[_ranges(ends - self.widths[chosen] + self.cores[chosen, 0], counts)]
        if not self.both_strands:
            self.found[_ranges(self.places[chosen], counts)] = wanted
            return len(wanted)
        into = _ranges(self.places[chosen], counts, turned)
        back = np.repeat(turned, counts)
        for strand in (~back, back):  # a base may be here twice, once on each
            self.found[into[strand]] += wanted[strand] / 2
        return int(counts[~turned].sum())

    def collected(self, predictor: Predictor, launched: Launched) -> np.ndarray:
        """Wait for a batch; an error says where in the genome it was."""
        try:
            return predictor.collect(launched)
        except NotANumberError as error:
            tiles = self.stretch.tiles
            place = f"{self.stretch.contig}:{tiles['start'].min() + 1:,}-{tiles['end'].max():,}"
            raise NotANumberError(f"{place}: {error}") from None

    def result(self) -> np.ndarray:
        """Return all probabilities, without a value at N."""
        self.found[self.nothing] = np.nan
        return self.found


def _ranges(starts: np.ndarray, counts: np.ndarray, turned: np.ndarray | None = None) -> np.ndarray:
    """Return the places of runs of so many from each start on, one run after the other; turned ones from their ends."""
    total = int(counts.sum())
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    if turned is not None:
        within = np.where(np.repeat(turned, counts), np.repeat(counts, counts) - 1 - within, within)
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
        batches = predictor.batches(job.sequences, job.cores, job.features)
        while True:
            with predictor.clock("tokenize"):
                batch = next(batches, None)
            yield job, batch
            if batch is None:
                break


class ahead:
    """Runs an iterator in a thread of its own, up to `depth` items ahead.

    A context manager, so that the thread ends when its reader does. What the iterator raises is raised to the reader.

    Parameters
    ----------
    items : iterator
    depth : int
    """

    _END = object()

    def __init__(self, items: Iterator, depth: int):
        self._items = items
        self._queue: Queue = Queue(depth)
        self._stopped = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Iterator:
        """Start the thread."""
        self._thread.start()
        return self._read()

    def __exit__(self, *_exception) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()

    def _read(self) -> Iterator:
        while True:
            item, error = self._queue.get()
            if error is not None:
                raise error
            if item is self._END:
                return
            yield item

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(item, None):
                    return
            self._put(self._END, None)
        except BaseException as error:  # whatever it is, the reader has to know
            self._put(None, error)

    def _put(self, item: object, error: BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put((item, error), timeout=0.1)
            except Full:
                continue
            return True
        return False


def _span(cores: np.ndarray) -> tuple[int, int]:
    return int(cores[:, 0].min()), int(cores[:, 1].max())


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Tell want of memory from other failures; on CPUs torch has no class for it."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def processes(device: str = "auto") -> PartialState:
    """Return this process's place among those of a run, however it was launched; on CPUs alone too.

    Parameters
    ----------
    device : str
        As `zflipon.config.PredictConfig` has it.
    """
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    return PartialState(cpu=device.startswith("cpu") or (device == "auto" and not accelerated))


def agreed(state: PartialState, find: Callable):
    """Let the first process find something, and tell it to all; its error ends them all, and one of them says it."""
    told: list = [None, None]
    if state.is_main_process:
        try:
            told[0] = find()
        except ZfliponError as error:
            told[1] = error
    if state.num_processes > 1:
        broadcast_object_list(told)
    if told[1] is not None:
        if state.is_main_process:
            raise told[1]
        sys.exit(1)
    return told[0]


def pick_device(name: str) -> torch.device:
    """Return the device of that name; ``'auto'`` is this process's GPU if there is one, then MPS, then CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return processes().device
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ZfliponError(f"device {name!r} is not to be had here ({str(error).splitlines()[0]})") from error
    return device


def pick_precision(name: str, device: torch.device, parameters: int = 0) -> torch.dtype:
    """Return the precision of a name.

    Parameters
    ----------
    name : str
        A key of `PRECISIONS`, or ``'auto'``: bfloat16 on a GPU that computes in it and, for a large model, on a CPU
        that is fast in it; else float32.
    device : torch.device
    parameters : int
        Numbers in the model's weights; a small model's time does not go into matrix products, which is what a CPU is
        faster in.
    """
    if name == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = device.type == "cpu" and parameters >= LARGE and is_fast_in_bfloat16()
        return torch.bfloat16 if fast else torch.float32
    if name not in PRECISIONS:
        raise ModelError(f"precision {name!r} is unknown; expected auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def size_of(module: torch.nn.Module) -> int:
    """Return how many numbers a module's weights are."""
    return sum(weights.numel() for weights in module.parameters())


def is_fast_in_bfloat16() -> bool:
    """Tell whether this CPU has instructions for products in bfloat16 (AVX512-BF16 or AMX)."""
    # torch keeps them private, and some builds have them not
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(check is not None and check() for check in checks)
