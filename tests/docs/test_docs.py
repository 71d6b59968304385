"""The README keeps its promises: every verb is in it, and what it names is there."""

import re
from pathlib import Path

import click
import pytest

from zflipon.cli import COMMANDS, cli
from zflipon.cli.explain import COMMANDS as EXPLAIN
from zflipon.models import family_names
from zflipon.models.hub import bundled

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_has_an_example(verb):
    assert re.search(rf"\bzflipon {verb} \S", README)


@pytest.mark.parametrize("name", [*family_names(), *bundled()])
def test_every_family_and_bundled_model_is_in_the_table(name):
    assert f"| `{name}` |" in README


def test_every_package_is_in_the_architecture_page():
    package = ROOT / "zflipon"
    names = {path.name for path in package.glob("[a-z]*.py")} | {
        f"{path.parent.name}/" for path in package.glob("*/__init__.py")
    }
    assert [name for name in names if name not in ARCHITECTURE] == []


def test_the_readme_fits_on_few_screens():
    assert len(README.splitlines()) <= 150


def subverbs(command):
    return command.list_commands(None) if isinstance(command, click.Group) else []


@pytest.mark.parametrize("name", EXPLAIN)
def test_every_verb_of_explain_has_an_example(name):
    assert re.search(rf"\bzflipon explain {name} \S", README)


def test_every_option_that_the_readme_uses_exists():
    for line in re.findall(r"^.*\bzflipon \w+ .*$", README, flags=re.MULTILINE):
        for verb, rest in re.findall(r"\bzflipon (\w+) ([^`&\n]*)", line):
            if verb not in COMMANDS:
                continue
            command = cli.get_command(None, verb)
            commands = [command, *(command.get_command(None, name) for name in subverbs(command))]
            known = {name for one in commands for parameter in one.params for name in parameter.opts}
            known |= {"--help", "-o"}
            used = set(re.findall(r"(?<!\S)(--?[a-z][\w-]*)", rest))
            assert used <= known, f"{used - known} in: {line}"


def test_every_file_that_the_documents_name_exists():
    for path in (ROOT / "README.md", ROOT / "train" / "README.md"):
        for name in re.findall(r"(?:examples|train|tests|docs|benchmarks)/[\w.-]+\.\w+", path.read_text()):
            if name not in ("train/NAME.toml",):
                assert (ROOT / name).exists(), name


def test_every_recipe_is_listed():
    listed = (ROOT / "train" / "README.md").read_text()
    recipes = list((ROOT / "train").glob("*.toml"))
    assert recipes
    for recipe in recipes:
        assert f"`{recipe.name}`" in listed
