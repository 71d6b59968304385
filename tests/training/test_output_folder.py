"""The output folder of a training run: to which recipe it belongs, and what an interrupted run left."""

import json

import pytest

from zflipon.config import ModelConfig, Recipe, StageConfig
from zflipon.errors import OutputError
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


@pytest.mark.parametrize("content", ["[]", "{", ""])
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
