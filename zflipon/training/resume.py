"""Checkpoints of the Trainer inside a stage's folder: which one is complete, and from which one to resume.

`zflipon.training.loop` writes them; `zflipon.models.checkpoint` handles finished models.
"""

from __future__ import annotations

import logging
import shutil
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from zflipon.jobs.distributed import broadcast_from_main, process_state
from zflipon.json_files import read_json_file
from zflipon.tracks.atomic import temporary_path

log = logging.getLogger("zflipon")

AVERAGE = "average.pt"
"""Running average of the weights, inside a checkpoint."""

_STATE = "trainer_state.json"
"""Progress of the Trainer, inside a checkpoint."""

_WEIGHTS = ("model.safetensors", "adapter_model.safetensors")


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step of a checkpoint, from its name."""
    return int(checkpoint.name.rpartition("-")[2])


def last_checkpoint(folder: Path, averaged: bool = False) -> Path | None:
    """Return the newest complete checkpoint of a stage, the same in all processes; None without one.

    Incomplete checkpoints, which an interruption or a full disk leaves, are removed with a warning, because resuming
    from them would change the weights.

    Parameters
    ----------
    folder : Path
    averaged : bool
        Whether the stage keeps a running average of the weights, so that a complete checkpoint contains it.
    """
    state = process_state()

    def find() -> Path | None:
        checkpoints = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()]
        for checkpoint in sorted(checkpoints, key=step_of, reverse=True):
            reason = _damage(checkpoint, state.num_processes, averaged)
            if not reason:
                return checkpoint
            log.warning(
                "%s is not complete (%s): it is removed, and training resumes before it", checkpoint, reason
            )
            shutil.rmtree(checkpoint, ignore_errors=True)
        return None

    return broadcast_from_main(state, find)


def _damage(checkpoint: Path, processes: int, averaged: bool) -> str:
    """Return why a checkpoint is not complete; empty if it is."""
    try:
        progress = read_json_file(checkpoint / _STATE)
        if progress.get("global_step") != step_of(checkpoint):
            return f"{_STATE} is of another step"
    except (OSError, ValueError, AttributeError):
        return f"{_STATE} is missing or damaged"
    for name in [
        "optimizer.pt",
        "scheduler.pt",
        *_random_states(checkpoint, processes),
        *([AVERAGE] * averaged),
    ]:
        if not _is_whole_archive(checkpoint / name):
            return f"{name} is missing or damaged"
    weights = [checkpoint / name for name in _WEIGHTS if (checkpoint / name).exists()]
    if not weights or not all(map(_is_whole_safetensors, weights)):
        return "the weights are missing or damaged"
    return ""


def _random_states(checkpoint: Path, processes: int) -> list[str]:
    """Return the names of the random states: those of another number of processes, if the run was started with it."""
    own = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    saved = sorted(path.name for path in checkpoint.glob("rng_state*.pth"))
    return own if not saved or set(saved) & set(own) else saved


def _is_whole_archive(path: Path) -> bool:
    """Whether a file of `torch.save` can be read to its end and its checksums are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError):
        return False


def _is_whole_safetensors(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as tensors:
            return len(tensors.keys()) > 0
    except (OSError, SafetensorError):
        return False


def save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Save a state dict so that an interruption leaves the old file or the new one."""
    part = temporary_path(path)
    torch.save(tensors, part)
    part.replace(path)


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Load a state dict to the CPU, whatever device it was saved from."""
    return torch.load(path, weights_only=True, map_location="cpu")
