"""Cost of an allele: every substitution of a region together, compared with one allele at a time.

python benchmarks/saturation.py [--model compact] [--bases 64] [--alone 4] [--precision float32] [--threads 1]

The region is the middle of random DNA with repeats of CG. Prints CPU milliseconds per allele (of all threads, so that
other programs on the machine do not count) of

(a) one allele at a time: one forward pass for the reference window and one for the alternative window,
(b) `zflipon variants`: batches, in which neighbours share the window of the reference,
(c) `zflipon variants --saturate`: states that a substitution does not change are computed once,

the ratios (a)/(c) and (b)/(c), and the largest difference of a gain or loss between (a) and (c). On a GPU the times are
those of the clock.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zflipon.config import InferenceConfig, VariantConfig
from zflipon.genome.fasta import Genome
from zflipon.jobs.distributed import process_state
from zflipon.workflows.session import FeatureFiles, open_session
from zflipon.workflows.variants import Geometry
from zflipon.workflows.variants.saturation import SaturationRun, list_alleles
from zflipon.workflows.variants.saturation_scoring import score_together
from zflipon.workflows.variants.scoring_run import score_one_by_one

CONTIG, START = "chr1", 20_000


def main() -> None:
    """Measure and print."""
    arguments = parse()
    settings = InferenceConfig(
        device=arguments.device, precision=arguments.precision, threads=arguments.threads
    )
    letters = np.random.default_rng(0).choice(list("ACGT"), 2 * START)
    for start in range(500, 2 * START, 1000):
        letters[start : start + 20] = list("CG" * 10)
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder) / "random.fa"
        fasta.write_text(f">{CONTIG}\n{''.join(letters)}\n")
        with Genome(fasta) as genome:
            run = open_run(arguments.model, genome, settings)
            measure(run, arguments)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="compact")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bases", type=int, default=64, help="bases of the saturated region")
    parser.add_argument("--alone", type=int, default=4, help="alleles of (a)")
    parser.add_argument("--batch", type=int, default=16, help="alleles of (b)")
    return parser.parse_args()


def open_run(model: str, genome: Genome, settings: InferenceConfig) -> SaturationRun:
    """Return a run over no region, with the model loaded."""
    config = VariantConfig()
    session = open_session(process_state(settings.device), model, settings, FeatureFiles(), genome.lengths)
    metadata = session.checkpoint.metadata
    geometry = Geometry.fit(metadata.window, metadata.margin, config)
    return SaturationRun(genome, config, geometry, session, {}, {}, False, 1024)


def measure(run: SaturationRun, arguments: argparse.Namespace) -> None:
    """Score alleles in the three ways, and print the cost of each."""
    clock = time.perf_counter if run.session.predictor.device.type != "cpu" else time.process_time
    alleles = [
        (CONTIG, *allele) for allele in list_alleles(run.genome, CONTIG, START, START + arguments.bases)
    ]
    step = max(1, len(alleles) // arguments.alone)
    few = alleles[::step][: arguments.alone]

    def timed(function: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
        started = clock()
        result = function()
        return 1000 * (clock() - started) / len(result), result

    def nothing(*_progress: int) -> None:
        pass

    score_together(run, alleles[:1], nothing)  # the first calls are slow
    score_one_by_one(run, few[:1], nothing)
    together, all_scores = timed(lambda: score_together(run, alleles, nothing))
    alone, few_scores = timed(
        lambda: np.concatenate([score_one_by_one(run, [allele], nothing) for allele in few])
    )
    batched, _ = timed(lambda: score_one_by_one(run, alleles[: arguments.batch], nothing))
    same = all_scores[::step][: arguments.alone]
    difference = max(float(np.abs(same[name] - few_scores[name]).max()) for name in ("gain", "loss"))
    print(
        f"{arguments.model}, {run.session.describe()}, {len(alleles)} substitutions of {arguments.bases} bases\n"
        f"(a) one at a time  {alone:10.2f} ms per allele ({len(few)} alleles)\n"
        f"(b) batches        {batched:10.2f} ms per allele ({arguments.batch} alleles)\n"
        f"(c) saturated      {together:10.2f} ms per allele\n"
        f"(a)/(c) {alone / together:.1f}, (b)/(c) {batched / together:.1f}; gains and losses differ by at most "
        f"{difference:.1g}"
    )


if __name__ == "__main__":
    main()
