"""Integrated Gradients of a checkpoint, for many sequences at once, computed by captum.

The attribution of an input x to a scalar F is (x − x′) ∫₀¹ ∂F/∂x (x′ + α (x − x′)) dα, where x′ is the baseline. The
attributions of a sequence sum to F(x) − F(x′) (completeness; Sundararajan, Taly & Yan 2017, arXiv:1703.01365).

F is an `AttributionTarget`. x are the token embeddings and, for a base head, the one-hot letters, Z-HUNT channels and
k-mer log-odds that it reads directly; their baseline is 0, the value for a sequence of N. The calls of Z-HUNT only
group bases: they are discrete and are not interpolated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from zflipon.config import ATTRIBUTION_SCALARS, BASELINES, MAX_STEP_DOUBLINGS, AttributionConfig
from zflipon.errors import InputError, MissingExtraError, ModelError, NotANumberError
from zflipon.explain.attribution import Attribution, AttributionTarget
from zflipon.explain.interpolation import BatchBuilder, InterpolatedBatch
from zflipon.inference.concurrency import WorkerPool
from zflipon.inference.devices import LARGE_MODEL_PARAMETERS, resolve_device
from zflipon.inference.predictor import check_features
from zflipon.models import get_family
from zflipon.models.weights import count_parameters
from zflipon.omics.features import FeatureTracks
from zflipon.tokenization.tokens import Tokens

if TYPE_CHECKING:
    from zflipon.models import Checkpoint

OBJECTIVES = ("token", "base", "sequence")
"""Objectives of the models that can be explained."""

_TOKENS_PER_PASS = {"cpu": 1 << 14, "mps": 1 << 14, "cuda": 1 << 17}
"""Device type → rows × tokens of one pass. Gradients need more memory than predictions. CPU workers share it."""

_TOKENS_PER_PASS_LARGE = 1 << 12
"""The same for a large model on a CPU, which keeps about a megabyte per token until the gradient is computed."""


class IntegratedGradientsExplainer:
    """Computes attributions of a checkpoint; sequences and interpolation steps share forward passes.

    Parameters
    ----------
    checkpoint : Checkpoint
        A model with token embeddings, with or without adapters, and a token, base or sequence head.
    config : AttributionConfig, optional
    device : str
        ``'auto'`` (CUDA, then MPS, then CPU) or a torch device. The precision is always float32, since completeness is
        lost in less.
    features : FeatureTracks, optional
        Omics tracks of the genome, for a model that reads them.

    Raises
    ------
    MissingExtraError
        If captum is not installed.
    ModelError
        If the model is a formula or has another head, or if a setting is unknown.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: AttributionConfig | None = None,
        device: str = "auto",
        features: FeatureTracks | None = None,
    ):
        self._captum_class = _import_integrated_gradients()
        self.config = config or AttributionConfig()
        self.checkpoint, self.metadata, self.tokenizer = checkpoint, checkpoint.metadata, checkpoint.tokenizer
        _validate_settings(self.config, self.metadata.family, self.metadata.objective)
        check_features(checkpoint, features)
        self.features = features
        self.device = resolve_device(device)
        self.module = checkpoint.module.eval()
        torch.nn.Module.to(self.module, self.device)  # the stubs of transformers give `to` a wrong type
        self.batches = BatchBuilder(
            self.module,
            self.tokenizer,
            self.config,
            self.metadata.objective == "base",
            self.device,
            features,
        )
        self._workers = WorkerPool() if self.device.type == "cpu" else None

    def attribute(
        self,
        sequences: Sequence[str],
        targets: Sequence[AttributionTarget],
        tokens: Sequence[Tokens] | None = None,
        track_inputs: Sequence[np.ndarray] | None = None,
    ) -> Iterator[Attribution]:
        """Compute the attribution of each target.

        Parameters
        ----------
        sequences : sequence of str
            Upper case, none empty.
        targets : sequence of AttributionTarget
            Any number for each sequence.
        tokens : sequence of Tokens, optional
            Tokens of the sequences, if they are known already.
        track_inputs : sequence of numpy.ndarray, optional
            Omics tracks of each sequence, float32 of shape (tracks, steps), for a model that reads them.

        Yields
        ------
        Attribution
            One for each target, in no particular order: sequences of similar length share a batch.

        Raises
        ------
        InputError
            If a sequence is empty.
        ValueError
            If the weights of a target do not have the shape of the model's output.
        NotANumberError
            If a gradient is not finite.
        ModelError
            If a batch does not fit into the memory of the device.
        """
        if not all(sequences):
            raise InputError("cannot explain an empty sequence; expected at least one base")
        tokens = self.tokenizer.encode(sequences) if tokens is None else tokens
        for target in targets:
            self._check_weights(target, sequences[target.sequence], tokens[target.sequence])
        steps, remaining = self.config.steps, list(targets)
        for is_last_round in [False] * MAX_STEP_DOUBLINGS + [True]:
            incomplete = []
            for attribution in self._attribute_with(steps, remaining, sequences, tokens, track_inputs):
                if is_last_round or self._is_complete(attribution):
                    yield attribution
                else:
                    incomplete.append(attribution.target)
            steps, remaining = 2 * steps, incomplete

    def _is_complete(self, attribution: Attribution) -> bool:
        if self.config.tolerance is None:
            return True
        allowed = self.config.tolerance * abs(attribution.output - attribution.baseline_output)
        return abs(attribution.completeness_error) <= allowed

    def _check_weights(self, target: AttributionTarget, sequence: str, tokens: Tokens) -> None:
        size = {"token": len(tokens.ids), "base": len(sequence), "sequence": 1}[self.metadata.objective]
        if target.weights.shape != (size,):
            raise ValueError(f"expected target weights of shape ({size},), got {target.weights.shape}")

    def _attribute_with(
        self,
        steps: int,
        targets: Sequence[AttributionTarget],
        sequences: Sequence[str],
        tokens: Sequence[Tokens],
        track_inputs: Sequence[np.ndarray] | None,
    ) -> Iterator[Attribution]:
        def run(batch: Sequence[AttributionTarget]) -> list[Attribution]:
            rows = [target.sequence for target in batch]
            batch_tokens = [tokens[row] for row in rows]
            batch_tracks = track_inputs and [track_inputs[row] for row in rows]
            inputs = self.batches.build(batch, batch_tokens, [sequences[row] for row in rows], batch_tracks)
            return list(self._attribute_batch(inputs, batch, batch_tokens, batch_tracks, steps))

        # on a CPU every worker runs its own batches on one thread, as for predictions
        map_batches = map if self._workers is None else self._workers.map
        yield from chain.from_iterable(map_batches(run, self._split_into_batches(targets, tokens, steps)))

    def _split_into_batches(
        self, targets: Sequence[AttributionTarget], tokens: Sequence[Tokens], steps: int
    ) -> Iterator[Sequence[AttributionTarget]]:
        """Yield batches of targets whose sequences have similar token counts; at least one target each."""
        ordered = sorted(targets, key=lambda target: len(tokens[target.sequence].ids))
        batch: list[AttributionTarget] = []
        for target in ordered:
            longest = len(tokens[target.sequence].ids)  # counts ascend
            if batch and (len(batch) + 1) * steps > self._rows_per_pass(longest):
                yield batch
                batch = []
            batch.append(target)
        if batch:
            yield batch

    def _rows_per_pass(self, token_count: int) -> int:
        """Return how many rows (a row is one sequence at one step) of `token_count` tokens a pass takes."""
        if self.config.batch_size:
            return self.config.batch_size
        budget = _TOKENS_PER_PASS.get(self.device.type, _TOKENS_PER_PASS["cpu"])
        if self._workers is not None:
            is_large = count_parameters(self.module) >= LARGE_MODEL_PARAMETERS
            budget = (_TOKENS_PER_PASS_LARGE if is_large else budget) // self._workers.threads
        return max(1, budget // token_count)

    def _attribute_batch(
        self,
        batch: InterpolatedBatch,
        targets: Sequence[AttributionTarget],
        tokens: Sequence[Tokens],
        track_inputs: Sequence[np.ndarray] | None,
        steps: int,
    ) -> Iterator[Attribution]:
        outputs, baseline_outputs, parts = self._integrate(batch, steps)
        tracks = parts.pop().cpu().numpy() if track_inputs else None
        # sum over channels: the last axis of embeddings, axis 1 of the base inputs
        embeddings, *base_parts = (
            part.sum(2 if index == 0 else 1).cpu().numpy() for index, part in enumerate(parts)
        )
        if not all(np.isfinite(part).all() for part in (embeddings, *base_parts)):
            raise NotANumberError(
                "a gradient of the model is not finite; check the weights (zflipon doctor --model NAME)"
            )
        for row, (target, row_tokens) in enumerate(zip(targets, tokens, strict=True)):
            size = int(row_tokens.lengths.sum())
            names = batch.base_input_names
            bases = {name: part[row, :size] for name, part in zip(names, base_parts, strict=True)}
            row_tracks = None
            if tracks is not None and track_inputs is not None:
                row_tracks = tracks[row, :, : track_inputs[row].shape[1]]
            yield Attribution(
                target,
                row_tokens,
                embeddings[row, : len(row_tokens.ids)],
                letters=bases.get("one_hot"),
                zhunt=bases.get("zhunt"),
                output=float(outputs[row]),
                baseline_output=float(baseline_outputs[row]),
                steps=steps,
                tracks=row_tracks,
                kmers=bases.get("kmers"),
            )

    def _integrate(
        self, batch: InterpolatedBatch, steps: int
    ) -> tuple[np.ndarray, np.ndarray, list[torch.Tensor]]:
        """Return target values of inputs and baselines, and the attribution of each interpolated input."""
        count, longest = batch.inputs[0].shape[:2]
        rows = max(count, self._rows_per_pass(longest))
        try:
            with torch.no_grad():
                outputs, baseline_outputs = (
                    batch.target_values(*values, *batch.arguments).double().cpu().numpy()
                    for values in (batch.inputs, batch.baselines)
                )
            with torch.enable_grad():
                parts = self._captum_class(batch.target_values).attribute(
                    batch.inputs,
                    batch.baselines,
                    additional_forward_args=batch.arguments,
                    n_steps=steps,
                    method="gausslegendre",
                    internal_batch_size=rows,
                )
        except torch.OutOfMemoryError:
            raise ModelError(
                f"{rows} rows in one pass do not fit into the memory of {self.device}; use a smaller --batch-size"
            ) from None
        return outputs, baseline_outputs, [part.detach() for part in parts]


def _import_integrated_gradients() -> type:
    try:
        from captum.attr import IntegratedGradients
    except ImportError:
        raise MissingExtraError("attribution by Integrated Gradients", "captum", "explain") from None
    return IntegratedGradients


def _validate_settings(config: AttributionConfig, family: str, objective: str | None) -> None:
    if not get_family(family).trainable:
        raise ModelError(
            "the model is a formula without token embeddings, so it has no gradients to integrate; "
            "choose a trained model"
        )
    if objective not in OBJECTIVES:
        expected = ", ".join(map(repr, OBJECTIVES))
        raise ModelError(
            f"cannot explain a model with the objective '{objective}'; expected one of {expected}"
        )
    for name, value, known in (
        ("baseline", config.baseline, BASELINES),
        ("scalar", config.scalar, ATTRIBUTION_SCALARS),
    ):
        if value not in known:
            raise ModelError(f"unknown {name} {value!r}; expected one of {', '.join(known)}")
    if config.tolerance is not None and config.tolerance <= 0:
        raise ModelError(f"the tolerance must be greater than 0, got {config.tolerance}")
    if config.steps < 1:
        raise ModelError(
            f"Integrated Gradients need at least one step, got {config.steps}; set steps to 1 or more"
        )
