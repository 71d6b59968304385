"""Sequences → probabilities: the batched forward pass, on whatever device there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import PartialState

from zflipon.config import PredictConfig
from zflipon.errors import ModelError, NotANumberError, ZfliponError
from zflipon.genome import Genome, reverse_complement
from zflipon.models.batch import collate
from zflipon.project import tokens_to_bases
from zflipon.tokens import Tokens

if TYPE_CHECKING:
    from zflipon.models import Calibration, Checkpoint

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_TOKENS_PER_BATCH = {"cpu": 1 << 13, "mps": 1 << 15, "cuda": 1 << 18}
"""Automatic batch size: tokens that keep a device busy and fit the smallest of its kind."""

_POOL = 256
"""Windows sorted by token count together, so that a batch holds little padding."""


class Predictor:
    """Runs a checkpoint over sequences.

    Parameters
    ----------
    checkpoint : Checkpoint
        With a token or a base head.
    config : PredictConfig
    objectives : tuple of str
        Heads that will do; `probabilities` needs one that calls bases.

    Raises
    ------
    ModelError
        If the checkpoint's head decides neither tokens nor bases, or the device or precision is not there.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: PredictConfig | None = None,
        objectives: tuple[str, ...] = ("base", "token"),
    ):
        self.config = config or PredictConfig()
        self.story, self.tokenizer = checkpoint.story, checkpoint.tokenizer
        if self.story.objective not in objectives:
            wanted = " or ".join(map(repr, objectives))
            raise ModelError(
                f"a model with the objective '{self.story.objective}' calls no bases; expected {wanted}"
            )
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        self.device = pick_device(self.config.device)
        self.dtype = pick_precision(self.config.precision, self.device)
        self.module = checkpoint.module.to(self.device).eval()

    def probabilities(self, sequences: Sequence[str]) -> list[np.ndarray]:
        """Return the probability of each base of each sequence.

        Parameters
        ----------
        sequences : sequence of str
            Windows, upper case.

        Returns
        -------
        list of numpy.ndarray
            float32, one array of shape (bases,) for each sequence.

        Raises
        ------
        ModelError
            If the model returns a value that is not a number.
        """
        forward = self._strand(sequences)
        if not self.config.both_strands:
            return forward
        backward = self._strand([reverse_complement(sequence) for sequence in sequences])
        return [(one + other[::-1]) / 2 for one, other in zip(forward, backward, strict=True)]

    def logits(self, sequences: Sequence[str]) -> Iterator[tuple[int, Tokens, np.ndarray]]:
        """Run the model, sequences of like token counts together.

        Parameters
        ----------
        sequences : sequence of str
            Upper case.

        Yields
        ------
        index : int
            Of the sequence; they come in no order.
        tokens : Tokens
        logits : numpy.ndarray
            float32, of shape (tokens, classes), (bases,) or (classes,), as the objective has it.
        """
        for first in range(0, len(sequences), _POOL):
            pool = sequences[first : first + _POOL]
            tokens = self.tokenizer.encode(pool)
            order = sorted(range(len(pool)), key=lambda i: len(tokens[i].ids))
            size = self.config.batch_size or self._batch_size(len(tokens[order[-1]].ids))
            for at in range(0, len(order), size):
                chosen = order[at : at + size]
                rows = self._forward([tokens[i] for i in chosen], [pool[i] for i in chosen])
                for i, row in zip(chosen, rows, strict=True):
                    yield first + i, tokens[i], self._own(row, tokens[i], pool[i])

    def _strand(self, sequences: Sequence[str]) -> list[np.ndarray]:
        found: list[np.ndarray | None] = [None] * len(sequences)
        for i, tokens, row in self.logits(sequences):
            found[i] = self._to_probability(base_log_odds(row, tokens))
        return found

    def _batch_size(self, tokens: int) -> int:
        return max(1, _TOKENS_PER_BATCH.get(self.device.type, 1 << 13) // max(tokens, 1))

    @torch.inference_mode()
    def _forward(self, tokens: list[Tokens], sequences: list[str]) -> np.ndarray:
        inputs = collate(tokens, sequences, self.tokenizer.pad_id, self.story.objective == "base")
        inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.module(**inputs).logits
        rows = logits.float().cpu().numpy()
        if not np.isfinite(rows).all():
            raise NotANumberError("the model returned a value that is not a number; try --precision float32")
        return rows

    def _own(self, row: np.ndarray, tokens: Tokens, sequence: str) -> np.ndarray:
        """Cut off what a row has beyond its own tokens or bases."""
        if self.story.objective == "sequence":
            return row
        return row[: len(sequence) if self.story.objective == "base" else len(tokens.ids)]

    def _to_probability(self, log_odds: np.ndarray) -> np.ndarray:
        odds = calibrated(log_odds, self.story.calibration)
        return (1 / (1 + np.exp(-np.clip(odds, -80, 80)))).astype(np.float32)


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
    origin = int(tiles["core_start"][0])
    found = np.full(int(tiles["core_end"][-1]) - origin, np.nan, dtype=np.float32)
    for pool in _pools(tiles):
        text_start = int(pool["start"].min())
        text = genome.fetch(contig, text_start, int(pool["end"].max()))
        sequences = [text[int(w["start"]) - text_start : int(w["end"]) - text_start] for w in pool]
        kept = [i for i, sequence in enumerate(sequences) if 2 * sequence.count("N") <= len(sequence)]
        for i, row in zip(kept, predictor.probabilities([sequences[i] for i in kept]), strict=True):
            window = pool[i]
            core = slice(
                int(window["core_start"] - window["start"]), int(window["core_end"] - window["start"])
            )
            letters = np.frombuffer(sequences[i][core].encode(), dtype=np.uint8)
            values = np.where(letters == ord("N"), np.float32(np.nan), row[core])
            found[int(window["core_start"]) - origin : int(window["core_end"]) - origin] = values
        progress(int((pool["core_end"] - pool["core_start"]).sum()))
    return found


def _pools(tiles: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(tiles), _POOL):
        yield tiles[first : first + _POOL]


def processes(device: str = "auto") -> PartialState:
    """Return this process's place among those of a run, however it was launched; on CPUs alone too.

    Parameters
    ----------
    device : str
        As `zflipon.config.PredictConfig` has it.
    """
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    return PartialState(cpu=device.startswith("cpu") or (device == "auto" and not accelerated))


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


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the precision of that name; ``'auto'`` is bfloat16 on a GPU that computes in it, else float32."""
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if name not in PRECISIONS:
        raise ModelError(f"precision {name!r} is unknown; expected auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]
