"""Parts of an annotation, computed separately and merged, against one run."""

import json
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta

from zflipon.cli import cli
from zflipon.config import Selection
from zflipon.errors import InputError, ZfliponError
from zflipon.genome.fasta import Genome
from zflipon.genome.shards import Part, make_plan
from zflipon.workflows.annotate import annotate
from zflipon.workflows.merge import merge

FORMATS = ("bw", "bedgraph", "bedgraph.gz", "bed", "bed.gz", "narrowpeak.gz", "gff3", "tsv")

TIMES = {"started", "seconds", "seconds_in", "memory", "parts", "command", "outputs", "scores", "file"}


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """Contigs of several shards, contigs that share one, and contigs without sequence."""
    contigs = {
        "chr1": dna(3000, 1) + "CG" * 20 + "N" * 300 + dna(2500, 2) + "TG" * 30,
        "tiny": "ACG",
        "gap": "N" * 200,
        **{f"scaffold{i}": dna(100 + i, i) + "CG" * 8 for i in range(12)},
        "chr2": dna(1700, 3) + "CG" * 15 + dna(900, 4),
        "last": "NN",
    }
    return make_fasta(tmp_path_factory.mktemp("genome"), contigs)


def parts_of(genome, model, folder, count, **settings):
    files = [folder / f"part{number}.zfp" for number in range(1, count + 1)]
    for number, file in enumerate(files, 1):
        annotate(genome, [file], model, part=Part(number, count), shard_bases=1000, **settings)
    return files


@pytest.fixture(scope="module")
def zhunt_parts(genome, tmp_path_factory):
    return parts_of(genome, "zhunt", tmp_path_factory.mktemp("parts"), 3)


def test_merged_tracks_have_the_bytes_of_one_run(genome, zhunt_parts, tmp_path):
    whole = [tmp_path / f"whole.{name}" for name in FORMATS]
    merged = [tmp_path / f"merged.{name}" for name in FORMATS]
    annotate(genome, whole, "zhunt", shard_bases=1000)
    merge(zhunt_parts[::-1], merged)
    for one, other in zip(whole, merged, strict=True):
        assert one.read_bytes() == other.read_bytes(), one
    assert (tmp_path / "merged.bed").read_text().count("\n") > 10


def test_the_record_of_merged_tracks_is_that_of_one_run(genome, zhunt_parts, tmp_path):
    annotate(genome, [tmp_path / "whole.bw"], "zhunt", shard_bases=1000)
    merge(zhunt_parts, tmp_path / "merged.bw")
    whole, merged = (json.loads((tmp_path / f"{name}.bw.json").read_text()) for name in ("whole", "merged"))
    assert {name for name in {**whole, **merged} if whole.get(name) != merged.get(name)} <= TIMES
    assert whole["file"]["sha256"] == merged["file"]["sha256"]
    assert [part["part"] for part in merged["parts"]] == ["1 of 3", "2 of 3", "3 of 3"]
    assert merged["tracks"]["calls"] > 10


def test_parts_of_a_network_with_several_scores_and_regions(genome, tiny_checkpoint, tmp_path):
    settings = {
        "scores": ("probability", "propensity", "activity"),
        "selection": Selection(("chr1:2,000-5,700", "scaffold3"), None),
    }
    annotate(
        genome, [tmp_path / "whole.bw", tmp_path / "whole.bed"], tiny_checkpoint, shard_bases=1000, **settings
    )
    merge(parts_of(genome, tiny_checkpoint, tmp_path, 2, **settings), [tmp_path / "z.bw", tmp_path / "z.bed"])
    for score in settings["scores"]:
        for name in ("bw", "bed"):
            one, other = (tmp_path / f"{stem}.{score}.{name}" for stem in ("whole", "z"))
            assert one.read_bytes() == other.read_bytes(), (score, name)


def test_more_parts_than_shards_leave_some_empty(genome, tmp_path):
    selection = Selection(contigs=("scaffold1", "tiny"))
    files = parts_of(genome, "zhunt", tmp_path, 4, selection=selection)
    annotate(genome, [tmp_path / "whole.bw"], "zhunt", selection=selection)
    merge(files, tmp_path / "merged.bw")
    assert (tmp_path / "whole.bw").read_bytes() == (tmp_path / "merged.bw").read_bytes()


def test_each_shard_is_in_one_part_and_parts_are_balanced_by_bases(genome):
    with Genome(genome) as source:
        plan = make_plan(source, Selection(), 256, 64, 400)
    for count in (1, 2, 3, 7, 40):
        numbers = [plan.part(Part(number, count)) for number in range(1, count + 1)]
        assert [n for part in numbers for n in part] == list(range(len(plan.shards)))
        bases = [sum(plan.shards[n].bases for n in part) for part in numbers]
        assert max(abs(each - plan.bases / count) for each in bases) <= max(
            shard.bases for shard in plan.shards
        )


def test_a_stopped_part_resumes(genome, zhunt_parts, tmp_path):
    from zflipon.errors import Stopped
    from zflipon.jobs.signals import StopRequest

    stop, part = StopRequest(), tmp_path / "part1.zfp"

    def stop_soon(done, _total):
        if done:
            stop.request(15)

    with pytest.raises(Stopped, match=r"[1-9]\d* of \d+ shards are saved"):
        annotate(genome, [part], "zhunt", part=Part(1, 3), shard_bases=1000, progress=stop_soon, stop=stop)
    with pytest.raises(ZfliponError, match=r"differs in part \(1 of 3, now 2 of 3\)"):
        annotate(genome, [part], "zhunt", part=Part(2, 3), shard_bases=1000)
    done = []
    annotate(
        genome, [part], "zhunt", part=Part(1, 3), shard_bases=1000, progress=lambda new, _: done.append(new)
    )
    assert done[0] > 0
    assert not (tmp_path / "part1.zfp.unfinished").exists()
    merge([part, *zhunt_parts[1:]], tmp_path / "resumed.bw")
    merge(zhunt_parts, tmp_path / "merged.bw")
    assert (tmp_path / "resumed.bw").read_bytes() == (tmp_path / "merged.bw").read_bytes()


def test_missing_and_doubled_parts_are_named(zhunt_parts, tmp_path):
    with pytest.raises(InputError, match=r"^part 2 of 3 is missing"):
        merge([zhunt_parts[0], zhunt_parts[2]], tmp_path / "z.bw")
    with pytest.raises(InputError, match=r"^parts 1, 3 of 3 are missing"):
        merge(zhunt_parts[1:2], tmp_path / "z.bw")
    copy = tmp_path / "copy.zfp"
    copy.write_bytes(zhunt_parts[1].read_bytes())
    with pytest.raises(
        InputError, match=r"copy.zfp and .*part2.zfp are both part 2 of 3; give each part once"
    ):
        merge([*zhunt_parts, copy], tmp_path / "z.bw")
    assert list(tmp_path.glob("z.*")) == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"genome": "other"}, "genome"),
        ({"model": "tiny"}, "model"),
        ({"selection": Selection(contigs=("chr1",))}, "genome"),
        ({"screen": True}, "screen"),
        ({"call": 5}, "calls"),
        ({"count": 4}, "number of parts"),
    ],
)
def test_parts_of_another_run_are_refused_by_name(
    change, name, genome, zhunt_parts, tiny_checkpoint, tmp_path
):
    from zflipon.config import CallConfig

    change = dict(change)
    if change.pop("genome", None):
        genome = make_fasta(tmp_path, {"chr1": dna(9000, 8)})
    model = tiny_checkpoint if change.pop("model", None) else "zhunt"
    if "call" in change:
        change["call"] = CallConfig(min_length=change["call"])
    part = Part(2, change.pop("count", 3))
    annotate(genome, [tmp_path / "odd.zfp"], model, part=part, shard_bases=1000, **change)
    with pytest.raises(InputError, match=rf"odd.zfp: differs from .*part1.zfp in .*{name}") as error:
        merge([zhunt_parts[0], tmp_path / "odd.zfp", zhunt_parts[2]], tmp_path / "z.bw")
    assert "\n" not in str(error.value)


def test_parts_of_another_version_are_refused(zhunt_parts, tmp_path):
    part = tmp_path / "old.zfp"
    with zipfile.ZipFile(zhunt_parts[1]) as source, zipfile.ZipFile(part, "w") as copy:
        for item in source.infolist():
            content = source.read(item)
            if item.filename == "header.json":
                header = json.loads(content)
                header["key"]["version"] = "0.0.9"
                content = json.dumps(header).encode()
            copy.writestr(item.filename, content)
    with pytest.raises(InputError, match=r"old.zfp: differs from .* in version \(0.0.9, there"):
        merge([zhunt_parts[0], part, zhunt_parts[2]], tmp_path / "z.bw")


def test_damaged_parts_are_refused_by_name(zhunt_parts, tmp_path):
    whole = zhunt_parts[1].read_bytes()
    bad, rng = tmp_path / "bad.zfp", np.random.default_rng(5)
    merge(zhunt_parts, tmp_path / "good.bw")
    for cut in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"bad.zfp: .*run this part again"):
            merge([zhunt_parts[0], bad, zhunt_parts[2]], tmp_path / "z.bw", force=True)
    messages = []
    for position in rng.integers(0, len(whole), 60):
        bad.write_bytes(
            whole[:position] + bytes([whole[position] ^ 1 << int(rng.integers(8))]) + whole[position + 1 :]
        )
        try:
            merge([zhunt_parts[0], bad, zhunt_parts[2]], tmp_path / "z.bw", force=True)
        except InputError as error:  # any other exception is a fault
            messages.append(str(error))
        else:
            assert (tmp_path / "z.bw").read_bytes() == (tmp_path / "good.bw").read_bytes()
    assert len(messages) > 40
    assert all("bad.zfp" in message and "\n" not in message for message in messages)


def test_other_files_are_no_parts(genome, zhunt_parts, tmp_path):
    for path in (genome, tmp_path / "absent.zfp"):
        with pytest.raises(InputError, match=path.name):
            merge([*zhunt_parts[:2], path], tmp_path / "z.bw")
    with zipfile.ZipFile(tmp_path / "other.zfp", "w") as archive:
        archive.writestr("header.json", "[]")
    with pytest.raises(InputError, match=r"other.zfp"):
        merge([tmp_path / "other.zfp"], tmp_path / "z.bw")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-o", "z.bw", "--part", "1/2"], "name ends in .zfp"),
        (["-o", "a.zfp", "-o", "b.zfp", "--part", "1/2"], "expected one output"),
        (["-o", "a.zfp"], "say which, such as --part 3/16"),
        (["-o", "a.zfp", "--part", "0/2"], "1 ≤ I ≤ N"),
        (["-o", "a.zfp", "--part", "3/2"], "1 ≤ I ≤ N"),
        (["-o", "a.zfp", "--part", "two"], "such as 3/16"),
    ],
)
def test_invalid_parts_are_refused(genome, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["annotate", str(genome), "--model", "zhunt", *words])
    assert isinstance(result.exception, ZfliponError), result.output
    assert expected in str(result.exception)
    assert list(tmp_path.glob("*.zfp*")) == []


def test_the_command_merges_and_refuses_to_overwrite(zhunt_parts, tmp_path):
    words = ["merge", *map(str, zhunt_parts), "-o", str(tmp_path / "z.bed")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert "from 3 parts" in result.stderr
    assert "exists already" in str(CliRunner().invoke(cli, words).exception)
    stdout = CliRunner().invoke(cli, ["merge", *map(str, zhunt_parts), "-o", "-", "-q"]).stdout
    assert stdout == (tmp_path / "z.bed").read_text()
