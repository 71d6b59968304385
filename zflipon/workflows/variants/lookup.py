"""Look alleles up in a table of an earlier run, so that they need not be computed again."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pysam

from zflipon.checksums import sha256_of
from zflipon.errors import InputError, format_names
from zflipon.genome.names import ContigLengths, reconcile
from zflipon.workflows.variants.fields import SCORE_FIELDS, TABLE_COLUMNS, parse_calls
from zflipon.workflows.variants.parquet import read_metadata, require_pyarrow
from zflipon.workflows.variants.scoring import missing_scores
from zflipon.workflows.variants.writing import IDENTITY

TABLE_EXTENSIONS = (".tsv.gz", ".vcf.gz", ".parquet")
"""Extensions of tables in which alleles can be looked up."""

_NAMES = {"model": "model", "features": "omics tracks", "scores": "version of the scores"}
"""Entries of an identity, as messages name them."""


_DAMAGE = (OSError, EOFError, ValueError, LookupError, RuntimeError, TypeError, AttributeError)
"""What pysam, pyarrow and the parsing of values raise for damaged tables."""


@contextmanager
def _table_errors(path: Path, problem: str) -> Iterator[None]:
    """Turn errors of a damaged table into an `InputError` that names the file."""
    try:
        yield
    except _DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: {problem} ({reason}); write it again with zflipon variants") from error


@contextmanager
def open_table(
    path: str | Path | None, identity: Mapping[str, Any], lengths: Mapping[str, int]
) -> Iterator[ScoreTable | None]:
    """Open a table for look-ups; yield None without a path.

    Parameters
    ----------
    path : str, Path or None
    identity : mapping
        `ScoringRun.identity` of the run that looks alleles up.
    lengths : mapping of str to int
        The genome's contigs and their lengths, to which the contigs of the table are translated: by the MD5 of their
        sequence, else by their names.

    Raises
    ------
    InputError
        If the file is no table of this program, has no index, or is of another model, genome or settings.
    """
    if path is None:
        yield None
        return
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not path.name.lower().endswith(TABLE_EXTENSIONS):
        raise InputError(f"{path}: expected a table that ends in {', '.join(TABLE_EXTENSIONS)}")
    with _table_errors(path, "cannot be read as an indexed table"):
        table = ParquetTable(path) if path.name.lower().endswith(".parquet") else TabixTable(path)
    with table:
        _require_same_identity(path, table.identity, identity)
        with _table_errors(path, "cannot be read as an indexed table"):
            table.names = _translate(path, table, identity["contigs"], lengths)
        yield table


def _translate(
    path: Path, table: ScoreTable, md5: Mapping[str, str], lengths: Mapping[str, int]
) -> dict[str, str]:
    """Return contig of the genome → its name in the rows of a table."""
    by_digest = {digest: name for name, digest in md5.items()}
    known = ContigLengths(lengths)
    for name, digest in table.identity["contigs"].items():
        if name not in lengths and digest in by_digest:
            known.add_alias((name, by_digest[digest]))
    return {contig: name for name, contig in reconcile(path, table.row_contigs(), known).items()}


def _require_same_identity(path: Path, table: object, run: Mapping[str, Any]) -> None:
    if not isinstance(table, dict) or not isinstance(table.get("contigs"), dict):
        raise InputError(
            f"{path}: does not say by which model and genome it was made; expected a table that zflipon variants wrote"
        )
    differing = [name for name in run if name != "contigs" and table.get(name) != run[name]]
    if differing:
        values = [
            f"{_NAMES.get(name, name)} ({_short(table.get(name))}, here {_short(run[name])})"
            for name in differing
        ]
        raise InputError(
            f"{path}: is a table of another run: it differs in {format_names(values, 3)}. Give the options of "
            "its run, or leave out --table"
        )
    contigs, digests = table["contigs"], set(table["contigs"].values())
    others = [name for name, md5 in run["contigs"].items() if contigs.get(name, md5) != md5]
    if others:
        raise InputError(
            f"{path}: is a table of another genome: the sequence of {format_names(others)} differs. Name the FASTA of "
            "the table, or leave out --table"
        )
    if run["contigs"] and not digests & set(run["contigs"].values()):
        raise InputError(
            f"{path}: has none of the contigs of the alleles: it has {format_names(contigs)}, the alleles are on "
            f"{format_names(run['contigs'])}. Name a table of these contigs, or leave out --table"
        )


class ScoreTable(ABC):
    """A table of scored alleles. A context manager that closes its file.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    path : Path
    identity : object
        JSON value from the header; None if it has none.
    names : mapping of str to str
        Contig of the genome → its name in the rows.
    digest : str
        SHA-256 of the file.
    """

    def __init__(self, path: Path):
        self.path, self.digest = path, sha256_of(path)
        self.identity: Any = None
        self.names: Mapping[str, str] = {}

    def __enter__(self) -> ScoreTable:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    @abstractmethod
    def row_contigs(self) -> list[str]:
        """Return the names of the contigs with rows."""

    @abstractmethod
    def rows_at(self, contig: str, start: int) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Yield reference allele, alternative allele and table columns of the alleles at a 0-based position."""

    def look_up(self, alleles: Sequence[tuple[str, int, str, str]]) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores of alleles, and which are not in the table.

        Parameters
        ----------
        alleles : sequence of (str, int, str, str)
            Contig, 0-based start, reference and alternative allele. Alleles are compared as they are written.

        Returns
        -------
        scores : numpy.ndarray
            `SCORE_DTYPE`, shape (alleles,).
        is_missing : numpy.ndarray
            bool, same shape: True for alleles that the table lacks, whose scores are undefined.
        """
        scores, is_missing = missing_scores(len(alleles)), np.ones(len(alleles), dtype=bool)
        place, known = None, {}
        for index, (contig, start, ref, alt) in enumerate(alleles):
            if place != (contig, start):
                place = contig, start
                with _table_errors(self.path, f"damaged at {contig}:{start + 1}"):
                    rows = self.rows_at(self.names[contig], start) if contig in self.names else ()
                    known = {row[:2]: row[2] for row in rows}
            columns = known.get((ref.upper(), alt.upper()))
            if columns is not None and columns["why"] in (None, "."):
                scores[index], is_missing[index] = _parse_scores(self.path, columns), False
        return scores, is_missing


class TabixTable(ScoreTable):
    """A table in bgzip with an index of tabix: TSV or VCF."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._file = pysam.TabixFile(str(path), encoding="utf-8")
        self._contigs = set(self._file.contigs)
        self._is_vcf = path.name.lower().endswith(".vcf.gz")
        with pysam.BGZFile(str(path), "r", None) as file:
            for line in file:
                text = line.decode("utf-8", "replace").rstrip("\n")
                if not text.startswith("#"):
                    break
                name, _, value = text.lstrip("# ").partition("=" if self._is_vcf else ": ")
                if name == IDENTITY:
                    self.identity = json.loads(value)
        prefix = self.identity.get("prefix", "") if isinstance(self.identity, dict) else ""
        self._columns_of_info = {f"{prefix}_{field.suffix}": field.column for field in SCORE_FIELDS}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def row_contigs(self) -> list[str]:
        """Return the names of the contigs with rows."""
        return list(self._file.contigs)

    def rows_at(self, contig: str, start: int) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Yield the alleles at a position; see `ScoreTable.rows_at`."""
        if contig not in self._contigs or start < 0:
            return
        for line in self._file.fetch(contig, start, start + 1):
            columns = line.split("\t")
            if columns[1] != str(start + 1):
                continue
            if not self._is_vcf:
                yield columns[3].upper(), columns[4].upper(), dict(zip(TABLE_COLUMNS, columns, strict=False))
                continue
            alts = columns[4].upper().split(",")
            for number, alt in enumerate(alts):
                yield columns[3].upper(), alt, self._info_columns(columns[7], number)

    def _info_columns(self, info: str, number: int) -> dict[str, str]:
        """Return the table columns of one allele from INFO."""
        columns = dict.fromkeys(self._columns_of_info.values(), ".")
        for entry in info.split(";"):
            name, _, values = entry.partition("=")
            column = self._columns_of_info.get(name)
            if column is not None and values.count(",") >= number:
                columns[column] = values.split(",")[number]
        return columns


class ParquetTable(ScoreTable):
    """A Parquet table. The row groups of the last look-ups stay in memory, two at most."""

    def __init__(self, path: Path):
        super().__init__(path)
        require_pyarrow()
        from pyarrow import parquet

        text = read_metadata(path).get(IDENTITY)
        self.identity = json.loads(text) if text else None
        self._file = parquet.ParquetFile(path)
        self._groups: dict[int, dict[tuple[str, int], list[dict]]] = {}
        self._ranges: list[tuple[str, str, int, int]] = []
        for number in range(self._file.num_row_groups):
            group = self._file.metadata.row_group(number)
            contigs, positions = (group.column(column).statistics for column in (0, 1))
            self._ranges.append((contigs.min, contigs.max, positions.min, positions.max))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def row_contigs(self) -> list[str]:
        """Return the names of the contigs with rows."""
        return self._file.read(columns=["contig"])["contig"].unique().to_pylist()

    def rows_at(self, contig: str, start: int) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Yield the alleles at a position; see `ScoreTable.rows_at`."""
        position = start + 1
        for number, (first, last, low, high) in enumerate(self._ranges):
            if first <= contig <= last and low <= position <= high:
                for row in self._group(number).get((contig, position), ()):
                    yield row["ref"].upper(), row["alt"].upper(), row

    def _group(self, number: int) -> dict[tuple[str, int], list[dict]]:
        if number not in self._groups:
            while len(self._groups) > 1:
                self._groups.pop(next(iter(self._groups)))
            rows: dict[tuple[str, int], list[dict]] = {}
            for row in self._file.read_row_group(number).to_pylist():
                rows.setdefault((row["contig"], row["pos"]), []).append(row)
            self._groups[number] = rows
        return self._groups[number]


def _parse_scores(path: Path, columns: Mapping[str, Any]) -> np.ndarray:
    """Return the scores of one allele from table columns: `SCORE_DTYPE`, no dimension."""
    (scores,) = missing_scores(1)
    try:
        for field in SCORE_FIELDS:
            value = columns[field.column]
            if value in (None, ".") or field.name == "why":
                continue
            scores[field.name] = parse_calls(value) if field.kind == "String" else float(value)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: has a row that cannot be read ({error}); write the table again") from error
    return scores


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 12 else f"{text[:8]}…"
