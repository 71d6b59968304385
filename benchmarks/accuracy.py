"""The accuracy table: models and peers against labels, on every base and on the 1:3 sample; and calibration.

python benchmarks/accuracy.py DATA OUT [--model compact] [--model zhunt] [--features TRACKS.tsv]
    [--zseeker] [--calls NAME=FILE.bed] --held-out FOLDER

DATA holds ``hg19_part.fa.gz``, ``kouzine.bed``, ``blacklist.bed`` and the peers' calls ``zdnabert.bed``, ``zhunt.bed``,
``deepz.bed``. The bundled models were trained on all of these contigs. Each contig is therefore annotated by the
held-out model that was trained without it (in FOLDER/MODEL of ``--held-out FOLDER``), with the calibration and the
threshold of the bundled model; ``zflipon train train/compact.toml`` writes such models. Tables are printed for the
contigs of each held-out model, for the autosomes and for all contigs. A model without held-out models annotates all
contigs itself. One row shows the score of the first model if its calls ended where those of published Z-HUNT maps end.
Models that read omics tracks (compact-omics, and those of train/deepz.toml and train/graphz.toml) read them from
TRACKS.tsv; a model can be given as NAME=FOLDER. The last columns are parameters and speed, including reading and
writing. OUT gets the tracks of each model, ``accuracy.json``, ``reliability.csv`` and, if matplotlib is installed,
``reliability.png``.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill

import numpy as np
import pyBigWig

from zflipon.config import DEFAULT_MODEL, EvaluateConfig
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import merge
from zflipon.models import load, save
from zflipon.plots import NEUTRAL_COLOUR, figure_style, new_figure, save_figure, series_style
from zflipon.tracks.atomic import record_path
from zflipon.workflows.evaluate import EvaluationReport, TrackResult, evaluate

PEERS = {"Z-DNABERT": "zdnabert.bed", "Z-HUNT": "zhunt.bed", "DeepZ": "deepz.bed"}
BINS = np.linspace(0, 1, 11)
MIN_BIN_BASES = 200
"""Lowest number of bases of a probability bin whose reliability is judged."""


def main() -> None:
    """Annotate, evaluate, and print a Markdown table and the reliability of the probabilities."""
    arguments = parse()
    data, out = Path(arguments.data), Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    models = arguments.model or [DEFAULT_MODEL, "zhunt"]
    with Genome(data / "hg19_part.fa.gz") as genome:
        names = list(genome.lengths)
    groups = [arguments.contigs.split(",")] if arguments.contigs else held_out_contigs(DEFAULT_MODEL, names)
    contigs = [contig for group in groups for contig in group]
    named = dict(pair.split("=", 1) if "=" in pair else (Path(pair).name, pair) for pair in models)
    tracks = {
        f"zflipon {name}": annotate(data, out, name, model, contigs, arguments)
        for name, model in named.items()
    }
    sizes = {f"zflipon {name}": parameters(model) for name, model in named.items()}
    peers = {name: data / file for name, file in PEERS.items() if (data / file).exists()}
    if arguments.zseeker:
        peers["ZSeeker"] = zseeker(arguments.zseeker, data / "hg19_part.fa.gz", contigs, out)
    peers |= {name: Path(path) for name, path in (pair.split("=", 1) for pair in arguments.calls)}
    ends = published_ends(next(iter(tracks.values()))[0], data, contigs, out)
    paths = [path for scored, called in tracks.values() for path in (scored, called)] + [
        *peers.values(),
        ends,
    ]
    autosomes = [contig for contig in contigs if not contig.startswith(("chrX", "chrY"))]
    for chosen in [
        *(groups if len(groups) > 1 else []),
        *([autosomes] if 0 < len(autosomes) < len(contigs) else []),
        contigs,
    ]:
        report = evaluate_contigs(paths, data, chosen)
        results = list(report.tracks.values())
        print(f"\n{', '.join(chosen)}: {report.settings['bases']}")
        print(table(tracks, peers, results, sizes), flush=True)
    rows = {name: reliability(results[2 * number]) for number, name in enumerate(tracks)}
    print(reliability_text(rows))
    write(out, report, rows)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument(
        "--model", action="append", help="a model to annotate with, or NAME=MODEL; several times for several"
    )
    parser.add_argument(
        "--calls", action="append", default=[], metavar="NAME=BED", help="another peer's calls"
    )
    parser.add_argument("--features", metavar="TSV", help="omics tracks, for models that read them")
    parser.add_argument("--zseeker", nargs="?", const="ZSeeker", help="run ZSeeker too, by this name or path")
    parser.add_argument(
        "--held-out", required=True, type=Path, metavar="FOLDER", help="folder of held-out models"
    )
    parser.add_argument("--contigs", help="contigs to evaluate; default: those of the held-out models")
    return parser.parse_args()


def held_out_contigs(model: str, names: list[str]) -> list[list[str]]:
    """Return the contigs without which each held-out model of a model was trained, as far as they are in the data."""
    patterns = [each["contigs"] for each in load(model).metadata.quality["held_out_models"]]
    groups = [[name for pattern in each for name in fnmatch.filter(names, pattern)] for each in patterns]
    return [group for group in groups if group]


def evaluate_contigs(paths: list[Path], data: Path, contigs: list[str]) -> EvaluationReport:
    """Evaluate tracks on some contigs."""
    report = evaluate(
        paths,
        data / "kouzine.bed",
        data / "hg19_part.fa.gz",
        data / "blacklist.bed",
        contigs,
        EvaluateConfig(),
        progress,
    )
    print(file=sys.stderr)
    return report


def annotate(
    data: Path, out: Path, name: str, model: str, contigs: list[str], arguments: argparse.Namespace
) -> list[Path]:
    """Write the probabilities and calls of a model's held-out models, each for the contigs it was not trained on."""
    parts = []
    for number, (reader, chosen) in enumerate(
        models_for_contigs(name, model, contigs, out, arguments.held_out), 1
    ):
        paths = [out / f"{name}.{number}.{kind}" for kind in ("bw", "bed")]
        run(data, reader, chosen, paths, arguments.features)
        parts.append(paths)
    if len(parts) == 1:
        return parts[0]
    merged = [out / f"{name}.bw", out / f"{name}.bed"]
    merge_bigwigs([scored for scored, _ in parts], merged[0])
    merged[1].write_text("".join(called.read_text() for _, called in parts))
    records = [json.loads(record_path(scored).read_text()) for scored, _ in parts]
    totals = {key: sum(each[key] for each in records) for key in ("bases", "seconds")}
    record_path(merged[0]).write_text(json.dumps(totals))
    return merged


def models_for_contigs(
    name: str, model: str, contigs: list[str], out: Path, held_out_models: Path
) -> list[tuple[str, list[str]]]:
    """Return pairs of a model and the contigs that it annotates: held-out models, or the model itself without any.

    Held-out models get the calibration and the threshold of the model, so that calls are comparable.
    """
    metadata = load(model).metadata
    pairs = []
    for folder in sorted(held_out_models.glob(f"{name}/*")) if model == name else []:
        held_out = load(folder)
        chosen = [contig for contig in contigs if contig in held_out.metadata.training["validation_contigs"]]
        if chosen:
            calibrated = replace(
                held_out.metadata, calibration=metadata.calibration, threshold=metadata.threshold
            )
            path = out / "held_out_models" / name / folder.name
            save(replace(held_out, metadata=calibrated), path)
            pairs.append((str(path), chosen))
    seen = set(contigs) & set(metadata.training.get("contigs", ()))
    if not pairs and seen:
        print(
            f"{name} was trained on {len(seen)} of these contigs: its figures are too high", file=sys.stderr
        )
    return pairs or [(model, contigs)]


def run(data: Path, model: str, contigs: list[str], paths: list[Path], features: str | None) -> None:
    """Annotate with the command line, as a user does."""
    words = [
        "annotate",
        str(data / "hg19_part.fa.gz"),
        *(word for path in paths for word in ("-o", str(path))),
        "--model",
        model,
        "--contigs",
        ",".join(contigs),
        *(["--features", features] if features and load(model).metadata.features else []),
    ]
    subprocess.run([sys.executable, "-m", "zflipon", *words, "--force"], check=True)


def merge_bigwigs(parts: list[Path], path: Path) -> None:
    """Merge bigWig files of different contigs into one."""
    tracks = [pyBigWig.open(str(part)) for part in parts]
    track_of = {contig: track for track in tracks for contig in track.chroms() if track.intervals(contig)}
    with pyBigWig.open(str(path), "w") as merged:
        merged.addHeader(list(tracks[0].chroms().items()))
        for contig in filter(track_of.get, tracks[0].chroms()):
            starts, ends, values = zip(*track_of[contig].intervals(contig), strict=True)
            merged.addEntries([contig] * len(starts), list(starts), ends=list(ends), values=list(values))
    for track in tracks:
        track.close()


def parameters(model: str) -> int:
    """Return the number of parameters of a model."""
    return sum(weights.numel() for weights in load(model).module.parameters())


def speed(track: Path) -> float:
    """Return the bases per second of a run, from its record."""
    record = json.loads(record_path(track).read_text())
    return record["bases"] / record["seconds"]


def published_ends(scored: Path, data: Path, contigs: list[str], out: Path) -> Path:
    """Write a bedGraph of Z-HUNT's published calls, each with the mean probability of its bases."""
    path = out / "published_ends.bedgraph"
    with Genome(data / "hg19_part.fa.gz") as source:
        rows = read_bed(data / "zhunt.bed", source.lengths, "calls")
    with pyBigWig.open(str(scored)) as track, open(path, "w") as lines:
        for contig in contigs:
            for start, end in merge(rows[contig]):
                mean = track.stats(contig, int(start), int(end), exact=True)[0]
                lines.write(f"{contig}\t{start}\t{end}\t{mean or 0:.4f}\n")
    return path


def zseeker(program: str, genome: Path, contigs: list[str], out: Path) -> Path:
    """Run ZSeeker with its defaults and write its calls as BED."""
    fasta = out / "zseeker.fa"
    with Genome(genome) as source, open(fasta, "w") as file:
        file.writelines(f">{name}\n{source.fetch(name, 0, source.length(name))}\n" for name in contigs)
    folder = out / "zseeker"
    subprocess.run(
        [program, "--fasta", str(fasta), "--output_dir", str(folder)], check=True, stdout=sys.stderr
    )
    (table_of_calls,) = folder.glob("*.csv")
    with open(table_of_calls) as lines, open(out / "zseeker.bed", "w") as bed:
        for row in csv.DictReader(lines):
            # its ends are inclusive
            bed.write(f"{row['Chromosome']}\t{row['Start']}\t{int(row['End']) + 1}\n")
    return out / "zseeker.bed"


def progress(done: int, total: int) -> None:
    """Write a dot for each step."""
    print(".", end="", file=sys.stderr, flush=True)


def table(tracks: dict, peers: dict, results: list[TrackResult], sizes: dict[str, int]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| | AP, every base | best F1 | F1 of calls | precision / recall | best F1, 1:3 sample | F1 of calls, 1:3 | "
        "parameters | kb per second |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for place, name in enumerate(tracks):
        scored, called = results[2 * place].summary(), results[2 * place + 1].summary()
        ours = [scored["genome"]["average_precision"], scored["genome"]["best_f1"]]
        rate = f"{sizes[name]:,} | {speed(tracks[name][0]) / 1000:.0f}"
        lines.append(row(name, ours, called, scored["sampled"]["best_f1"], rate))
    for name, result in zip(peers, results[2 * len(tracks) : -1], strict=True):
        lines.append(row(name, [None, None], result.summary(), None))
    ends = results[-1].summary()
    figures = (
        ends["genome"]["average_precision"],
        ends["genome"]["best_f1"],
        None,
        None,
        ends["sampled"]["best_f1"],
    )
    name = f"{next(iter(tracks))} with Z-HUNT's published ends"
    lines.append(f"| {name} | " + " | ".join(map(number, (*figures, None))) + " | | |")
    return "\n".join(lines)


def row(name: str, ours: list, called: dict, sampled: float | None, rate: str = "|") -> str:
    """Return one line of the table."""
    genome = called["genome"]
    cells = [*ours, genome["f1"], (genome["precision"], genome["recall"]), sampled, called["sampled"]["f1"]]
    return f"| {name} | " + " | ".join(map(number, cells)) + f" | {rate} |"


def number(value: float | tuple | None) -> str:
    """Format one number or several."""
    if isinstance(value, tuple):
        return " / ".join(map(number, value))
    return "" if value is None else f"{value:.3f}"


def reliability(result: TrackResult) -> list[dict]:
    """Return number of bases, mean probability and labelled share of ten probability bins."""
    values, without, labelled = result.protocols["genome"].histogram.counts()
    bins = np.clip(np.digitize(values, BINS) - 1, 0, len(BINS) - 2)
    total = without + labelled
    rows = []
    for at in range(len(BINS) - 1):
        here = bins == at
        bases = int(total[here].sum())
        rows.append(
            {
                "from": round(float(BINS[at]), 1),
                "to": round(float(BINS[at + 1]), 1),
                "bases": bases,
                "mean_probability": float((values[here] * total[here]).sum() / bases) if bases else None,
                "labelled": float(labelled[here].sum() / bases) if bases else None,
            }
        )
    return rows


def reliability_text(rows: dict[str, list[dict]]) -> str:
    """Return the reliability of the probabilities as text."""
    lines = []
    for name, bins in rows.items():
        lines.append(f"\n{name}: mean probability, labelled share, bases")
        for each in bins:
            if each["bases"]:
                predicted, labelled = each["mean_probability"], each["labelled"]
                reliable = abs(predicted - labelled) <= 0.05 or each["bases"] < MIN_BIN_BASES
                mark = "" if reliable else "  off by more than 0.05"
                span = f"{each['from']:.1f}-{each['to']:.1f}"
                lines.append(f"  {span}  {predicted:.3f}  {labelled:.3f}  {each['bases']:>10,}{mark}")
    return "\n".join(lines)


def write(out: Path, report: EvaluationReport, rows: dict[str, list[dict]]) -> None:
    """Write the printed numbers, and a figure of the reliability."""
    (out / "accuracy.json").write_text(json.dumps(report.summary(), indent=1))
    with open(out / "reliability.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["model", *next(iter(rows.values()))[0]])
        writer.writeheader()
        writer.writerows({"model": name, **each} for name, bins in rows.items() for each in bins)
    if find_spec("matplotlib") is not None:
        contigs = ", ".join(report.settings["contigs"])
        plot_reliability(out / "reliability.png", rows, f"every base of {contigs}, by held-out models")


def plot_reliability(path: Path, rows: dict[str, list[dict]], data: str) -> None:
    """Draw the labelled share against the mean probability, a line for each model, under the name of the data."""
    with figure_style():
        figure = new_figure(4.5, 4.5)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=NEUTRAL_COLOUR, linewidth=1)
        for series, (name, bins) in enumerate(rows.items()):
            points = [each for each in bins if each["bases"] >= MIN_BIN_BASES]
            predicted = [each["mean_probability"] for each in points]
            axes.plot(predicted, [each["labelled"] for each in points], label=name, **series_style(series))
        axes.set(xlabel="mean probability", ylabel="share of bases labelled", xlim=(0, 1), ylim=(0, 1))
        axes.set_title(fill(data, 60), fontsize=8)
        axes.legend()
        save_figure(figure, path)


if __name__ == "__main__":
    main()
