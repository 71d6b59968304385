"""Overlap, loci and correlation of sets, compared with loops over bases and with scipy."""

import numpy as np
import pytest
from click.testing import CliRunner

import zflipon
from zflipon.cli import cli
from zflipon.errors import InputError
from zflipon.tracks.bigwig_writer import write_bigwig_values
from zflipon.workflows.compare.correlation import correlate
from zflipon.workflows.compare.figure import intersection_counts, plot_comparison
from zflipon.workflows.compare.sets import read_sets

LENGTHS = {"chr1": 3000, "chr2": 1500}


def random_calls(seed, number=40):
    """Return contig, start, end and score of disjoint intervals, none of which touch."""
    rng = np.random.default_rng(seed)
    rows = []
    for contig, length in LENGTHS.items():
        edges = np.sort(rng.choice(np.arange(0, length, 2), 2 * (number // 2), replace=False)).reshape(-1, 2)
        rows += [(contig, int(start), int(end), "Z", int(rng.integers(500, 1000))) for start, end in edges]
    return rows


def write_bed(path, rows, prefix="chr"):
    path.write_text(
        "".join("\t".join([row[0].replace("chr", prefix), *map(str, row[1:])]) + "\n" for row in rows)
    )
    return path


def bases(rows):
    return {(contig, base) for contig, start, end, *_ in rows for base in range(start, end)}


def write_track(path, seed, holes=True):
    """Write random smooth probabilities with missing values; return them by contig."""
    rng = np.random.default_rng(seed)
    tracks = {}
    for contig, length in LENGTHS.items():
        values = np.convolve(rng.random(length + 30) ** 3, np.ones(31) / 31, "valid").round(3)
        values = (values * 2).clip(0, 1)
        if holes:
            values[100:150] = np.nan
            values[rng.integers(0, length, 20)] = np.nan
        tracks[contig] = values
    write_bigwig_values(path, LENGTHS, {contig: [(0, values)] for contig, values in tracks.items()})
    return tracks


@pytest.mark.parametrize("prefix", ["chr", ""])
def test_overlap_agrees_with_sets_of_bases(tmp_path, prefix):
    one, other = random_calls(1), random_calls(2)
    paths = [write_bed(tmp_path / "a.bed", one), write_bed(tmp_path / "b.bed", other, prefix)]
    (row,) = zflipon.compare(paths).pairs.to_dict("records")
    a, b = bases(one), bases(other)
    shared_a = sum(bool(bases([call]) & b) for call in one)
    shared_b = sum(bool(bases([call]) & a) for call in other)
    assert (row["shared_a"], row["shared_b"]) == (shared_a, shared_b)
    assert (row["unique_a"], row["unique_b"]) == (len(one) - shared_a, len(other) - shared_b)
    assert (row["bases_a"], row["bases_b"], row["bases_both"]) == (len(a), len(b), len(a & b))
    assert row["jaccard"] == pytest.approx(len(a & b) / len(a | b))
    assert np.isnan(row["pearson"])


def test_aliases_name_the_contigs_of_the_first_file(tmp_path):
    one, other = random_calls(1), random_calls(2)
    paths = [write_bed(tmp_path / "a.bed", one), write_bed(tmp_path / "b.bed", other, "scaffold_")]
    expected = zflipon.compare([paths[0], write_bed(tmp_path / "c.bed", other)], names=("a", "b"))
    with pytest.raises(InputError, match="--contig-aliases"):
        zflipon.compare(paths)
    aliases = tmp_path / "aliases.txt"
    aliases.write_text("scaffold_1\tchr1\nscaffold_2\tchr2\n")
    found = zflipon.compare(paths, names=("a", "b"), contig_aliases=aliases)
    assert found.pairs.equals(expected.pairs)
    assert found.loci.equals(expected.loci)


def test_loci_of_three_sets(tmp_path):
    sets = {
        "x": [("chr1", 10, 20, "Z", 900), ("chr1", 100, 120, "Z", 500)],
        "y": [("chr1", 15, 30, "Z", 700), ("chr2", 5, 9, "Z", 990)],
        "z": [("chr1", 29, 40, "Z", 600), ("chr1", 110, 115, "Z", 800)],
    }
    paths = [write_bed(tmp_path / f"{name}.bed", rows) for name, rows in sets.items()]
    comparison = zflipon.compare(paths, names=list(sets))
    columns = ["contig", "start", "end", "sets", "called_in", "change"]
    assert comparison.loci[columns].to_numpy().tolist() == [
        ["chr2", 5, 9, 1, "y", 0.99],
        ["chr1", 100, 120, 2, "x+z", 0.8],
        ["chr1", 10, 40, 3, "x+y+z", pytest.approx(0.3)],
    ]
    np.testing.assert_array_equal(comparison.loci[["x", "y", "z"]].iloc[1], [0.5, np.nan, 0.8])
    assert intersection_counts(comparison.members) == {(0, 1, 0): 1, (1, 0, 1): 1, (1, 1, 1): 1}
    assert comparison.write_differences(tmp_path / "d.bed") == 2
    assert (tmp_path / "d.bed").read_text() == "chr1\t100\t120\tx+z\t800\t.\nchr2\t5\t9\ty\t990\t.\n"


def test_correlation_of_tracks_agrees_with_scipy(tmp_path):
    stats = pytest.importorskip("scipy.stats")
    tracks = [write_track(tmp_path / name, seed) for name, seed in (("a.bw", 1), ("b.bw", 2))]
    comparison = zflipon.compare([tmp_path / "a.bw", tmp_path / "b.bw"], threshold=0.6)
    (row,) = comparison.pairs.to_dict("records")
    a, b = (np.concatenate(list(track.values())) for track in tracks)
    both = ~(np.isnan(a) | np.isnan(b))
    assert row["bases_compared"] == both.sum()
    assert row["pearson"] == pytest.approx(stats.pearsonr(a[both], b[both])[0], abs=1e-6)
    assert row["spearman"] == pytest.approx(stats.spearmanr(a[both], b[both])[0], abs=1e-6)
    sets = read_sets([tmp_path / "a.bw", tmp_path / "b.bw"], threshold=0.6)
    cut = correlate(sets, chunk=97)[0, 1]
    assert (cut.bases, cut.pearson) == (row["bases_compared"], pytest.approx(row["pearson"], abs=1e-12))


def test_changes_of_tracks_are_those_of_their_highest_values(tmp_path):
    first, second = (write_track(tmp_path / name, seed) for name, seed in (("a.bw", 1), ("b.bw", 2)))
    loci = zflipon.compare([tmp_path / "a.bw", tmp_path / "b.bw"], threshold=0.6).loci
    assert len(loci) > 5
    for row in loci.itertuples():
        highest = [
            np.nanmax(np.append(track[row.contig][row.start : row.end], -1)) for track in (first, second)
        ]
        expected = np.where(np.array(highest) < 0, 0, highest)
        assert row.change == pytest.approx(expected[1] - expected[0], abs=1e-6)
    assert (np.diff(loci["change"].abs()) <= 0).all()


def test_values_that_are_no_probabilities_are_correlated_only(tmp_path, caplog):
    for name, sign in (("a.bw", 1), ("b.bw", -1)):
        values = sign * 7.0 * np.arange(500)
        write_bigwig_values(tmp_path / name, LENGTHS, {"chr1": [(0, values)]})
    comparison = zflipon.compare([tmp_path / "a.bw", tmp_path / "b.bw"])
    assert comparison.pairs["pearson"][0] == pytest.approx(-1)
    assert np.isnan(comparison.pairs["spearman"][0])
    assert len(comparison.loci) == 0
    assert caplog.text.count("not probabilities, so there are no calls") == 2


def test_files_that_do_not_fit_are_refused(tmp_path):
    one = write_bed(tmp_path / "a.bed", random_calls(1))
    with pytest.raises(InputError, match="at least two"):
        zflipon.compare([one])
    with pytest.raises(InputError, match="expected 2 different names"):
        zflipon.compare([one, one], names=["x", "x"])
    other = write_bed(tmp_path / "b.bed", [("scaffold", 5, 10)])
    with pytest.raises(InputError, match=r"b.bed: no contig of the files before it.*scaffold"):
        zflipon.compare([one, other])
    write_bigwig_values(tmp_path / "a.bw", LENGTHS, {"chr1": [(0, np.full(5, 0.9))]})
    write_bigwig_values(tmp_path / "b.bw", {"chr1": 2999}, {"chr1": [(0, np.full(5, 0.9))]})
    with pytest.raises(InputError, match=r"b.bw: chr1 has 2,999 bases, in a file before it 3,000"):
        zflipon.compare([tmp_path / "a.bw", tmp_path / "b.bw"], threshold=0.5)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_the_command_writes_all_files(tmp_path, number):
    paths = [str(write_bed(tmp_path / f"{seed}.bed", random_calls(seed))) for seed in range(number)]
    outputs = {"-o": tmp_path / "loci.tsv", "--bed": tmp_path / "d.bed", "--plot": tmp_path / "f.svg"}
    command = ["compare", *paths, *(str(word) for pair in outputs.items() for word in pair)]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1 + number * (number - 1) // 2
    assert (tmp_path / "loci.pairs.tsv").is_file()
    assert all(path.stat().st_size for path in outputs.values())
    again = CliRunner().invoke(cli, command)
    assert "exists already" in str(again.exception)


def test_an_empty_comparison_can_be_drawn(tmp_path):
    for name in ("a.bw", "b.bw"):
        write_bigwig_values(tmp_path / name, LENGTHS, {"chr1": [(0, np.full(50, 0.1))]})
    comparison = zflipon.compare([tmp_path / "a.bw", tmp_path / "b.bw"], threshold=0.5)
    plot_comparison(comparison, tmp_path / "f.svg")
    assert len(comparison.loci) == 0
