"""Speed of scoring variants, in batches and one allele at a time.

python benchmarks/variants.py [--model compact] [--device auto] [--variants 200] [--alone 20] [--spacing 40]

Variants are random SNVs on random DNA, `--spacing` bases apart. Prints alleles per second of (a) one allele at a time,
with one forward pass for the reference window and one for the alternative window, (b) batches, and the ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from zflipon.config import CallConfig, InferenceConfig, VariantConfig
from zflipon.genome.fasta import Genome
from zflipon.inference.predictor import Predictor
from zflipon.models import load
from zflipon.workflows.variants import AlleleBatch, Geometry, score_alleles


def main() -> None:
    """Measure and print."""
    arguments = parse()
    predictor = Predictor(load(arguments.model), InferenceConfig(device=arguments.device))
    shape = Geometry.fit(predictor.metadata.window, predictor.metadata.margin, VariantConfig())
    text = "".join(
        np.random.default_rng(0).choice(list("ACGT"), 4000 + arguments.variants * arguments.spacing)
    )
    alleles = []
    for at in range(2000, 2000 + arguments.variants * arguments.spacing, arguments.spacing):
        alleles.append(("chr1", at, text[at], "ACGT"["CGTA".index(text[at])]))
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder) / "random.fa"
        fasta.write_text(f">chr1\n{text}\n")
        with Genome(fasta) as genome:
            score(predictor, genome, shape, alleles[:2])  # the first calls are slow
            few = alleles[: arguments.alone]
            alone, expected = timed(lambda: [alone_score(predictor, genome, shape, one) for one in few])
            pooled, found = timed(lambda: score(predictor, genome, shape, alleles))
    alone, pooled = len(few) / alone, len(alleles) / pooled
    gap = max(abs(one["sum"] - other["sum"]) for one, other in zip(expected, found, strict=False))
    print(
        f"{arguments.model} on {predictor.device}, {torch.get_num_threads()} threads, SNVs {arguments.spacing} apart\n"
        f"(a) an allele at a time {alone:10.2f} alleles/s\n"
        f"(b) pooled              {pooled:10.2f} alleles/s\n"
        f"(b)/(a) {pooled / alone:.2f}; sums differ by {gap:.2g} at most"
    )


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="compact")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--variants", type=int, default=200)
    parser.add_argument("--alone", type=int, default=20, help="alleles of (a)")
    parser.add_argument("--spacing", type=int, default=40, help="bases from one variant to the next")
    return parser.parse_args()


def score(predictor: Predictor, genome: Genome, shape: Geometry, alleles: list[tuple]) -> np.ndarray:
    """Return the scores of alleles that are predicted together."""
    batch = AlleleBatch(genome, shape)
    for allele in alleles:
        batch.add(*allele)
    probabilities = predictor.predict_probabilities(batch.sequences, cores=batch.cores)
    return score_alleles(batch.pairs, probabilities, CallConfig(threshold=predictor.metadata.threshold))


def alone_score(predictor: Predictor, genome: Genome, shape: Geometry, allele: tuple) -> np.void:
    """Return the scores of one allele; its two windows are predicted one after the other."""
    batch = AlleleBatch(genome, shape)
    batch.add(*allele)
    probabilities = [predictor.predict_probabilities([text])[0] for text in batch.sequences]
    return score_alleles(batch.pairs, probabilities, CallConfig(threshold=predictor.metadata.threshold))[0]


def timed(run) -> tuple[float, list]:
    """Return the seconds that a function takes, and its result."""
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
