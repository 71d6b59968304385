"""Tiled windows, the draw of negatives, and splits, against slow loops and by their properties."""

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
    stretches = {contig: runs(~masks[contig]["n"]) for contig in lengths}
    return build_tiled_windows(
        lengths, intervals["label"], stretches, intervals["black"], width, intervals["candidate"]
    )


@pytest.mark.parametrize("width", [10, 17, 128])
def test_tiles_against_a_slow_loop(world, width):
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


def test_all_with_a_label_and_so_many_of_the_others(world):
    windows = tiled(world, 10)
    positive = np.flatnonzero(windows.labelled)
    chosen = sample_windows(windows, 0, 3, seed=1)
    assert set(positive) <= set(chosen)
    assert len(chosen) == 4 * len(positive) == len(set(chosen.tolist()))
    assert (np.diff(chosen) > 0).all()
    assert (
        sample_windows(windows, 0, 3, seed=1).tolist()
        == chosen.tolist()
        != sample_windows(windows, 0, 3, seed=2).tolist()
    )
    # candidates are drawn like any other where no hard negatives are asked for, apart where they are
    assert windows.candidate[sample_windows(windows, 0, 15, seed=1)].any()
    hard = sample_windows(windows, 1, 0, seed=1)
    assert len(hard) == 2 * len(positive)
    assert windows.candidate[np.setdiff1d(hard, positive)].all()
    assert sample_windows(windows, 0, np.inf, seed=1).tolist() == list(range(len(windows)))


def test_a_choice_among_some_stays_among_them(world):
    windows = tiled(world, 10)
    among = windows.contig == 1
    chosen = sample_windows(windows, 0, 2, 5, among)
    assert among[chosen].all()
    assert set(np.flatnonzero(among & windows.labelled)) <= set(chosen)
