"""Recipes, images and workflows name the versions, dependencies and options that zflipon has."""

import re

import click
import pytest
import yaml
from packaging_files import PACKAGING, ROOT, read

from zflipon import __version__
from zflipon.cli import COMMANDS, cli

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

CONDA_NAMES = {"torch": "pytorch"}
"""Name on PyPI → name on conda-forge, where they differ."""

VERSIONS = {
    "conda/recipe.yaml": r'^  version: "(.+)"$',
    "galaxy/macros.xml": r'"@TOOL_VERSION@">(.+)</token>',
    "nextflow/nextflow.config": r"^    version +=\s'(.+)'$",
    "nextflow/modules/local/zflipon/annotate/environment.yml": r"zflipon=([\d.]+)",
    "nextflow/modules/local/zflipon/merge/environment.yml": r"zflipon=([\d.]+)",
    "apptainer/zflipon.def": r"WHEEL=dist/zflipon-(.+)-py3-none-any\.whl",
}
"""File → pattern of the version of zflipon in it."""


@pytest.mark.parametrize("name", VERSIONS)
def test_files_have_the_version_of_the_package(name):
    assert re.findall(VERSIONS[name], read(name), re.MULTILINE) == [__version__]


@pytest.mark.parametrize("name", ["annotate", "merge"])
def test_snakemake_environments_have_the_minor_version(name):
    minor = ".".join(__version__.split(".")[:2])
    assert f"- zflipon ={minor}\n" in read(f"snakemake/wrappers/{name}/environment.yaml")


def test_the_conda_recipe_has_the_dependencies_of_the_package():
    recipe = yaml.safe_load(read("conda/recipe.yaml"))
    expected = {}
    for requirement in PROJECT["dependencies"]:
        name, bound = re.fullmatch(r"([\w-]+)(>=[\d.]+)(?:;.*)?", requirement.replace(" ", "")).groups()
        expected[CONDA_NAMES.get(name, name)] = bound
    run = dict(line.split(" ", 1) for line in recipe["requirements"]["run"])
    assert run.pop("python") == ">=${{ python_min }}"
    assert run == expected
    variants = yaml.safe_load(read("conda/variants.yaml"))
    assert f">={variants['python_min'][0]}" == PROJECT["requires-python"]
    assert recipe["build"]["noarch"] == "python"
    assert recipe["build"]["python"]["entry_points"] == [
        f"{name} = {entry}" for name, entry in PROJECT["scripts"].items()
    ]


def test_images_have_the_version_of_torch_that_the_tests_have():
    (tested,) = re.findall(r"torch==([\d.]+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert re.findall(r"ARG TORCH_VERSION=(.+)", read("docker/Dockerfile")) == [tested, tested]
    assert re.findall(r"TORCH_VERSION=([\d.]+)", read("apptainer/zflipon.def")) == [tested]


def test_extras_of_images_exist():
    for name in ("docker/Dockerfile", "apptainer/zflipon.def"):
        extras = {
            extra
            for group in re.findall(r"\$\{wheel\}\[([\w,]+)\]", read(name))
            for extra in group.split(",")
        }
        assert extras
        assert extras <= set(PROJECT["optional-dependencies"])


def test_images_do_not_run_as_root_by_name_or_number():
    dockerfile = read("docker/Dockerfile")
    for stage in ("cuda", "cpu"):
        body = re.search(rf"FROM system AS {stage}\n(.*?)(?=\nFROM |\Z)", dockerfile, re.DOTALL)[1]
        assert re.findall(r"^USER (\d+):\d+$", body, re.MULTILINE) == ["1000"]


def test_the_build_context_holds_what_the_dockerfile_copies():
    ignored = read("docker/Dockerfile.dockerignore").splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", read("docker/Dockerfile"), re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
            assert f"!{name}" in ignored, name


def options_of(command):
    """Return the options of a command and of its subcommands."""
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    names = command.list_commands(None) if isinstance(command, click.Group) else []
    return known.union({"--help"}, *(options_of(command.get_command(None, name)) for name in names))


def options_in(text):
    return set(re.findall(r"(?<![\w-])(--[a-z][\w-]*)", text))


@pytest.mark.parametrize(
    "name", ["docker/Dockerfile", "apptainer/zflipon.def", "conda/recipe.yaml", "try_wheel.sh"]
)
def test_commands_in_scripts_have_the_options_they_use(name):
    joined = re.sub(r"\\\n", " ", read(name))
    used = [
        (command, rest.split("&&")[0])
        for command, rest in re.findall(r"\bzflipon ([a-z]+)\b([^\n]*)", joined)
        if command in COMMANDS
    ]
    assert used
    for command, rest in used:
        assert options_in(rest) <= options_of(cli.get_command(None, command)), f"zflipon {command}{rest}"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("snakemake/wrappers/annotate/wrapper.py", "annotate"),
        ("snakemake/wrappers/merge/wrapper.py", "merge"),
        ("nextflow/modules/local/zflipon/annotate/main.nf", "annotate"),
        ("nextflow/modules/local/zflipon/merge/main.nf", "merge"),
        ("galaxy/zflipon_annotate.xml", "annotate"),
    ],
)
def test_tasks_of_workflow_engines_use_options_of_their_command(name, command):
    used = options_in(read(name)) - {"--version"}
    assert used
    assert used <= options_of(cli.get_command(None, command))


@pytest.mark.parametrize("module", ["annotate", "merge"])
def test_nextflow_metadata_describe_every_channel(module):
    folder = f"nextflow/modules/local/zflipon/{module}"
    process = read(f"{folder}/main.nf")
    metadata = yaml.safe_load(read(f"{folder}/meta.yml"))
    outputs = process.partition("    output:\n")[2].partition("    when:\n")[0]
    emitted = re.findall(r"\bemit: (\w+)", outputs)
    assert list(metadata["output"]) == emitted
    patterns = dict(zip(emitted, re.findall(r'path\("(.+?)"\)', outputs), strict=False))
    for channel, pattern in patterns.items():
        assert [key for each in metadata["output"][channel][0] for key in each][1:] == [pattern]
    inputs = process.partition("    input:\n")[2].partition("    output:\n")[0]
    names = re.findall(r"(?:val|path)\((\w+)\)", inputs)
    assert [key for each in metadata["input"][0] for key in each] == names
    assert list(metadata["topics"]) == re.findall(r"\btopic: (\w+)", outputs)
    assert "stub:" in process
    assert metadata["name"].upper() == re.match(r"process (\w+)", process)[1]


def test_release_workflow_tries_every_python_of_the_metadata():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    pythons = workflow["jobs"]["try"]["strategy"]["matrix"]["python"]
    assert f">={pythons[0]}" == PROJECT["requires-python"]
    publish = workflow["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert set(publish["needs"]) == set(workflow["jobs"]) - {"publish"}


def test_the_lowest_versions_of_all_extras_that_tests_need_are_tested():
    (extras,) = re.findall(r"^EXTRAS=\((.+)\)$", read("lowest.sh"), re.MULTILINE)
    (tested,) = (
        re.fullmatch(r"zflipon\[(.+)\]", each)
        for each in PROJECT["optional-dependencies"]["test"]
        if each.startswith("zflipon")
    )
    assert set(extras.split()) == {*tested[1].split(","), "log"}


def test_every_folder_is_in_the_table_of_the_readme():
    readme = read("README.md")
    for path in PACKAGING.iterdir():
        if path.name not in ("README.md", "__pycache__"):
            assert f"| `{path.name}{'/' if path.is_dir() else ''}` |" in readme, path.name
