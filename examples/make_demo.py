"""Write a SYNTHETIC genome for trying zflipon: demo.fa, and the planted Z-DNA in demo_truth.bed.

No base comes from an organism. The genome resembles human DNA in the properties that matter for Z-DNA: CpG-poor
sequence with drifting GC content, CpG islands, soft-masked repeats, a gap, and runs of alternating purine and
pyrimidine. All of these runs can form Z-DNA. Those in CpG islands and in GC-rich, promoter-like regions are the truth.
About four times as many runs are decoys in other places, mostly in masked repeats: in human DNA, too, about one in five
Z-forming runs is labelled as Z-DNA.
"""

import argparse
from bisect import bisect
from itertools import accumulate
from pathlib import Path

import numpy as np

SEED = 2026
CONTIGS = {"synthetic1": 130_000, "synthetic2": 68_500, "synthetic3": 1_500}
"""Name → length; the last is shorter than the windows of most models."""

GAP = {"synthetic1": 3_000}
"""Name → number of N in the middle of the contig, like a gap between two scaffolds."""

LINE = 60
"""Bases per FASTA line."""

GC_RICH_SPACING = 9_500
"""Bases of sequence per GC-rich region."""

GC_RICH = {"island": (0.66, 0.85, (700, 1500)), "promoter": (0.61, 0.5, (500, 900))}
"""Kind of GC-rich region → GC content, CpG odds, shortest and longest length."""

ODDS = {"CG": 0.18, "TG": 1.2, "CA": 1.2, "TA": 0.76, "AA": 1.12, "TT": 1.12, "CC": 1.22, "GG": 1.22}
"""Dinucleotide → observed over expected frequency in human DNA."""

REPEATS = {
    "short": (290, 0.52, 18),
    "long": (2200, 0.40, 20),
    "terminal": (430, 0.45, 0),
    "old": (180, 0.38, 0),
}
"""Invented repeat → length, GC content, length of the poly-A tail."""

INERT = ("A", "T", "GAA", "TTC", "GGAA", "TTCC", "AAAT")
"""Units of simple repeats that do not form Z-DNA."""

LONGEST_CHANCE_RUN = 11
"""Longest alternating run that may arise by chance; longer ones were planted."""

COMPLEMENT = str.maketrans("ACGTacgt", "TGCAtgca")
"""Complement: exchanges purine and pyrimidine, and keeps the GC content."""


class RandomStream:
    """Random numbers from the raw bits of PCG64, the only stream that numpy guarantees not to change."""

    def __init__(self, seed: int):
        self._bits = np.random.PCG64(seed)

    def points(self, n: int) -> list[float]:
        """Return n numbers in [0, 1)."""
        return [(int(raw) >> 11) * 2.0**-53 for raw in self._bits.random_raw(n)]

    def chance(self, share: float) -> bool:
        """Return True with a probability of `share`."""
        return self.points(1)[0] < share

    def between(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * self.points(1)[0]

    def integer(self, low: int, high: int) -> int:
        """Return an integer from low to high, inclusive."""
        return int(self.between(low, high + 1))

    def choose(self, options):
        """Return one of the options at random."""
        return options[self.integer(0, len(options) - 1)]


# ---- kinds of sequence --------------------------------------------------------------------------------------


def markov(random: RandomStream, bases: int, gc: float, cpg: float = ODDS["CG"]) -> str:
    """Return a first-order Markov sequence."""
    alone = {"A": (1 - gc) / 2, "C": gc / 2, "G": gc / 2, "T": (1 - gc) / 2}
    odds = ODDS | {"CG": cpg}
    after = {a: list(accumulate(share * odds.get(a + b, 1.0) for b, share in alone.items())) for a in alone}
    drawn = "A"
    for point in random.points(bases):
        reached = after[drawn[-1]]
        drawn += "ACGT"[bisect(reached, point * reached[-1], hi=3)]
    return drawn[1:]


def alternating(random: RandomStream, bases: int, strong: float) -> str:
    """Return alternating purines and pyrimidines: C or G with a probability of `strong`, never A next to T."""
    drawn, first = "", random.integer(0, 1)
    for at, point in enumerate(random.points(bases), first):
        weak = point >= strong and drawn[-1:] not in ("A", "T")
        drawn += ("AT" if weak else "GC")[at % 2]
    return drawn


def truth_run(random: RandomStream) -> str:
    """Return a true run: (CG)n, or CG steps mixed with TG and CA."""
    bases = random.integer(20, 40) if random.chance(0.25) else random.integer(14, 22)
    return alternating(random, bases, random.choose((1.0, 0.85, 0.7, 0.7)))


def decoy_run(random: RandomStream) -> str:
    """Return a decoy: (TG)n or (CA)n, mostly soft-masked, or a mixed run with few CG."""
    if random.chance(0.65):
        run = (random.choose(("TG", "GT", "CA", "AC")) * 25)[: random.integer(14, 50)]
    else:
        run = alternating(random, random.integer(14, 22), 0.6)
    return run.lower() if random.chance(0.8) else run


def inert_repeat(random: RandomStream) -> str:
    """Return a simple repeat that does not form Z-DNA."""
    return (random.choose(INERT) * 40)[: random.integer(18, 40)].lower()


def repeat_copy(random: RandomStream, consensus: str) -> str:
    """Return a diverged, soft-masked copy of a repeat on either strand, often truncated at its start."""
    divergence = random.between(0.05, 0.2)
    length = min(len(consensus), random.integer(len(consensus) // 4, 2 * len(consensus)))
    copy = "".join(
        base if point >= divergence else "ACGT"[int(4 * point / divergence)]
        for base, point in zip(consensus[-length:], random.points(length), strict=True)
    )
    return (copy if random.chance(0.5) else copy.translate(COMPLEMENT)[::-1]).lower()


# ---- a contig -----------------------------------------------------------------------------------------------


class Contig:
    """A contig built from left to right, with the 0-based half-open intervals of its features."""

    def __init__(self):
        self.pieces, self.length = [], 0
        self.truth, self.decoys, self.rich = [], [], []

    def add(self, piece: str, intervals: list | None = None) -> None:
        """Append sequence; add its interval to `intervals`."""
        if intervals is not None:
            intervals.append((self.length, self.length + len(piece)))
        self.pieces.append(piece)
        self.length += len(piece)

    def sequence(self, length: int) -> str:
        """Return the first `length` bases, with long alternating runs only where they were planted."""
        bases, planted, run = list("".join(self.pieces)[:length]), np.zeros(length, dtype=bool), 1
        for start, end in self.truth + self.decoys:
            planted[start:end] = True
        for at in range(1, length):
            alternates = (bases[at] in "AGag") != (bases[at - 1] in "AGag")
            run = run + 1 if alternates else 1
            long = run > LONGEST_CHANCE_RUN and not planted[at]
            if alternates and (long or planted[at] != planted[at - 1]):
                other = at - 1 if planted[at] else at
                bases[other] = bases[other].translate(COMPLEMENT)
                run = 1
        return "".join(bases)


def add_rich(random: RandomStream, contig: Contig, most: int) -> None:
    """Append a CpG island or promoter-like region, with flanks and one to three true runs."""
    gc, cpg, (low, high) = GC_RICH[random.choose(("island", "island", "promoter"))]
    bases = min(random.integer(low, high), most)
    count = max(1, bases // 450)
    contig.add(markov(random, 200, 0.52))
    start = contig.length
    for _ in range(count):
        contig.add(markov(random, bases // (count + 1) + random.integer(-60, 60), gc, cpg))
        contig.add(truth_run(random), contig.truth)
    contig.add(markov(random, bases // (count + 1), gc, cpg))
    contig.rich.append((start, contig.length))
    contig.add(markov(random, 200, 0.52))


def add_common(random: RandomStream, contig: Contig, gc: float, consensus: list[str]) -> None:
    """Append unique sequence, then a repeat; each has a decoy with a probability of one half."""
    unique, copy = markov(random, random.integer(200, 900), gc), repeat_copy(random, random.choose(consensus))
    for piece in (unique, copy):
        middle = random.integer(len(piece) // 4, 3 * len(piece) // 4)
        contig.add(piece[:middle])
        if random.chance(0.5):
            contig.add(decoy_run(random), contig.decoys)
        elif random.chance(0.2):
            contig.add(inert_repeat(random))
        contig.add(piece[middle:])


def make_contig(random: RandomStream, length: int, gap: int, consensus: list[str]) -> Contig:
    """Build a contig: common sequence, GC-rich regions at intervals, a gap in the middle."""
    contig, gc = Contig(), random.between(0.38, 0.44)
    due = [GC_RICH_SPACING * (i + random.between(0.1, 0.4)) for i in range(length // GC_RICH_SPACING)] or [0]
    while contig.length < length:
        if due and contig.length >= due[0]:
            add_rich(random, contig, length // 2)
            due.pop(0)
        elif gap and contig.length >= length // 2:
            contig.add("N" * gap)
            gap = 0
        else:
            add_common(random, contig, gc, consensus)
            gc = min(max(gc + random.between(-0.03, 0.03), 0.35), 0.48)  # isochores: GC content drifts
    return contig


# ---- files --------------------------------------------------------------------------------------------------


def cpg_ratio(sequence: str) -> float:
    """Return observed over expected CpG (Gardiner-Garden and Frommer 1987)."""
    return sequence.count("CG") * len(sequence) / max(1, sequence.count("C") * sequence.count("G"))


def print_composition(name: str, sequence: str, contig: Contig) -> None:
    """Print a contig's composition."""
    inside = "".join(sequence[start:end] for start, end in contig.rich).upper()
    edges = [0, *(edge for region in contig.rich for edge in region), len(sequence)]
    outside = "".join(sequence[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)).upper()
    for place, bases in (("GC-rich regions", inside), ("elsewhere", outside.replace("N", ""))):
        gc = (bases.count("G") + bases.count("C")) / len(bases)
        print(f"{name}\t{place}\t{len(bases)} bases\tGC {gc:.2f}\tCpG o/e {cpg_ratio(bases):.2f}")
    masked = sum(map(str.islower, sequence)) / len(sequence)
    counts = f"{len(contig.truth)} true runs\t{len(contig.decoys)} decoys"
    print(f"{name}\tmasked {masked:.0%}\t{sequence.count('N')} N\t{counts}")


def main() -> None:
    """Write demo.fa and demo_truth.bed."""
    parser = argparse.ArgumentParser(description="Write a synthetic genome and its planted Z-DNA.")
    here = Path(__file__).parent
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=here,
        help="Folder to write to.  [default: the folder of this script]",
    )
    folder = parser.parse_args().output
    random = RandomStream(SEED)
    consensus = [markov(random, bases, gc) + "A" * tail for bases, gc, tail in REPEATS.values()]
    paths = folder / "demo.fa", folder / "demo_truth.bed"
    with open(paths[0], "w", newline="\n") as fasta, open(paths[1], "w", newline="\n") as bed:
        for name, length in CONTIGS.items():
            contig = make_contig(random, length, GAP.get(name, 0), consensus)
            sequence = contig.sequence(length)
            print(f">{name} SYNTHETIC, written by make_demo.py, from no organism", file=fasta)
            print(*(sequence[at : at + LINE] for at in range(0, length, LINE)), sep="\n", file=fasta)
            for start, end in contig.truth:
                print(name, start, end, "planted", sep="\t", file=bed)
            print_composition(name, sequence, contig)


if __name__ == "__main__":
    main()
