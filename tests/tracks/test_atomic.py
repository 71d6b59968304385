"""Atomic outputs: complete or not there at all."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from zflipon.errors import OutputError
from zflipon.tracks.atomic import (
    atomic_file,
    check_output_path,
    remove_partial_files,
    temporary_path,
)


@pytest.fixture
def locked():
    """A read-only folder; root, who may write anywhere, becomes another user meanwhile."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def fail_midway(path, error):
    with atomic_file(path) as part:
        part.write_text("half")
        part.with_name(part.name + ".tbi").write_text("index")
        raise error


def test_a_new_file_is_allowed(tmp_path):
    check_output_path(tmp_path / "a.bw", force=False)
    assert list(tmp_path.iterdir()) == []


def test_existing_file_needs_force(tmp_path):
    (tmp_path / "a.bw").write_text("old")
    with pytest.raises(OutputError, match="exists already; give --force"):
        check_output_path(tmp_path / "a.bw", force=False)
    check_output_path(tmp_path / "a.bw", force=True)
    assert (tmp_path / "a.bw").read_text() == "old"


@pytest.mark.parametrize("force", [False, True])
def test_paths_that_cannot_be_written(tmp_path, force):
    with pytest.raises(OutputError, match="is a folder"):
        check_output_path(tmp_path, force)
    with pytest.raises(OutputError, match="there is no folder"):
        check_output_path(tmp_path / "none" / "a.bw", force)
    with pytest.raises(OutputError, match="not a regular file"):
        check_output_path("/dev/null", force)
    with pytest.raises(OutputError, match="cannot be written"):
        check_output_path(tmp_path / ("a" * 300), force)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"a\.bw"):
        check_output_path(tmp_path / "file" / "a.bw", force)


def test_folder_without_permission(locked):
    with pytest.raises(OutputError, match="cannot be written"):
        check_output_path(locked / "a.bw", force=False)
    with pytest.raises(OutputError, match="cannot be written"), atomic_file(locked / "a.bw") as part:
        part.write_text("x")


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.b.bed.gz"
    path.write_text("old")
    with atomic_file(path) as part:
        assert part.parent == tmp_path
        assert part.name.endswith(".bed.gz")
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_index_is_renamed_and_a_stale_one_deleted(tmp_path):
    path = tmp_path / "a.bed.gz"
    path.with_name("a.bed.gz.csi").write_text("stale")
    with atomic_file(path) as part:
        part.write_text("new")
        part.with_name(part.name + ".tbi").write_text("index")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.bed.gz", "a.bed.gz.tbi"]


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), BrokenPipeError()])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.bed.gz"
    path.write_text("old")
    with pytest.raises(type(error)):
        fail_midway(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_one_line(tmp_path):
    with pytest.raises(OutputError) as caught:
        fail_midway(tmp_path / "a.bw", OSError(errno.ENOSPC, "No space left on device"))
    assert str(caught.value) == f"{tmp_path / 'a.bw'}: cannot be written (No space left on device)"
    assert list(tmp_path.iterdir()) == []


def test_errors_about_other_files_are_not_changed(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "a.bw"):
        (tmp_path / "weights.bin").read_bytes()


def test_only_our_temporary_files_are_removed(tmp_path):
    path = tmp_path / "o.bed.gz"
    ours = [
        tmp_path / f".zflipon.{number}.part.o.bed.gz{suffix}"
        for number in (1, 99999)
        for suffix in ("", ".tbi")
    ]
    others = [
        ".my.part.o.bed.gz",
        ".1.part.o.bed.gz",
        ".zflipon.x.part.o.bed.gz",
        ".zflipon.1.part.oo.bed.gz",
        "o.bed.gz",
    ]
    for name in (*ours, *(tmp_path / name for name in others)):
        name.write_text("x")
    remove_partial_files(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(others)


def test_planted_links_are_replaced_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("keep")
    path = tmp_path / "o.bed.gz"
    for suffix in ("", ".tbi"):
        temporary_path(path).with_name(temporary_path(path).name + suffix).symlink_to(precious)
    check_output_path(path, force=False)
    for suffix in ("", ".tbi"):
        temporary_path(path).with_name(temporary_path(path).name + suffix).symlink_to(precious)
    with atomic_file(path) as part:
        part.write_text("new")
    assert precious.read_text() == "keep"
    assert path.read_text() == "new"
    assert not path.is_symlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["o.bed.gz", "precious"]
