"""Omics tracks: values of each kind, compared with a loop over bases; windows of features; invalid tables."""

import math
import os

import numpy as np
import pyBigWig
import pytest

from zflipon.errors import InputError
from zflipon.models.metadata import Feature, View
from zflipon.omics.features import fit_features, open_features
from zflipon.omics.spec import TrackEntry, read_track_table
from zflipon.omics.tracks import MAX_DISTANCE, open_reader

LENGTHS = {"a": 500, "b": 120}
INTERVALS = {"a": [(10, 30), (30, 42), (100, 101), (430, 500)], "b": []}
HEIGHTS = {"a": [(5, 25, 2.0), (25, 60, 0.5), (300, 310, -1.0), (480, 500, 7.25)], "b": [(0, 3, 1.0)]}


@pytest.fixture
def files(tmp_path):
    bed, graph, wig = tmp_path / "x.bed", tmp_path / "x.bedgraph", tmp_path / "x.bw"
    bed.write_text("".join(f"{c}\t{s}\t{e}\n" for c, rows in INTERVALS.items() for s, e in rows))
    graph.write_text("".join(f"{c}\t{s}\t{e}\t{v}\n" for c, rows in HEIGHTS.items() for s, e, v in rows))
    with pyBigWig.open(str(wig), "w") as out:
        out.addHeader(list(LENGTHS.items()))
        for contig, rows in HEIGHTS.items():
            starts, ends, values = zip(*rows, strict=True)
            out.addEntries([contig] * len(rows), list(starts), ends=list(ends), values=list(values))
    return {"bed": bed, "bedgraph": graph, "bigwig": wig}


def reference_x(kind, heights, contig, place):
    """Return x of one base, as the module defines it."""
    if not heights:
        rows = INTERVALS[contig]
        inside = any(s <= place < e for s, e in rows)
        if kind == "binary":
            return float(inside)
        away = [0 if s <= place < e else s - place if place < s else place - e + 1 for s, e in rows]
        return math.log2(1 + min([*away, MAX_DISTANCE]))
    height = next((v for s, e, v in HEIGHTS[contig] if s <= place < e), 0.0)
    return float(height > 0) if kind == "binary" else math.log(1 + max(0, height))


POSSIBLE = [("bed", "binary"), ("bed", "distance"), ("bedgraph", "binary"), ("bedgraph", "signal"),
            ("bigwig", "binary"), ("bigwig", "signal")]  # fmt: skip


@pytest.mark.parametrize(("form", "kind"), POSSIBLE)
@pytest.mark.parametrize(
    ("contig", "start", "end"), [("a", 0, 500), ("a", 20, 110), ("a", 499, 500), ("b", 0, 120)]
)
def test_values_of_each_kind(files, form, kind, contig, start, end):
    found = open_reader(TrackEntry("t", files[form], kind), LENGTHS).read(contig, start, end)
    assert found.dtype == np.float32
    expected = [reference_x(kind, form != "bed", contig, place) for place in range(start, end)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("form", "kind", "takes"),
    [("bed", "signal", "bigWig or bedGraph"), ("bedgraph", "distance", "BED"), ("bigwig", "distance", "BED")],
)
def test_a_kind_that_the_format_does_not_have(files, form, kind, takes):
    with pytest.raises(InputError, match=f"track 't' of kind '{kind}' must be {takes}"):
        open_reader(TrackEntry("t", files[form], kind), LENGTHS)


def open_tracks(files, missing=(), **scales):
    features = [
        Feature("one", "binary"),
        Feature("two", "signal", **scales),
        Feature("three", "distance", 4.0, 2.0),
    ]
    table = files["bed"].parent / "table.tsv"
    lines = [f"{name}\t{files[form].name}\n" for name, form in
             (("three", "bed"), ("one", "bed"), ("two", "bigwig")) if name not in missing]  # fmt: skip
    table.write_text("# name, file\n" + "".join(lines))
    return open_features(features, table, LENGTHS, "zero" if missing else "error")


def test_tracks_are_scaled_and_in_the_models_order(files):
    tracks = open_tracks(files, mean=0.5, scale=4.0)
    values = tracks.values("a", 5, 50)
    places = range(5, 50)
    np.testing.assert_allclose(values[0], [reference_x("binary", False, "a", p) for p in places])
    np.testing.assert_allclose(
        values[1], [(reference_x("signal", True, "a", p) - 0.5) / 4 for p in places], rtol=1e-6
    )
    np.testing.assert_allclose(
        values[2], [(reference_x("distance", False, "a", p) - 4) / 2 for p in places], rtol=1e-6
    )


def test_values_outside_of_the_contig_are_zero(files):
    tracks = open_tracks(files)
    values = tracks.values("a", -7, 507)
    assert (values[:, :7] == 0).all()
    assert (values[:, -7:] == 0).all()
    np.testing.assert_array_equal(values[:, 7:-7], tracks.values("a", 0, 500))


@pytest.mark.parametrize("view", [View(), View(16, 0), View(16, 64), View(4, 8)])
def test_windows_are_means_of_steps_with_flanks(files, view):
    tracks = open_tracks(files)
    bounds = np.array([[0, 100], [40, 150], [400, 500]])
    for (start, end), seen in zip(bounds, tracks.windows("a", bounds, view), strict=True):
        steps = math.ceil((end - start) / view.step) + 2 * view.flank // view.step
        assert seen.shape == (3, steps) == (3, view.steps(end - start))
        for step in range(steps):
            first = start - view.flank + step * view.step
            mean = tracks.values("a", first, first + view.step).mean(1)
            np.testing.assert_allclose(seen[:, step], mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(seen, tracks.window("a", start, end, view))


def test_a_missing_track_is_zero_and_marked_as_absent(files):
    tracks = open_tracks(files, missing=("two",), mean=3.0)
    assert tracks.present.tolist() == [1, 0, 1]
    assert (tracks.values("a", 0, 100)[1] == 0).all()
    assert set(tracks.file_hashes) == {"one", "three"}
    whole = open_tracks(files, mean=3.0)
    np.testing.assert_array_equal(whole.drop_tracks(["two"]).values("a", 0, 100), tracks.values("a", 0, 100))


def test_a_shifted_track_is_read_half_a_contig_away(files):
    tracks = open_tracks(files)
    moved = tracks.shift_track("one")
    at_home, away = tracks.values("a", 0, 500), moved.values("a", 0, 500)
    np.testing.assert_array_equal(away[0], np.roll(at_home[0], -250))
    np.testing.assert_array_equal(away[1:], at_home[1:])
    np.testing.assert_array_equal(moved.values("a", 240, 260), away[:, 240:260])


def test_mean_and_scale_are_measured_on_the_training_contigs(files, tmp_path):
    table = tmp_path / "t.tsv"
    table.write_text(
        f"s\t{files['bigwig']}\tsignal\nb\t{files['bed']}\tbinary\nd\t{files['bed']}\tdistance\n"
    )
    tracks = fit_features(table, LENGTHS, {"a": 500}, seed=1)
    signal, binary, distance = tracks.features
    x = [reference_x("signal", True, "a", place) for place in range(500)]
    assert (signal.mean, signal.scale) == (
        pytest.approx(np.mean(x), abs=1e-5),
        pytest.approx(np.std(x), abs=1e-5),
    )
    assert binary == Feature("b", "binary")
    values = tracks.values("a", 0, 500)
    np.testing.assert_allclose([values[2].mean(), values[2].std()], [0, 1], atol=1e-3)
    assert distance.kind == "distance"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("one", "expected name, path and kind"),
        ("one\tx.bed\tbinary\tmore", "expected name, path and kind"),
        (
            "one\tx.bed\tbinry",
            "kind 'binry' is unknown; expected binary, signal, distance (did you mean 'binary'?)",
        ),
        ("one\tx.bed\none\tx.bed", "table.tsv:2: a second track 'one'"),
        ("# nothing", "no tracks in it"),
    ],
)
def test_malformed_tables(tmp_path, line, message):
    table = tmp_path / "table.tsv"
    table.write_text(line + "\n")
    with pytest.raises(InputError) as error:
        read_track_table(table)
    assert message in str(error.value)


def test_a_byte_order_mark_in_a_table_is_skipped(tmp_path):
    (tmp_path / "table.tsv").write_text("one\tx.bed\tbinary\n", encoding="utf-8-sig")
    assert read_track_table(tmp_path / "table.tsv") == [TrackEntry("one", tmp_path / "x.bed", "binary")]


def test_a_table_that_is_not_a_text_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.tsv")
    for path in (tmp_path / "pipe.tsv", "/dev/zero"):
        with pytest.raises(InputError, match="not a regular file"):
            read_track_table(path)


def test_missing_table(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.tsv: no such file"):
        read_track_table(tmp_path / "nowhere.tsv")


FEATURES = (Feature("one", "binary"), Feature("two", "distance"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "one\tx.bed",
            "1 of the model's 2 tracks are missing (two); add them, or pass --missing-features zero",
        ),
        (
            "one\tx.bed\ntwo\tx.bed\ntwoo\tx.bed",
            "the model has no track twoo (did you mean 'two'?); it reads one, two",
        ),
        (
            "one\tx.bed\tdistance\ntwo\tx.bed",
            "track 'one' is 'distance', the model was trained with 'binary'",
        ),
        ("one\tother.bed\ntwo\tx.bed", "passes the end of the contig"),
        ("one\tnowhere.bed\ntwo\tx.bed", "nowhere.bed: no such file"),
        ("one\tx.txt\ntwo\tx.bed", "unknown track format"),
    ],
)
def test_tables_that_do_not_match_the_model(files, tmp_path, lines, message):
    table = tmp_path / "table.tsv"
    table.write_text(lines + "\n")
    (tmp_path / "other.bed").write_text("a\t490\t600\n")
    with pytest.raises(InputError) as error:
        open_features(FEATURES, table, LENGTHS)
    assert message in str(error.value)


def test_a_bigwig_of_another_assembly(files, tmp_path):
    table = tmp_path / "table.tsv"
    table.write_text("s\tx.bw\n")
    with pytest.raises(InputError, match="are both of the same assembly"):
        open_features((Feature("s", "signal"),), table, {**LENGTHS, "a": 501})


def test_no_table():
    with pytest.raises(InputError, match="2 of the model's 2 tracks are missing"):
        open_features(FEATURES, None, LENGTHS)
    assert open_features(FEATURES, None, LENGTHS, "zero").present.tolist() == [0, 0]
