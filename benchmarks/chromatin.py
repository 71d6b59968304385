"""How well a held-out model predicts each chromatin track on the contigs that it never saw: AUC and AP of 128-bp bins.

python benchmarks/chromatin.py RUN GENOME TRACKS.npz [--windows 1000] [--csv FILE]

RUN is the folder of a held-out model of ``zflipon train train/compact.toml``, with its stages. Windows of 8 kb are
drawn from its validation contigs; bins within 2 kb of their ends are not counted. Medians and quartiles over tracks are
printed.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn import functional as F

from zflipon.genome.alphabet import base_codes
from zflipon.genome.fasta import Genome
from zflipon.models import load
from zflipon.models.heads.context_network import COARSE_BIN, TrackReadout
from zflipon.training.context_windows import ChromatinTargets

WINDOW, MARGIN = 8192, 2048
BATCH = 16
LEAST_BINS = 20
"""Tracks that cover fewer of the drawn bins are left out."""


def main() -> None:
    """Predict the windows, and print the figures."""
    arguments = parse()
    checkpoint = load(arguments.run)
    context = checkpoint.module.base_head.context
    targets = ChromatinTargets.load(arguments.tracks)
    readout = load_readout(Path(arguments.run), context.channels, len(targets.names))
    contigs = checkpoint.metadata.training["validation_contigs"]
    with Genome(Path(arguments.genome)) as genome, torch.inference_mode():
        logits, truth = predict(context, readout, targets, genome, contigs, arguments.windows)
    rows = []
    for number, name in enumerate(targets.names):
        covered = truth[:, number]
        if LEAST_BINS <= covered.sum() < len(covered):
            auc = roc_auc_score(covered, logits[:, number])
            rows.append((name, covered.mean(), auc, average_precision_score(covered, logits[:, number])))
    print(f"{len(rows)} of {len(targets.names)} tracks, {len(truth):,} bins")
    for name, column in (("AUC", 2), ("AP", 3), ("AP / coverage", None)):
        values = [row[3] / row[1] if column is None else row[column] for row in rows]
        low, middle, high = np.percentile(values, [25, 50, 75])
        print(f"{name}: median {middle:.3f}, quartiles {low:.3f} and {high:.3f}")
    if arguments.csv:
        with open(arguments.csv, "w", newline="") as file:
            csv.writer(file).writerows([("track", "coverage", "auc", "ap"), *rows])


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("run", "genome", "tracks"):
        parser.add_argument(name)
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--csv")
    return parser.parse_args()


def load_readout(run: Path, width: int, tracks: int) -> TrackReadout:
    """Return the readout of tracks from the last checkpoint of the stage; the finished model does not have it."""
    (path,) = run.glob("stages/*/context.pt")
    average = torch.load(path, map_location="cpu", weights_only=True)["average"]
    readout = TrackReadout(width, tracks)
    prefix = "tracks."
    readout.load_state_dict({k.removeprefix(prefix): v for k, v in average.items() if k.startswith(prefix)})
    return readout.eval()


def predict(context, readout, targets, genome, contigs, windows):
    """Return logits and coverage of the counted bins: float32 and bool, shape (bins, tracks)."""
    rng = np.random.default_rng(0)
    sizes = np.array([genome.lengths[contig] // WINDOW for contig in contigs], dtype=float)
    logits, truth = [], []
    inner = slice(MARGIN // COARSE_BIN, (WINDOW - MARGIN) // COARSE_BIN)
    for _ in range(windows // BATCH):
        chosen = rng.choice(len(contigs), size=BATCH, p=sizes / sizes.sum())
        letters, expected = [], []
        for contig in (contigs[i] for i in chosen):
            start = int(rng.integers(genome.lengths[contig] // WINDOW)) * WINDOW
            codes = torch.from_numpy(base_codes(genome.fetch(contig, start, start + WINDOW)))
            letters.append(F.one_hot(codes.clamp(max=4), 5)[:, :4].float())
            first = targets.offset[contig] + start // COARSE_BIN
            rows = targets.rows[first : first + WINDOW // COARSE_BIN]
            expected.append(np.unpackbits(rows, axis=1)[inner, : len(targets.names)].astype(bool))
        _, coarse = context.read(torch.stack(letters))
        logits.append(readout(coarse)[:, inner].flatten(0, 1).numpy())
        truth.append(np.concatenate(expected))
    return np.concatenate(logits), np.concatenate(truth)


if __name__ == "__main__":
    main()
