"""Contig names: chr1, 1 and NC_000001.11 are translated to the names of the genome.

How another module uses it: make one `ContigNames` for each file that it reads, call `find` with each name of the file,
and `report` at the end. `reconcile` does all three for a list of names. The lengths of a `zflipon.genome.fasta.Genome`
are `ContigLengths`, which also hold the aliases that the user gave.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from zflipon.errors import InputError, format_count, format_names
from zflipon.genome.chromosomes import CHROMOSOMES
from zflipon.genome.text_files import read_lines

log = logging.getLogger("zflipon")

RENAME_CONTIGS = "rename the contigs of one of them, or give --contig-aliases if the command has it"
"""Advice for a file whose contigs are unknown."""

_MITOCHONDRIA = ("chrM", "MT", "M", "chrMT")


class ContigLengths(dict[str, int]):
    """Contig → length, and the aliases of contigs that a file or a record states.

    Parameters
    ----------
    lengths : mapping of str to int
        If these are `ContigLengths`, their aliases are kept.
    aliases : iterable of iterables of str
        Names of one contig each, as `read_aliases` returns them.

    Attributes
    ----------
    aliases : dict of str to set of str
        Name → all names of the same contig.
    """

    def __init__(self, lengths: Mapping[str, int], aliases: Iterable[Iterable[str]] = ()):
        super().__init__(lengths)
        self.aliases: dict[str, set[str]] = dict(getattr(lengths, "aliases", {}))
        for names in aliases:
            self.add_alias(names)

    def add_alias(self, names: Iterable[str]) -> None:
        """Add names of one contig; groups that share a name are joined."""
        group = set(names)
        for name in tuple(group):
            group |= self.aliases.get(name, set())
        self.aliases.update(dict.fromkeys(group, group))


def read_aliases(path: str | Path) -> list[list[str]]:
    """Read a table of contig aliases, as UCSC provides them (``chromAlias.txt``).

    Parameters
    ----------
    path : str or Path
        Lines of names of one contig, separated by tabs; or the three columns alias, contig and source. Lines that
        begin with ``#`` are comments.

    Returns
    -------
    list of list of str
        The names of each line.

    Raises
    ------
    InputError
        If the file is missing, or a line has fewer than two names.
    """
    rows, has_source = [], False
    for number, line in read_lines(path, "a table of contig aliases"):
        fields = [field.strip() for field in line.rstrip("\r\n").split("\t")]
        if line.startswith("#"):
            has_source |= [field.lstrip("# ") for field in fields] == ["alias", "chrom", "source"]
            continue
        if not any(fields):
            continue
        names = [field for field in (fields[:2] if has_source else fields) if field]
        if len(names) < 2:
            raise InputError(
                f"{path}:{number}: expected names of one contig, separated by tabs, as in chromAlias.txt of UCSC; "
                f"found {line.strip()[:60]!r}"
            )
        rows.append(names)
    if not rows:
        raise InputError(
            f"{path}: has no aliases; expected lines with names of one contig, separated by tabs"
        )
    return rows


class ContigNames:
    """The contig names of one file, translated to those of a genome.

    A name is looked up, in this order, among the genome's names, the aliases of `ContigLengths`, and the main
    chromosomes of common assemblies (`zflipon.genome.chromosomes`) of the genome's lengths. In other genomes, names may
    differ by ``chr``.

    Parameters
    ----------
    path : str or Path
        The file, for messages.
    lengths : mapping of str to int
        The genome's contigs and their lengths.
    lengths_known : bool
        If false, only the names in `lengths` count, as for the contigs of a BED file; tables of assemblies are then
        searched by name alone.
    """

    _reported: set[tuple[str, str]] = set()  # noqa: RUF012  # files are read more than once; one line is enough

    def __init__(self, path: str | Path, lengths: Mapping[str, int], lengths_known: bool = True):
        self._path, self._lengths, self._lengths_known = path, lengths, lengths_known
        self._aliases: Mapping[str, set[str]] = getattr(lengths, "aliases", {})
        self._found: dict[str, str | None] = {}
        self._origins: dict[str, str] = {}

    def find(self, name: str, length: int | None = None) -> str | None:
        """Return the genome's name of a contig; None if it is unknown.

        Parameters
        ----------
        name : str
        length : int, optional
            Bases of the contig in the file. A translated name must have this length in the genome.

        Raises
        ------
        InputError
            If the name may be that of several contigs, or the file has two names of one contig.
        """
        if name not in self._found:
            contig = self._resolve(name, length)
            if contig is not None and self._origins.setdefault(contig, name) != name:
                raise InputError(
                    f"{self._path}: {self._origins[contig]} and {name} are both names of {contig}; leave one of them "
                    "in the file"
                )
            self._found[name] = contig
        return self._found[name]

    def report(self) -> None:
        """Log the number of translated names, once for each file."""
        renamed = [
            f"{name} to {contig}" for name, contig in self._found.items() if contig not in (None, name)
        ]
        if not renamed or (str(self._path), str(renamed)) in self._reported:
            return
        self._reported.add((str(self._path), str(renamed)))
        count = format_count(len(renamed), "contig name")
        log.info("%s: %s translated (%s)", self._path, count, format_names(renamed, 3))

    def _resolve(self, name: str, length: int | None) -> str | None:
        if name in self._lengths:
            return name
        candidates = [other for other in self._aliases.get(name, ()) if other in self._lengths]
        if not candidates:
            candidates = list(dict.fromkeys(self._table_names(name)))
        if length is not None:
            candidates = [contig for contig in candidates if self._lengths[contig] == length]
        if len(candidates) > 1:
            raise InputError(
                f"{self._path}: contig {name!r} may be {' or '.join(sorted(candidates))} of the genome; rename it "
                "in the file"
            )
        return candidates[0] if candidates else None

    def _table_names(self, name: str) -> Iterable[str]:
        """Yield the names in the genome that the tables of assemblies, or else a rule, give."""
        known = [chromosome for chromosome in CHROMOSOMES if name in chromosome.names]
        for chromosome in known:
            for other in chromosome.names:
                if other in self._lengths and (
                    not self._lengths_known or self._lengths[other] == chromosome.length
                ):
                    yield other
        if name in _MITOCHONDRIA:
            if not self._is_hg19():  # where chrM and MT are different sequences
                yield from (other for other in _MITOCHONDRIA if other in self._lengths)
            return
        other = name.removeprefix("chr") if name.startswith("chr") else f"chr{name}"
        if other in self._lengths:
            yield other

    def _is_hg19(self) -> bool:
        return any(
            self._lengths.get(name) == chromosome.length
            for chromosome in CHROMOSOMES
            if chromosome.assembly == "hg19" and chromosome.length > 1_000_000
            for name in chromosome.names
        )


def reconcile(path: str | Path, names: Iterable[str], lengths: Mapping[str, int]) -> dict[str, str]:
    """Translate the contig names of a file to those of a genome, and log how many were translated.

    Parameters
    ----------
    path : str or Path
        The file, for messages.
    names : iterable of str
    lengths : mapping of str to int
        The genome's contigs and their lengths; `ContigLengths` also have aliases.

    Returns
    -------
    dict of str to str
        Name in the file → name in the genome. Unknown names are left out.

    Raises
    ------
    InputError
        If a name may be that of several contigs, or two names are of one contig.

    Examples
    --------
    >>> reconcile("calls.bed", ["1", "MT", "GL000192.1"], {"chr1": 5000, "chrM": 400})
    {'1': 'chr1', 'MT': 'chrM'}
    >>> reconcile("calls.bed", ["NC_000022.11"], {"chr22": 50_818_468})
    {'NC_000022.11': 'chr22'}
    """
    contigs = ContigNames(path, lengths)
    found = {name: contigs.find(name) for name in names}
    contigs.report()
    return {name: contig for name, contig in found.items() if contig is not None}


def resolve_contig(name: str, lengths: Mapping[str, int]) -> str:
    """Return the genome's name of a contig that the user named; the name itself if it is unknown.

    Examples
    --------
    >>> resolve_contig("chrX", {"X": 100})
    'X'
    """
    return ContigNames("the command line", lengths).find(name) or name


def aliases_by_digest(
    recorded: Mapping[str, Mapping], lengths: Mapping[str, int], md5: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Return the pairs of names, recorded and the genome's, of contigs that have the same sequence.

    Parameters
    ----------
    recorded : mapping of str to mapping
        ``contigs`` of a run record: name → ``length`` and ``md5``.
    lengths : mapping of str to int
    md5 : mapping of str to str
        Contig of the genome → MD5 of its upper-case sequence.
    """
    by_digest: dict[tuple[int, str], list[str]] = {}
    for contig, digest in md5.items():
        by_digest.setdefault((lengths[contig], digest), []).append(contig)
    pairs = []
    for name, each in recorded.items():
        same = by_digest.get((each.get("length", -1), each.get("md5", "")), [])
        if name not in lengths and len(same) == 1:
            pairs.append((name, same[0]))
    return pairs
