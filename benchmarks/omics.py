"""What omics tracks are worth: average precision against the number of tracks, and the speed with none and with all.

python benchmarks/omics.py DATA TRACKS.tsv OUT [--model compact-omics] [--model NAME=FOLDER …] [--curve] [--draws 3]

DATA holds ``hg19_part.fa.gz``, ``kouzine.bed`` and ``blacklist.bed``; TRACKS.tsv is a table of tracks as
``zflipon annotate --features`` takes it. Contigs that the models were not trained on are read; compact-omics, which was
trained on all of them, is represented by its first held-out model (``benchmarks/held_out_models``). The table has a row
for each model: parameters, training steps and megabases of windows read in them, average precision and F1 over every
base with all tracks, without tracks if the model allows it, and bases per second.
``--curve`` adds the first model with fewer and fewer tracks, drawn at random, the windows that it can
call alone being read (the model's screen). OUT gets ``omics.csv`` and, where matplotlib is installed, ``omics.png``.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np

from zflipon.config import MIN_GAP, OMICS_MODEL, InferenceConfig
from zflipon.energetics.screen import screen_windows
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import interval_mask, merge_by_contig
from zflipon.genome.windows import tile_windows
from zflipon.inference.genome_scan import ScanTask, scan_genome
from zflipon.inference.predictor import Predictor
from zflipon.metrics import ScoreHistogram
from zflipon.models import ModelMetadata, load
from zflipon.omics.features import FeatureTracks, open_model_features

HELD_OUT = f"{OMICS_MODEL}={Path(__file__).parent / 'held_out_models' / OMICS_MODEL / '1'}"
COUNTS = (0, 1, 2, 5, 10, 20, 30)


def main() -> None:
    """Measure, and print the table and the curve."""
    arguments = parse()
    data, out = Path(arguments.data), Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    named = [pair.split("=", 1) if "=" in pair else (pair, pair) for pair in arguments.model or [HELD_OUT]]
    with Genome(data / "hg19_part.fa.gz") as genome:
        ground = EvaluationRegions(genome, data)
        rows = [row for name, model in named for row in compared(ground, name, model, arguments.tracks)]
        print(table(rows))
        if arguments.curve:
            curve = list(fewer_tracks(ground, named[0][1], arguments.tracks, arguments.draws))
            print(told(curve))
            save(out, curve)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("tracks")
    parser.add_argument("out")
    parser.add_argument("--model", action="append", help="a model, or NAME=MODEL; several times for several")
    parser.add_argument("--curve", action="store_true", help="measure the first model with fewer tracks too")
    parser.add_argument("--draws", type=int, default=3, help="random sets of tracks of each number")
    return parser.parse_args()


class EvaluationRegions:
    """The genome, and what is true of it.

    Parameters
    ----------
    genome : Genome
    data : Path
        Folder with labels and blacklist.
    """

    def __init__(self, genome: Genome, data: Path):
        self.genome = genome
        self.labels, self.ignored = (
            merge_by_contig(read_bed(data / name, genome.lengths), genome.lengths)
            for name in ("kouzine.bed", "blacklist.bed")
        )

    def stretches(self, predictor: Predictor, contigs: list[str], screen: bool) -> list[ScanTask]:
        """Return the windows of contigs, and which of them are read."""
        found, metadata = [], predictor.metadata
        for contig in contigs:
            for start, end in self.genome.scan(contig, MIN_GAP).segments:
                windows = tile_windows(start, end, metadata.window, metadata.margin)
                for first in range(0, len(windows), 256):
                    part = windows[first : first + 256]
                    read = screen_windows(self.genome, contig, part, metadata.screen) if screen else None
                    found.append(ScanTask(contig, part, read))
        return found

    def measure(self, predictor: Predictor, stretches: list[ScanTask]) -> dict[str, float]:
        """Return average precision, F1 of the model's own calls and bases a second."""
        histogram, bases, begun = ScoreHistogram(), 0, time.perf_counter()
        for stretch, values in scan_genome(predictor, self.genome, stretches):
            start = int(stretch.windows["core_start"][0])
            place = (start, start + len(values))
            counted = ~np.isnan(values) & ~interval_mask(self.ignored.get(stretch.contig), *place)
            histogram.add(
                values[counted].astype(np.float64),
                interval_mask(self.labels.get(stretch.contig), *place)[counted],
            )
            bases += len(values)
        spent = time.perf_counter() - begun
        return {
            "average_precision": histogram.average_precision(),
            "f1": histogram.confusion_at(predictor.metadata.threshold).f1,
            "bases_per_second": bases / spent,
        }


def compared(ground: EvaluationRegions, name: str, model: str, table_of_tracks: str):
    """Yield a model's figures with all of its tracks and, if it bears that, with none."""
    checkpoint = load(model)
    contigs = list(checkpoint.metadata.training["validation_contigs"])
    about = {
        "model": name,
        "parameters": sum(weights.numel() for weights in checkpoint.module.parameters()),
        "trained": trained(checkpoint.metadata),
    }
    wanted = bool(checkpoint.metadata.features)
    tracks = open_model_features(checkpoint, table_of_tracks, ground.genome.lengths) if wanted else None
    predictor = Predictor(checkpoint, InferenceConfig(device="cpu"), features=tracks)
    stretches = ground.stretches(predictor, contigs, False)
    count = len(tracks.features) if wanted else 0
    yield {**about, "tracks": count, **ground.measure(predictor, stretches)}
    if wanted and checkpoint.metadata.allows_missing_features:
        predictor.features = tracks.drop_tracks(tracks.readers)
        yield {**about, "tracks": 0, **ground.measure(predictor, stretches)}


def trained(metadata: ModelMetadata) -> str:
    """Say how long a model was trained; a readout that is fitted to whole calls takes no steps."""
    stages = metadata.training.get("stages", [])
    steps = sum(stage["steps"] for stage in stages)
    bases = sum(stage["steps"] * stage["batch_size"] * stage["window"] for stage in stages)
    parts = [f"{steps:,} steps, {bases / 1e6:.0f} Mb"] if steps else []
    return ", ".join(parts + ["a readout"] * any(stage.get("readout") for stage in stages))


def fewer_tracks(ground: EvaluationRegions, model: str, table_of_tracks: str, draws: int):
    """Yield (number of tracks, average precision, F1) of random sets of tracks."""
    checkpoint = load(model)
    tracks = open_model_features(checkpoint, table_of_tracks, ground.genome.lengths)
    predictor = Predictor(checkpoint, InferenceConfig(device="cpu"), features=tracks)
    stretches = ground.stretches(predictor, list(checkpoint.metadata.training["validation_contigs"]), True)
    rng = np.random.default_rng(42)
    for count in (*COUNTS, len(tracks.features)):
        for _ in range(1 if count in (0, len(tracks.features)) else draws):
            predictor.features = some_of(tracks, count, rng)
            found = ground.measure(predictor, stretches)
            print(f"  {count} tracks: {found['average_precision']:.4f}", file=sys.stderr, flush=True)
            yield count, found["average_precision"], found["f1"]


def some_of(tracks: FeatureTracks, count: int, rng: np.random.Generator) -> FeatureTracks:
    """Return so many of the tracks, at random."""
    names = [feature.name for feature in tracks.features]
    return tracks.drop_tracks(rng.permutation(names)[: len(names) - count].tolist())


def table(rows: list[dict]) -> str:
    """Lay the figures out as Markdown."""
    lines = [
        "| | tracks | parameters | trained | AP, every base | F1 of calls | kb a second |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['tracks']} | {row['parameters']:,} | {row['trained']} | "
            f"{row['average_precision']:.3f} | "
            f"{row['f1']:.3f} | {row['bases_per_second'] / 1000:.0f} |"
        )
    return "\n".join(lines)


def told(curve: list[tuple[int, float, float]]) -> str:
    """Lay the curve out as Markdown: means over the draws."""
    lines = ["| tracks | AP, every base (mean, least, most) | F1 of calls |", "|---|---|---|"]
    for count in sorted({row[0] for row in curve}):
        precision, f1 = (np.array([row[i] for row in curve if row[0] == count]) for i in (1, 2))
        lines.append(
            f"| {count} | {precision.mean():.3f} ({precision.min():.3f}, {precision.max():.3f}) | {f1.mean():.3f} |"
        )
    return "\n".join(lines)


def save(out: Path, curve: list[tuple[int, float, float]]) -> None:
    """Write what was printed, and a plot of it."""
    with open(out / "omics.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["tracks", "average_precision", "f1"])
        writer.writerows(curve)
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return
    figure = Figure(figsize=(4.8, 3.6), layout="constrained")
    axes = figure.subplots()
    counts = sorted({row[0] for row in curve})
    axes.plot([row[0] for row in curve], [row[1] for row in curve], ".", color="0.6", ms=5)
    axes.plot(
        counts, [np.mean([row[1] for row in curve if row[0] == count]) for count in counts], color="#4a1486"
    )
    axes.set(xlabel="omics tracks given", ylabel="average precision, every base")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / "omics.png", dpi=150)


if __name__ == "__main__":
    main()
