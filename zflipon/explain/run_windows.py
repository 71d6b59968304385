"""The windows of a training run, for tables of tokens over exactly the data that tested it.

A run writes them as `zflipon.genome.split_files.SPLITS` into the folder of its checkpoint.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zflipon.errors import InputError
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import count_covered
from zflipon.genome.split_files import SPLITS, read_split
from zflipon.genome.tiled_windows import TiledWindows, sample_windows


def part_windows(
    genome: Genome, tiled: TiledWindows, folder: str | Path, part: str, negatives: float, seed: int
) -> np.ndarray:
    """Return the windows of a part of a run.

    Parameters
    ----------
    genome : Genome
    tiled : TiledWindows
        Usable windows, of the width of the run's windows.
    folder : str or Path
        Checkpoint of the run.
    part : str
        ``'train'``, ``'validation'`` or ``'test'``.
    negatives : float
        If the run split whole contigs: windows without a label for each window with one.
    seed : int
        Seed of that sample.

    Returns
    -------
    numpy.ndarray
        int64: indices into `tiled`, in order. If the run split windows, all of the part; otherwise a sample.

    Raises
    ------
    InputError
        If the folder lists no windows, or none of them is in `tiled`.
    """
    intervals = read_split(folder, part, genome.lengths)
    inside = np.zeros(len(tiled), dtype=bool)
    for number, contig in enumerate(tiled.contigs):
        own = np.flatnonzero(tiled.contig == number)
        edges = np.append(tiled.start[own], tiled.start[own] + tiled.width).reshape(2, -1).T.ravel()
        inside[own] = count_covered(intervals.get(contig), edges)[::2] == tiled.width if len(own) else False
    if not inside.any():
        raise InputError(
            f"{Path(folder) / SPLITS}: no usable window of {tiled.width} bases is in the part '{part}'; use the "
            "windows of the run (leave out --window) and its contigs"
        )
    lists_windows = all((np.diff(rows) == tiled.width).all() for rows in intervals.values())
    return np.flatnonzero(inside) if lists_windows else sample_windows(tiled, 0, negatives, seed, inside)
