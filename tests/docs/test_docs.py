"""The README and the table of recipes agree with the program: commands, options, models, files."""

import re
from pathlib import Path

import click
import pytest

from zflipon.cli import COMMANDS, cli
from zflipon.cli.explain import COMMANDS as EXPLAIN_COMMANDS
from zflipon.models import family_names
from zflipon.models.files import bundled

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(command):
    assert re.search(rf"\bzflipon {command} \S", README)


@pytest.mark.parametrize("command", EXPLAIN_COMMANDS)
def test_every_explain_command_has_an_example(command):
    assert re.search(rf"\bzflipon explain {command} \S", README)


@pytest.mark.parametrize("name", [*family_names(), *bundled()])
def test_every_family_and_bundled_model_is_in_a_table(name):
    assert f"| `{name}` |" in README


def test_every_package_is_in_the_architecture_page():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "zflipon"
    names = {path.name for path in package.glob("[a-z]*.py")}
    names |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert [name for name in sorted(names) if name not in page] == []


def test_the_readme_fits_on_a_few_screens():
    assert len(README.splitlines()) <= 150


def subcommands(command):
    return command.list_commands(None) if isinstance(command, click.Group) else []


def test_every_option_in_the_readme_exists():
    for line in re.findall(r"^.*\bzflipon \w+ .*$", README, flags=re.MULTILINE):
        for name, rest in re.findall(r"\bzflipon (\w+) ([^`&\n]*)", line):
            if name not in COMMANDS:
                continue
            command = cli.get_command(None, name)
            commands = [command, *(command.get_command(None, each) for each in subcommands(command))]
            known = {option for each in commands for parameter in each.params for option in parameter.opts}
            known |= {"--help", "-o"}
            used = set(re.findall(r"(?<!\S)(--?[a-z][\w-]*)", rest))
            assert used <= known, f"{used - known} in: {line}"


def test_every_file_that_the_documents_name_exists():
    documents = [
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md", "train/README.md")
    ]
    for path in documents:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"\b(?:examples|train|tests|docs|benchmarks)/[\w./-]*\w\.\w+", text):
            if name != "train/NAME.toml":
                assert (ROOT / name).exists(), f"{path.name}: {name}"


def test_every_recipe_is_listed():
    listed = (ROOT / "train" / "README.md").read_text(encoding="utf-8")
    recipes = list((ROOT / "train").glob("*.toml"))
    assert recipes
    for recipe in recipes:
        assert f"`{recipe.name}`" in listed
