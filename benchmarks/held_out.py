"""Accuracy of a held-out model on every base of the contigs that it never saw, with nested thresholds and intervals.

python benchmarks/held_out.py MODEL GENOME LABELS [--blacklist BED] [--features TRACKS.tsv] [--calls NAME=BED]

MODEL is a folder that ``zflipon train`` wrote for ``held_out_models``, for example ``runs/compact/held-out/1``. Contigs
are named CHROMOSOME_START. The threshold of a chromosome is the one with the best F1 on the other chromosomes, so that
no figure is quoted for data that chose its threshold. Intervals are 95 % by bootstrap over blocks of 1 Mb. For peers,
given by their calls, precision at their recall is printed as well as ours. Then precision by recall, and mean
probability and share of labelled bases in each tenth of the probabilities above 0.05.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from zflipon.config import InferenceConfig, Selection
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import interval_mask
from zflipon.genome.shards import make_plan
from zflipon.inference.genome_scan import scan_genome
from zflipon.inference.predictor import Predictor
from zflipon.inference.scan_group import ScanTask
from zflipon.metrics import Confusion, ScoreHistogram
from zflipon.models import load
from zflipon.omics.features import open_model_features
from zflipon.training.evaluators import log_odds

BLOCK = 1_000_000
DRAWS = 200
RECALLS = (0.05, 0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
TENTHS = (0.05, *np.arange(0.1, 1.05, 0.1))


def main() -> None:
    """Predict the contigs, and print one row per chromosome and one for all."""
    arguments = parse()
    checkpoint = load(arguments.model)
    contigs = checkpoint.metadata.training["validation_contigs"]
    with Genome(Path(arguments.genome)) as genome:
        labels, ignored = (
            read_bed(Path(path), genome.lengths) if path else {}
            for path in (arguments.labels, arguments.blacklist)
        )
        peers = {
            name: read_bed(Path(path), genome.lengths)
            for name, path in (each.split("=", 1) for each in arguments.calls)
        }
        blocks, called = predict(checkpoint, genome, contigs, labels, ignored, peers, arguments.features)
    chromosomes = sorted({key[0].split("_")[0] for key in blocks})
    print("| contigs | Mb | AP | threshold from | F1 of calls | precision / recall |")
    print("|---|---|---|---|---|---|")
    for name in chromosomes:
        own = [each for key, each in blocks.items() if key[0].split("_")[0] == name]
        others = [each for key, each in blocks.items() if key[0].split("_")[0] != name]
        source = "the other chromosomes" if others else "these bases"
        print(row(name, own, pooled(others or own).best_f1()[1], source), flush=True)
    everything = list(blocks.values())
    print(row("all", everything, pooled(everything).best_f1()[1], "these bases"))
    for name, confusion in called.items():
        print(
            f"{name}: F1 {confusion.f1:.3f}, precision {confusion.precision:.3f}, recall {confusion.recall:.3f}; "
            f"ours has precision {precision_at(pooled(everything), confusion.recall):.3f} at that recall"
        )
    for recall in RECALLS:
        print(f"recall {recall}: precision {precision_at(pooled(everything), recall):.3f}")
    for line in calibration_rows(pooled(everything)):
        print(line)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "genome", "labels"):
        parser.add_argument(name)
    parser.add_argument("--blacklist")
    parser.add_argument("--features")
    parser.add_argument("--calls", action="append", default=[], metavar="NAME=BED")
    return parser.parse_args()


def predict(checkpoint, genome, contigs, labels, ignored, peers, table):
    """Return the histogram of each block of each contig, and the confusion of each peer's calls."""
    features = open_model_features(checkpoint, table, genome.lengths, "error") if table else None
    predictor = Predictor(checkpoint, InferenceConfig(), features=features)
    metadata = checkpoint.metadata
    plan = make_plan(genome, Selection(contigs=tuple(contigs)), metadata.window, metadata.margin)
    tasks = (ScanTask(span.contig, span.windows, early_exit=True) for span in plan.spans)
    blocks, counts = defaultdict(ScoreHistogram), {name: np.zeros(3, dtype=np.int64) for name in peers}
    for task, probabilities in scan_genome(predictor, genome, tasks):
        start = int(task.windows["core_start"][0])
        span = (start, start + len(probabilities))
        counted = ~np.isnan(probabilities) & ~interval_mask(ignored.get(task.contig), *span)
        truth = interval_mask(labels.get(task.contig), *span)
        odds = log_odds(probabilities[counted].astype(np.float64))
        blocks[task.contig, start // BLOCK].add(odds, truth[counted])
        for name, calls in peers.items():
            called = interval_mask(calls.get(task.contig), *span) & counted
            hits = int((called & truth).sum())
            counts[name] += [hits, int(called.sum()) - hits, int((truth & counted).sum()) - hits]
    confusions = {name: Confusion(int(tp), int(fp), int(fn), 0) for name, (tp, fp, fn) in counts.items()}
    return blocks, confusions


def pooled(histograms) -> ScoreHistogram:
    """Return the sum of some histograms."""
    total = ScoreHistogram()
    for each in histograms:
        total.merge(each)
    return total


def row(name: str, blocks: list[ScoreHistogram], threshold: float, source: str) -> str:
    """Return one line of the table."""
    total, rng = pooled(blocks), np.random.default_rng(0)
    draws = []
    for _ in range(DRAWS):
        sample = pooled(blocks[i] for i in rng.integers(0, len(blocks), len(blocks)))
        draws.append((sample.average_precision(), sample.confusion_at(threshold).f1))
    (ap_low, f1_low), (ap_high, f1_high) = np.percentile(draws, [2.5, 97.5], axis=0)
    confusion, bases = total.confusion_at(threshold), sum(each.sum() for each in total.counts()[1:]) / 1e6
    return (
        f"| {name} | {bases:.1f} | {total.average_precision():.3f} [{ap_low:.3f}, {ap_high:.3f}] | {source} | "
        f"{confusion.f1:.3f} [{f1_low:.3f}, {f1_high:.3f}] | {confusion.precision:.3f} / {confusion.recall:.3f} |"
    )


def precision_at(histogram: ScoreHistogram, recall: float) -> float:
    """Return the precision at the highest threshold that reaches a recall; NaN if none does."""
    odds, negatives, positives = histogram.counts()
    order = np.argsort(-odds)
    hits, called = np.cumsum(positives[order]), np.cumsum((negatives + positives)[order])
    at = int(np.searchsorted(hits, recall * hits[-1]))
    return float(hits[at] / called[at]) if at < len(hits) else math.nan


def calibration_rows(histogram: ScoreHistogram) -> Iterator[str]:
    """Yield the mean probability and the share of labelled bases of each range of probabilities."""
    odds, negatives, positives = histogram.counts()
    probability, bases = 1 / (1 + np.exp(-odds.astype(np.float64))), negatives + positives
    for low, high in pairwise(TENTHS):
        chosen = (probability >= low) & (probability < high)
        if total := bases[chosen].sum():
            mean = np.average(probability[chosen], weights=bases[chosen])
            share = positives[chosen].sum() / total
            yield f"probability {low:.2f}-{high:.2f}: {total:,} bases, mean {mean:.3f}, labelled {share:.3f}"


if __name__ == "__main__":
    main()
