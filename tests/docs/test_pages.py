"""The pages of the documentation agree with the program: links, commands, options, errors, examples, tests."""

import ast
import doctest
import inspect
import json
import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from zflipon import errors
from zflipon.cli import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [
    *PAGES,
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "train/README.md")),
]
ERRORS = [
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
]


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as MkDocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", read(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=page_name)
def test_links_lead_to_files_and_headings(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", read(path)):
        if re.match(r"https?:|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        # recipes are part of a page of the site
        linked = path if not file else path.parent / file
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_the_navigation_has_every_page():
    navigation = read(ROOT / "mkdocs.yml").partition("\nnav:")[2]
    assert sorted(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)) == [
        page.relative_to(DOCS).as_posix() for page in PAGES
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page_with_its_options_and_an_example(command):
    page = read(DOCS / "commands" / f"{command}.md")
    assert f":module: zflipon.cli.{command}\n" in page
    assert re.search(rf"^(\$ )?zflipon {command}\b", page, re.MULTILINE)
    assert f"({command}.md)" in read(DOCS / "commands" / "index.md")


def all_commands(command: click.Command) -> list[click.Command]:
    names = command.list_commands(None) if isinstance(command, click.Group) else []
    return [command, *(each for name in names for each in all_commands(command.get_command(None, name)))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=page_name)
def test_every_option_that_a_page_uses_exists(path):
    known = {
        option
        for command in all_commands(cli)
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    text = re.sub(r"\\\n", " ", read(path))
    lines = [line.split("|")[0] for line in re.findall(r"^(?:\$ )?zflipon .*$", text, re.MULTILINE)]
    inline = re.findall(r"`(--[a-z][\w-]*)", text)
    used = {*inline, *(word for line in lines for word in re.findall(r"(?<=\s)--[a-z][\w-]*", line))}
    assert used <= known | {"--help"}


def test_every_error_class_is_explained():
    headings = re.findall(r"^## (\w+)$", read(DOCS / "troubleshooting.md"), re.MULTILINE)
    assert set(headings) == set(ERRORS)


def messages_in_code() -> str:
    """Return all strings of the package; the values in f-strings are replaced by a new line."""
    strings = []
    for path in (ROOT / "zflipon").rglob("*.py"):
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.append(node.value)
    return "\n".join(strings)


def test_every_message_in_troubleshooting_is_one_of_the_program():
    known = messages_in_code()
    rows = re.findall(
        r"^\| (`.+?`.*?) \|", read(DOCS / "troubleshooting.md").partition("## No error")[0], re.MULTILINE
    )
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row) if " " in message]
    assert len(messages) > 40
    for message in messages:
        for part in message.split("…"):
            assert part.strip() in known, message


def test_every_test_that_the_promises_name_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", read(DOCS / "promises.md"))
    assert len(named) > 30
    for path, name in named:
        assert f"def {name}(" in read(ROOT / path), f"{path}::{name}"


EXAMPLES = [(page, number) for page in PAGES for number in range(read(page).count("```console"))]


@pytest.mark.parametrize(
    ("page", "number"), EXAMPLES, ids=lambda value: value.stem if isinstance(value, Path) else ""
)
def test_worked_examples_print_what_they_show(page, number, tmp_path, monkeypatch):
    for name in ("demo.fa", "demo_truth.bed", "demo.vcf", "demo.gtf"):
        (tmp_path / "examples").mkdir(exist_ok=True)
        shutil.copy(ROOT / "examples" / name, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    block = re.findall(r"^```console\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL)[number]
    checker = doctest.OutputChecker()
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, expected = step.partition("\n")
        printed = run_command(command)
        assert checker.check_output(expected, printed, doctest.ELLIPSIS), f"{command}\n{printed}"


def run_command(command: str) -> str:
    """Run one line of an example: zflipon, `cut -f FIRST-LAST FILE` or `head -n LINES FILE`."""
    program, *arguments = shlex.split(command)
    if program == "head":
        return "".join(read(Path(arguments[2])).splitlines(keepends=True)[: int(arguments[1])])
    if program == "cut":
        first, last = map(int, arguments[1].split("-"))
        rows = (line.split("\t") for line in read(Path(arguments[2])).splitlines())
        return "".join("\t".join(row[first - 1 : last] if len(row) > 1 else row) + "\n" for row in rows)
    assert program == "zflipon"
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def documented_names() -> set[str]:
    """Return all words in code style of the page on output formats."""
    return set(re.findall(r"`([^`]+)`", read(DOCS / "output-formats.md")))


def test_every_column_is_in_output_formats():
    from zflipon.explain import kmers, token_ratios, token_tables, track_importance
    from zflipon.report.call_blocks import CONTIG_COLUMNS
    from zflipon.tracks import call_table
    from zflipon.workflows.compare.loci import LOCUS_COLUMNS
    from zflipon.workflows.compare.run import PAIR_COLUMNS
    from zflipon.workflows.genes import tables as call_tables
    from zflipon.workflows.genes.enrichment import ENRICHMENT_COLUMNS
    from zflipon.workflows.genes.regions import REGION_COLUMNS
    from zflipon.workflows.variants import SKIP_REASONS
    from zflipon.workflows.variants.fields import info_fields, table_columns

    tables = (call_table, kmers, token_ratios, token_tables, track_importance)
    columns = {column for table in tables for column in table.COLUMNS}
    columns |= {*call_tables.CONTEXT_COLUMNS, *call_tables.REPEAT_COLUMNS, *call_tables.SEQUENCE_COLUMNS}
    columns |= {
        *call_tables.GENE_COLUMNS,
        *ENRICHMENT_COLUMNS,
        *REGION_COLUMNS,
        *CONTIG_COLUMNS,
        *LOCUS_COLUMNS,
        *PAIR_COLUMNS,
    }
    assert (
        columns | {*info_fields(with_genes=True), *SKIP_REASONS, *table_columns(with_genes=True)}
        <= documented_names()
    )


def test_every_key_of_the_run_record_is_in_output_formats(tmp_path):
    import zflipon

    genome = tmp_path / "demo.fa"
    shutil.copy(ROOT / "examples" / "demo.fa", genome)
    zflipon.annotate(genome, tmp_path / "z.bed", model="zhunt", contigs=["synthetic3"])
    record = json.loads(read(tmp_path / "z.bed.json"))
    assert set(record) | set(record["tracks"]) <= documented_names()
