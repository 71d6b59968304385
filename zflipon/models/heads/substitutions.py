"""The base-resolution head on one window with single substitutions: both factors, for each substitution.

What a substitution does not change is computed once for the window. It supports heads whose context is the context
network alone; see `BaseHead.can_substitute`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zflipon.genome.alphabet import NUCLEOTIDES, PADDING_BASE
from zflipon.genome.intervals import complete_runs
from zflipon.models.heads.autocast import without_autocast_on_cpu
from zflipon.models.heads.base_resolution import IS_FORMED_PRIOR, BaseHead, mean_over_calls
from zflipon.models.heads.bin_context import BIN_SIZE, interpolate_bins
from zflipon.models.heads.context_network import COARSE_BIN, FINE_BIN
from zflipon.models.heads.substituted_network import SubstitutedNetwork, gather_rows
from zflipon.models.heads.wide_context import WideContext


class SubstitutedWindow:
    """One window and the states of the head that substitutions share.

    Parameters
    ----------
    head : BaseHead
        One that can substitute.
    bases : Tensor
        int64, shape (bases,): nucleotide codes of the window.
    first_factor : Tensor, optional
        float32, shape (2, bases): what `BaseHead.first_factor` returns, for a reverse strand that takes it from the
        forward one.

    Attributes
    ----------
    size : int
        Bases of the window.
    first_factor : Tensor
        float32, shape (2, bases).
    """

    def __init__(self, head: BaseHead, bases: Tensor, first_factor: Tensor | None = None):
        if not isinstance(head.context, WideContext):
            raise TypeError("a SubstitutedWindow needs a head with a wide context")
        self._head, self._context, self._bases, self.size = head, head.context, bases, len(bases)
        letters = F.one_hot(bases, PADDING_BASE + 1)[:, : len(NUCLEOTIDES)].to(head.entry.weight.dtype)
        letters = F.pad(letters, (0, 0, 0, -len(bases) % COARSE_BIN))
        self._network = SubstitutedNetwork(head.context.network, letters)
        self._fine = head.context.fine(self._network.fine)
        self.first_factor = self._read_first_factor(bases[None])[0] if first_factor is None else first_factor
        reach = head.structure.energetics_reach(*head.zhunt) if head.zhunt else 0
        self._call_reach, self._can_form_reach = reach, head.first_factor_reach
        self._in_call = self.first_factor[1].cpu().numpy() > 0

    def reference_logits(self) -> tuple[Tensor, Tensor]:
        """Return both factors of the unchanged window: float32 log-odds, shape (bases,) each."""
        coarse = self._context.coarse(self._network.coarse)
        hidden = torch.relu(self._fine + coarse.repeat_interleave(COARSE_BIN // FINE_BIN, dim=0))
        bins = self._read_bins(hidden[None])[:, : -(-self.size // BIN_SIZE)]
        is_formed = self._interpolate(bins)[:, : self.size]
        is_formed = mean_over_calls(is_formed, self.first_factor[1:] > 0)
        return self.first_factor[0], is_formed[0].float()

    def logits(
        self,
        positions: np.ndarray,
        letters: Tensor,
        core: tuple[int, int],
        first_factors: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return both factors of each substituted sequence.

        Parameters
        ----------
        positions : numpy.ndarray
            int64, shape (substitutions,): the substituted base, inside the core.
        letters : Tensor
            int64, shape (substitutions,): codes of the new bases, 0 to 3.
        core : (int, int)
            First and last + 1 base for which logits are needed.
        first_factors : Tensor, optional
            What `first_factors` returned, of the forward strand and reversed.

        Returns
        -------
        can_form_logit, is_formed_logit : Tensor
            float32, shape (substitutions, bases of the core).
        """
        low, high = self._complete_calls(core)
        if first_factors is None:
            first_factors = self.first_factors(positions, letters, core)
        is_formed = self._is_formed(positions, letters, low, high)
        is_formed = mean_over_calls(is_formed, first_factors[:, 1] > 0)
        inside = slice(core[0] - low, core[1] - low)
        return first_factors[:, 0, inside], is_formed[:, inside].float()

    def first_factors(self, positions: np.ndarray, letters: Tensor, core: tuple[int, int]) -> Tensor:
        """Return the first factor of each substituted sequence, in the core and in calls that reach out of it.

        Parameters are those of `logits`. It is computed anew around each substitution.

        Returns
        -------
        Tensor
            float32, shape (substitutions, 2, bases).
        """
        reach, rows = self._can_form_reach, torch.arange(len(positions), device=letters.device)
        size = min(self.size, 4 * reach + 1)  # what decides about the bases that change, and these bases
        start = (positions - 2 * reach).clip(0, self.size - size)
        bases = gather_rows(self._bases, start, size)
        bases[rows, torch.from_numpy(positions - start).to(rows.device)] = letters
        changed, ends = self._read_first_factor(bases), self._complete_calls(core)
        parts = zip(self.first_factor, changed.unbind(1), strict=True)
        return torch.stack([self._splice(*part, positions, start, ends) for part in parts], 1)

    def _complete_calls(self, core: tuple[int, int]) -> tuple[int, int]:
        """Extend a core so that no call crosses its ends: the activity score is averaged over calls."""
        low, high = max(0, core[0] - self._call_reach), min(self.size, core[1] + self._call_reach)
        return complete_runs(low, high, self._in_call)

    def _splice(
        self,
        reference: Tensor,
        values: Tensor,
        positions: np.ndarray,
        start: np.ndarray,
        core: tuple[int, int],
    ) -> Tensor:
        """Return the reference's values in a core with those of a patch near each substitution."""
        near = positions[:, None] + np.arange(-self._can_form_reach, self._can_form_reach + 1)
        inside = torch.from_numpy((near >= core[0]) & (near < core[1])).to(values.device)
        target = torch.from_numpy((near - core[0]).clip(0, core[1] - core[0] - 1)).to(values.device)
        source = torch.from_numpy((near - start[:, None]).clip(0, values.shape[1] - 1)).to(values.device)
        result = reference[core[0] : core[1]].repeat(len(positions), 1)
        row = torch.arange(len(positions), device=values.device)[:, None].expand_as(target)
        result[row[inside], target[inside]] = values.gather(1, source)[inside]
        return result

    def _is_formed(self, positions: np.ndarray, letters: Tensor, low: int, high: int) -> Tensor:
        """Return the second factor of ``[low, high)`` before its mean over calls."""
        first = max(0, low - BIN_SIZE) // COARSE_BIN
        last = min(len(self._network.coarse), -(-(high + BIN_SIZE) // COARSE_BIN))
        one_hot = F.one_hot(letters, len(NUCLEOTIDES)).to(self._head.entry.weight.dtype)
        states = self._network.substitute(positions, one_hot, (first, last))
        ratio, count = COARSE_BIN // FINE_BIN, len(positions)
        coarse = self._network.coarse[first:last].to(states.coarse.values.dtype).repeat(count, 1, 1)
        _overwrite(coarse, states.coarse.values, states.coarse.start - first)
        hidden = self._fine[first * ratio : last * ratio].repeat(count, 1, 1)
        _overwrite(hidden, self._context.fine(states.fine.values), states.fine.start - first * ratio)
        wide = self._context.coarse(coarse)
        hidden = torch.relu_(hidden.unflatten(1, (-1, ratio)).add_(wide.unsqueeze(2)).flatten(1, 2))
        begin = first * COARSE_BIN
        bins = self._read_bins(hidden)[:, : -(-self.size // BIN_SIZE) - begin // BIN_SIZE]
        return self._interpolate(bins)[:, low - begin : high - begin]

    def _read_first_factor(self, bases: Tensor) -> Tensor:
        with without_autocast_on_cpu(bases.device):
            return self._head.first_factor(bases)

    def _read_bins(self, hidden: Tensor) -> Tensor:
        """Return the second factor of bins, float, shape (n, bins, 1), from the context at `FINE_BIN`."""
        with without_autocast_on_cpu(hidden.device):
            bins = self._head.is_formed(hidden.to(self._head.is_formed.weight.dtype))
        return bins.repeat_interleave(FINE_BIN // BIN_SIZE, dim=1)

    def _interpolate(self, bins: Tensor) -> Tensor:
        """Return the second factor of bases, shape (n, bases), from that of bins, shape (n, bins, 1)."""
        mask = torch.ones(len(bins), 1, bins.shape[1] * BIN_SIZE, dtype=torch.bool, device=bins.device)
        return interpolate_bins(bins.float(), mask).squeeze(1) + IS_FORMED_PRIOR


def _overwrite(rows: Tensor, values: Tensor, offsets: np.ndarray) -> None:
    """Write values into rows from an offset of each row on, as far as they overlap."""
    index = offsets[:, None] + np.arange(values.shape[1])
    inside = torch.from_numpy((index >= 0) & (index < rows.shape[1])).to(rows.device)
    target = torch.from_numpy(index.clip(0, rows.shape[1] - 1)).to(rows.device)
    row = torch.arange(len(rows), device=rows.device)[:, None].expand_as(target)
    rows[row[inside], target[inside]] = values[inside].to(rows.dtype)
