"""A batch of attribution targets as one differentiable function of the model inputs that are interpolated.

Integrated Gradients evaluates this function between the baselines and the inputs. How often, and in what order
batches are run, is decided in `zflipon.explain.integrated_gradients`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zflipon.config import AttributionConfig
from zflipon.explain.attribution import AttributionTarget
from zflipon.models.base import DnaModel
from zflipon.models.collate import collate, pad
from zflipon.models.heads.base_inputs import BaseInputs
from zflipon.models.labels import class_log_odds, find_z_output
from zflipon.omics.features import FeatureTracks
from zflipon.omics.tracks import MAX_DISTANCE
from zflipon.tokenization.tokenizers import DnaTokenizer
from zflipon.tokenization.tokens import Tokens

BASE_INPUTS = ("one_hot", "zhunt", "kmers")
"""Fields of `BaseInputs` that are interpolated. Its Z-HUNT calls are discrete and stay as they are."""

_NO_INTERVAL = {"binary": 0.0, "signal": 0.0, "distance": math.log2(1 + MAX_DISTANCE)}
"""Kind of omics track → its value where the track has no interval."""


class InterpolatedBatch:
    """Inputs, baselines and target function of one batch.

    Interpolated are the token embeddings, the `base_input_names` that the head reads, and the omics tracks if any.

    Parameters
    ----------
    module : DnaModel
    config : AttributionConfig
    inputs, baselines : tuple of Tensor
        One pair for each interpolated input, shape (rows, …).
    arguments : dict of str to Tensor or None
        The other arguments of the forward pass, and ``weights``; rows as in `inputs`.
    core : (int, int) or None
        For a base head, the range of bases that have a weight.
    base_input_names : sequence of str or None
        Interpolated fields of `BaseInputs`; None for other heads than a base head.

    Attributes
    ----------
    inputs, baselines : tuple of Tensor
    arguments : tuple of Tensor or None
        In the order in which `target_values` expects them after the inputs.
    base_input_names : tuple of str
    """

    def __init__(
        self,
        module: DnaModel,
        config: AttributionConfig,
        inputs: Sequence[Tensor],
        baselines: Sequence[Tensor],
        arguments: dict[str, Tensor | None],
        core: tuple[int, int] | None,
        base_input_names: Sequence[str] | None,
    ):
        self.inputs, self.baselines = tuple(inputs), tuple(baselines)
        self.arguments, self.base_input_names = tuple(arguments.values()), tuple(base_input_names or ())
        self._argument_names, self._core = list(arguments), core
        self._module, self._use_probability = module, config.scalar == "probability"
        self._has_base_head = base_input_names is not None
        self._z_output = find_z_output(module.config) if module.objective == "token" else 1

    def target_values(self, *tensors: Tensor | None) -> Tensor:
        """Return the value of each target.

        Parameters
        ----------
        *tensors : Tensor or None
            Interpolated inputs, then `arguments`; all with the same number of rows.

        Returns
        -------
        Tensor
            float32, shape (rows,).
        """
        count = len(self.inputs)
        embeddings, *inputs = tensors[:count]
        arguments: dict[str, Any] = dict(zip(self._argument_names, tensors[count:], strict=True))
        weights = arguments.pop("weights")
        if "present" in arguments:
            arguments["features"] = inputs.pop()
        if self._has_base_head:
            fields = dict.fromkeys(BaseInputs._fields) | dict(zip(self.base_input_names, inputs, strict=True))
            arguments["base_inputs"] = BaseInputs(**fields | {"in_call": arguments.pop("in_call")})
            arguments["core"] = self._core
        logits = self._module(inputs_embeds=embeddings, **arguments).logits
        log_odds = logits if self._has_base_head else class_log_odds(logits, self._z_output)
        log_odds = log_odds.unsqueeze(1) if log_odds.ndim == 1 else log_odds
        values = torch.sigmoid(log_odds) if self._use_probability else log_odds
        return (values * weights).sum(1)


class BatchBuilder:
    """Builds `InterpolatedBatch` objects for one model.

    Parameters
    ----------
    module : DnaModel
    tokenizer : DnaTokenizer
    config : AttributionConfig
    has_base_head : bool
    device : torch.device
    feature_tracks : FeatureTracks, optional
    """

    def __init__(
        self,
        module: DnaModel,
        tokenizer: DnaTokenizer,
        config: AttributionConfig,
        has_base_head: bool,
        device: torch.device,
        feature_tracks: FeatureTracks | None = None,
    ):
        self._module, self._tokenizer, self._config = module, tokenizer, config
        self._has_base_head, self._device, self._feature_tracks = has_base_head, device, feature_tracks

    def build(
        self,
        targets: Sequence[AttributionTarget],
        tokens: Sequence[Tokens],
        sequences: Sequence[str],
        track_inputs: Sequence[np.ndarray] | None = None,
    ) -> InterpolatedBatch:
        """Collate one row for each target.

        Parameters
        ----------
        targets : sequence of AttributionTarget
            Their `sequence` is ignored: row i explains sequence i.
        tokens : sequence of Tokens
        sequences : sequence of str
        track_inputs : sequence of numpy.ndarray, optional
            Omics tracks of each row, float32 of shape (tracks, steps).
        """
        present = self._feature_tracks and self._feature_tracks.present
        batch = collate(tokens, sequences, self._tokenizer.pad_id, self._has_base_head, track_inputs, present)
        batch = {name: tensor.to(self._device) for name, tensor in batch.items()}
        weights = pad([target.weights.astype(np.float32) for target in targets], 0.0).to(self._device)
        arguments = {"weights": weights, "attention_mask": batch.get("attention_mask")}
        inputs, baselines = self._embeddings(batch["input_ids"], tokens)
        core, names = None, None
        if self._has_base_head:
            with torch.no_grad():
                base_inputs = self._module.read_bases(batch["bases"])
            names = [name for name in BASE_INPUTS if getattr(base_inputs, name) is not None]
            values = [getattr(base_inputs, name).float() for name in names]
            inputs += values
            baselines += [torch.zeros_like(value) for value in values]
            arguments |= {"base_tokens": batch["base_tokens"], "bases": batch["bases"]}
            arguments["in_call"] = base_inputs.in_call
            core = _weighted_range(weights)
        if track_inputs:
            inputs.append(batch["features"])
            baselines.append(self._track_baseline().expand_as(batch["features"]))
            arguments["present"] = batch["present"]
        return InterpolatedBatch(self._module, self._config, inputs, baselines, arguments, core, names)

    def _embeddings(self, ids: Tensor, tokens: Sequence[Tokens]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the token embeddings and their baseline, in which special tokens keep their embeddings."""
        has_bases = pad([each.lengths > 0 for each in tokens], False).to(self._device)
        with torch.no_grad():
            embeddings = self._module.get_input_embeddings()(ids).float()
            baseline = torch.where(has_bases.unsqueeze(-1), self._embedding_baseline(), embeddings)
        return [embeddings], [baseline]

    def _embedding_baseline(self) -> Tensor:
        """Return the embedding that replaces tokens with bases: float32, shape (hidden,)."""
        table = self._module.get_input_embeddings()
        if self._config.baseline == "mean":
            return table(torch.from_numpy(self._tokenizer.base_ids).to(self._device)).float().mean(0)
        padding = table(torch.tensor(self._tokenizer.pad_id, device=self._device)).float()
        return torch.zeros_like(padding) if self._config.baseline == "zero" else padding

    def _track_baseline(self) -> Tensor:
        """Return the standardised value of tracks without intervals: float32, shape (tracks, 1); 0 if not given."""
        tracks = self._feature_tracks
        if tracks is None:
            raise ValueError("omics tracks were given as inputs, but the builder has no feature_tracks")
        values = [(_NO_INTERVAL[each.kind] - each.mean) / each.scale for each in tracks.features]
        return torch.tensor(values * tracks.present, dtype=torch.float32, device=self._device)[:, None]


def _weighted_range(weights: Tensor) -> tuple[int, int]:
    """Return the range of columns outside which no row has a weight."""
    columns = weights.ne(0).any(0).nonzero()
    return (int(columns.min()), int(columns.max()) + 1) if len(columns) else (0, weights.shape[1])
