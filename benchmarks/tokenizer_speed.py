"""How fast windows are tokenized: bases a second of a checkpoint's tokenizer, lengths included.

python benchmarks/tokenizer_speed.py GENOME.fa [--model compact] [--bases 4000000]
"""

from __future__ import annotations

import argparse
import time

from zflipon.config import DEFAULT_MODEL
from zflipon.genome import Genome
from zflipon.models import load
from zflipon.windows import tile

_BATCH = 256


def main() -> None:
    """Tokenize the windows of the first contig, batch by batch, and print the rate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genome")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--bases", type=int, default=4_000_000)
    arguments = parser.parse_args()

    checkpoint = load(arguments.model)
    with Genome(arguments.genome) as genome:
        contig, length = next(iter(genome.lengths.items()))
        text = genome.fetch(contig, 0, min(length, arguments.bases))
    windows = [text[start:end] for start, end, _, _ in tile(0, len(text), checkpoint.story.window, 0)]
    checkpoint.tokenizer.encode(windows[:_BATCH])  # threads start
    started, tokens = time.perf_counter(), 0
    for first in range(0, len(windows), _BATCH):
        tokens += sum(
            len(found.ids) for found in checkpoint.tokenizer.encode(windows[first : first + _BATCH])
        )
    seconds = time.perf_counter() - started
    bases = sum(map(len, windows))
    print(f"{bases / seconds / 1e6:.1f} Mb/s: {bases:,} bases, {tokens:,} tokens, {seconds:.2f} s")


if __name__ == "__main__":
    main()
