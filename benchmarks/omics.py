"""Benefit and cost of omics tracks: average precision by number of tracks, speed with all tracks and without.

python benchmarks/omics.py DATA TRACKS.tsv OUT --model NAME=FOLDER [--model NAME=FOLDER …] [--curve] [--draws 3]

DATA holds ``hg19_part.fa.gz``, ``kouzine.bed`` and ``blacklist.bed``; TRACKS.tsv is a table of tracks as
``zflipon annotate --features`` takes it. Models are evaluated on contigs that they were not trained on; compact-omics,
which was trained on all of them, is represented by its held-out model (``runs/compact-omics/held-out/1``). The table
has a row for each model: parameters, training steps and megabases of windows read in them, average precision and F1
over every base with all tracks, without tracks if the model allows it, and bases per second. ``--curve`` adds the first
model with random subsets of its tracks, on the windows that pass the model's prefilter. OUT gets ``omics.csv`` and, if
matplotlib is installed, ``omics.png``.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from zflipon.config import MIN_GAP, InferenceConfig
from zflipon.energetics.screen import screen_windows
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import interval_mask, merge_by_contig
from zflipon.genome.windows import tile_windows
from zflipon.inference.genome_scan import scan_genome
from zflipon.inference.predictor import Predictor
from zflipon.inference.scan_group import ScanTask
from zflipon.metrics import ScoreHistogram
from zflipon.models import ModelMetadata, load
from zflipon.omics.features import FeatureTracks, open_model_features
from zflipon.plots import GRID_COLOUR, NEUTRAL_COLOUR, SIGNAL_COLOUR, figure_style, new_figure, save_figure

COUNTS = (0, 1, 2, 5, 10, 20, 30)


def main() -> None:
    """Measure, and print the table and the curve."""
    arguments = parse()
    data, out = Path(arguments.data), Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    named = [pair.split("=", 1) if "=" in pair else (pair, pair) for pair in arguments.model]
    with Genome(data / "hg19_part.fa.gz") as genome:
        regions = EvaluationRegions(genome, data)
        rows = [row for name, model in named for row in measure_model(regions, name, model, arguments.tracks)]
        print(table(rows))
        if arguments.curve:
            curve = list(measure_subsets(regions, named[0][1], arguments.tracks, arguments.draws))
            print(curve_table(curve))
            save(out, curve)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("tracks")
    parser.add_argument("out")
    parser.add_argument(
        "--model", action="append", required=True, help="a model, or NAME=MODEL; several times for several"
    )
    parser.add_argument("--curve", action="store_true", help="measure the first model with fewer tracks too")
    parser.add_argument("--draws", type=int, default=3, help="random sets of tracks of each number")
    return parser.parse_args()


class EvaluationRegions:
    """The genome with its labels and blacklist.

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

    def scan_tasks(self, predictor: Predictor, contigs: list[str], screen: bool) -> list[ScanTask]:
        """Return the windows of contigs; with `screen`, only those that pass the model's prefilter are predicted."""
        tasks, metadata = [], predictor.metadata
        for contig in contigs:
            for start, end in self.genome.scan(contig, MIN_GAP).segments:
                windows = tile_windows(start, end, metadata.window, metadata.margin)
                for first in range(0, len(windows), 256):
                    part = windows[first : first + 256]
                    read = screen_windows(self.genome, contig, part, metadata.screen) if screen else None
                    tasks.append(ScanTask(contig, part, read))
        return tasks

    def measure(self, predictor: Predictor, tasks: list[ScanTask]) -> dict[str, float]:
        """Return average precision, F1 of the model's calls, and bases per second."""
        histogram, bases, begun = ScoreHistogram(), 0, time.perf_counter()
        for task, values in scan_genome(predictor, self.genome, tasks):
            start = int(task.windows["core_start"][0])
            span = (start, start + len(values))
            counted = ~np.isnan(values) & ~interval_mask(self.ignored.get(task.contig), *span)
            histogram.add(
                values[counted].astype(np.float64),
                interval_mask(self.labels.get(task.contig), *span)[counted],
            )
            bases += len(values)
        spent = time.perf_counter() - begun
        return {
            "average_precision": histogram.average_precision(),
            "f1": histogram.confusion_at(predictor.metadata.threshold).f1,
            "bases_per_second": bases / spent,
        }


def measure_model(regions: EvaluationRegions, name: str, model: str, table_of_tracks: str):
    """Yield the results of a model with all of its tracks and, if it allows that, without tracks."""
    checkpoint = load(model)
    contigs = list(checkpoint.metadata.training["validation_contigs"])
    about = {
        "model": name,
        "parameters": sum(weights.numel() for weights in checkpoint.module.parameters()),
        "trained": trained(checkpoint.metadata),
    }
    wanted = bool(checkpoint.metadata.features)
    tracks = open_model_features(checkpoint, table_of_tracks, regions.genome.lengths) if wanted else None
    predictor = Predictor(checkpoint, InferenceConfig(device="cpu"), features=tracks)
    tasks = regions.scan_tasks(predictor, contigs, False)
    count = len(tracks.features) if wanted else 0
    yield {**about, "tracks": count, **regions.measure(predictor, tasks)}
    if wanted and checkpoint.metadata.allows_missing_features:
        predictor.features = tracks.drop_tracks(tracks.readers)
        yield {**about, "tracks": 0, **regions.measure(predictor, tasks)}


def trained(metadata: ModelMetadata) -> str:
    """Return the number of training steps as text; a readout is fitted without steps."""
    stages = metadata.training.get("stages", [])
    steps = sum(stage["steps"] for stage in stages)
    bases = sum(stage["steps"] * stage["batch_size"] * stage["window"] for stage in stages)
    parts = [f"{steps:,} steps, {bases / 1e6:.0f} Mb"] if steps else []
    return ", ".join(parts + ["a readout"] * any(stage.get("readout") for stage in stages))


def measure_subsets(regions: EvaluationRegions, model: str, table_of_tracks: str, draws: int):
    """Yield (number of tracks, average precision, F1) of random sets of tracks."""
    checkpoint = load(model)
    tracks = open_model_features(checkpoint, table_of_tracks, regions.genome.lengths)
    predictor = Predictor(checkpoint, InferenceConfig(device="cpu"), features=tracks)
    tasks = regions.scan_tasks(predictor, list(checkpoint.metadata.training["validation_contigs"]), True)
    rng = np.random.default_rng(42)
    for count in (*COUNTS, len(tracks.features)):
        for _ in range(1 if count in (0, len(tracks.features)) else draws):
            predictor.features = random_subset(tracks, count, rng)
            result = regions.measure(predictor, tasks)
            print(f"  {count} tracks: {result['average_precision']:.4f}", file=sys.stderr, flush=True)
            yield count, result["average_precision"], result["f1"]


def random_subset(tracks: FeatureTracks, count: int, rng: np.random.Generator) -> FeatureTracks:
    """Return a random subset of the tracks."""
    names = [feature.name for feature in tracks.features]
    return tracks.drop_tracks(rng.permutation(names)[: len(names) - count].tolist())


def table(rows: list[dict]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| | tracks | parameters | trained | AP, every base | F1 of calls | kb per second |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['tracks']} | {row['parameters']:,} | {row['trained']} | "
            f"{row['average_precision']:.3f} | "
            f"{row['f1']:.3f} | {row['bases_per_second'] / 1000:.0f} |"
        )
    return "\n".join(lines)


def curve_table(curve: list[tuple[int, float, float]]) -> str:
    """Return the curve as a Markdown table: means over the random subsets."""
    lines = ["| tracks | AP, every base (mean, lowest, highest) | F1 of calls |", "|---|---|---|"]
    for count in sorted({row[0] for row in curve}):
        precision, f1 = (np.array([row[i] for row in curve if row[0] == count]) for i in (1, 2))
        lines.append(
            f"| {count} | {precision.mean():.3f} ({precision.min():.3f}, {precision.max():.3f}) | {f1.mean():.3f} |"
        )
    return "\n".join(lines)


def save(out: Path, curve: list[tuple[int, float, float]]) -> None:
    """Write the curve as a table and as a figure."""
    with open(out / "omics.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["tracks", "average_precision", "f1"])
        writer.writerows(curve)
    if find_spec("matplotlib") is not None:
        plot_curve(out / "omics.png", curve)


def plot_curve(path: Path, curve: list[tuple[int, float, float]]) -> None:
    """Draw average precision by number of tracks: every subset, the mean, and the range as a band."""
    counts = sorted({row[0] for row in curve})
    by_count = [[precision for number, precision, _ in curve if number == count] for count in counts]
    with figure_style():
        figure = new_figure(4.8, 3.6)
        axes = figure.subplots()
        axes.fill_between(counts, list(map(min, by_count)), list(map(max, by_count)), color=GRID_COLOUR)
        axes.plot(
            [row[0] for row in curve], [row[1] for row in curve], ".", color=NEUTRAL_COLOUR, markersize=5
        )
        axes.plot(counts, list(map(np.mean, by_count)), color=SIGNAL_COLOUR)
        axes.set(xlabel="omics tracks given", ylabel="average precision, every base")
        save_figure(figure, path)


if __name__ == "__main__":
    main()
