"""What a core makes of its time, on a machine that others use too: processor time is counted, not the clock's.

python benchmarks/per_core.py GENOME.fa [--model dnabert2-117m] [--rounds 6]

In turns, on one thread: a square matrix product in the precision that the model runs in, a batch of windows as annotate
makes them, and as many published windows as eight, one at a time (a) and by transformers' pipeline (c), both in
float32. Printed are medians, in bases (of cores, for ours) a second of processor time. Models have a token head.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from throughput import MATRIX, WINDOW, longest, made, operations, token_pipeline

from zflipon.config import InferenceConfig
from zflipon.genome.fasta import Genome
from zflipon.genome.windows import tile_windows
from zflipon.inference.predictor import Predictor
from zflipon.models import load

WINDOWS = 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genome", type=Path)
    parser.add_argument("--model", default="dnabert2-117m")
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="per-core-") as scratch, Genome(arguments.genome) as genome:
        checkpoint = load(made(arguments.model, Path(scratch), genome))
        predictor = Predictor(checkpoint, InferenceConfig(device="cpu", threads=1))
        metadata, module = checkpoint.metadata, checkpoint.module
        contig, start, end = longest(genome, 20_000)
        windows = tile_windows(start, end, metadata.window, metadata.margin)[1:-1]
        batches = list(
            predictor.batches([genome.fetch(contig, int(w["start"]), int(w["end"])) for w in windows])
        )
        text = [
            genome.fetch(contig, at, at + WINDOW) for at in range(start, start + WINDOWS * WINDOW, WINDOW)
        ]
        per_base, _ = operations(module, predictor, genome)
    pipeline = token_pipeline(checkpoint, torch.device("cpu"))
    square = torch.randn(MATRIX["cpu"], MATRIX["cpu"]).to(predictor.dtype)

    @torch.inference_mode()
    def one_at_a_time() -> None:
        for sequence in text:
            (tokens,) = checkpoint.tokenizer.encode([sequence])
            ids = torch.from_numpy(tokens.ids)[None]
            module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.argmax(-1)

    rates = []
    for turn in range(arguments.rounds):
        batch = batches[turn % len(batches)]
        rates.append(
            (
                2 * len(square) ** 3 / spent(lambda: square @ square),
                len(batch.indices)
                * (metadata.window - 2 * metadata.margin)
                / spent(lambda batch=batch: predictor.executor.gather(predictor.executor.submit(batch))),
                len(text) * WINDOW / spent(one_at_a_time),
                len(text) * WINDOW / spent(lambda: list(pipeline(text, batch_size=WINDOWS))),
            )
        )
    peak, ours, loop, pipe = np.median(rates, axis=0)
    print(f"{arguments.model}, {str(predictor.dtype)[6:]}: {ours:,.0f} bases a second of a core")
    print(f"{100 * ours * per_base / peak:.0f} % of the matrix rate, {peak / 1e9:.0f} GFLOP/s")
    print(f"(a) one window at a time: {loop:,.0f}; ours {ours / loop:.2f} x")
    print(f"(c) transformers' pipeline: {pipe:,.0f}; ours {ours / pipe:.2f} x")


def spent(work: Callable[[], object]) -> float:
    """Return seconds of processor time."""
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
