"""Speed of preparing training windows and batches, and the share of a training step spent waiting for them.

python benchmarks/training_data.py GENOME.fa LABELS.bed [--windows 160000] [--tokenizer TOKENIZER.json]
    [--model small|dnabert2] [--steps 50]

Prints the seconds needed to tile the genome and to sample, read and label the windows; the windows per second that one
process tokenizes and labels in batches of 32; and, for a model with random weights on the default device, the share of
the time in which it waits for the next batch, with the number of worker processes that training uses. ``dnabert2`` is
the full 117M shape. Without ``--tokenizer``, a tokenizer is trained on the genome.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.utils.data import DataLoader

from zflipon.config import DataConfig, StageConfig
from zflipon.models import create
from zflipon.tokenization.bpe_training import train_bpe
from zflipon.tokenization.tokenizers import BpeTokenizer
from zflipon.training.batching import LOSS_WEIGHT, BatchDataset
from zflipon.training.dataset import read_training_data
from zflipon.training.labelled_windows import EpochBatches

STAGE = StageConfig(
    objective="token",
    sampling="tiled",
    window=128,
    margin=0,
    hard_negatives=0,
    background=float("inf"),
    reverse_complement=False,
    epochs=1,
    batch_size=32,
)

SHAPES = {
    "small": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
    "dnabert2": {},  # the defaults of its configuration are those of the published model
}


def main() -> None:
    """Measure and print."""
    arguments = parse()
    data = DataConfig(genome=arguments.genome, labels=arguments.labels, split="stratified")
    began = time.perf_counter()
    training_data = read_training_data(data)
    tiling = training_data.tiled_split(STAGE)
    seconds = time.perf_counter() - began
    count = sum(map(len, tiling.parts.values()))
    print(f"preparation: {count:,} windows of {STAGE.window} bp in {seconds:.1f} s")

    tokenizer = arguments.tokenizer and BpeTokenizer(Tokenizer.from_file(arguments.tokenizer))
    tokenizer = tokenizer or train_bpe(list(training_data.tokenizer_text(1_000_000, 0)), 512, 5)
    windows = tiling.parts["train"][np.arange(min(arguments.windows, len(tiling.parts["train"])))]
    batches = BatchDataset(EpochBatches(windows, STAGE), tokenizer)
    began = time.perf_counter()
    sample = min(len(batches), 1000)
    for number in range(sample):
        batches[number]
    each = (time.perf_counter() - began) / sample
    print(
        f"batches: {STAGE.batch_size / each:,.0f} windows per second by one process, {1000 * each:.2f} ms per batch"
    )
    print(
        f"one epoch of {arguments.windows:,} windows: "
        f"{arguments.windows / STAGE.batch_size * each:.0f} s for one process"
    )
    measure_waiting(arguments, batches, tokenizer)


def measure_waiting(arguments: argparse.Namespace, batches: BatchDataset, tokenizer: BpeTokenizer) -> None:
    """Train a model with random weights for some steps and print the share of time spent waiting for data."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = create("dnabert2", "token", tokenizer, **SHAPES[arguments.model]).module.to(device).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5)
    loader = iter(DataLoader(batches, batch_size=None, num_workers=2 if device.type == "cuda" else 0))
    waited = worked = 0.0
    for step in range(arguments.steps + 5):
        began = time.perf_counter()
        batch = {name: each.to(device) for name, each in next(loader).items() if name != LOSS_WEIGHT}
        ready = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = module(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for the device
        if step >= 5:
            waited += ready - began
            worked += time.perf_counter() - ready
    size = sum(weights.numel() for weights in module.parameters())
    rate = arguments.steps * STAGE.batch_size / (waited + worked)
    print(
        f"{arguments.model}, {size / 1e6:.1f} M parameters on {device}: {rate:,.0f} windows per second, "
        f"{100 * waited / (waited + worked):.1f} % of the time waiting for data"
    )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genome")
    parser.add_argument("labels")
    parser.add_argument("--windows", type=int, default=160_000)
    parser.add_argument("--tokenizer")
    parser.add_argument("--model", choices=SHAPES, default="small")
    parser.add_argument("--steps", type=int, default=50)
    return parser.parse_args()


if __name__ == "__main__":
    main()
