"""Letters scaled by height: the picture of attributions at a locus, and of what aligned sites have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyBigWig

from zflipon.errors import InputError, MissingExtraError, OutputError
from zflipon.genome.alphabet import NUCLEOTIDES, UNKNOWN_BASE, base_codes
from zflipon.genome.fasta import Genome
from zflipon.tracks.atomic import atomic_file

COLOURS = {"A": "#1b7837", "C": "#2166ac", "G": "#b8860b", "T": "#b2182b"}
"""Colours of letters, told apart in print too."""

PICTURES = (".png", ".svg", ".pdf")
"""Extensions that a picture may have."""

_ROUNDS, _SEEDS = 20, 60


def find_sites(
    genome: Genome,
    regions: Mapping[str, np.ndarray],
    count: int,
    width: int,
    attributions: Path | None = None,
) -> list[np.ndarray]:
    """Return the sequences that a logo is made of.

    Parameters
    ----------
    genome : Genome
    regions : mapping of str to numpy.ndarray
        int64, shape (n, 2), by contig.
    count : int
        Sites at most: those of the highest attributions, or the first ones.
    width : int
        Bases of the logo; a site has as many again on either side of its highest attribution.
    attributions : Path, optional
        bigWig. Without it, a site is a region and what lies `width` bases around.

    Returns
    -------
    list of numpy.ndarray
        int64 nucleotide codes.

    Raises
    ------
    InputError
        If the bigWig cannot be read, or has no value in any region.
    """
    places = [(contig, int(low), int(high)) for contig, rows in regions.items() for low, high in rows]
    if attributions is not None:
        places = [(contig, at, at + 1) for contig, at in _peaks(places, attributions)]
    around = width // 2 if attributions is None else width
    return [
        base_codes(genome.fetch(contig, max(0, low - around), min(genome.length(contig), high + around)))
        for contig, low, high in places[:count]
    ]


def _peaks(places: Sequence[tuple[str, int, int]], attributions: Path) -> list[tuple[str, int]]:
    """Return where each region's attribution is highest, the highest of all first."""
    if not attributions.is_file():
        raise InputError(f"{attributions}: no such file")
    found = []
    try:
        with pyBigWig.open(str(attributions)) as track:
            known = track.chroms()
            for contig, low, high in places:
                values = np.array(track.values(contig, low, high)) if contig in known else np.full(1, np.nan)
                if not np.isnan(values).all():
                    at = int(np.nanargmax(values))
                    found.append((values[at], contig, low + at))
    except RuntimeError as error:
        raise InputError(f"{attributions}: cannot be read as bigWig; is it one?") from error
    if not found:
        raise InputError(f"{attributions}: has no value in any of the regions")
    return [(contig, at) for _, contig, at in sorted(found, key=lambda row: -row[0])]


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
    table = np.concatenate(views)
    first = np.cumsum([0, *map(len, views[:-1])])
    # what it ends at depends on where it begins: begin with parts of many sites
    seeds = np.linspace(0, len(table) - 1, min(_SEEDS, len(table))).astype(int)
    found = [_settled(table, first, _matrix(table[seed : seed + 1])) for seed in seeds]
    matrix, _ = max(found, key=lambda each: each[1])
    return matrix


def _settled(table: np.ndarray, first: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Choose the best part of each site by the matrix, and the matrix by these, until nothing moves.

    Returns
    -------
    matrix : numpy.ndarray
    score : float
        Bits by which the chosen parts are likelier by the matrix than by chance.
    """
    width, before, score = table.shape[1], None, 0.0
    size = np.diff(np.append(first, len(table)))
    for _ in range(_ROUNDS):
        weights = np.concatenate(
            [np.log2(matrix / 0.25), np.zeros((1, width))]
        )  # an unknown base tells nothing
        scores = weights[table, np.arange(width)].sum(axis=1)
        most = np.maximum.reduceat(scores, first)
        hits = np.flatnonzero(scores == np.repeat(most, size))
        owner = np.searchsorted(first, hits, side="right")
        chosen = hits[np.unique(owner, return_index=True)[1]]
        matrix, score = _matrix(table[chosen]), float(most.sum())
        if before is not None and np.array_equal(chosen, before):
            break
        before = chosen
    return matrix, score


def information(matrix: np.ndarray) -> np.ndarray:
    """Return letter heights in bits: share × (2 − entropy of the place) (Schneider & Stephens, NAR 18:6097, 1990)."""
    entropy = -(matrix * np.log2(np.maximum(matrix, 1e-12))).sum(axis=0)
    return matrix * (2 - entropy)


def draw_logo(matrix: np.ndarray, path: Path) -> None:
    """Draw the logo of a matrix of shares, in bits.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    OutputError
        If the file cannot be written.
    """
    figure = new_figure(max(3.0, 0.35 * matrix.shape[1] + 1), 2.0)
    axes = figure.subplots()
    draw_letters(axes, information(matrix), 0.5)
    axes.set_xlim(0.5, matrix.shape[1] + 0.5)
    axes.set_ylim(0, 2)
    axes.set_xticks(range(1, matrix.shape[1] + 1))
    axes.set_xlabel("place (bases)")
    axes.set_ylabel("information (bits)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    with atomic_file(path) as part:
        figure.savefig(part, dpi=200)


def new_figure(width: float, height: float):
    """Return a matplotlib figure of so many inches that needs no screen; raise `MissingExtraError` without it."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("a picture", "matplotlib", "explain") from None
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def check_picture(path: Path) -> None:
    """Raise `OutputError` if a picture's extension is none of `PICTURES`."""
    if path.suffix.lower() not in PICTURES:
        raise OutputError(f"{path}: unknown extension; expected one of {', '.join(PICTURES)}")


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


def _matrix(chosen: np.ndarray) -> np.ndarray:
    """Return the shares of letters at each place of parts of one width, a quarter of a letter added to each."""
    counts = np.stack([(chosen == code).sum(axis=0) for code in range(4)]) + 0.25
    return counts / counts.sum(axis=0)
