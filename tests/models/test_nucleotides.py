"""DeepZ and GraphZ: layers compared with dense ones, padding, omics tracks, and all commands."""

import csv
import json
from dataclasses import replace

import numpy as np
import pyBigWig
import pytest
import torch
from click.testing import CliRunner
from conftest import dna, make_fasta

from zflipon.cli import cli
from zflipon.config import (
    AttributionConfig,
    DataConfig,
    FeaturesConfig,
    InferenceConfig,
    ModelConfig,
    Recipe,
    StageConfig,
)
from zflipon.errors import ModelError, RecipeError
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.windows import tile_windows
from zflipon.inference.genome_scan import predict_windows
from zflipon.inference.predictor import Predictor
from zflipon.models import create, load, save
from zflipon.models.collate import collate
from zflipon.models.families.graphz import LAYERS
from zflipon.models.heads.base_inputs import ZHUNT_CHANNELS
from zflipon.models.metadata import Feature
from zflipon.omics.features import FeatureTracks, open_features
from zflipon.tokenization.tokenizers import BaseTokenizer
from zflipon.training.dataset import read_training_data
from zflipon.training.evaluators import ContigEvaluator
from zflipon.training.pipeline import train

NETWORKS = [
    ("deepz", "lstm"),
    ("deepz", "cnn"),
    ("deepz", "hybrid"),
    ("graphz", "gcn"),
    ("graphz", "gat"),
    ("graphz", "sage"),
]
SMALL = {"hidden_size": 8, "num_hidden_layers": 2}


def make(family, variant, features=0, **more):
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
class TestLayersMatchDenseAdjacency:
    """A batch of two chains of different length."""

    def batch(self, nodes):
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
        x, inside = self.batch(nodes)
        layer = self.layer("gcn", reach)
        states = layer(x, inside)
        for row in range(2):
            matrix = self.dense(inside, row, reach)
            loops = matrix + torch.eye(len(matrix))
            scale = torch.diag(loops.sum(1) ** -0.5)
            expected = layer.linear(scale @ loops @ scale @ x[row, : len(matrix)])
            torch.testing.assert_close(states[row, : len(matrix)], expected, rtol=1e-4, atol=1e-5)

    def test_sage(self, reach, nodes):
        x, inside = self.batch(nodes)
        layer = self.layer("sage", reach)
        states = layer(x, inside)
        for row in range(2):
            matrix = self.dense(inside, row, reach)
            mean = matrix @ x[row, : len(matrix)] / matrix.sum(1, keepdim=True).clamp(min=1)
            expected = layer.own(x[row, : len(matrix)]) + layer.others(mean)
            torch.testing.assert_close(states[row, : len(matrix)], expected, rtol=1e-4, atol=1e-5)

    def test_gat(self, reach, nodes):
        x, inside = self.batch(nodes)
        layer = self.layer("gat", reach)
        states = layer(x, inside)
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
                    actual = states[row, node].view(2, 4)[head]
                    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "variant"), NETWORKS)
def test_padding_changes_nothing(family, variant):
    checkpoint = make(family, variant)
    short, long = dna(70, 1), dna(150, 2)
    together = logits(checkpoint, [short, long])
    torch.testing.assert_close(together[0, :70], logits(checkpoint, [short])[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[1], logits(checkpoint, [long])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "variant"), NETWORKS)
def test_a_saved_network_gives_the_same_logits(family, variant, tmp_path):
    checkpoint = make(family, variant)
    save(checkpoint, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.metadata.family == family
    torch.testing.assert_close(logits(again, [dna(90)]), logits(checkpoint, [dna(90)]))


@pytest.mark.parametrize(("family", "variant"), NETWORKS)
def test_a_track_changes_the_bases_it_covers(family, variant):
    checkpoint = make(family, variant, features=2, **({"kernel": 3} if family == "deepz" else {"reach": 1}))
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
    from zflipon.explain.attribution import AttributionTarget
    from zflipon.explain.integrated_gradients import IntegratedGradientsExplainer

    checkpoint = make(family, variant)
    sequence = dna(40, 5) + "CG" * 8 + dna(40, 6)
    weights = np.zeros(len(sequence), dtype=np.float32)
    weights[40:56] = 1 / 16
    (attribution,) = IntegratedGradientsExplainer(checkpoint, AttributionConfig(steps=128), "cpu").attribute(
        [sequence], [AttributionTarget(0, weights)]
    )
    assert abs(attribution.completeness_error) < 0.02 * max(
        0.05, abs(attribution.output - attribution.baseline_output)
    )
    assert attribution.per_base().sum() == pytest.approx(attribution.total, abs=1e-4)


@pytest.mark.parametrize(("family", "variant"), NETWORKS)
def test_gradients_are_finite_differences(family, variant):
    module = make(family, variant, features=1).module.double()
    width = 4 + ZHUNT_CHANNELS + 2
    inside = torch.ones(2, 11, 1, dtype=torch.float64)
    inside[1, 8:] = 0
    x = torch.randn(2, 11, width, dtype=torch.float64, requires_grad=True)

    def logits_of(x):
        logits = module.output(module.states(x * inside, inside))
        return logits[0, ::3], logits[1, :8:3]

    assert torch.autograd.gradcheck(logits_of, x)


@pytest.mark.parametrize(("family", "variant"), NETWORKS)
def test_n_has_no_letter_and_is_no_padding(family, variant):
    checkpoint = make(family, variant)
    sequence = dna(40, 1) + "N" * 30 + dna(40, 2)
    with_n = logits(checkpoint, [sequence])
    assert torch.isfinite(with_n).all()
    other = logits(checkpoint, [sequence.replace("N", "R")])
    assert torch.equal(with_n, other)
    assert not torch.allclose(with_n[0, 70:], logits(checkpoint, [sequence[70:]])[0])


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("deepz", {"variant": "gru"}, "variant 'gru' is unknown; expected one of lstm, cnn, hybrid"),
        ("deepz", {"kernel": 4}, "kernel must be an odd number of bases, not 4"),
        ("deepz", {"hidden_size": "8"}, "hidden_size must be an integer from 1 to 100,000, not '8'"),
        ("deepz", {"zhunt": [6]}, r"zhunt must be the fewest and most dinucleotides .* not \[6\]"),
        ("graphz", {"reach": 0}, "reach must be a number of bases, 1 or more, not 0"),
        (
            "graphz",
            {"variant": "gat", "hidden_size": 10},
            r"num_attention_heads must be a number that divides hidden_size \(10\)",
        ),
        ("graphz", {"base_head": {"channels": 4}}, "has no base head; remove the base_head settings"),
    ],
)
def test_impossible_settings_are_refused(family, settings, message):
    with pytest.raises(ModelError, match=f"family '{family}': .*{message}"):
        create(family, "base", BaseTokenizer(), **settings)


def test_other_objectives_are_refused():
    with pytest.raises(ModelError, match="GraphzModel has no objective 'token'; expected 'base'"):
        create("graphz", "token", BaseTokenizer(), variant="gcn")


@pytest.fixture(scope="module", params=[("deepz", "cnn"), ("graphz", "sage")], ids="-".join)
def trained(request, tmp_path_factory):
    """Return a folder with a genome, and a model in `out`: runs of CG are labelled where track 'decides' is."""
    family, variant = request.param
    folder, rng = tmp_path_factory.mktemp(family), np.random.default_rng(0)
    pieces, calls = [], []
    for number in range(60):
        pieces += [dna(90, number), "CG" * 10, dna(90, 100 + number)]
        calls.append((200 * number + 90, 200 * number + 110))
    formed = rng.random(len(calls)) < 0.5
    labels = [call for call, is_formed in zip(calls, formed, strict=True) if is_formed]
    around = [
        [(s - 20, e + 20) for (s, e), here in zip(calls, chosen, strict=True) if here]
        for chosen in (formed, rng.permutation(formed))
    ]
    make_fasta(folder, {"c": "".join(pieces)})
    named = {"labels": labels, "candidates": calls, "decides": around[0], "idle": around[1]}
    for name, rows in named.items():
        (folder / f"{name}.bed").write_text("".join(f"c\t{s}\t{e}\n" for s, e in rows))
    (folder / "tracks.tsv").write_text("decides\tdecides.bed\tbinary\nidle\tidle.bed\tbinary\n")
    recipe = Recipe(
        data=DataConfig(
            genome=str(folder / "genome.fa"),
            labels=str(folder / "labels.bed"),
            candidates=str(folder / "candidates.bed"),
        ),
        features=FeaturesConfig(str(folder / "tracks.tsv"), 0.0),
        model=ModelConfig(
            family=family, shape={"variant": variant, "hidden_size": 16, "num_hidden_layers": 2}
        ),
        stage=(
            StageConfig(steps=120, batch_size=8, window=200, margin=20, learning_rate=1e-2, evaluations=0),
        ),
    )
    checkpoint = train(recipe, folder / "out")
    assert checkpoint.metadata.features == (Feature("decides", "binary"), Feature("idle", "binary"))
    assert not checkpoint.metadata.allows_missing_features
    return folder


def test_a_recipe_trains_a_network_that_reads_its_tracks(trained):
    with Genome(trained / "genome.fa") as genome:
        tracks = open_features(
            load(trained / "out").metadata.features, trained / "tracks.tsv", genome.lengths
        )
        labels, calls = (
            read_bed(trained / f"{name}.bed", genome.lengths)["c"] for name in ("labels", "candidates")
        )

        def separation(features):
            predictor = Predictor(load(trained / "out"), InferenceConfig(threads=1), features=features)
            probabilities = predict_windows(
                predictor, genome, "c", tile_windows(0, genome.lengths["c"], 200, 20)
            )
            means = np.array([probabilities[start:end].mean() for start, end in calls])
            labelled = np.isin(calls[:, 0], labels[:, 0])
            return np.mean(means[labelled][:, None] > means[~labelled])

        assert separation(tracks) > 0.95
        assert separation(tracks.shift_track("idle")) > 0.9
        assert separation(tracks.shift_track("decides")) < 0.8


def test_contigs_are_evaluated_in_parts(trained, monkeypatch):
    """So that tracks base by base need no more memory on a longer contig."""
    data = DataConfig(genome=str(trained / "genome.fa"), labels=str(trained / "labels.bed"))
    training_data = read_training_data(data, features=FeaturesConfig(str(trained / "tracks.tsv")))
    checkpoint, stage = load(trained / "out"), StageConfig(window=200, margin=20)
    evaluator = ContigEvaluator(
        training_data.genome, ["c"], training_data.labels, {}, {}, training_data.features
    )
    whole = evaluator.measure(checkpoint, stage)
    spans, values = [], FeatureTracks.values
    monkeypatch.setattr(
        FeatureTracks,
        "values",
        lambda self, contig, *place: spans.append(place) or values(self, contig, *place),
    )
    monkeypatch.setattr("zflipon.genome.shards.SHARD_BASES", 1000)
    assert evaluator.measure(checkpoint, stage) == pytest.approx(whole, abs=1e-6)
    assert len(spans) == 12
    assert max(end - start for start, end in spans) <= 1000 + 2 * 200


def rows_of(path):
    """Return the rows of one of our tables."""
    return list(csv.DictReader(line for line in path.read_text().splitlines() if line[0] != "#"))


def test_all_commands_run(trained, tmp_path):
    genome, model = trained / "genome.fa", ("--model", trained / "out", "--features", trained / "tracks.tsv")
    labels = ("--labels", trained / "labels.bed")

    def run(*words):
        done = CliRunner().invoke(cli, list(map(str, words)))
        assert done.exit_code == 0, (words, done.output, done.exception)

    run("annotate", genome, *model, "-o", tmp_path / "x.bw", "-o", tmp_path / "x.bed")
    run("evaluate", tmp_path / "x.bw", *labels, "--genome", genome, "--json", tmp_path / "x.json")
    (figures,) = json.loads((tmp_path / "x.json").read_text())["tracks"].values()
    assert figures["genome"]["average_precision"] > 0.8
    run("explain", "tracks", genome, *model, *labels, "--all-windows", "-o", tmp_path / "tracks.csv")
    first, second = rows_of(tmp_path / "tracks.csv")
    assert first["track"] == "decides"
    assert float(first["lost"]) > 0.1 > abs(float(second["lost"]))
    run("explain", "tokens", genome, *model, *labels, "-o", tmp_path / "tokens.csv")
    shares = {row["token"]: float(row["tp_percent"]) for row in rows_of(tmp_path / "tokens.csv")}
    assert set(shares) >= set("ACGT")
    assert min(shares["C"], shares["G"]) > max(shares["A"], shares["T"])
    pytest.importorskip("captum")
    first = int((trained / "labels.bed").read_text().split()[1])
    place = f"c:{first + 1 - 40}-{first + 60}"
    run("explain", "attributions", genome, *model, "--region", place, "-o", tmp_path / "why.bw")
    with pyBigWig.open(str(tmp_path / "why.bw")) as track:
        shares = np.array(track.values("c", first - 40, first + 60))
    assert np.nansum(shares[40:60]) > 2 * abs(np.nansum(shares[:30]))
    run("explain", "locus", place, "--genome", genome, *model, "--steps", 8, "-o", tmp_path / "x.svg")
    assert "attribution of omics tracks" in (tmp_path / "x.svg").read_text()


STAGE = StageConfig(steps=1, window=200, margin=20, batch_size=2, evaluations=0)


@pytest.mark.parametrize(
    ("stage", "tokenizer", "message"),
    [
        ({}, True, "tokenizer.train: expected false; deepz reads single bases"),
        ({"readout_penalty": 10.0}, False, "deepz has no base head; set readout_penalty = 0"),
        ({"auxiliary": ("candidates",)}, False, "deepz has no base head; remove auxiliary"),
        ({"gradient_checkpointing": True}, False, "deepz does not support gradient checkpointing"),
    ],
)
def test_a_recipe_with_unsupported_settings_is_refused(tmp_path, stage, tokenizer, message):
    recipe = small_recipe(tmp_path, stage, {})
    recipe = replace(recipe, tokenizer=replace(recipe.tokenizer, train=tokenizer))
    with pytest.raises(RecipeError, match=message):
        train(recipe, tmp_path / "out")


def small_recipe(folder, stage, shape):
    """Return a recipe with one training step."""
    path = make_fasta(folder, {"c": dna(2000)})
    (folder / "x.bed").write_text("c\t100\t120\n")
    data = DataConfig(genome=str(path), labels=str(folder / "x.bed"), candidates=str(folder / "x.bed"))
    return Recipe(data=data, model=ModelConfig(family="deepz", shape=shape), stage=(replace(STAGE, **stage),))


def test_a_stage_sets_the_dropout_between_layers_of_an_lstm(tmp_path, monkeypatch):
    rates = []
    monkeypatch.setattr(
        "zflipon.training.pipeline.train_stage",
        lambda checkpoint, *_: rates.append(checkpoint.module.recurrence.lstm.dropout),
    )
    train(small_recipe(tmp_path, {"dropout": 0.4}, SMALL), tmp_path / "out")
    assert rates == [0.4]


def test_a_family_that_needs_a_tokenizer_says_so(tmp_path):
    path = make_fasta(tmp_path, {"c": dna(2000)})
    (tmp_path / "x.bed").write_text("c\t100\t120\n")
    data = DataConfig(genome=str(path), labels=str(tmp_path / "x.bed"))
    recipe = Recipe(data=data, model=ModelConfig(family="compact"), stage=(StageConfig(steps=1),))
    with pytest.raises(RecipeError, match=r"tokenizer\.train: expected true"):
        train(recipe, tmp_path / "out")
