"""DeepZ and GraphZ: layers against slow ones, padding, tracks, and all verbs with them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import dna, make_fasta

from zflipon.config import (
    AttributionConfig,
    DataConfig,
    FeaturesConfig,
    ModelConfig,
    PredictConfig,
    Recipe,
    StageConfig,
)
from zflipon.errors import ModelError, RecipeError
from zflipon.genome import Genome
from zflipon.models import create, load, save
from zflipon.models.batch import collate
from zflipon.models.graphz import LAYERS
from zflipon.models.story import Feature
from zflipon.predict import Predictor
from zflipon.stretches import predict_tiles
from zflipon.tokens import BaseTokenizer
from zflipon.training.stages import train
from zflipon.windows import tile

NETWORKS = [
    ("deepz", "lstm"),
    ("deepz", "cnn"),
    ("deepz", "hybrid"),
    ("graphz", "gcn"),
    ("graphz", "gat"),
    ("graphz", "sage"),
]
SMALL = {"hidden_size": 8, "num_hidden_layers": 2}


def made(family, variant, features=0, **more):
    torch.manual_seed(1)
    checkpoint = create(family, "base", BaseTokenizer(), variant=variant, features=features, **SMALL, **more)
    checkpoint.module.eval()
    return checkpoint


def logits(checkpoint, sequences, features=None, present=None):
    tokens = checkpoint.tokenizer.encode(sequences)
    batch = collate(tokens, sequences, checkpoint.tokenizer.pad_id, True, features, present)
    with torch.no_grad():
        return checkpoint.module(**batch).logits


def neighbours_of(node, nodes, reach):
    return [other for other in range(max(0, node - reach), min(nodes, node + reach + 1)) if other != node]


@pytest.mark.parametrize("reach", [1, 3])
@pytest.mark.parametrize("nodes", [1, 2, 9])
class TestLayersAgainstAdjacency:
    """A graph of two chains, the one shorter than the other."""

    def given(self, nodes):
        torch.manual_seed(nodes)
        inside = torch.ones(2, nodes + 2, 1)
        inside[1, nodes:] = 0
        return torch.randn(2, nodes + 2, 6) * inside, inside

    def dense(self, inside, row, reach):
        """Return the adjacency without loops."""
        nodes = int(inside[row].sum())
        matrix = torch.zeros(nodes, nodes)
        for node in range(nodes):
            matrix[node, neighbours_of(node, nodes, reach)] = 1
        return matrix

    def layer(self, name, reach):
        torch.manual_seed(0)
        return LAYERS[name](6, 8, reach, 2).eval()

    def test_gcn(self, reach, nodes):
        x, inside = self.given(nodes)
        layer = self.layer("gcn", reach)
        found = layer(x, inside)
        for row in range(2):
            matrix = self.dense(inside, row, reach)
            loops = matrix + torch.eye(len(matrix))
            scale = torch.diag(loops.sum(1) ** -0.5)
            expected = layer.linear(scale @ loops @ scale @ x[row, : len(matrix)])
            torch.testing.assert_close(found[row, : len(matrix)], expected, rtol=1e-4, atol=1e-5)

    def test_sage(self, reach, nodes):
        x, inside = self.given(nodes)
        layer = self.layer("sage", reach)
        found = layer(x, inside)
        for row in range(2):
            matrix = self.dense(inside, row, reach)
            mean = matrix @ x[row, : len(matrix)] / matrix.sum(1, keepdim=True).clamp(min=1)
            expected = layer.own(x[row, : len(matrix)]) + layer.others(mean)
            torch.testing.assert_close(found[row, : len(matrix)], expected, rtol=1e-4, atol=1e-5)

    def test_gat(self, reach, nodes):
        x, inside = self.given(nodes)
        layer = self.layer("gat", reach)
        found = layer(x, inside)
        for row in range(2):
            matrix = self.dense(inside, row, reach)
            size = len(matrix)
            values = layer.linear(x[row, :size]).view(size, 2, 4)
            for node in range(size):
                edges = [node, *neighbours_of(node, size, reach)]
                for head in range(2):
                    own = layer.receiving.weight[0] @ values[node, head]
                    scores = torch.stack(
                        [own + layer.sending.weight[0] @ values[other, head] for other in edges]
                    )
                    weights = torch.softmax(torch.nn.functional.leaky_relu(scores, 0.2), dim=0)
                    expected = sum(w * values[other, head] for w, other in zip(weights, edges, strict=True))
                    mine = found[row, node].view(2, 4)[head]
                    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "variant"), NETWORKS)
def test_a_padded_sequence_is_decided_as_alone(family, variant):
    checkpoint = made(family, variant)
    short, long = dna(70, 1), dna(150, 2)
    together = logits(checkpoint, [short, long])
    torch.testing.assert_close(together[0, :70], logits(checkpoint, [short])[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[1], logits(checkpoint, [long])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "variant"), NETWORKS)
def test_a_saved_network_decides_the_same(family, variant, tmp_path):
    checkpoint = made(family, variant)
    save(checkpoint, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.story.family == family
    torch.testing.assert_close(logits(again, [dna(90)]), logits(checkpoint, [dna(90)]))


@pytest.mark.parametrize(("family", "variant"), NETWORKS)
def test_every_base_sees_its_own_tracks(family, variant):
    checkpoint = made(family, variant, features=2, **({"kernel": 3} if family == "deepz" else {"reach": 1}))
    features = np.zeros((2, 200), dtype=np.float32)
    before = logits(checkpoint, [dna(200)], [features], np.ones(2))
    features[1, 100] = 3
    change = (logits(checkpoint, [dna(200)], [features], np.ones(2)) - before).abs()[0]
    assert change[100] > 0
    if variant in ("cnn", "gcn", "gat", "sage"):  # of which each layer reaches so far
        assert change[:90].max() == 0 == change[111:].max()
    assert change.argmax() in range(97, 104)


@pytest.mark.parametrize(("family", "variant"), NETWORKS)
def test_attributions_add_up(family, variant):
    pytest.importorskip("captum")
    from zflipon.explain.attributions import Aim, Attributor

    checkpoint = made(family, variant)
    sequence = dna(40, 5) + "CG" * 8 + dna(40, 6)
    weights = np.zeros(len(sequence), dtype=np.float32)
    weights[40:56] = 1 / 16
    (found,) = Attributor(checkpoint, AttributionConfig(steps=128), "cpu").attribute(
        [sequence], [Aim(0, weights)]
    )
    assert abs(found.delta) < 0.02 * max(0.05, abs(found.output - found.reference))
    assert found.per_base().sum() == pytest.approx(found.attributed, abs=1e-4)


def test_what_cannot_be_made():
    with pytest.raises(ModelError, match="variant 'gru' is unknown; expected one of lstm, cnn, hybrid"):
        made("deepz", "gru")
    with pytest.raises(ModelError, match="a network over nucleotides decides bases"):
        create("graphz", "token", BaseTokenizer(), variant="gcn")


@pytest.mark.parametrize(("family", "variant"), [("deepz", "cnn"), ("graphz", "sage")])
def test_a_recipe_trains_one_with_tracks(family, variant, tmp_path):
    # runs of CG are labelled where the track is
    rng, pieces, labels, at = np.random.default_rng(0), [], [], 0
    calls = []
    for number in range(60):
        flank = dna(90, number)
        pieces += [flank, "CG" * 10, dna(90, 100 + number)]
        calls.append((at + 90, at + 110))
        if rng.random() < 0.5:
            labels.append(calls[-1])
        at += 200
    path = make_fasta(tmp_path, {"c": "".join(pieces)})
    for name, rows in (
        ("labels", labels),
        ("candidates", calls),
        ("track", [(s - 20, e + 20) for s, e in labels]),
    ):
        (tmp_path / f"{name}.bed").write_text("".join(f"c\t{s}\t{e}\n" for s, e in rows))
    (tmp_path / "tracks.tsv").write_text("track\ttrack.bed\tbinary\n")
    recipe = Recipe(
        data=DataConfig(
            genome=str(path), labels=str(tmp_path / "labels.bed"), candidates=str(tmp_path / "candidates.bed")
        ),
        features=FeaturesConfig(str(tmp_path / "tracks.tsv"), 0.0),
        model=ModelConfig(
            family=family, shape={"variant": variant, "hidden_size": 16, "num_hidden_layers": 2}
        ),
        stage=(
            StageConfig(steps=120, batch_size=8, window=200, margin=20, learning_rate=1e-2, evaluations=0),
        ),
    )
    checkpoint = train(recipe, tmp_path / "out")
    assert checkpoint.story.features == (Feature("track", "binary"),)
    assert not checkpoint.story.bears_missing
    with Genome(path) as genome:
        from zflipon.features import open_features

        tracks = open_features(checkpoint.story.features, tmp_path / "tracks.tsv", genome.lengths)
        predictor = Predictor(load(tmp_path / "out"), PredictConfig(threads=1), features=tracks)
        found = predict_tiles(predictor, genome, "c", tile(0, at, 200, 20))
    means = {call: found[slice(*call)].mean() for call in calls}
    labelled = [means[call] for call in labels]
    others = [means[call] for call in calls if call not in labels]
    assert np.mean(np.array(labelled)[:, None] > np.array(others)) > 0.95


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokenizer": True}, "deepz reads bases and needs no tokenizer"),
        ({"readout": 10.0}, "deepz has no base head whose readout could be fitted"),
    ],
)
def test_a_recipe_that_asks_for_what_it_has_not(tmp_path, changes, said):
    path = make_fasta(tmp_path, {"c": dna(2000)})
    (tmp_path / "x.bed").write_text("c\t100\t120\n")
    data = DataConfig(genome=str(path), labels=str(tmp_path / "x.bed"), candidates=str(tmp_path / "x.bed"))
    stage = StageConfig(steps=1, window=200, margin=20, readout=changes.get("readout", 0.0))
    recipe = Recipe(data=data, model=ModelConfig(family="deepz"), stage=(stage,))
    recipe = replace(recipe, tokenizer=replace(recipe.tokenizer, train=changes.get("tokenizer", False)))
    with pytest.raises(RecipeError, match=said):
        train(recipe, tmp_path / "out")


def test_a_family_that_needs_a_tokenizer_says_so(tmp_path):
    path = make_fasta(tmp_path, {"c": dna(2000)})
    (tmp_path / "x.bed").write_text("c\t100\t120\n")
    data = DataConfig(genome=str(path), labels=str(tmp_path / "x.bed"))
    recipe = Recipe(data=data, model=ModelConfig(family="compact"), stage=(StageConfig(steps=1),))
    with pytest.raises(RecipeError, match=r"\[tokenizer\] train = true is needed"):
        train(recipe, tmp_path / "out")
