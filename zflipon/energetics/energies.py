"""Energies of Z-HUNT: B→Z transition energies of dinucleotides, and the constants of the thermodynamic model.

After Ho, Ellison, Quigley & Rich (EMBO J. 5:2737, 1986). Nothing is computed from sequences here except the numbers of
their dinucleotides.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from zflipon.genome.alphabet import UNKNOWN_BASE

DINUCLEOTIDE_LIMIT = 12
"""Dinucleotides of the longest window that the assignment's bit patterns can represent."""

RT = 0.59004
"""Gas constant × temperature, kcal/mol."""

ENERGY_OFFSET = 300
"""Hundredths of kcal/mol that are subtracted from each energy and added back in the solver.

Products of Boltzmann factors then fit 32-bit numbers.
"""

TURN_TWIST, JUNCTION_TWIST = 0.357, 0.4
"""Turns that a dinucleotide and a B–Z junction take up when they become Z-DNA."""

SUPERHELIX = -1100 / 4363
"""Energy of a linking difference, over RT."""

JUNCTIONS = 16.94800353
"""Energy of two B–Z junctions, 10 kcal/mol, over RT."""

# Hundredths of kcal/mol, of anti–syn dinucleotides by first base (row) and second base, in the order ACGT. The
# energies of syn–anti dinucleotides are the transpose. Where the conformation alternates, only the number of G and C
# counts.
_ANTI_SYN = ((440, 520, 340, 620), (140, 240, 66, 340), (330, 420, 240, 520), (250, 330, 140, 440))
_ALTERNATION = (620, 520, 400)
_UNKNOWN = 426  # of a dinucleotide with an N


@lru_cache
def energy_tables(device: torch.device) -> list[Tensor]:
    """Return the energies of all dinucleotides, in hundredths of kcal/mol.

    Returns
    -------
    list of Tensor
        Anti–syn, alternating and syn–anti energies: int32, shape (25,), indexed by `dinucleotide_numbers`.
    """
    anti_syn = torch.full((5, 5), _UNKNOWN, dtype=torch.int32)
    alternating = anti_syn.clone()
    anti_syn[:4, :4] = torch.tensor(_ANTI_SYN, dtype=torch.int32)
    is_gc = torch.tensor([0, 1, 1, 0])
    alternating[:4, :4] = torch.tensor(_ALTERNATION, dtype=torch.int32)[is_gc[:, None] + is_gc]
    return [table.flatten().to(device) for table in (anti_syn, alternating, anti_syn.T.contiguous())]


def boltzmann_factors(energies: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the Boltzmann factors of energies from which `ENERGY_OFFSET` is subtracted."""
    return torch.exp((energies.to(dtype) - ENERGY_OFFSET) / (-100 * RT))


def dinucleotide_numbers(codes: Tensor) -> Tensor:
    """Return the number of the dinucleotide at each base but the last: int64, 5 × first code + second code."""
    codes = codes.clamp(max=UNKNOWN_BASE)
    return codes[..., :-1] * 5 + codes[..., 1:]


@lru_cache
def dinucleotide_classes(device: torch.device) -> tuple[Tensor, Tensor]:
    """Group dinucleotides that have the same energies, such as AC and GT.

    Returns
    -------
    class_of : Tensor
        int32, shape (25,): class of each dinucleotide.
    representative : Tensor
        int64, shape (classes,): one dinucleotide of each class.
    """
    energies = torch.stack(energy_tables(torch.device("cpu")), dim=1)
    classes, class_of = torch.unique(energies, dim=0, return_inverse=True)
    representative = torch.stack([torch.nonzero(class_of == number)[0, 0] for number in range(len(classes))])
    return class_of.int().to(device), representative.to(device)
