"""Help pages: every command has examples, every option a sentence; the shell completes names; exit statuses."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from zflipon.cli import cli
from zflipon.models.files import bundled


def commands(command=cli, path=("zflipon",)):
    """Yield every command with its words on the command line."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))


ALL = dict(commands())
LEAVES = [path for path, command in ALL.items() if not isinstance(command, click.Group)]


def test_all_commands_are_found():
    assert len(LEAVES) > 15


@pytest.mark.parametrize("path", list(ALL)[1:], ids=" ".join)
def test_every_command_has_a_description_and_examples(path):
    command = ALL[path]
    assert command.help.strip()
    assert command.help.splitlines()[0].endswith((".", ":")) or "\n" in command.help
    examples = re.findall(r"^  (zflipon .*)$", command.epilog or "", flags=re.MULTILINE)
    assert (command.epilog or "").startswith("\b\nExamples:\n"), path
    assert any(example.startswith(" ".join(path)) for example in examples)


@pytest.mark.parametrize("path", list(ALL), ids=" ".join)
def test_every_option_has_a_sentence(path):
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path}: {parameter.opts}"
            assert parameter.help.rstrip().endswith((".", "]", ")", ";")), f"{path}: {parameter.help}"


@pytest.mark.parametrize("path", list(ALL), ids=" ".join)
def test_every_option_shows_its_default(path):
    """Flags, required and repeatable options have no default; all other defaults are shown."""
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option) and parameter.default not in (None, False, ()):
            shown = parameter.show_default or "[default:" in (parameter.help or "")
            assert shown or not isinstance(parameter.default, str | int | float), f"{path}: {parameter.opts}"


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_argument_is_described(path):
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Argument) and parameter.metavar != "CHR:START-END":
            words = re.findall(r"[A-Z/]{3,}", parameter.make_metavar(click.Context(ALL[path])))
            assert any(word in ALL[path].help for word in words), f"{path}: {words}"


@pytest.mark.parametrize("path", [path for path in ALL if path not in LEAVES], ids=" ".join)
def test_the_list_of_commands_is_not_cut_short(path):
    text = ALL[path].get_help(click.Context(ALL[path], info_name="zflipon"))
    assert "..." not in text.partition("Options:")[2].partition("Examples:")[0]


def test_recipes_in_examples_exist():
    root = Path(__file__).parents[2]
    recipes = {
        word for command in ALL.values() for word in re.findall(r"train/[\w.-]+\.toml", command.epilog or "")
    }
    assert recipes
    assert not [word for word in recipes if not (root / word).is_file()]


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
    assert completed(["models", "import", "x.pt", "--base"], "zh") == ["zhunt"]
    assert completed(["provenance", "x.bw", "--model"], "zh") == ["zhunt"]


def test_every_option_that_takes_a_model_or_a_region_completes_it():
    for path, command in ALL.items():
        for parameter in command.params:
            if {"--model", "--base", "--region"} & set(parameter.opts):
                assert parameter._custom_shell_complete, f"{path}: {parameter.opts}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_and_an_answer(shell):
    def complete(instruction, **more):
        environment = {**os.environ, "_ZFLIPON_COMPLETE": f"{shell}_{instruction}", **more}
        return subprocess.run(
            [sys.executable, "-m", "zflipon"], env=environment, capture_output=True, text=True
        ).stdout

    assert "_ZFLIPON_COMPLETE" in complete("source")
    line = "zflipon annotate x.fa --model compact-"
    words = {"COMP_WORDS": line, "COMP_CWORD": "compact-" if shell == "fish" else "4"}
    assert "compact-omics" in complete("complete", **words)


def test_the_shell_completes_contigs_of_an_indexed_genome(tmp_path):
    genome = tmp_path / "g.fa"
    Path(f"{genome}.fai").write_text("chr1\t10\t6\t60\t61\nchr10\t10\t6\t60\t61\nchrX\t10\t6\t60\t61\n")
    assert completed(["annotate", str(genome), "--contigs"], "chr1") == ["chr1", "chr10"]
    assert completed(["annotate", str(genome), "--region"], "chrX") == ["chrX"]
    assert completed(["variants", "x.vcf", "--genome", str(genome), "--region"], "chrX") == ["chrX"]
    assert completed(["explain", "locus", "--genome", str(genome)], "chrX") == ["chrX"]
    assert completed(["annotate", str(tmp_path / "none.fa"), "--contigs"], "chr1") == []


def test_the_shell_completes_files():
    shell = ShellComplete(cli, {}, "zflipon", "_ZFLIPON_COMPLETE")
    outputs = ["annotate", "x.fa", "-o"], ["variants", "x.vcf", "-o"]
    for words in (["annotate"], ["train"], ["models", "import"], *outputs):
        assert [item.type for item in shell.get_completions(words, "")] == ["file"], words


def run(*words, **settings):
    command = [sys.executable, "-m", "zflipon", *words]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **settings)


def test_commands_are_listed_in_sections():
    text = cli.get_help(click.Context(cli))
    headings = ["Annotate:", "Interpret:", "Train:", "Share and check:"]
    assert [line for line in text.splitlines() if line in headings] == headings


def test_the_version_is_a_bare_number():
    done = run("--version", stdout=subprocess.PIPE)
    assert re.fullmatch(r"\d+(\.\d+)+\n", done.stdout)


@pytest.mark.parametrize(("words", "similar"), [(["anotate"], "annotate"), (["explain", "locsu"], "locus")])
def test_a_mistyped_command_gets_a_suggestion(words, similar):
    done = run(*words, stdout=subprocess.PIPE)
    assert done.returncode == 2
    assert f"Did you mean '{similar}'?" in done.stderr


def test_a_full_disk_behind_standard_output_is_one_line():
    with open("/dev/full", "w") as full:
        done = run("models", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "zflipon: error: standard output cannot be written (No space left on device)\n"


def test_a_closed_standard_output_is_one_line():
    command = f"{sys.executable} -m zflipon models >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("zflipon: error: standard output cannot be written")


def test_a_reader_that_goes_away_gives_the_status_of_sigpipe():
    read, write = os.pipe()
    os.close(read)
    done = run("models", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
