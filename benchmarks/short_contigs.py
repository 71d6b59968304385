"""Time of an assembly of short contigs, compared with one contig of the same sequence.

python benchmarks/short_contigs.py [--contigs 1000] [--length 100] [--model compact] [--rounds 3]

Both are annotated by turns in one process, so that other work on the machine distorts both alike. Printed are the
medians of CPU seconds, their ratio, and the number of files in the journal.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from zflipon.config import Selection
from zflipon.genome.fasta import Genome
from zflipon.genome.shards import make_plan
from zflipon.models import load
from zflipon.workflows.annotate import annotate


def main() -> None:
    """Measure, and print one line per input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--contigs", type=int, default=1000)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    checkpoint = load(arguments.model)
    with tempfile.TemporaryDirectory(prefix="short-contigs-") as scratch:
        genomes = write_genomes(Path(scratch), arguments.contigs, arguments.length)
        seconds: dict[str, list[float]] = {name: [] for name in genomes}
        for number in range(arguments.rounds + 1):
            for name, genome in genomes.items():
                outputs = [genome.with_suffix(extension) for extension in (".bw", ".bed")]
                started = time.process_time()
                annotate(genome, outputs, checkpoint, force=True)
                if number:  # the first calls build tables and indexes
                    seconds[name].append(time.process_time() - started)
        medians = {name: float(np.median(values)) for name, values in seconds.items()}
        for name, genome in genomes.items():
            with Genome(genome) as source:
                metadata = checkpoint.metadata
                shards = make_plan(source, Selection(), metadata.window, metadata.margin).shards
            print(f"{name}: {medians[name]:.2f} CPU seconds, {len(shards)} journal files")
    one, many = medians.values()
    print(f"{arguments.model}: {many / one:.2f} x the time of one contig")


def write_genomes(folder: Path, contigs: int, length: int) -> dict[str, Path]:
    """Write the same random sequence as one contig and as many; return their paths by a description."""
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), length)) for _ in range(contigs)]
    one, many = folder / "one.fa", folder / "many.fa"
    one.write_text(">one\n" + "".join(f"{sequence}\n" for sequence in sequences))
    many.write_text("".join(f">contig{i}\n{sequence}\n" for i, sequence in enumerate(sequences)))
    return {f"one contig of {contigs * length:,} bp": one, f"{contigs:,} contigs of {length} bp": many}


if __name__ == "__main__":
    main()
