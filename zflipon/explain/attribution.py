"""Integrated Gradients: which tokens and bases a number that a model gives comes from.

The attribution of an input x to a scalar F is (x − x′) ∫₀¹ ∂F/∂x (x′ + α (x − x′)) dα, with a baseline x′; all
attributions of a sequence add up to F(x) − F(x′) (completeness; Sundararajan, Taly & Yan 2017, arXiv:1703.01365).

F is a weighted sum of the model's log-odds of class 1 (`Aim`), or of its probabilities. x are the token embeddings
and, under the base head, what it reads of the nucleotides itself: one-hot letters and the channels of Z-HUNT. Their
baseline is 0, which is what the head reads of a sequence of N. Where Z-HUNT calls is left as it is in the sequence:
it only groups bases, and nothing leads from a group to none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from zflipon.config import ATTRIBUTION_SCALARS, BASELINES, MAX_STEP_DOUBLINGS, AttributionConfig
from zflipon.errors import InputError, MissingExtraError, ModelError, NotANumberError
from zflipon.inference.concurrency import WorkerPool
from zflipon.inference.devices import LARGE_MODEL_PARAMETERS, count_parameters, resolve_device
from zflipon.inference.predictor import check_features
from zflipon.models import get_family
from zflipon.models.collate import collate, pad
from zflipon.models.heads.base_inputs import BaseInputs
from zflipon.models.labels import class_log_odds, find_z_output
from zflipon.omics.features import MAX_DISTANCE, FeatureTracks
from zflipon.tokenization.tokenizers import DnaTokenizer
from zflipon.tokenization.tokens import Tokens

if TYPE_CHECKING:
    from zflipon.models import Checkpoint

OBJECTIVES = ("token", "base", "sequence")
"""Heads whose numbers can be explained."""

_TOKENS_PER_PASS = {"cpu": 1 << 14, "mps": 1 << 14, "cuda": 1 << 17}
"""Automatic batch size: rows times tokens, which gradients need to be fewer than prediction takes; a CPU's cores share
them."""

_OF_LARGE = 1 << 12
"""The same of a large model on a CPU: a token keeps a megabyte until its gradient is there."""


@dataclass(frozen=True)
class AttributionTarget:
    """The scalar that is explained: the sum of weights × log-odds of class 1 (or × its probability).

    Attributes
    ----------
    sequence : int
        Which of the sequences.
    weights : numpy.ndarray
        float32: shape (tokens,) of a token head, (bases,) of a base head, (1,) of a sequence head.
    """

    sequence: int
    weights: np.ndarray


@dataclass(frozen=True)
class Attribution:
    """The shares of one scalar.

    Attributes
    ----------
    aim : Aim
    tokens : Tokens
        Of the sequence.
    embeddings : numpy.ndarray
        float32, shape (tokens,): share of each token's embedding, summed over its components.
    letters, zhunt : numpy.ndarray or None
        float32, shape (bases,): shares of what a base head reads at each base, summed over channels; a channel of
        Z-HUNT also tells of the bases after and before that its windows cover.
    words : numpy.ndarray or None
        float32, shape (bases,): share of what the words of the surroundings say to a base head, at the middle of each.
    output, reference : float
        The scalar of the sequence and of the baseline.
    steps : int
        That it took.
    tracks : numpy.ndarray or None
        float32, shape (tracks, steps): shares of what a model reads of omics tracks, as its view has them. Their
        baseline is a track without an interval, a height of 0, or an interval that is as far away as can be.
    """

    aim: AttributionTarget
    tokens: Tokens
    embeddings: np.ndarray
    letters: np.ndarray | None
    zhunt: np.ndarray | None
    output: float
    reference: float
    steps: int
    tracks: np.ndarray | None = None
    words: np.ndarray | None = None

    @property
    def attributed(self) -> float:
        """What all shares add up to."""
        parts = (self.embeddings, self.letters, self.zhunt, self.words, self.tracks)
        return sum(float(part.sum(dtype=np.float64)) for part in parts if part is not None)

    @property
    def delta(self) -> float:
        """By how much the shares miss `output` − `reference`: the error of the quadrature (convergence delta)."""
        return self.attributed - (self.output - self.reference)

    def of_bases(self) -> np.ndarray | None:
        """Return what the head's own reading of each base adds: float64, shape (bases,); None of other heads."""
        read = (self.letters, self.zhunt, self.words)
        parts = [part.astype(np.float64) for part in read if part is not None]
        return sum(parts) if parts else None

    def per_token(self) -> np.ndarray:
        """Return each token's share, that of its bases included: float64, shape (tokens,)."""
        scores, own = self.embeddings.astype(np.float64), self.of_bases()
        if own is None:
            return scores
        ends = np.cumsum(self.tokens.lengths)
        total = np.concatenate([[0], np.cumsum(own)])
        return scores + total[ends] - total[ends - self.tokens.lengths]

    def per_base(self, span: int = 1) -> np.ndarray:
        """Spread each token's share evenly over the bases that it reads, and add the bases' own.

        Parameters
        ----------
        span : int
            Bases that a token reads at least: the k of overlapping k-mers (`zflipon.tokenization.tokenizers.DnaTokenizer.tokens_per_base`).

        Returns
        -------
        numpy.ndarray
            float64, shape (bases,). Its sum is that of all shares but those of tokens without bases, which are 0.
        """
        starts, ends = read_spans(self.tokens, span)
        holds = ends > starts
        share = self.embeddings[holds] / (ends - starts)[holds]
        steps = np.zeros(int(self.tokens.lengths.sum()) + 1)
        np.add.at(steps, starts[holds], share)
        np.add.at(steps, ends[holds], -share)
        spread, own = np.cumsum(steps)[:-1], self.of_bases()
        return spread if own is None else spread + own


def read_spans(tokens: Tokens, span: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return where the bases begin and end that each token reads: int64, shape (tokens,); equal where it reads none.

    A k-mer has one base of its own and reads k (`span`).
    """
    ends = np.cumsum(tokens.lengths)
    starts = ends - tokens.lengths
    reach = np.minimum(starts + span, ends[-1] if len(ends) else 0)
    return starts, np.where(tokens.lengths > 0, np.maximum(ends, reach), starts)


class Attributor:
    """Takes Integrated Gradients of a checkpoint, many sequences and steps in one pass.

    Parameters
    ----------
    checkpoint : Checkpoint
        Of a family with embeddings, with or without adapters; under a token, base or sequence head.
    config : AttributionConfig, optional
    device : str
        ``'auto'`` (CUDA, then MPS, then CPU) or a torch device. Precision is float32: in less, completeness is lost.
    features : FeatureTracks, optional
        Omics tracks of the genome, for a model that reads them.

    Raises
    ------
    MissingExtraError
        If captum is not installed.
    ModelError
        If the model is a formula or has another head, or a setting is unknown.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: AttributionConfig | None = None,
        device: str = "auto",
        features: FeatureTracks | None = None,
    ):
        self._method = _integrated_gradients()
        self.config = config or AttributionConfig()
        self.checkpoint, self.metadata, self.tokenizer = checkpoint, checkpoint.metadata, checkpoint.tokenizer
        _check(self.config, self.metadata.family, self.metadata.objective)
        check_features(checkpoint, features)
        self.features = features
        self.device = resolve_device(device)
        self.module = checkpoint.module.to(self.device).eval()
        self._cores = WorkerPool() if self.device.type == "cpu" else None

    @property
    def is_base(self) -> bool:
        """Whether the model decides per base."""
        return self.metadata.objective == "base"

    def attribute(
        self,
        sequences: Sequence[str],
        aims: Sequence[AttributionTarget],
        tokens: Sequence[Tokens] | None = None,
        seen: Sequence[np.ndarray] | None = None,
    ) -> Iterator[Attribution]:
        """Attribute scalars.

        Parameters
        ----------
        sequences : sequence of str
            Upper case, none empty.
        aims : sequence of Aim
            Any number of each sequence.
        tokens : sequence of Tokens, optional
            Of the sequences, where they are known already.
        seen : sequence of numpy.ndarray, optional
            What the model sees of the tracks at each, float32 of shape (tracks, steps), if it reads tracks.

        Yields
        ------
        Attribution
            One for each aim. They come in no order, so that sequences of like length are read together.

        Raises
        ------
        InputError
            If a sequence is empty.
        ValueError
            If weights do not fit their sequence.
        NotANumberError
            If a gradient is not a number.
        ModelError
            If a pass does not fit the device's memory.
        """
        if not all(sequences):
            raise InputError("a sequence without bases cannot be explained")
        tokens = self.tokenizer.encode(sequences) if tokens is None else tokens
        for aim in aims:
            self._fits(aim, sequences[aim.sequence], tokens[aim.sequence])
        steps, left = self.config.steps, list(aims)
        for last in [False] * MAX_STEP_DOUBLINGS + [True]:
            missed = []
            for found in self._with_steps(steps, left, sequences, tokens, seen):
                if last or self._is_complete(found):
                    yield found
                else:
                    missed.append(found.aim)
            steps, left = 2 * steps, missed

    def _is_complete(self, found: Attribution) -> bool:
        tolerance = self.config.tolerance
        return tolerance is None or abs(found.delta) <= tolerance * abs(found.output - found.reference)

    def _with_steps(
        self,
        steps: int,
        aims: Sequence[AttributionTarget],
        sequences: Sequence[str],
        tokens: Sequence[Tokens],
        seen: Sequence[np.ndarray] | None,
    ) -> Iterator[Attribution]:
        def attributed(batch: Sequence[AttributionTarget]) -> list[Attribution]:
            return list(self._attributed(batch, sequences, tokens, seen, steps))

        # on a CPU a batch a core, as for predictions
        each = map if self._cores is None else self._cores.map
        yield from chain.from_iterable(each(attributed, self._batches(aims, tokens, steps)))

    def _batches(
        self, aims: Sequence[AttributionTarget], tokens: Sequence[Tokens], steps: int
    ) -> Iterator[Sequence[AttributionTarget]]:
        """Lay aims at sequences of like length together."""
        order = sorted(aims, key=lambda aim: len(tokens[aim.sequence].ids))
        at = 0
        while at < len(order):
            batch = order[at : at + self._together(order, at, tokens, steps)]
            yield batch
            at += len(batch)

    def _fits(self, aim: AttributionTarget, sequence: str, tokens: Tokens) -> None:
        wanted = {"token": len(tokens.ids), "base": len(sequence), "sequence": 1}[self.metadata.objective]
        if aim.weights.shape != (wanted,):
            raise ValueError(f"expected weights of shape ({wanted},), found {aim.weights.shape}")

    def _rows(self, tokens: int) -> int:
        """Return how many rows of so many tokens a pass takes."""
        if self.config.batch_size:
            return self.config.batch_size
        most = _TOKENS_PER_PASS.get(self.device.type, _TOKENS_PER_PASS["cpu"])
        if self._cores is not None:
            most = (
                _OF_LARGE if count_parameters(self.module) >= LARGE_MODEL_PARAMETERS else most
            ) // self._cores.threads
        return max(1, most // tokens)

    def _together(
        self, order: Sequence[AttributionTarget], at: int, tokens: Sequence[Tokens], steps: int
    ) -> int:
        """Return how many aims from `at` on fill a pass with all their steps; one at least."""
        count = 1
        for aim in order[at + 1 :]:
            size = len(tokens[aim.sequence].ids)  # they ascend, so that the last one is the longest
            if (count + 1) * steps > self._rows(size):
                break
            count += 1
        return count

    def _attributed(
        self,
        aims: Sequence[AttributionTarget],
        sequences: Sequence[str],
        tokens: Sequence[Tokens],
        seen: Sequence[np.ndarray] | None,
        steps: int,
    ) -> Iterator[Attribution]:
        own = [tokens[aim.sequence] for aim in aims]
        problem = self._problem(
            aims,
            own,
            [sequences[aim.sequence] for aim in aims],
            seen and [seen[aim.sequence] for aim in aims],
        )
        rows = max(len(aims), self._rows(problem.inputs[0].shape[1]))
        try:
            with torch.no_grad():
                output, reference = (
                    problem.scalar(*start, *problem.given).double().cpu().numpy()
                    for start in (problem.inputs, problem.baselines)
                )
            with torch.enable_grad():
                found = self._method(problem.scalar).attribute(
                    problem.inputs,
                    problem.baselines,
                    additional_forward_args=problem.given,
                    n_steps=steps,
                    method="gausslegendre",
                    internal_batch_size=rows,
                )
        except torch.OutOfMemoryError:
            raise ModelError(
                f"{rows} rows at once do not fit the memory of {self.device}; take a smaller --batch-size"
            ) from None
        found = [part.detach() for part in found]
        tracks = found.pop().cpu().numpy() if seen else None
        # channels are summed: last of the embeddings, first of what is read at bases
        scores = [part.sum(2 if i == 0 else 1).cpu().numpy() for i, part in enumerate(found)]
        if not all(np.isfinite(part).all() for part in scores):
            raise NotANumberError("a gradient of the model is not a number")
        for row, (aim, each) in enumerate(zip(aims, own, strict=True)):
            size = int(each.lengths.sum())
            bases = {name: part[row, :size] for name, part in zip(problem.read, scores[1:], strict=True)}
            shares = (scores[0][row, : len(each.ids)], bases.get("one_hot"), bases.get("zhunt"))
            own_tracks = None if tracks is None else tracks[row, :, : seen[aim.sequence].shape[1]]
            ends = float(output[row]), float(reference[row])
            yield Attribution(aim, each, *shares, *ends, steps, own_tracks, bases.get("kmers"))

    def _problem(
        self,
        aims: Sequence[AttributionTarget],
        tokens: Sequence[Tokens],
        sequences: Sequence[str],
        seen: Sequence[np.ndarray] | None = None,
    ) -> _Problem:
        """Lay sequences side by side: what is interpolated, from where, and what stays."""
        present = self.features and self.features.present
        batch = collate(tokens, sequences, self.tokenizer.pad_id, self.is_base, seen, present)
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        holds = pad([each.lengths > 0 for each in tokens], False).to(self.device)
        weights = pad([aim.weights.astype(np.float32) for aim in aims], 0.0).to(self.device)
        with torch.no_grad():
            embeddings = self.module.get_input_embeddings()(batch["input_ids"]).float()
            start = torch.where(holds.unsqueeze(-1), self._baseline(), embeddings)
        inputs, baselines = [embeddings], [start]
        given: dict[str, Tensor | None] = {"weights": weights, "attention_mask": batch.get("attention_mask")}
        core, read = None, []
        if self.is_base:
            with torch.no_grad():
                look = self.module.read_bases(batch["bases"])
            read = [name for name in ("one_hot", "zhunt", "kmers") if getattr(look, name) is not None]
            inputs += [getattr(look, name).float() for name in read]
            baselines += [torch.zeros_like(part) for part in inputs[1:]]
            given |= {"base_tokens": batch["base_tokens"], "bases": batch["bases"], "in_call": look.in_call}
            core = _span(weights)
        if seen:
            inputs.append(batch["features"])
            baselines.append(self._no_tracks().expand_as(batch["features"]))
            given["present"] = batch["present"]
        return _Problem(
            self.module, self.config.scalar, tuple(inputs), tuple(baselines), given, core, self.is_base, read
        )

    def _no_tracks(self) -> Tensor:
        """Return what tracks say where there is nothing: float32, shape (tracks, 1); 0 of those that are not given."""
        nothing = {"binary": 0.0, "signal": 0.0, "distance": math.log2(1 + MAX_DISTANCE)}
        values = [(nothing[each.kind] - each.mean) / each.scale for each in self.features.features]
        return torch.tensor(values * self.features.present, dtype=torch.float32, device=self.device)[:, None]

    def _baseline(self) -> Tensor:
        """Return the embedding that stands where bases were: float32, shape (hidden,)."""
        table = self.module.get_input_embeddings()
        if self.config.baseline == "mean":
            return table(torch.from_numpy(self.tokenizer.base_ids).to(self.device)).float().mean(0)
        found = table(torch.tensor(self.tokenizer.pad_id, device=self.device)).float()
        return torch.zeros_like(found) if self.config.baseline == "zero" else found


class _Problem:
    """A batch, and the scalar of each of its rows as a function of what is interpolated.

    `scalar` takes the interpolated tensors, then those of `given`, each with the same number of rows. Interpolated are
    the embeddings, the parts of `Seen` that `read` names, and the omics tracks if there are any.
    """

    def __init__(
        self,
        module: nn.Module,
        scalar: str,
        inputs: tuple[Tensor, ...],
        baselines: tuple[Tensor, ...],
        given: dict[str, Tensor | None],
        core: tuple[int, int] | None,
        is_base: bool,
        read: Sequence[str],
    ):
        self.inputs, self.baselines, self.given = inputs, baselines, tuple(given.values())
        self._module, self._of_probability = module, scalar == "probability"
        self._z_output = find_z_output(module.config) if module.objective == "token" else 1
        self._names, self._core, self._is_base, self.read = list(given), core, is_base, read

    def scalar(self, *tensors: Tensor | None) -> Tensor:
        """Return the scalars: float32, shape (rows,)."""
        count = len(self.inputs)
        embeddings, *inputs = tensors[:count]
        given = dict(zip(self._names, tensors[count:], strict=True))
        weights = given.pop("weights")
        if "present" in given:
            given["features"] = inputs.pop()
        if self._is_base:
            look = dict(zip(self.read, inputs, strict=True))
            given["base_inputs"] = BaseInputs(
                look.get("one_hot"), look.get("zhunt"), given.pop("in_call"), look.get("kmers")
            )
            given["core"] = self._core
        logits = self._module(inputs_embeds=embeddings, **given).logits
        odds = logits if self._is_base else class_log_odds(logits, self._z_output)
        odds = odds.unsqueeze(1) if odds.ndim == 1 else odds
        return ((torch.sigmoid(odds) if self._of_probability else odds) * weights).sum(1)


def _span(weights: Tensor) -> tuple[int, int]:
    """Return the columns between which any row has a weight."""
    places = weights.ne(0).any(0).nonzero()
    return (int(places.min()), int(places.max()) + 1) if len(places) else (0, weights.shape[1])


def _integrated_gradients() -> type:
    try:
        from captum.attr import IntegratedGradients
    except ImportError:
        raise MissingExtraError("attribution by Integrated Gradients", "captum", "explain") from None
    return IntegratedGradients


def _check(config: AttributionConfig, family: str, objective: str | None) -> None:
    if not get_family(family).trainable:
        raise ModelError("the model is a formula without embeddings, which has no gradients to integrate")
    if objective not in OBJECTIVES:
        wanted = ", ".join(map(repr, OBJECTIVES))
        raise ModelError(
            f"a model with the objective '{objective}' cannot be explained; expected one of {wanted}"
        )
    for value, known in ((config.baseline, BASELINES), (config.scalar, ATTRIBUTION_SCALARS)):
        if value not in known:
            raise ModelError(f"{value!r} is unknown; expected one of {', '.join(known)}")
    if config.tolerance is not None and config.tolerance <= 0:
        raise ModelError(f"the tolerance must be a share above 0, not {config.tolerance}")
    if config.steps < 1:
        raise ModelError(f"Integrated Gradients need a step at least, not {config.steps}")


def pure_tokens(tokens: Tokens, tokenizer: DnaTokenizer) -> np.ndarray:
    """Tell which tokens stand for bases of A, C, G and T: bool, shape (tokens,)."""
    return np.isin(tokens.ids, tokenizer.base_ids) & (tokens.lengths > 0)
