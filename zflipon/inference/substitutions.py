"""Windows with one edit → base probabilities, much faster than one forward pass for each.

Models declare what they can reuse: `DnaModel.reach`, or `DnaModel.substituted_window`. Sequences in general go through
`zflipon.inference.predictor`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from zflipon.errors import NotANumberError
from zflipon.genome.alphabet import NUCLEOTIDES, base_codes, reverse_complement
from zflipon.inference.decoding import calibrate, sigmoid
from zflipon.inference.devices import autocast
from zflipon.inference.executor import NOT_A_NUMBER
from zflipon.inference.predictor import Predictor
from zflipon.models.heads.base_resolution import product_logit
from zflipon.models.heads.substitutions import SubstitutedWindow

SUBSTITUTIONS_AT_ONCE = 64
"""Edits of one forward pass. Results do not depend on it."""


def open_edited_window(predictor: Predictor, text: str) -> EditedWindow | None:
    """Return a window whose edits are fast to predict; None if the model shares nothing between them.

    Parameters
    ----------
    predictor : Predictor
        Of a model that calls bases or tokens.
    text : str
        The window, upper case.
    """
    if predictor.features is not None:
        return None
    if predictor.module.reach is not None:
        return LocalWindow(predictor, text, predictor.module.reach)
    codes = torch.from_numpy(base_codes(text)).to(predictor.device)
    with torch.inference_mode(), autocast(predictor.device, predictor.dtype):
        strand = predictor.module.substituted_window(codes)
    return strand and SubstitutionWindow(predictor, text, strand)


class EditedWindow(ABC):
    """Predicts edits of one window, which replace some of its bases.

    Attributes
    ----------
    reference : numpy.ndarray
        float32, shape (bases,): probabilities of the window without edits.
    """

    reference: np.ndarray

    @abstractmethod
    def supports(self, ref_length: int, alt_length: int) -> bool:
        """Whether edits of this kind can be predicted."""

    @abstractmethod
    def alternatives(
        self,
        positions: np.ndarray,
        ref_length: int,
        alts: Sequence[str],
        core: tuple[int, int],
        advance: Callable[[int], object] = lambda _: None,
    ) -> Iterator[np.ndarray]:
        """Yield the probabilities of edited windows, some edits at a time.

        Parameters
        ----------
        positions : numpy.ndarray
            int64, shape (edits,): the first base that is replaced.
        ref_length : int
            Bases that are replaced.
        alts : sequence of str
            Their replacements, all of one length.
        core : (int, int)
            First and last + 1 base of the reference whose probability is needed.
        advance : callable, optional
            Called after each part with its number of edits.

        Yields
        ------
        numpy.ndarray
            float32, shape (some edits, bases of the core + length of the replacement − `ref_length`).
        """


class LocalWindow(EditedWindow):
    """Edits under a model in which only the nearest bases decide about a base.

    Parameters
    ----------
    predictor : Predictor
    text : str
    reach : int
        `DnaModel.reach`.
    """

    def __init__(self, predictor: Predictor, text: str, reach: int):
        self._predictor, self._text, self._reach = predictor, text, reach
        (self.reference,) = predictor.predict_probabilities([text])

    def supports(self, ref_length: int, alt_length: int) -> bool:
        """Whether edits of this kind can be predicted: all can."""
        return True

    def alternatives(
        self,
        positions: np.ndarray,
        ref_length: int,
        alts: Sequence[str],
        core: tuple[int, int],
        advance: Callable[[int], object] = lambda _: None,
    ) -> Iterator[np.ndarray]:
        """Yield the probabilities of edited windows; see `EditedWindow.alternatives`."""
        ends = positions + ref_length
        starts = (positions - 2 * self._reach).clip(min=0)
        stops = (ends + 2 * self._reach).clip(max=len(self._text))
        texts = [
            self._text[start:position] + alt + self._text[end:stop]
            for start, position, end, stop, alt in zip(starts, positions, ends, stops, alts, strict=True)
        ]
        patches = self._predictor.predict_probabilities(texts, advance=advance)
        change = len(alts[0]) - ref_length if len(alts) else 0
        low, high = core
        for first in range(0, len(positions), SUBSTITUTIONS_AT_ONCE):
            part = range(first, min(first + SUBSTITUTIONS_AT_ONCE, len(positions)))
            rows = np.empty((len(part), high - low + change), dtype=np.float32)
            for row, index in zip(rows, part, strict=True):
                # only bases within reach of the edit change; the patch has their full context
                start = max(low, positions[index] - self._reach)
                end = min(high, ends[index] + self._reach)
                row[: start - low] = self.reference[low:start]
                row[start - low : end - low + change] = patches[index][
                    start - starts[index] : end - starts[index] + change
                ]
                row[end - low + change :] = self.reference[end:high]
            yield rows


class SubstitutionWindow(EditedWindow):
    """Substitutions of single bases under a model that shares the states of the window between them.

    Parameters
    ----------
    predictor : Predictor
    text : str
    forward : SubstitutedWindow
        States of the forward strand.
    """

    def __init__(self, predictor: Predictor, text: str, forward: SubstitutedWindow):
        self._predictor, self._size, self._strands = predictor, len(text), [forward]
        with torch.inference_mode(), autocast(predictor.device, predictor.dtype):
            if predictor.both_strands:
                codes = torch.from_numpy(base_codes(reverse_complement(text))).to(predictor.device)
                reverse = predictor.module.substituted_window(codes, forward.first_factor.flip(-1))
                assert reverse is not None  # the model has one for the forward strand
                self._strands.append(reverse)
            factors = [strand.reference_logits() for strand in self._strands]
        self.reference = self._decode([(one[None], other[None]) for one, other in factors])[0]

    def supports(self, ref_length: int, alt_length: int) -> bool:
        """Whether edits of this kind can be predicted: substitutions of single bases can."""
        return ref_length == alt_length == 1

    def alternatives(
        self,
        positions: np.ndarray,
        ref_length: int,
        alts: Sequence[str],
        core: tuple[int, int],
        advance: Callable[[int], object] = lambda _: None,
    ) -> Iterator[np.ndarray]:
        """Yield the probabilities of substituted windows; see `EditedWindow.alternatives`."""
        letters = np.array([NUCLEOTIDES[alt] for alt in alts], dtype=np.int64)
        starts = range(0, len(positions), SUBSTITUTIONS_AT_ONCE)
        parts = [slice(start, start + SUBSTITUTIONS_AT_ONCE) for start in starts]
        run = self._predictor.executor.map
        for values in run(lambda part: self._predict(positions[part], letters[part], core), parts):
            yield values
            advance(len(values) * len(self._strands))

    @torch.inference_mode()
    def _predict(self, positions: np.ndarray, letters: np.ndarray, core: tuple[int, int]) -> np.ndarray:
        size, factors = self._size, []
        with autocast(self._predictor.device, self._predictor.dtype):
            codes = torch.from_numpy(letters).to(self._predictor.device)
            first_factors = self._strands[0].first_factors(positions, codes, core)
            for strand, window in enumerate(self._strands):
                if strand:
                    positions, codes = size - 1 - positions, len(NUCLEOTIDES) - 1 - codes
                    core, first_factors = (size - core[1], size - core[0]), first_factors.flip(-1)
                factors.append(window.logits(positions, codes, core, first_factors))
        return self._decode(factors)

    def _decode(self, factors: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> np.ndarray:
        """Return the probabilities of log-odds of both factors, one pair for each strand; rows are sequences."""
        decoder = self._predictor.decoder
        if not decoder.merges_factors:
            logits = _to_numpy(product_logit(*factors[0]))
            return sigmoid(calibrate(logits, decoder.calibration))
        values = np.float32(0)
        for strand, (weights, pair) in enumerate(zip(decoder.strand_weights, factors, strict=True)):
            probabilities = _to_numpy(torch.stack(list(pair)).float().sigmoid())
            values = values + weights[..., None] * (probabilities[..., ::-1] if strand else probabilities)
        return decoder.to_probabilities(np.asarray(values))


def _to_numpy(values: torch.Tensor) -> np.ndarray:
    rows = values.float().cpu().numpy()
    if not np.isfinite(rows).all():
        raise NotANumberError(f"{NOT_A_NUMBER}; check the weights with zflipon doctor")
    return rows
