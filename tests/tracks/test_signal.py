"""Values and calls of a bigWig, in chunks of any size."""

from report_files import CALL, CALLS, LENGTHS, write_run

from zflipon.tracks.signal import SignalFile


def test_chunk_borders_make_no_difference(tmp_path, monkeypatch):
    signal, _ = write_run(tmp_path)
    whole = SignalFile(signal).call(LENGTHS, CALL), SignalFile(signal).count_values(LENGTHS)
    monkeypatch.setattr("zflipon.tracks.signal.CHUNK", 57)
    cut = SignalFile(signal).call(LENGTHS, CALL), SignalFile(signal).count_values(LENGTHS)
    assert all((whole[0][name] == cut[0][name]).all() for name in CALLS)
    assert whole[1][0] == cut[1][0]
    assert (whole[1][1] == cut[1][1]).all()


def test_progress_counts_all_bases(tmp_path):
    signal, _ = write_run(tmp_path)
    bases = []
    SignalFile(signal).count_values(LENGTHS, bases.append)
    assert sum(bases) == sum(LENGTHS.values())
