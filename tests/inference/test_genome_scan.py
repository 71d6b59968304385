"""Windows of a genome: cores, N, early exit, and the order of tasks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_fasta
from inference_models import CPU, compact_checkpoint, generator, random_dna

from zflipon.errors import NotANumberError
from zflipon.genome.fasta import Genome
from zflipon.genome.windows import tile_windows
from zflipon.inference.concurrency import WorkerPool
from zflipon.inference.genome_scan import predict_windows, scan_genome
from zflipon.inference.predictor import Predictor
from zflipon.inference.scan_group import ROUNDS_TO_ZERO, SKIPPED_PROBABILITY, ScanGroup, ScanTask
from zflipon.models import load
from zflipon.tracks.calling import quantize


@pytest.fixture
def rng():
    return generator()


@pytest.fixture
def predictor(tokenizer):
    return Predictor(compact_checkpoint(tokenizer, "base"), CPU)


def test_each_base_comes_from_the_window_whose_core_holds_it(predictor, tmp_path, rng):
    """Compare `predict_windows` with a plain loop over windows."""
    text = random_dna(rng, 900) + "N" * 3 + random_dna(rng, 700)
    windows = tile_windows(0, len(text), 200, 40)
    expected = np.full(len(text), np.nan)
    for start, end, core_start, core_end in windows:
        (row,) = predictor.predict_probabilities([text[start:end]])
        for base in range(core_start, core_end):
            expected[base] = np.nan if text[base] == "N" else row[base - start]
    progress = []
    with Genome(make_fasta(tmp_path, {"c": text.lower()})) as genome:
        probabilities = predict_windows(predictor, genome, "c", windows, progress.append)
        part = predict_windows(predictor, genome, "c", windows[2:4])
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(part, expected[windows["core_start"][2] : windows["core_end"][3]], atol=1e-5)
    assert sum(progress) == len(text)
    assert np.isnan(probabilities).sum() == 3


def test_windows_that_are_mostly_n_have_no_value(predictor, tmp_path, rng):
    text = ("N" * 40 + "ACGTACGT") * 5 + random_dna(rng, 90)
    windows = tile_windows(0, len(text), 60, 0)
    with Genome(make_fasta(tmp_path, {"c": text})) as genome:
        probabilities = predict_windows(predictor, genome, "c", windows)
    for start, end, core_start, core_end in windows:
        is_nan = np.isnan(probabilities[core_start:core_end])
        if 2 * text[start:end].count("N") > end - start:
            assert is_nan.all()
        else:
            assert (is_nan == (np.array(list(text[core_start:core_end])) == "N")).all()
    assert np.isnan(probabilities).any()
    assert not np.isnan(probabilities).all()


def test_windows_that_are_not_selected_get_the_probability_of_skipped_ones(predictor, tmp_path, rng):
    text = random_dna(rng, 2000)
    windows = tile_windows(0, len(text), 200, 40)
    selected = np.arange(len(windows)) % 3 == 0
    with Genome(make_fasta(tmp_path, {"c": text})) as genome:
        full = predict_windows(predictor, genome, "c", windows)
        ((task, partial),) = scan_genome(predictor, genome, [ScanTask("c", windows, selected)])
    is_selected = np.repeat(selected, windows["core_end"] - windows["core_start"])
    np.testing.assert_allclose(partial[is_selected], full[is_selected], atol=1e-5)
    assert (partial[~is_selected] == SKIPPED_PROBABILITY).all()
    assert task.selected is selected


def test_tasks_come_in_order_however_many_threads_tokenize(predictor, tmp_path, rng):
    with Genome(make_fasta(tmp_path, {"one": random_dna(rng, 9000)})) as genome:
        windows = tile_windows(0, 9000, 256, 64)
        tasks = [ScanTask("one", windows[first : first + 7]) for first in range(0, len(windows), 7)]
        in_one_thread = list(scan_genome(predictor, genome, tasks))
        predictor.tokenizer_pool = WorkerPool(3)
        in_three_threads = list(scan_genome(predictor, genome, tasks))
    assert len(in_three_threads) == len(tasks) > 5
    for task, (result, values), (_, expected) in zip(tasks, in_three_threads, in_one_thread, strict=True):
        assert result is task
        assert np.array_equal(values, expected)


@pytest.mark.parametrize("both_strands", [False, True])
def test_early_exit_skips_only_windows_that_a_track_shows_as_0(tmp_path, rng, both_strands):
    # runs of purines and of pyrimidines, which form no Z-DNA, between sequences that form it
    inert = [
        "".join(rng.choice(["AAGA", "TTCT", "AAAAG", "TG"], size)) for size in rng.integers(2000, 6000, 12)
    ]
    forming = ["CG" * 9, "TG" * 12, "CGCGCACGCGTGCG", "N" * 3000, "GC" * 12 + "CCGGGCGGCCGGCG" * 40]
    text = "".join(piece + forming[i % len(forming)] for i, piece in enumerate(inert))
    checkpoint = load("compact")
    predictor = Predictor(checkpoint, replace(CPU, both_strands=both_strands))
    windows = tile_windows(0, len(text), checkpoint.metadata.window, checkpoint.metadata.margin)
    with Genome(make_fasta(tmp_path, {"a": text})) as genome:
        tasks = [ScanTask("a", windows, early_exit=early_exit) for early_exit in (False, True)]
        (full_task, full), (early_task, early) = scan_genome(predictor, genome, tasks)
    np.testing.assert_array_equal(quantize(early), quantize(full))
    assert full_task.selected is None
    assert 0 < early_task.selected.sum() < 0.8 * len(windows)
    assert (quantize(full) > 200).any()


def test_the_model_decides_about_the_bases_that_need_it_and_no_others(tmp_path, rng):
    text = "AAGA" * 800 + "CG" * 9 + "TTCT" * 200 + "GT" * 12 + "AAAAG" * 1000  # purines form no Z-DNA
    checkpoint = load("compact")
    predictor = Predictor(checkpoint, CPU)
    windows = tile_windows(0, len(text), checkpoint.metadata.window, checkpoint.metadata.margin)
    task = ScanTask("a", windows, early_exit=True)
    group = ScanGroup([task], [text], predictor, ("probability",))
    bounds = predictor.probability_upper_bounds(text)
    read = np.flatnonzero(group.is_predicted)
    assert 40 < len(read) < 0.2 * len(text)
    assert set(np.flatnonzero(bounds > ROUNDS_TO_ZERO)) <= set(read)
    for row, (low, high) in zip(group.rows, group.cores, strict=False):
        needing = np.flatnonzero(bounds > ROUNDS_TO_ZERO) - windows["start"][row]
        assert {low, high - 1} <= set(needing)


def test_a_call_that_reaches_far_out_of_a_core_does_not_depend_on_the_batch(tmp_path, rng):
    """A call of 1,800 bases starts shortly before the end of the first core; other cores end before it."""
    flank = "AATTTACATTGAA" * 1000
    text = flank[:6100] + "CG" * 900 + flank[:6000] + random_dna(rng, 3000)
    checkpoint = load("compact")
    with Genome(make_fasta(tmp_path, {"c": text})) as genome:
        windows = tile_windows(0, len(text), 8192, 2048)
        results = [
            predict_windows(Predictor(checkpoint, replace(CPU, batch_size=size)), genome, "c", windows)
            for size in (1, 2, 8)
        ]
    assert 6100 < windows["core_end"][0] < 6100 + 1800 - 1024
    assert results[0].max() > 0.1
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-6)


def test_an_upper_bound_that_is_not_a_number_skips_no_window(tmp_path, tokenizer, rng):
    checkpoint = compact_checkpoint(tokenizer, "base")
    torch.nn.init.constant_(checkpoint.module.base_head.can_form.bias, float("nan"))
    text = random_dna(rng, 3000)
    windows = tile_windows(0, len(text), checkpoint.metadata.window, checkpoint.metadata.margin)
    predictor = Predictor(checkpoint, CPU)
    with (
        Genome(make_fasta(tmp_path, {"a": text})) as genome,
        pytest.raises(NotANumberError, match=r"^a:1-3,000: the model returned"),
    ):
        predict_windows(predictor, genome, "a", windows, early_exit=True)
