"""False alarms of the comparison with training data on human sequence, and alarms on other genomes.

python benchmarks/domain.py HUMAN.fa [HUMAN.fa ...] [--other GENOME.fa ...]

A domain is fitted to half of the contigs and compared with the other half, and the other way round. Printed are, for
contigs of 100 kb and more, and for their windows of 1 Mb: how many are compared and how many raise an alarm. Then the
synthetic genomes of the tests, and `--other` genomes, are compared with the domain of all contigs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zflipon.genome.composition import COMPOSITION_WINDOW, CompositionCounter
from zflipon.genome.fasta import Genome
from zflipon.genome.shuffles import shuffle_sequence
from zflipon.models.domain import Domain
from zflipon.tracks.score_windows import MIN_CONTIG_BASES
from zflipon.training.domain import fit_domain
from zflipon.workflows.domain import ALARM_SHARE, MIN_WINDOWS, DomainMonitor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from synthetic_genomes import chain_dna

BLOCK = 1_000_000 // COMPOSITION_WINDOW
NO_SKETCH = np.empty(0, dtype=np.uint32)


def main() -> None:
    """Fit, compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genomes", nargs="+", type=Path)
    parser.add_argument("--other", nargs="*", type=Path, default=[])
    arguments = parser.parse_args()
    started = time.process_time()
    contigs = [each for path in arguments.genomes for each in windows_of(path)]
    bases = COMPOSITION_WINDOW * sum(len(windows) for _, windows in contigs)
    print(
        f"{bases / 1e6:,.0f} Mb counted at {bases / 1e6 / (time.process_time() - started):,.0f} Mb/s of CPU time"
    )
    counts = np.zeros((2, 3), dtype=int)
    for half in (0, 1):
        domain = fit_domain(np.concatenate([windows for _, windows in contigs[1 - half :: 2]]), NO_SKETCH)
        for name, windows in contigs[half::2]:
            if name:
                outside = domain.compare(windows).outside
                counts[0] += count_alarms(name, [outside])
                blocks = [outside[start : start + BLOCK] for start in range(0, len(outside), BLOCK)]
                counts[1] += count_alarms("", blocks)
    for name, (compared, alarms, outside) in zip(("contigs", "windows of 1 Mb"), counts, strict=True):
        print(f"human {name}: {alarms} alarms of {compared} compared; {outside} with an outside window")
    domain = fit_domain(np.concatenate([windows for _, windows in contigs]), NO_SKETCH)
    for name, sequence in other_genomes(arguments.other, arguments.genomes[0]):
        print_comparison(domain, name, sequence)


def windows_of(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and windows of each contig of 100 kb and more; then, without a name, of each Mb of the short ones."""
    short = CompositionCounter()
    with Genome(path) as genome:
        for contig, length in genome.lengths.items():
            counter = short if length < MIN_CONTIG_BASES else CompositionCounter()
            counter.add(genome.fetch(contig, 0, length))
            if counter is not short:
                yield contig, counter.windows()
    windows = short.windows()
    for start in range(0, len(windows), BLOCK):
        yield "", windows[start : start + BLOCK]


def count_alarms(name: str, groups: list[np.ndarray]) -> tuple[int, int, int]:
    """Return how many groups of windows are compared, raise an alarm, and have a window outside the domain."""
    compared = [outside for outside in groups if len(outside) >= MIN_WINDOWS]
    alarms = [outside for outside in compared if outside.mean() >= ALARM_SHARE]
    if alarms and name:
        print(f"false alarm: {name}")
    return len(compared), len(alarms), sum(bool(outside.any()) for outside in compared)


def other_genomes(paths: list[Path], human: Path) -> Iterator[tuple[str, str]]:
    """Yield name and sequence of synthetic genomes, of shuffled human sequence, and of files."""
    for ratios, gc in (
        ("bacterial", 0.35),
        ("bacterial", 0.51),
        ("bacterial", 0.68),
        ("plant", 0.36),
        ("plant", 0.46),
    ):
        yield f"synthetic {ratios}, {gc:.0%} GC", chain_dna(500_000, gc, ratios)
    yield "synthetic, 20 % GC", chain_dna(500_000, 0.2)
    with Genome(human) as genome:
        contig = max(genome.lengths, key=genome.lengths.__getitem__)
        middle = genome.lengths[contig] // 2
        sequence = genome.fetch(contig, middle, middle + 500_000)
    letters = np.frombuffer(sequence.encode(), dtype=np.uint8)
    rng = np.random.default_rng(1)
    yield "human, bases shuffled", rng.permutation(letters).tobytes().decode()
    yield "human, dinucleotides shuffled", shuffle_sequence(sequence, rng)
    for path in paths:
        with Genome(path) as genome:
            yield path.name, "N".join(genome.fetch(name, 0, end) for name, end in genome.lengths.items())


def print_comparison(domain: Domain, name: str, sequence: str) -> None:
    """Print the status of a genome and what differs."""
    monitor = DomainMonitor(domain, 0.5)
    monitor.add_sequence(sequence)
    report = monitor.report()
    share = "" if report.outside is None else f", {report.outside:.0%} of {report.windows} windows outside"
    print(f"{name}: {report.status}{share}; {'; '.join(report.differences)}")


if __name__ == "__main__":
    main()
