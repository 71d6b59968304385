"""The commands of ``zflipon models`` that write checkpoints: pull, import, convert and merge; no value changes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import errors
from safetensors.torch import load_file
from small_models import make_small_models

from zflipon.cli import cli
from zflipon.errors import ModelError, OutputError
from zflipon.models import create, load, start
from zflipon.models.collate import collate
from zflipon.tokenization.tokenizers import BpeTokenizer, KmerTokenizer

SEQUENCE = "ACGTTGCACGCGCGCGTATATTGCA" * 3


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Return the folders of small models in the published layouts, by family."""
    return make_small_models(tmp_path_factory.mktemp("published"))


@pytest.fixture
def finetuned(published, tmp_path):
    """Return a function that writes a fine-tuned state dict of a family, as training scripts do."""

    def write(family, name="best.pt", folder=None):
        torch.manual_seed(5)
        made = start(published[family], "token")
        path = (folder or tmp_path) / name
        torch.save({"model_state_dict": made.module.state_dict()}, path)
        return path, made

    return write


def run(*words):
    done = CliRunner().invoke(cli, ["models", *map(str, words)])
    return done.exit_code, done.output, done.exception


def logits(checkpoint, sequences=(SEQUENCE,)):
    tokens = checkpoint.tokenizer.encode(list(sequences))
    batch = collate(
        tokens, list(sequences), checkpoint.tokenizer.pad_id, checkpoint.metadata.objective == "base"
    )
    with torch.no_grad():
        return checkpoint.module.eval()(**batch).logits


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_importing_a_state_dict_uses_config_and_tokenizer_of_its_base(published, finetuned, tmp_path):
    path, made = finetuned("gena")
    status, output, _ = run("import", path, "--base", published["gena"], "--window", 70, "--label-threshold", 0.66,
                          "--max-token-length", 0, "-o", tmp_path / "out")  # fmt: skip
    assert status == 0, output
    found = load(tmp_path / "out")
    assert torch.equal(logits(found), logits(made))
    metadata = found.metadata
    assert (metadata.family, metadata.objective, metadata.window, metadata.margin) == (
        "gena",
        "token",
        70,
        17,
    )
    assert (metadata.label_threshold, metadata.label_comparison) == (0.66, ">")
    assert metadata.training["imported"] == {
        "from": str(path), "sha256": sha256(path), "base": str(published["gena"])
    }  # fmt: skip
    assert sha256(path) in output
    assert sha256(tmp_path / "out" / "model.safetensors") in output
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_importing_a_folder_with_another_tokenizer(published, finetuned, tmp_path):
    folder = tmp_path / "dnabert2"
    shutil.copytree(published["dnabert2"], folder)
    (folder / "pytorch_model.bin").unlink()
    finetuned("dnabert2", "pytorch_model.bin", folder)
    limited = BpeTokenizer.from_file(folder / "tokenizer.json").with_max_token_length(5)
    (tmp_path / "limited").mkdir()
    limited.save(tmp_path / "limited")
    status, output, _ = run(
        "import", folder, "--tokenizer", tmp_path / "limited" / "tokenizer.json", "-o", tmp_path / "out"
    )
    assert status == 0, output
    found = load(tmp_path / "out")
    assert found.tokenizer.max_token_length == found.metadata.max_token_length == 5
    assert max(found.tokenizer.encode([SEQUENCE])[0].lengths) <= 5
    status, _, _ = run("import", folder, "--max-token-length", 4, "-o", tmp_path / "shorter")
    assert status == 0
    assert max(load(tmp_path / "shorter").tokenizer.encode([SEQUENCE])[0].lengths) <= 4


def test_importing_z_dnabert(published, finetuned, tmp_path):
    folder = tmp_path / "z-dnabert"
    shutil.copytree(published["dnabert"], folder)
    (folder / "pytorch_model.bin").unlink()
    _, made = finetuned("dnabert", "pytorch_model.bin", folder)
    status, output, _ = run("import", folder, "-o", tmp_path / "out", "--threshold", 0.25)
    assert status == 0, output
    found = load(tmp_path / "out")
    assert torch.equal(logits(found), logits(made))
    assert found.metadata.threshold == 0.25
    assert (found.metadata.window, found.metadata.margin, found.metadata.label_threshold) == (512, 64, 0.5)
    assert (tmp_path / "out" / "vocab.txt").is_file()


@pytest.mark.parametrize("family", ["dnabert2", "gena", "dnabert", "modernbert"])
def test_converting_changes_no_value(published, family, tmp_path):
    status, output, _ = run("convert", published[family], "-o", tmp_path / "out")
    assert status == 0, output
    before, after = load(published[family], ("mlm",)), load(tmp_path / "out", ("mlm",))
    assert torch.equal(logits(before), logits(after))
    assert after.path == tmp_path / "out"
    assert load_file(tmp_path / "out" / "model.safetensors")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["zflipon"]["family"] == family
    assert output.count("\n") >= 3


def test_z_dnabert_is_read_without_special_tokens(published, finetuned, tmp_path):
    folder = tmp_path / "z-dnabert"
    shutil.copytree(published["dnabert"], folder)
    (folder / "pytorch_model.bin").unlink()
    finetuned("dnabert", "pytorch_model.bin", folder)
    tokenizer = KmerTokenizer.from_file(folder / "vocab.txt")
    special = {tokenizer.vocabulary["[CLS]"], tokenizer.vocabulary["[SEP]"]}
    assert run("import", folder, "-o", tmp_path / "out")[0] == 0
    for path in (folder, tmp_path / "out"):
        loaded = load(path)
        assert not loaded.metadata.special_tokens
        tokens = loaded.tokenizer.encode([SEQUENCE, "ACG", SEQUENCE[:6]])
        assert special.isdisjoint(tokens.ids.tolist())
        assert tokens[0].lengths.tolist() == [1] * (len(SEQUENCE) - 6) + [6]
        assert [row.lengths.sum() for row in tokens] == [len(SEQUENCE), 3, 6]
    assert "none around a window" in run("show", tmp_path / "out")[1]
    assert load(published["dnabert"], ("mlm",)).metadata.special_tokens
    assert not start(published["dnabert"], "token").metadata.special_tokens
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    config["zflipon"]["special_tokens"] = True  # as a model that was trained with them says
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    assert special <= set(load(tmp_path / "out").tokenizer.encode([SEQUENCE]).ids.tolist())


def test_the_length_of_tokens_in_training_is_inferred_from_the_embeddings(published, tmp_path):
    torch.manual_seed(5)
    made = start(published["gena"], "token")
    embeddings = made.module.bert.embeddings.word_embeddings.weight
    used = torch.tensor([0 < len(name) <= 3 and set(name) <= set("ACGT") for name in made.tokenizer.names()])
    with torch.no_grad():
        embeddings.mul_(0.99)  # weight decay scales unused embeddings too
        embeddings[used] += 0.01 * torch.randn(int(used.sum()), embeddings.shape[1])
    torch.save(made.module.state_dict(), tmp_path / "best.pt")
    words = ("import", tmp_path / "best.pt", "--base", published["gena"])
    status, output, failure = run(*words, "-o", tmp_path / "out")
    assert status == 0, failure
    assert "tokens of at most 3 bp" in output
    assert load(tmp_path / "out").tokenizer.max_token_length == 3
    assert run(*words, "--max-token-length", 0, "-o", tmp_path / "unlimited")[0] == 0
    assert load(tmp_path / "unlimited").tokenizer.max_token_length == made.tokenizer.max_token_length


def test_an_unknown_length_of_tokens_in_training_is_refused(published, finetuned, tmp_path):
    path, _ = finetuned("gena")  # with the embeddings of the base
    _, _, failure = run("import", path, "--base", published["gena"], "-o", tmp_path / "out")
    assert isinstance(failure, ModelError)
    assert "give the limit with --max-token-length" in str(failure)
    assert not (tmp_path / "out").exists()


def test_list_prints_what_the_bare_group_prints():
    assert run("list") == run()


def test_imports_that_are_refused(published, finetuned, tmp_path):
    path, _ = finetuned("gena")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    for words, kind, message in (
        ([path], ModelError, "name the model they were fine-tuned from with --base"),
        ([tmp_path / "no.pt", "--base", published["gena"]], ModelError, "no such file or folder"),
        ([path, "--base", published["modernbert"]], ModelError, "the weights do not fit"),
        (
            [path, "--base", published["gena"], "--max-token-length", 0, "--window", 20, "--margin", 10],
            ModelError,
            "less than half of the window",
        ),
    ):
        status, _, failure = run("import", *words, "-o", tmp_path / "out")
        assert status == 1
        assert isinstance(failure, kind), failure
        assert message in str(failure)
        assert not (tmp_path / "out" / "config.json").exists()
    for force in ((), ("--force",)):  # a folder that is not a checkpoint is never replaced
        status, _, failure = run("import", path, "--base", published["gena"], "-o", tmp_path / "full", *force)
        assert isinstance(failure, OutputError)
        assert [each.name for each in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_an_existing_checkpoint_is_replaced_with_force_only(published, tmp_path, monkeypatch):
    shutil.copytree(published["gena"], tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def untouched():
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        return {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before

    _, _, failure = run("convert", published["dnabert2"], "-o", tmp_path / "out")
    assert "exists already; give --force" in str(failure)
    assert untouched()
    for place in (tmp_path / "out", tmp_path):
        (tmp_path / "config.json").write_text("{}")  # makes the folder a checkpoint
        _, _, failure = run("convert", tmp_path / "out", "-o", place, "--force")
        (tmp_path / "config.json").unlink()
        assert "holds an input" in str(failure)
        assert untouched()
    with monkeypatch.context() as patched:
        patched.setattr("torch.equal", lambda *_: False)
        _, _, failure = run("convert", published["dnabert2"], "-o", tmp_path / "out", "--force")
    assert "tensors differ after writing" in str(failure)
    assert untouched()
    assert run("convert", published["dnabert2"], "-o", tmp_path / "out", "--force")[0] == 0
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()
    assert load(tmp_path / "out", ("mlm",)).metadata.family == "dnabert2"


def test_the_metadata_of_a_base_are_not_imported(published, finetuned, tmp_path):
    assert run("convert", published["gena"], "-o", tmp_path / "base")[0] == 0
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config["zflipon"] |= {"window": 200, "threshold": 0.9, "quality": {"f1": 1}, "training": {"by": "base"}}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    path, made = finetuned("gena")
    status, output, _ = run(
        "import", path, "--base", tmp_path / "base", "--max-token-length", 0, "-o", tmp_path / "out"
    )
    assert status == 0, output
    found = load(tmp_path / "out")
    assert torch.equal(logits(found), logits(made))
    metadata = found.metadata
    assert (metadata.objective, metadata.window, metadata.threshold, metadata.quality) == (
        "token",
        510,
        0.5,
        {},
    )
    assert set(metadata.training) == {"imported"}


def test_metadata_of_the_source_are_kept(tiny_checkpoint, tmp_path):
    before = load(tiny_checkpoint).metadata
    for command in ("import", "convert"):
        assert run(command, tiny_checkpoint, "-o", tmp_path / command)[0] == 0
        after = load(tmp_path / command).metadata
        assert replace(after, training={}) == replace(before, training={})
        assert after.training.popitem()[1]["from"] == str(tiny_checkpoint)


def test_the_objective_option_decides_between_token_and_sequence(published, tmp_path):
    torch.manual_seed(6)
    made = start(published["gena"], "sequence")
    torch.save(made.module.state_dict(), tmp_path / "promoters.pt")
    words = ("import", tmp_path / "promoters.pt", "--base", published["gena"])
    status, output, _ = run(*words, "--objective", "sequence", "-o", tmp_path / "out")
    assert status == 0, output
    found = load(tmp_path / "out", ("sequence",))
    assert torch.equal(logits(found), logits(made))
    _, _, failure = run(*words, "--objective", "base", "-o", tmp_path / "no")
    assert isinstance(failure, ModelError)
    assert "\n" not in str(failure)
    assert not (tmp_path / "no").exists()


def test_adapters_are_merged_instead_of_converted(published, tmp_path):
    from zflipon.config import LoraConfig
    from zflipon.models import save
    from zflipon.models.adapters import attach

    made = start(published["dnabert2"], "token")
    attach(made.module, LoraConfig(r=2), ["Wqkv"])
    save(made, tmp_path / "lora")
    _, _, failure = run("convert", tmp_path / "lora", "-o", tmp_path / "out")
    assert "zflipon models merge" in str(failure)
    _, _, failure = run("merge", tmp_path / "lora", "-o", published["dnabert2"], "--force")
    assert "holds an input" in str(failure)
    status, output, _ = run("merge", tmp_path / "lora", "-o", tmp_path / "out")
    assert status == 0
    assert "pytorch_model.bin, adapter_model.safetensors, as read" in output
    assert sha256(tmp_path / "out" / "model.safetensors") in output


def test_code_in_a_pickle_is_not_executed(published, tmp_path):
    class Boom:
        def __reduce__(self):
            return (print, ("boom",))

    torch.save({"weights": Boom()}, tmp_path / "bad.pt")
    status, output, failure = run(
        "import", tmp_path / "bad.pt", "--base", published["gena"], "-o", tmp_path / "out"
    )
    assert status == 1
    assert "holds more than tensors" in str(failure)
    assert "boom" not in output


def test_pull_prints_the_folder_and_checksums(published, monkeypatch):
    calls = {}

    def snapshot_download(repository, revision, allow_patterns):
        calls.update(repository=repository, revision=revision)
        return str(published["dnabert2"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    status, output, _ = run("pull", "zhihan1996/DNABERT-2-117M", "--revision", "main")
    assert status == 0
    assert calls == {"repository": "zhihan1996/DNABERT-2-117M", "revision": "main"}
    first, *rest = output.splitlines()
    assert first == str(published["dnabert2"])
    for path in published["dnabert2"].iterdir():
        assert f"{sha256(path)}  {path.name}" in rest
    assert f"dnabert2; use it with --model {published['dnabert2']}" in output
    assert "--model zhihan1996/DNABERT-2-117M" in run("pull", "zhihan1996/DNABERT-2-117M")[1]


def test_pull_refuses_a_repository_without_weights(published, monkeypatch, tmp_path):
    shutil.copy(published["dnabert2"] / "config.json", tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    status, output, failure = run("pull", "owner/name")
    assert (status, output) == (1, "")
    assert "no weights" in str(failure)


def test_errors_of_the_hub_are_explained(monkeypatch, tmp_path):
    def answer(kind):
        def snapshot_download(*_arguments, **_named):
            raise kind("Client Error. (Request ID: 1)\n\nMore.", response=Mock())

        return snapshot_download

    for kind, message in (
        (errors.GatedRepoError, "access needs an agreement to its terms; accept them on its page"),
        (errors.RepositoryNotFoundError, "no such model on the hub; check the name"),
        (errors.RevisionNotFoundError, "the hub has no revision 'v9' of it; name an existing branch"),
    ):
        monkeypatch.setattr("huggingface_hub.snapshot_download", answer(kind))
        status, _, failure = run("pull", "owner/name", "--revision", "v9")
        assert status == 1
        assert isinstance(failure, ModelError)
        assert str(failure).startswith("owner/name: ")
        assert message in str(failure)
        assert "\n" not in str(failure)
    monkeypatch.undo()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    words = [sys.executable, "-m", "zflipon", "models", "pull", "owner/name"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "HF_HUB_OFFLINE forbids downloads; unset HF_HUB_OFFLINE" in done.stderr


def test_pull_without_a_connection(monkeypatch):
    def snapshot_download(*_arguments, **_named):
        raise OSError("offline mode is on. More words.")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    status, _, failure = run("pull", "owner/name")
    assert status == 1
    assert "the download from the hub failed (offline mode is on)" in str(failure)
    assert "\n" not in str(failure)
    _, _, failure = run("pull", "nothing-of-the-kind")
    assert "expected a hub id, OWNER/NAME" in str(failure)


def test_converting_a_network_of_single_bases(tmp_path):
    from zflipon.models import save
    from zflipon.tokenization.tokenizers import BaseTokenizer

    made = create("deepz", "base", BaseTokenizer(), variant="cnn", hidden_size=8)
    save(made, tmp_path / "one")
    assert run("convert", tmp_path / "one", "-o", tmp_path / "two")[0] == 0
    assert torch.equal(logits(load(tmp_path / "two")), logits(made))


GOLDEN = Path(__file__).parents[1] / "data" / "golden"


@pytest.mark.parametrize("name", ["gena-token", "gena-sequence", "dnabert2-token", "dnabert2-sequence"])
def test_imported_weights_give_the_logits_of_the_published_code(name, tokenizer, tmp_path):
    """The logits were stored when the published code ran on these weights."""
    tokenizer.save(tmp_path)  # any tokenizer with few enough ids
    objective = name.partition("-")[2]
    words = ("--tokenizer", tmp_path / "tokenizer.json", "--objective", objective)
    status, output, failure = run("import", GOLDEN / name, *words, "-o", tmp_path / "out")
    assert status == 0, failure
    assert sha256(GOLDEN / name / "pytorch_model.bin") in output
    stored = np.load(GOLDEN / name / "expected.npz")
    found = load(tmp_path / "out", (objective,)).module
    batch = {key: torch.from_numpy(stored[key]) for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        given = found(**batch).logits
    kept = batch["attention_mask"].bool() if given.dim() == 3 else ...
    # relative too: processors round differently, and logits are of any size
    expected = torch.from_numpy(stored["logits"])[kept]
    torch.testing.assert_close(given[kept], expected, atol=1e-5, rtol=1e-5)
