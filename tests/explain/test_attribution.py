"""Integrated Gradients: completeness, a plain loop, batching, a closed form, the paper's tables and the track."""

import csv
import struct
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyBigWig
import pytest
import torch
from captum.attr import IntegratedGradients
from click.testing import CliRunner
from conftest import dna, make_fasta
from small_models import _tokenizer

from zflipon.cli.explain.attributions import attributions as command
from zflipon.config import AttributionConfig, InferenceConfig, LoraConfig, Selection
from zflipon.errors import InputError, MissingExtraError, ModelError, OutputError
from zflipon.explain.attribution import AttributionTarget, Attributor
from zflipon.explain.token_tables import (
    Labelled,
    TokenScores,
    attribution_track,
    labelled_sequences,
    labelled_windows,
    token_table,
    true_positives,
)
from zflipon.genome.alphabet import PADDING_BASE, base_codes
from zflipon.genome.fasta import Genome
from zflipon.inference.predictor import Predictor
from zflipon.models import Calibration, ModelMetadata, create, family_names, get_family, load, save
from zflipon.models.adapters import attach
from zflipon.models.base import DnaOutput
from zflipon.models.labels import class_log_odds
from zflipon.tokenization.tokens import Tokens

TRAINED = [name for name in family_names() if get_family(name).reads_tokens]

OBJECTIVES = ("token", "base", "sequence")

SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}

HEAD = {"channels": 8, "kernel": 5, "dilations": [1, 2], "context": 16, "context_dilations": [1, 2]}

FLIPPY = "CGCGCGCGTGCGCGCACG"
"""What Z-HUNT calls."""


def windows(count=3, size=64):
    """Windows of unlike length with something to call in each."""
    made = [dna(size + 9 * i, i) for i in range(count)]
    return [text[:20] + FLIPPY + text[20 + len(FLIPPY) :] for text in made]


def made(name, objective, seed=1):
    """A small model whose numbers move: random weights wider than those that training starts from."""
    torch.manual_seed(seed)
    own = {"local_attention": 16} if name == "modernbert" else {}
    checkpoint = create(
        name, objective, _tokenizer(name, None, 0), initializer_range=0.1, base_head=HEAD, **SHAPE, **own
    )
    checkpoint.module.eval()
    return checkpoint


def aim(checkpoint, sequences, index):
    """Weights of unlike size over what a head gives of a sequence."""
    tokens = checkpoint.tokenizer.encode([sequences[index]])[0]
    size = {"token": len(tokens.ids), "base": len(sequences[index]), "sequence": 1}
    rng = np.random.default_rng(index)
    weights = rng.uniform(0.2, 1, size[checkpoint.metadata.objective]).astype(np.float32)
    if checkpoint.metadata.objective == "base":  # as a call is explained: the mean over its bases
        weights[:18] = weights[42:] = 0
        weights /= weights.sum()
    return AttributionTarget(index, weights)


def attributed(checkpoint, sequences, aims=None, **settings):
    """Attributions in the order of the aims."""
    aims = aims or [aim(checkpoint, sequences, index) for index in range(len(sequences))]
    found = list(Attributor(checkpoint, AttributionConfig(**settings), "cpu").attribute(sequences, aims))
    return [next(one for one in found if one.aim is wanted) for wanted in aims]


def by_a_plain_loop(checkpoint, sequence, weights, steps):
    """Integrated Gradients written out: one sequence, one step at a time, double precision, midpoints."""
    module = checkpoint.module.double()
    tokens = checkpoint.tokenizer.encode([sequence])[0]
    table = module.get_input_embeddings()
    x = table(torch.from_numpy(tokens.ids))[None].detach()
    start = x.clone()
    start[0, torch.from_numpy(tokens.lengths > 0)] = table(
        torch.from_numpy(checkpoint.tokenizer.base_ids)
    ).mean(0)
    ends, given, seen = [x], {}, None
    if checkpoint.metadata.objective == "base":
        place = torch.from_numpy(np.repeat(np.arange(len(tokens.ids)), tokens.lengths))[None]
        bases = torch.from_numpy(base_codes(sequence))[None]
        seen = module.base_head.read_bases(bases)
        ends += [seen.letters.double(), seen.ready.double()]
        given = {"bases": bases, "base_tokens": place}
    starts = [start.detach(), *(torch.zeros_like(end) for end in ends[1:])]
    sums = [torch.zeros_like(end) for end in ends]
    for step in range(steps):
        alpha = (step + 0.5) / steps
        now = [(a + alpha * (b - a)).detach().requires_grad_() for a, b in zip(starts, ends, strict=True)]
        if seen is not None:
            given["seen"] = seen._replace(letters=now[1], ready=now[2])
        logits = module(inputs_embeds=now[0], **given).logits[0].double()
        if checkpoint.metadata.objective != "base":
            logits = logits[..., 1] - logits[..., 0]
        value = (logits.reshape(-1) * torch.from_numpy(weights)).sum()
        for total, gradient in zip(sums, torch.autograd.grad(value, now), strict=True):
            total += gradient / steps
    module.float()
    shares = [s * (b - a) for s, a, b in zip(sums, starts, ends, strict=True)]
    return [part.sum(2 if i == 0 else 1)[0].numpy() for i, part in enumerate(shares)]


# ---- the gradients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", TRAINED)
def test_attributions_add_up_and_a_plain_loop_agrees(name, objective):
    checkpoint, sequences = made(name, objective), windows(1)
    wanted = aim(checkpoint, sequences, 0)
    (found,) = attributed(checkpoint, sequences, [wanted], steps=60)
    change = found.output - found.reference
    assert abs(change) > 1e-3
    assert abs(found.delta) < 0.01 * abs(change) + 1e-4
    assert found.attributed == pytest.approx(change + found.delta, abs=1e-6)
    assert found.per_base(checkpoint.tokenizer.tokens_per_base).sum() == pytest.approx(found.attributed, abs=1e-4)
    assert found.per_token().sum() == pytest.approx(found.attributed, abs=1e-4)
    expected = by_a_plain_loop(checkpoint, sequences[0], wanted.weights, 300)
    scale = max(np.abs(part).max() for part in expected)
    np.testing.assert_allclose(found.embeddings, expected[0], atol=0.01 * scale)
    if objective == "base":
        np.testing.assert_allclose(found.letters, expected[1][: len(sequences[0])], atol=0.01 * scale)
        np.testing.assert_allclose(found.zhunt, expected[2][: len(sequences[0])], atol=0.01 * scale)
        assert np.abs(found.zhunt).max() > 0


def test_words_have_their_share_in_their_middles(monkeypatch):
    monkeypatch.setitem(HEAD, "kmer_size", 4)
    checkpoint, sequences = made("compact", "base"), windows()
    odds = checkpoint.module.base_head.kmers.log_odds
    odds.copy_(torch.randn(odds.shape, generator=torch.Generator().manual_seed(3)))
    for found, sequence in zip(attributed(checkpoint, sequences, steps=64), sequences, strict=True):
        assert abs(found.delta) < 0.01 * abs(found.output - found.reference) + 1e-4
        assert found.words.shape == (len(sequence),)
        told = checkpoint.module.base_head.read_bases(torch.from_numpy(base_codes(sequence))[None]).kmers[0]
        assert (found.words != 0).sum() > 40
        assert not found.words[(told[:, : len(sequence)] == 0).all(0).numpy()].any()
        own = found.letters + found.zhunt + found.words
        np.testing.assert_allclose(found.of_bases(), own, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", TRAINED)
def test_output_is_what_prediction_says(name):
    checkpoint, sequences = made(name, "base"), windows(2)
    weights = [np.eye(len(text), dtype=np.float32)[25] for text in sequences]
    predictor = Predictor(checkpoint, InferenceConfig(device="cpu", precision="float32"))
    said = {index: rows[25] for index, _, rows in predictor.predict_logits(sequences)}
    found = attributed(
        checkpoint, sequences, [AttributionTarget(i, row) for i, row in enumerate(weights)], steps=2
    )
    assert [one.output for one in found] == pytest.approx([said[0], said[1]], abs=1e-4)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", TRAINED)
def test_many_at_once_are_as_one_at_a_time(name, objective):
    checkpoint, sequences = made(name, objective), windows(4)
    aims = [aim(checkpoint, sequences, index) for index in (2, 0, 3, 1, 0)]
    alone = [attributed(checkpoint, sequences, [one], steps=8, batch_size=3)[0] for one in aims]
    for size in (1, 7, 64, None):
        together = attributed(checkpoint, sequences, aims, steps=8, batch_size=size)
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(other.per_base(), one.per_base(), atol=2e-5)
            assert other.output == pytest.approx(one.output, abs=1e-5)
            assert other.reference == pytest.approx(one.reference, abs=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", TRAINED)
def test_adapters_take_part(name, objective):
    checkpoint, sequences = made(name, objective), windows(1)
    plain = attributed(checkpoint, sequences, steps=50)[0]
    attach(checkpoint.module, LoraConfig(r=2, alpha=4, dropout=0.5), get_family(name).lora_targets)
    same = attributed(checkpoint, sequences, steps=50)[0]
    np.testing.assert_allclose(same.embeddings, plain.embeddings, atol=1e-5)
    with torch.no_grad():
        for key, weights in checkpoint.module.named_parameters():
            if "lora_B" in key:
                weights.normal_(0, 0.3)
    other = attributed(checkpoint, sequences, steps=50)[0]
    assert np.abs(other.embeddings - plain.embeddings).max() > 1e-4
    assert abs(other.delta) < 0.02 * abs(other.output - other.reference) + 1e-3
    assert all(weights.grad is None for weights in checkpoint.module.parameters())


def test_the_delta_is_captum_s():
    checkpoint, sequences = made("gena", "token"), windows(1)
    wanted = aim(checkpoint, sequences, 0)
    attributor = Attributor(checkpoint, AttributionConfig(steps=5), "cpu")
    (found,) = attributor.attribute(sequences, [wanted])
    tokens = checkpoint.tokenizer.encode(sequences)
    problem = attributor._problem([wanted], tokens, sequences)
    _, delta = IntegratedGradients(problem.scalar).attribute(
        problem.inputs,
        problem.baselines,
        additional_forward_args=problem.given,
        n_steps=5,
        return_convergence_delta=True,
    )
    assert found.delta == pytest.approx(float(delta), abs=1e-5)


class Linear(torch.nn.Module):
    """Logits that are linear in each token's embedding."""

    def __init__(self, vocabulary, width):
        super().__init__()
        self.table, self.classifier = torch.nn.Embedding(vocabulary, width), torch.nn.Linear(width, 2)

    def get_input_embeddings(self):
        return self.table

    def forward(self, inputs_embeds, **_ignored):
        return DnaOutput(logits=self.classifier(inputs_embeds))


@pytest.mark.parametrize("baseline", ["mean", "pad", "zero"])
def test_a_linear_model_s_shares_are_weight_times_change(tokenizer, baseline):
    torch.manual_seed(0)
    module = Linear(tokenizer.vocab_size, 6)
    metadata = ModelMetadata("compact", "token", 64, 0)
    checkpoint = SimpleNamespace(module=module, tokenizer=tokenizer, metadata=metadata)
    (text,) = windows(1)
    tokens = tokenizer.encode([text])[0]
    weights = np.linspace(-1, 1, len(tokens.ids)).astype(np.float32)
    (found,) = attributed(checkpoint, [text], [AttributionTarget(0, weights)], steps=1, baseline=baseline)
    table = module.table.weight.detach().numpy()
    start = {"pad": table[tokenizer.pad_id], "zero": 0, "mean": table[tokenizer.base_ids].mean(0)}[baseline]
    slope = np.subtract(*module.classifier.weight.detach().numpy()[::-1])
    expected = weights * ((table[tokens.ids] - start) @ slope) * (tokens.lengths > 0)
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-5)
    assert abs(found.delta) < 1e-5


@pytest.mark.parametrize("name", TRAINED)
def test_steps_double_until_enough_adds_up(name):
    checkpoint, sequences = made(name, "token"), windows(3)
    few = attributed(checkpoint, sequences, steps=2)
    share = [abs(one.delta) / abs(one.output - one.reference) for one in few]
    found = attributed(checkpoint, sequences, steps=2, tolerance=0.002)
    assert max(share) > 0.002
    for one, missed in zip(found, share, strict=True):
        assert abs(one.delta) <= 0.002 * abs(one.output - one.reference) or one.steps == 64
        assert (one.steps == 2) == (missed <= 0.002)


def test_probability_is_explained_where_asked_for():
    checkpoint, sequences = made("dnabert2", "sequence"), windows(2)
    odds = attributed(checkpoint, sequences)
    shares = attributed(checkpoint, sequences, scalar="probability")
    for one, other in zip(odds, shares, strict=True):
        weight = float(one.aim.weights[0])
        assert other.output == pytest.approx(weight / (1 + np.exp(-one.output / weight)), abs=1e-5)
        assert abs(other.delta) < 1e-3


def test_special_tokens_and_padding_have_no_share():
    checkpoint, sequences = made("gena", "token"), windows(3)
    for found in attributed(checkpoint, sequences, steps=4):
        assert not found.embeddings[found.tokens.lengths == 0].any()
        assert len(found.embeddings) == len(found.tokens.ids)


def test_the_head_reads_n_as_the_baseline():
    head = made("compact", "base").module.base_head
    seen = head.read_bases(torch.full((1, 40), 4))
    assert not seen.letters.any()
    assert not seen.ready.any()
    assert not head.read_bases(torch.full((1, 40), PADDING_BASE)).one_hot.any()


def test_a_k_mer_is_spread_over_the_bases_that_it_reads():
    checkpoint = made("dnabert", "token")
    (found,) = attributed(checkpoint, ["ACGTACGT"])
    tokens = found.tokens
    found = replace(found, embeddings=np.array([0, 6, 0, 12, 0], dtype=np.float32))
    assert len(tokens.ids) == 5
    np.testing.assert_allclose(found.per_base(span=6), [1, 1, 3, 3, 3, 3, 2, 2])
    np.testing.assert_allclose(found.per_base(), [6, 0, 2, 2, 2, 2, 2, 2])


def test_log_odds_are_of_class_1_against_the_others():
    logits = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    torch.testing.assert_close(class_log_odds(logits), logits[:, 1] - logits[:, 0])
    three = torch.tensor([0.0, 1.0, 0.5])
    expected = torch.log(three.softmax(0)[1] / (1 - three.softmax(0)[1]))
    torch.testing.assert_close(class_log_odds(three), expected)


# ---- what cannot be done ---------------------------------------------------------------------------------


def test_without_captum_the_extra_is_named(monkeypatch):
    checkpoint = made("compact", "token")
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingExtraError, match=r"captum.*pip install 'zflipon\[explain\]'"):
        Attributor(checkpoint)


def test_what_has_no_gradients_or_no_calls_is_refused():
    with pytest.raises(ModelError, match="formula without embeddings"):
        Attributor(load("zhunt"))
    with pytest.raises(ModelError, match="objective 'mlm'"):
        Attributor(made("compact", "mlm"))
    with pytest.raises(ModelError, match="'median' is unknown"):
        Attributor(made("compact", "token"), AttributionConfig(baseline="median"))
    with pytest.raises(ModelError, match="must be a share above 0"):
        Attributor(made("compact", "token"), AttributionConfig(tolerance=0.0))
    with pytest.raises(ModelError, match="a step at least"):
        Attributor(made("compact", "token"), AttributionConfig(steps=0))


def test_wrong_inputs_are_refused():
    attributor = Attributor(made("compact", "token"), device="cpu")
    with pytest.raises(InputError, match="without bases"):
        next(attributor.attribute([""], []))
    with pytest.raises(ValueError, match="expected weights of shape"):
        next(attributor.attribute(["ACGT"], [AttributionTarget(0, np.ones(99, np.float32))]))


def test_no_true_positives_is_said():
    attributor = Attributor(made("compact", "token"), device="cpu")
    labels = [np.zeros(len(text), dtype=bool) for text in windows(2)]
    data = Labelled(windows(2), labels, [("one", 0, 64), ("one", 64, 137)])
    with pytest.raises(InputError, match="no true positives among 2 sequences"):
        token_table(attributor, data, threshold=0.0)


# ---- tables ----------------------------------------------------------------------------------------------


def test_true_positives_are_called_and_labelled():
    tokens = Tokens(np.array([1, 7, 8, 9, 2]), np.array([0, 2, 3, 1, 0]))
    labels = np.array([1, 1, 1, 1, 0, 0], dtype=bool)
    metadata = ModelMetadata("gena", "token", 8, 0, label_threshold=0.6)
    called = np.array([1, 1, 0, 1, 1], dtype=bool)
    assert [row.tolist() for row in true_positives(metadata, tokens, called, labels)] == [[0, 1, 0, 0, 0]]
    metadata = replace(metadata, objective="base")
    called = np.array([1, 0, 1, 1, 1, 1], dtype=bool)
    (row,) = true_positives(metadata, tokens, called, labels)
    np.testing.assert_allclose(row, [0, 0, 1 / 3, 1 / 3, 1 / 3, 0])
    metadata = replace(metadata, objective="sequence")
    assert [len(true_positives(metadata, tokens, np.array([hit]), labels)) for hit in (True, False)] == [1, 0]
    assert not true_positives(metadata, tokens, np.array([True]), ~labels & False)


def test_token_scores_are_means_in_order():
    scores = TokenScores()
    for token, score in (("CG", 0.5), ("A", 0.25), ("CG", 0.1), ("T", 0.25)):
        scores.add(token, score)
    assert scores.rows() == [("CG", pytest.approx(0.3), 2), ("A", 0.25, 1), ("T", 0.25, 1)]


@pytest.mark.parametrize("objective", ["token", "base"])
@pytest.mark.parametrize("name", ["gena", "dnabert"])
def test_the_table_counts_the_best_of_each_true_positive(name, objective):
    checkpoint = made(name, objective)
    sequences = windows(2)
    labels = [np.ones(len(text), dtype=bool) for text in sequences]
    labels[1][:] = False
    labels[1][20:38] = True
    attributor = Attributor(checkpoint, AttributionConfig(steps=4, top=3), "cpu")
    scores, found = token_table(attributor, Labelled(sequences, labels, [("one", 0, 82)] * 2), threshold=0.0)
    expected = {}
    for one in found:
        text, values = sequences[one.aim.sequence], one.per_token()
        values = values / np.sqrt((values**2).sum())
        starts = np.cumsum(one.tokens.lengths) - one.tokens.lengths
        inside = np.flatnonzero(one.tokens.lengths > 0)
        for place in inside[np.argsort(-values[inside], kind="stable")[:3]]:
            size = 6 if name == "dnabert" else one.tokens.lengths[place]
            expected.setdefault(text[starts[place] :][:size], []).append(values[place])
    assert len(found) > 10
    assert sum(scores.counts.values()) == 3 * len(found)
    assert {token: (mean, count) for token, mean, count in scores.rows()} == {
        token: (pytest.approx(np.mean(values), abs=1e-6), len(values)) for token, values in expected.items()
    }


def test_the_table_of_sequences_means_over_all_tokens_with_their_sign():
    sequences = windows(3)
    attributor = Attributor(made("dnabert2", "sequence"), AttributionConfig(steps=4), "cpu")
    scores, found = token_table(attributor, labelled_sequences(sequences, [True, False, True]), threshold=0.0)
    assert sorted(one.aim.sequence for one in found) == [0, 2]
    assert sum(scores.counts.values()) == sum(int((one.tokens.lengths > 0).sum()) for one in found)
    means = [mean for _, mean, _ in scores.rows()]
    assert min(means) < 0 < max(means)
    assert means == sorted(means, reverse=True)


def test_labelled_windows_are_those_that_can_be_hit(tmp_path):
    text = "N" * 40 + dna(360)
    fasta = make_fasta(tmp_path, {"one": text, "two": dna(120, 1), "bare": dna(50, 2)})
    labels, blacklist = tmp_path / "labels.bed", tmp_path / "black.bed"
    labels.write_text("one\t10\t20\none\t105\t115\none\t190\t210\ntwo\t5\t9\n")
    blacklist.write_text("two\t0\t3\n")
    with Genome(fasta) as genome:
        found = labelled_windows(genome, labels, 50, blacklist=blacklist)
        assert found.sequences == [text[100:150], text[150:200], text[200:250]]
        assert [int(row.sum()) for row in found.labels] == [10, 10, 10]
        assert found.places == [("one", start, start + 50) for start in (100, 150, 200)]
        assert len(labelled_windows(genome, labels, 50, limit=2).sequences) == 2
        with pytest.raises(InputError, match="no window of 400 bases"):
            labelled_windows(genome, labels, 400, contigs=["two"])
        with pytest.raises(InputError, match="no contig 'three'"):
            labelled_windows(genome, labels, 50, contigs=["three"])


# ---- the track -------------------------------------------------------------------------------------------


@pytest.fixture
def genome(tmp_path):
    """A genome with a gap, short runs of N and stretches that turn."""
    text = dna(700, 4)
    text = text[:100] + FLIPPY * 2 + text[136:300] + "N" * 80 + text[380:500] + FLIPPY + "NNN" + text[521:]
    return make_fasta(tmp_path, {"one": text, "void": "N" * 200})


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_track_holds_what_windows_add_up_to(genome, objective):
    checkpoint = made("compact", objective)
    checkpoint = replace(checkpoint, metadata=replace(checkpoint.metadata, window=128, margin=32))
    attributor = Attributor(checkpoint, AttributionConfig(steps=20), "cpu")
    with Genome(genome) as source:
        pieces, found = attribution_track(attributor, source, Selection(), every_base=True)
        part, _ = attribution_track(attributor, source, Selection(("one:101-200",)), every_base=True)
        text = source.fetch("one", 0, 700)
    assert [(start, len(values)) for start, values in pieces["one"]] == [(0, 300), (380, 320)]
    total = sum(np.nansum(values) for _, values in pieces["one"])
    expected = sum(
        one.per_base()[i]
        for place, one in found
        for i in range(place.end - place.start)
        if text[place.start + i] != "N"
    )
    assert total == pytest.approx(expected, abs=1e-4)
    for start, values in pieces["one"]:
        assert (np.isnan(values) == (np.array(list(text[start : start + len(values)])) == "N")).all()
    ((start, values),) = part["one"]
    assert (start, len(values)) == (100, 100)


def test_the_track_explains_calls_alone_where_there_are(genome, tiny_checkpoint):
    attributor = Attributor(load(tiny_checkpoint), AttributionConfig(steps=4), "cpu")
    with Genome(genome) as source:
        _, found = attribution_track(attributor, source, Selection())
        for place, one in found:
            rows = np.flatnonzero(one.aim.weights) + place.start
            assert place.low <= rows.min() <= rows.max() < place.high
            assert one.aim.weights.sum() == pytest.approx(1, abs=1e-5)
        with pytest.raises(InputError, match="nothing in the regions is called at 1"):
            attribution_track(attributor, source, Selection(), threshold=1.0)
        with pytest.raises(InputError, match="hold no sequence"):
            attribution_track(attributor, source, Selection(("void:1-100",)))


# ---- the command -----------------------------------------------------------------------------------------


def read(path):
    """Return the header's tables by name, and the rows."""
    lines = path.read_text().splitlines()
    header = [line[2:] for line in lines if line.startswith("#")]
    told = {name: value for name, _, value in (line.partition(": ") for line in header)}
    return told["table"], told, list(csv.DictReader(line for line in lines if not line.startswith("#")))


def run(*arguments):
    return CliRunner().invoke(command, [str(each) for each in arguments])


def test_the_command_writes_table_track_and_deltas(genome, tiny_checkpoint, tmp_path):
    labels = tmp_path / "labels.bed"
    labels.write_text("one\t100\t136\none\t500\t518\n")
    out, track, deltas = tmp_path / "scores.csv", tmp_path / "why.bw", tmp_path / "deltas.csv"
    arguments = [
        genome,
        "-o",
        out,
        "-o",
        track,
        "--deltas",
        deltas,
        "--model",
        tiny_checkpoint,
        "--labels",
        labels,
    ]
    arguments += ["--region", "one:51-250", "--bases", "all", "--threshold", 0.001, "--steps", 4]
    arguments += ["--device", "cpu", "--window", 100]
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    assert "completeness: " in done.output
    title, told, rows = read(out)
    assert "10 highest-attributed tokens of each true positive token" in title
    assert told["objective"] == "base"
    assert told["labels"] == "labels.bed"
    assert told["steps"] == "4"
    assert set(rows[0]) == {"token", "score", "count"}
    assert all(set(row["token"]) <= set("ACGT") for row in rows)
    _, _, found = read(deltas)
    assert {row["sequence"] for row in found} == {"one"}
    for row in found:
        missed = float(row["attributed"]) - (float(row["output"]) - float(row["reference"]))
        assert float(row["delta"]) == pytest.approx(missed, abs=1e-3)
    with pyBigWig.open(str(track)) as file:
        assert file.chroms() == {"one": 700, "void": 200}
        values = file.values("one", 50, 250, numpy=True)
        assert np.isfinite(values).all()
        assert values.min() < 0 < values.max()
        assert np.isnan(file.values("one", 0, 50, numpy=True)).all()
    content = track.read_bytes()  # pyBigWig cuts the summary's values down to whole numbers
    (summary,) = struct.unpack_from("<Q", content, 0x2C)
    assert struct.unpack_from("<dd", content, summary + 8) == pytest.approx((values.min(), values.max()))
    assert isinstance(run(*arguments).exception, OutputError)
    assert run(*arguments, "--force").exit_code == 0


def test_the_command_takes_a_table_of_sequences(tmp_path):
    checkpoint = made("gena", "sequence")
    checkpoint = replace(checkpoint, metadata=replace(checkpoint.metadata, calibration=Calibration(1, 9)))
    save(checkpoint, tmp_path / "model")
    table = tmp_path / "test.csv"
    lines = [f"{text},{label}" for text, label in zip(windows(4), (1, 0, 1, 1), strict=True)]
    table.write_text("sequence,label\n" + "\n".join(lines) + "\n")
    out = tmp_path / "scores.csv"
    done = run(table, "-o", out, "--model", tmp_path / "model", "--steps", 3, "--device", "cpu", "--raw")
    assert done.exit_code == 0, done.output
    title, told, rows = read(out)
    assert "mean score of tokens over true positive sequences" in title
    assert (told["sequences"], told["true_positives"]) == ("4", "3")
    assert told["normalised"] == "False"
    assert len(rows) > 5
    fewer = [table, "-o", out, "--model", tmp_path / "model", "--steps", 3, "--device", "cpu", "--limit", 3]
    assert run(*fewer, "--force").exit_code == 0
    assert read(out)[1]["sequences"] == "3"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["g.fa", "-o", "x.tsv"], "unknown extension"),
        (["g.csv", "-o", "x.bw"], "a track needs a genome"),
        (["g.fa", "-o", "x.bw"], "needs --region or --regions"),
        (["g.fa", "-o", "x.csv"], "needs --labels"),
    ],
)
def test_a_wrong_use_is_said(arguments, said):
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.output
