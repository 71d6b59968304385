"""Write a SYNTHETIC genome to try zflipon on: demo.fa, and demo_truth.bed with what was planted in it.

No base of it comes from an organism. It only resembles human DNA in what tells
Z-DNA apart there: CpG-poor sequence whose GC content drifts, CpG islands,
soft-masked repeats, a gap, and runs of alternating purine and pyrimidine. Such
runs can all turn left-handed. Those in CpG islands and in GC-rich promoter-like
stretches are the truth; about four times as many lie elsewhere, mostly in masked
repeats, and are not, as about one Z-forming call in five is labelled in human DNA.
"""

import argparse
from bisect import bisect
from itertools import accumulate
from pathlib import Path

import numpy as np

SEED = 2026
CONTIGS = {"synthetic1": 130_000, "synthetic2": 68_500, "synthetic3": 1_500}
"""Name → bases; the last is shorter than a window of most models."""

GAP = {"synthetic1": 3_000}
"""Name → N in the middle of the contig, as between two scaffolds."""

LINE = 60
"""Bases of a FASTA line."""

RICH_EVERY = 9_500
"""Bases of sequence for each GC-rich stretch."""

RICH = {"island": (0.66, 0.85, (700, 1500)), "promoter": (0.61, 0.5, (500, 900))}
"""GC-rich stretch → GC content, CpG odds, least and most bases."""

ODDS = {"CG": 0.18, "TG": 1.2, "CA": 1.2, "TA": 0.76, "AA": 1.12, "TT": 1.12, "CC": 1.22, "GG": 1.22}
"""Dinucleotides that are rarer or more common in human DNA than their bases alone would make them."""

REPEATS = {
    "short": (290, 0.52, 18),
    "long": (2200, 0.40, 20),
    "terminal": (430, 0.45, 0),
    "old": (180, 0.38, 0),
}
"""Made-up repeat → bases, GC content, A at its end."""

INERT = ("A", "T", "GAA", "TTC", "GGAA", "TTCC", "AAAT")
"""Units of simple repeats that do not form Z-DNA."""

LONGEST_CHANCE_RUN = 11
"""Bases of alternation that may arise by chance; what is longer was planted."""

FLIP = str.maketrans("ACGTacgt", "TGCAtgca")
"""A purine for a pyrimidine and the other way round, with the GC content kept."""


class Dice:
    """Draws from raw bits: the one stream that numpy promises never to change."""

    def __init__(self, seed: int):
        self._bits = np.random.PCG64(seed)

    def points(self, n: int) -> list[float]:
        """Return n numbers from 0 up to 1."""
        return [(int(raw) >> 11) * 2.0**-53 for raw in self._bits.random_raw(n)]

    def chance(self, share: float) -> bool:
        """Return True in this share of the draws."""
        return self.points(1)[0] < share

    def between(self, low: float, high: float) -> float:
        """Return a number from low up to high."""
        return low + (high - low) * self.points(1)[0]

    def integer(self, low: int, high: int) -> int:
        """Return an integer from low to high, both included."""
        return int(self.between(low, high + 1))

    def choose(self, options):
        """Return one of the options."""
        return options[self.integer(0, len(options) - 1)]


# ---- kinds of sequence --------------------------------------------------------------------------------------


def markov(dice: Dice, bases: int, gc: float, cpg: float = ODDS["CG"]) -> str:
    """Draw bases, each of which depends on the one before."""
    alone = {"A": (1 - gc) / 2, "C": gc / 2, "G": gc / 2, "T": (1 - gc) / 2}
    odds = ODDS | {"CG": cpg}
    after = {a: list(accumulate(share * odds.get(a + b, 1.0) for b, share in alone.items())) for a in alone}
    drawn = "A"
    for point in dice.points(bases):
        reached = after[drawn[-1]]
        drawn += "ACGT"[bisect(reached, point * reached[-1], hi=3)]
    return drawn[1:]


def alternating(dice: Dice, bases: int, strong: float) -> str:
    """Alternate purines and pyrimidines, C or G with a probability of `strong`; A and T never meet."""
    drawn, first = "", dice.integer(0, 1)
    for at, point in enumerate(dice.points(bases), first):
        weak = point >= strong and drawn[-1:] not in ("A", "T")
        drawn += ("AT" if weak else "GC")[at % 2]
    return drawn


def truth_run(dice: Dice) -> str:
    """Return a run of (CG)n, or of CG steps mixed with TG and CA."""
    bases = dice.integer(20, 40) if dice.chance(0.25) else dice.integer(14, 22)
    return alternating(dice, bases, dice.choose((1.0, 0.85, 0.7, 0.7)))


def decoy_run(dice: Dice) -> str:
    """Return (TG)n or (CA)n, mostly soft-masked, or a mixed run with few CG."""
    if dice.chance(0.65):
        run = (dice.choose(("TG", "GT", "CA", "AC")) * 25)[: dice.integer(14, 50)]
    else:
        run = alternating(dice, dice.integer(14, 22), 0.6)
    return run.lower() if dice.chance(0.8) else run


def inert_repeat(dice: Dice) -> str:
    """Return a simple repeat that does not form Z-DNA."""
    return (dice.choose(INERT) * 40)[: dice.integer(18, 40)].lower()


def repeat_copy(dice: Dice, consensus: str) -> str:
    """Return a diverged copy of a repeat, soft-masked, on either strand and often without its beginning."""
    divergence = dice.between(0.05, 0.2)
    kept = min(len(consensus), dice.integer(len(consensus) // 4, 2 * len(consensus)))
    copy = "".join(
        base if point >= divergence else "ACGT"[int(4 * point / divergence)]
        for base, point in zip(consensus[-kept:], dice.points(kept), strict=True)
    )
    return (copy if dice.chance(0.5) else copy.translate(FLIP)[::-1]).lower()


# ---- a contig -----------------------------------------------------------------------------------------------


class Contig:
    """A contig that grows from left to right and remembers what lies where (0-based half-open)."""

    def __init__(self):
        self.pieces, self.length = [], 0
        self.truth, self.decoys, self.rich = [], [], []

    def add(self, piece: str, noted: list | None = None) -> None:
        """Append a piece; `noted` is the list to note its place in."""
        if noted is not None:
            noted.append((self.length, self.length + len(piece)))
        self.pieces.append(piece)
        self.length += len(piece)

    def sequence(self, length: int) -> str:
        """Return the first bases; no alternation is long but the planted ones, and those end where noted."""
        bases, planted, run = list("".join(self.pieces)[:length]), np.zeros(length, dtype=bool), 1
        for start, end in self.truth + self.decoys:
            planted[start:end] = True
        for at in range(1, length):
            alternates = (bases[at] in "AGag") != (bases[at - 1] in "AGag")
            run = run + 1 if alternates else 1
            long = run > LONGEST_CHANCE_RUN and not planted[at]
            if alternates and (long or planted[at] != planted[at - 1]):
                other = at - 1 if planted[at] else at
                bases[other] = bases[other].translate(FLIP)
                run = 1
        return "".join(bases)


def add_rich(dice: Dice, contig: Contig, most: int) -> None:
    """Append a CpG island or a promoter-like stretch, with shoulders and one to three true runs."""
    gc, cpg, (low, high) = RICH[dice.choose(("island", "island", "promoter"))]
    bases = min(dice.integer(low, high), most)
    count = max(1, bases // 450)
    contig.add(markov(dice, 200, 0.52))
    start = contig.length
    for _ in range(count):
        contig.add(markov(dice, bases // (count + 1) + dice.integer(-60, 60), gc, cpg))
        contig.add(truth_run(dice), contig.truth)
    contig.add(markov(dice, bases // (count + 1), gc, cpg))
    contig.rich.append((start, contig.length))
    contig.add(markov(dice, 200, 0.52))


def add_common(dice: Dice, contig: Contig, gc: float, consensus: list[str]) -> None:
    """Append unique sequence, then a repeat; many a time with a decoy in the one or the other."""
    unique, copy = markov(dice, dice.integer(200, 900), gc), repeat_copy(dice, dice.choose(consensus))
    for piece in (unique, copy):
        middle = dice.integer(len(piece) // 4, 3 * len(piece) // 4)
        contig.add(piece[:middle])
        if dice.chance(0.5):
            contig.add(decoy_run(dice), contig.decoys)
        elif dice.chance(0.2):
            contig.add(inert_repeat(dice))
        contig.add(piece[middle:])


def make_contig(dice: Dice, length: int, gap: int, consensus: list[str]) -> Contig:
    """Lay out a contig: common sequence, a GC-rich stretch now and then, a gap in the middle."""
    contig, gc = Contig(), dice.between(0.38, 0.44)
    due = [RICH_EVERY * (i + dice.between(0.1, 0.4)) for i in range(length // RICH_EVERY)] or [0]
    while contig.length < length:
        if due and contig.length >= due[0]:
            add_rich(dice, contig, length // 2)
            due.pop(0)
        elif gap and contig.length >= length // 2:
            contig.add("N" * gap)
            gap = 0
        else:
            add_common(dice, contig, gc, consensus)
            gc = min(max(gc + dice.between(-0.03, 0.03), 0.35), 0.48)  # isochores: GC content drifts
    return contig


# ---- files --------------------------------------------------------------------------------------------------


def cpg_ratio(sequence: str) -> float:
    """Return observed over expected CpG (Gardiner-Garden and Frommer 1987)."""
    return sequence.count("CG") * len(sequence) / max(1, sequence.count("C") * sequence.count("G"))


def tell(name: str, sequence: str, contig: Contig) -> None:
    """Print a contig's composition."""
    inside = "".join(sequence[start:end] for start, end in contig.rich).upper()
    edges = [0, *(edge for stretch in contig.rich for edge in stretch), len(sequence)]
    outside = "".join(sequence[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)).upper()
    for place, bases in (("GC-rich stretches", inside), ("elsewhere", outside.replace("N", ""))):
        gc = (bases.count("G") + bases.count("C")) / len(bases)
        print(f"{name}\t{place}\t{len(bases)} bases\tGC {gc:.2f}\tCpG o/e {cpg_ratio(bases):.2f}")
    masked = sum(map(str.islower, sequence)) / len(sequence)
    counts = f"{len(contig.truth)} true runs\t{len(contig.decoys)} decoys"
    print(f"{name}\tmasked {masked:.0%}\t{sequence.count('N')} N\t{counts}")


def main() -> None:
    """Write demo.fa and demo_truth.bed."""
    parser = argparse.ArgumentParser(description="Write a synthetic genome and the Z-DNA planted in it.")
    here = Path(__file__).parent
    parser.add_argument(
        "-o", "--output", type=Path, default=here, help="folder  [default: that of this script]"
    )
    folder = parser.parse_args().output
    dice = Dice(SEED)
    consensus = [markov(dice, bases, gc) + "A" * tail for bases, gc, tail in REPEATS.values()]
    written = folder / "demo.fa", folder / "demo_truth.bed"
    with open(written[0], "w", newline="\n") as fasta, open(written[1], "w", newline="\n") as bed:
        for name, length in CONTIGS.items():
            contig = make_contig(dice, length, GAP.get(name, 0), consensus)
            sequence = contig.sequence(length)
            print(f">{name} SYNTHETIC, written by make_demo.py, from no organism", file=fasta)
            print(*(sequence[at : at + LINE] for at in range(0, length, LINE)), sep="\n", file=fasta)
            for start, end in contig.truth:
                print(name, start, end, "planted", sep="\t", file=bed)
            tell(name, sequence, contig)


if __name__ == "__main__":
    main()
