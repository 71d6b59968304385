"""What the parts of `benchmarks/gpu.py` share: device, genome, models, batches, and how time is measured."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from throughput import resolve_model, synchronize

from zflipon.config import InferenceConfig, Selection
from zflipon.genome.fasta import Genome
from zflipon.inference.batching import Batch
from zflipon.inference.devices import resolve_device
from zflipon.inference.predictor import Predictor
from zflipon.models import Checkpoint, load
from zflipon.training.labelled_windows import LabelledWindows
from zflipon.workflows.annotate import annotate

GENOME = "genome.fa"
"""Random DNA in the scratch folder, if no genome is given."""

DINUCLEOTIDE_ODDS = {"CG": 0.2, "TG": 1.2, "CA": 1.2, "TA": 0.75}
"""Observed over expected frequency of some dinucleotides in human DNA."""

Z_FORMING_SPACING = 5_000
"""Bases of random DNA per run of alternating purine and pyrimidine."""


@dataclass(frozen=True)
class Setup:
    """What all parts share.

    Attributes
    ----------
    device : str
        As in `zflipon.config.InferenceConfig`.
    scratch : Path
        Folder of the random genome, created models and tracks.
    model, large : str
        Models as in `benchmarks/throughput.py`.
    genome : Path or None
    quick : bool
        Tiny sizes, which only show that a part runs.
    """

    device: str
    scratch: Path
    model: str = "compact"
    large: str = "dnabert2-117m"
    genome: Path | None = None
    quick: bool = False

    @cached_property
    def torch_device(self) -> torch.device:
        """The device itself."""
        return resolve_device(self.device)

    @property
    def fasta(self) -> Path:
        """The given genome, or random DNA that `write_genome` wrote."""
        return self.genome or self.scratch / GENOME

    @property
    def models(self) -> tuple[str, str]:
        """Both models."""
        return self.model, self.large

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions that are measured."""
        return ("float32",) if self.quick else ("bfloat16", "float32")

    def size(self, full: float, quick: float) -> int:
        """Return a size, which is smaller in quick mode."""
        return int(quick if self.quick else full)

    def checkpoint(self, name: str) -> Checkpoint:
        """Load a model; published shapes are created with random weights on the first use."""
        folder = self.scratch / name
        if name in ("dnabert2-117m", "dnabert-6mer-86m") and not folder.exists():
            with Genome(self.fasta) as genome:
                resolve_model(name, self.scratch, genome)
        return load(str(folder) if folder.exists() else name)

    def predictor(self, name: str, precision: str = "auto") -> Predictor:
        """Return a predictor of a model on the device."""
        return Predictor(self.checkpoint(name), InferenceConfig(device=self.device, precision=precision))


def write_genome(path: Path, bases: int) -> None:
    """Write random DNA with the dinucleotides of human DNA and runs that can form Z-DNA."""
    rng = np.random.default_rng(0)
    odds = np.array([[DINUCLEOTIDE_ODDS.get(a + b, 1.0) for b in "ACGT"] for a in "ACGT"])
    steps = (odds / odds.sum(1, keepdims=True)).cumsum(1)
    chains = max(1, bases // 10_000)  # written one after the other, computed together
    codes = np.empty((chains, -(-bases // chains)), dtype=np.uint8)
    letters = rng.integers(0, 4, chains)
    for position in range(codes.shape[1]):
        letters = (steps[letters] < rng.random(chains)[:, None]).sum(1).clip(max=3)
        codes[:, position] = letters
    text = np.frombuffer(b"ACGT", dtype=np.uint8)[codes.ravel()[:bases]]
    for start in range(1000, bases - 1000, Z_FORMING_SPACING):
        unit = np.frombuffer((b"CG", b"CA", b"TG")[rng.integers(3)], dtype=np.uint8)
        size = 2 * int(rng.integers(5, 20))
        text[start : start + size] = np.resize(unit, size)
    path.write_bytes(b">random1\n" + text.tobytes() + b"\n")


def windows_of(setup: Setup, count: int, width: int) -> list[str]:
    """Return sequences of the genome, from its longest contig."""
    with Genome(setup.fasta) as genome:
        contig = max(genome.lengths, key=genome.lengths.__getitem__)
        last = max(1, genome.lengths[contig] - width)
        starts = np.linspace(0, last - 1, count).astype(int).tolist()
        return [genome.fetch(contig, start, start + width).replace("N", "A") for start in starts]


def labelled(setup: Setup, count: int, width: int) -> LabelledWindows:
    """Return windows with random labels."""
    labels = (np.random.default_rng(1).random((count, width)) < 0.1).astype(np.int8)
    return LabelledWindows(windows_of(setup, count, width), labels)


def some_batches(setup: Setup, predictor: Predictor, count: int) -> list[Batch]:
    """Return batches of whole windows, as `annotate` forms them."""
    window, margin = predictor.metadata.window, predictor.metadata.margin
    size = predictor.profile.tokens_per_batch if not setup.quick else 64
    rows = max(2, count * size * 5 // window)
    sequences = windows_of(setup, min(rows, setup.size(1 << 16, 8)), window)
    cores = np.tile([margin, window - margin], (len(sequences), 1))
    return list(islice(predictor.batches(sequences, cores), count))


def forward(predictor: Predictor, batches: list[Batch]) -> None:
    """Run the model on batches and wait for the results."""
    for _, _, pending in predictor.executor.stream((None, batch) for batch in batches):
        predictor.executor.gather(pending)


def model_rate(setup: Setup, predictor: Predictor) -> float:
    """Return bases of cores per second of the model alone, without tokenization."""
    batches = some_batches(setup, predictor, setup.size(8, 1))
    core = predictor.metadata.window - 2 * predictor.metadata.margin
    bases = core * sum(len(batch.indices) for batch in batches)
    return bases / seconds_of(setup, lambda: forward(predictor, batches))


def seconds_of(setup: Setup, work: Callable[[], object]) -> float:
    """Return the shortest time of a few calls, after one call to warm up."""
    work()
    best = float("inf")
    for _ in range(setup.size(3, 1)):
        synchronize(setup.torch_device)
        started = time.perf_counter()
        work()
        synchronize(setup.torch_device)
        best = min(best, time.perf_counter() - started)
    return best


def count_waits(setup: Setup, work: Callable[[], object]) -> int | None:
    """Return how often the host waited for the GPU; None on other devices."""
    if setup.torch_device.type != "cuda":
        work()
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in caught)


def first_regions(genome: Genome, bases: int) -> Iterator[str]:
    """Yield regions with a given total of bases, from the longest contigs first."""
    for contig in sorted(genome.lengths, key=genome.lengths.__getitem__, reverse=True):
        size = min(bases, genome.lengths[contig])
        if size > 0:
            yield f"{contig}:1-{size}"
        bases -= size


def run_annotate(
    setup: Setup, name: str, output: str, bases: int, config: InferenceConfig | None = None
) -> dict:
    """Annotate the first bases of the genome; return the run record, with the path of the track."""
    with Genome(setup.fasta) as genome:
        regions = tuple(first_regions(genome, bases))
    path = setup.scratch / output
    report = annotate(
        setup.fasta,
        [str(path)],
        setup.checkpoint(name),
        Selection(regions=regions),
        settings=config or InferenceConfig(device=setup.device),
        force=True,
        restart=True,
    )
    return {**report, "path": path}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
