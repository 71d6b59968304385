"""Bases per second of CPU time of one core, so that other work on the machine does not distort the figures.

python benchmarks/per_core.py GENOME.fa [--model dnabert2-117m] [--rounds 6]

Each round runs on one thread, one after the other: a square matrix product in the precision of the model, a batch of
windows as `zflipon annotate` forms them, and eight published windows, one at a time (a) and by the pipeline of
transformers (c), both in float32. Printed are medians; for zflipon, bases of cores are counted. Models have a token
head.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from throughput import MATRIX, WINDOW, cost_per_base, middle_of_longest_contig, resolve_model, token_pipeline

from zflipon.config import InferenceConfig
from zflipon.genome.fasta import Genome
from zflipon.genome.windows import tile_windows
from zflipon.inference.predictor import Predictor
from zflipon.models import load

WINDOWS = 8
"""Published windows per round."""


def main() -> None:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genome", type=Path)
    parser.add_argument("--model", default="dnabert2-117m")
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="per-core-") as scratch, Genome(arguments.genome) as genome:
        checkpoint = load(resolve_model(arguments.model, Path(scratch), genome))
        predictor = Predictor(checkpoint, InferenceConfig(device="cpu", threads=1))
        metadata, module = checkpoint.metadata, checkpoint.module
        contig, start, end = middle_of_longest_contig(genome, 20_000)
        windows = tile_windows(start, end, metadata.window, metadata.margin)[1:-1]
        batches = list(
            predictor.batches([genome.fetch(contig, int(w["start"]), int(w["end"])) for w in windows])
        )
        sequences = [
            genome.fetch(contig, position, position + WINDOW)
            for position in range(start, start + WINDOWS * WINDOW, WINDOW)
        ]
        operations_per_base, _ = cost_per_base(module, predictor, genome)
    pipeline = token_pipeline(checkpoint, torch.device("cpu"))
    square = torch.randn(MATRIX["cpu"], MATRIX["cpu"]).to(predictor.dtype)

    @torch.inference_mode()
    def one_at_a_time() -> None:
        for sequence in sequences:
            (tokens,) = checkpoint.tokenizer.encode([sequence])
            ids = torch.from_numpy(tokens.ids)[None]
            module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.argmax(-1)

    rates = []
    for number in range(arguments.rounds):
        batch = batches[number % len(batches)]
        rates.append(
            (
                2 * len(square) ** 3 / cpu_seconds(lambda: square @ square),
                len(batch.indices)
                * (metadata.window - 2 * metadata.margin)
                / cpu_seconds(
                    lambda batch=batch: predictor.executor.gather(predictor.executor.submit(batch))
                ),
                len(sequences) * WINDOW / cpu_seconds(one_at_a_time),
                len(sequences) * WINDOW / cpu_seconds(lambda: list(pipeline(sequences, batch_size=WINDOWS))),
            )
        )
    peak, ours, loop, pipe = np.median(rates, axis=0)
    print(f"{arguments.model}, {str(predictor.dtype)[6:]}: {ours:,.0f} bases per second of a core")
    print(f"{100 * ours * operations_per_base / peak:.0f} % of the matrix rate, {peak / 1e9:.0f} GFLOP/s")
    print(f"(a) one window at a time: {loop:,.0f}; zflipon is {ours / loop:.2f} x as fast")
    print(f"(c) transformers' pipeline: {pipe:,.0f}; zflipon is {ours / pipe:.2f} x as fast")


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of a call."""
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
