"""DNA structures: the registry, and a structure from outside the package that a recipe trains."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import dna, make_fasta

import zflipon
from zflipon.config import DataConfig, InferenceConfig, ModelConfig, Recipe, StageConfig
from zflipon.errors import ModelError
from zflipon.genome.alphabet import NUCLEOTIDES, base_codes
from zflipon.inference.predictor import Predictor
from zflipon.models import create, get_structure, load, register_structure
from zflipon.models.heads.base_inputs import ZHUNT_CHANNELS, zhunt_features
from zflipon.models.heads.kmers import dinucleotide_classes
from zflipon.models.structure import Z_DNA, structure_names, unregister_structure
from zflipon.tokenization.tokenizers import BaseTokenizer
from zflipon.training import pipeline

G = NUCLEOTIDES["G"]


def g_runs(bases, shortest, longest):
    """Return one channel, the share of G around a base, and as calls the middles of runs of three G."""
    is_g = (bases == G).float()
    share = torch.nn.functional.avg_pool1d(is_g[:, None], 9, stride=1, padding=4)
    runs = torch.nn.functional.avg_pool1d(is_g[:, None], 3, stride=1, padding=1)[:, 0] > 0.99
    return share, runs


def g_classes(k):
    """Return one class, k-mers of G alone."""
    classes = np.zeros((1, 4**k))
    classes[0, sum(G * 4**i for i in range(k))] = 1
    return classes


G_QUADRUPLEX = replace(
    Z_DNA,
    name="G-quadruplex",
    energetics=g_runs,
    energetics_channels=1,
    kmer_classes=g_classes,
    vcf_prefix="G4",
    track_label="Probability of a G-quadruplex",
)


@pytest.fixture
def g_quadruplex():
    register_structure(G_QUADRUPLEX)
    yield G_QUADRUPLEX
    unregister_structure(G_QUADRUPLEX.name)


def test_z_dna_is_the_default_and_reads_zhunt():
    assert get_structure() is get_structure("Z-DNA") is Z_DNA
    bases = torch.randint(0, 4, (1, 60))
    for one, other in zip(Z_DNA.energetics(bases, 6, 12), zhunt_features(bases, 6, 12), strict=True):
        assert torch.equal(one, other)
    assert Z_DNA.energetics_channels == ZHUNT_CHANNELS
    np.testing.assert_array_equal(Z_DNA.kmer_classes(4), dinucleotide_classes(4))


def test_a_name_is_registered_once(g_quadruplex):
    assert structure_names() == ("Z-DNA", "G-quadruplex")
    with pytest.raises(ModelError, match="structure 'G-quadruplex' is registered already"):
        register_structure(G_QUADRUPLEX)
    with pytest.raises(ModelError, match="structure 'Z-DNA' was not registered"):
        unregister_structure("Z-DNA")


def test_an_unknown_structure_is_named():
    with pytest.raises(ModelError, match=r"unknown structure 'Z-RNA' .*'Z-DNA'.*known are Z-DNA"):
        create("deepz", "base", BaseTokenizer(), structure="Z-RNA")


@pytest.mark.parametrize("family", ["deepz", "compact"])
def test_a_recipe_trains_a_model_of_another_structure(g_quadruplex, family, tmp_path):
    run = "GGGTTAGGGTTAGGGTTAGGG"
    sequence = "".join(dna(90, i, "ACT") + run + dna(90, 99 + i, "ACT") for i in range(30))
    period = 180 + len(run)
    make_fasta(tmp_path, {"a": sequence})
    rows = "".join(f"a\t{period * i + 90}\t{period * i + 90 + len(run)}\n" for i in range(30))
    (tmp_path / "labels.bed").write_text(rows)
    shape = {"structure": "G-quadruplex", "hidden_size": 8, "num_hidden_layers": 1}
    shape |= {"variant": "cnn"} if family == "deepz" else {"num_attention_heads": 2, "intermediate_size": 16}
    recipe = Recipe(
        data=DataConfig(
            genome=str(tmp_path / "genome.fa"),
            labels=str(tmp_path / "labels.bed"),
            candidates=str(tmp_path / "labels.bed"),
        ),
        model=ModelConfig(family=family, shape=shape),
        stage=(
            StageConfig(steps=40, batch_size=4, window=192, margin=32, learning_rate=2e-2, evaluations=0),
        ),
    )
    if family == "compact":
        tokenizer = replace(recipe.tokenizer, train=True, vocab_size=64, max_token_length=5)
        recipe = replace(recipe, tokenizer=tokenizer)
    pipeline.train(recipe, tmp_path / "out")
    module = load(tmp_path / "out").module
    assert module.structure is G_QUADRUPLEX
    codes = torch.from_numpy(base_codes(sequence[:period]))[None]
    channels, in_call = module.structure.energetics(codes, 6, 12)
    assert channels.shape == (1, 1, period)
    assert in_call.sum() == 4
    output = tmp_path / "g4.bed"
    record = zflipon.annotate(tmp_path / "genome.fa", output, tmp_path / "out", track_line=True)
    assert (record["structure"], record["label"]) == ("G-quadruplex", "Probability of a G-quadruplex")
    assert 'description="Probability of a G-quadruplex >= ' in output.read_text().splitlines()[0]
    checkpoint = load(tmp_path / "out")
    (probabilities,) = Predictor(checkpoint, InferenceConfig(device="cpu")).predict_probabilities(
        [sequence[:period]]
    )
    inside = slice(90, 90 + len(run))
    assert probabilities[inside].mean() > 2 * np.delete(probabilities, range(80, 121)).mean()
