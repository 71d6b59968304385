"""Probabilities do not depend on how they were computed."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import make_fasta

from zflipon.config import InferenceConfig
from zflipon.errors import ModelError, NotANumberError, ZfliponError
from zflipon.genome.alphabet import reverse_complement
from zflipon.genome.fasta import Genome
from zflipon.genome.windows import tile_windows
from zflipon.inference.concurrency import WorkerPool
from zflipon.inference.devices import LARGE_MODEL_PARAMETERS, PRECISIONS, resolve_precision
from zflipon.inference.genome_scan import ScanTask, predict_windows, scan_genome
from zflipon.inference.predictor import Predictor
from zflipon.models import Calibration, create, load
from zflipon.models.collate import collate
from zflipon.tracks.calling import quantize


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def checkpoint_of(tokenizer):
    """Return a maker of compact checkpoints with random weights whose probabilities are spread out."""

    def make(objective):
        torch.manual_seed(3)
        shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        made = create(
            "compact", objective, tokenizer, initializer_range=0.5, base_head={"channels": 8}, **shape
        )
        bias = Calibration(1.0, 5.0 if objective == "base" else 0.0)
        return replace(made, metadata=replace(made.metadata, calibration=bias))

    return make


def random_dna(rng, length):
    return "".join(rng.choice(list("ACGT"), size=length))


def windows(rng):
    """Sequences of many lengths, some with N and IUPAC codes."""
    found = [random_dna(rng, int(n)) for n in rng.integers(1, 400, size=70)]
    found[3] = found[3][:20] + "NNNNNNNNNNNNNN" + found[3][20:]
    found[4] = "RYACGTN" + found[4]
    return found


@pytest.mark.parametrize("objective", ["base", "token"])
def test_batch_size_does_not_matter(checkpoint_of, rng, objective):
    checkpoint = checkpoint_of(objective)
    sequences = windows(rng)
    results = [
        Predictor(checkpoint, InferenceConfig(batch_size=size, device="cpu")).predict_probabilities(sequences)
        for size in (1, 8, 64)
    ]
    for one, eight, many, sequence in zip(*results, sequences, strict=True):
        assert one.shape == (len(sequence),)
        np.testing.assert_allclose(eight, one, atol=1e-5)
        np.testing.assert_allclose(many, one, atol=1e-5)
    spread = np.concatenate(results[0])
    assert spread.max() - spread.min() > 0.05  # a constant would pass the rest


def test_batches_end_before_they_hold_much_padding(checkpoint_of, rng, monkeypatch):
    predictor = Predictor(checkpoint_of("base"), InferenceConfig(device="cpu", batch_size=1000))
    sequences = windows(rng)
    expected = predictor.predict_probabilities(sequences)
    (whole,) = predictor.batches(sequences)
    padded = whole.inputs["attention_mask"].numel() - whole.inputs["attention_mask"].sum()
    assert padded > 0.2 * whole.inputs["attention_mask"].numel()

    monkeypatch.setattr("zflipon.inference.predictor._BUSY", {"cpu": 600})
    batches = list(predictor.batches(sequences))
    assert len(batches) > 3
    assert sorted(np.concatenate([batch.indices for batch in batches]).tolist()) == list(
        range(len(sequences))
    )
    for batch in batches:
        laid_out, own = batch.inputs["input_ids"].numel(), batch.tokens.counts.sum()
        assert laid_out - own <= laid_out / 16 or own <= 600
    for batch, after in pairwise(batches):  # none ends sooner than it must
        size, longest = len(batch.indices) + 1, after.tokens.counts[0]
        own = batch.tokens.counts.sum() + longest
        assert own > 600
        assert size * longest - own > size * longest / 16
    for found, known in zip(predictor.predict_probabilities(sequences), expected, strict=True):
        np.testing.assert_allclose(found, known, atol=1e-5)


def test_order_does_not_matter(checkpoint_of, rng):
    predictor = Predictor(checkpoint_of("base"), InferenceConfig(device="cpu"))
    sequences = windows(rng)
    forward = predictor.predict_probabilities(sequences)
    backward = predictor.predict_probabilities(sequences[::-1])[::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_token_probability_is_the_softmax_of_its_token(checkpoint_of, rng):
    checkpoint = checkpoint_of("token")
    sequence = random_dna(rng, 200)
    tokens = checkpoint.tokenizer.encode([sequence])[0]
    checkpoint.module.eval()
    with torch.no_grad():
        logits = checkpoint.module(input_ids=torch.from_numpy(tokens.ids)[None]).logits[0]
    expected = []
    for probability, length in zip(logits.softmax(-1)[:, 1].tolist(), tokens.lengths, strict=True):
        expected += [probability] * int(length)
    found = Predictor(checkpoint, InferenceConfig(device="cpu")).predict_probabilities([sequence])[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_both_strands_of_tokens_are_the_mean_of_the_two(checkpoint_of, rng):
    checkpoint = checkpoint_of("token")
    sequence = random_dna(rng, 300)
    plain = Predictor(checkpoint, InferenceConfig(device="cpu"))
    forward, backward = plain.probabilities([sequence, reverse_complement(sequence)])
    both = Predictor(checkpoint, InferenceConfig(device="cpu", both_strands=True)).predict_probabilities(
        [sequence]
    )[0]
    np.testing.assert_allclose(both, (forward + backward[::-1]) / 2, atol=1e-6)
    assert not np.allclose(forward, backward[::-1], atol=1e-4)


@pytest.mark.parametrize("calibration", [Calibration(), Calibration(0.8, -0.5, ((-2.0, 0.3), (1.0, -0.2)))])
def test_both_strands_of_a_base_head_have_a_say_in_what_a_base_does_not_in_what_it_can(
    checkpoint_of, rng, calibration
):
    checkpoint = checkpoint_of("base")
    checkpoint = replace(checkpoint, metadata=replace(checkpoint.metadata, calibration=calibration))
    sequence = random_dna(rng, 300)
    factors = []
    for text in (sequence, reverse_complement(sequence)):
        batch = collate(
            checkpoint.tokenizer.encode([text]), [text], checkpoint.tokenizer.pad_id, with_bases=True
        )
        with torch.inference_mode():
            told = checkpoint.module.eval()(**batch)
        factors.append([torch.sigmoid(each)[0].double().numpy() for each in (told.forms, told.flips)])
    (can, does), (_, other) = factors
    product = can * (does + other[::-1]) / 2
    odds = np.log(product / (1 - product))
    bend = np.interp(
        calibration.scale * odds + calibration.bias, *zip(*calibration.correction or [(0, 0)], strict=True)
    )
    expected = 1 / (1 + np.exp(-(calibration.scale * odds + calibration.bias + bend)))
    both = Predictor(checkpoint, InferenceConfig(device="cpu", both_strands=True)).predict_probabilities(
        [sequence]
    )[0]
    np.testing.assert_allclose(both, expected, atol=1e-5)
    assert not np.allclose(does, other[::-1], atol=1e-4)


def test_calibration_maps_log_odds(checkpoint_of, rng):
    checkpoint = checkpoint_of("base")
    sequence = random_dna(rng, 100)
    checkpoint = replace(checkpoint, metadata=replace(checkpoint.metadata, calibration=Calibration()))
    raw = (
        Predictor(checkpoint, InferenceConfig(device="cpu"))
        .predict_probabilities([sequence])[0]
        .astype(float)
    )
    mapped = replace(checkpoint, metadata=replace(checkpoint.metadata, calibration=Calibration(2.0, -1.0)))
    found = Predictor(mapped, InferenceConfig(device="cpu")).predict_probabilities([sequence])[0]
    odds = 2.0 * np.log(raw / (1 - raw)) - 1.0
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-odds)), rtol=1e-4)


def test_cores_come_from_their_windows(checkpoint_of, tmp_path, rng):
    """`predict_tiles` against a literal loop over windows."""
    text = random_dna(rng, 900) + "N" * 3 + random_dna(rng, 700)
    predictor = Predictor(checkpoint_of("base"), InferenceConfig(device="cpu"))
    windows = tile_windows(0, len(text), 200, 40)
    expected = np.full(len(text), np.nan)
    for start, end, core_start, core_end in windows:
        row = predictor.predict_probabilities([text[start:end]])[0]
        for base in range(core_start, core_end):
            expected[base] = np.nan if text[base] == "N" else row[base - start]
    seen = []
    with Genome(make_fasta(tmp_path, {"c": text.lower()})) as genome:
        found = predict_windows(predictor, genome, "c", windows, seen.append)
        part = predict_windows(predictor, genome, "c", windows[2:4])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(part, expected[windows["core_start"][2] : windows["core_end"][3]], atol=1e-5)
    assert sum(seen) == len(text)
    assert np.isnan(found).sum() == 3


def test_windows_that_are_mostly_n_have_no_value(checkpoint_of, tmp_path, rng):
    island = random_dna(rng, 90)
    text = ("N" * 40 + "ACGTACGT") * 5 + island
    predictor = Predictor(checkpoint_of("base"), InferenceConfig(device="cpu"))
    windows = tile_windows(0, len(text), 60, 0)
    with Genome(make_fasta(tmp_path, {"c": text})) as genome:
        found = predict_windows(predictor, genome, "c", windows)
    for start, end, core_start, core_end in windows:
        silent = np.isnan(found[core_start:core_end])
        if 2 * text[start:end].count("N") > end - start:
            assert silent.all()
        else:
            assert (silent == (np.array(list(text[core_start:core_end])) == "N")).all()
    assert np.isnan(found).any()
    assert not np.isnan(found).all()


def test_a_model_without_base_calls_is_refused(checkpoint_of):
    checkpoint = checkpoint_of("base")
    with pytest.raises(ModelError, match="'mlm' calls no bases"):
        Predictor(replace(checkpoint, metadata=replace(checkpoint.metadata, objective="mlm")))


@pytest.mark.parametrize("both_strands", [False, True])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_value_that_is_no_number_is_an_error(checkpoint_of, value, both_strands):
    checkpoint = checkpoint_of("base")
    with torch.no_grad():
        checkpoint.module.base_head.flips.bias.fill_(float(value))
    config = InferenceConfig(device="cpu", both_strands=both_strands)
    with pytest.raises(ModelError, match="not a number"):
        Predictor(checkpoint, config).predict_probabilities(["ACGT"])


def test_unknown_device_and_precision(checkpoint_of):
    with pytest.raises(ZfliponError, match="device 'warp' is not available"):
        Predictor(checkpoint_of("base"), InferenceConfig(device="warp"))
    with pytest.raises(ModelError, match="precision 'float8' is unknown"):
        Predictor(checkpoint_of("base"), InferenceConfig(device="cpu", precision="float8"))


def test_bfloat16_agrees_with_float32(checkpoint_of, rng):
    checkpoint = checkpoint_of("base")
    sequences = windows(rng)
    full = np.concatenate(
        Predictor(checkpoint, InferenceConfig(device="cpu")).predict_probabilities(sequences)
    )
    half = np.concatenate(
        Predictor(checkpoint, InferenceConfig(device="cpu", precision="bfloat16")).predict_probabilities(
            sequences
        )
    )
    assert 0 < np.abs(half - full).mean() < 0.01


@pytest.fixture
def fast_in_bfloat16(monkeypatch):
    """Return a switch of what the processor is taken to be."""

    def switch(on):
        for name in ("avx512_bf16", "amx_tile"):
            monkeypatch.setattr(f"torch.cpu._is_{name}_supported", lambda: on, raising=False)

    return switch


@pytest.mark.parametrize(
    ("fast", "parameters", "expected"),
    [
        (True, LARGE_MODEL_PARAMETERS, "bfloat16"),
        (True, LARGE_MODEL_PARAMETERS - 1, "float32"),
        (False, LARGE_MODEL_PARAMETERS, "float32"),
    ],
)
def test_auto_is_bfloat16_where_a_cpu_is_fast_in_it_and_the_model_large(
    fast_in_bfloat16, fast, parameters, expected
):
    fast_in_bfloat16(fast)
    assert resolve_precision("auto", torch.device("cpu"), parameters) == PRECISIONS[expected]
    assert resolve_precision("float32", torch.device("cpu"), parameters) == torch.float32


def test_a_torch_that_tells_nothing_of_the_processor_means_float32(monkeypatch):
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.delattr(f"torch.cpu._is_{name}_supported", raising=False)
    assert resolve_precision("auto", torch.device("cpu"), LARGE_MODEL_PARAMETERS) == torch.float32


@pytest.mark.parametrize("family", ["dnabert2", "gena", "modernbert"])
def test_bfloat16_of_large_families_agrees_with_float32(tokenizer, rng, family):
    torch.manual_seed(5)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    checkpoint = create(family, "token", tokenizer, initializer_range=0.1, **shape)
    before = {name: each.clone() for name, each in checkpoint.module.state_dict().items()}
    sequences = windows(rng)
    full, half = (
        np.concatenate(
            Predictor(checkpoint, InferenceConfig(device="cpu", precision=precision)).predict_probabilities(
                sequences
            )
        )
        for precision in ("float32", "bfloat16")
    )
    assert np.ptp(full) > 0.05
    assert 0 < np.abs(half - full).max() < 0.02
    surely = np.abs(full - 0.5) > 0.02
    assert ((full >= 0.5) == (half >= 0.5))[surely].all()
    for name, each in checkpoint.module.state_dict().items():  # which others go on using
        assert each.dtype == before[name].dtype
        assert torch.equal(each, before[name])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_number_of_threads_changes_no_bit(checkpoint_of, rng, precision):
    checkpoint, sequences = checkpoint_of("base"), windows(rng)
    before = torch.get_num_threads()
    try:
        found = [
            np.concatenate(
                Predictor(
                    checkpoint,
                    InferenceConfig(batch_size=8, device="cpu", precision=precision, threads=threads),
                ).predict_probabilities(sequences)
            )
            for threads in (1, 3)
        ]
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("both_strands", [False, True])
def test_probabilities_of_cores(checkpoint_of, rng, both_strands):
    predictor = Predictor(checkpoint_of("base"), InferenceConfig(device="cpu", both_strands=both_strands))
    sequences = [random_dna(rng, 300) for _ in range(5)]
    cores = np.tile([100, 180], (5, 1))
    whole = predictor.predict_probabilities(sequences)
    for one, other in zip(predictor.predict_probabilities(sequences, cores=cores), whole, strict=True):
        np.testing.assert_allclose(one[100:180], other[100:180], atol=1e-5)
    assert predictor.predict_probabilities([]) == []


# ---- windows that the first factor settles -------------------------------------------------------------------


@pytest.mark.parametrize("both_strands", [False, True])
@pytest.mark.parametrize("bend", [(), ((-2.0, 0.3), (1.0, -0.2))])
def test_no_base_has_more_than_its_ceiling(checkpoint_of, rng, monkeypatch, both_strands, bend):
    monkeypatch.setattr("zflipon.inference.predictor._BASES_AT_ONCE", {"cpu": 700})
    made = checkpoint_of("base")
    metadata = replace(made.metadata, calibration=Calibration(0.8, 5.0, bend), margin=120)
    predictor = Predictor(
        replace(made, metadata=metadata), InferenceConfig(device="cpu", both_strands=both_strands)
    )
    text = random_dna(rng, 1000) + "N" * 30 + random_dna(rng, 1300)
    ceilings, (found,) = predictor.probability_upper_bounds(text), predictor.predict_probabilities([text])
    assert ceilings.shape == found.shape
    assert (found <= ceilings + 1e-6).all()
    assert (found > 0.9 * ceilings).any()
    assert ceilings.std() > 0.01


def test_want_of_memory_halves_what_the_first_factor_looks_at(checkpoint_of, rng, monkeypatch):
    predictor = Predictor(checkpoint_of("base"), InferenceConfig(device="cpu"))
    text = random_dna(rng, 12_000)
    expected = predictor.probability_upper_bounds(text)
    head = type(predictor.module.base_head)
    plain, sizes, most = head.can_form, [], 3000

    def can_form(self, bases):
        sizes.append(bases.shape[1])
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("out of memory")
        return plain(self, bases)

    monkeypatch.setattr(head, "can_form", can_form)
    np.testing.assert_allclose(predictor.probability_upper_bounds(text), expected, rtol=1e-5)
    assert max(sizes) == len(text)
    most = 10
    with pytest.raises(ZfliponError, match=f"one window of {predictor.metadata.window} bases does not fit"):
        predictor.probability_upper_bounds(text)


def test_heads_of_one_factor_have_no_ceilings(checkpoint_of):
    assert Predictor(checkpoint_of("token"), InferenceConfig(device="cpu")).probability_upper_bounds("ACGT" * 50) is None


def test_stretches_that_are_tokenized_side_by_side_come_in_order_with_the_same_values(
    checkpoint_of, tmp_path, rng
):
    predictor = Predictor(checkpoint_of("base"), InferenceConfig(device="cpu"))
    with Genome(make_fasta(tmp_path, {"one": random_dna(rng, 9000)})) as genome:
        windows = tile_windows(0, 9000, 256, 64)
        parts = [ScanTask("one", windows[first : first + 7]) for first in range(0, len(windows), 7)]
        one_by_one = list(scan_genome(predictor, genome, parts))
        predictor.tokenizer_pool = WorkerPool(3)
        side_by_side = list(scan_genome(predictor, genome, parts))
    assert len(side_by_side) == len(parts) > 5
    for part, (stretch, found), (_, known) in zip(parts, side_by_side, one_by_one, strict=True):
        assert stretch is part
        assert np.array_equal(found, known)


@pytest.mark.parametrize("both_strands", [False, True])
def test_windows_that_are_not_read_further_are_those_that_a_track_has_as_0(tmp_path, rng, both_strands):
    # runs of purines and of pyrimidines, which turn nowhere, or little of them
    pieces = [
        "".join(rng.choice(["AAGA", "TTCT", "AAAAG", "TG"], size)) for size in rng.integers(200, 2500, 12)
    ]
    turning = ["CG" * 9, "TG" * 12, "CGCGCACGCGTGCG", "N" * 3000, "GC" * 12 + "CCGGGCGGCCGGCG" * 40]
    text = "".join(piece + turning[i % len(turning)] for i, piece in enumerate(pieces))
    checkpoint = load("compact")
    predictor = Predictor(checkpoint, InferenceConfig(device="cpu", both_strands=both_strands))
    windows = tile_windows(0, len(text), checkpoint.metadata.window, checkpoint.metadata.margin)
    with Genome(make_fasta(tmp_path, {"a": text})) as genome:
        stretches = [ScanTask("a", windows, early_exit=written) for written in (False, True)]
        (whole, expected), (told, found) = scan_genome(predictor, genome, stretches)
    np.testing.assert_array_equal(quantize(found), quantize(expected))
    assert whole.selected is None
    assert 0 < told.selected.sum() < 0.8 * len(windows)
    assert (quantize(expected) > 200).any()


def test_a_first_factor_that_is_no_number_settles_nothing(tmp_path, checkpoint_of, rng):
    made = checkpoint_of("base")
    torch.nn.init.constant_(made.module.base_head.forms.bias, float("nan"))
    text = random_dna(rng, 3000)
    windows = tile_windows(0, len(text), made.metadata.window, made.metadata.margin)
    with (
        Genome(make_fasta(tmp_path, {"a": text})) as genome,
        pytest.raises(NotANumberError, match=r"^a:1-3,000: the model returned"),
    ):
        predict_windows(Predictor(made, InferenceConfig(device="cpu")), genome, "a", windows, early_exit=True)


def test_a_model_says_on_which_strands_it_is_read(checkpoint_of, rng):
    made = checkpoint_of("base")
    both = replace(made, metadata=replace(made.metadata, both_strands=True))
    text = random_dna(rng, 300)

    def read(checkpoint, asked):
        predictor = Predictor(checkpoint, InferenceConfig(device="cpu", both_strands=asked))
        return predictor.both_strands, predictor.predict_probabilities([text])[0].tolist()

    assert read(made, None) == read(made, False) == read(both, False)
    assert read(both, None) == read(made, True) == read(both, True)
    assert read(both, None) != read(both, False)


def test_logits_are_of_the_strand_that_is_given_whatever_the_story_says(checkpoint_of, rng):
    made = checkpoint_of("base")
    both = replace(made, metadata=replace(made.metadata, both_strands=True))
    text = random_dna(rng, 300)
    (one,), (other,) = (
        [rows for _, _, rows in Predictor(each, InferenceConfig(device="cpu")).predict_logits([text])]
        for each in (made, both)
    )
    assert one.shape == (300,)
    np.testing.assert_array_equal(other, one)
