"""The life of a job: locks on all outputs, outputs that are inputs, stop requests, progress."""

import os
import signal
import subprocess
import sys

import pytest

from zflipon.errors import OutputError, Stopped
from zflipon.jobs.distributed import process_state
from zflipon.jobs.job import GRACE_PERIOD, Job, ShardProgress
from zflipon.jobs.locks import OutputLocks, lock_path
from zflipon.jobs.outputs import check_outputs, journal_path
from zflipon.jobs.signals import StopRequest, stop_on_signals
from zflipon.tracks.atomic import temporary_path


@pytest.fixture
def state():
    return process_state("cpu")


@pytest.fixture
def outputs(tmp_path):
    return [tmp_path / "z.bw", tmp_path / "z.bed"]


def test_locks_are_exclusive_and_leave_nothing(tmp_path, outputs):
    with OutputLocks(outputs):
        with pytest.raises(OutputError, match=r"z\.bed: another run is writing"), OutputLocks([outputs[1]]):
            pass
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == []
    with OutputLocks(outputs[::-1]):
        pass


def test_a_killed_process_leaves_its_lock_open(outputs):
    code = (
        "import os, sys; from pathlib import Path; from zflipon.jobs.locks import OutputLocks; "
        "OutputLocks([Path(sys.argv[1])]).__enter__(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(outputs[0])], check=False)
    assert lock_path(outputs[0]).exists()
    with OutputLocks(outputs):
        pass
    assert not lock_path(outputs[0]).exists()


def test_a_lock_never_follows_a_link(tmp_path, outputs):
    (tmp_path / "precious").write_text("x")
    lock_path(outputs[0]).symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="cannot be written"), OutputLocks(outputs):
        pass
    assert (tmp_path / "precious").read_text() == "x"


def test_a_run_does_not_delete_the_files_of_another_that_shares_its_second_output(state, tmp_path, outputs):
    part = temporary_path(tmp_path / "z.bed")
    with Job(outputs, state):
        part.write_text("half")
        with (
            pytest.raises(OutputError, match=r"z\.bed: another run"),
            Job([tmp_path / "y.bw", outputs[1]], state),
        ):
            pass
        assert part.read_text() == "half"


def test_an_output_that_is_an_input_is_refused(tmp_path):
    regions = tmp_path / "r.bed"
    regions.write_text("chr1\t0\t5\n")
    (tmp_path / "link.bed").symlink_to(regions)
    for output in (regions, tmp_path / "link.bed"):
        with pytest.raises(OutputError, match="is an input of this run"):
            check_outputs([output], ["absent.fa", regions], force=True)
    assert regions.read_text() == "chr1\t0\t5\n"


def test_an_output_given_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    with pytest.raises(OutputError, match="given twice"):
        check_outputs([Path("z.bw"), tmp_path / "z.bw"], [], force=False)


def test_published_outputs_of_a_killed_run_may_be_replaced_and_no_others(state, outputs):
    job = Job(outputs, state)
    with pytest.raises(KeyboardInterrupt), job:  # noqa: PT012
        job.open_journal({}, 1)
        job.journal.write(0, b"x")
        part = temporary_path(outputs[0].with_name("z.bw"))
        part.write_text("track")
        job.publish()
        part.rename(outputs[0])
        raise KeyboardInterrupt
    check_outputs(outputs, [], force=False)
    outputs[1].write_text("of another run")
    with pytest.raises(OutputError, match=r"z\.bed: exists already"):
        check_outputs(outputs, [], force=False)


def test_a_job_without_finished_shards_leaves_nothing(state, tmp_path, outputs):
    job = Job(outputs, state)
    with pytest.raises(ValueError, match="early"), job:  # noqa: PT012
        job.open_journal({}, 3)
        raise ValueError("early")
    assert list(tmp_path.iterdir()) == []


def test_a_stop_names_the_saved_shards(state, outputs):
    stop = StopRequest()
    job = Job(outputs, state, stop)
    with pytest.raises(Stopped, match=r"1 of 3 shards are saved in .*same command again") as caught, job:  # noqa: PT012
        job.open_journal({}, 3)
        job.journal.write(2, b"x")
        assert stop.is_deferred
        job.check_stop()
        stop.request(signal.SIGTERM)
        job.check_stop()
    assert caught.value.signal_number == signal.SIGTERM
    assert not stop.is_deferred
    assert journal_path(outputs[0]).is_dir()


def test_a_shard_is_abandoned_only_if_its_rest_takes_long(state, outputs, monkeypatch):
    stop, now = StopRequest(), [0.0]
    monkeypatch.setattr("zflipon.jobs.job.time.monotonic", lambda: now[0])
    with Job(outputs, state, stop) as job:
        job.open_journal({}, 1)
        job.start_shard()
        stop.request()
        now[0] = GRACE_PERIOD
        job.advance_shard(60, 100)  # the rest takes two thirds of it
        now[0] *= 10
        with pytest.raises(Stopped):
            job.advance_shard(1, 100)


@pytest.mark.usefixtures("default_sigint")
def test_the_first_signal_waits_for_a_job_and_the_second_does_not():
    with pytest.raises(Stopped), stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)  # no job runs
    with pytest.raises(Stopped) as caught, stop_on_signals() as stop:  # noqa: PT012 (two signals in a row)
        stop.is_deferred = True
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.signal_number == signal.SIGHUP
        os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.signal_number == signal.SIGINT


def test_ignored_signals_stay_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_progress_adds_up_to_the_total_and_never_exceeds_it():
    reports = []
    progress = ShardProgress(lambda done, total: reports.append((done, total)), [100, 50, 70], {1})
    progress.part(0, 60)
    progress.part(0, 130)  # windows reach beyond the shard
    progress.shards([0, 1])
    progress.part(2, 10)
    progress.shards([2])
    done = [sum(done for done, _ in reports[: i + 1]) for i in range(len(reports))]
    assert done[0] == 50
    assert done == sorted(done)
    assert done[-1] == 220
    assert {total for _, total in reports} == {220}
