"""Time and memory of `zflipon genes` on a synthetic annotation of the size of GENCODE.

    python benchmarks/genes.py [--genes 60000] [--calls 50000] [--folder FOLDER]

Writes a GTF of as many lines as GENCODE's comprehensive annotation (about 3 million for 60,000 genes) and random calls
on contigs of about the lengths of hg38, runs the command in a new process, and prints wall time and peak memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LENGTHS = {f"chr{number}": int(2.5e8 - 9e6 * number) for number in range(1, 23)} | {"chrX": 156_040_895}
TYPES = ("protein_coding", "lncRNA", "processed_pseudogene")


def write_gtf(path: Path, genes: int, seed: int = 1) -> int:
    """Write an annotation in the style of GENCODE; return its number of lines."""
    rng = np.random.default_rng(seed)
    names = list(LENGTHS)
    shares = np.array(list(LENGTHS.values())) / sum(LENGTHS.values())
    lines = 0
    with open(path, "w", encoding="utf-8") as file:
        file.write("##description: synthetic annotation\n##provider: zflipon\n")
        for number in range(genes):
            contig = names[rng.choice(len(names), p=shares)]
            start = int(rng.integers(1, LENGTHS[contig] - 200_000))
            text = gene_lines(rng, number, contig, start)
            file.write("".join(text))
            lines += len(text)
    return lines


def gene_lines(rng: np.random.Generator, number: int, contig: str, start: int) -> list[str]:
    """Return the lines of one gene: on average 4 transcripts of 6 exons."""
    strand, kind = "+-"[number % 2], TYPES[number % 3]
    common = f'gene_id "ENSG{number:011d}.5"; '
    tail = (
        f'gene_type "{kind}"; gene_name "GENE{number}"; transcript_type "{kind}"; transcript_name "GENE{number}-201"; '
        'level 2; transcript_support_level "1"; hgnc_id "HGNC:12345"; tag "basic"; tag "Ensembl_canonical"; '
        'tag "CCDS"; '
        'ccdsid "CCDS30547.2"; havana_gene "OTTHUMG00000001094.4"; havana_transcript "OTTHUMT00000003223.4";\n'
    )
    exons = np.sort(rng.integers(0, 60_000, 12)) + start
    row = f"{contig}\tHAVANA\t%s\t%d\t%d\t.\t{strand}\t.\t{common}"
    lines = [row % ("gene", exons[0], exons[-1] + 150) + tail]
    for transcript in range(4):
        name = f'transcript_id "ENST{number * 8 + transcript:011d}.3"; '
        chosen = exons[transcript % 3 :: 2][:6]
        if kind == TYPES[0]:
            chosen = exons[transcript % 2 :]
        lines.append(row % ("transcript", chosen[0], chosen[-1] + 150) + name + tail)
        for index, exon in enumerate(chosen, 1):
            rest = f'{name}exon_number {index}; exon_id "ENSE{number * 64 + index:011d}.1"; ' + tail
            lines.append(row % ("exon", exon, exon + 150) + rest)
            if kind == TYPES[0] and 1 < index < len(chosen):
                lines.append(row % ("CDS", exon, exon + 150) + rest)
            elif kind == TYPES[0]:
                lines.append(row % ("UTR", exon, exon + 150) + rest)
        if kind == TYPES[0]:
            lines.append(row % ("start_codon", chosen[1], chosen[1] + 2) + name + tail)
            lines.append(row % ("stop_codon", chosen[-2] + 151, chosen[-2] + 153) + name + tail)
    return lines


def write_calls(path: Path, calls: int, seed: int = 2) -> None:
    """Write random calls in the format of annotate."""
    rng = np.random.default_rng(seed)
    with open(path, "w", encoding="utf-8") as file:
        for contig, length in LENGTHS.items():
            number = round(calls * length / sum(LENGTHS.values()))
            starts = np.sort(rng.integers(0, length - 100, number))
            for start, size in zip(starts.tolist(), rng.integers(12, 60, number).tolist(), strict=True):
                end = start + size
                file.write(f"{contig}\t{start}\t{end}\tZ\t700\t.\t{start}\t{end}\t0,0,0\t0.7\t0.9\n")


def main() -> None:
    """Make the data, run the command, and print what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--genes", type=int, default=60_000)
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="keep the data here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        gtf, bed = folder / "genes.gtf", folder / "calls.bed"
        if not gtf.exists():
            print(f"{write_gtf(gtf, options.genes):,} lines, {gtf.stat().st_size / 1e9:.2f} GB: {gtf}")
        write_calls(bed, options.calls)
        begin = time.perf_counter()
        command = [sys.executable, "-m", "zflipon", "genes", str(bed), "--gtf", str(gtf)]
        subprocess.run([*command, "-o", str(folder / "table.tsv"), "--force"], check=True, env=os.environ)
        seconds = time.perf_counter() - begin
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"wall {seconds:.1f} s, CPU {usage.ru_utime + usage.ru_stime:.1f} s, "
            f"peak memory {usage.ru_maxrss / 1e6:.2f} GB"
        )


if __name__ == "__main__":
    main()
