"""How well models rank the Z-HUNT calls of contigs that they never saw: each alone, the means of several, composition.

python benchmarks/ranking.py GENOME CALLS LABELS MODEL [MODEL ...] [--blacklist BED] [--every 2] [--composition]

MODELs are folders that ``zflipon train`` wrote with the same validation contigs. Each call is read in the middle of a
window. A call with a label is positive; AP and the best F1 weigh calls by their length. The mean of several models is
that of their log-odds, divided by their standard deviations. ``--composition`` adds gradient boosting on the shares of
3-mers within 100 to 10,000 bases, learnt from the calls of all other contigs (needs scikit-learn).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zflipon.config import InferenceConfig
from zflipon.genome.alphabet import base_codes
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import find_overlapping, merge
from zflipon.inference.predictor import Predictor
from zflipon.models import load

SHORTEST_CONTIG = 100_000
RADII = (100, 300, 1000, 3000, 10_000)
AT_A_TIME = 64


class Call(NamedTuple):
    """A Z-HUNT call, outside the blacklist, and whether it has a label."""

    contig: str
    start: int
    end: int
    labelled: bool


def main() -> None:
    """Print AP and F1 of every model, and of every combination."""
    arguments = parse()
    checkpoints = [load(model) for model in arguments.models]
    held_out = checkpoints[0].metadata.training["validation_contigs"]
    with Genome(arguments.genome) as genome:
        calls = list(read_calls(genome, arguments.calls, arguments.labels, arguments.blacklist))
        long_enough = [each for each in calls if genome.length(each.contig) >= SHORTEST_CONTIG]
        judged = [each for each in long_enough if each.contig in set(held_out)][:: arguments.every]
        labelled = np.array([each.labelled for each in judged])
        sizes = np.array([each.end - each.start for each in judged], dtype=float)
        print(f"{len(judged)} calls, {labelled.sum()} with a label")
        ranks = {
            str(name): activity_log_odds(checkpoint, genome, judged)
            for name, checkpoint in zip(arguments.models, checkpoints, strict=True)
        }
        if arguments.composition:
            others = [each for each in calls if each.contig not in set(held_out)]
            ranks["composition"] = boosted_log_odds(genome, others, judged)
    for count in range(1, len(ranks) + 1):
        for names in combinations(ranks, count):
            mean = sum(ranks[name] / ranks[name].std() for name in names)
            precision, f1 = weighted_scores(labelled, mean, sizes)
            print(f"AP {precision:.3f}, best F1 {f1:.3f}: {' + '.join(names)}")
    for one, other in combinations(ranks, 2):
        print(f"correlation {np.corrcoef(ranks[one], ranks[other])[0, 1]:.3f}: {one}, {other}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("genome", "calls", "labels"):
        parser.add_argument(name, type=Path)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--blacklist", type=Path)
    parser.add_argument("--every", type=int, default=2, help="judge every n-th call")
    parser.add_argument("--composition", action="store_true")
    return parser.parse_args()


def read_calls(genome: Genome, calls: Path, labels: Path, blacklist: Path | None) -> Iterator[Call]:
    """Yield the calls of all contigs."""
    rows, positives = read_bed(calls, genome.lengths), read_bed(labels, genome.lengths)
    ignored = read_bed(blacklist, genome.lengths) if blacklist else {}
    none = np.empty((0, 2), dtype=np.int64)
    for contig, intervals in rows.items():
        bad, good = merge(ignored.get(contig, none)), merge(positives.get(contig, none))
        for start, end in merge(intervals).tolist():
            if not len(find_overlapping(bad, start, end)):
                yield Call(contig, start, end, len(find_overlapping(good, start, end)) > 0)


def activity_log_odds(checkpoint, genome: Genome, calls: list[Call]) -> np.ndarray:
    """Return the log-odds of the activity of each call, in a window whose middle it is."""
    predictor, size = Predictor(checkpoint, InferenceConfig(device="cpu")), checkpoint.metadata.window
    activities = []
    for first in range(0, len(calls), AT_A_TIME):
        part = calls[first : first + AT_A_TIME]
        middles = np.array([(call.start + call.end) // 2 for call in part])
        lengths = np.array([genome.length(call.contig) for call in part])
        starts = np.clip(middles - size // 2, 0, lengths - size)
        texts = [
            genome.fetch(call.contig, start, start + size)
            for call, start in zip(part, starts.tolist(), strict=True)
        ]
        places = middles - starts
        cores = np.stack([places, places + 1], axis=1)
        values = predictor.predict_values(texts, cores=cores, return_factors=True)
        activities += [each[1, place] for each, place in zip(values, places, strict=True)]
    activity = np.array(activities, dtype=float)
    return np.log(activity / (1 - activity))


def boosted_log_odds(genome: Genome, learnt: list[Call], judged: list[Call]) -> np.ndarray:
    """Return the log-odds of gradient boosting on composition: the mean of three fits."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    features, total = composition(genome, learnt + judged), np.zeros(len(judged))
    labels = [call.labelled for call in learnt]
    for seed in range(3):
        model = HistGradientBoostingClassifier(
            max_iter=300,
            learning_rate=0.05,
            max_leaf_nodes=15,
            min_samples_leaf=40,
            l2_regularization=5,
            max_features=0.2,
            random_state=seed,
        )
        with threadpool_limits(1):  # its threads wait actively for one another
            model.fit(features[: len(learnt)], labels)
            total += model.decision_function(features[len(learnt) :])
    return total / 3


def composition(genome: Genome, calls: list[Call]) -> np.ndarray:
    """Return the length of each call, and the shares of 3-mers on either strand around it: (calls, features)."""
    classes, features, contig, codes = kmer_classes(), [], "", np.empty(0, dtype=np.int64)
    for call in calls:
        if call.contig != contig:
            contig = call.contig
            bases = base_codes(genome.fetch(contig, 0, genome.length(contig)))
            numbers = bases[:-2] * 16 + bases[1:-1] * 4 + bases[2:]
            known = np.maximum(np.maximum(bases[:-2], bases[1:-1]), bases[2:]) < 4
            codes = classes[np.where(known, numbers, 64)]
        middle = (call.start + call.end) // 2
        ranges = [(call.start, call.end), *((max(0, middle - radius), middle + radius) for radius in RADII)]
        shares = []
        for start, end in ranges:
            counts = np.bincount(codes[start:end], minlength=33)[:32]
            shares.append(counts / max(1, counts.sum()))
        features.append(np.concatenate([[call.end - call.start], *shares]))
    return np.array(features, dtype=np.float32)


def kmer_classes() -> np.ndarray:
    """Return the class of each 3-mer, which it shares with its reverse complement; 32 for one with an N."""
    numbers = np.arange(64)
    complement = 63 - (numbers % 4 * 16 + numbers // 4 % 4 * 4 + numbers // 16)
    _, classes = np.unique(np.minimum(numbers, complement), return_inverse=True)
    return np.append(classes, 32)


def weighted_scores(labelled: np.ndarray, ranks: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Return AP and the best F1, with calls weighted by their size."""
    order = np.argsort(-ranks, kind="stable")
    positive, size = labelled[order], sizes[order]
    found, called = np.cumsum(positive * size), np.cumsum(size)
    precision = found / called
    average = float((precision * positive * size).sum() / found[-1])
    return average, float((2 * found / (called + found[-1])).max())


if __name__ == "__main__":
    main()
