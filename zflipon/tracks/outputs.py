"""Several output tracks of one genome, written at the same time and renamed together at the end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from zflipon.errors import OutputError
from zflipon.tracks.atomic import raise_output_errors
from zflipon.tracks.base import STDOUT, UNDESCRIBED, TrackWriter, open_writer
from zflipon.tracks.calling import ContigTrack
from zflipon.tracks.description import TrackDescription
from zflipon.tracks.registry import find_writer


class TrackOutputs:
    """Output tracks of one genome; a context manager.

    `commit` gives all files their final names. Leaving the block without it removes the temporary files.
    Contigs are added one at a time, in memory that depends neither on the genome nor on a contig.

    Parameters
    ----------
    outputs : iterable of str or Path
        The extension selects the format; ``-`` is BED on standard output.
    lengths : mapping of str to int
        All contigs of the genome and their lengths, in the genome's order.
    description : TrackDescription, optional
        What the files state about the track.

    Raises
    ------
    OutputError
        If an extension is unknown, an output is named twice or, from any method, cannot be written.
    """

    def __init__(
        self,
        outputs: Iterable[str | Path],
        lengths: Mapping[str, int],
        description: TrackDescription = UNDESCRIBED,
    ):
        self._writer_types: dict[str, type[TrackWriter]] = {}
        for output in outputs:
            name = STDOUT if str(output) == STDOUT else os.path.abspath(output)
            if name in self._writer_types:
                raise OutputError(f"{output}: named twice as an output; name it once")
            self._writer_types[name] = find_writer(output)
        self._lengths, self._description = lengths, description
        self._rank = {contig: rank for rank, contig in enumerate(lengths)}
        self._last_rank, self._is_finished = -1, False
        self._writers: dict[str, TrackWriter] = {}
        self._stack = ExitStack()

    def __enter__(self) -> TrackOutputs:
        """Open all outputs under temporary names."""
        with ExitStack() as stack:
            for output, writer in self._writer_types.items():
                opened = open_writer(output, writer, self._lengths, self._description)
                self._writers[output] = stack.enter_context(opened)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception) -> None:
        """Remove the temporary files of outputs that were not committed."""
        self._stack.__exit__(_NotCommitted, _NotCommitted(), None)

    def add(self, track: ContigTrack, calls: np.ndarray) -> None:
        """Write one contig to all outputs.

        Parameters
        ----------
        track : ContigTrack
            Contigs are added in the genome's order; some may be left out.
        calls : numpy.ndarray
            `zflipon.tracks.calling.CALL_DTYPE`, shape (n,), in order.

        Raises
        ------
        ValueError
            If contigs are added out of order or values pass the end of the contig.
        """
        rank = self._rank[track.contig]
        if rank <= self._last_rank:
            raise ValueError(f"{track.contig} is added out of the genome's order")
        if track.end > self._lengths[track.contig]:  # pyBigWig would write it without an error
            raise ValueError(f"{track.contig}: values up to {track.end} pass the end of the contig")
        self._last_rank = rank
        for output, writer in self._writers.items():
            with raise_output_errors(output):
                writer.add(track, calls)

    def finish(self) -> None:
        """Complete all files under their temporary names. `commit` calls this if it was not called before."""
        if self._is_finished:
            return
        self._is_finished = True
        for output, writer in self._writers.items():
            with raise_output_errors(output):
                writer.finish()

    def commit(self) -> None:
        """Complete all files, then give them their final names."""
        self.finish()
        self._stack.close()


class _NotCommitted(Exception):
    """Raised inside the open outputs so that they remove their temporary files."""
