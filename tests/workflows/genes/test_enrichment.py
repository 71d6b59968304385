"""Shuffled positions and enrichment, compared with exact expectations."""

import numpy as np
import pandas as pd
import pytest

from zflipon.workflows.genes.enrichment import draw_starts, feature_enrichment
from zflipon.workflows.genes.features import FEATURES, FeatureMap


def calls_at(starts, length=10, contig="chr1"):
    starts = np.asarray(starts)
    table = pd.DataFrame({"start": starts, "end": starts + length})
    return table.assign(contig=pd.Categorical([contig] * len(table)))


def test_starts_are_uniform_over_all_that_fit():
    segments = np.array([[0, 12], [20, 24], [30, 45]])
    starts = draw_starts(10, segments, (20_000,), np.random.default_rng(1))
    values, counts = np.unique(starts, return_counts=True)
    assert values.tolist() == [0, 1, 2, *range(30, 36)]
    assert np.abs(counts / 20_000 - 1 / 9).max() < 0.01


def test_expected_shares_are_those_of_the_bases():
    features = FeatureMap({"chr1": (np.array([0, 400, 500]), np.array([5, 0, 5], dtype=np.int8))})
    table = feature_enrichment(
        calls_at(np.arange(395, 495, 5)), features, {"chr1": np.array([[0, 1000]])}, shuffles=500
    ).set_index("feature")
    exact = 109 / 991  # starts from 391 to 499 touch the promoter
    assert table.loc["promoter", "observed"] == 20
    assert table.loc["promoter", "expected"] == pytest.approx(20 * exact, rel=0.1)
    assert table.loc["promoter", "fold"] == pytest.approx(1 / exact, rel=0.1)
    assert table.loc["promoter", "p"] == pytest.approx(2 / 501)
    assert table["observed"].sum() == 20
    assert table["expected"].sum() == pytest.approx(20)
    assert table.index.tolist() == list(FEATURES)
    assert np.isnan(table.loc["exon", "fold"])


def test_gaps_are_avoided_and_calls_that_do_not_fit_are_reported(caplog):
    features = FeatureMap({"chr1": (np.array([0, 100, 200]), np.array([5, 0, 5], dtype=np.int8))})
    segments = {"chr1": np.array([[0, 100], [200, 300]])}
    calls = pd.concat([calls_at([10, 20]), calls_at([0], length=150)], ignore_index=True)
    table = feature_enrichment(
        calls.assign(contig=pd.Categorical(["chr1"] * 3)), features, segments, shuffles=50
    )
    assert table["expected"].tolist() == [0, 0, 0, 0, 0, 2]
    assert "1 call longer than every segment" in caplog.text


def test_the_seed_decides():
    features = FeatureMap({"chr1": (np.array([0, 400, 500]), np.array([5, 0, 5], dtype=np.int8))})
    segments = {"chr1": np.array([[0, 1000]])}
    tables = [feature_enrichment(calls_at([1, 2, 3]), features, segments, 20, seed) for seed in (1, 1, 2)]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert not tables[0].equals(tables[2])


def test_a_map_of_features_agrees_with_a_loop():
    rng = np.random.default_rng(3)
    edges = np.unique(np.append(0, rng.integers(1, 500, 60)))
    codes = rng.integers(0, len(FEATURES), len(edges)).astype(np.int8)
    features = FeatureMap({"chr1": (edges, codes)})
    by_base = codes[np.searchsorted(edges, np.arange(700), side="right") - 1]
    starts = rng.integers(0, 600, 300)
    ends = starts + rng.integers(1, 80, 300)
    expected = [by_base[start:end].min() for start, end in zip(starts, ends, strict=True)]
    assert features.find("chr1", starts, ends).tolist() == expected
    assert features.find("chr2", starts, ends).tolist() == [len(FEATURES) - 1] * 300
