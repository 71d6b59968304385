"""Tiled windows with labels, and the sampling of negatives."""

import numpy as np
import pytest

from zflipon.genome.tiled_windows import build_tiled_windows, sample_windows


def rows(*pairs):
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


@pytest.fixture(scope="module")
def world():
    """Return two contigs with labels, candidates, N and a blacklist, and the same as masks."""
    rng = np.random.default_rng(4)
    lengths = {"a": 3_050, "b": 1_207, "short": 7}
    masks = {}
    for contig, length in lengths.items():
        masks[contig] = {
            name: np.repeat(rng.random(length // 10 + 1) < share, 10)[:length]
            for name, share in (("label", 0.03), ("candidate", 0.1), ("n", 0.1), ("black", 0.01))
        }
    return lengths, masks


def runs(mask):
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).reshape(-1, 2)
    return edges.astype(np.int64)


def tiled(world, width):
    lengths, masks = world
    intervals = {
        name: {c: runs(masks[c][name]) for c in lengths if masks[c][name].any()}
        for name in ("label", "candidate", "black")
    }
    segments = {contig: runs(~masks[contig]["n"]) for contig in lengths}
    return build_tiled_windows(
        lengths, intervals["label"], segments, intervals["black"], width, intervals["candidate"]
    )


@pytest.mark.parametrize("width", [10, 17, 128])
def test_tiled_windows_equal_a_loop(world, width):
    lengths, masks = world
    expected = []
    for number, (contig, length) in enumerate(lengths.items()):
        for start in range(0, length - width + 1, width):
            inside = {name: mask[start : start + width] for name, mask in masks[contig].items()}
            if 2 * inside["n"].sum() > width or inside["black"].any():
                continue
            label = bool(inside["label"].any())
            expected.append((number, start, label, bool(inside["candidate"].any()) and not label))
    found = tiled(world, width)
    columns = (found.contig, found.start, found.labelled, found.candidate)
    assert [tuple(each.tolist() for each in row) for row in zip(*columns, strict=True)] == expected
    assert found.labelled.any()
    assert found.candidate.any()


def test_sampling_takes_all_positives_and_a_share_of_the_others(world):
    windows = tiled(world, 10)
    positive = np.flatnonzero(windows.labelled)
    sampled = sample_windows(windows, 0, 3, seed=1)
    assert set(positive) <= set(sampled)
    assert len(sampled) == 4 * len(positive) == len(set(sampled.tolist()))
    assert (np.diff(sampled) > 0).all()
    assert (
        sample_windows(windows, 0, 3, seed=1).tolist()
        == sampled.tolist()
        != sample_windows(windows, 0, 3, seed=2).tolist()
    )
    # candidates belong to the background unless hard negatives are requested
    assert windows.candidate[sample_windows(windows, 0, 15, seed=1)].any()
    hard = sample_windows(windows, 1, 0, seed=1)
    assert len(hard) == 2 * len(positive)
    assert windows.candidate[np.setdiff1d(hard, positive)].all()
    assert sample_windows(windows, 0, np.inf, seed=1).tolist() == list(range(len(windows)))


def test_sampling_is_limited_to_some_windows(world):
    windows = tiled(world, 10)
    among = windows.contig == 1
    sampled = sample_windows(windows, 0, 2, 5, among)
    assert among[sampled].all()
    assert set(np.flatnonzero(among & windows.labelled)) <= set(sampled)
