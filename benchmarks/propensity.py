"""Propensity against published Z-HUNT calls: agreement of the calls, and calibration.

python benchmarks/propensity.py DATA [--model compact] [--region chr22_50M:1-500,000]

DATA holds ``hg19_part.fa.gz`` and ``zhunt.bed``, the published calls. The region is annotated with
``--score propensity``, without the model's context. Precision, recall and F1 of its calls are printed, on bases and at
the model's threshold of propensity. A table shows the share of bases in published calls by propensity.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pyBigWig

from zflipon.config import CallConfig, Selection
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import parse_region
from zflipon.tracks.base import paint_intervals
from zflipon.workflows.annotate import annotate

BINS = (0, 0.01, 0.1, 0.5, 0.9, 0.99, 1)
"""Edges of the bins of propensity."""


def main() -> None:
    """Annotate a region, and compare its propensity with the published calls."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--region", default="chr22_50M:1-500,000")
    arguments = parser.parse_args()
    fasta = arguments.data / "hg19_part.fa.gz"
    with Genome(fasta) as genome:
        contig, start, end = parse_region(arguments.region, genome.lengths)
        published = read_bed(arguments.data / "zhunt.bed", genome.lengths)[contig]
    with tempfile.TemporaryDirectory() as folder:
        track = Path(folder) / "propensity.bw"
        record = annotate(
            fasta,
            [track],
            arguments.model,
            Selection((arguments.region,)),
            CallConfig(min_length=1),
            scores=("propensity",),
        )
        with pyBigWig.open(str(track)) as file:
            propensity = np.nan_to_num(file.values(contig, start, end, numpy=True))
    labels = np.zeros(end - start)
    paint_intervals(labels, published - start, np.ones(len(published)))
    print_agreement(propensity, labels == 1, record)


def print_agreement(propensity: np.ndarray, is_published: np.ndarray, record: dict) -> None:
    """Print precision, recall and F1, and the share of published bases by propensity."""
    threshold, bases = record["call"]["threshold"], len(propensity)
    called = propensity >= threshold
    both = int((called & is_published).sum())
    precision, recall = both / called.sum(), both / is_published.sum()
    print(
        f"{bases:,} bases, propensity >= {threshold}: precision {precision:.4f}, recall {recall:.4f}, "
        f"F1 {2 * precision * recall / (precision + recall):.4f}, {bases / record['seconds']:,.0f} bases a second"
    )
    print("propensity | bases | in published calls")
    for low, high in itertools.pairwise(BINS):
        inside = (propensity >= low) & ((propensity < high) | (high == 1))
        share = f"{is_published[inside].mean():.4f}" if inside.any() else "-"
        print(f"{low} to {high} | {inside.sum():,} | {share}")


if __name__ == "__main__":
    main()
