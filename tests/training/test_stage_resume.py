"""Checkpoints from which a run resumes: incomplete ones are removed, and the one before is used."""

import json
import logging

import pytest
import torch
from safetensors.torch import save_file

from zflipon.training.resume import AVERAGE, last_checkpoint, load_tensors, save_tensors

FILES = ("optimizer.pt", "scheduler.pt", "rng_state.pth", AVERAGE, "model.safetensors", "trainer_state.json")


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a stage with the checkpoints of steps 9 and 10."""
    for step in (9, 10):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        for name in FILES[:4]:
            torch.save({"a": torch.arange(100.0)}, checkpoint / name)
        save_file({"a": torch.arange(100.0)}, checkpoint / "model.safetensors")
        (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return tmp_path


def test_newest_complete_checkpoint_is_used(folder):
    assert last_checkpoint(folder, averaged=True).name == "checkpoint-10"
    assert last_checkpoint(folder / "checkpoint-9") is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_incomplete_checkpoint_is_removed_with_a_warning(folder, name, damage, caplog):
    path = folder / "checkpoint-10" / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    with caplog.at_level(logging.WARNING, "zflipon"):
        assert last_checkpoint(folder, averaged=True).name == "checkpoint-9"
    (warning,) = [row.getMessage() for row in caplog.records]
    assert "checkpoint-10 is not complete" in warning
    assert "training resumes before it" in warning
    assert not (folder / "checkpoint-10").exists()


def test_one_changed_bit_in_the_optimizer_is_noticed(folder):
    path = folder / "checkpoint-10" / "optimizer.pt"
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(100.0).numpy().tobytes()) + 200] ^= 1
    path.write_bytes(content)
    assert last_checkpoint(folder).name == "checkpoint-9"


def test_average_is_needed_only_if_the_stage_has_one(folder):
    (folder / "checkpoint-10" / AVERAGE).unlink()
    assert last_checkpoint(folder).name == "checkpoint-10"


def test_state_of_another_step_is_noticed(folder):
    (folder / "checkpoint-10" / "trainer_state.json").write_text('{"global_step": 9}')
    assert last_checkpoint(folder).name == "checkpoint-9"


def test_tensors_are_loaded_to_the_cpu(tmp_path):
    save_tensors({"a": torch.ones(3)}, tmp_path / "a.pt")
    assert load_tensors(tmp_path / "a.pt")["a"].device.type == "cpu"
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
