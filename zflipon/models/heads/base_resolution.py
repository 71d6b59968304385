"""Task heads that every family can carry.

The token, sequence and masked-LM heads have the parameter names of the official
code, so that published checkpoints load as they are. The base head is ours: it
decides per base, which lifts the ceiling that whole-token calls put on precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zflipon.energetics.zhunt import call_mask, published_call_starts
from zflipon.errors import ModelError
from zflipon.genome.alphabet import NUCLEOTIDES, PADDING_BASE
from zflipon.models.heads.omics import Omics

FORMS_PRIOR, FLIPS_PRIOR = -5.0, -1.5
"""Log-odds that the base head starts from: hardly a base can form Z-DNA, and of those that can one in five does.
From even odds the first steps would learn only that."""

BIN = 16
"""Bases of a step of the context, in which what surrounds a base is told."""

_MOTIF, _PAIR = (
    15,
    7,
)  # bases that the first convolution of the context sees, and steps of 4 that the second sees
_QUARTER = 4

WORD_REACHES = (64, 256, 512)
"""Bases on either side of a bin over which it is told what the words of its surroundings say; whole bins."""

LONGEST_WORD = 10
"""Bases of a word at most: each more makes four times the tables."""

READINESS = 5
"""Channels of what Z-HUNT says."""
_HOPELESS = 26.0  # delta linking of a window that turns no more readily than most


class BaseCalls(NamedTuple):
    """What the base head says.

    Attributes
    ----------
    logits : Tensor
        float, shape (batch, bases): log-odds that a base is Z-DNA.
    forms : Tensor
        float, shape (batch, bases): log-odds that it can form Z-DNA at all.
    flips : Tensor or None
        float, shape (batch, bases): log-odds that what can form it does, where it lies.
    tracks : Tensor or None
        float, shape (batch, tracks, bins): log-odds that each track covers each `BIN` bases; only in training.
    """

    logits: Tensor
    forms: Tensor
    flips: Tensor | None = None
    tracks: Tensor | None = None


class BaseInputs(NamedTuple):
    """What the base head reads of the nucleotides themselves, filled up to whole bins.

    Attributes
    ----------
    letters : Tensor or None
        float, shape (batch, 4, bases): one-hot; 0 at N and beyond the end. None where tokens tell them.
    ready : Tensor or None
        float, shape (batch, `READINESS`, bases): what Z-HUNT says; see `readiness`. 0 where all is N.
    called : Tensor or None
        bool, shape (batch, bases): inside a call of Z-HUNT's.
    words : Tensor or None
        float, shape (batch, reaches, bases): what the word around a base speaks for, for each of `WORD_REACHES`; see
        `BaseHead`.
    """

    letters: Tensor | None
    ready: Tensor | None
    called: Tensor | None
    words: Tensor | None = None


class BaseHead(nn.Module):
    """One decision a base: it can form Z-DNA, and where it lies it does.

    The first factor looks at the nearest bases, at the energy that Z-DNA costs there (Z-HUNT's delta linking) and at
    what Z-HUNT calls. The second looks at the context: motifs and token states in steps of `BIN` bases, through
    dilated convolutions, and what the words of the surroundings speak for, by tables of log-odds; the bases of one
    call share it. The probability is their product.

    Parameters
    ----------
    hidden_size : int
        Width of the token states.
    channels : int
        Width at single bases.
    kernel : int
        Bases a convolution sees there; odd.
    dilations : sequence of int
        One residual convolution of single bases each.
    dropout : float
        Share of channels of the context, and of the second factor, dropped while training.
    context : int
        Width of the context.
    context_dilations : sequence of int
        One residual convolution of the context each, over three bins.
    zhunt : sequence of int
        Least and most dinucleotides of the windows that Z-HUNT looks at; none if empty.
    tracks : int
        How many tracks the context also learns to tell, in training.
    words : int
        Bases of the words of the surroundings that are read. `word_odds` has, for each of `WORD_REACHES`, what each
        word speaks for: counted, then weighed by the readout (`zflipon.training.kmer_tables`); 0 till then. 0: none.
    features : int
        How many omics tracks it reads beside the sequence.
    distances : sequence of int
        Bases on either side of a place over which it averages these.
    omics : int
        Units of the layer that reads them.
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
        words: int = 0,
        features: int = 0,
        distances: Sequence[int] = (0,),
        omics: int = 512,
    ):
        super().__init__()
        self.zhunt = tuple(zhunt)
        seen = len(NUCLEOTIDES) + (READINESS if zhunt else 0)
        self.entry = nn.Conv1d(seen, channels, kernel, padding=kernel // 2)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation)
            for dilation in dilations
        )
        self.reach = kernel // 2 * (1 + sum(dilations))
        self.forms = nn.Linear(channels, 1)
        self.motifs = nn.Conv1d(len(NUCLEOTIDES), context, _MOTIF, padding=_MOTIF // 2)
        self.motif_norm = nn.LayerNorm(context)
        self.motif_pairs = nn.Conv1d(context, context, _PAIR, padding=_PAIR // 2)
        self.token_norm = nn.LayerNorm(hidden_size)
        self.token_projection = nn.Linear(hidden_size, context)
        self.context_norms = nn.ModuleList(nn.LayerNorm(context) for _ in context_dilations)
        self.context_convolutions = nn.ModuleList(
            nn.Conv1d(context, context, 3, padding=dilation, dilation=dilation)
            for dilation in context_dilations
        )
        self.context_norm = nn.LayerNorm(context)
        self.tracks = nn.Linear(context, tracks) if tracks else None
        self.dropout = nn.Dropout(dropout)
        if not 0 <= words <= LONGEST_WORD:
            raise ModelError(f"words have 1 to {LONGEST_WORD} bases, or none are read (0); not {words}")
        self.words = words
        if words:
            self.register_buffer("word_odds", torch.zeros(len(WORD_REACHES), len(NUCLEOTIDES) ** words))
        known = context + (len(WORD_REACHES) if words else 0)
        self.flips = nn.Linear(known, 1)
        self.omics = Omics(known, features, distances, BIN, omics, dropout) if features else None

    def forward(
        self,
        states: Tensor,
        base_tokens: Tensor,
        bases: Tensor,
        core: tuple[int, int] | None = None,
        seen: BaseInputs | None = None,
        features: Tensor | None = None,
        present: Tensor | None = None,
    ) -> BaseCalls:
        """Decide each base.

        Parameters
        ----------
        states : Tensor
            float, shape (batch, tokens, hidden_size).
        base_tokens : Tensor
            int64, shape (batch, bases): position of each base's token.
        bases : Tensor
            int64, shape (batch, bases): nucleotide codes, `PADDING_BASE` beyond a sequence's end.
        core : (int, int), optional
            The bases that are wanted: elsewhere the first factor, and with it the logit, means nothing.
        seen : Seen, optional
            Read in the place of what `look` finds in `bases`; of other values, it leads from one sequence to another.
        features, present : Tensor, optional
            Omics tracks, and which there are; see `zflipon.models.heads.omics.Omics.forward`. Not given: none.
        """
        size = bases.shape[1]
        letters, ready, called, said = seen or self.look(bases)
        bases, base_tokens = _whole_bins(bases, base_tokens)
        inside = (bases != PADDING_BASE).unsqueeze(1)
        context = self._context(letters, states, base_tokens, inside)
        forms = self._forms_of(core or (0, size), letters, ready, inside)
        known = _with_words(context, said, inside)
        flips = self.flips(self.dropout(known))
        if self.omics is not None and features is not None:
            flips = flips + self.omics(known, features, present).unsqueeze(-1)
        flips = _spread(flips, inside).squeeze(1) + FLIPS_PRIOR
        if called is not None:
            flips = _level(flips, called)
        forms, flips = forms.float(), flips.float()
        both = -torch.logsumexp(torch.stack([-forms, -flips, -forms - flips]), dim=0)
        told = self._tracks_of(context) if self.training and self.tracks is not None else None
        return BaseCalls(both[:, :size], forms[:, :size], flips[:, :size], told)

    def look(self, bases: Tensor) -> BaseInputs:
        """Return what the head reads of nucleotide codes, int64 of shape (batch, bases)."""
        bases = F.pad(bases, (0, -bases.shape[1] % BIN), value=PADDING_BASE)
        return BaseInputs(self._letters(bases), *self._zhunt(bases), self._words_of(bases))

    def surroundings(self, states: Tensor, base_tokens: Tensor, bases: Tensor) -> Tensor:
        """Return what the second factor is read from: float, (batch, bins, features); arguments as `forward`."""
        bases, base_tokens = _whole_bins(bases, base_tokens)
        inside = (bases != PADDING_BASE).unsqueeze(1)
        context = self._context(self._letters(bases), states, base_tokens, inside)
        return _with_words(context, self._words_of(bases), inside)

    def tell_tracks(self, states: Tensor, base_tokens: Tensor, bases: Tensor) -> Tensor:
        """Return the tracks' log-odds alone: float, (batch, tracks, bins); arguments as `forward`."""
        bases, base_tokens = _whole_bins(bases, base_tokens)
        inside = (bases != PADDING_BASE).unsqueeze(1)
        return self._tracks_of(self._context(self._letters(bases), states, base_tokens, inside))

    def can_form(self, bases: Tensor) -> Tensor:
        """Return the first factor alone: float32 log-odds of shape (batch, bases)."""
        ready, _ = self._zhunt(bases)
        return self._forms(
            self._near(self._letters(bases), ready, (bases != PADDING_BASE).unsqueeze(1))
        ).float()

    def _tracks_of(self, context: Tensor) -> Tensor:
        return self.tracks(context).transpose(1, 2)

    def _zhunt(self, bases: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the channels of Z-HUNT and what it calls; none where the head does without."""
        return readiness(bases, *self.zhunt) if self.zhunt else (None, None)

    def _words_of(self, bases: Tensor) -> Tensor | None:
        """Return what the word around each base speaks for: float, (batch, reaches, bases)."""
        return said_by_words(bases, self.word_odds, self.words) if self.words else None

    def _letters(self, bases: Tensor) -> Tensor:
        """Return one-hot letters of the weights' type, shape (batch, 4, bases); 0 at N and beyond the end."""
        return one_hot(bases).to(self.entry.weight.dtype)

    def _forms(self, near: Tensor) -> Tensor:
        return self.forms(near.transpose(1, 2)).squeeze(-1) + FORMS_PRIOR

    def _forms_of(
        self, core: tuple[int, int], letters: Tensor, ready: Tensor | None, inside: Tensor
    ) -> Tensor:
        """Return the first factor of a core, from no more bases than it looks at: float, (batch, bases)."""
        low, high = max(0, core[0] - self.reach), min(letters.shape[-1], core[1] + self.reach)
        part = slice(low, high)
        near = self._near(letters[..., part], None if ready is None else ready[..., part], inside[..., part])
        return F.pad(self._forms(near), (low, letters.shape[-1] - high), value=FORMS_PRIOR)

    def _near(self, letters: Tensor, ready: Tensor | None, inside: Tensor) -> Tensor:
        """Return what single bases show: (batch, channels, bases)."""
        seen = letters if ready is None else torch.cat([letters, ready.to(letters.dtype)], dim=1)
        x = F.gelu(self.entry(seen)) * inside
        for convolution in self.convolutions:
            x = x + F.gelu(convolution(x)) * inside
        return x

    def _context(self, letters: Tensor, states: Tensor, base_tokens: Tensor, inside: Tensor) -> Tensor:
        """Return what surrounds the bins: (batch, bins, context)."""
        quarters, bins = (inside[..., ::step].transpose(1, 2) for step in (_QUARTER, BIN))
        motifs = F.gelu(F.max_pool1d(self.motifs(letters) * inside, _QUARTER)).transpose(1, 2)
        pairs = (
            self.motif_pairs((self.motif_norm(motifs) * quarters).transpose(1, 2)).transpose(1, 2) * quarters
        )
        x = F.gelu(F.max_pool1d(pairs.transpose(1, 2), BIN // _QUARTER)).transpose(1, 2)
        # four bases of a bin stand for its tokens
        tokens = self.token_projection(self.token_norm(states))
        index = base_tokens[:, _QUARTER // 2 :: _QUARTER].unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
        tokens = tokens.gather(1, index) * inside[..., _QUARTER // 2 :: _QUARTER].transpose(1, 2)
        x = (x + tokens.unflatten(1, (-1, BIN // _QUARTER)).mean(2)) * bins
        for convolution, norm in zip(self.context_convolutions, self.context_norms, strict=True):
            y = convolution((norm(x) * bins).transpose(1, 2)).transpose(1, 2)
            x = x + self.dropout(F.gelu(y)) * bins
        return self.context_norm(x)


def words(bases: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the words of nucleotide codes as numbers to the base of four, the first letter highest.

    Parameters
    ----------
    bases : Tensor
        int64, shape (batch, bases).
    size : int
        Bases of a word.

    Returns
    -------
    index : Tensor
        int64, shape (batch, bases − size + 1): of the word that starts at each base.
    whole : Tensor
        bool, of the same shape: it holds neither N nor what lies beyond an end. If not, its index means nothing.
    """
    count = bases.shape[1] - size + 1
    index = torch.zeros_like(bases[:, :count])
    whole = torch.ones_like(index, dtype=torch.bool)
    for place in range(size):
        letter = bases[:, place : place + count]
        index = len(NUCLEOTIDES) * index + letter.clamp(max=len(NUCLEOTIDES) - 1)
        whole &= letter < len(NUCLEOTIDES)
    return index, whole


def said_by_words(bases: Tensor, tables: Tensor, size: int) -> Tensor:
    """Return what tables have of the word around each base.

    Parameters
    ----------
    bases : Tensor
        int64, shape (batch, bases).
    tables : Tensor
        float, shape (tables, 4^size), by the numbers of `words`.
    size : int
        Bases of a word.

    Returns
    -------
    Tensor
        float, shape (batch, tables, bases), at the base in the middle of each word, or left of it; 0 where none is
        whole.
    """
    index, whole = words(bases, size)
    said = torch.where(whole, tables[:, index], 0.0).transpose(0, 1)
    before = (size - 1) // 2
    return F.pad(said, (before, size - 1 - before))


def around_bins(said: Tensor, inside: Tensor, reach: int) -> Tensor:
    """Return the mean over the bases within a reach of each bin: (batch, channels, bases) → (batch, bins, channels)."""
    bins = reach // BIN
    sums, counts = (
        F.avg_pool1d(F.avg_pool1d(each.float(), BIN), 2 * bins + 1, stride=1, padding=bins)
        for each in (said, inside)
    )
    return (sums / counts.clamp(min=1e-6)).transpose(1, 2)


def _with_words(context: Tensor, said: Tensor | None, inside: Tensor) -> Tensor:
    """Add to the context of each bin what the words around it say on the mean, for each of `WORD_REACHES`."""
    if said is None:
        return context
    means = [around_bins(said[:, [i]], inside, reach) for i, reach in enumerate(WORD_REACHES)]
    return torch.cat([context, *(mean.to(context.dtype) for mean in means)], dim=-1)


def one_hot(bases: Tensor) -> Tensor:
    """Return one-hot letters of nucleotide codes, float32 of shape (batch, 4, bases); 0 at N and beyond the end."""
    return F.one_hot(bases, PADDING_BASE + 1)[..., : len(NUCLEOTIDES)].transpose(1, 2).float()


@torch.no_grad()
def readiness(bases: Tensor, min_dinucleotides: int, max_dinucleotides: int) -> tuple[Tensor, Tensor]:
    """Return how readily the windows around a base turn into Z-DNA, and what published maps would call.

    Parameters
    ----------
    bases : Tensor
        int64, shape (batch, bases).
    min_dinucleotides, max_dinucleotides : int

    Returns
    -------
    channels : Tensor
        float32, shape (batch, `READINESS`, bases): of the shortest window that starts here, then of the best such
        window that covers, 0 where delta linking is as in most DNA, growing as it falls; by how much a start
        of a call passes what is asked; 1 at such a start; 1 inside a call.
    called : Tensor
        bool, shape (batch, bases): inside a call.
    """
    shortest, excess, ends = published_call_starts(bases, min_dinucleotides, max_dinucleotides)
    size, starts = 2 * min_dinucleotides, excess >= 0
    ready = (_HOPELESS - shortest).clamp(min=0) / 3
    covering = F.max_pool1d(F.pad(ready, (size - 1, 0)).unsqueeze(1), size, 1).squeeze(1)
    called = call_mask(starts, ends)
    return torch.stack([ready, covering, excess.clamp(min=0), starts.float(), called.float()], dim=1), called


def _level(values: Tensor, called: Tensor) -> Tensor:
    """Give the bases of one call their mean: a stretch of DNA turns as a whole, and so it was labelled."""
    first = called & ~F.pad(called, (1, 0))[:, :-1]
    number = first.cumsum(1) * called  # 0 outside
    sums = values.new_zeros(values.shape[0], values.shape[1] + 1)
    counts = sums.scatter_add(1, number, torch.ones_like(values))
    means = sums.scatter_add(1, number, values) / counts.clamp(min=1)
    return torch.where(called, means.gather(1, number), values)


def _whole_bins(bases: Tensor, base_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Fill sequences up to whole bins; what lies beyond an end stays 0 everywhere, so that nothing depends on it."""
    more = -bases.shape[1] % BIN
    return F.pad(bases, (0, more), value=PADDING_BASE), F.pad(base_tokens, (0, more))


def _spread(steps: Tensor, inside: Tensor) -> Tensor:
    """Draw lines between the middles of bins: (batch, bins, channels) → (batch, channels, bases)."""
    last = inside[:, 0, ::BIN].sum(1, keepdim=True) - 1
    order = torch.arange(steps.shape[1], device=steps.device).unsqueeze(0).minimum(last)
    steps = steps.gather(1, order.unsqueeze(-1).expand(-1, -1, steps.shape[-1])).transpose(1, 2)
    return F.interpolate(steps, scale_factor=BIN, mode="linear")
