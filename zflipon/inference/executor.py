"""Batches → model outputs: one device or the cores of a CPU, and smaller batches if memory does not suffice.

Batches are formed in `zflipon.inference.batching`, and outputs are decoded in `zflipon.inference.decoding`.
"""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np
import torch
from torch.nn import functional as F

from zflipon.errors import NotANumberError, ZfliponError
from zflipon.genome.alphabet import PADDING_BASE
from zflipon.inference.batching import Batch
from zflipon.inference.concurrency import StageTimer, WorkerPool
from zflipon.inference.devices import DeviceProfile, autocast, device_profile, is_out_of_memory
from zflipon.inference.settings import InferenceSettings
from zflipon.models.labels import find_z_output, to_binary_logits

if TYPE_CHECKING:
    from zflipon.models.base import DnaModel

log = logging.getLogger("zflipon")

Item = TypeVar("Item")
Result = TypeVar("Result")

MODEL_STAGE = "model"
"""Name of the stage of the timer that counts the time of the model."""

NOT_A_NUMBER = "the model returned a value that is not a number"
"""Message for NaN or infinite outputs."""


@dataclass(frozen=True)
class PendingOutput:
    """The output of a submitted batch, which the device may still be computing.

    Attributes
    ----------
    output : Tensor or Future of Tensor
        A Future on a CPU.
    event : torch.cuda.Event or None
        Recorded after the output was copied to the host; None except on CUDA.
    """

    output: torch.Tensor | Future[torch.Tensor]
    event: torch.cuda.Event | None = None


class Executor:
    """Runs a model on batches.

    On a CPU each core runs another batch. If memory does not suffice, a batch is run in halves, and later batches are
    limited to the size that fitted.

    Parameters
    ----------
    module : DnaModel
        Moved to the device of the settings and set to evaluation mode.
    settings : InferenceSettings
    window : int
        The model's, in bases.
    timer : StageTimer, optional
    profile : DeviceProfile, optional
        Default: the device's own.
    """

    def __init__(
        self,
        module: DnaModel,
        settings: InferenceSettings,
        window: int,
        timer: StageTimer | None = None,
        profile: DeviceProfile | None = None,
    ):
        self.settings, self.window = settings, window
        self.device, self.dtype = settings.device, settings.dtype
        self.module = cast_encoder_weights(
            # convolutions need their weights in this layout, and would convert them at each call
            module.to(device=self.device, memory_format=torch.channels_last).eval(),  # pyright: ignore[reportCallIssue, reportArgumentType]: transformers wraps it
            self.dtype,
        )
        self.timer = timer or StageTimer()
        self.profile = profile or device_profile(self.device)
        self._workers = WorkerPool(settings.threads) if self.device.type == "cpu" else None
        self._max_pending = 2 if self._workers is None else self._workers.threads + 1
        is_token_head = getattr(module, "objective", None) == "token"
        self._z_output = find_z_output(module.config) if is_token_head else None
        self._token_limit: int | None = None
        """Tokens of a batch that fitted the memory after a larger one did not."""

    def submit(self, batch: Batch) -> PendingOutput:
        """Start the model on a batch, usually without waiting for the result."""
        if self._workers is not None:
            return PendingOutput(self._workers.submit(self._forward, batch.inputs, *_options(batch)))
        output = self._forward(batch.inputs, *_options(batch))
        if output.device.type != "cuda":
            return PendingOutput(output)
        host = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
        host.copy_(output, non_blocking=True)
        # the copy runs on the stream of the output's device, which need not be the current device
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(output.device))
        return PendingOutput(host, event)

    def gather(self, pending: PendingOutput) -> np.ndarray:
        """Wait for the output of a batch.

        Returns
        -------
        numpy.ndarray
            float32, one row per sequence.

        Raises
        ------
        NotANumberError
            If a value is NaN or infinite.
        """
        if pending.event is not None:
            pending.event.synchronize()
        output = pending.output
        rows = (output.result() if isinstance(output, Future) else output.cpu()).numpy()
        if not np.isfinite(rows).all():
            advice = "check the weights with zflipon doctor"
            if self.dtype != torch.float32:
                advice = "try --precision float32"
            raise NotANumberError(f"{NOT_A_NUMBER}; {advice}")
        return rows

    @overload
    def stream(self, items: Iterable[tuple[Item, Batch]]) -> Iterator[tuple[Item, Batch, PendingOutput]]: ...

    @overload
    def stream(
        self, items: Iterable[tuple[Item, Batch | None]]
    ) -> Iterator[tuple[Item, Batch | None, PendingOutput | None]]: ...

    def stream(
        self, items: Iterable[tuple[Item, Batch | None]]
    ) -> Iterator[tuple[Item, Batch | None, PendingOutput | None]]:
        """Submit batches a few ahead of the caller, so that the device never waits for the next one.

        Parameters
        ----------
        items : iterable of (object, Batch or None)
            The object is passed through. An item without a batch is passed through in its turn.
        """
        pending: deque[tuple[Item, Batch | None, PendingOutput | None]] = deque()
        for item, batch in items:
            with self.timer(MODEL_STAGE):
                pending.append((item, batch, None if batch is None else self.submit(batch)))
            if len(pending) >= self._max_pending:
                yield pending.popleft()
        yield from pending

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield a function's results in order; on a CPU each core computes another one."""
        return map(function, items) if self._workers is None else self._workers.map(function, items)

    def first_factors(self, sequences: Sequence[torch.Tensor]) -> list[np.ndarray]:
        """Return the first factor of each base of some sequences. Long ones are cut, and short ones share a call.

        It is computed in float32 whatever the precision of the model: it serves as an upper bound, and a rounded bound
        could be too low.

        Parameters
        ----------
        sequences : sequence of Tensor
            int64, shape (bases,): nucleotide codes.

        Returns
        -------
        list of numpy.ndarray
            float32, shape (2, bases): what `DnaModel.first_factor` returns.
        """
        step = self.profile.bases_per_first_factor
        lengths = [len(codes) for codes in sequences]
        result: list[np.ndarray] = [np.zeros((2, length), dtype=np.float32) for length in lengths]
        chunks = [
            (index, start, end)
            for index, length in enumerate(lengths)
            if 2 * length > step
            for start, end in pairwise(np.linspace(0, length, -(-length // step) + 1).astype(int).tolist())
        ]
        rows = self.map(lambda chunk: self._read_chunk(sequences[chunk[0]], *chunk[1:]), chunks)
        for (index, start, end), row in zip(chunks, rows, strict=True):
            result[index][:, start:end] = row
        groups = _share_calls([i for i, length in enumerate(lengths) if 2 * length <= step], lengths, step)
        several = self.map(lambda group: self._read_together([sequences[i] for i in group]), groups)
        for group, rows_of_group in zip(groups, several, strict=True):
            for index, row in zip(group, rows_of_group, strict=True):
                result[index] = row
        return result

    @torch.inference_mode()
    def _read_together(self, sequences: list[torch.Tensor]) -> list[np.ndarray]:
        """Return the first factors of sequences in one call; in halves if memory does not suffice."""
        if len(sequences) == 1:
            return [self._read_chunk(sequences[0], 0, len(sequences[0]))]
        try:
            rows = torch.nn.utils.rnn.pad_sequence(
                list(sequences), batch_first=True, padding_value=PADDING_BASE
            )
            factors = self._first_factor(rows)
            return [row[:, : len(codes)] for row, codes in zip(factors, sequences, strict=True)]
        except RuntimeError as error:
            self._raise_unless_divisible(error, True)
        self._free_memory()
        middle = len(sequences) // 2
        return self._read_together(sequences[:middle]) + self._read_together(sequences[middle:])

    @torch.inference_mode()
    def _read_chunk(self, codes: torch.Tensor, start: int, end: int) -> np.ndarray:
        """Return the first factor of ``[start, end)``, computed with a margin; in halves if memory does not suffice."""
        reach = self.module.first_factor_reach
        first = max(0, start - reach)
        try:
            rows = self._first_factor(codes[first : end + reach][None])
            return rows[0, :, start - first : end - first]
        except RuntimeError as error:
            self._raise_unless_divisible(error, end - start > self.window)
        self._free_memory()
        middle = (start + end) // 2
        log.warning(
            "%d bases at a time do not fit the memory of %s; continuing with %d",
            end - start,
            self.device,
            middle - start,
        )
        parts = [self._read_chunk(codes, start, middle), self._read_chunk(codes, middle, end)]
        return np.concatenate(parts, axis=1)

    def _first_factor(self, rows: torch.Tensor) -> np.ndarray:
        with torch.autocast(self.device.type, enabled=False):
            return self.module.first_factor(rows.to(self.device)).cpu().numpy()

    @torch.inference_mode()
    def _forward(
        self,
        inputs: dict[str, torch.Tensor],
        widths: Sequence[int],
        core: tuple[int, int] | None,
        return_factors: bool,
        return_product: bool,
    ) -> torch.Tensor:
        """Run the model on a batch; in halves if memory does not suffice, or did not for an earlier batch as large."""
        rows, length = inputs["input_ids"].shape
        if self._token_limit is None or rows == 1 or rows * length <= self._token_limit:
            try:
                moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()}
                with autocast(self.device, self.dtype):
                    output = self.module(**moved, core=core, widths=widths)
                if not return_factors:
                    logits = output.logits.float()
                    return logits if self._z_output is None else to_binary_logits(logits, self._z_output)
                factors = output.can_form_logit, output.is_formed_logit
                return _core_probabilities(factors, output.logits if return_product else None, core)
            except RuntimeError as error:
                self._raise_unless_divisible(error, rows > 1)
            self._free_memory()
            log.warning(
                "%d windows at a time do not fit the memory of %s; continuing with %d",
                rows,
                self.device,
                rows // 2,
            )
            fitting = rows // 2 * length
            self._token_limit = min(self._token_limit or fitting, fitting)
        halves = (
            ({name: tensor[part] for name, tensor in inputs.items()}, widths[part])
            for part in (slice(rows // 2), slice(rows // 2, None))
        )
        return torch.cat([self._forward(*half, core, return_factors, return_product) for half in halves])

    def _raise_unless_divisible(self, error: RuntimeError, divisible: bool) -> None:
        """Raise an error again unless it is a lack of memory that smaller pieces may solve."""
        if not is_out_of_memory(error):
            raise error
        if not divisible:
            raise ZfliponError(
                f"one window of {self.window} bases does not fit the memory of {self.device}; "
                "free some memory, or use a smaller model or --device cpu"
            ) from None

    def _free_memory(self) -> None:
        """Return cached memory to the device. Call it after the except block, which keeps tensors alive."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _core_probabilities(
    factors: tuple[torch.Tensor, torch.Tensor], product: torch.Tensor | None, core: tuple[int, int] | None
) -> torch.Tensor:
    """Return the probabilities of two factors in a core, after the log-odds of their product if these are given.

    Parameters
    ----------
    factors : (Tensor, Tensor)
        float, shape (batch, bases): log-odds.
    product : Tensor or None
        The same shape.
    core : (int, int) or None
        First and last + 1 base; None: all bases.

    Returns
    -------
    Tensor
        float32, shape (batch, values, bases); 0 outside of the core.
    """
    size = factors[0].shape[-1]
    start, end = core or (0, size)
    log_odds = torch.stack([each[:, start:end].float() for each in factors], 1)
    # the sigmoid of infinite log-odds is finite, but they are an error too
    values = log_odds.sigmoid().where(log_odds.isfinite(), torch.nan)
    if product is not None:
        values = torch.cat([product[:, None, start:end].float(), values], 1)
    return F.pad(values, (start, size - end))


def _share_calls(indices: Sequence[int], lengths: Sequence[int], most: int) -> list[list[int]]:
    """Group short sequences, by length so that a group needs little padding, into at most `most` bases."""
    groups: list[list[int]] = []
    for index in sorted(indices, key=lengths.__getitem__):
        if not groups or lengths[index] * (len(groups[-1]) + 1) > most:
            groups.append([])
        groups[-1].append(index)
    return groups


def _options(batch: Batch) -> tuple[list[int], tuple[int, int] | None, bool, bool]:
    """Return the options of `Executor._forward` for a batch: widths, core, factors, product."""
    return batch.widths.tolist(), batch.core, batch.return_factors, batch.return_product


def cast_encoder_weights(module: DnaModel, dtype: torch.dtype) -> DnaModel:
    """Return a copy of a module whose encoder and wide context have layers of the given dtype; the rest is shared.

    Without it, autocast would cast these weights again for each batch.
    """
    if dtype in (torch.float32, torch.int8):
        return module
    memo = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    parts = [module.base_model, *([module.base_head.context] if module.reads_wide_context else [])]
    for layer in (each for part in parts for each in part.modules()):
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            for weights in layer.parameters(recurse=False):
                memo[id(weights)] = torch.nn.Parameter(weights.detach().to(dtype), requires_grad=False)
    return copy.deepcopy(module, memo)
