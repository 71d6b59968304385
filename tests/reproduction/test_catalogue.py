"""The list of the paper's tables: recipes exist, their differences are right, the page of the docs is current."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from zflipon.cli import cli
from zflipon.errors import InputError
from zflipon.reproduction.catalogue import (
    RECIPES,
    TABLES,
    find_item,
    paper_items,
    pretrained_models,
    recipe_differences,
    recipe_path,
)
from zflipon.reproduction.comparison import items_markdown
from zflipon.training.recipe import load_recipe

ROOT = Path(__file__).parents[2]


def test_every_table_of_the_paper_is_listed():
    tables = [item.id for item in paper_items() if not item.id.startswith("section")]
    assert tables == ["2.3", *(f"4.{i}" for i in range(1, 7)), *(f"5.{i}" for i in range(1, 9))]


@pytest.mark.parametrize("item", paper_items(), ids=lambda item: item.id)
def test_recipes_and_tables_exist(item):
    checkpoints = {model.checkpoint for model in pretrained_models()}
    for name in item.recipes:
        recipe = load_recipe(recipe_path(name), ["data.test_sequences=test.csv"])
        assert recipe.model.checkpoint in checkpoints
    for row in item.rows:
        recipe = load_recipe(recipe_path(row.recipe)) if row.recipe else None
        for key, value in row.settings.items():
            assert value in recipe.sweep[key]
    files = [*item.published.values(), *(name for row in item.rows for name in (*row.tables, row.published))]
    assert all((TABLES / name).is_file() for name in files if name)


def test_the_package_has_the_recipes_of_the_repository():
    assert {path.name for path in RECIPES.glob("*.toml")} == {
        path.name for path in (ROOT / "train").glob("*.toml")
    }


def test_differences_between_two_recipes():
    assert recipe_differences("gena-lm-lora", "gena-lm-lora-notebook") == [
        "`data.split` stratified → random",
        "`data.validation_share` 0.24 → 0.2",
        "`model.lora.alpha` 32 → 16",
        "`model.lora.dropout` 0.05 → 0.1",
        "`model.lora.bias` none → all",
        "`stage.weight_decay` 0 → 0.01",
        "`stage.monitor` token_f1 → loss",
    ]
    assert "`70-bp.batch_size` 32 → 128" in recipe_differences("gena-lm-3-stage", "gena-lm-3-stage-notebook")


def test_an_unknown_table_is_refused():
    with pytest.raises(InputError, match=r"5\.9: not a table of the paper"):
        find_item("5.9")


def test_the_page_has_the_generated_table():
    page = (ROOT / "docs" / "reproducing.md").read_text(encoding="utf-8")
    assert items_markdown() in page, (
        "write the output of zflipon reproduce --markdown into docs/reproducing.md"
    )


def test_the_command_lists_the_tables():
    result = CliRunner().invoke(cli, ["reproduce"], catch_exceptions=False)
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line}
    assert {item.id for item in paper_items()} < set(rows)
    assert "weights, labels  gena-lm-3-stage, dnabert2" in rows["5.3"]
    assert CliRunner().invoke(cli, ["reproduce", "--markdown"]).stdout == items_markdown() + "\n"
