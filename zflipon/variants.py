"""VCF → what each alternative allele does to the probabilities of Z-DNA around it.

Each allele is read in a window of the model's own width, once with the reference and once with the alternative, and
bases are compared that lie at least the model's margin away from the window's edges. Windows lie on a grid, so that
neighbouring variants share the reference's.

Bases outside an allele are compared with themselves. Inside it, what both alleles share at its beginning and its end
is too; of what is left, base stands against base from the left, and bases that only one allele has stand against
none, whose probability is 0.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pysam
from accelerate import PartialState
from tqdm import tqdm

from zflipon import __version__
from zflipon.config import MIN_GAP, PredictConfig, VariantConfig
from zflipon.devices import agreed, processes
from zflipon.errors import InputError, OutputError, ZfliponError, some
from zflipon.genome import Genome
from zflipon.intervals import parse_region
from zflipon.models import load
from zflipon.outputs import refuse_existing, whole
from zflipon.predict import Predictor
from zflipon.runs import settled

log = logging.getLogger("zflipon")

EXTENSIONS = {".vcf.gz": "wz", ".vcf": "w", ".bcf": "wb", ".tsv": "tsv"}
"""Extension of an output → how pysam opens it; ``tsv``: a row an allele."""

REASONS = {
    "ref_mismatch": "REF is not what the FASTA has there",
    "symbolic": "symbolic allele or breakend",
    "spanning_deletion": "the allele *",
    "not_acgt": "letters other than A, C, G and T",
    "too_long": "longer than the longest allele that is scored",
    "off_contig": "contig or position that the FASTA lacks",
}
"""Why an allele has no scores, as ``ZF_WHY`` tells it → in words."""

FIELDS = {
    "ZF_GAIN": (
        "Float",
        "Largest gain of a base's probability of Z-DNA by the alternative allele, 0 or above",
    ),
    "ZF_LOSS": (
        "Float",
        "Largest loss of a base's probability of Z-DNA by the alternative allele, 0 or below",
    ),
    "ZF_SUM": ("Float", "Change of the probability of Z-DNA, summed over the bases around the allele"),
    "ZF_POS": (
        "Integer",
        "Position (1-based, reference) of the base that changes most; inserted: the base before",
    ),
    "ZF_REF": ("Float", "Highest probability of Z-DNA around the allele with the reference"),
    "ZF_ALT": ("Float", "Highest probability of Z-DNA around the allele with the alternative allele"),
    "ZF_SPREAD": ("Float", "Standard deviation over window offsets of the change at ZF_POS"),
    "ZF_WHY": (
        "String",
        "Why the allele is not scored: " + ", ".join(f"{code} ({words})" for code, words in REASONS.items()),
    ),
}
"""INFO field → type and description, without a comma that would end neither."""

RESULT_DTYPE = np.dtype(
    [(name, np.float64) for name in ("gain", "loss", "sum", "pos", "ref", "alt", "spread")] + [("why", "U20")]
)
"""What is told of one allele; NaN where nothing is."""

_POOL = 512
"""Records that are scored together."""

_LOOK, _DECIMALS = 0.05, 4


@dataclass(frozen=True)
class Geometry:
    """Where windows lie around an allele.

    Attributes
    ----------
    window, margin : int
        Of the model.
    grid : int
        Bases from one window's place to the next.
    longest : int
        Bases of the longest allele.
    flank : int
        Bases compared on either side of an allele.
    offsets : tuple of int
        By which windows are moved, each within half a grid.
    """

    window: int
    margin: int
    grid: int
    longest: int
    flank: int
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, window: int, margin: int, config: VariantConfig) -> Geometry:
        """Fit what is asked for into a model's window; raise `ZfliponError` where it does not."""
        core = window - 2 * margin
        grid = max(1, core // 16)
        longest = config.max_length or max(1, core // 8)
        room = core // 2 - grid - (longest + 1) // 2
        flank = room if config.flank is None else config.flank
        if not 0 <= flank <= room:
            raise ZfliponError(
                f"alleles of {longest} bases with a flank of {max(flank, 0)} do not fit the core of the model's window "
                f"({core} bases); the flank may be {room} at most"
                + ("" if room >= 0 else ": lower --max-length")
            )
        offsets = tuple(round((k + 0.5) * grid / config.shifts - grid / 2) for k in range(config.shifts))
        return cls(window, margin, grid, longest, flank, offsets)


@dataclass(frozen=True)
class Around:
    """Sequence around an allele: of one stretch between gaps of N, or as much of it as windows may reach.

    Attributes
    ----------
    start, end : int
        0-based half-open, on the contig.
    text : str
    """

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Pair:
    """An allele's windows and how their bases are laid against each other.

    Attributes
    ----------
    windows : tuple of (int, int, int)
        For each offset: start on the contig, number of the reference's sequence, and of the alternative's.
    low, high : int
        Bases of the reference that are compared.
    start : int
        First base of the allele.
    split : int
        Where bases stand that only one allele has.
    grown : int
        Bases by which the alternative allele is longer.
    unknown : numpy.ndarray
        bool, shape (high - low,): N, which has no probability.
    """

    windows: tuple[tuple[int, int, int], ...]
    low: int
    high: int
    start: int
    split: int
    grown: int
    unknown: np.ndarray


class Pool:
    """Alleles that are scored together; equal windows are read once.

    Parameters
    ----------
    genome : Genome
    geometry : Geometry
    """

    def __init__(self, genome: Genome, geometry: Geometry):
        self._genome, self._geometry = genome, geometry
        self._numbers: dict[str, int] = {}
        self.sequences: list[str] = []
        self._cores: list[list[int]] = []
        self._pairs: list[Pair | str] = []

    @property
    def cores(self) -> np.ndarray:
        """Bases of each sequence that are wanted: int64, shape (sequences, 2)."""
        return np.array(self._cores, dtype=np.int64).reshape(-1, 2)

    def add(self, contig: str, start: int, ref: str, alt: str) -> None:
        """Take an allele.

        Parameters
        ----------
        contig : str
        start : int
            0-based.
        ref, alt : str
            As the VCF has them.
        """
        ref, alt = ref.upper(), alt.upper()
        why = self._unfit(contig, start, ref, alt)
        self._pairs.append(why or self._pair(contig, start, ref, alt))

    def scores(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        """Return what is told of each allele, `RESULT_DTYPE`, from the probabilities of `sequences`."""
        found = np.zeros(len(self._pairs), dtype=RESULT_DTYPE)
        for row, pair in zip(found, self._pairs, strict=True):
            if isinstance(pair, str):
                for name in RESULT_DTYPE.names[:-1]:
                    row[name] = np.nan
                row["why"] = pair
            else:
                for name, value in zip(RESULT_DTYPE.names, summary(pair, probabilities), strict=False):
                    row[name] = value
        return found

    def _unfit(self, contig: str, start: int, ref: str, alt: str) -> str:
        """Return why an allele cannot be scored, or an empty string."""
        if not 0 <= start <= start + len(ref) <= self._genome.lengths.get(contig, -1):
            return "off_contig"
        if alt == "*":
            return "spanning_deletion"
        if not alt.isalpha():
            return "symbolic"
        if self._genome.fetch(contig, start, start + len(ref)) != ref:
            return "ref_mismatch"
        if set(ref + alt) - set("ACGT"):
            return "not_acgt"
        return "too_long" if max(len(ref), len(alt)) > self._geometry.longest else ""

    def _pair(self, contig: str, start: int, ref: str, alt: str) -> Pair:
        shape, grown = self._geometry, len(alt) - len(ref)
        centre = start + max(len(ref), len(alt)) // 2
        base = centre // shape.grid * shape.grid + shape.grid // 2 - shape.window // 2
        around = surroundings(self._genome, contig, start, start + len(ref), shape)
        low, high = start - shape.flank, start + len(ref) + shape.flank
        places = []
        for offset in shape.offsets:
            latest = max(around.start, around.end + max(0, grown) - shape.window)
            first = min(max(base + offset, around.start), latest)
            places.append(first)
            last = first + shape.window - max(0, grown)
            low = max(low, first if first == around.start else first + shape.margin)
            high = min(high, around.end if last >= around.end else last - shape.margin)
        windows = []
        for first in places:
            text = around.text[first - around.start :]
            at = start - first
            before = text[: shape.window]
            after = (text[:at] + alt + text[at + len(ref) :])[: shape.window]
            windows.append(
                (
                    first,
                    self._number(before, low - first, high - first),
                    self._number(after, low - first, high + grown - first),
                )
            )
        unknown = np.frombuffer(
            around.text[low - around.start : high - around.start].encode(), dtype=np.uint8
        ) == ord("N")
        return Pair(tuple(windows), low, high, start, start + shared(ref, alt), grown, unknown)

    def _number(self, sequence: str, low: int, high: int) -> int:
        """Return the sequence's number, new or known, and widen what is wanted of it."""
        number = self._numbers.setdefault(sequence, len(self.sequences))
        if number == len(self.sequences):
            self.sequences.append(sequence)
            self._cores.append([low, high])
        core = self._cores[number]
        core[0], core[1] = min(core[0], low), max(core[1], high)
        return number


def shared(ref: str, alt: str) -> int:
    """Return after how many bases of the alleles those stand that only one of them has."""
    prefix = _alike(ref, alt)
    ref, alt = ref[prefix:], alt[prefix:]
    suffix = _alike(ref[::-1], alt[::-1])
    return prefix + min(len(ref), len(alt)) - suffix


def _alike(one: str, other: str) -> int:
    """Return how many letters two texts share at their beginning."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def surroundings(genome: Genome, contig: str, start: int, end: int, shape: Geometry) -> Around:
    """Return the sequence around ``[start, end)`` that windows may hold; it ends where a gap of N begins."""
    reach = shape.window + shape.grid + shape.longest
    low, high = max(0, start - reach), min(genome.length(contig), end + reach)
    text = genome.fetch(contig, low, high)
    first, last = 0, len(text)
    if "N" in text:
        for gap in re.finditer("N+", text):
            at_end = (low == gap.start() == 0) or (gap.end() == len(text) and high == genome.length(contig))
            if gap.end() - gap.start() < MIN_GAP and not at_end:
                continue
            if gap.end() <= start - low:
                first = gap.end()
            elif gap.start() >= end - low:
                last = min(last, gap.start())
    return Around(low + first, low + last, text[first:last])


def aligned(pair: Pair, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay both alleles' probabilities against each other; a base that one of them lacks has 0 there."""
    at = pair.split - pair.low
    absent = np.zeros(abs(pair.grown), dtype=before.dtype)
    before = np.where(pair.unknown, np.nan, before)
    mask = pair.unknown
    if pair.grown > 0:
        before = np.concatenate([before[:at], absent, before[at:]])
        mask = np.concatenate([mask[:at], absent > 0, mask[at:]])
    elif pair.grown < 0:
        after = np.concatenate([after[:at], absent, after[at:]])
    return before, np.where(mask, np.nan, after)


def summary(pair: Pair, probabilities: Sequence[np.ndarray]) -> tuple[float, ...]:
    """Return gain, loss, sum, position, highest of the reference, of the alternative, and spread."""
    laid = [
        aligned(
            pair,
            probabilities[ref][pair.low - first : pair.high - first],
            probabilities[alt][pair.low - first : pair.high + pair.grown - first],
        )
        for first, ref, alt in pair.windows
    ]
    before, after = np.array(laid, dtype=np.float64).transpose(1, 0, 2)
    each = after - before
    delta = each.mean(axis=0)
    at = int(np.nanargmax(np.abs(delta)))
    place = pair.low + at
    if place >= pair.split:  # inserted bases have the place of the one before them
        place = max(place - max(0, pair.grown), pair.split - (pair.grown > place - pair.split))
    if not delta[at]:
        place = pair.start
    return (
        max(0.0, float(np.nanmax(delta))),
        min(0.0, float(np.nanmin(delta))),
        float(np.nansum(delta)),
        place + 1,
        float(np.nanmax(before.mean(axis=0))),
        float(np.nanmax(after.mean(axis=0))),
        float(each[:, at].std()) if len(each) > 1 else np.nan,
    )


@dataclass(frozen=True)
class Survey:
    """What one pass over a VCF found.

    Attributes
    ----------
    header : pysam.VariantHeader
        Of the file.
    records : int
    unsorted : str
        The first place that is out of order, or an empty string.
    """

    header: pysam.VariantHeader
    records: int
    unsorted: str


def survey(path: Path, genome: Genome) -> Survey:
    """Read a VCF or BCF once, and tell whether it is whole, sorted, and of this genome.

    Raises
    ------
    InputError
        If it cannot be read, or none of its contigs is the genome's.
    """
    seen: dict[str, None] = {}
    count, unsorted, last, before = 0, "", "", 0
    with _opened(path) as file:
        declared = _names(file.header)
        for record in _records(path, file):
            contig = record.contig
            if not unsorted and (
                (contig != last and contig in seen) or (contig == last and record.pos < before)
            ):
                unsorted = f"{contig}:{record.pos}"
            seen[contig] = None
            last, before = contig, record.pos
            count += 1
        missing = _names(file.header) - declared
        if missing:  # htslib makes names up as it reads, and records with such do not fit another header
            raise InputError(
                f"{path}: its header does not declare {some(sorted(missing))}; add the lines (bcftools reheader, with "
                "--fai for contigs)"
            )
        header = file.header.copy()
    if seen and not seen.keys() & genome.lengths.keys():
        raise InputError(
            f"{path}: none of its contigs is in {genome.path}: the file has {some(seen)}, the genome "
            f"{some(genome.lengths)}; rename the contigs of one of them"
        )
    return Survey(header, count, unsorted)


def _names(header: pysam.VariantHeader) -> set[str]:
    """Return what a header declares."""
    kinds = {
        "contig": header.contigs,
        "INFO": header.info,
        "FILTER": header.filters,
        "FORMAT": header.formats,
    }
    return {f"{kind} {name}" for kind, names in kinds.items() for name in names}


@contextmanager
def _opened(path: Path) -> Iterator[pysam.VariantFile]:
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    try:
        file = pysam.VariantFile(str(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as VCF or BCF ({error})") from error
    with file:
        yield file


def _records(path: Path, file: pysam.VariantFile) -> Iterator[pysam.VariantRecord]:
    number = 0
    try:
        for record in file:
            number += 1
            yield record
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: record {number + 1} cannot be read ({error}); is the file whole?"
        ) from error


def variants(
    path: Path,
    genome_path: Path,
    output: str | Path,
    model: str,
    config: VariantConfig | None = None,
    predict: PredictConfig | None = None,
    force: bool = False,
    quiet: bool = False,
) -> dict:
    """Score every alternative allele of a VCF.

    Parameters
    ----------
    path : Path
        VCF (plain, gzip or bgzip) or BCF.
    genome_path : Path
        FASTA.
    output : str or Path
        Its extension picks the format (`EXTENSIONS`).
    model : str
        A bundled model's name, a folder, a file or a hub id.
    config : VariantConfig, optional
    predict : PredictConfig, optional
    force : bool
        Replace an output that exists.
    quiet : bool
        No progress bar.

    Returns
    -------
    dict
        Records read and written, alleles scored, and of the others how many for which reason.

    Raises
    ------
    ZfliponError
        If an input, the output or the model cannot be used.
    """
    path, output, config = Path(path), Path(output), config or VariantConfig()
    kind = _kind(output)
    refuse_existing(output, force)
    state = processes(predict.device if predict else "auto")
    with Genome(genome_path) as genome:
        regions = [parse_region(text, genome.lengths) for text in config.regions]
        checked: list[Survey] = []  # headers do not travel between processes
        agreed(state, lambda: checked.append(_checked(path, genome, kind)))
        seen = checked[0] if checked else _checked(path, genome, kind)
        checkpoint = load(model)
        predictor = Predictor(checkpoint, settled(predict or PredictConfig(), checkpoint, state))
        shape = Geometry.of(predictor.story.window, predictor.story.margin, config)
        log.info(
            "%s records; %d bases on either side of each allele, in windows of %d by %s (%s)",
            f"{seen.records:,}",
            shape.flank,
            shape.window,
            checkpoint.path.name,
            predictor.device,
        )
        about = {
            "version": __version__,
            "model": checkpoint.path.name,
            "sha256": checkpoint.sha256 or "none",
            "genome": genome.path.name,
            "flank": shape.flank,
            "shifts": config.shifts,
            "strands": "both" if predictor.config.both_strands else "forward",
        }
        told = dict.fromkeys(("records", "written", "alleles", *REASONS), 0)
        score = _scorer(genome, shape, predictor)
        with ExitStack() as stack:
            bar = stack.enter_context(_progress(seen.records, quiet or not state.is_main_process))
            exchange = _Exchange(state, stack) if state.num_processes > 1 else None
            if not state.is_main_process:
                for number, pool in _pools(path, regions, bar):
                    if number % state.num_processes == state.process_index:
                        exchange.store(number, score(pool))
                state.wait_for_everyone()
                return told
            part = stack.enter_context(whole(output))
            with _writer(part, kind, seen.header, about) as write:
                for number, pool in _pools(path, regions, bar):
                    mine = number % state.num_processes == 0
                    found = score(pool) if mine else exchange.load(number)
                    _write_pool(write, pool, found, config.min_delta, told)
            _index(part, kind, seen.header)
            if exchange:
                state.wait_for_everyone()
    return told


def _kind(output: Path) -> str:
    for extension, kind in EXTENSIONS.items():
        if output.name.lower().endswith(extension):
            return kind
    raise OutputError(f"{output}: expected an extension out of {', '.join(EXTENSIONS)}")


def _checked(path: Path, genome: Genome, kind: str) -> Survey:
    seen = survey(path, genome)
    if seen.unsorted and kind in ("wz", "wb"):
        raise InputError(
            f"{path}: out of order at {seen.unsorted}, so that the output could have no index; sort it (bcftools "
            "sort), or write .vcf or .tsv"
        )
    return seen


def _scorer(genome: Genome, shape: Geometry, predictor: Predictor) -> Callable[[list], np.ndarray]:
    def score(records: list[pysam.VariantRecord]) -> np.ndarray:
        pool = Pool(genome, shape)
        for record in records:
            for alt in record.alts or ():
                pool.add(record.contig, record.start, record.ref, alt)
        return pool.scores(predictor.probabilities(pool.sequences, cores=pool.cores))

    return score


def _pools(
    path: Path, regions: list[tuple[str, int, int]], bar: tqdm
) -> Iterator[tuple[int, list[pysam.VariantRecord]]]:
    """Yield runs of the records that are asked for."""
    with _opened(path) as file:
        wanted = (record for record in _counted(_records(path, file), bar) if _asked(record, regions))
        number = 0
        while pool := list(islice(wanted, _POOL)):
            yield number, pool
            number += 1


def _counted(records: Iterator[pysam.VariantRecord], bar: tqdm) -> Iterator[pysam.VariantRecord]:
    for record in records:
        yield record
        bar.update()


def _asked(record: pysam.VariantRecord, regions: list[tuple[str, int, int]]) -> bool:
    end = record.start + len(record.ref)
    return not regions or any(
        contig == record.contig and record.start < high and low < end for contig, low, high in regions
    )


def _progress(records: int, quiet: bool) -> tqdm:
    return tqdm(
        total=records,
        unit=" records",
        desc="zflipon",
        disable=quiet,
        mininterval=0.5 if sys.stderr.isatty() else 10,
        file=sys.stderr,
    )


class _Exchange:
    """A folder through which processes hand results to the first one."""

    def __init__(self, state: PartialState, stack: ExitStack):
        self._folder = Path(agreed(state, lambda: tempfile.mkdtemp(prefix="zflipon-")))
        if state.is_main_process:
            stack.callback(shutil.rmtree, self._folder, ignore_errors=True)

    def store(self, number: int, found: np.ndarray) -> None:
        part = self._folder / f"{number}.part.npy"
        np.save(part, found)
        os.replace(part, self._folder / f"{number}.npy")

    def load(self, number: int) -> np.ndarray:
        path = self._folder / f"{number}.npy"
        while not path.exists():  # where a process fails, its launcher ends this one
            time.sleep(_LOOK)
        found = np.load(path)
        path.unlink()
        return found


def _write_pool(
    write: Callable,
    pool: list[pysam.VariantRecord],
    found: np.ndarray,
    min_delta: float,
    told: dict[str, int],
) -> None:
    """Write records with what was found of their alleles, in their order."""
    at = 0
    for record in pool:
        rows = found[at : at + len(record.alts or ())]
        at += len(rows)
        told["records"] += 1
        told["alleles"] += int((rows["why"] == "").sum())
        for why in rows["why"]:
            if why:
                told[str(why)] += 1
        large = (rows["gain"] >= min_delta) | (-rows["loss"] >= min_delta) | (rows["why"] != "")
        if large.any() or not min_delta:
            write(record, rows)
            told["written"] += 1


@contextmanager
def _writer(
    part: Path, kind: str, header: pysam.VariantHeader, about: dict[str, object]
) -> Iterator[Callable]:
    """Open the output; yield what writes a record."""
    if kind == "tsv":
        with open(part, "w", encoding="utf-8") as text:
            text.writelines(f"# {key}: {value}\n" for key, value in about.items())
            columns = (
                "contig",
                "pos",
                "id",
                "ref",
                "alt",
                *(name.removeprefix("ZF_").lower() for name in FIELDS),
            )
            text.write(
                "\t".join(columns).replace("\tpos\tref\talt\tspread", "\tat\tref_max\talt_max\tspread") + "\n"
            )
            yield lambda record, rows: text.writelines(_lines(record, rows))
        return
    _declare(header, about)
    with pysam.VariantFile(str(part), kind, header=header) as file:

        def write(record: pysam.VariantRecord, rows: np.ndarray) -> None:
            record.translate(file.header)
            _annotate(record, rows)
            file.write(record)

        yield write


def _declare(header: pysam.VariantHeader, about: dict[str, object]) -> None:
    """Add our INFO fields to a header, in the place of an earlier run's."""
    for name, (kind, words) in FIELDS.items():
        if name in header.info:
            header.info.remove_header(name)
        header.add_line(
            f'##INFO=<ID={name},Number=A,Type={kind},Description="{words}",Source="zflipon {about["model"]}",'
            f'Version="{__version__}">'
        )
    header.add_line("##zflipon_variants=" + ";".join(f"{key}={value}" for key, value in about.items()))


def _annotate(record: pysam.VariantRecord, rows: np.ndarray) -> None:
    for name, key in zip(FIELDS, RESULT_DTYPE.names, strict=True):
        if name in record.info:
            del record.info[name]
        values = tuple(_value(key, value) for value in rows[key])
        if any(value is not None for value in values):
            record.info[name] = values


def _value(key: str, value: object) -> float | int | str | None:
    """Return a value as a VCF has it; None: missing."""
    if key == "why":
        return str(value) or None
    if np.isnan(value):
        return None
    return int(value) if key == "pos" else round(float(value), _DECIMALS) + 0.0


def _lines(record: pysam.VariantRecord, rows: np.ndarray) -> Iterator[str]:
    """Yield a row an allele."""
    for alt, row in zip(record.alts or (), rows, strict=True):
        values = (_value(key, row[key]) for key in RESULT_DTYPE.names)
        told = ("." if value is None else str(value) for value in values)
        yield "\t".join([record.contig, str(record.pos), record.id or ".", record.ref, alt, *told]) + "\n"


def _index(part: Path, kind: str, header: pysam.VariantHeader) -> None:
    if kind == "wb":
        pysam.tabix_index(str(part), preset="bcf", force=True)
    elif kind == "wz":
        longest = max((contig.length or 0 for contig in header.contigs.values()), default=0)
        pysam.tabix_index(str(part), preset="vcf", csi=longest > 1 << 29, force=True)
