"""`Predictor`: sequences → base probabilities, with one model, on one device.

It connects batching, executor and decoding. Windows of a whole genome are in `zflipon.inference.genome_scan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from zflipon.config import FACTORS, InferenceConfig
from zflipon.errors import ModelError, format_names
from zflipon.genome.alphabet import base_codes
from zflipon.genome.reference_sequences import reference_sequences
from zflipon.genome.sequence_windows import SequenceWindows
from zflipon.inference.batching import Batch, Batcher
from zflipon.inference.concurrency import Prefetch, StageTimer, WorkerPool
from zflipon.inference.decoding import Decoder
from zflipon.inference.devices import DeviceProfile, device_profile
from zflipon.inference.executor import Executor
from zflipon.inference.int8 import quantize_layers
from zflipon.inference.settings import InferenceSettings, resolve_settings
from zflipon.tokenization.tokens import Tokens

if TYPE_CHECKING:
    from zflipon.models import Checkpoint
    from zflipon.models.base import DnaModel
    from zflipon.omics.features import FeatureTracks

_CALIBRATION_BASES, _CALIBRATION_SEED = 1 << 14, 8
"""Bases of the sequences that calibrate int8, which are others than those on which precisions are compared."""


class Predictor:
    """Predicts with the model of a checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
    config : InferenceConfig or InferenceSettings, optional
        A config is resolved for the checkpoint and this machine.
    objectives : tuple of str
        Accepted objectives of the model. `predict_probabilities` needs a model that calls bases or tokens.
    features : FeatureTracks, optional
        Omics tracks of the genome, for a model that reads them.
    profile : DeviceProfile, optional
        Default: the device's own.

    Attributes
    ----------
    metadata : ModelMetadata
    tokenizer : DnaTokenizer
    module : DnaModel
        In evaluation mode, on the device.
    settings : InferenceSettings
    features : FeatureTracks or None
        May be replaced by other tracks of the same model.
    timer : StageTimer
        Seconds of each stage.

    Raises
    ------
    ModelError
        If the model has another objective or cannot use the precision, or reads other tracks than given.
    ZfliponError
        If the device is not available.

    Examples
    --------
    >>> from zflipon.models import load
    >>> predictor = Predictor(load("compact"), InferenceConfig(device="cpu"))
    >>> (probabilities,) = predictor.predict_probabilities(["AT" * 50 + "CG" * 12 + "AT" * 50])
    >>> probabilities.shape, str(probabilities.dtype)
    ((224,), 'float32')
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: InferenceConfig | InferenceSettings | None = None,
        objectives: tuple[str, ...] = ("base", "token"),
        features: FeatureTracks | None = None,
        profile: DeviceProfile | None = None,
    ):
        self.name, self.metadata, self.tokenizer = checkpoint.name, checkpoint.metadata, checkpoint.tokenizer
        objective = self.metadata.objective
        if objective not in objectives:
            expected = " or ".join(map(repr, objectives))
            raise ModelError(f"a model with the objective '{objective}' calls no bases; expected {expected}")
        self.settings = (
            config if isinstance(config, InferenceSettings) else resolve_settings(config, checkpoint)
        )
        check_features(checkpoint, features)
        self.features = features
        self.timer = StageTimer()
        self.profile = profile or device_profile(self.device)
        threads = self.profile.tokenizer_threads
        self.tokenizer_pool = None if threads is None else WorkerPool(threads)
        self.batcher = Batcher(
            self.tokenizer,
            self.device,
            objective == "base",
            self.settings.batch_size,
            self.profile,
            reads_tokens=not checkpoint.module.reads_wide_context,
        )
        self.executor = Executor(
            self._quantize(checkpoint.module) if self.dtype == torch.int8 else checkpoint.module,
            self.settings,
            self.metadata.window,
            self.timer,
            self.profile,
        )
        self.module = self.executor.module
        decoding = self.module.decoding
        self._decoder = decoding and Decoder(decoding, self.metadata.calibration, self.both_strands)

    @property
    def decoder(self) -> Decoder:
        """Decodes the output of the model; raises `ModelError` if it is neither of bases nor of tokens."""
        if self._decoder is None:
            raise ModelError(
                f"a model with the objective '{self.metadata.objective}' calls no bases; expected 'base' or 'token'"
            )
        return self._decoder

    @property
    def device(self) -> torch.device:
        """The device that runs the model."""
        return self.settings.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the encoder's matrix products."""
        return self.settings.dtype

    @property
    def both_strands(self) -> bool:
        """Whether predictions of both strands are averaged."""
        return self.settings.both_strands

    def predict_probabilities(
        self,
        sequences: Sequence[str],
        features: Sequence[np.ndarray] | None = None,
        cores: np.ndarray | None = None,
        advance: Callable[[int], object] = lambda _: None,
    ) -> list[np.ndarray]:
        """Return the probability of each base of each sequence.

        Parameters
        ----------
        sequences : sequence of str
            Windows, in any case.
        features : sequence of numpy.ndarray, optional
            Omics tracks of each window, as `read_features` returns them: float32, shape (tracks, steps).
        cores : numpy.ndarray, optional
            int64, shape (sequences, 2): the range of bases that is needed of each, which saves time with a
            base-resolution head. Probabilities outside of it are undefined.
        advance : callable, optional
            Called after each batch with its number of sequences. With both strands each sequence counts twice.

        Returns
        -------
        list of numpy.ndarray
            float32, shape (bases,) each.

        Raises
        ------
        NotANumberError
            If the model returns NaN or an infinite value.
        """
        values = self.predict_values(sequences, features, cores, self.decoder.merges_factors, advance)
        return [self.decoder.to_probabilities(each) for each in values]

    def predict_values(
        self,
        sequences: Sequence[str],
        features: Sequence[np.ndarray] | None = None,
        cores: np.ndarray | None = None,
        return_factors: bool = False,
        advance: Callable[[int], object] = lambda _: None,
    ) -> list[np.ndarray]:
        """Return the values of each base of each sequence, merged over the strands that are read; see `Decoder`.

        Parameters are those of `predict_probabilities`, and `return_factors` as in `Batch`.

        Returns
        -------
        list of numpy.ndarray
            float32, shape (values, bases) each.
        """
        sequences = SequenceWindows.from_sequences(sequences)
        first_factors = self.first_factors(list(sequences))
        forward = self._strand_values(sequences, features, cores, first_factors, return_factors, advance)
        if not self.both_strands:
            return forward
        reverse = self._strand_values(
            sequences.reverse_complement(),
            features and [tracks[:, ::-1] for tracks in features],
            None if cores is None else (sequences.widths[:, None] - cores)[:, ::-1],
            first_factors and [factor[:, ::-1] for factor in first_factors],
            return_factors,
            advance,
        )
        ours, theirs = self.decoder.strand_weights
        return [ours * one + theirs * other[:, ::-1] for one, other in zip(forward, reverse, strict=True)]

    def probability_upper_bounds(self, text: str) -> np.ndarray | None:
        """Return an upper bound of the probability of each base, at a fraction of the cost of the prediction.

        Parameters
        ----------
        text : str
            Upper case. Within a margin of either end the bounds hold for this text, not for the text within a genome.

        Returns
        -------
        numpy.ndarray or None
            float32, shape (bases,); None if the model has no upper bound.
        """
        factors = self.first_factors([text])
        return None if factors is None else self.decoder.upper_bounds(factors[0][0])

    def first_factors(self, texts: Sequence[str]) -> list[np.ndarray] | None:
        """Return the first factor of each base of some sequences.

        Parameters
        ----------
        texts : sequence of str
            Upper case.

        Returns
        -------
        list of numpy.ndarray or None
            float32, shape (2, bases) each: log-odds, and 1 inside a Z-HUNT call; None if the model has one factor.
        """
        if not self.decoder.decoding.has_upper_bound:
            return None
        return self.executor.first_factors([torch.from_numpy(base_codes(text)) for text in texts])

    def require_scores(self, scores: Sequence[str]) -> None:
        """Raise `ModelError` unless the model has all of the given scores, of `zflipon.config.SCORES`."""
        if set(scores) & set(FACTORS) and not (self.decoder and self.decoder.decoding.has_factors):
            raise ModelError(
                f"a model of the family '{self.metadata.family}' has no separate scores for {' and '.join(FACTORS)}; "
                "use the score 'probability' or a model with a base-resolution head, such as 'compact'"
            )

    def predict_logits(
        self, sequences: Sequence[str], features: Sequence[np.ndarray] | None = None
    ) -> Iterator[tuple[int, Tokens, np.ndarray]]:
        """Yield the logits of each sequence, on the given strand only.

        Parameters
        ----------
        sequences, features
            As in `predict_probabilities`.

        Yields
        ------
        index : int
            Of the sequence. The order is that of the batches.
        tokens : Tokens
        logits : numpy.ndarray
            float32, shape (tokens, classes), (bases,) or (classes,), depending on the objective.
        """
        for batch, logits in self.run_batches(sequences, features=features):
            sizes = {"base": batch.widths, "token": batch.tokens.counts}.get(self.metadata.objective)
            for i, (index, tokens) in enumerate(zip(batch.indices.tolist(), batch.tokens, strict=True)):
                yield index, tokens, logits[i] if sizes is None else logits[i, : sizes[i]]

    def run_batches(
        self,
        sequences: Sequence[str],
        cores: np.ndarray | None = None,
        features: Sequence[np.ndarray] | None = None,
        return_factors: bool = False,
        first_factors: Sequence[np.ndarray] | None = None,
        needs_tokens: bool = True,
    ) -> Iterator[tuple[Batch, np.ndarray]]:
        """Yield batches and their outputs. Sequences are tokenized in a thread; parameters as in `Batcher.batches`."""
        source = self.batches(
            sequences, cores, features, return_factors, first_factors=first_factors, needs_tokens=needs_tokens
        )
        with Prefetch(source, self.profile.prefetch_batches) as batches:
            for _, batch, pending in self.executor.stream((None, batch) for batch in batches):
                yield batch, self.executor.gather(pending)

    def batches(
        self,
        sequences: Sequence[str],
        cores: np.ndarray | None = None,
        features: Sequence[np.ndarray] | None = None,
        return_factors: bool = False,
        return_product: bool = False,
        first_factors: Sequence[np.ndarray] | None = None,
        needs_tokens: bool = True,
    ) -> Iterator[Batch]:
        """Yield batches of the sequences; parameters as in `Batcher.batches`."""
        present = self.features and self.features.present
        return self.batcher.batches(
            sequences, cores, features, present, return_factors, return_product, first_factors, needs_tokens
        )

    def base_values(self, batch: Batch, output: np.ndarray) -> np.ndarray:
        """Return the values of a batch's bases, concatenated: float32, shape (values, bases); see `Decoder`."""
        return self.decoder.base_values([batch], [output]).swapaxes(0, 1)[:, batch.base_mask]

    def read_features(self, contig: str, bounds: np.ndarray) -> list[np.ndarray] | None:
        """Return the omics tracks in windows of a contig; None if the model reads none.

        Parameters
        ----------
        contig : str
        bounds : numpy.ndarray
            int64, shape (windows, 2): starts and ends. Windows should be close together, because their union is read.

        Returns
        -------
        list of numpy.ndarray or None
            float32, shape (tracks, steps) for each window.
        """
        if self.features is None:
            return None
        return self.features.windows(contig, bounds, self.module.view)

    def _quantize(self, module: DnaModel) -> DnaModel:
        """Return the model with transformer layers in int8, calibrated with sequences that are always the same."""
        window = self.metadata.window
        sequences = reference_sequences(window, -(-_CALIBRATION_BASES // window), _CALIBRATION_SEED)
        batches = (batch.inputs for batch in self.batches(SequenceWindows.from_sequences(sequences)))
        return quantize_layers(module, batches, self.settings.threads or torch.get_num_threads())

    def _strand_values(
        self,
        sequences: Sequence[str],
        features: Sequence[np.ndarray] | None,
        cores: np.ndarray | None,
        first_factors: Sequence[np.ndarray] | None,
        return_factors: bool,
        advance: Callable[[int], object],
    ) -> list[np.ndarray]:
        """Return the values of one strand: float32, shape (values, bases) for each sequence."""
        result: list[np.ndarray] = [np.empty((1, 0), dtype=np.float32)] * len(sequences)
        needs_tokens = not self.decoder.decoding.per_base
        for batch, output in self.run_batches(
            sequences, cores, features, return_factors, first_factors, needs_tokens
        ):
            values = self.decoder.base_values([batch], [output])
            for index, width, row in zip(batch.indices, batch.widths, values, strict=True):
                result[index] = row[:, :width]
            advance(len(batch.indices))
        return result


def check_features(checkpoint: Checkpoint, features: FeatureTracks | None) -> None:
    """Raise `ModelError` unless the given omics tracks are those that the model reads."""
    expected = checkpoint.metadata.features
    if expected and features is None:
        names = format_names([feature.name for feature in expected])
        raise ModelError(
            f"the model reads {len(expected)} omics tracks ({names}), but none are given. Name their files with "
            "--features TABLE, or pass --missing-features zero to predict without them"
        )
    if features is not None and features.features != expected:
        raise ModelError(f"the model reads {len(expected)} omics tracks, and other tracks are given")
