"""The DNA structure that a model predicts: Z-DNA, or one that another package defines.

A definition has everything that depends on the structure; training on labels of another structure needs no other code.
Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from zflipon.config import SCORES
from zflipon.errors import ModelError, suggest

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

ENTRY_POINT_GROUP = "zflipon.structures"
"""Entry point group in which a package announces its structures: name → ``module:Structure``."""


@dataclass(frozen=True)
class Structure:
    """What training and prediction need to know about a DNA structure.

    Attributes
    ----------
    name : str
        As in the setting ``structure`` of a model.
    energetics : callable
        ``(bases, shortest, longest) -> (channels, in_call)``: input channels of each base, float32 of shape
        (batch, `energetics_channels`, bases), and the bases inside candidate calls, bool of shape (batch, bases).
        ``bases`` are nucleotide codes, int64 of shape (batch, bases); the two lengths are the setting ``zhunt`` of the
        model. See `zflipon.models.heads.base_inputs.zhunt_features`.
    energetics_channels : int
    kmer_classes : callable
        ``k -> float64 array of shape (classes, 4^k)``: classes of k-mers whose weights the readout fits beside k-mer
        tables. See `zflipon.models.heads.kmers.dinucleotide_classes`.
    vcf_prefix : str
        Prefix of the INFO fields of scored variants.
    track_label : str
        Label of a track of probabilities.
    energetics_reach : callable
        ``(shortest, longest) -> int``: a base changes `energetics` at most this many bases away.
    candidate_calls : callable, optional
        ``(bases, shortest, longest) -> in_call``, the second part of `energetics` alone, if that is faster.
    """

    name: str
    energetics: Callable[[Tensor, int, int], tuple[Tensor, Tensor]]
    energetics_channels: int
    kmer_classes: Callable[[int], np.ndarray]
    vcf_prefix: str
    track_label: str
    energetics_reach: Callable[[int, int], int] = lambda _shortest, _longest: 512
    candidate_calls: Callable[[Tensor, int, int], Tensor] | None = None

    def score_label(self, score: str) -> str:
        """Return the label of a track of a score, which is one of `zflipon.config.SCORES`.

        Examples
        --------
        >>> Z_DNA.score_label("probability"), Z_DNA.score_label("propensity")
        ('Probability of Z-DNA', 'Propensity of Z-DNA')
        """
        return self.track_label if score == SCORES[0] else f"{score.capitalize()} of {self.name}"


def _zhunt(bases: Tensor, shortest: int, longest: int) -> tuple[Tensor, Tensor]:
    from zflipon.models.heads.base_inputs import zhunt_features

    return zhunt_features(bases, shortest, longest)


def _zhunt_calls(bases: Tensor, shortest: int, longest: int) -> Tensor:
    from zflipon.energetics.published import published_calls

    return published_calls(bases, shortest, longest)


def _zhunt_reach(_shortest: int, longest: int) -> int:
    from zflipon.energetics.published import CALL_EXTENSION

    return 2 * longest + CALL_EXTENSION


def _dinucleotides(k: int) -> np.ndarray:
    from zflipon.models.heads.kmers import dinucleotide_classes

    return dinucleotide_classes(k)


Z_DNA = Structure(
    name="Z-DNA",
    energetics=_zhunt,
    energetics_channels=5,  # `zflipon.models.heads.base_inputs.ZHUNT_CHANNELS`, without its import of torch
    kmer_classes=_dinucleotides,
    vcf_prefix="ZF",
    track_label="Probability of Z-DNA",
    energetics_reach=_zhunt_reach,
    candidate_calls=_zhunt_calls,
)
"""The default."""

_registered: dict[str, Structure] = {Z_DNA.name: Z_DNA}


def structure_names() -> tuple[str, ...]:
    """Return the names of all structures, those of installed packages included."""
    return (*_registered, *_announced())


def get_structure(name: str | None = None) -> Structure:
    """Return a structure by its name; without a name, Z-DNA.

    Raises
    ------
    ModelError
        If there is no such structure, or its entry point does not provide one.

    Examples
    --------
    >>> get_structure().vcf_prefix
    'ZF'
    """
    name = name or Z_DNA.name
    if name in _registered:
        return _registered[name]
    if name not in _announced():
        known = structure_names()
        raise ModelError(f"unknown structure '{name}'{suggest(name, known)}; known are {', '.join(known)}")
    structure = _announced()[name].load()
    if not isinstance(structure, Structure):
        raise ModelError(
            f"entry point {_announced()[name].value} of structure '{name}' is not a Structure; "
            "expected an instance of zflipon.models.structure.Structure"
        )
    return structure


def register_structure(structure: Structure) -> None:
    """Add a structure for this process. An installed package uses the entry point group instead.

    Raises
    ------
    ModelError
        If its name is taken.
    """
    if structure.name in structure_names():
        raise ModelError(f"structure '{structure.name}' is registered already; choose another name")
    _registered[structure.name] = structure


def unregister_structure(name: str) -> None:
    """Remove a structure that `register_structure` added."""
    if name == Z_DNA.name or _registered.pop(name, None) is None:
        raise ModelError(
            f"structure '{name}' was not registered by register_structure; only such ones can be removed"
        )


@cache
def _announced() -> dict:
    """Return the entry points of installed packages by name."""
    entries: dict = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        other = entries.setdefault(entry.name, entry)
        if other.value != entry.value or entry.name in _registered:
            raise ModelError(f"two packages provide the structure '{entry.name}'; uninstall one of them")
    return entries
