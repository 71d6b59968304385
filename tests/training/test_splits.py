"""Splits: stratified, by folds, and by contigs."""

import numpy as np
import pytest

from zflipon.config import DataConfig
from zflipon.errors import InputError
from zflipon.training.splits import fold_parts, split_contigs, split_items, stratified_split

LENGTHS = {"chr1": 500, "chr2": 400, "chr3": 300, "chr1_alt": 50, "chrM": 20}


@pytest.mark.parametrize("seed", range(3))
def test_parts_have_their_share_of_every_stratum(seed):
    strata = np.random.default_rng(seed).choice(5, 2_003, p=[0.6, 0.2, 0.1, 0.08, 0.02])
    shares = {"train": 0.56, "validation": 0.24, "test": 0.20}
    parts = stratified_split(strata, shares, seed)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(2_003))
    for name, share in shares.items():
        assert abs(len(parts[name]) - share * 2_003) <= 1
        for stratum in range(5):
            size = (strata == stratum).sum()
            assert abs((strata[parts[name]] == stratum).sum() - share * size) <= 1.01
    assert stratified_split(strata, shares, seed)["test"].tolist() == parts["test"].tolist()
    assert stratified_split(strata, shares, seed + 100)["test"].tolist() != parts["test"].tolist()


@pytest.mark.parametrize(("count", "share", "size"), [(5, 0.24, 1), (10, 0.24, 2), (3, 0.24, 1), (3, 0.9, 1)])
def test_each_fold_tests_another_group(count, share, size):
    tested = []
    for fold in range(1, count + 1):
        parts = fold_parts(count, fold, share)
        assert sorted(i for part in parts.values() for i in part) == list(range(count))
        assert len(parts["validation"]) == size
        assert parts["train"]
        tested += parts["test"]
    assert sorted(tested) == list(range(count))


def test_two_folds_have_no_validation_data():
    parts = split_items(np.zeros(10, dtype=int), DataConfig(folds=2, fold=1))
    assert {name: len(indices) for name, indices in parts.items()} == {"test": 5, "validation": 0, "train": 5}


def test_folds_without_validation_share_train_on_all_other_groups():
    assert fold_parts(5, 2, 0) == {"test": [1], "validation": [], "train": [2, 3, 4, 0]}


def test_contigs_are_assigned_in_the_order_of_the_genome():
    data = DataConfig(validation_contigs=("chr3",), test_contigs=("chr2",))
    parts = split_contigs(data, LENGTHS)
    assert {name: list(contigs) for name, contigs in parts.items()} == {
        "train": ["chr1", "chr1_alt", "chrM"],
        "validation": ["chr3"],
        "test": ["chr2"],
    }


def test_excluded_contigs_are_in_no_part():
    data = DataConfig(exclude_contigs=("chr1_alt", "chrM"), validation_contigs=("chr3",))
    assert list(split_contigs(data, LENGTHS)["train"]) == ["chr1", "chr2"]
    data = DataConfig(contigs=("chr1", "chr2", "chrM"), exclude_contigs=("chrM",))
    assert list(split_contigs(data, LENGTHS)["train"]) == ["chr1", "chr2"]
    with pytest.raises(InputError, match=r"data\.validation_contigs: chrM not among the contigs"):
        split_contigs(DataConfig(exclude_contigs=("chrM",), validation_contigs=("chrM",)), LENGTHS)
    with pytest.raises(InputError, match=r"data\.exclude_contigs: chrMT not among .*did you mean 'chrM'"):
        split_contigs(DataConfig(exclude_contigs=("chrMT",)), LENGTHS)


def test_short_contigs_of_validation_and_test_are_in_no_part():
    lengths = {"chr1": 5000, "chr2_a": 999, "chr2_b": 1000, "chr3": 2000, "chr4": 10}
    data = DataConfig(validation_contigs=("chr2_*",), test_contigs=("chr3",), shortest_evaluated=1000)
    parts = split_contigs(data, lengths)
    assert {name: list(contigs) for name, contigs in parts.items()} == {
        "train": ["chr1", "chr4"],
        "validation": ["chr2_b"],
        "test": ["chr3"],
    }
    with pytest.raises(InputError, match=r"shortest_evaluated: no test contig has 3,000 bases; lower it"):
        split_contigs(DataConfig(test_contigs=("chr3",), shortest_evaluated=3000), lengths)


def test_folds_of_contigs_have_similar_lengths():
    data = DataConfig(folds=2, fold=1)
    first = split_contigs(data, LENGTHS)
    assert {name: list(contigs) for name, contigs in first.items()} == {
        "train": ["chr2", "chr3"],
        "validation": [],
        "test": ["chr1", "chr1_alt", "chrM"],
    }
    with pytest.raises(InputError, match="5 contigs cannot make 6 folds"):
        split_contigs(DataConfig(folds=6, fold=1), LENGTHS)
