"""Windows of the parts of a split, compared with slow loops: neighbours, shared regions, blocks, the split file."""

import numpy as np
import pytest

from zflipon.config import DataConfig, StageConfig
from zflipon.errors import InputError
from zflipon.genome.split_files import SPLITS, read_split, split_text
from zflipon.genome.tiled_windows import build_tiled_windows
from zflipon.training.window_split import TiledSplit, assign_windows

WIDTH = 10
LENGTHS = {"one": 12_000, "two": 6_005}
STAGE = StageConfig(
    sampling="tiled", objective="token", window=WIDTH, margin=0, hard_negatives=0, background=2, epochs=1
)


@pytest.fixture
def labels():
    """Return disjoint regions of up to 25 bases, some in two or three windows."""
    rng, rows = np.random.default_rng(3), {}
    for contig, length in LENGTHS.items():
        starts = np.arange(5, length - 120, 120)
        starts = starts + rng.integers(0, 90, len(starts))
        rows[contig] = np.stack([starts, starts + rng.integers(1, 25, len(starts))], axis=1)
    return rows


@pytest.fixture
def split(labels):
    """Return a function that splits windows as a recipe says."""

    def make(**settings):
        segments = {contig: np.array([[0, length]]) for contig, length in LENGTHS.items()}
        tiled = build_tiled_windows(LENGTHS, labels, segments, {}, WIDTH)
        contigs = {"train": LENGTHS, "validation": {}, "test": {}}
        return TiledSplit(tiled, assign_windows(tiled, contigs, STAGE, DataConfig(**settings)))

    return make


def windows(split, part):
    """Return contig and start of each window of a part."""
    tiled = split.tiled
    return [(tiled.contigs[tiled.contig[i]], int(tiled.start[i])) for i in split.indices[part]]


def borders(window, others):
    contig, start = window
    return (contig, start - WIDTH) in others or (contig, start + WIDTH) in others


@pytest.mark.parametrize("kind", ["stratified", "random"])
def test_neighbours_and_shared_regions_are_counted(split, labels, kind):
    made = split(split=kind)
    train, test = windows(made, "train"), windows(made, "test")

    def has_label(window):
        return any(s < window[1] + WIDTH and e > window[1] for s, e in labels[window[0]])

    labelled_train = {window for window in train if has_label(window)}
    assert made.bordering("test").tolist() == [borders(window, set(train)) for window in test]
    tested = [window for window in test if has_label(window)]
    regions = [(contig, s, e) for contig, rows in labels.items() for s, e in rows]

    def inside(region, chosen):
        contig, s, e = region
        return any(name == contig and s < start + WIDTH and e > start for name, start in chosen)

    in_test = [region for region in regions if inside(region, test)]
    assert made.neighbours("test", labels) == {
        "labelled": len(tested),
        "bordering": sum(borders(window, labelled_train) for window in tested),
        "regions": len(in_test),
        "shared": sum(inside(region, train) for region in in_test),
    }
    assert made.neighbours("test", labels)["shared"] > 0


def test_windows_apart_keep_the_share_of_labelled_windows(split):
    made = split(split="stratified")
    chosen = made.apart("test", seed=1)
    assert not (chosen & made.bordering("test")).any()
    labelled = made.tiled.labelled[made.indices["test"]]
    assert labelled[chosen].mean() == pytest.approx(labelled.mean(), abs=0.03)
    assert 0 < chosen.sum() < len(chosen)
    assert made.apart("test", seed=1).tolist() == chosen.tolist()


def test_a_random_split_has_no_strata(split):
    shares = [split(split=kind, seed=4).indices for kind in ("stratified", "random")]
    assert [len(part["test"]) for part in shares] == [len(shares[0]["test"])] * 2
    assert shares[0]["test"].tolist() != shares[1]["test"].tolist()


@pytest.mark.parametrize("folds", [0, 3])
def test_blocks_keep_neighbours_together(split, labels, folds):
    made = split(split="blocks", block_size=200, folds=folds, fold=min(folds, 1))
    parts = {part: windows(made, part) for part in ("train", "validation", "test")}
    evaluated = set(parts["validation"]) | set(parts["test"])
    assert not any(borders(window, evaluated) for window in parts["train"])
    blocks = [{(contig, start // 200) for contig, start in chosen} for chosen in parts.values()]
    assert not blocks[0] & blocks[1]
    assert not blocks[0] & blocks[2]
    counts = made.neighbours("test", labels)
    assert (counts["bordering"], counts["shared"]) == (0, 0)
    assert made.apart("test", 0).all()
    assert len(parts["test"]) == pytest.approx(len(made.chosen) * (1 / 3 if folds else 0.2), rel=0.35)


def test_the_test_data_can_select(split):
    made = split(split="stratified", validation_share=0, select_on="test")
    assert made.indices["validation"].tolist() == made.indices["test"].tolist()
    assert {part for *_, part in made.rows()} == {"train", "test"}
    assert len(made.indices["train"]) == pytest.approx(0.8 * len(made.chosen), abs=1)


def test_the_split_file_has_every_window_once(split, tmp_path):
    made = split(split="stratified")
    (tmp_path / SPLITS).write_text(split_text(made.rows()))
    for part in ("train", "validation", "test"):
        rows = read_split(tmp_path, part, LENGTHS)
        found = [(contig, int(start)) for contig, each in rows.items() for start, end in each]
        assert found == windows(made, part)
        assert all((np.diff(each) == WIDTH).all() for each in rows.values())


def test_a_missing_split_file_and_part_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no splits\.bed"):
        read_split(tmp_path, "test", LENGTHS)
    (tmp_path / SPLITS).write_text("one\t0\t10\ttrain\n")
    with pytest.raises(InputError, match="no row with the name 'test'; its parts are train"):
        read_split(tmp_path, "test", LENGTHS)
