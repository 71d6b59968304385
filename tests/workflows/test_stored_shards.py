"""Writing contigs from stored shards: totals, bytes and memory."""

import tracemalloc

import numpy as np
import pytest

from zflipon.config import CallConfig
from zflipon.genome.shards import stored_spans
from zflipon.tracks.calling import NO_VALUE, ContigTrack, LazyChunks, call_track
from zflipon.tracks.outputs import TrackOutputs
from zflipon.workflows.stored_shards import ContigWriter, encode_shard

CALL = {"probability": CallConfig(0.5, 6, 0), "activity": CallConfig(0.9, 6, 0)}


class Store:
    """Shards in memory; counts how often each is read."""

    def __init__(self, shards):
        self.contents = [encode_shard(values, number + 1) for number, values in enumerate(shards)]
        self.reads = [0] * len(shards)

    def read(self, number):
        self.reads[number] += 1
        return self.contents[number]


def write(folder, contigs, shards, values, names=("o.bw", "o.bedgraph", "o.bed")):
    """Write shards of spans (contig, start, end) with values of shape (scores, bases); return writer and store."""
    lengths = {
        name: max([end for each in shards for c, _, end in each if c == name], default=9) for name in contigs
    }
    store, observed = Store(values), []
    with (
        TrackOutputs([folder / name for name in names], lengths) as first,
        TrackOutputs([], lengths) as second,
    ):
        tracks = dict(zip(CALL, (first, second), strict=True))
        sizes = [sum(end - start for _, start, end in each) for each in shards]
        writer = ContigWriter(tracks, CALL, sizes, store, lambda *values: observed.append(values))
        for contig, spans in stored_spans(contigs, shards).items():
            writer.write(contig, spans)
        first.commit()
    return writer, store, observed


def test_contigs_are_written_as_if_they_were_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    shards = [[("a", 5, 400)], [("a", 400, 700), ("b", 0, 50)], [("c", 10, 90)]]
    values = [rng.integers(0, 1001, (2, sum(e - s for _, s, e in each))).astype(np.uint16) for each in shards]
    values[1][:, 20:30] = NO_VALUE
    writer, _, observed = write(tmp_path, ["a", "b", "empty", "c"], shards, values)
    whole = {
        "a": [(5, values[0]), (400, values[1][:, :300])],
        "b": [(0, values[1][:, 300:])],
        "c": [(10, values[2])],
    }
    for row, (score, call) in enumerate(CALL.items()):
        tracks = [ContigTrack(name, [(start, each[row]) for start, each in whole[name]]) for name in whole]
        calls = [call_track(track, call.threshold, call.min_length, call.merge_gap) for track in tracks]
        assert writer.totals[score] == {
            "calls": sum(map(len, calls)),
            "called_bases": sum(int((each["end"] - each["start"]).sum()) for each in calls),
            "bases": 395 + 340 + 80,
            "windows_read": 1 + 2 + 3,
        }
        seen = [each for _, name, each in observed if name == score]
        assert np.concatenate(seen).tolist() == np.concatenate([each[row] for each in values]).tolist()
    assert (tmp_path / "o.bed").read_text().count("\n") == writer.totals["probability"]["calls"] > 0


def test_short_contigs_read_the_shard_that_they_share_once(tmp_path):
    names = [f"c{number}" for number in range(50)]
    shards = [[(name, 0, 20) for name in names]]
    _, store, _ = write(tmp_path, names, shards, [np.full((2, 1000), 700, dtype=np.uint16)])
    assert store.reads == [1]


def test_memory_does_not_grow_with_the_contig(tmp_path):
    bases, count = 1 << 16, 64
    values = np.repeat(np.tile(np.array([0, 700], dtype=np.uint16), bases // 512), 256)
    content = encode_shard(np.stack([values, values]), 1)

    class OneShard:
        def read(self, _number):
            return content

    spans = [[("a", number * bases, (number + 1) * bases)] for number in range(count)]
    lengths = {"a": bases * count}
    with (
        TrackOutputs([tmp_path / "o.bw"], lengths) as first,
        TrackOutputs([tmp_path / "o.bed"], lengths) as second,
    ):
        tracks = dict(zip(CALL, (first, second), strict=True))
        writer = ContigWriter(tracks, CALL, [bases] * count, OneShard())
        tracemalloc.start()
        writer.write("a", stored_spans(["a"], spans)["a"])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert writer.totals["probability"]["calls"] == bases * count // 512
    assert peak < 6e6  # the scores of the contig take 17 MB


def test_lazy_chunks_are_checked_by_their_bounds(tmp_path):
    def read(_number):
        raise AssertionError("nothing is read before it is needed")

    track = ContigTrack("a", LazyChunks([(0, 5), (5, 9)], read))
    assert track.end == 9
    with pytest.raises(ValueError, match="a chunk starts at 4, before the end of the previous one"):
        ContigTrack("a", LazyChunks([(0, 5), (4, 9)], read))
