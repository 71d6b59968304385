"""How fast windows are tokenized: bases a second of a checkpoint's tokenizer, beside the library that it comes from.

python benchmarks/tokenizer_speed.py GENOME.fa [--model compact] [--bases 4000000]

Ours gives ids and lengths and runs in one thread; the library's own call gives ids and runs in as many as there are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from zflipon.config import DEFAULT_MODEL
from zflipon.genome.fasta import Genome
from zflipon.genome.windows import tile_windows
from zflipon.models import load

_BATCH = 1024


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
    windows = [
        text[start:end] for start, end, _, _ in tile_windows(0, len(text), checkpoint.metadata.window, 0)
    ]
    tokenizer = checkpoint.tokenizer
    rates = {"ours": rate(tokenizer.encode, windows)}
    library = getattr(tokenizer, "tokenizer", None)
    if library is not None:
        rates["the library"] = rate(library.encode_batch_fast, windows)
    for name, speed in rates.items():
        print(f"{name}: {speed / 1e6:.1f} Mb/s, windows of {checkpoint.metadata.window}")
    if library is not None:
        print(f"ours is {rates['ours'] / rates['the library']:.1f} x as fast")


def rate(encode: Callable[[list[str]], object], windows: list[str]) -> float:
    """Return bases a second, a batch at a time."""
    encode(windows[:_BATCH])  # threads start, tables are made
    started = time.perf_counter()
    for first in range(0, len(windows), _BATCH):
        encode(windows[first : first + _BATCH])
    return sum(map(len, windows)) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
