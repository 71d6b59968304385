"""Reports equal slow loops over the bases of a synthetic genome; the command; warnings from records."""

import gzip
import json
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta

import zflipon
from zflipon.cli import cli
from zflipon.config import EvaluateConfig
from zflipon.errors import InputError, MissingExtraError, OutputError
from zflipon.genome.fasta import Genome
from zflipon.genome.sketch import encode_sketch, sketch_sequence
from zflipon.metrics import ScoreHistogram
from zflipon.report.evaluation import format_table
from zflipon.tracks.registry import open_track
from zflipon.workflows.evaluate import evaluate, evaluate_track
from zflipon.workflows.evaluation_regions import load_evaluation_regions, sample_windows

HG19 = Path(__file__).parents[3] / "shared" / "hg19"
LENGTHS = {"one": 7000, "two": 3333, "three": 50, "four": 2600}
MEASURES = {"f1", "mcc", "precision", "recall", "average_precision", "best_f1", "best_threshold"}


class World:
    """A synthetic genome, labels, a blacklist and a scored track, as files and as arrays of one value per base."""

    def __init__(self, folder):
        rng = np.random.default_rng(11)
        self.folder, self.sequence, self.label, self.black, self.score = folder, {}, {}, {}, {}
        for contig, length in LENGTHS.items():
            letters = rng.choice(list("ACGTacgtR"), length)
            for start in rng.integers(0, length, 3):
                letters[start : start + rng.integers(1, 300)] = rng.choice(["N", "n"])
            self.sequence[contig] = "".join(letters)
            self.label[contig] = self.scatter(rng, length, 12, 30)
            self.black[contig] = self.scatter(rng, length, 2, 90)
            noise = np.repeat(rng.random(length // 5 + 1), 5)[:length]
            self.score[contig] = (0.6 * noise + 0.4 * self.label[contig]).round(3).astype(np.float32)
            self.score[contig][self.scatter(rng, length, 5, 200)] = np.nan
        self.score["four"][:] = np.nan  # the tracks do not know this contig
        self.genome = folder / "genome.fa"
        self.genome.write_text("".join(f">{name}\n{letters}\n" for name, letters in self.sequence.items()))
        self.labels = self.bed("labels.bed", self.label)
        self.blacklist = self.bed("black.bed", self.black)
        self.calls = {name: np.nan_to_num(score) >= 0.6 for name, score in self.score.items()}

    @staticmethod
    def scatter(rng, length, count, longest):
        mask = np.zeros(length, dtype=bool)
        for start in rng.integers(0, length, count):
            mask[start : start + rng.integers(1, longest)] = True
        return mask

    @staticmethod
    def runs(values):
        """Yield start, end and value of runs of equal values, without NaN."""
        edges = [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1), len(values)]
        for start, end in pairwise(edges):
            if not np.isnan(values[start]):
                yield int(start), int(end), values[start]

    def bed(self, name, masks):
        path = self.folder / name
        lines = [
            f"{contig}\t{start}\t{end}\tname\t1000\n"
            for contig, mask in masks.items()
            for start, end, value in self.runs(mask)
            if value
        ]
        path.write_text("".join(reversed(lines)))  # a BED need not be sorted
        return path

    def bigwig(self, name="track.bw", lengths=None, score=None):
        path, score = self.folder / name, score or self.score
        lengths = lengths or {contig: size for contig, size in LENGTHS.items() if contig != "four"}
        with pyBigWig.open(str(path), "w") as file:
            file.addHeader(list(lengths.items()))
            for contig in lengths:
                for start, end, value in self.runs(score.get(contig, np.full(1, np.nan))):
                    file.addEntries([contig], [start], ends=[end], values=[float(value)])
        return path

    def bedgraph(self, name="track.bedgraph.gz"):
        path = self.folder / name
        text = ["track type=bedGraph\n"]
        for contig in ("two", "one", "three"):  # contigs in another order
            text += [f"{contig}\t{s}\t{e}\t{v}\n" for s, e, v in self.runs(self.score[contig])]
        text.append("elsewhere\t0\t10\t0.9\n")
        (gzip.open if name.endswith(".gz") else open)(path, "wt").write("".join(text))
        return path

    def counted(self, contig):
        return np.array([letter not in "Nn" for letter in self.sequence[contig]]) & ~self.black[contig]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


def slow_sample(world, width, seed, negatives):
    """The paper's sample, window by window."""
    positive, other = [], []
    for contig, length in LENGTHS.items():
        for start in range(0, length - width + 1, width):
            part = slice(start, start + width)
            if world.sequence[contig][part].upper().count("N") > width / 2 or world.black[contig][part].any():
                continue
            (positive if world.label[contig][part].any() else other).append((contig, part))
    count = min(negatives * len(positive), len(other))
    drawn = np.random.default_rng(seed).choice(len(other), count, replace=False)
    masks = {contig: np.zeros(length, dtype=bool) for contig, length in LENGTHS.items()}
    for contig, part in [*positive, *(other[rank] for rank in drawn)]:
        masks[contig][part] = True
    return masks, len(positive), count


def slow_measures(world, masks):
    score = np.concatenate([np.nan_to_num(world.score[c])[masks[c]] for c in LENGTHS])
    label = np.concatenate([world.label[c][masks[c]] for c in LENGTHS])

    def at(threshold):
        called = score >= np.float32(threshold)
        tp, fp, fn = (called & label).sum(), (called & ~label).sum(), (~called & label).sum()
        return tp / max(tp + fp, 1), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn), called

    area, before, best = 0.0, 0.0, (0.0, None)
    for threshold in np.unique(score)[::-1]:
        precision, recall, f1, _ = at(threshold)
        area, before = area + (recall - before) * precision, recall
        best = max(best, (f1, float(str(threshold))), key=lambda pair: pair[0])
    precision, recall, f1, called = at(0.5)
    return {
        "f1": f1,
        "mcc": np.corrcoef(called, label)[0, 1],
        "precision": precision,
        "recall": recall,
        "average_precision": area,
        "best_f1": best[0],
        "best_threshold": best[1],
    }


def run(world, tracks, **options):
    config = EvaluateConfig(**options)
    return evaluate(tracks, world.labels, world.genome, world.blacklist, config=config)


# ---- the protocols ---------------------------------------------------------------------------------------


def test_genome_protocol_equals_a_slow_loop(world):
    report = run(world, [world.bigwig()], protocol="genome").summary()
    masks = {contig: world.counted(contig) for contig in LENGTHS}
    assert report["tracks"]["track.bw"]["genome"] == pytest.approx(slow_measures(world, masks), abs=1e-9)
    assert "sampled" not in report["tracks"]["track.bw"]
    assert report["settings"]["bases"]["genome"] == {
        "evaluated": sum(int(mask.sum()) for mask in masks.values()),
        "labelled": sum(int((masks[contig] & world.label[contig]).sum()) for contig in LENGTHS),
    }


@pytest.mark.parametrize(("width", "seed", "negatives"), [(32, 42, 3), (20, 7, 1), (100, 0, 3)])
def test_sampled_protocol_equals_a_slow_loop(world, width, seed, negatives):
    masks, positive, negative = slow_sample(world, width, seed, negatives)
    assert positive > 5
    options = {"protocol": "sampled", "window": width, "seed": seed, "negatives": negatives}
    report = run(world, [world.bigwig()], **options).summary()
    assert report["settings"]["windows"] == {"positive": positive, "negative": negative}
    assert report["settings"]["bases"]["sampled"]["evaluated"] == (positive + negative) * width
    assert report["tracks"]["track.bw"]["sampled"] == pytest.approx(slow_measures(world, masks), abs=1e-9)


def test_a_window_that_is_half_n_stays_and_one_more_n_drops_it():
    labels = {"c": np.array([[0, 1], [10, 11], [20, 21]])}
    stretches = {"c": np.array([[0, 5], [10, 14], [20, 30]])}
    windows, counts = sample_windows({"c": 39}, labels, stretches, {}, EvaluateConfig(window=10))
    assert windows["c"].tolist() == [[0, 10], [20, 30]]
    assert counts == {"positive": 2, "negative": 0}
    windows, _ = sample_windows(
        {"c": 39}, labels, stretches, {"c": np.array([[29, 31]])}, EvaluateConfig(window=10)
    )
    assert windows["c"].tolist() == [[0, 10]]


def test_regions_equal_a_slow_loop(world):
    regions = run(world, [world.bed("calls.bed", world.calls)]).summary()["tracks"]["calls.bed"]["regions"]
    expected = dict.fromkeys(("called", "called_right", "labels", "labels_found"), 0)
    for contig in LENGTHS:
        counted = world.counted(contig)
        for total, hit, these, those in (
            ("called", "called_right", world.calls[contig], world.label[contig]),
            ("labels", "labels_found", world.label[contig], world.calls[contig]),
        ):
            for start, end, inside in world.runs(these):
                if inside and counted[start:end].any():
                    expected[total] += 1
                    expected[hit] += bool((counted & those)[start:end].any())
    assert {key: regions[key] for key in expected} == expected
    assert regions["precision"] == expected["called_right"] / expected["called"]
    assert regions["recall"] == expected["labels_found"] / expected["labels"]


def test_the_same_values_in_any_format_give_the_same_report(world):
    names = ["track.bw", "track.bedgraph.gz", "track.bdg"]
    tracks = run(world, [world.bigwig(), *(world.bedgraph(name) for name in names[1:])]).summary()["tracks"]
    assert tracks[names[0]] == tracks[names[1]] == tracks[names[2]]


@pytest.mark.parametrize("chunk", [7, 97, 1000])
def test_results_do_not_depend_on_the_chunk_size(world, chunk):
    contigs = ["two", "four"] if chunk == 7 else []
    files = [world.bigwig(), world.bedgraph(), world.bed("calls.bed", world.calls)]
    whole, parts = (
        evaluate(
            files, world.labels, world.genome, world.blacklist, contigs, replace(EvaluateConfig(), chunk=size)
        )
        for size in (1 << 22, chunk)
    )
    assert whole.summary() == parts.summary()


def test_memory_does_not_grow_with_the_contig(tmp_path):
    length, size = 3_000_000, 10_000
    (tmp_path / "g.fa").write_text(">c\n" + "ACGTACGTAC" * (length // 10) + "\n")
    (tmp_path / "l.bed").write_text("c\t100\t200\n")
    starts = np.arange(0, length, 20)
    with pyBigWig.open(str(tmp_path / "t.bw"), "w") as file:
        file.addHeader([("c", length)])
        file.addEntries("c", starts, values=starts % 1000 / 1000.0, span=10)
    with open(tmp_path / "t.bedgraph", "w") as lines:
        lines.writelines(
            f"c\t{start}\t{start + 10}\t{start % 1000 / 1000.0}\n" for start in range(0, length, 2000)
        )
    config = EvaluateConfig(chunk=size)
    with Genome(tmp_path / "g.fa") as genome:
        regions = load_evaluation_regions(genome, tmp_path / "l.bed", None, [], config)
        for name in ("t.bw", "t.bedgraph"):
            track = open_track(tmp_path / name, genome.lengths)
            spans = [(start, len(scores)) for _, start, scores in track.chunks(genome.lengths, size)]
            assert spans == [(start, size) for start in range(0, length, size)]
            tracemalloc.start()
            evaluate_track(track, regions, config)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < length  # a byte for each base would be more


def test_contigs_are_chosen_and_their_order_does_not_matter(world):
    one, other = (
        evaluate([world.bigwig()], world.labels, world.genome, world.blacklist, contigs).summary()
        for contigs in (["two", "one"], ["one", "two"])
    )
    assert one == other
    assert one["settings"]["contigs"] == ["one", "two"]
    assert one["settings"]["bases"]["genome"]["evaluated"] == sum(
        world.counted(c).sum() for c in ("one", "two")
    )


# ---- the command -----------------------------------------------------------------------------------------


def invoke(world, *tracks, **options):
    arguments = ["evaluate", *map(str, tracks)]
    given = {"labels": world.labels, "genome": world.genome, "blacklist": world.blacklist, **options}
    for name, value in given.items():
        arguments += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return CliRunner().invoke(cli, arguments)


def test_json_and_table(world, tmp_path):
    out = tmp_path / "scores.json"
    calls = world.bed("calls.bed", world.calls)
    result = invoke(world, world.bigwig(), calls, json=out, window=32)
    assert result.exit_code == 0, result.output
    written = json.loads(out.read_text())
    assert set(written) == {"tracks", "settings", "matched_recall"}
    assert list(written["tracks"]) == ["track.bw", "calls.bed"]
    for name, track in written["tracks"].items():
        assert {"genome", "sampled", "regions"} <= set(track)
        for protocol in ("genome", "sampled"):
            assert set(track[protocol]) == MEASURES
            absent = {key for key, value in track[protocol].items() if value is None}
            assert absent == (
                set() if name == "track.bw" else {"average_precision", "best_f1", "best_threshold"}
            )
    assert written["settings"]["window"] == 32
    assert written["settings"]["seed"] == EvaluateConfig().seed
    lines = result.stdout.splitlines()
    row = next(line.split() for line in lines if line.startswith("track.bw"))
    genome = written["tracks"]["track.bw"]["genome"]
    assert row[1:4] == [f"{genome[key]:.3f}" for key in ("f1", "mcc", "precision")]
    heads = [line for line in lines if line.startswith("track ")]
    assert len(heads) == 4
    assert all(len(line) == len(heads[0]) for line in lines[1:4])


def test_json_to_stdout_is_pure_json(world):
    result = invoke(world, world.bigwig(), json="-", protocol="genome")
    assert set(json.loads(result.stdout)["tracks"]["track.bw"]) >= {"genome", "regions"}
    assert "every base that is not N" in result.stderr


def test_tracks_with_equal_names_get_different_names(world, tmp_path):
    (tmp_path / "b").mkdir()
    first, second = world.bed("calls.bed", world.calls), tmp_path / "b" / "calls.bed"
    second.write_text("one\t0\t10\n")
    names = list(run(world, [first, second, second, world.bigwig()]).summary()["tracks"])
    assert names == [str(first), str(second), f"{second} (2)", "track.bw"]


def test_plot_shows_each_track(world, tmp_path):
    files = [world.bigwig(), world.bed("calls.bed", world.calls)]
    assert invoke(world, *files, plot=tmp_path / "curves.png").exit_code == 0
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert invoke(world, *files, plot=tmp_path / "curves.svg", protocol="genome").exit_code == 0
    drawn = (tmp_path / "curves.svg").read_text()
    for text in ("recall", "precision", "track.bw (AP ", "calls.bed (F1 "):
        assert f"<!-- {text}" in drawn
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "curves.svg"]


def test_existing_outputs_are_kept_unless_forced(world, tmp_path):
    out = tmp_path / "scores.json"
    out.write_text("old")
    for option, path in (("json", out), ("plot", tmp_path / "scores.png")):
        path.write_text("old")
        result = invoke(world, world.bigwig(), **{option: path})
        assert isinstance(result.exception, OutputError)
        assert path.read_text() == "old"
    assert isinstance(invoke(world, tmp_path / "absent.bw", json=out, force=True).exception, InputError)
    assert out.read_text() == "old"
    assert invoke(world, world.bigwig(), json=out, force=True).exit_code == 0
    assert "tracks" in json.loads(out.read_text())


def test_plots_that_cannot_be_drawn_are_refused_first(world, tmp_path, monkeypatch):
    result = invoke(world, tmp_path / "absent.bw", plot=tmp_path / "curves.gif")
    assert isinstance(result.exception, OutputError)
    assert ".png" in str(result.exception)
    monkeypatch.setattr("zflipon.plots.find_spec", lambda name: None)
    result = invoke(world, tmp_path / "absent.bw", plot=tmp_path / "curves.png")
    assert isinstance(result.exception, MissingExtraError)
    assert "zflipon[plot]" in str(result.exception)


def test_rounded_scores_are_said_to_be(world):
    report = run(world, [world.bigwig()])
    assert "note:" not in format_table(report)
    crowded = ScoreHistogram(max_distinct=2)
    crowded.add(np.array([0.1, 0.2, 0.3]), np.array([False, True, True]))
    report.tracks["track.bw"].protocols["genome"].histogram = crowded
    assert "note: track.bw" in format_table(report)
    assert report.summary()["tracks"]["track.bw"]["scores_rounded"] is True


# ---- records, regions and intervals ----------------------------------------------------------------------


def write_record(track, **record):
    track.with_name(track.name + ".json").write_text(json.dumps(record))
    return track


def test_a_track_is_called_at_its_recorded_threshold(world, tmp_path):
    plain = world.bigwig()
    recorded = tmp_path / "recorded.bw"
    recorded.write_bytes(plain.read_bytes())
    write_record(recorded, call={"threshold": 0.3})
    report = run(world, [plain, recorded], protocol="genome")
    half, lower = (result.protocols["genome"] for result in report.tracks.values())
    assert [result.threshold for result in report.tracks.values()] == [0.5, 0.3]
    assert half.confusion == half.histogram.confusion_at(0.5)
    assert lower.confusion == lower.histogram.confusion_at(0.3)
    assert lower.confusion.recall > half.confusion.recall
    assert "recorded.bw        0.3" in format_table(report)
    report = run(world, [recorded], protocol="genome", threshold=0.7)
    assert report.summary()["tracks"]["recorded.bw"]["threshold"] == 0.7


def record_of(world, contigs, **more):
    with Genome(world.genome) as genome:
        digests = {
            contig: {"length": LENGTHS[contig], "md5": genome.scan(contig, min_gap=1).md5}
            for contig in contigs
        }
    return {"contigs": digests, "regions": None, **more}


def test_a_model_that_was_trained_on_evaluated_contigs_is_warned_about(world, tmp_path, caplog):
    track = tmp_path / "t.bw"
    track.write_bytes(world.bigwig().read_bytes())
    training = {"contigs": ["one", "two", "elsewhere"], "validation_contigs": ["two"]}
    record = record_of(world, LENGTHS, model={"training": training})
    run(world, [write_record(track, **record)])
    assert "the model was trained on one, so" in caplog.text
    caplog.clear()
    record["contigs"]["one"]["md5"] = "0" * 32  # another sequence of the same name
    run(world, [write_record(track, **record)])
    assert not caplog.text


def test_a_track_of_a_small_part_is_warned_about(world, tmp_path, caplog):
    track = tmp_path / "t.bw"
    track.write_bytes(world.bigwig().read_bytes())
    run(world, [write_record(track, **record_of(world, LENGTHS))])
    assert not caplog.text
    record = record_of(world, ["one"], regions=["one:1-3500"])
    write_record(track, **record)
    run(world, [track])
    assert "% of the evaluated bases" in caplog.text
    caplog.clear()
    evaluate([track], world.labels, world.genome, world.blacklist, config=EvaluateConfig(protocol="genome"),
             regions=["one:101-3400"])  # fmt: skip
    assert not caplog.text


def test_regions_limit_the_evaluation(world, tmp_path):
    regions_bed = tmp_path / "regions.bed"
    regions_bed.write_text("two\t500\t1500\n")
    config = EvaluateConfig(window=32)
    report = evaluate(
        [world.bigwig()], world.labels, world.genome, world.blacklist, config=config,
        regions=["one:1,001-4,000"], regions_bed=regions_bed,
    ).summary()  # fmt: skip
    masks = {contig: world.counted(contig) for contig in LENGTHS}
    selected = {contig: np.zeros(length, dtype=bool) for contig, length in LENGTHS.items()}
    selected["one"][1000:4000] = selected["two"][500:1500] = True
    masks = {contig: mask & selected[contig] for contig, mask in masks.items()}
    assert report["tracks"]["track.bw"]["genome"] == pytest.approx(slow_measures(world, masks), abs=1e-9)
    assert report["settings"]["contigs"] == ["one", "two"]
    assert report["settings"]["bases"]["sampled"]["evaluated"] <= 4000
    result = invoke(world, world.bigwig(), region="one:1,001-4,000", protocol="genome")
    assert result.exit_code == 0, result.output
    with pytest.raises(InputError, match="no such contig"):
        evaluate([world.bigwig()], world.labels, world.genome, regions=["five:1-10"])


def test_intervals_contain_the_measure_and_need_several_blocks(world):
    result = run(world, [world.bigwig()], protocol="genome").summary()["tracks"]["track.bw"]
    for measure, (low, high) in result["intervals"]["genome"].items():
        assert low <= result["genome"][measure] <= high
        assert low < high
    one_block = evaluate([world.bigwig()], world.labels, world.genome, contigs=["one"]).summary()
    assert one_block["tracks"]["track.bw"]["intervals"] == {"genome": None, "sampled": None}


# ---- bad input -------------------------------------------------------------------------------------------


def test_a_finished_track_without_values_calls_nothing(world):
    empty = world.bigwig("empty.bw", score={"none": np.zeros(1)})
    measured = run(world, [empty], protocol="genome").summary()["tracks"]["empty.bw"]
    assert (measured["genome"]["precision"], measured["genome"]["recall"]) == (0, 0)
    assert measured["regions"]["called"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no label on the evaluated contigs"),
        ("one\t5\t5\n", "no label on the evaluated contigs"),
        ("Xone\t0\t10\n", "no labels on the genome's contigs: the file has Xone, the genome one, two"),
        ("one\tx\t10\n", "expected BED"),
    ],
)
def test_wrong_labels_are_one_clear_line(world, tmp_path, text, message):
    labels = tmp_path / "labels.bed"
    labels.write_text(text)
    with pytest.raises(InputError) as caught:
        evaluate([world.bigwig()], labels, world.genome)
    assert message in str(caught.value)
    assert str(labels) in str(caught.value)


def test_labels_that_are_all_excluded_are_refused(world):
    with pytest.raises(InputError, match="nothing can be evaluated"):
        evaluate([world.bigwig()], world.labels, world.genome, blacklist=world.labels)


def test_an_unknown_contig_is_refused_with_a_suggestion(world):
    result = invoke(world, world.bigwig(), contigs="one,thre")
    assert isinstance(result.exception, InputError)
    assert "did you mean 'three'" in str(result.exception)


# ---- real tracks -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not HG19.is_dir(), reason="needs the hg19 sections")
@pytest.mark.parametrize("contigs", [["chr14_100M", "chr22_50M"], []])
def test_peers_on_hg19_equal_ten_lines_of_numpy(contigs):
    peers = ["zhunt.bed", "zdnabert.bed", "deepz.bed"]
    report = evaluate(
        [HG19 / peer for peer in peers],
        HG19 / "kouzine.bed",
        HG19 / "hg19_part.fa.gz",
        HG19 / "blacklist.bed",
        contigs,
        EvaluateConfig(protocol="genome"),
    ).summary()["tracks"]
    records = gzip.decompress((HG19 / "hg19_part.fa.gz").read_bytes()).split(b">")[1:]
    genome = {r.split()[0].decode(): r.split(b"\n", 1)[1].replace(b"\n", b"") for r in records}
    genome = {c: np.frombuffer(s, dtype=np.uint8) for c, s in genome.items() if not contigs or c in contigs}

    def mask(name):
        masks = {contig: np.zeros(len(letters), dtype=bool) for contig, letters in genome.items()}
        for contig, start, end in (line.split("\t")[:3] for line in (HG19 / name).read_text().splitlines()):
            if contig in masks:
                masks[contig][int(start) : int(end)] = True
        return np.concatenate([masks[contig] for contig in genome])

    kept = ~np.isin(np.concatenate(list(genome.values())), list(b"Nn")) & ~mask("blacklist.bed")
    label = mask("kouzine.bed")[kept]
    for peer in peers:
        called = mask(peer)[kept]
        tp, fp, fn = (called & label).sum(), (called & ~label).sum(), (~called & label).sum()
        mean, deviation = called.mean(), called.std()
        assert report[peer]["genome"] == {
            "f1": pytest.approx(2 * tp / (2 * tp + fp + fn), abs=1e-12),
            "mcc": pytest.approx(
                ((called & label).mean() - mean * label.mean()) / (deviation * label.std()), abs=1e-9
            ),
            "precision": pytest.approx(tp / (tp + fp), abs=1e-12),
            "recall": pytest.approx(tp / (tp + fn), abs=1e-12),
            "average_precision": None,
            "best_f1": None,
            "best_threshold": None,
        }


# ---- training data and matched recall ----------------------------------------------------------------------


def write_sequence(folder, name, length, seed):
    codes = np.random.default_rng(seed).integers(0, 4, length)
    text = np.frombuffer(b"ACGT", dtype=np.uint8)[codes].tobytes().decode()
    path = folder / f"{name}.fa"
    path.write_text(f">{name}\n{text}\n")
    return path, text


def test_training_sequence_is_recognised_whatever_its_contig_is_named(tmp_path, caplog):
    genome, text = write_sequence(tmp_path, "renamed", 1_500_000, 5)
    sketch = encode_sketch(sketch_sequence("ACGT" * 999 + text[300_000:]))  # a piece of another contig
    labels = tmp_path / "labels.bed"
    labels.write_text("renamed\t700000\t700020\n")
    track = tmp_path / "z.bedgraph"
    track.write_text("renamed\t700000\t700020\t0.9\n")
    record = tmp_path / "z.bedgraph.json"

    def warnings(**words):
        caplog.clear()
        zflipon.evaluate(track, labels, genome, **words)
        return [each.message for each in caplog.records if "trained on" in each.message]

    record.write_text(
        json.dumps({"model": {"domain": {"sketch": sketch}, "training": {"contigs": ["chr1"]}}})
    )
    (message,) = warnings()
    share = int(message.split("trained on ")[1].split(" %")[0])
    assert 55 <= share <= 100  # 80 % of the sequence
    other = encode_sketch(sketch_sequence(write_sequence(tmp_path, "other", 1_500_000, 6)[1]))
    record.write_text(
        json.dumps({"model": {"domain": {"sketch": other}, "training": {"contigs": ["renamed"]}}})
    )
    assert not warnings()  # another sequence has the name of a training contig
    assert warnings(
        regions=["renamed:690,001-710,000"]
    )  # too little sequence for a sketch: names are compared


def test_precision_at_matched_recall_is_that_of_the_threshold_with_this_recall(tmp_path):
    genome, _ = write_sequence(tmp_path, "a", 10_000, 7)
    labels, calls, track = tmp_path / "labels.bed", tmp_path / "peer.bed", tmp_path / "z.bedgraph"
    labels.write_text("a\t100\t200\na\t300\t400\n")
    calls.write_text("a\t100\t150\na\t5000\t5100\n")  # recall 1/4, precision 1/3
    track.write_text("a\t100\t160\t0.9\na\t300\t340\t0.6\na\t6000\t6100\t0.7\n")
    summary = zflipon.evaluate([calls, track], labels, genome).summary()
    matched = summary["matched_recall"]["genome"]
    assert matched["peer.bed"] == {"recall": 0.25, "precision": {"z.bedgraph": 1.0}}
    assert matched["z.bedgraph"]["recall"] == 0.5
    assert matched["z.bedgraph"]["precision"]["z.bedgraph"] == pytest.approx(0.5)
    table = format_table(zflipon.evaluate([calls, track], labels, genome))
    assert "genome: precision of tracks with scores at the recall of each track" in table


def test_precision_at_a_recall_that_no_score_reaches_is_missing():
    histogram = ScoreHistogram()
    histogram.add(np.array([0.9, 0.5, 0.1]), np.array([True, False, True]))
    assert histogram.precision_at(0.5) == 1.0
    assert histogram.precision_at(0.51) == pytest.approx(2 / 3)
    assert histogram.precision_at(1.01) is None


def test_tracks_of_a_genome_with_other_names_are_matched_by_sequence(tmp_path):
    from zflipon.workflows.annotate import annotate

    contigs = {
        "left": dna(3000, 1) + "CG" * 20 + dna(400, 2),
        "right": dna(2500, 3) + "CG" * 30 + dna(100, 4),
    }
    new = {"left": "NW_1.1", "right": "NW_2.1"}
    old_genome = make_fasta(tmp_path / "old.fa", contigs)
    new_genome = make_fasta(tmp_path / "new.fa", {new[name]: text for name, text in contigs.items()})
    annotate(old_genome, [tmp_path / "z.bw", tmp_path / "z.bedgraph"], "zhunt")
    (tmp_path / "old.bed").write_text("left\t3000\t3040\nright\t2500\t2560\n")
    (tmp_path / "new.bed").write_text("NW_1.1\t3000\t3040\nNW_2.1\t2500\t2560\n")
    config = EvaluateConfig(protocol="genome")
    tracks = [tmp_path / "z.bw", tmp_path / "z.bedgraph"]
    one = evaluate(tracks, tmp_path / "old.bed", old_genome, config=config).summary()["tracks"]
    other = evaluate(tracks, tmp_path / "new.bed", new_genome, config=config).summary()["tracks"]
    assert one == other
    assert one["z.bw"]["genome"]["recall"] == 1
