"""Tracks, run records and a bundle for the tests of reports, as annotate and bundle write them."""

import json
import shutil

import numpy as np
import pytest
from conftest import dna, make_fasta

from zflipon.report.bundle import bundle
from zflipon.tracks.calling import NO_VALUE, ContigTrack, call_track
from zflipon.tracks.outputs import TrackOutputs

LENGTHS = {"chr1": 9000, "chr2": 6000, "chr10": 3000, "chrUn": 500}
CALL = {"threshold": 0.5, "min_length": 6, "merge_gap": 2}
HIGH = {
    "chr1": [(100, 130, 900), (131, 140, 700), (5000, 5100, 600), (5200, 5204, 990)],
    "chr2": [(50, 70, 510)],
    "chr10": [(2000, 2012, 999), (2980, 3000, 800)],
}
"""Start, end and probability in thousandths; the second is merged with the first, the fourth is too short."""

CALLS = {
    "chr1": [(100, 140), (5000, 5100)],
    "chr2": [(50, 70)],
    "chr10": [(2000, 2012), (2980, 3000)],
}
"""The calls of `HIGH` with the settings `CALL`."""

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no headless browser is installed")


def probabilities(contig):
    values = np.full(LENGTHS[contig], 10, dtype=np.uint16)
    values[1000:1500] = NO_VALUE
    for start, end, value in HIGH[contig]:
        values[start:end] = value
    return values


def write_run(folder, outputs=("z.bw", "z.bed"), started="2026-01-01T00:00:00+0000", **fields):
    """Write tracks and their records; return the paths of the tracks."""
    paths = [folder / name for name in outputs]
    with TrackOutputs(paths, LENGTHS) as writers:
        for contig in HIGH:
            track = ContigTrack(contig, [(0, probabilities(contig))])
            writers.add(track, call_track(track, *CALL.values()))
        writers.commit()
    record = {
        "command": "zflipon annotate <genome> & more",
        "started": started,
        "genome": str(folder / "genome.fa"),
        "contigs": {name: {"length": LENGTHS[name], "md5": "0"} for name in HIGH},
        "model": {"name": "test-model", "sha256": "abc123"},
        "call": CALL,
        "predict": {"both_strands": True, "device": "cpu", "precision": "float32"},
        "tracks": {"calls": 5, "called_bases": 192, "bases": 16_500, "windows_read": 9},
        **fields,
    }
    for path in paths:
        path.with_name(path.name + ".json").write_text(json.dumps(record))
    return paths


def write_bundle(folder):
    """Write a genome, labels, tracks and their bundle in ``hub``; return what `bundle` returned."""
    genome = make_fasta(folder, {name: dna(length, length) for name, length in LENGTHS.items()})
    labels = folder / "labels.bed"
    labels.write_text("chr1\t120\t150\nchr1\t145\t160\nchr10\t0\t10\n")
    tracks = write_run(folder)
    return bundle(tracks, folder / "hub", genome, "hg38", labels, "me@example.org")


def write_annotated(folder, checkpoint):
    """Write a genome, plain and bgzip, its tracks by annotate, and labels."""
    from zflipon.config import InferenceConfig
    from zflipon.workflows.annotate import annotate

    contigs = {"one": dna(20_000, 1), "two": dna(3000, 3)}
    genome = make_fasta(folder, contigs)
    make_fasta(folder / "packed.bgz.fa.gz", contigs)
    outputs = [str(folder / name) for name in ("z.bw", "z.bed", "z.bed.gz")]
    annotate(genome, outputs, str(checkpoint), settings=InferenceConfig(device="cpu"))
    (folder / "labels.bed").write_text("one\t1000\t1100\n")


def stanzas(text):
    """Parse hub.txt: a dict of settings for each stanza."""
    return [dict(line.split(" ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
