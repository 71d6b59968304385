"""Help is whole: every command has examples, every option says what it does; and the shell completes names."""

import re
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from zflipon.cli import cli
from zflipon.models.files import bundled


def commands(command=cli, path=("zflipon",)):
    """Yield every command with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))


ALL = dict(commands())
LEAVES = [path for path, command in ALL.items() if not isinstance(command, click.Group)]


def test_there_are_many():
    assert len(LEAVES) > 15


@pytest.mark.parametrize("path", list(ALL)[1:], ids=" ".join)
def test_every_command_says_what_it_does_and_shows_how(path):
    command = ALL[path]
    assert command.help.strip()
    assert command.help.splitlines()[0].endswith((".", ":")) or "\n" in command.help
    examples = re.findall(r"^  (zflipon .*)$", command.epilog or "", flags=re.MULTILINE)
    assert (command.epilog or "").startswith("\b\nExamples:\n"), path
    assert any(example.startswith(" ".join(path)) for example in examples)


@pytest.mark.parametrize("path", list(ALL), ids=" ".join)
def test_every_option_says_what_it_does(path):
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path}: {parameter.opts}"
            assert parameter.help.rstrip().endswith((".", "]", ")", ";")), f"{path}: {parameter.help}"


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_examples_use_options_that_exist(path):
    for example in re.findall(r"^  (zflipon .*)$", ALL[path].epilog, flags=re.MULTILINE):
        words = example.split()
        command = ALL[max((known for known in ALL if list(known) == words[: len(known)]), key=len)]
        known = {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word for word in words if re.fullmatch(r"--?[a-z][\w-]*", word)}
        assert used <= known | {"--help"}, example


def completed(words, incomplete):
    shell = ShellComplete(cli, {}, "zflipon", "_ZFLIPON_COMPLETE")
    return [item.value for item in shell.get_completions(words, incomplete)]


def test_the_shell_completes_verbs_and_options():
    assert {"annotate", "variants"} <= set(completed([], ""))
    assert completed([], "anno") == ["annotate"]
    assert completed(["explain"], "lo") == ["locus"]
    assert "--both-strands" in completed(["annotate", "x.fa"], "--both")


def test_the_shell_completes_bundled_models():
    assert completed(["annotate", "x.fa", "--model"], "comp") == [
        name for name in bundled() if name[:4] == "comp"
    ]
    assert completed(["models", "show"], "zh") == ["zhunt"]


def test_the_shell_completes_contigs_of_an_indexed_genome(tmp_path):
    genome = tmp_path / "g.fa"
    Path(f"{genome}.fai").write_text("chr1\t10\t6\t60\t61\nchr10\t10\t6\t60\t61\nchrX\t10\t6\t60\t61\n")
    assert completed(["annotate", str(genome), "--contigs"], "chr1") == ["chr1", "chr10"]
    assert completed(["annotate", str(genome), "--region"], "chrX") == ["chrX"]
    assert completed(["annotate", str(tmp_path / "none.fa"), "--contigs"], "chr1") == []
