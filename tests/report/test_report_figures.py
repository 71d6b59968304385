"""Figures of the report: bins, well-formed SVG, labels, many contigs."""

from xml.etree import ElementTree

import numpy as np
import pytest

from zflipon.report.figures import (
    bin_counts,
    calls_along_contigs,
    density_by_contig,
    histogram,
    poisson_limits,
)
from zflipon.tracks.calling import CALL_DTYPE


def calls_at(*starts):
    calls = np.zeros(len(starts), dtype=CALL_DTYPE)
    calls["start"] = starts
    calls["end"] = calls["start"] + 10
    return calls


def texts(svg):
    return [
        "".join(each.itertext())
        for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]


def test_calls_are_counted_in_bins_of_a_round_size():
    lengths = {"chr1": 249_250_621, "chr2": 1000}
    size, counts = bin_counts(lengths, {"chr1": calls_at(0, 999_990, 1_000_000, 249_250_600)})
    assert size == 1_000_000
    assert len(counts["chr1"]) == 250
    assert np.flatnonzero(counts["chr1"]).tolist() == [0, 1, 249]
    assert counts["chr1"].sum() == 4
    assert counts["chr2"].tolist() == [0]


@pytest.mark.parametrize("longest", [1, 99, 40_000, 40_001, 249_250_621])
def test_the_longest_contig_has_at_most_400_bins(longest):
    size, counts = bin_counts({"a": longest}, {})
    assert size >= 100
    assert 1 <= len(counts["a"]) <= 400


@pytest.mark.parametrize("log", [False, True])
def test_a_histogram_shows_its_labels_in_full(log):
    svg = histogram("h", [0, 1, 1_187_145], [0.0, 0.5, 1.0, 1.5], "length (bp)", "calls < all", log)
    assert ElementTree.fromstring(svg).get("id") == "h"
    shown = texts(svg)
    assert {"length (bp)", "calls < all"} <= set(shown)
    assert any("," in text and text.replace(",", "").isdigit() for text in shown)


def test_a_histogram_without_counts_is_drawn():
    assert ElementTree.fromstring(histogram("h", [0, 0], [0, 1, 2], "x", "y", True)).get("id") == "h"


def test_contigs_have_a_row_each_and_base_pairs_on_the_axis():
    lengths = {"chr1": 2_000_000, "a$_b$ <odd>": 1_000_000, "x" * 60: 500}
    size, counts = bin_counts(lengths, {"chr1": calls_at(5)})
    shown = texts(calls_along_contigs("along", lengths, counts, size))
    assert {"chr1", "a$_b$ <odd>", "x" * 23 + "…"} <= set(shown)
    assert "1 Mb" in shown


@pytest.mark.parametrize("number", [2, 30])
def test_the_density_has_a_name_for_each_contig(number):
    names = [f"contig${index}_<x>" for index in range(number)]
    svg = density_by_contig("density", names, np.arange(number), np.arange(number) * 1000, 100.0)
    assert {*names, "calls per Mb"} <= set(texts(svg))


def test_limits_of_counts_are_close_to_the_exact_ones():
    from scipy.stats import chi2

    counts = np.array([1, 2, 5, 20, 1000])
    exact = [chi2.ppf(0.025, 2 * counts) / 2, chi2.ppf(0.975, 2 * counts + 2) / 2]
    np.testing.assert_allclose(poisson_limits(counts), exact, atol=0.1)
