"""Labelled windows, true positives, and the tables of tokens by attribution."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import dna, make_fasta
from explained_models import small_model, windows

from zflipon.config import AttributionConfig
from zflipon.errors import InputError
from zflipon.explain.calls import true_positive_weights
from zflipon.explain.integrated_gradients import IntegratedGradientsExplainer
from zflipon.explain.labelled_sequences import LabelledSequences, label_whole_sequences, read_labelled_windows
from zflipon.explain.token_tables import TokenScores, token_table
from zflipon.genome.fasta import Genome
from zflipon.models import ModelMetadata
from zflipon.tokenization.tokens import Tokens


def test_true_positives_are_called_and_labelled():
    tokens = Tokens(np.array([1, 7, 8, 9, 2]), np.array([0, 2, 3, 1, 0]))
    labels = np.array([1, 1, 1, 1, 0, 0], dtype=bool)
    metadata = ModelMetadata("gena", "token", 8, 0, label_threshold=0.6)
    called = np.array([1, 1, 0, 1, 1], dtype=bool)
    rows = true_positive_weights(metadata, tokens, called, labels)
    assert [row.tolist() for row in rows] == [[0, 1, 0, 0, 0]]
    metadata = replace(metadata, objective="base")
    called = np.array([1, 0, 1, 1, 1, 1], dtype=bool)
    (row,) = true_positive_weights(metadata, tokens, called, labels)
    np.testing.assert_allclose(row, [0, 0, 1 / 3, 1 / 3, 1 / 3, 0])
    metadata = replace(metadata, objective="sequence")
    assert len(true_positive_weights(metadata, tokens, np.array([True]), labels)) == 1
    assert not true_positive_weights(metadata, tokens, np.array([False]), labels)
    assert not true_positive_weights(metadata, tokens, np.array([True]), np.zeros(6, dtype=bool))


def test_token_scores_are_means_in_descending_order():
    scores = TokenScores()
    for token, score in (("CG", 0.5), ("A", 0.25), ("CG", 0.1), ("T", 0.25)):
        scores.add(token, score)
    assert scores.rows() == [("CG", pytest.approx(0.3), 2), ("A", 0.25, 1), ("T", 0.25, 1)]


@pytest.mark.parametrize("objective", ["token", "base"])
@pytest.mark.parametrize("family", ["gena", "dnabert"])
def test_the_highest_tokens_of_each_true_positive_count(family, objective):
    sequences = windows(2)
    labels = [np.ones(len(text), dtype=bool) for text in sequences]
    labels[1][:] = False
    labels[1][20:38] = True
    config = AttributionConfig(steps=4, top=3)
    explainer = IntegratedGradientsExplainer(small_model(family, objective), config, "cpu")
    data = LabelledSequences(sequences, labels, [("one", 0, 82)] * 2)
    scores, attributions = token_table(explainer, data, threshold=0.0)
    expected = {}
    for attribution in attributions:
        text, values = sequences[attribution.target.sequence], attribution.per_token()
        values = values / np.sqrt((values**2).sum())
        lengths = attribution.tokens.lengths
        starts = np.cumsum(lengths) - lengths
        with_bases = np.flatnonzero(lengths > 0)
        for token in with_bases[np.argsort(-values[with_bases], kind="stable")[:3]]:
            size = 6 if family == "dnabert" else lengths[token]
            expected.setdefault(text[starts[token] :][:size], []).append(values[token])
    assert len(attributions) > 10
    assert sum(scores.counts.values()) == 3 * len(attributions)
    assert {token: (mean, count) for token, mean, count in scores.rows()} == {
        token: (pytest.approx(np.mean(values), abs=1e-6), len(values)) for token, values in expected.items()
    }


def test_all_tokens_of_true_positive_sequences_count_with_their_sign():
    explainer = IntegratedGradientsExplainer(
        small_model("dnabert2", "sequence"), AttributionConfig(steps=4), "cpu"
    )
    data = label_whole_sequences(windows(3), [True, False, True])
    scores, attributions = token_table(explainer, data, threshold=0.0)
    assert sorted(each.target.sequence for each in attributions) == [0, 2]
    counts = [int((each.tokens.lengths > 0).sum()) for each in attributions]
    assert sum(scores.counts.values()) == sum(counts)
    means = [mean for _, mean, _ in scores.rows()]
    assert min(means) < 0 < max(means)
    assert means == sorted(means, reverse=True)


def test_progress_counts_every_window_once():
    explainer = IntegratedGradientsExplainer(
        small_model("compact", "base"), AttributionConfig(steps=2), "cpu"
    )
    sequences = windows(5)
    labels = [np.full(len(text), index != 2) for index, text in enumerate(sequences)]
    data = LabelledSequences(sequences, labels, [("one", 0, len(text)) for text in sequences])
    calls = []
    token_table(explainer, data, 0.0, progress=lambda done, total: calls.append((done, total)))
    assert sum(done for done, _ in calls) == 5
    assert {total for _, total in calls} == {5}
    assert len(calls) > 2  # while attributions are computed, not only at the end


def test_no_true_positive_is_one_clear_error():
    explainer = IntegratedGradientsExplainer(small_model("compact", "token"), device="cpu")
    labels = [np.zeros(len(text), dtype=bool) for text in windows(2)]
    data = LabelledSequences(windows(2), labels, [("one", 0, 64), ("one", 64, 137)])
    with pytest.raises(InputError, match="no true positives in 2 sequences"):
        token_table(explainer, data, threshold=0.0)


def test_labelled_windows_hold_a_label_and_no_blacklisted_base(tmp_path):
    text = "N" * 40 + dna(360)
    fasta = make_fasta(tmp_path, {"one": text, "two": dna(120, 1), "bare": dna(50, 2)})
    labels, blacklist = tmp_path / "labels.bed", tmp_path / "black.bed"
    labels.write_text("one\t10\t20\none\t105\t115\none\t190\t210\ntwo\t5\t9\n")
    blacklist.write_text("two\t0\t3\n")
    with Genome(fasta) as genome:
        data = read_labelled_windows(genome, labels, 50, blacklist=blacklist)
        assert data.sequences == [text[100:150], text[150:200], text[200:250]]
        assert [int(row.sum()) for row in data.labels] == [10, 10, 10]
        assert data.intervals == [("one", start, start + 50) for start in (100, 150, 200)]
        assert len(read_labelled_windows(genome, labels, 50, limit=2)) == 2
        with pytest.raises(InputError, match="no window of 400 bases"):
            read_labelled_windows(genome, labels, 400, contigs=["two"])
        with pytest.raises(InputError, match="no contig 'three'"):
            read_labelled_windows(genome, labels, 50, contigs=["three"])
