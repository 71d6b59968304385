"""Windows, targets and the loop of the context training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zflipon.errors import InputError
from zflipon.models.heads.context_network import TrackReadout
from zflipon.models.heads.wide_context import WideContext
from zflipon.training.context import ContextModule, train_context
from zflipon.training.context_windows import ChromatinTargets, ContextTraining, ContextWindows

TRACKS = 11
SETTINGS = ContextTraining(steps=4, window=1024, batch_size=3, warmup=2, checkpoint_every=2)


@pytest.fixture
def targets_file(tmp_path):
    """Return a file of targets in which track t covers every bin whose number is divisible by t + 1."""
    contigs, offset = ["chr1_0", "chr2"], np.array([0, 20, 23])
    bins = np.concatenate([np.arange(20), np.arange(3)])
    covered = np.stack([bins % (track + 1) == 0 for track in range(TRACKS)])
    path = tmp_path / "targets.npz"
    bits = np.packbits(np.pad(covered, [(0, 0), (0, 1)]), axis=1)
    np.savez(path, names=[f"t{i}" for i in range(TRACKS)], contigs=contigs, offset=offset, bits=bits)
    return path


def windows(targets, settings=SETTINGS):
    random = np.random.default_rng(1)
    codes = {
        "chr1_0": random.integers(0, 4, 2500, dtype=np.uint8),
        "chr2": random.integers(0, 4, 300, dtype=np.uint8),
    }
    calls = {"chr1_0": np.array([[100, 120], [1500, 1520]]), "chr2": np.array([[40, 60]])}
    labelled = {"chr1_0": np.array([True, False]), "chr2": np.array([True])}
    return ContextWindows(codes, targets, calls, labelled, settings), codes


def test_targets_are_read_bit_by_bit(targets_file):
    targets = ChromatinTargets.load(targets_file)
    row = np.unpackbits(targets.rows[targets.offset["chr2"] + 2])[:TRACKS]
    assert row.tolist() == [int(2 % (track + 1) == 0) for track in range(TRACKS)]
    np.testing.assert_allclose(targets.coverage()[:2], [1.0, 12 / 23])


def test_a_file_without_the_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", names=["a"])
    with pytest.raises(InputError, match=r"x\.npz: not a file of chromatin targets"):
        ChromatinTargets.load(tmp_path / "x.npz")


def test_contigs_without_targets_are_refused(targets_file):
    targets = ChromatinTargets.load(targets_file)
    with pytest.raises(InputError, match="no bins of 1 contigs, chr3"):
        ContextWindows({"chr3": np.zeros(500, np.uint8)}, targets, {}, {}, SETTINGS)


def test_batches_hold_the_bases_tracks_and_calls_of_the_genome(targets_file):
    """Each window equals a stretch of a contig on either strand, with the tracks and calls of just that stretch."""
    sampler, codes = windows(ChromatinTargets.load(targets_file))
    texts = {contig: "".join("ACGT"[code] for code in values) for contig, values in codes.items()}
    middles = {"chr1_0": {110: 1.0, 1510: 0.0}, "chr2": {50: 1.0}}
    flip = str.maketrans("ACGT", "TGCA")
    turned = 0
    for step in range(12):
        batch = sampler.batch(step)
        for row in range(SETTINGS.batch_size):
            letters = batch.bases[row]
            text = "".join(
                "ACGT"[i] if total else "N"
                for i, total in zip(letters.argmax(-1), letters.sum(-1), strict=True)
            )
            forward = next((contig for contig, each in texts.items() if text.strip("N") in each), None)
            turned += forward is None
            plain = text if forward else text.translate(flip)[::-1]
            contig = forward or next(contig for contig, each in texts.items() if plain.strip("N") in each)
            start = texts[contig].index(plain.strip("N")) - (len(plain) - len(plain.lstrip("N")))
            inside, tracks = batch.inside[row], batch.tracks[row]
            if forward is None:
                inside, tracks = inside.flip(0), tracks.flip(0)
            numbers = start // 128 + np.flatnonzero(inside)
            expected = [[int(number % (track + 1) == 0) for track in range(TRACKS)] for number in numbers]
            assert tracks[inside].tolist() == expected
            mine = batch.rows == row
            bins = batch.bins[mine] if forward else 1024 // 32 - 1 - batch.bins[mine]
            found = dict(zip(bins.tolist(), batch.labelled[mine].tolist(), strict=True))
            wanted = {
                (m - start) // 32: label for m, label in middles[contig].items() if 0 <= m - start < 1024
            }
            assert found == wanted
    assert 0 < turned < 36


def test_a_batch_depends_on_seed_and_step_alone(targets_file):
    targets = ChromatinTargets.load(targets_file)
    first, second = windows(targets)[0], windows(targets)[0]
    for _ in range(3):
        first.batch(0)
    assert torch.equal(first.batch(5).bases, second.batch(5).bases)
    assert not torch.equal(first.batch(5).bases, first.batch(6).bases)


def module():
    torch.manual_seed(0)
    context = WideContext(widths=(8, 8, 8), dilations=(1, 2), dropout=0.0)
    return ContextModule(context, torch.nn.Linear(8, 1), TrackReadout(8, TRACKS, 0.0), 2, dropout=0.0)


def test_a_resumed_run_ends_with_the_same_weights(targets_file, tmp_path):
    targets = ChromatinTargets.load(targets_file)
    whole, parts = module(), module()
    (tmp_path / "whole").mkdir(), (tmp_path / "parts").mkdir()
    train_context(whole, windows(targets)[0], tmp_path / "whole", torch.float32)

    def interrupt(step, *_):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_context(parts, windows(targets)[0], tmp_path / "parts", torch.float32, interrupt)
    again = module()
    train_context(again, windows(targets)[0], tmp_path / "parts", torch.float32)
    for name, weights in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weights, rtol=0, atol=1e-7)


def test_a_finished_run_gives_its_weights_without_a_step(targets_file, tmp_path):
    """Processes other than the main one take the weights so."""
    targets, steps = ChromatinTargets.load(targets_file), []
    first, other = module(), module()
    train_context(first, windows(targets)[0], tmp_path, torch.float32)
    train_context(other, windows(targets)[0], tmp_path, torch.float32, lambda *step: steps.append(step))
    assert not steps
    for name, weights in first.state_dict().items():
        assert torch.equal(other.state_dict()[name], weights)


def test_training_learns_tracks_that_follow_from_the_sequence(tmp_path):
    """A track that covers the bins rich in G is learnt within a few steps."""
    random = np.random.default_rng(0)
    rich = random.random(400) < 0.5
    odds = np.where(rich[:, None], [0.1, 0.1, 0.7, 0.1], [0.3, 0.3, 0.1, 0.3])
    codes = np.concatenate([random.choice(4, 128, p=each) for each in odds]).astype(np.uint8)
    targets = ChromatinTargets(["rich"], np.packbits(rich[:, None], axis=1), {"chr1": 0})
    settings = ContextTraining(
        steps=100, window=1024, batch_size=8, learning_rate=1e-2, warmup=20, call_weight=0.0, average=0.9
    )
    sampler = ContextWindows(
        {"chr1": codes}, targets, {"chr1": np.array([[10, 20]])}, {"chr1": np.array([True])}, settings
    )
    torch.manual_seed(0)
    context = WideContext(widths=(16, 16, 16), dilations=(1,), dropout=0.0)
    trained = ContextModule(context, torch.nn.Linear(16, 1), TrackReadout(16, 1), 1)
    train_context(trained, sampler, tmp_path, torch.float32)
    trained.eval()
    batch = sampler.batch(1000)
    called = trained.tracks(context.read(batch.bases)[1])[batch.inside] > 0
    assert (called == batch.tracks[batch.inside].bool()).float().mean() > 0.95


def test_labels_count_from_their_first_step_on(targets_file, tmp_path):
    targets = ChromatinTargets.load(targets_file)
    for first, changes in ((SETTINGS.steps, False), (0, True)):
        sampler, _ = windows(targets, replace(SETTINGS, first_call_step=first))
        trained = module()
        (tmp_path / str(first)).mkdir()
        before = trained.activity.weight.clone(), trained.tracks.output.weight.clone()
        train_context(trained, sampler, tmp_path / str(first), torch.float32)
        assert torch.equal(trained.activity.weight, before[0]) != changes
        assert not torch.equal(trained.tracks.output.weight, before[1])


def test_offsets_fold_into_the_readout():
    trained = module()
    with torch.no_grad():
        trained.offset.copy_(torch.tensor([1.0, -2.0]))
    before = trained.activity.bias.item()
    trained.fold_offsets([3, 1])
    assert trained.activity.bias.item() == pytest.approx(before + 0.25)
    assert trained.offset.tolist() == [0, 0]
