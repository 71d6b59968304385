"""Output folder of a training run: the recipe it belongs to, and where its files are.

The finished checkpoint is written by `zflipon.models.save`, its card by `zflipon.training.model_card`. Locks are in
`zflipon.jobs.locks`.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from zflipon.config import HELD_OUT_FOLDER, Recipe
from zflipon.errors import OutputError
from zflipon.json_files import read_json_file
from zflipon.tracks.atomic import atomic_file, remove_partial_files
from zflipon.training.history import HISTORY, read_rows


class OutputFolder:
    """Paths inside the output folder of a run.

    Parameters
    ----------
    path : Path
        The folder of the finished checkpoint.
    """

    def __init__(self, path: Path):
        self.path = path
        self.stages = path / "stages"
        self.recipe = self.stages / "recipe.json"
        self.histograms = self.stages / "counts.npz"
        """Log-odds of the validation data by label."""

    @property
    def is_finished(self) -> bool:
        """Whether the folder contains a finished checkpoint: its config is written last."""
        return (self.path / "config.json").exists()

    def stage(self, number: int, name: str) -> Path:
        """Return the folder of a stage; stages are numbered from 1."""
        return self.stages / f"{number}-{name}"

    def held_out(self, number: int) -> Path:
        """Return the folder of a held-out model; they are numbered from 1."""
        return self.path / HELD_OUT_FOLDER / str(number)

    def prepare(self, recipe: Recipe, restart: bool) -> bool:
        """Reserve the folder for a recipe, or check that it is reserved for it.

        Parameters
        ----------
        recipe : Recipe
        restart : bool
            Delete the stages and the checkpoint of an earlier run.

        Returns
        -------
        bool
            Whether an earlier run of the same recipe is resumed.

        Raises
        ------
        OutputError
            If the folder belongs to another recipe or contains other files, or cannot be written.
        """
        for part in self.path.rglob(".zflipon.*.part.*"):  # of a run that was killed while it wrote a file
            remove_partial_files(part.with_name(part.name.split(".part.", 1)[1]))
        if restart:
            shutil.rmtree(self.stages, ignore_errors=True)
            (self.path / "config.json").unlink(missing_ok=True)  # a folder without it is no checkpoint
        content = json.loads(json.dumps(asdict(recipe)))
        resumed = self.recipe.exists()
        if resumed:
            self._require_same(content)
        elif not restart and not self._is_empty():
            raise OutputError(
                f"{self.path}: is not empty; add --restart to replace what it contains, or choose another --output"
            )
        try:
            self.stages.mkdir(parents=True, exist_ok=True)
            if not resumed:
                with atomic_file(self.recipe) as part:
                    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from error
        return resumed

    def _is_empty(self) -> bool:
        """Whether the folder holds nothing but what a run leaves that was killed before it stored its recipe."""
        if not self.path.is_dir():
            return True
        others = [path for path in self.path.iterdir() if path != self.stages]
        return not others and not (self.stages.exists() and any(self.stages.iterdir()))

    def _require_same(self, content: dict) -> None:
        try:
            earlier = read_json_file(self.recipe)
        except (OSError, ValueError):
            earlier = None
        if not isinstance(earlier, dict):
            raise OutputError(
                f"{self.recipe}: cannot be read; add --restart to start over, or choose another --output"
            )
        differing = [key for key in content if content[key] != earlier.get(key)]
        if differing:
            raise OutputError(
                f"{self.path}: contains a run of another recipe (different: {', '.join(differing)}); add --restart to "
                "start over, or choose another --output"
            )


def describe_progress(path: Path) -> str:
    """Return what an interrupted run has saved, and how to resume it.

    Parameters
    ----------
    path : Path
        Output folder, of one run or of several.
    """
    saved = [
        folder for folder in path.rglob("checkpoint-*") if folder.is_dir() and folder.name[11:].isdigit()
    ]
    if saved:
        latest = max(saved, key=lambda folder: folder.stat().st_mtime)
        step, stage = latest.name[11:], latest.parent
        logged = read_rows(stage / HISTORY)
        lost = f" of {logged[-1]['step']} logged" if logged and logged[-1]["step"] > int(step) else ""
        state = f"step {step}{lost} of stage {stage.name} is saved in {latest}"
    elif any(path.rglob("stages/*/model/config.json")):
        state = f"finished stages are saved in {path}"
    else:
        state = "no training step is saved yet"
    return f"stopped; {state}. Run the same command to resume"
