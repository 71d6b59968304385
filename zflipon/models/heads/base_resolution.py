"""The base-resolution head: a probability for each base, as the product of two factors.

Its context, k-mer tables, omics head and nucleotide inputs are in the other modules of this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zflipon.errors import ModelError, suggest
from zflipon.genome.alphabet import PADDING_BASE
from zflipon.models.heads.autocast import without_autocast_on_cpu
from zflipon.models.heads.base_inputs import BaseInputs
from zflipon.models.heads.bin_context import BIN_SIZE, BinContext, interpolate_bins, pad_to_bins
from zflipon.models.heads.first_factor import FirstFactor
from zflipon.models.heads.kmers import KMER_RADII, KmerTables, append_kmer_means
from zflipon.models.heads.omics import OmicsHead
from zflipon.models.heads.wide_context import WideContext
from zflipon.models.structure import Z_DNA, Structure

HEAD_DEFAULTS = {
    "channels": 32,
    "kernel": 9,
    "dilations": [1, 2, 4],
    "dropout": 0.1,
    "context": 96,
    "context_dilations": [1, 2, 4, 8, 16],
    "wide_context": None,
    "zhunt": [6, 12],
    "call_distance": None,
    "tracks": 0,
    "kmer_size": 0,
    "distances": [0, 64, 256, 512, 1024, 4096],
    "omics": 512,
}
"""Settings of the head, as in ``base_head`` of a config, and their defaults."""

RENAMED_SETTINGS = {"words": "kmer_size"}
"""Old name of a setting, in earlier checkpoints and recipes → its name now."""

IS_FORMED_PRIOR = -1.5
"""Log-odds from which the second factor starts: one in five bases that can form Z-DNA does. From even odds, the first
training steps would only learn this frequency."""

CORE_FLANK = 512
"""Bases on either side of a core that decide about Z-HUNT calls in it."""


class BaseHeadOutput(NamedTuple):
    """Logits of the head; all are float.

    Attributes
    ----------
    logits : Tensor
        Shape (batch, bases): log-odds that a base is Z-DNA. Outside `core` they are meaningless.
    can_form_logit : Tensor
        Shape (batch, bases): log-odds of the first factor, that the sequence can form Z-DNA at all.
    is_formed_logit : Tensor or None
        Shape (batch, bases): log-odds of the second factor, that Z-DNA is formed where it can. None for a head with
        one factor.
    track_logits : Tensor or None
        Shape (batch, tracks, bins): log-odds that a track covers a bin; in training only.
    """

    logits: Tensor
    can_form_logit: Tensor
    is_formed_logit: Tensor | None = None
    track_logits: Tensor | None = None


def head_settings(settings: dict | None) -> dict:
    """Fill up the ``base_head`` settings of a config with defaults; accepts old names.

    Raises
    ------
    ModelError
        If a setting is unknown.
    """
    settings = {RENAMED_SETTINGS.get(name, name): value for name, value in (settings or {}).items()}
    for name in settings:
        if name not in HEAD_DEFAULTS:
            raise ModelError(f"base_head: unknown setting '{name}'{suggest(name, HEAD_DEFAULTS)}")
    return {**HEAD_DEFAULTS, **settings}


class BaseHead(FirstFactor):
    """Predicts, for each base, whether Z-DNA can form there and whether it is formed.

    The first factor, the Z-forming score, reads the nearest bases, their Z-HUNT energies and Z-HUNT calls. The second,
    the activity score, reads the context: motifs and token states in bins, k-mer log-odds and omics tracks. All bases
    of one Z-HUNT call have the same activity score. The probability is the product of the two.

    Parameters
    ----------
    hidden_size : int
        Width of the token states.
    channels : int
        Width of the convolutions over single bases.
    kernel : int
        Bases that each of them covers; odd.
    dilations : sequence of int
        One residual convolution over single bases for each.
    dropout : float
        Fraction of the context's channels, and of the second factor's inputs, dropped in training.
    context : int
        Width of the context.
    context_dilations : sequence of int
        One residual convolution over three bins for each.
    zhunt : sequence of int
        Dinucleotides of the shortest and longest Z-HUNT window; empty: Z-HUNT is not used.
    tracks : int
        Number of tracks that the context also learns to predict in training.
    wide_context : mapping, optional
        ``widths`` and ``dilations`` of `zflipon.models.heads.wide_context.WideContext`, which then takes the place of
        motifs and token states.
    kmer_size : int
        Bases of the k-mers whose log-odds are read around each bin; 0: none.
    call_distance : int, optional
        See `FirstFactor`.
    features : int
        Number of omics tracks.
    distances : sequence of int
        Bases on either side of a bin over which these are averaged.
    omics : int
        Units of the hidden layer that reads them.
    structure : Structure
        The structure to predict, whose energetics are read; Z-DNA by default.
    """

    def __init__(
        self,
        hidden_size: int,
        channels: int,
        kernel: int,
        dilations: Sequence[int],
        dropout: float,
        context: int,
        context_dilations: Sequence[int],
        zhunt: Sequence[int],
        tracks: int,
        wide_context: Mapping[str, Sequence[int]] | None = None,
        kmer_size: int = 0,
        features: int = 0,
        distances: Sequence[int] = (0,),
        omics: int = 512,
        structure: Structure = Z_DNA,
        call_distance: int | None = None,
    ):
        super().__init__(channels, kernel, dilations, zhunt, call_distance, structure)
        if wide_context:
            self.context = WideContext(**wide_context, dropout=dropout)
            context = self.context.channels
        else:
            self.context = BinContext(hidden_size, context, context_dilations, dropout)
        self.tracks = nn.Linear(context, tracks) if tracks else None
        self.dropout = nn.Dropout(dropout)
        self.kmers = KmerTables(kmer_size) if kmer_size else None
        width = context + (len(KMER_RADII) if kmer_size else 0)
        self.is_formed = nn.Linear(width, 1)
        width = 1 if self.omics_reads_log_odds else width
        self.omics = OmicsHead(width, features, distances, BIN_SIZE, omics, dropout) if features else None

    @property
    def omics_reads_log_odds(self) -> bool:
        """Whether the omics head reads the log-odds of the sequence, not the context itself.

        These mean the same in a held-out model, whose log-odds of unseen contigs the omics head of a wide context
        learns from.
        """
        return isinstance(self.context, WideContext)

    def forward(
        self,
        states: Tensor | None,
        base_tokens: Tensor,
        bases: Tensor,
        core: tuple[int, int] | None = None,
        base_inputs: BaseInputs | None = None,
        features: Tensor | None = None,
        present: Tensor | None = None,
        first_factor: Tensor | None = None,
        widths: Sequence[int] | None = None,
    ) -> BaseHeadOutput:
        """Compute both factors of each base.

        Parameters
        ----------
        states : Tensor or None
            float, shape (batch, tokens, hidden_size). A wide context needs them for gradients only.
        base_tokens : Tensor
            int64, shape (batch, bases): index of each base's token.
        bases : Tensor
            int64, shape (batch, bases): nucleotide codes, `PADDING_BASE` at padding.
        core : (int, int), optional
            First and last + 1 base for which logits are needed; others may be 0. With `first_factor`, the activity of
            a call is its mean inside the core, so let no call cross its ends.
        base_inputs : BaseInputs, optional
            Used instead of `read_bases(bases)`, for example interpolated values.
        features, present : Tensor, optional
            Omics tracks, see `zflipon.models.heads.omics.OmicsHead.forward`.
        first_factor : Tensor, optional
            What `first_factor` returned for these bases, on the strand whose rules Z-HUNT follows; it is not computed
            again.
        widths : sequence of int, optional
            Bases of each sequence. A wide context then need not count them, for which the host waits for a GPU.
        """
        size, plain = bases.shape[1], without_autocast_on_cpu
        with plain(bases.device):
            whole, base_tokens = pad_to_bins(bases, base_tokens)
            mask = (whole != PADDING_BASE).unsqueeze(1)
            needed = slice(0, whole.shape[1])
            if first_factor is None:
                inputs = base_inputs or self._read_core(bases, core)
                can_form = self._can_form_in_core(core or (0, size), inputs, mask).float()
            else:
                needed = _whole_bins(*core) if core else needed
                factor = F.pad(first_factor[..., needed], (0, max(0, needed.stop - size)))
                can_form, calls = factor.unbind(1)
                inputs = self._inputs(whole, None, calls > 0 if self.zhunt else None)
        context = self._read_context(inputs.one_hot, states, base_tokens, mask, widths)
        with plain(bases.device):
            is_formed, tracks = self._is_formed(inputs, context, mask, features, present, needed)
            logits = [product_logit(can_form, is_formed), can_form, is_formed]
        outside = (needed.start, size - needed.stop)
        product, can_form, is_formed = (F.pad(each, outside) for each in logits)
        return BaseHeadOutput(product, can_form, is_formed, tracks)

    def _read_context(
        self,
        letters: Tensor | None,
        states: Tensor | None,
        base_tokens: Tensor,
        mask: Tensor,
        widths: Sequence[int] | None = None,
    ) -> Tensor:
        """Return the context of each bin. A wide context, which takes most of the time, is computed under autocast."""
        if isinstance(self.context, WideContext):
            context = self.context(letters, states, mask, widths)
        else:
            with without_autocast_on_cpu(mask.device):
                context = self.context(letters, states, base_tokens, mask)
        return context.to(self.is_formed.weight.dtype)

    def _is_formed(
        self,
        inputs: BaseInputs,
        context: Tensor,
        mask: Tensor,
        features: Tensor | None,
        present: Tensor | None,
        needed: slice,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the second factor of the `needed` bases, and the track logits, from the context of each bin.

        ``inputs.in_call`` is that of these bases.
        """
        known = append_kmer_means(context, inputs.kmers, mask)
        is_formed = self.is_formed(self.dropout(known))
        if self.omics is not None and features is not None:
            read = is_formed + IS_FORMED_PRIOR if self.omics_reads_log_odds else known
            is_formed = is_formed + self.omics(read, features, present).unsqueeze(-1)
        # float32 from here on: in the precision of a GPU's encoder, interpolation and means would be rounded
        is_formed = interpolate_bins(is_formed.float(), mask, needed).squeeze(1) + IS_FORMED_PRIOR
        if inputs.in_call is not None:
            is_formed = mean_over_calls(is_formed, inputs.in_call)
        tracks = self._predict_tracks(context) if self.training and self.tracks is not None else None
        return is_formed, tracks

    def read_bases(self, bases: Tensor) -> BaseInputs:
        """Return the inputs of nucleotide codes, int64 of shape (batch, bases), padded to whole bins."""
        bases = F.pad(bases, (0, -bases.shape[1] % BIN_SIZE), value=PADDING_BASE)
        return self._inputs(bases, *self._zhunt(bases))

    def _read_core(self, bases: Tensor, core: tuple[int, int] | None) -> BaseInputs:
        """Return `read_bases`; with a wide context, Z-HUNT reads only the core and `CORE_FLANK` bases beside."""
        if core is None or not self.zhunt or not isinstance(self.context, WideContext):
            return self.read_bases(bases)
        bases = F.pad(bases, (0, -bases.shape[1] % BIN_SIZE), value=PADDING_BASE)
        start, end = max(0, core[0] - CORE_FLANK), min(bases.shape[1], core[1] + CORE_FLANK)
        outside = (start, bases.shape[1] - end)
        channels, in_call = self._zhunt(bases[:, start:end])
        if channels is not None and in_call is not None:
            channels, in_call = F.pad(channels, outside), F.pad(in_call, outside)
        return self._inputs(bases, channels, in_call)

    def _inputs(self, bases: Tensor, channels: Tensor | None, in_call: Tensor | None) -> BaseInputs:
        """Return the inputs of whole bins, from Z-HUNT's channels and calls."""
        kmers = self.kmers(bases) if self.kmers is not None else None
        return BaseInputs(self._one_hot(bases), channels, in_call, kmers)

    def context_features(self, states: Tensor, base_tokens: Tensor, bases: Tensor) -> Tensor:
        """Return the inputs of the second factor: float, shape (batch, bins, features).

        Parameters are those of `forward`.
        """
        bases, base_tokens = pad_to_bins(bases, base_tokens)
        mask = (bases != PADDING_BASE).unsqueeze(1)
        context = self._read_context(self._one_hot(bases), states, base_tokens, mask)
        return append_kmer_means(context, self.kmers(bases) if self.kmers is not None else None, mask)

    def track_logits(self, states: Tensor | None, base_tokens: Tensor, bases: Tensor) -> Tensor:
        """Return the log-odds that each track covers each bin: float, shape (batch, tracks, bins).

        Parameters are those of `forward`.
        """
        bases, base_tokens = pad_to_bins(bases, base_tokens)
        mask = (bases != PADDING_BASE).unsqueeze(1)
        return self._predict_tracks(self._read_context(self._one_hot(bases), states, base_tokens, mask))

    def can_substitute(self) -> bool:
        """Whether `zflipon.models.heads.substitutions.SubstitutedWindow` supports this head."""
        return isinstance(self.context, WideContext) and self.kmers is None and self.omics is None

    def _predict_tracks(self, context: Tensor) -> Tensor:
        if self.tracks is None:
            raise ModelError(
                "this head predicts no tracks; set tracks in the base_head settings to their number"
            )
        return self.tracks(context).transpose(1, 2)


def _whole_bins(start: int, end: int) -> slice:
    """Return a core, extended to whole bins."""
    return slice(start // BIN_SIZE * BIN_SIZE, -(-end // BIN_SIZE) * BIN_SIZE)


def product_logit(one: Tensor, other: Tensor) -> Tensor:
    """Return the log-odds of the product of two probabilities, given as log-odds of one shape.

    Examples
    --------
    >>> import torch
    >>> half = torch.zeros(1)
    >>> round(product_logit(half, half).sigmoid().item(), 6)
    0.25
    """
    return -torch.logsumexp(torch.stack([-one, -other, -one - other]), dim=0)


def mean_over_calls(values: Tensor, in_call: Tensor) -> Tensor:
    """Replace the values inside each call by their mean, since a call forms Z-DNA, and is labelled, as a whole.

    Parameters
    ----------
    values : Tensor
        float, shape (batch, bases).
    in_call : Tensor
        bool, same shape.

    Returns
    -------
    Tensor
        float32, same shape; values outside calls are unchanged.
    """
    values = values.float()
    first = in_call & ~F.pad(in_call, (1, 0))[:, :-1]
    number = first.cumsum(1) * in_call  # of the call; 0 outside
    # CUDA adds in any order; in float64 the order changes nothing that is left after rounding to float32
    terms = values.double() if values.device.type == "cuda" else values
    sums = terms.new_zeros(values.shape[0], values.shape[1] + 1)
    counts = sums.scatter_add(1, number, torch.ones_like(terms))
    means = (sums.scatter_add(1, number, terms) / counts.clamp(min=1)).float()
    return torch.where(in_call, means.gather(1, number), values)
