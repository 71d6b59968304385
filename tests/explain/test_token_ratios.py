"""True-positive ratios of tokens equal counts by hand, and a slow loop over windows."""

import csv
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import dna, make_fasta
from tokenizers import Tokenizer
from tokenizers.models import BPE

from zflipon.cli import cli
from zflipon.config import InferenceConfig, TokenRatioConfig
from zflipon.errors import InputError, ModelError
from zflipon.explain.ranking import rank_tokens
from zflipon.explain.table_files import read_table
from zflipon.explain.token_ratios import count_tokens, token_ratios
from zflipon.genome.fasta import Genome
from zflipon.genome.tiled_windows import TiledWindows
from zflipon.inference.batching import Batcher
from zflipon.inference.devices import device_profile
from zflipon.inference.predictor import Predictor
from zflipon.inference.settings import InferenceSettings
from zflipon.models import Calibration, ModelMetadata, create, load, save
from zflipon.tokenization.tokenizers import BpeTokenizer

CPU = InferenceConfig(device="cpu")


@pytest.fixture(scope="module")
def cg_tokenizer():
    """Return a tokenizer of the four bases and CG."""
    vocabulary = {name: i for i, name in enumerate(["[PAD]", "[UNK]", "A", "C", "G", "T", "CG"])}
    tokenizer = Tokenizer(BPE(vocabulary, [("C", "G")], unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[PAD]"])
    return BpeTokenizer(tokenizer)


class Oracle(Predictor):
    """Predicts a probability of 0.6 for C and G, and 0.1 for other bases."""

    def __init__(self, tokenizer, **metadata):
        self.tokenizer = tokenizer
        self.metadata = ModelMetadata("compact", "base", 8, 0, threshold=0.6, **metadata)
        self.settings, self.features = InferenceSettings(torch.device("cpu"), torch.float32), None
        self.profile = device_profile(self.device)
        self.batcher = Batcher(tokenizer, self.device, with_bases=True, batch_size=2)
        self.executor = self

    def stream(self, items):
        return ((item, batch, None) for item, batch in items)

    def gather(self, pending):
        return None

    def base_values(self, batch, rows):
        names = self.tokenizer.names()
        text = "".join(names[i] for tokens in batch.tokens for i in tokens.ids)
        return np.where(np.isin(list(text), ["C", "G"]), 0.6, 0.1).astype(np.float32)[None]


@pytest.mark.parametrize(("comparison", "true_positives"), [(">=", 3), (">", 2)])
def test_counts_by_hand(tmp_path, cg_tokenizer, comparison, true_positives):
    # CG CG A T A T | A C T CG A A A | G G CG T T T T, and a window that is not chosen
    sequence = "CGCGATAT" + "ACTCGAAA" + "GGCGTTTT" + "CGCGCGCG"
    labels = {"one": np.array([[0, 3], [11, 14]])}  # CG and half a CG; CG and an A
    tiled = TiledWindows(
        8, ("one",), np.zeros(4, int), np.arange(0, 32, 8), np.zeros(4, bool), np.zeros(4, bool)
    )
    with Genome(make_fasta(tmp_path, {"one": sequence})) as genome:
        oracle = Oracle(cg_tokenizer, label_comparison=comparison)
        counts = count_tokens(oracle, genome, tiled, np.array([0, 1, 2]), labels)
    names = cg_tokenizer.names()
    total = {names[i]: int(n) for i, n in enumerate(counts.total) if n}
    assert total == {"CG": 4, "A": 6, "T": 7, "C": 1, "G": 2}
    assert {names[i]: int(n) for i, n in enumerate(counts.tp) if n} == {"CG": true_positives}
    assert {names[i]: int(n) for i, n in enumerate(counts.called) if n} == {"CG": 4, "C": 1, "G": 2}
    assert {names[i]: int(n) for i, n in enumerate(counts.labelled) if n} == {"CG": true_positives, "A": 1}


def test_the_threshold_can_be_set(tmp_path, cg_tokenizer):
    tiled = TiledWindows(8, ("one",), np.zeros(1, int), np.zeros(1, int), np.ones(1, bool), np.zeros(1, bool))
    with Genome(make_fasta(tmp_path, {"one": "CGCGATAT"})) as genome:
        counts = [
            count_tokens(Oracle(cg_tokenizer), genome, tiled, np.array([0]), {}, threshold)
            for threshold in (0.61, 0.1)
        ]
    assert [int(each.called.sum()) for each in counts] == [0, 6]


class World:
    """A genome with N, labels and a blacklist, as files and as arrays of one value per base."""

    def __init__(self, folder):
        rng = np.random.default_rng(5)
        self.sequence = {"one": dna(9000, 1), "two": dna(4100, 2), "three": dna(3000, 3)}
        self.sequence["one"] = self.sequence["one"][:300] + "N" * 200 + self.sequence["one"][500:]
        self.genome = make_fasta(folder, self.sequence)
        self.label = {contig: np.zeros(len(text), bool) for contig, text in self.sequence.items()}
        rows = []
        for contig, mask in self.label.items():
            for start in rng.integers(0, len(mask) - 40, 8):
                mask[start : start + 37] = True
                rows.append(f"{contig}\t{start}\t{start + 37}\n")
        self.labels, self.blacklist = folder / "labels.bed", folder / "black.bed"
        self.labels.write_text("".join(rows))
        self.blacklist.write_text("one\t2000\t2001\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def token_checkpoint(tmp_path_factory, tokenizer):
    """Return a compact checkpoint with a token head, which calls about half of all tokens."""
    torch.manual_seed(3)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    made = create("compact", "token", tokenizer, initializer_range=0.5, **shape)
    metadata = replace(made.metadata, window=128, margin=0, calibration=Calibration(1.0, 0.3))
    folder = tmp_path_factory.mktemp("checkpoint") / "token"
    save(replace(made, metadata=metadata), folder)
    return folder


THRESHOLD = 0.02
"""Probability at which both checkpoints call tens of labelled tokens."""


def slow(world, folder, width, contigs):
    """Count the windows with a label, one at a time."""
    checkpoint = load(folder)
    metadata, names, predictor = checkpoint.metadata, checkpoint.tokenizer.names(), Predictor(checkpoint, CPU)
    total, true_positives = Counter(), Counter()
    for contig in contigs:
        text, label = world.sequence[contig], world.label[contig]
        for start in range(0, len(text) - width + 1, width):
            window, truth = text[start : start + width], label[start : start + width]
            blacklisted = contig == "one" and start <= 2000 < start + width
            if not truth.any() or blacklisted or window.count("N") * 2 > width:
                continue
            (called,) = (values >= THRESHOLD for values in predictor.predict_probabilities([window]))
            (tokens,) = checkpoint.tokenizer.encode([window])
            end = 0
            for index, length in zip(tokens.ids, tokens.lengths, strict=True):
                bases = slice(end, end + length)
                end += length
                if length:
                    total[names[index]] += 1
                    shares = truth[bases].mean(), called[bases].mean()
                    true_positives[names[index]] += min(shares) >= metadata.label_threshold
    return {name: (true_positives[name], n) for name, n in total.items()}


@pytest.mark.parametrize("kind", ["base", "token"])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_batches_equal_one_window_at_a_time(world, tiny_checkpoint, token_checkpoint, kind, batch_size):
    folder = tiny_checkpoint if kind == "base" else token_checkpoint
    width, contigs = load(folder).metadata.window, ["one", "two"]
    ratios = token_ratios(
        world.genome,
        world.labels,
        folder,
        world.blacklist,
        contigs[::-1],
        TokenRatioConfig(negatives=0, threshold=THRESHOLD),
        replace(CPU, batch_size=batch_size),
    )
    expected = slow(world, folder, width, contigs)
    assert sum(tp for tp, _ in expected.values()) > 10
    assert {token: (tp, total) for token, tp, total, _ in ratios.rows()} == expected
    for _, tp, total, ratio in ratios.rows():
        assert ratio == tp / total


def test_negatives_add_tokens_but_no_true_positives(world, token_checkpoint):
    def counted(negatives, seed=42):
        config = TokenRatioConfig(negatives=negatives, seed=seed)
        return token_ratios(world.genome, world.labels, token_checkpoint, config=config, predict=CPU).counts

    none, one, other, every = counted(0), counted(1), counted(1, 7), counted(float("inf"))
    assert none.total.sum() < one.total.sum() < every.total.sum()
    assert (one.total != other.total).any()
    for counts in (one, other, every):
        np.testing.assert_array_equal(counts.tp, none.tp)
        np.testing.assert_array_equal(counts.labelled, none.labelled)


def with_split(world, checkpoint, folder, part_of):
    """Copy a checkpoint and add the split of a run whose windows have the parts that a function returns."""
    shutil.copytree(checkpoint, folder)
    width, rows = load(checkpoint).metadata.window, []
    for contig, text in world.sequence.items():
        for number, start in enumerate(range(0, len(text) - width + 1, width)):
            rows.append(f"{contig}\t{start}\t{start + width}\t{part_of(number)}\n")
    (folder / "splits.bed").write_text("".join(rows))
    return folder


def test_the_windows_of_a_run_are_read(world, token_checkpoint, tmp_path):
    folder = with_split(
        world, token_checkpoint, tmp_path / "run", lambda number: "test" if number % 2 else "train"
    )
    parts = {
        part: token_ratios(
            world.genome, world.labels, folder, config=TokenRatioConfig(part=part), predict=CPU
        )
        for part in ("train", "test")
    }
    every = TokenRatioConfig(negatives=float("inf"))
    whole = token_ratios(world.genome, world.labels, token_checkpoint, config=every, predict=CPU).counts
    for name in ("total", "called", "labelled", "tp"):
        added = sum(getattr(each.counts, name) for each in parts.values())
        np.testing.assert_array_equal(added, getattr(whole, name))
        assert getattr(parts["test"].counts, name).sum() > 0
    with pytest.raises(InputError, match="no row with the name 'validation'; its parts are train, test"):
        token_ratios(world.genome, world.labels, folder, config=TokenRatioConfig(part="validation"))
    with pytest.raises(InputError, match=r"has no splits\.bed"):
        token_ratios(world.genome, world.labels, token_checkpoint, config=TokenRatioConfig(part="test"))
    with pytest.raises(InputError, match="no usable window of 300 bases is in the part 'test'"):
        token_ratios(world.genome, world.labels, folder, config=TokenRatioConfig(window=300, part="test"))


def test_argmax_calls_the_most_probable_class_without_calibration(world, token_checkpoint, tmp_path):
    made = load(token_checkpoint)
    for name, bias in (("plain", 0.0), ("shifted", -20.0)):
        metadata = replace(made.metadata, calibration=Calibration(1.0, bias))
        save(replace(made, metadata=metadata), tmp_path / name)
    counts = [
        token_ratios(
            world.genome, world.labels, folder, config=TokenRatioConfig(threshold=threshold), predict=CPU
        )
        for folder, threshold in ((tmp_path / "shifted", "argmax"), (tmp_path / "plain", 0.5))
    ]
    np.testing.assert_array_equal(counts[0].counts.tp, counts[1].counts.tp)
    assert counts[0].settings["called"].endswith("called by argmax")


def test_special_tokens_are_not_counted(world, token_checkpoint):
    ratios = token_ratios(world.genome, world.labels, token_checkpoint, predict=CPU)
    assert not {"[CLS]", "[SEP]", "[PAD]"} & {row[0] for row in ratios.rows()}


def run(world, folder, *arguments):
    options = ["--labels", world.labels, "--model", folder, "--device", "cpu", *arguments]
    return CliRunner().invoke(cli, ["explain", "tokens", str(world.genome), *map(str, options)])


def test_the_csv_file_can_be_ranked(tmp_path, world, token_checkpoint):
    out = tmp_path / "tokens.csv"
    done = run(world, token_checkpoint, "--blacklist", world.blacklist, "-o", out, "--top", 3)
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 5
    header = read_table(out).header
    assert header["model"] == token_checkpoint.name
    assert header["labels"] == "labels.bed"
    assert header["contigs"] == "one, two, three"
    assert set(header) >= {
        "sha256",
        "genome",
        "blacklist",
        "windows",
        "seed",
        "called",
        "labelled",
        "zflipon",
    }
    rows = list(csv.DictReader(line for line in out.read_text().splitlines() if not line.startswith("#")))
    assert list(rows[0]) == ["token", "tp", "total", "tp_percent"]
    ratios = [float(row["tp_percent"]) for row in rows]
    assert ratios == sorted(ratios, reverse=True)
    assert rank_tokens([out]).models == (token_checkpoint.name,)


def test_the_csv_file_on_stdout(world, token_checkpoint):
    done = run(world, token_checkpoint, "-o", "-")
    assert done.stdout.startswith("# zflipon: ")
    assert "of them labelled" in done.stderr


def test_no_true_positive_is_one_clear_error(world, token_checkpoint):
    done = run(world, token_checkpoint, "--threshold", 1)
    assert isinstance(done.exception, InputError)
    assert "no true positives in" in str(done.exception)
    assert "\n" not in str(done.exception)


def test_unusable_labels_and_contigs_are_refused(tmp_path, world, token_checkpoint):
    with pytest.raises(InputError, match="no contig 'chr1'"):
        token_ratios(world.genome, world.labels, token_checkpoint, contigs=["chr1"])
    labels = tmp_path / "labels.bed"
    labels.write_text("two\t10\t20\n")
    with pytest.raises(InputError, match="no label on the selected contigs"):
        token_ratios(world.genome, labels, token_checkpoint, contigs=["one"])
    labels.write_text("one\t310\t320\n")
    with pytest.raises(InputError, match="no window of 128 bases has a label"):
        token_ratios(world.genome, labels, token_checkpoint, contigs=["one"])


def test_a_model_without_base_calls_is_refused(tmp_path, world, tokenizer):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    save(create("compact", "sequence", tokenizer, **shape), tmp_path / "sequence")
    with pytest.raises(ModelError, match="no token or base head"):
        token_ratios(world.genome, world.labels, tmp_path / "sequence")
