"""JSON files that other people or interrupted runs may have damaged."""

import os

import pytest

from zflipon.json_files import MAX_BYTES, read_json_file


def test_a_value_is_returned_and_a_byte_order_mark_skipped(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes('\ufeff{"é": [1, null]}'.encode())
    assert read_json_file(path) == {"é": [1, None]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff", "can't decode"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (b"1" * 5000, "integer string conversion"),
    ],
)
def test_what_is_no_json_is_one_error(tmp_path, content, reason):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_json_file(path)


def test_pipes_and_huge_files_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        read_json_file(tmp_path / "pipe")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ValueError, match="larger than 268,435,456 bytes"):
        read_json_file(tmp_path / "large")
    with pytest.raises(FileNotFoundError):
        read_json_file(tmp_path / "absent")
