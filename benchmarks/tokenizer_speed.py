"""Speed of tokenization: bases per second of a checkpoint's tokenizer, compared with the tokenizers library.

python benchmarks/tokenizer_speed.py GENOME.fa [--model compact] [--bases 4000000]

`zflipon.tokenization.fast_bpe` returns ids and lengths in one thread. The library returns ids and uses all threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from zflipon.config import DEFAULT_MODEL
from zflipon.genome.fasta import Genome
from zflipon.genome.windows import tile_windows
from zflipon.models import load

BATCH = 1024
"""Windows per call."""


def main() -> None:
    """Tokenize the windows of the first contig in batches, and print the rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genome")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--bases", type=int, default=4_000_000)
    arguments = parser.parse_args()

    checkpoint = load(arguments.model)
    window = checkpoint.metadata.window
    with Genome(arguments.genome) as genome:
        contig, length = next(iter(genome.lengths.items()))
        text = genome.fetch(contig, 0, min(length, arguments.bases))
    sequences = [text[start:end] for start, end, _, _ in tile_windows(0, len(text), window, 0)]
    tokenizer = checkpoint.tokenizer
    rates = {"zflipon": bases_per_second(tokenizer.encode, sequences)}
    library = getattr(tokenizer, "tokenizer", None)
    if library is not None:
        rates["tokenizers"] = bases_per_second(library.encode_batch_fast, sequences)
    for name, rate in rates.items():
        print(f"{name}: {rate / 1e6:.1f} Mb/s, windows of {window} bases")
    if library is not None:
        print(f"zflipon is {rates['zflipon'] / rates['tokenizers']:.1f} x as fast as the library")


def bases_per_second(encode: Callable[[list[str]], object], sequences: list[str]) -> float:
    """Return the rate at which `encode` tokenizes sequences, batch by batch."""
    encode(sequences[:BATCH])  # starts threads and compiles tables
    started = time.perf_counter()
    for first in range(0, len(sequences), BATCH):
        encode(sequences[first : first + BATCH])
    return sum(map(len, sequences)) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
