"""The journal: shards of this run come back as they were, anything else is refused or recomputed."""

import os

import pytest

from zflipon.errors import OutputError, Stopped, ZfliponError
from zflipon.jobs.journal import HEARTBEAT, LOST_AFTER, Journal

KEY = {"genome": "g", "window": 256}


class Clock:
    """Seconds that pass only in `sleep`."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "z.bw.unfinished"


def started(folder, key=KEY, **settings):
    journal = Journal(folder, key, **settings)
    journal.begin()
    return journal


def test_a_shard_is_read_as_it_was_written(folder):
    journal = started(folder)
    journal.write(3, b"probabilities")
    assert journal.read(3) == b"probabilities"
    assert journal.finished(range(10)) == {3} == journal.stored()
    assert Journal(folder, KEY).read(3) == b"probabilities"


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "foreign number", "foreign run"])
def test_a_shard_that_is_not_intact_or_not_of_this_run_is_deleted(folder, tmp_path, damage):
    journal = started(folder)
    journal.write(1, b"the right values")
    path = folder / "000001.shard"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-1] ^= 1
    elif damage == "short":
        del content[7:]
    elif damage == "empty":
        content.clear()
    elif damage == "foreign number":
        journal.write(2, b"other values")
        content = (folder / "000002.shard").read_bytes()
        (folder / "000002.shard").unlink()
    else:
        other = started(tmp_path / "other", {**KEY, "window": 512})
        other.write(1, b"longer values of another run")
        content = (tmp_path / "other" / "000001.shard").read_bytes()
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"000001\.shard: .*run the same command again"):
        journal.read(1)
    assert journal.finished([1]) == set()
    assert not path.exists()


def test_two_processes_divide_the_shards(folder):
    one, other = started(folder), Journal(folder, KEY)
    assert next(one.claim(range(4))) == 0
    assert list(other.claim(range(4))) == [1, 2, 3]
    other.write(1, b"x")
    assert list(Journal(folder, KEY).claim(range(4))) == []


def test_a_new_run_may_claim_what_a_killed_one_had_claimed(folder):
    assert list(started(folder).claim([0, 1])) == [0, 1]
    assert list(started(folder).claim([0, 1])) == [0, 1]


def test_another_key_is_refused_and_named(folder):
    started(folder).write(0, b"x")
    other = Journal(folder, {"genome": "g", "window": 512})
    with pytest.raises(ZfliponError, match=r"differs in window \(256, now 512\).*--restart"):
        other.begin()
    other.begin(restart=True)
    assert other.stored() == set()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"genome": "g"}', b'{"format": 2, "key": [1]}', b"[" * 100_000]
)
def test_a_journal_of_another_version_is_refused(folder, content):
    started(folder)
    (folder / "run.json").write_bytes(content)
    with pytest.raises(ZfliponError, match=r"cannot resume.*--restart"):
        Journal(folder, KEY).begin()


@pytest.mark.parametrize("kind", ["file", "link", "folder of the user", "link inside"])
def test_what_zflipon_did_not_make_is_neither_used_nor_emptied(folder, tmp_path, kind):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("precious")
    if kind == "file":
        folder.write_text("precious")
    elif kind == "link":
        folder.symlink_to(mine)
    elif kind == "folder of the user":
        mine.rename(folder)
        mine = folder
    else:
        folder.mkdir()
        (folder / "run.json").symlink_to(mine / "notes.txt")
    for restart in (False, True):
        with pytest.raises(OutputError, match="not a folder that zflipon made"):
            Journal(folder, KEY).begin(restart)
    assert (folder if kind == "file" else mine / "notes.txt").read_text() == "precious"


def test_waiting_ends_when_the_shard_is_there(folder):
    clock = Clock()

    def sleep(seconds):
        clock.sleep(seconds)
        if clock.now > 3:
            other.write(1, b"x")

    journal = started(folder, clock=clock, sleep=sleep)
    other = Journal(folder, KEY)
    journal.wait([1])
    assert clock.now < 4


def test_a_process_without_a_sign_of_life_is_lost(folder):
    clock = Clock()
    journal = started(folder, clock=clock, sleep=clock.sleep)
    list(Journal(folder, KEY).claim([0]))
    with pytest.raises(ZfliponError, match="shown no sign of life"):
        journal.wait([0])
    assert LOST_AFTER <= clock.now <= LOST_AFTER + 2 * HEARTBEAT


@pytest.mark.parametrize("jump", [-7200, 7200])
def test_a_jump_of_the_clock_makes_no_process_lost(folder, jump):
    """Modification times come from a clock that somebody may set; only their changes count."""
    clock = Clock()
    worker = Journal(folder, KEY)
    polls = []

    def sleep(seconds):
        clock.sleep(seconds)
        polls.append(1)
        beat = clock.now + (jump if clock.now > LOST_AFTER / 2 else 0)
        os.utime(folder / "000000.claim", (1e9 + beat, 1e9 + beat))
        if clock.now > 2 * LOST_AFTER:
            worker.write(0, b"x")

    journal = started(folder, clock=clock, sleep=sleep)
    list(worker.claim([0]))
    journal.wait([0])
    assert polls


def test_heartbeats_touch_the_claims(folder):
    clock = Clock()
    journal = started(folder, clock=clock)
    list(journal.claim([0]))
    claim = folder / "000000.claim"
    os.utime(claim, (1e9, 1e9))
    journal.beat()
    assert claim.stat().st_mtime == 1e9
    clock.now += HEARTBEAT + 1
    journal.beat()
    assert claim.stat().st_mtime > 1e9


def test_waiting_can_be_stopped(folder):
    def check():
        raise Stopped(2, "enough")

    with pytest.raises(Stopped):
        started(folder).wait([0], check)


def test_only_the_file_that_was_published_counts_as_published(folder, tmp_path):
    part, output, other = tmp_path / "part", tmp_path / "z.bw", tmp_path / "z.bed"
    part.write_text("track")
    journal = started(folder)
    journal.mark_publishing({output: part.stat(), other: part.stat()})
    other.write_text("of another run")
    part.rename(output)
    assert Journal(folder).has_published(output)
    assert not Journal(folder).has_published(other)
    assert not Journal(folder).has_published(tmp_path / "absent")


def test_a_run_may_be_killed_twice_while_it_publishes(folder, tmp_path):
    output = tmp_path / "z.bw"
    for number, is_renamed in enumerate((True, False)):
        part = tmp_path / f"part{number}"
        part.write_text("track")
        started(folder).mark_publishing({output: part.stat()})
        if is_renamed:
            part.rename(output)
    assert Journal(folder).has_published(
        output
    )  # that of the first run, since the second one was killed before
    part.rename(output)
    assert Journal(folder).has_published(output)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[]", b'{"z.bw": 1}', b'{"z.bw": null}'])
def test_a_damaged_mark_means_that_nothing_was_published(folder, tmp_path, content):
    started(folder)
    (tmp_path / "z.bw").write_text("track")
    (folder / "publishing.json").write_bytes(content)
    assert not Journal(folder).has_published(tmp_path / "z.bw")


def test_removing_leaves_nothing(folder, tmp_path):
    journal = started(folder)
    journal.write(0, b"x")
    journal.remove()
    assert list(tmp_path.iterdir()) == []
