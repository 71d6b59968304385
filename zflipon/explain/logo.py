"""Letters scaled by height: the picture of attributions at a locus, and of what aligned sites have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zflipon.errors import InputError
from zflipon.genome import NUCLEOTIDES, UNKNOWN_BASE

COLOURS = {"A": "#1b7837", "C": "#2166ac", "G": "#b8860b", "T": "#b2182b"}
"""Colours of letters, told apart in print too."""

_ROUNDS = 20


def align(sites: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Lay sites on one another where they agree most.

    Each is shifted, and turned round where that helps, to the matrix of all their letters, again and again until
    nothing moves (a hard form of expectation–maximisation; Lawrence & Reilly, Proteins 7:41, 1990).

    Parameters
    ----------
    sites : sequence of numpy.ndarray
        int64 nucleotide codes, shape (bases,) each, as many as `width` at least.
    width : int
        Bases of the matrix.

    Returns
    -------
    numpy.ndarray
        float64, shape (4, width): share of each letter at each place; columns add up to 1.

    Raises
    ------
    InputError
        If no site is long enough.
    """
    views = [_views(site, width) for site in sites if len(site) >= width]
    if not views:
        raise InputError(f"no site has the {width} bases that the logo is wide")
    chosen = [view[len(view) // 4] for view in views]  # the middle one, as it stands
    for _ in range(_ROUNDS):
        weights = np.log2(_matrix(chosen) / 0.25)
        # an unknown base tells nothing
        weights = np.concatenate([weights, np.zeros((1, width))])
        best = [view[int(np.argmax(weights[view, np.arange(width)].sum(axis=1)))] for view in views]
        if all(np.array_equal(one, other) for one, other in zip(best, chosen, strict=True)):
            break
        chosen = best
    return _matrix(chosen)


def information(matrix: np.ndarray) -> np.ndarray:
    """Return letter heights in bits: share × (2 − entropy of the place) (Schneider & Stephens, NAR 18:6097, 1990)."""
    entropy = -(matrix * np.log2(np.maximum(matrix, 1e-12))).sum(axis=0)
    return matrix * (2 - entropy)


def draw_letters(axes, heights: np.ndarray, start: float = 0.0) -> None:
    """Draw letters on matplotlib axes.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Limits are left to the caller.
    heights : numpy.ndarray
        float, shape (4, n): of A, C, G and T at each place; negative ones hang below 0.
    start : float
        Where the first place begins.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    glyphs = {}
    for letter in NUCLEOTIDES:
        path = TextPath((0, 0), letter, size=1, prop={"family": "DejaVu Sans", "weight": "bold"})
        box = path.get_extents()
        glyphs[letter] = path.transformed(
            Affine2D().translate(-box.x0, -box.y0).scale(1 / box.width, 1 / box.height)
        )
    letters = list(NUCLEOTIDES)
    for place in range(heights.shape[1]):
        for sign in (1, -1):
            base = 0.0
            column = heights[:, place] * sign
            for index in np.argsort(column):  # the highest stands on top
                height = column[index]
                if height > 0:
                    moved = Affine2D().scale(0.9, sign * height).translate(start + place + 0.05, sign * base)
                    axes.add_patch(
                        PathPatch(
                            glyphs[letters[index]].transformed(moved), color=COLOURS[letters[index]], lw=0
                        )
                    )
                    base += height


def _views(site: np.ndarray, width: int) -> np.ndarray:
    """Return all parts of that width, on both strands: the site's own first."""
    turned = np.where(site == UNKNOWN_BASE, UNKNOWN_BASE, 3 - site)[::-1]
    return np.concatenate([np.lib.stride_tricks.sliding_window_view(each, width) for each in (site, turned)])


def _matrix(chosen: Sequence[np.ndarray]) -> np.ndarray:
    counts = np.stack([(np.stack(chosen) == code).sum(axis=0) for code in range(4)]) + 0.25
    return counts / counts.sum(axis=0)
