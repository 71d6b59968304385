"""Draw the pictures of the documentation: docs/locus.png, docs/explain.png, docs/view.png and docs/omics.png.

python benchmarks/figures.py DATA [--out docs] [--model compact] [--region chr22_50M:247,151-247,990]
    [--explained chr22_50M:247,571-247,670] [--tracks TRACKS.tsv] [--omics-model FOLDER] [--only …]

DATA holds ``hg19_part.fa.gz``, ``kouzine.bed``, ``zhunt.bed``, ``zdnabert.bed`` and ``deepz.bed``. Run it after a
bundled model has changed, with a model that was not trained on the region, and look at every picture. ``view`` needs
Chromium; ``omics`` needs TRACKS.tsv and takes hours (see ``benchmarks/omics.py``). Without these, both are left out.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import zflipon

ROOT = Path(__file__).resolve().parents[1]
PEERS = {"Kouzine": "kouzine.bed", "Z-HUNT": "zhunt.bed", "Z-DNABERT": "zdnabert.bed", "DeepZ": "deepz.bed"}
"""Name in the figure of the locus → file in DATA."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WINDOW = (1400, 560)
"""Width and height of the picture of the viewer, pixels."""


def main() -> None:
    """Draw the requested figures."""
    drawers: dict[str, Callable[[argparse.Namespace, Path], None]] = {
        "locus": draw_locus,
        "explain": draw_explanation,
        "view": draw_viewer,
        "omics": draw_omics,
    }
    arguments = parse(tuple(drawers))
    for name in arguments.only or drawers:
        with tempfile.TemporaryDirectory() as folder:
            drawers[name](arguments, Path(folder))


def parse(names: tuple[str, ...]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument("--model", default="compact")
    parser.add_argument("--region", default="chr22_50M:247,151-247,990", help="region of locus and view")
    parser.add_argument("--explained", default="chr22_50M:247,571-247,670", help="region of explain")
    parser.add_argument("--tracks", type=Path, metavar="TRACKS.tsv", help="omics tracks, for omics")
    parser.add_argument("--omics-model", default="runs/compact-omics/held-out/1", help="model of omics")
    parser.add_argument("--only", nargs="+", choices=names, help="figures to draw  [default: all]")
    arguments = parser.parse_args()
    arguments.genome = arguments.data / "hg19_part.fa.gz"
    arguments.out.mkdir(parents=True, exist_ok=True)
    return arguments


def annotate(arguments: argparse.Namespace, folder: Path) -> tuple[Path, Path, float]:
    """Annotate the region; return the bigWig, the BED and the threshold of the calls."""
    track, calls = folder / "zdna.bw", folder / "zdna.bed"
    record = zflipon.annotate(
        arguments.genome, [track, calls], arguments.model, regions=[arguments.region.replace(",", "")]
    )
    return track, calls, record["call"]["threshold"]


def run(*words: object) -> None:
    """Run Python with some arguments; stop if it fails."""
    subprocess.run([sys.executable, *map(str, words)], check=True, cwd=ROOT)


def report(path: Path) -> None:
    """Print the path of a picture."""
    print(f"wrote {path}; look at it before you commit it")


def draw_locus(arguments: argparse.Namespace, folder: Path) -> None:
    """Draw the probability and the calls, the labels, and the calls of other programs."""
    track, calls, threshold = annotate(arguments, folder)
    beds = {"zflipon": calls, **{name: arguments.data / file for name, file in PEERS.items()}}
    out = arguments.out.resolve() / "locus.png"
    named = [f"{name}={path.resolve()}" for name, path in beds.items()]
    run("examples/plot_locus.py", track, arguments.region, out, *named, "--threshold", threshold)
    report(out)


def draw_explanation(arguments: argparse.Namespace, folder: Path) -> None:
    """Draw what explains the calls."""
    out, data = arguments.out.resolve() / "explain.png", arguments.data.resolve()
    tracks = ["--track", f"labels={data / 'kouzine.bed'}", "--track", f"Z-HUNT={data / 'zhunt.bed'}"]
    words = ["--genome", arguments.genome.resolve(), "--model", arguments.model, "-o", out, "--force"]
    run("-m", "zflipon", "explain", "locus", arguments.explained, *words, *tracks)
    report(out)


def draw_viewer(arguments: argparse.Namespace, folder: Path) -> None:
    """Take a picture of the viewer."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"view.png is not drawn: none of {', '.join(BROWSERS)} is installed")
        return
    track, calls, _ = annotate(arguments, folder)
    out = arguments.out.resolve() / "view.png"
    words = ["--genome", arguments.genome, "--labels", arguments.data / "kouzine.bed", "--no-browser"]
    command = [sys.executable, "-m", "zflipon", "view", track, calls, *words, "--region", arguments.region]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as server:
        try:
            address = server.stdout.readline().strip() if server.stdout else ""
            options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            options += [f"--window-size={WINDOW[0]},{WINDOW[1]}", "--virtual-time-budget=30000"]
            options += [f"--user-data-dir={folder / 'profile'}", f"--screenshot={out}"]
            subprocess.run([browser, *options, address], check=True, capture_output=True)
        finally:
            server.terminate()
    report(out)


def draw_omics(arguments: argparse.Namespace, folder: Path) -> None:
    """Measure and draw the average precision by the number of omics tracks."""
    if arguments.tracks is None:
        print("omics.png is not drawn: it needs --tracks TRACKS.tsv")
        return
    data, tracks = arguments.data.resolve(), arguments.tracks.resolve()
    run("benchmarks/omics.py", data, tracks, folder, "--curve", "--model", arguments.omics_model)
    out = arguments.out / "omics.png"
    shutil.copyfile(folder / "omics.png", out)
    report(out)


if __name__ == "__main__":
    main()
