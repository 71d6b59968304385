"""Speed and calls of a model on the CPU in each precision, compared with float32.

python benchmarks/precisions.py MODEL GENOME CONTIG:START-END [--labels BED] [--tokens 1024]

The first precision is float32. A base is called at the model's threshold; with --labels, F1 counts bases. The time
does not include loading and, in int8, calibration, which is printed separately. --tokens is the size of a batch.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np

import zflipon
from zflipon.cli.memory import keep_freed_memory
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import interval_mask, parse_region
from zflipon.inference.devices import DEVICE_PROFILES
from zflipon.metrics import Confusion


def main() -> None:
    """Print one line per precision."""
    arguments = parse()
    keep_freed_memory()
    DEVICE_PROFILES["cpu"] = replace(DEVICE_PROFILES["cpu"], tokens_per_batch=arguments.tokens)
    with Genome(arguments.genome) as genome:
        contig, start, end = parse_region(arguments.region, genome.lengths)
        labels = None if arguments.labels is None else read_bed(arguments.labels, genome.lengths)
    labelled = None if labels is None else interval_mask(labels.get(contig), start, end)
    reference = None
    for precision in ("float32", *arguments.precisions):
        model = zflipon.load_model(arguments.model, device="cpu", precision=precision)
        started = perf_counter()
        window = model.predictor.metadata.window  # the predictor is created here
        ready = perf_counter()
        values = zflipon.predict_region(arguments.genome, arguments.region, model)
        speed = (end - start) / (perf_counter() - ready) / 1000
        reference = values if reference is None else reference
        line = describe(values, reference, model.metadata.threshold, labelled)
        setup = f"windows of {window} bp, ready after {ready - started:.1f} s"
        print(f"{precision}: {speed:.2f} kb/s, {setup}; {line}", flush=True)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("genome", type=Path)
    parser.add_argument("region")
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--tokens", type=int, default=DEVICE_PROFILES["cpu"].tokens_per_batch)
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "int8"])
    return parser.parse_args()


def describe(values: np.ndarray, reference: np.ndarray, threshold: float, labelled: np.ndarray | None) -> str:
    """Return differences from the reference, and F1 if there are labels; N is left out."""
    known = ~np.isnan(reference)
    called, expected = (each[known] >= threshold for each in (values, reference))
    difference = np.abs(values[known] - reference[known])
    both = Confusion.from_calls(called, expected).f1
    differences = f"differs by up to {difference.max():.4f}, mean {difference.mean():.5f}"
    text = f"{differences}; F1 with the calls of float32 {both:.4f}"
    if labelled is None:
        return text
    return f"{text}; F1 with the labels {Confusion.from_calls(called, labelled[known]).f1:.4f}"


if __name__ == "__main__":
    main()
