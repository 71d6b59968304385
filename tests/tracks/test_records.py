"""Records of tracks as inputs: what other commands read of them has the type that annotate writes."""

import json

import pytest

from zflipon.errors import InputError
from zflipon.tracks.records import read_record

RECORD = {
    "command": "zflipon annotate g.fa",
    "started": "2026-01-01T00:00:00+0000",
    "seconds": 1.5,
    "processes": 1,
    "model": {"name": "zhunt", "sha256": None, "training": {"contigs": ["a"]}, "own": [1]},
    "predict": {"precision": "float32", "device": "cpu", "both_strands": False},
    "call": {"threshold": 0.5, "min_length": 6, "merge_gap": 0},
    "versions": {"zflipon": "1.0"},
    "genome": "/data/g.fa",
    "contigs": {"a": {"length": 9, "md5": "0" * 32}},
    "regions": ["a:1-9"],
    "features": {"one": {"path": "a.bed", "sha256": "0"}, "two": None},
    "screen": None,
    "domain": {"status": "inside", "outside": 0.25, "windows": 4},
    "tracks": {"bases": 9},
    "file": {"name": "z.bw", "bytes": 1, "sha256": "0"},
    "score": "probability",
    "another": {"anything": [None]},
}


def read(folder, text):
    (folder / "z.bw.json").write_text(text)
    return read_record(folder / "z.bw")


def test_a_record_is_returned_as_it_was_written(tmp_path):
    assert read(tmp_path, json.dumps(RECORD)) == RECORD
    assert read(tmp_path, "{}") == {}
    assert read_record(tmp_path / "other.bw") == {}


@pytest.mark.parametrize("section", [name for name in RECORD if name != "another"])
@pytest.mark.parametrize("value", [[[]], -1, 10**400, float("nan"), True])
def test_values_of_another_type_are_refused_by_name(tmp_path, section, value):
    with pytest.raises(InputError, match=rf"z\.bw\.json: not a record that zflipon writes \({section}"):
        read(tmp_path, json.dumps({**RECORD, section: value}))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"contigs": {"a": {"md5": "0"}}}, r"contigs\.a\.length: field required"),
        ({"contigs": {"a": 9}}, r"contigs\.a: input should be a JSON object"),
        ({"call": {"threshold": "0.5"}}, r"call\.threshold: input should be a valid number"),
        ({"call": {"threshold": float("inf")}}, r"call\.threshold: input should be a finite number"),
        ({"file": {"bytes": "1", "sha256": "0"}}, r"file\.bytes: input should be a valid integer"),
        ({"versions": {"torch": 2}}, r"versions\.torch: input should be a valid string"),
        ({"model": {"training": {"contigs": 5}}}, r"model\.training\.contigs: input should be a valid list"),
    ],
)
def test_the_key_and_the_expected_type_are_named(tmp_path, changes, expected):
    with pytest.raises(InputError, match=expected):
        read(tmp_path, json.dumps({**RECORD, **changes}))


@pytest.mark.parametrize(
    "text", ["[]", "null", "[" * 100_000, "{", "\ud800".encode("utf-8", "replace").decode()]
)
def test_what_is_no_object_is_one_error(tmp_path, text):
    with pytest.raises(InputError, match=r"z\.bw\.json: .*delete it to continue without"):
        read(tmp_path, text)
