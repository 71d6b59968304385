"""Warnings of an evaluation: the model was trained on the evaluated sequence, or the track covers little of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zflipon.errors import format_names
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import count_covered, merge, parse_region
from zflipon.genome.sketch import decode_sketch, shared_fraction
from zflipon.workflows.evaluation_regions import EvaluationRegions

log = logging.getLogger(__name__)

MIN_SKETCH = 8
"""32-mers in a sketch from which sequence is compared by it: half a megabase."""

MIN_SHARED = 0.3
"""Share of evaluated sequence in the training data from which a warning is logged; repeats share about a tenth."""

MIN_COVERED_SHARE = 0.5
"""Share of the evaluated bases that a track must cover; with less, a warning is logged."""


def warn_about_training(
    path: Path, record: Mapping[str, Any], genome: Genome, regions: EvaluationRegions
) -> None:
    """Log a warning if the model of a track was trained on evaluated sequence.

    Sequence is compared by the sketch in the metadata of the model, whatever the contigs are named. Without a sketch,
    or for little sequence, contigs are compared by name and, where the record of the track holds one, by MD5.
    """
    model = record.get("model") or {}
    text = (model.get("domain") or {}).get("sketch") or ""
    evaluated = regions.sketch(genome) if text else np.empty(0)
    if len(evaluated) >= MIN_SKETCH:
        share = shared_fraction(evaluated, decode_sketch(text))
        if share >= MIN_SHARED:
            log.warning(
                "%s: the model was trained on %.0f %% of the evaluated sequence, so the measures are too high; "
                "evaluate other sequence, or a model that was trained without this",
                path,
                100 * share,
            )
        return
    training = model.get("training") or {}
    recorded = record.get("contigs") or {}
    held_out = {*training.get("validation_contigs", ()), *training.get("test_contigs", ())}
    trained = [
        contig
        for contig in regions.lengths
        if contig in training.get("contigs", ()) and contig not in held_out
    ]
    same = [
        contig
        for contig in trained
        if contig not in recorded or genome.scan(contig, min_gap=1).md5 == recorded[contig].get("md5")
    ]
    if same:
        log.warning(
            "%s: the model was trained on %s, so the measures are too high; evaluate other contigs, or a model that "
            "was trained without these",
            path,
            format_names(same),
        )


def warn_about_coverage(
    path: Path, record: Mapping[str, Any], genome: Genome, regions: EvaluationRegions
) -> None:
    """Log a warning if the record of a track says that less than `MIN_COVERED_SHARE` of the bases were annotated."""
    contigs = record.get("contigs")
    if not contigs:
        return
    annotated: dict[str, list[tuple[int, int]]] = {}
    for text in record.get("regions") or contigs:
        contig, start, end = parse_region(text, genome.lengths)
        annotated.setdefault(contig, []).append((start, end))
    total = covered = 0
    for contig, counted in regions.counted.items():
        total += int(np.diff(counted).sum())
        rows = merge(np.array(sorted(annotated.get(contig, [])), dtype=np.int64).reshape(-1, 2))
        covered += int(count_covered(rows, counted.ravel())[::2].sum())
    if total and covered / total < MIN_COVERED_SHARE:
        log.warning(
            "%s: the track covers %.2g %% of the evaluated bases, and all others count as not called; select the "
            "annotated part with --contigs, --region or --regions",
            path,
            100 * covered / total,
        )
