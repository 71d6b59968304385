"""Reading bigWig tracks with checks, and their value range. Writing is in `zflipon.tracks.bigwig_writer`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyBigWig

from zflipon.errors import InputError, format_names
from zflipon.genome.names import RENAME_CONTIGS, ContigNames
from zflipon.tracks.base import Chunk, split_contigs
from zflipon.tracks.bigwig_structure import BigWigStructure, read_structure, read_value_range


class BigWig:
    """A bigWig file that was checked before it was opened; a context manager.

    Parameters
    ----------
    path : str or Path

    Attributes
    ----------
    path : Path
    lengths : dict of str to int
        Contig → length, as the file states it.

    Raises
    ------
    InputError
        If the file is missing, not a bigWig, incomplete or inconsistent.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._structure: BigWigStructure = read_structure(self.path)
        try:
            self._file = pyBigWig.open(str(path))
            self.lengths: dict[str, int] = dict(self._file.chroms())
        except (RuntimeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as bigWig; is the file complete?") from error

    def __enter__(self) -> BigWig:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def values(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return the values of ``contig[start:end]``.

        Returns
        -------
        numpy.ndarray
            float32, shape (end - start,); NaN where the file has no value.

        Raises
        ------
        InputError
            If the range cannot be read.
        """
        if self._structure.empty or contig not in self.lengths:
            return np.full(end - start, np.nan, dtype=np.float32)
        try:
            values = self._file.values(contig, start, end, numpy=True)
        except RuntimeError:
            values = np.empty(0)
        if len(values) != end - start:
            raise InputError(
                f"{self.path}: {contig}:{start}-{end} (0-based) cannot be read; is the file complete?"
            )
        return values


def value_range(path: str | Path) -> tuple[float, float] | None:
    """Return the smallest and largest finite value of a bigWig in full precision, or None.

    All data blocks are read: summaries may be wrong or hold NaN, and pyBigWig rounds them.

    Raises
    ------
    InputError
        If the file is missing, not a bigWig, incomplete or inconsistent.
    """
    return read_value_range(path, read_structure(path))


def names_of_contigs(file: BigWig, lengths: Mapping[str, int]) -> dict[str, str]:
    """Return contig of a genome → its name in a bigWig; what was translated is logged.

    Parameters
    ----------
    file : BigWig
    lengths : mapping of str to int
        The genome's contigs and their lengths.

    Raises
    ------
    InputError
        If the file has no contig of the genome, or one has another length there.
    """
    contigs = ContigNames(file.path, lengths)
    names = {
        contig: name
        for name, length in file.lengths.items()
        if (contig := contigs.find(name, None if name in lengths else length)) is not None
    }
    contigs.report()
    if not names:
        raise InputError(
            f"{file.path}: no contig of the genome: the track has {format_names(file.lengths)}, the genome "
            f"{format_names(lengths)}; {RENAME_CONTIGS}"
        )
    for contig, name in names.items():
        if file.lengths[name] != lengths[contig]:
            raise InputError(
                f"{file.path}: {name} has {file.lengths[name]} bases, in the genome {lengths[contig]}; "
                "are both of the same assembly?"
            )
    return names


class BigWigReader:
    """Reads the scores of a bigWig file; see `zflipon.tracks.base.TrackReader`."""

    scored = True

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        self.path = path
        self._file = BigWig(path)
        self._names = names_of_contigs(self._file, lengths)
        """Contig of the genome → its name in the file."""

    def chunks(self, lengths: Mapping[str, int], size: int) -> Iterator[Chunk]:
        """Yield the scores of whole contigs, at most `size` bases at a time."""
        for contig, start, end in split_contigs(lengths, size):
            yield contig, start, self.scores(contig, start, end)

    def scores(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return the scores of ``contig[start:end]``: float32, shape (end - start,).

        Bases without a value are 0; infinity is the largest float32.
        """
        return np.nan_to_num(self._file.values(self._names.get(contig, contig), start, end), copy=False)
