"""The output folder of a training run: to which recipe it belongs, and what an interrupted run left."""

import json

import pytest

from zflipon.config import ModelConfig, Recipe, StageConfig
from zflipon.errors import OutputError
from zflipon.tracks.atomic import temporary_path
from zflipon.training.output_folder import OutputFolder, describe_progress

RECIPE = Recipe(name="one", model=ModelConfig(family="compact"), stage=(StageConfig(),))
OTHER = Recipe(name="two", model=ModelConfig(family="compact"), stage=(StageConfig(steps=5),))


def test_folder_belongs_to_one_recipe(tmp_path):
    output = OutputFolder(tmp_path / "out")
    assert output.prepare(RECIPE, restart=False) is False
    assert output.prepare(RECIPE, restart=False) is True
    with pytest.raises(OutputError, match=r"another recipe \(different: name, stage\)"):
        output.prepare(OTHER, restart=False)
    assert output.prepare(OTHER, restart=True) is False
    assert json.loads(output.recipe.read_text())["name"] == "two"


def test_other_files_are_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("text")
    with pytest.raises(OutputError, match="is not empty; add --restart"):
        OutputFolder(tmp_path).prepare(RECIPE, restart=False)


def test_a_run_that_was_killed_before_it_stored_its_recipe_starts_again(tmp_path):
    output = OutputFolder(tmp_path / "out")
    output.stages.mkdir(parents=True)
    temporary_path(output.recipe).write_text("{")
    assert output.prepare(RECIPE, restart=False) is False
    assert [path.name for path in output.stages.iterdir()] == ["recipe.json"]


def test_temporary_files_of_a_killed_run_are_removed(tmp_path):
    output = OutputFolder(tmp_path / "out")
    output.prepare(RECIPE, restart=False)
    for path in (output.path / "splits.bed", output.stage(1, "only") / "z.npz"):
        path.parent.mkdir(exist_ok=True)
        temporary_path(path).write_text("half")
    assert output.prepare(RECIPE, restart=False) is True
    assert [path.name for path in output.path.rglob("*") if path.is_file()] == ["recipe.json"]


def test_the_stored_recipe_is_not_written_again(tmp_path):
    """A kill while it is written would leave a run that cannot be resumed."""
    output = OutputFolder(tmp_path / "out")
    output.prepare(RECIPE, restart=False)
    before = output.recipe.stat()
    output.prepare(RECIPE, restart=False)
    assert (output.recipe.stat().st_ino, output.recipe.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )


@pytest.mark.parametrize("content", ["[]", "{", "", "[" * 100_000])
def test_damaged_recipe_is_reported(tmp_path, content):
    output = OutputFolder(tmp_path)
    output.prepare(RECIPE, restart=False)
    output.recipe.write_text(content)
    with pytest.raises(OutputError, match=r"recipe\.json: cannot be read; add --restart"):
        output.prepare(RECIPE, restart=False)


def test_progress_names_the_last_checkpoint(tmp_path):
    assert describe_progress(tmp_path) == (
        "stopped; no training step is saved yet. Run the same command to resume"
    )
    stage = OutputFolder(tmp_path).stage(2, "labels")
    (stage / "checkpoint-40").mkdir(parents=True)
    (stage / "history.jsonl").write_text('{"step": 55, "loss": 1.0}\n')
    assert describe_progress(tmp_path) == (
        f"stopped; step 40 of 55 logged of stage 2-labels is saved in {stage / 'checkpoint-40'}. "
        "Run the same command to resume"
    )
