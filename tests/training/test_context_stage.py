"""A recipe whose first stage learns chromatin tracks."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import dna, make_fasta

from zflipon.config import DataConfig, ModelConfig, Recipe, StageConfig, TokenizerConfig
from zflipon.errors import InputError, RecipeError
from zflipon.inference.predictor import Predictor
from zflipon.training.pipeline import train
from zflipon.training.recipe import load_recipe
from zflipon.training.splits import split_contigs

CALLS, UNIT = 60, 512
WIDE = {"widths": [8, 8, 8], "dilations": [1, 2]}
SHAPE = {"hidden_size": 8, "num_hidden_layers": 0, "num_attention_heads": 1, "intermediate_size": 8}


@pytest.fixture
def folder(tmp_path):
    """Write a genome in which calls inside G-rich sequence are labelled, with a chromatin track of that sequence."""
    rng = np.random.default_rng(4)
    rich = rng.random(CALLS) < 0.5
    flanks = [dna(UNIT // 2 - 8, seed, "GGGA" if each else "ACTT") for seed, each in enumerate(rich)]
    contigs = {
        name: "".join(f"{flank}{'CG' * 8}{flank}" for flank in flanks)
        for name in ("chr1_0", "chr1_9", "chr2")
    }
    make_fasta(tmp_path, contigs)
    middle = UNIT * np.arange(CALLS) + UNIT // 2
    rows = [f"{name}\t{at - 8}\t{at + 8}\n" for name in contigs for at in middle]
    (tmp_path / "candidates.bed").write_text("".join(rows))
    (tmp_path / "labels.bed").write_text(
        "".join(row for row, each in zip(rows, [*rich] * 3, strict=True) if each)
    )
    bins = np.tile(np.repeat(rich, UNIT // 128), 3)
    offset = np.arange(4) * CALLS * UNIT // 128
    bits = np.packbits(np.stack([bins, ~bins]), axis=1)
    np.savez(
        tmp_path / "targets.npz", names=["rich", "poor"], contigs=list(contigs), offset=offset, bits=bits
    )
    return tmp_path


def recipe(folder, **changes):
    data = DataConfig(
        genome=str(folder / "genome.fa"),
        labels=str(folder / "labels.bed"),
        candidates=str(folder / "candidates.bed"),
        chromatin=str(folder / "targets.npz"),
        validation_contigs=("chr2",),
    )
    stage = StageConfig(
        name="context", target="chromatin", window=1024, margin=256, steps=60, batch_size=4, learning_rate=1e-2,
        ema_decay=0.9, evaluations=0, precision="float32",
    )  # fmt: skip
    forming = StageConfig(
        name="forming", target="candidates", window=256, margin=64, steps=40, learning_rate=1e-2,
        hard_negatives=0, evaluations=0,
    )  # fmt: skip
    model = ModelConfig(family="compact", shape=SHAPE, base_head={"channels": 8, "wide_context": WIDE})
    tokenizer = TokenizerConfig(train=True, vocab_size=64, max_token_length=5)
    return Recipe(
        **{"data": data, "model": model, "tokenizer": tokenizer, "stage": (forming, stage)} | changes
    )


def test_the_stage_learns_which_calls_are_labelled(folder):
    trained = train(recipe(folder), folder / "out")
    assert trained.metadata.quality["average_precision"] > 0.8
    predictor = Predictor(trained)
    rich, poor = (dna(504, 9, letters) for letters in ("GGGA", "ACTT"))
    high, low = predictor.predict_probabilities([rich + "CG" * 8 + rich, poor + "CG" * 8 + poor])
    assert high[504:520].mean() > 2 * low[504:520].mean()
    history = (folder / "out" / "stages" / "2-context" / "history.jsonl").read_text()
    assert '"track_loss"' in history


def test_the_readout_can_be_refitted_after_it(folder):
    refit = StageConfig(name="readout", window=1024, margin=256, steps=0, readout_penalty=1.0, evaluations=0)
    before = recipe(folder)
    trained = train(recipe(folder, stage=(*before.stage, refit)), folder / "out")
    assert trained.metadata.quality["average_precision"] > 0.8


def test_a_model_without_wide_context_is_refused(folder):
    model = ModelConfig(family="compact", shape=SHAPE, base_head={"channels": 8})
    with pytest.raises(RecipeError, match=r"trains a wide context; set model\.base_head\.wide_context"):
        train(recipe(folder, model=model), folder / "out")


def test_targets_of_another_genome_are_refused(folder):
    np.savez(
        folder / "targets.npz", names=["a"], contigs=["x"], offset=[0, 8], bits=np.zeros((1, 1), np.uint8)
    )
    with pytest.raises(InputError, match="have no bins of 2 contigs"):
        train(recipe(folder), folder / "out")


def test_a_recipe_without_targets_is_refused(folder):
    data = replace(recipe(folder).data, chromatin=None)
    with pytest.raises(RecipeError, match=r"learns chromatin: set data\.chromatin and data\.candidates"):
        train(recipe(folder, data=data), folder / "out")


def test_float16_is_refused_on_the_cpu(folder):
    stages = tuple(replace(stage, precision="float16") for stage in recipe(folder).stage)
    with pytest.raises(RecipeError, match="precision 'float16' is not supported; set precision = 'auto'"):
        train(recipe(folder, stage=stages[-1:]), folder / "out")


def test_windows_are_whole_bins(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('[model]\nfamily = "compact"\n[[stage]]\ntarget = "chromatin"\nwindow = 1000\n')
    with pytest.raises(RecipeError, match="window: expected a multiple of 128"):
        load_recipe(path)


def test_patterns_select_contigs():
    lengths = {"chr1_0": 10, "chr1_9": 10, "chr2": 10, "chr20": 10}
    parts = split_contigs(DataConfig(validation_contigs=("chr1_*",), exclude_contigs=("chr?0",)), lengths)
    assert {part: list(contigs) for part, contigs in parts.items()} == {
        "train": ["chr2"],
        "validation": ["chr1_0", "chr1_9"],
        "test": [],
    }
    with pytest.raises(InputError, match=r"chr3\*"):
        split_contigs(DataConfig(validation_contigs=("chr3*",)), lengths)
