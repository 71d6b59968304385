"""In-silico mutagenesis equals a plain loop over substitutions."""

import numpy as np
import pytest
from conftest import SHARED, dna, make_fasta, needs_shared

from zflipon.config import InferenceConfig
from zflipon.errors import InputError
from zflipon.explain.mutagenesis import mutagenesis
from zflipon.genome.fasta import Genome
from zflipon.inference.predictor import Predictor
from zflipon.models import load

CPU = InferenceConfig(device="cpu")


@pytest.fixture
def predictor(tiny_checkpoint):
    return Predictor(load(tiny_checkpoint), CPU)


@pytest.mark.parametrize("start", [0, 700, 1970], ids=["contig start", "middle", "contig end"])
def test_effects_equal_a_plain_loop_over_substitutions(predictor, tmp_path, start):
    text = dna(2000, 1)
    text = text[: start + 3] + "N" + text[start + 4 :]
    end, window = start + 30, predictor.metadata.window
    target = np.arange(30) % 3 == 0
    calls = []
    with Genome(make_fasta(tmp_path, {"c": text})) as genome:
        effects = mutagenesis(
            predictor, genome, "c", start, end, target, lambda *counts: calls.append(counts)
        )
    assert sum(done for done, _ in calls) == 3 * 29 == calls[0][1]
    window_start = max(0, min((start + end - window) // 2, 2000 - window))

    def mean(sequence):
        (values,) = predictor.predict_probabilities([sequence[window_start : window_start + window]])
        return values[start - window_start : end - window_start][target].mean()

    for position in range(start, end):
        for row, letter in enumerate("ACGT"):
            effect = effects[row, position - start]
            if text[position] == "N":
                assert np.isnan(effect)
            elif text[position] == letter:
                assert effect == 0
            elif position % 7 == 0:
                mutated = text[:position] + letter + text[position + 1 :]
                assert effect == pytest.approx(mean(mutated) - mean(text), abs=1e-5)
    assert np.nanmax(np.abs(effects)) > 1e-4


@needs_shared
def test_substitutions_inside_a_call_lower_it_and_those_outside_do_not():
    with Genome(SHARED / "hg19" / "hg19_part.fa.gz") as genome:
        predictor = Predictor(load("compact"), CPU)
        target = np.zeros(36, dtype=bool)
        target[10:26] = True  # chr22_50M:247,576-247,591, labelled and called
        effects = mutagenesis(predictor, genome, "chr22_50M", 247_565, 247_601, target)
    assert (effects[:, 13:24].min(axis=0) < -0.3).mean() > 0.8
    assert np.abs(effects[:, 30:]).max() < 0.05


def test_regions_wider_than_the_window_or_without_bases_are_refused(predictor, tmp_path):
    with Genome(make_fasta(tmp_path, {"c": dna(600, 1) + "N" * 400})) as genome:
        with pytest.raises(InputError, match="300 bases, the window of the model 256"):
            mutagenesis(predictor, genome, "c", 0, 300, np.ones(300, dtype=bool))
        with pytest.raises(InputError, match="no known base"):
            mutagenesis(predictor, genome, "c", 700, 720, np.ones(20, dtype=bool))
