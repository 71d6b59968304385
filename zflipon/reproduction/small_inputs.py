"""Small models with random weights and synthetic data, with which every protocol of the paper runs in minutes.

Figures on them show that a protocol runs, not how good a model is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch

from zflipon.genome.alphabet import reverse_complement
from zflipon.models import create, get_family
from zflipon.reproduction.catalogue import PretrainedModel
from zflipon.tokenization.bpe_training import train_bpe
from zflipon.tokenization.tokenizers import DnaTokenizer, KmerTokenizer
from zflipon.tracks.atomic import atomic_file

SHAPE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
"""Shape of a small model."""

CONTIGS = {"small1": 200_000, "small2": 120_000}
"""Synthetic contigs and their lengths."""

MOTIFS = ("CGCGCGCGCGCG", "GTGCGTGCGTGCGTGC", "CACGCACGCACG", "GCGCGCGCGCGCGCGC")
"""Sequences that are labelled in the synthetic genome."""

_PROMOTER = "GTATAAAAG"
"""Motif of the sequences with label 1."""

_SEQUENCES = {"train": 320, "dev": 80, "test": 80}
_SEQUENCE_LENGTH = 70
_SPACING = 1_200
_UNLABELLED = 0.1
"""Share of the motifs without a label."""

_VOCABULARY, _LONGEST_TOKEN = 256, 8


def make_small_model(
    model: PretrainedModel, folder: Path, tokenizer: DnaTokenizer, seed: int = 0, **shape: int
) -> Path:
    """Write a small model in the layout of a published one, unless it exists.

    Parameters
    ----------
    model : PretrainedModel
    folder : Path
        Gets ``config.json`` with the published keys, ``pytorch_model.bin`` and the tokenizer.
    tokenizer : DnaTokenizer
    seed : int
        Seed of the weights.
    **shape
        Settings of the family's configuration in addition to `SHAPE`.

    Returns
    -------
    Path
        The folder.
    """
    if (folder / "config.json").exists():
        return folder
    torch.manual_seed(seed)
    made = create(model.family, "mlm", tokenizer, **SHAPE, **shape)
    folder.mkdir(parents=True, exist_ok=True)
    size, pad = made.module.config.vocab_size, tokenizer.pad_id
    keys = {**SHAPE, **shape, "vocab_size": size, "pad_token_id": pad, **model.config}
    tokenizer.save(folder)
    torch.save(made.module.state_dict(), folder / "pytorch_model.bin")
    with atomic_file(folder / "config.json") as part:  # last: a folder without it is not finished
        part.write_text(json.dumps(keys, indent=1), encoding="utf-8")
    return folder


def small_tokenizer(family: str, texts: Sequence[str]) -> DnaTokenizer:
    """Return a tokenizer of a family: all 6-mers, or a small BPE vocabulary trained on texts."""
    if get_family(family).tokenizer is KmerTokenizer:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map("".join, product("ACGT", repeat=6))]
        return KmerTokenizer({word: index for index, word in enumerate(words)})
    return train_bpe(list(texts), _VOCABULARY, _LONGEST_TOKEN)


def make_small_genome(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """Write a synthetic genome and its labels, unless they exist; return the FASTA and the BED.

    Most motifs are labelled; the sequence between them has few C and G next to each other.
    """
    genome, labels = folder / "genome.fa", folder / "labels.bed"
    if labels.exists():
        return genome, labels
    folder.mkdir(parents=True, exist_ok=True)
    rng, lines, rows = np.random.default_rng(seed), [], []
    for contig, length in CONTIGS.items():
        letters = rng.choice(list("AACTTG"), length)
        for start in range(_SPACING // 2, length - _SPACING, _SPACING):
            motif = MOTIFS[rng.integers(len(MOTIFS))]
            at = start + int(rng.integers(_SPACING // 2))
            letters[at : at + len(motif)] = list(motif)
            if rng.random() >= _UNLABELLED:
                rows.append(f"{contig}\t{at}\t{at + len(motif)}\n")
        text = "".join(letters)
        lines += [f">{contig}", *(text[i : i + 80] for i in range(0, length, 80))]
    _write(genome, "\n".join(lines) + "\n")
    _write(labels, "".join(rows))
    return genome, labels


def make_small_sequences(folder: Path, seed: int = 0) -> Path:
    """Write tables of sequences in the format of GUE, unless they exist; return their folder.

    Half of the sequences have the label 1 and, in either direction, a motif.
    """
    if (folder / "test.csv").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for part, count in _SEQUENCES.items():
        lines = ["sequence,label"]
        for number in range(count):
            letters = rng.choice(list("ACGT"), _SEQUENCE_LENGTH)
            if number % 2:
                at = int(rng.integers(20, 40))
                motif = _PROMOTER if rng.random() < 0.5 else reverse_complement(_PROMOTER)
                letters[at : at + len(motif)] = list(motif)
            lines.append(f"{''.join(letters)},{number % 2}")
        _write(folder / f"{part}.csv", "\n".join(lines) + "\n")
    return folder


def tokenizer_texts(genome: Path, bases: int = 50_000) -> list[str]:
    """Return the lines of a synthetic genome on which tokenizers are trained."""
    lines = [line for line in genome.read_text(encoding="utf-8").splitlines() if not line.startswith(">")]
    text = "".join(lines)[:bases]
    return [text[i : i + 1000] for i in range(0, len(text), 1000)]


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")
