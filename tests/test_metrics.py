import numpy as np
import pytest

from zflipon.metrics import Confusion, RegionTally, ScoreHistogram


def scored_labels(seed, size=3000, decimals=2, share=0.1):
    """Scores with many ties that correlate with the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.random(size) < share
    scores = (rng.random(size) * 0.7 + 0.3 * labels).round(decimals).astype(np.float32)
    return scores, labels


def reference_curve(scores, labels):
    """Threshold, precision, recall and F1 at each distinct score, highest first."""
    for threshold in sorted(set(scores.tolist()), reverse=True):
        called = [score >= threshold for score in scores.tolist()]
        right = sum(call and label for call, label in zip(called, labels, strict=True))
        precision, recall = right / sum(called), right / sum(labels)
        yield threshold, precision, recall, 2 * precision * recall / (precision + recall) if right else 0.0


def reference_average_precision(scores, labels):
    area, before = 0.0, 0.0
    for _, precision, recall, _ in reference_curve(scores, labels):
        area += precision * (recall - before)
        before = recall
    return area


def histogram(scores, labels, **options):
    made = ScoreHistogram(**options)
    made.add(scores, labels)
    return made


# ---- confusion -------------------------------------------------------------------------------------------


def test_confusion_with_known_answers():
    counts = Confusion(tp=6, fp=2, fn=3, tn=9)
    assert counts.precision == 0.75
    assert counts.recall == pytest.approx(2 / 3)
    assert counts.f1 == pytest.approx(12 / 17)
    assert counts.mcc == pytest.approx((54 - 6) / (8 * 9 * 11 * 12) ** 0.5)


def test_mcc_is_the_correlation_of_calls_and_labels():
    scores, labels = scored_labels(1)
    called = scores >= 0.5
    assert Confusion.from_calls(called, labels).mcc == pytest.approx(np.corrcoef(called, labels)[0, 1])


def test_a_ratio_with_denominator_zero_is_zero():
    for counts in (Confusion(), Confusion(tn=5), Confusion(fp=5), Confusion(fn=5)):
        assert (counts.precision, counts.recall, counts.f1, counts.mcc) == (0, 0, 0, 0)


def test_mcc_of_a_whole_genome_does_not_overflow():
    counts = Confusion(tp=3_000_000, fp=1_000_000, fn=1_000_000, tn=3_000_000_000)
    assert counts.mcc == pytest.approx(0.75, abs=1e-3)


def test_confusions_add_up():
    scores, labels = scored_labels(2)
    called = scores >= 0.6
    parts = Confusion.from_calls(called[:700], labels[:700]) + Confusion.from_calls(
        called[700:], labels[700:]
    )
    assert parts == Confusion.from_calls(called, labels)
    assert parts.tp + parts.fp + parts.fn + parts.tn == len(scores)


# ---- scores ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "size", "decimals"), [(0, 400, 1), (1, 300, 2), (2, 200, 6)])
def test_average_precision_and_best_f1_equal_a_loop(seed, size, decimals):
    scores, labels = scored_labels(seed, size, decimals)
    made = histogram(scores, labels)
    assert made.average_precision() == pytest.approx(reference_average_precision(scores, labels), abs=1e-12)
    best = max(reference_curve(scores, labels), key=lambda point: point[3])
    assert made.best_f1()[0] == pytest.approx(best[3], abs=1e-12)
    assert np.float32(made.best_f1()[1]) == np.float32(best[0])


def test_curve_equals_a_loop():
    scores, labels = scored_labels(5, 300)
    threshold, precision, recall = histogram(scores, labels).curve()
    expected = np.array([point[:3] for point in reference_curve(scores, labels)])
    np.testing.assert_allclose(np.stack([threshold, precision, recall], axis=1), expected, atol=1e-12)


def test_average_precision_with_known_answers():
    labels = np.array([1, 0, 1, 0], dtype=bool)
    assert histogram(np.array([0.9, 0.8, 0.7, 0.1]), labels).average_precision() == pytest.approx(
        0.5 + 0.5 * 2 / 3
    )
    assert histogram(np.array([0.9, 0.1, 0.8, 0.2]), labels).average_precision() == 1.0
    assert histogram(np.zeros(4), labels).average_precision() == 0.5  # all tied: the share of labelled bases


def test_best_threshold_is_a_short_decimal_that_reaches_the_best_f1():
    scores, labels = np.array([0.7, 0.734, 0.1, 0.2], dtype=np.float32), np.array([1, 1, 0, 0], dtype=bool)
    f1, threshold = histogram(scores, labels).best_f1()
    assert (f1, threshold) == (1.0, 0.7)
    assert Confusion.from_calls(scores >= np.float32(threshold), labels).f1 == 1.0


def test_counts_at_a_threshold_include_scores_equal_to_it():
    scores, labels = scored_labels(6)
    for threshold in (-1.0, 0.3, 0.5, 0.7, 2.0):
        assert histogram(scores, labels).confusion_at(threshold) == Confusion.from_calls(
            scores >= np.float32(threshold), labels
        )


def test_results_do_not_depend_on_chunks_and_merging():
    scores, labels = scored_labels(7, 5000, 4)
    whole = histogram(scores, labels)
    portions, merged = ScoreHistogram(max_distinct=100_000), ScoreHistogram()
    order = np.random.default_rng(0).permutation(len(scores))
    for part in np.array_split(order, 17):
        portions.add(scores[part], labels[part])
        merged.merge(histogram(scores[part], labels[part]))
    for other in (portions, merged):
        for one, two in zip(whole.counts(), other.counts(), strict=True):
            np.testing.assert_array_equal(one, two)
        assert not other.rounded


def test_counting_continues_after_a_result_was_read():
    scores, labels = scored_labels(8)
    made = histogram(scores[:1000], labels[:1000])
    made.average_precision()
    made.add(scores[1000:], labels[1000:])
    assert made.average_precision() == histogram(scores, labels).average_precision()


def test_truncation_does_not_depend_on_order():
    rng = np.random.default_rng(9)
    labels = rng.random(20_000) < 0.2
    scores = (rng.normal(size=20_000) + labels).astype(np.float32) * np.float32(1e4)
    whole = histogram(scores, labels, max_distinct=15_000)
    portions = ScoreHistogram(max_distinct=15_000)
    for part in np.array_split(rng.permutation(20_000), 23):
        portions.add(scores[part], labels[part])
    exact = histogram(scores, labels)
    assert whole.rounded
    assert portions.rounded
    assert not exact.rounded
    assert whole.average_precision() == portions.average_precision()
    assert whole.average_precision() == pytest.approx(exact.average_precision(), abs=1e-3)
    values, _, _ = whole.counts()
    assert len(values) < len(exact.counts()[0])
    assert np.min(np.abs(values[:, None] - scores[:50]) / np.abs(scores[:50]), axis=0).max() < 2**-12


def test_truncation_keeps_the_scores_that_reach_a_half():
    rng = np.random.default_rng(10)
    scores = (0.5 + rng.normal(size=5000) * 1e-4).astype(np.float32)
    labels = rng.random(5000) < 0.5
    made = histogram(scores, labels, max_distinct=1000)
    assert made.rounded
    assert made.confusion_at(0.5) == Confusion.from_calls(scores >= 0.5, labels)


def test_empty_histogram_and_no_labels():
    for made in (ScoreHistogram(), histogram(np.array([0.1, 0.9]), np.array([False, False]))):
        assert made.average_precision() == 0.0
        assert made.best_f1() == (0.0, None)
    assert ScoreHistogram().confusion_at(0.5) == Confusion()


def test_nan_and_unequal_shapes_are_errors():
    with pytest.raises(ValueError, match="NaN"):
        histogram(np.array([0.1, np.nan]), np.array([False, False]))
    with pytest.raises(ValueError, match="shape"):
        histogram(np.zeros(3), np.zeros(2, dtype=bool))


# ---- regions ---------------------------------------------------------------------------------------------


def runs(mask):
    found, start = [], None
    for position, value in enumerate([*mask.tolist(), False]):
        if value and start is None:
            start = position
        elif not value and start is not None:
            found.append((start, position))
            start = None
    return found


@pytest.mark.parametrize("size", [1, 2, 7, 100, 1000])
def test_regions_equal_a_loop_for_any_chunks(size):
    rng = np.random.default_rng(size)
    tally, total, hit = RegionTally(), 0, 0
    for length in (400, 1, 333):  # three contigs, with runs that reach their ends
        marked = np.repeat(rng.random(length) < 0.5, 3)
        evaluated, target = rng.random(3 * length) < 0.6, np.repeat(rng.random(length) < 0.2, 3)
        marked[:2] = marked[-2:] = True
        counted = [(start, end) for start, end in runs(marked) if evaluated[start:end].any()]
        total += len(counted)
        hit += sum((target & evaluated)[start:end].any() for start, end in counted)
        for start in range(0, 3 * length, size):
            part = slice(start, start + size)
            tally.add(marked[part], evaluated[part], (target & evaluated)[part])
        tally.end_contig()
    assert (tally.total, tally.hit) == (total, hit)
    assert tally.rate == hit / total


def test_no_regions():
    tally = RegionTally()
    tally.add(np.zeros(5, dtype=bool), np.ones(5, dtype=bool), np.ones(5, dtype=bool))
    tally.end_contig()
    assert (tally.total, tally.hit, tally.rate) == (0, 0, 0.0)
