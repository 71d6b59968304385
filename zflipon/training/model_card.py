"""A checkpoint's card: what it is, how it came about and how good it is, for people to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from zflipon.errors import format_names
from zflipon.models.metadata import Calibration, ModelMetadata
from zflipon.tracks.atomic import atomic_file
from zflipon.training.curves import CURVES
from zflipon.training.result_tables import (
    EVERY_BASE,
    VALIDATION_BLOCKS,
    Block,
    cell_of,
    contigs_of,
    figures_at,
    grouped_tables,
    kind_of,
    markdown,
    numbers,
    spoken,
    test_table,
)

CARD = "README.md"
"""In a checkpoint's folder."""

_FRONT = """---
library_name: zflipon
tags:
- dna
- genomics
- z-dna
- {family}
---"""

_GIST = {
    "base": "Probability of lying in Z-DNA for each base of a DNA sequence.",
    "token": "Probability of lying in Z-DNA for each token of a DNA sequence, and so for each of the token's bases.",
    "sequence": "Probability that a whole DNA sequence has the label that it was trained for.",
    "mlm": "An encoder of DNA, trained to tell tokens that are hidden from it: a start for other training.",
    None: "A bare encoder of DNA: a start for training.",
}

_ANNOTATE = """```bash
zflipon annotate GENOME.fa -o zdna.bw --model FOLDER%s
```

FOLDER is the folder that this file lies in. The extension of the output picks its kind (`.bw`, `.bedgraph`, `.bed`);
window, margin, calibration and threshold are taken from the checkpoint."""

_TRACKS = """

TRACKS.tsv has a line for each omics track, with tabs between name, file (bigWig, bedGraph or BED) and kind, as they
stand above. `--missing-features zero` does without those that it lacks."""

_SEQUENCE = """```python
import numpy as np
from zflipon.models import load
from zflipon.inference.predictor import Predictor

sequences = ["GCGCGCGCGCGCATATTTGACA", "ATTTACCAGATTTACAGATTTA"]  # upper case
predictor = Predictor(load("FOLDER", ("sequence",)), objectives=("sequence",))
for index, _, logits in predictor.predict_logits(sequences):
    print(sequences[index], 1 / (1 + np.exp(logits[0] - logits[1])))  # the probability of label 1
```

FOLDER is the folder that this file lies in. It calls no bases, so `zflipon annotate` does not take it; its encoder may
start another training."""

_CONTINUE = """A recipe of `zflipon train` starts from it with

```toml
[model]
checkpoint = "FOLDER"
```"""


def write_card(folder: Path, name: str, metadata: ModelMetadata, parameters: int, curves: bool) -> None:
    """Write the model card of a checkpoint: Markdown under the front matter that the Hugging Face Hub reads.

    Parameters
    ----------
    folder : Path
        Of the checkpoint; gets a `CARD`.
    name : str
    story : Story
        All figures are from here; what it does not tell is left out.
    parameters : int
        Number of weights.
    curves : bool
        Whether `CURVES` lies in the folder.

    Raises
    ------
    OutputError
        If the card cannot be written.
    """
    sections = {
        "What it is": _what(metadata, parameters),
        "How to use it": _use(metadata),
        "How and on what it was trained": _training(metadata, curves),
        "How good it is": _goodness(name, metadata),
        "Limits": _limits(metadata),
        "Versions": "\n".join(
            f"- {package} {version}" for package, version in metadata.versions.items() if version
        ),
    }
    told = [f"## {head}\n\n{text}" for head, text in sections.items() if text]
    lead = [_FRONT.format(family=metadata.family), f"# {name}", _GIST[metadata.objective]]
    if metadata.training.get("description"):
        lead.append(metadata.training["description"])
    with atomic_file(Path(folder) / CARD) as part:
        part.write_text("\n\n".join([*lead, *told]) + "\n", encoding="utf-8")


def _what(metadata: ModelMetadata, parameters: int) -> str:
    facts = {
        "family": metadata.family,
        "objective": metadata.objective,
        "parameters": f"{parameters:,}",
        "window": f"{metadata.window:,} bases",
        "tokens": metadata.max_token_length and f"at most {metadata.max_token_length} bases",
    }
    if metadata.objective in ("base", "token"):
        core = metadata.window - 2 * metadata.margin
        facts["window"] += f", of which the middle {core:,} are decided (margin {metadata.margin:,})"
        facts["strands"] = "both are read, and averaged" if metadata.both_strands else ""
        facts["called"] = f"bases of a probability of at least {metadata.threshold:g}"
        facts["calibration"] = _calibration(metadata.calibration)
    if metadata.objective == "token":
        least = {">=": "at least", ">": "more than"}[metadata.label_comparison]
        facts["label of a token"] = (
            f"Z-DNA where {least} {metadata.label_threshold:g} of its bases are labelled "
            f"(`{metadata.label_comparison}`)"
        )
    if metadata.features:
        missing = "; does without those that are missing" if metadata.allows_missing_features else ""
        tracks = ", ".join(f"{feature.name} ({feature.kind})" for feature in metadata.features)
        facts["omics tracks"] = f"{len(metadata.features)}: {tracks}{missing}"
    return _bullets(facts)


def _bullets(facts: Mapping[str, object]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in facts.items() if text)


def _calibration(calibration: Calibration) -> str:
    if calibration == Calibration():
        return ""
    line = f"log-odds × {calibration.scale:.4g} {'−' if calibration.bias < 0 else '+'} {abs(calibration.bias):.4g}"
    return line + (", bent" if calibration.correction else "")


def _use(metadata: ModelMetadata) -> str:
    if metadata.objective in ("base", "token"):
        return _ANNOTATE % (" --features TRACKS.tsv" if metadata.features else "") + _TRACKS * bool(
            metadata.features
        )
    return f"{_SEQUENCE}\n\n{_CONTINUE}" if metadata.objective == "sequence" else _CONTINUE


def _training(metadata: ModelMetadata, curves: bool) -> str:
    told = metadata.training
    facts = {
        "recipe": told.get("recipe"),
        "trained on": _trained_on(told),
        "validated on": format_names(told.get("validation_contigs") or (), 30),
        "tested on": format_names(told.get("test_contigs") or (), 30),
        "kept apart": told.get("split") == "stratified" and "windows at random, alike in labels and contigs",
    }
    facts = {name: text for name, text in facts.items() if text != "none"}
    stages = list(_stages(told.get("stages") or ()))
    parts = [_bullets(facts)]
    if stages:
        changes = ", each with what differs from the one before" if len(stages) > 1 else ""
        parts.append(f"Stages{changes}:\n\n" + "\n".join(stages))
    if curves:
        parts.append(f"![Training loss and validation measures against steps]({CURVES})")
    return "\n\n".join(filter(None, parts))


def _trained_on(told: Mapping) -> str:
    if told.get("sequences"):
        count = told.get("labels")
        return format_names(told["sequences"], 30) + (
            f"; {count:,} training sequences of label 1" if count else ""
        )
    counts = [
        f"{told[name]:,} {what}"
        for name, what in (("bases", "bases"), ("labels", "labelled regions"))
        if told.get(name)
    ]
    return "; ".join(
        filter(None, [told.get("contigs") and format_names(told["contigs"], 30), ", ".join(counts)])
    )


def _stages(stages: Iterable[Mapping]) -> Iterator[str]:
    """Tell the first stage in full, but for what it leaves unset, and what each later one has otherwise."""
    before: dict[str, str] = {}
    for number, stage in enumerate(stages, 1):
        idle = {"name", *_idle(stage)}
        now = dict(_settings({key: value for key, value in stage.items() if key not in idle}))
        now = {key: value for key, value in now.items() if value}
        told = [
            f"`{key}` {now.get(key, 'unset')}" + (f" (was {before[key]})" if key in before else "")
            for key in dict.fromkeys([*now, *before])
            if now.get(key) != before.get(key) and key not in idle
        ]
        yield f"{number}. **{stage.get('name', f'stage {number}')}**: {', '.join(told) or 'as before'}"
        before = now


def _idle(stage: Mapping) -> Iterator[str]:
    """Yield settings that a stage has but does not use: a reader would take them for what was done."""
    if stage.get("epochs"):
        yield "steps"
    if stage.get("objective") != "mlm":
        yield "masked"
    if stage.get("objective") != "token":
        yield from ("label_threshold", "label_comparison")


def _settings(table: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting and its value in words; those of a table within under its name."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield prefix + key, spoken(value)


def _goodness(name: str, metadata: ModelMetadata) -> str:
    quality = metadata.quality
    tested = test_table({name: quality})
    sampled = kind_of(quality) == "bases" and figures_at(quality, ("test", "sampled"))
    parts = [
        _of_twins(quality),
        tested,
        "**The sample flatters every model**: windows drawn at random hardly ever hold Z-forming sequence that is not "
        "labelled, and genomes are full of it. What a user meets is every base of the genome (see zflipon's README)."
        if sampled
        else "",
        grouped_tables(VALIDATION_BLOCKS, [(name, [quality])]),
        _validated(name, quality),
        _expected(metadata),
    ]
    return "\n\n".join(filter(None, parts))


def _of_twins(quality: Mapping) -> str:
    """Say whose figures they are, where the model itself has seen what they are of."""
    twins = quality.get("held_out_models")
    if not twins:
        return ""
    rows = [(format_names(each["contigs"], 30), [each]) for each in twins]
    if len(twins) > 1:
        rows.append(("mean ± sd", twins))
    table = grouped_tables(
        [Block("bases", "Every base of the contigs that each twin never saw", (), EVERY_BASE)], rows
    )
    return (
        "**These figures are of twins**, trained by the same recipe, each without the contigs that it tells of. This "
        "model was trained on all contigs, with calibration and threshold of what the twins say, taken together: no "
        f"figure on them can be its own.\n\n{table}"
    )


def _validated(name: str, quality: Mapping) -> str:
    """Tell what every base of the validation contigs gave, where calibration and threshold were chosen."""
    on = contigs_of(quality)
    figures = {**quality, "estimated": _is_estimated(quality)}
    title = f"Every base of what validates{on and f' ({on})'}, at the threshold of the highest F1"
    table = grouped_tables([Block(kind_of(quality), title, (), EVERY_BASE)], [(name, [figures])])
    note = quality.get("note")
    return table and table + (f"\n\nNote: {note}." if note else "")


def _is_estimated(quality: Mapping) -> bool:
    """Tell whether no contig was kept apart, so that words stand where their names would."""
    return bool(quality.get("estimated") or isinstance(quality.get("contigs"), str))


def _expected(metadata: ModelMetadata) -> str:
    """Tell precision and recall at the thresholds that a user may ask for."""
    at = metadata.quality.get("by_threshold") or {}
    rows = [[threshold, *(cell_of(numbers([each]), 3) for each in pair)] for threshold, pair in at.items()]
    if not rows:
        return ""
    on = contigs_of(metadata.quality)
    estimated = ", estimated from a sample of windows" if _is_estimated(metadata.quality) else ""
    where = f"On every base of what validates{on and f' ({on})'}{estimated}"
    table = markdown(["called from", "Precision", "Recall"], rows)
    return f"{where}, by the threshold that a base is called from (by default {metadata.threshold:g}):\n\n{table}"


def _limits(metadata: ModelMetadata) -> str:
    judged = [
        "It is as good as its labels: what they lack counts as absent, though it may form elsewhere or under other "
        "conditions, and what one assay or cell line shows is not the whole truth.",
        "Whether a sequence flips in a given cell depends on transcription and chromatin; it knows sequence alone."
        if metadata.objective in ("base", "token")
        else "",
    ]
    anyone = "Other organisms and assemblies than the one that it was trained on are untested."
    parts = [*(judged if metadata.objective in ("base", "token", "sequence") else []), anyone]
    return "\n".join(f"- {text}" for text in parts if text)
