"""The model card: a README for people in a checkpoint's folder, written from the metadata alone.

Tables are made by `zflipon.training.result_tables`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from zflipon.errors import format_names
from zflipon.models.metadata import Calibration, ModelMetadata
from zflipon.tracks.atomic import atomic_file
from zflipon.training.curves import CURVES
from zflipon.training.result_tables import (
    EVERY_BASE,
    VALIDATION_TABLES,
    TableLayout,
    evaluated_on,
    figures_at,
    finite_numbers,
    format_mean,
    format_value,
    grouped_tables,
    kind_of,
    markdown_table,
    test_table,
)

CARD = "README.md"
"""File name of the card."""

_NAMED_CONTIGS = 30
"""Contigs that are listed by name."""

_FRONT_MATTER = """---
library_name: zflipon
tags:
- dna
- genomics
- z-dna
- {family}
---"""

_SUMMARY = {
    "base": "Predicts for each base of a DNA sequence the probability that it is in Z-DNA.",
    "token": "Predicts for each token of a DNA sequence, and so for its bases, the probability that it is in Z-DNA.",
    "sequence": "Predicts the probability that a whole DNA sequence has the label that the model was trained for.",
    "mlm": "An encoder of DNA, trained to predict masked tokens: a starting point for further training.",
    None: "An encoder of DNA without a head: a starting point for training.",
}
"""Objective → first sentence."""

_ANNOTATE = """```bash
zflipon annotate GENOME.fa -o zdna.bw --model FOLDER%s
```

FOLDER is the folder of this file. The extension of the output chooses its format. Window, margin,
calibration and threshold are read from the checkpoint."""

_TRACKS = """

TRACKS.tsv is a tab-separated table with a line for each omics track: name, file (bigWig, bedGraph or BED) and kind, as
listed above. With `--missing-features zero`, tracks may be missing."""

_SEQUENCE = """```python
import numpy as np
from zflipon.models import load
from zflipon.inference.predictor import Predictor

sequences = ["GCGCGCGCGCGCATATTTGACA", "ATTTACCAGATTTACAGATTTA"]  # upper case
predictor = Predictor(load("FOLDER", ("sequence",)), objectives=("sequence",))
for index, _, logits in predictor.predict_logits(sequences):
    print(sequences[index], 1 / (1 + np.exp(logits[0] - logits[1])))  # probability of label 1
```

FOLDER is the folder of this file. The model classifies whole sequences, so that `zflipon annotate` cannot use it; its
encoder can be the starting point of another training."""

_CONTINUE = """A recipe of `zflipon train` starts from it with

```toml
[model]
checkpoint = "FOLDER"
```"""

_SAMPLE_WARNING = (
    "**Figures on sampled windows are too optimistic for every model**: random windows rarely contain Z-forming "
    "sequence without a label, but genomes contain much of it. The figures for every base show what to expect in "
    "genome-wide use."
)

_HELD_OUT_NOTE = (
    "**These figures are of held-out models**, trained with the same recipe, each without the contigs on which it is "
    "evaluated. This model was trained on all contigs, so that figures on them would be too high; its calibration and "
    "threshold come from the pooled predictions of the held-out models."
)

_SPLITS = {
    "stratified": "windows at random, stratified by label and contig",
    "random": "windows at random",
    "blocks": "blocks of windows at random; no training window borders a validation or test window",
}

_LABEL_LIMIT = (
    "It depends on its labels: regions that they miss count as negative, although Z-DNA may form there under other "
    "conditions, and one assay or cell line does not show everything."
)
_SEQUENCE_LIMIT = (
    "Whether Z-DNA forms in a given cell depends on transcription and chromatin, which it does not see."
)
_SPECIES_LIMIT = "It is untested on organisms and assemblies other than the one it was trained on."


def write_card(folder: Path, name: str, metadata: ModelMetadata, parameters: int, curves: bool) -> None:
    """Write the model card of a checkpoint: Markdown with the front matter of the Hugging Face Hub.

    Parameters
    ----------
    folder : Path
        Of the checkpoint; gets a `CARD`.
    name : str
    metadata : ModelMetadata
        Source of all figures; missing ones are omitted.
    parameters : int
        Number of weights.
    curves : bool
        Whether the folder contains `CURVES`.

    Raises
    ------
    OutputError
        If the card cannot be written.
    """
    versions = {package: version for package, version in metadata.versions.items() if version}
    sections = {
        "What it is": _properties(metadata, parameters),
        "How to use it": _usage(metadata),
        "How and on what it was trained": _training(metadata, curves),
        "How good it is": _quality(name, metadata),
        "Limits": _limits(metadata),
        "Versions": "\n".join(f"- {package} {version}" for package, version in versions.items()),
    }
    parts = [_FRONT_MATTER.format(family=metadata.family), f"# {name}", _SUMMARY[metadata.objective]]
    if metadata.training.get("description"):
        parts.append(metadata.training["description"])
    parts += (f"## {heading}\n\n{text}" for heading, text in sections.items() if text)
    with atomic_file(Path(folder) / CARD) as part:
        part.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _properties(metadata: ModelMetadata, parameters: int) -> str:
    properties = {
        "family": metadata.family,
        "objective": metadata.objective,
        "parameters": f"{parameters:,}",
        "window": f"{metadata.window:,} bases",
        "tokens": metadata.max_token_length and f"at most {metadata.max_token_length} bases",
    }
    if metadata.objective in ("base", "token"):
        core = metadata.window - 2 * metadata.margin
        properties["window"] += f", of which the middle {core:,} are predicted (margin {metadata.margin:,})"
        properties["strands"] = "both are read and averaged" if metadata.both_strands else ""
        properties["calls"] = f"bases with a probability of at least {metadata.threshold:g}"
        properties["calibration"] = _calibration(metadata.calibration)
    if metadata.objective == "token":
        comparison = {">=": "at least", ">": "more than"}[metadata.label_comparison]
        properties["label of a token"] = (
            f"Z-DNA if {comparison} {metadata.label_threshold:g} of its bases are labelled "
            f"(`{metadata.label_comparison}`)"
        )
    if metadata.features:
        tracks = ", ".join(f"{feature.name} ({feature.kind})" for feature in metadata.features)
        optional = "; any of them may be missing" if metadata.allows_missing_features else ""
        properties["omics tracks"] = f"{len(metadata.features)}: {tracks}{optional}"
    return _bullets(properties)


def _bullets(facts: Mapping[str, object]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in facts.items() if text)


def _calibration(calibration: Calibration) -> str:
    if calibration == Calibration():
        return ""
    sign = "−" if calibration.bias < 0 else "+"
    text = f"log-odds × {calibration.scale:.4g} {sign} {abs(calibration.bias):.4g}"
    return text + (", with a piecewise-linear correction" if calibration.correction else "")


def _usage(metadata: ModelMetadata) -> str:
    if metadata.objective in ("base", "token"):
        reads_tracks = bool(metadata.features)
        return _ANNOTATE % (" --features TRACKS.tsv" * reads_tracks) + _TRACKS * reads_tracks
    return f"{_SEQUENCE}\n\n{_CONTINUE}" if metadata.objective == "sequence" else _CONTINUE


def _training(metadata: ModelMetadata, curves: bool) -> str:
    training = metadata.training
    facts = {
        "recipe": training.get("recipe"),
        "trained on": _training_data(training),
        "validated on": _contigs(training.get("validation_contigs")),
        "tested on": _contigs(training.get("test_contigs")),
        "split": _SPLITS.get(training.get("split", ""), ""),
    }
    parts = [_bullets(facts)]
    stages = list(_stages(training.get("stages") or ()))
    if stages:
        changes = ", each with its changes from the one before" if len(stages) > 1 else ""
        parts.append(f"Stages{changes}:\n\n" + "\n".join(stages))
    if curves:
        parts.append(f"![Training loss and validation measures against steps]({CURVES})")
    return "\n\n".join(filter(None, parts))


def _contigs(names: Iterable[str] | None) -> str:
    return format_names(names, _NAMED_CONTIGS) if names else ""


def _training_data(training: Mapping) -> str:
    if training.get("sequences"):
        count = training.get("labels")
        files = format_names(training["sequences"], _NAMED_CONTIGS)
        return files + (f"; {count:,} training sequences with label 1" if count else "")
    counts = [
        f"{training[key]:,} {noun}"
        for key, noun in (("bases", "bases"), ("labels", "labelled regions"))
        if training.get(key)
    ]
    return "; ".join(filter(None, [_contigs(training.get("contigs")), ", ".join(counts)]))


def _stages(stages: Iterable[Mapping]) -> Iterator[str]:
    """Yield a line for each stage: all settings of the first one, and the changes of each later one."""
    before: dict[str, str] = {}
    for number, stage in enumerate(stages, 1):
        omitted = {"name", *_unused_settings(stage)}
        values = {key: text for key, text in _flatten(stage) if text and key.partition(".")[0] not in omitted}
        changes = [
            f"`{key}` {values.get(key, 'unset')}" + (f" (was {before[key]})" if key in before else "")
            for key in dict.fromkeys([*values, *before])
            if values.get(key) != before.get(key) and key not in omitted
        ]
        name = stage.get("name", f"stage {number}")
        yield f"{number}. **{name}**: {', '.join(changes) or 'no changes'}"
        before = values


def _unused_settings(stage: Mapping) -> Iterator[str]:
    """Yield settings that had no effect in a stage."""
    if stage.get("epochs"):
        yield "steps"
    if stage.get("objective") != "mlm":
        yield "mlm_probability"
    if stage.get("objective") != "token":
        yield from ("label_threshold", "label_comparison")


def _flatten(table: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the key and the text of each setting; a table inside has its name as a prefix."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, format_value(value)


def _quality(name: str, metadata: ModelMetadata) -> str:
    quality = metadata.quality
    sampled = kind_of(quality) == "bases" and figures_at(quality, ("test", "sampled"))
    parts = [
        _held_out_models(quality),
        test_table({name: quality}),
        describe_neighbours(quality),
        _SAMPLE_WARNING if sampled else "",
        grouped_tables(VALIDATION_TABLES, [(name, [quality])]),
        _validation(name, quality),
        _thresholds(metadata),
    ]
    return "\n\n".join(filter(None, parts))


def describe_neighbours(quality: Mapping) -> str:
    """Return how many test windows border training windows, as a sentence; empty if this was not counted."""
    counts = figures_at(quality, ("test", "neighbours"))
    if not counts:
        return ""
    return (
        f"Of {counts['labelled']:,} test windows with a label, {counts['bordering']:,} border a training window with a "
        f"label; {counts['shared']:,} of {counts['regions']:,} labelled regions are in test and training windows."
    )


def _held_out_models(quality: Mapping) -> str:
    """Return a table of the held-out models, whose figures replace those of a model that was trained on all contigs."""
    models = quality.get("held_out_models")
    if not models:
        return ""
    rows = [(format_names(each["contigs"], _NAMED_CONTIGS), [each]) for each in models]
    if len(models) > 1:
        rows.append(("mean ± sd", models))
    title = "Every base of the contigs without which each held-out model was trained"
    return f"{_HELD_OUT_NOTE}\n\n{grouped_tables([TableLayout('bases', title, (), EVERY_BASE)], rows)}"


def _validation(name: str, quality: Mapping) -> str:
    """Return a table for every base of the validation data, which chose calibration and threshold."""
    on = evaluated_on(quality)
    figures = {**quality, "estimated": _is_estimated(quality)}
    title = f"Every base of the validation data{on and f' ({on})'}, at the threshold of the highest F1"
    table = grouped_tables([TableLayout(kind_of(quality), title, (), EVERY_BASE)], [(name, [figures])])
    note = quality.get("note")
    return table and table + (f"\n\nNote: {note}." if note else "")


def _is_estimated(quality: Mapping) -> bool:
    """Whether figures are estimated from windows, so that the contigs are a description."""
    return bool(quality.get("estimated") or isinstance(quality.get("contigs"), str))


def _thresholds(metadata: ModelMetadata) -> str:
    """Return a table of precision and recall at several thresholds."""
    figures = metadata.quality.get("by_threshold") or {}
    rows = [
        [threshold, *(format_mean(finite_numbers([each]), 3) for each in pair)]
        for threshold, pair in figures.items()
    ]
    if not rows:
        return ""
    on = evaluated_on(metadata.quality)
    estimated = ", estimated from a sample of windows" if _is_estimated(metadata.quality) else ""
    data = f"Every base of the validation data{on and f' ({on})'}{estimated}"
    table = markdown_table(["threshold", "Precision", "Recall"], rows)
    return f"{data}, by the threshold of calls (default {metadata.threshold:g}):\n\n{table}"


def _limits(metadata: ModelMetadata) -> str:
    limits = [_SPECIES_LIMIT]
    if metadata.objective in ("base", "token"):
        limits.insert(0, _SEQUENCE_LIMIT)
    if metadata.objective in ("base", "token", "sequence"):
        limits.insert(0, _LABEL_LIMIT)
    return "\n".join(f"- {text}" for text in limits)
