"""Tracks grouped by run, contig lengths from every source, and assemblies."""

import numpy as np
import pytest
from report_files import LENGTHS, write_run

from zflipon.errors import InputError
from zflipon.genome.assemblies import assembly_name
from zflipon.report.runs import contig_lengths, group_tracks
from zflipon.tracks.bigwig_writer import write_bigwig_values


def test_tracks_are_grouped_by_their_records(tmp_path):
    (tmp_path / "other").mkdir()
    one = write_run(tmp_path, ("z.bw", "calls.bed.gz"))
    two = write_run(tmp_path / "other", ("z.bw",), "2026-02-02T00:00:00+0000")
    runs = group_tracks([*one, *two])
    assert [(run.name, run.signal, run.calls) for run in runs] == [("z", *one), ("z_2", two[0], None)]


def test_tracks_without_records_are_grouped_by_folder_and_name(tmp_path):
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_bigwig_values(tmp_path / folder / "z.bw", LENGTHS, {})
        (tmp_path / folder / "z.bed").write_text("")
        paths += [tmp_path / folder / "z.bed", tmp_path / folder / "z.bw"]
    runs = group_tracks(paths)
    assert [(run.name, run.signal, run.calls) for run in runs] == [
        ("z", *paths[1::-1]),
        ("z_2", *paths[:1:-1]),
    ]


def test_a_track_given_twice_is_refused(tmp_path):
    signal, bed = write_run(tmp_path)
    with pytest.raises(InputError, match="same run and kind"):
        group_tracks([signal, signal])
    (tmp_path / "z.bed.json").unlink()
    with pytest.raises(InputError, match="same run and kind"):
        group_tracks([bed, tmp_path / "." / "z.bed"])


def test_a_folder_is_no_track(tmp_path):
    (tmp_path / "z.bed").mkdir()
    with pytest.raises(InputError, match="not a regular file"):
        group_tracks([tmp_path / "z.bed"])


def test_lengths_come_from_the_bigwig_or_the_record(tmp_path):
    signal, bed = write_run(tmp_path)
    assert contig_lengths(group_tracks([signal]), None) == LENGTHS
    recorded = contig_lengths(group_tracks([bed]), None)
    assert recorded == {name: LENGTHS[name] for name in ("chr1", "chr2", "chr10")}


def test_the_assembly_is_recognised_by_chr1(tmp_path):
    write_bigwig_values(tmp_path / "z.bw", {"chr1": 248_956_422}, {"chr1": [(0, np.full(10, 0.5))]})
    assert assembly_name(contig_lengths(group_tracks([tmp_path / "z.bw"]), None)) == "hg38"
    assert assembly_name({"chr1": 5}) is None
