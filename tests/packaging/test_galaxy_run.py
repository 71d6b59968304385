"""The Galaxy tool as Galaxy runs it: its linters, and the command of each of its tests.

These tests run if galaxy-tool-util is installed, as in CI.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging_files import PACKAGING, ROOT

pytest.importorskip("galaxy.tool_util", reason="galaxy-tool-util is not installed")

from galaxy.tool_util.lint import get_lint_context_for_tool_source
from galaxy.tool_util.parser import get_tool_source
from galaxy.tool_util.verify.asserts import verify_assertions
from galaxy.util.template import fill_template

FOLDER = PACKAGING / "galaxy"


class Dataset:
    """A file from the history, as a template sees it."""

    def __init__(self, path, datatype):
        self.path, self.datatype = path, datatype

    def __str__(self):
        return str(self.path)

    def is_of_type(self, name):
        """Return whether this is the datatype, as Galaxy's method of the same name."""
        return name == self.datatype


@pytest.fixture(scope="module")
def tool():
    return get_tool_source(str(FOLDER / "zflipon_annotate.xml"))


def test_linters_of_galaxy_find_nothing(tool):
    pytest.importorskip("edam_ontology", reason="edam-ontology is not installed")
    messages = get_lint_context_for_tool_source(tool).message_list
    assert [each.message for each in messages if each.level in ("warning", "error")] == []
    assert "TestsNoValid" in {each.linter for each in messages}  # the linters have run


def values(tool, chosen):
    """Return the values of all parameters for a template: the defaults, but for those in `chosen`."""
    given = {}
    for element in tool.xml_tree.find("inputs").iter("param"):
        name = element.get("name") or element.get("argument").lstrip("-").replace("-", "_")
        kind, value = element.get("type"), chosen.get(name)
        options = element.findall("option")
        if kind == "data":
            given[name] = value
        elif kind == "boolean":
            is_true = (value or element.get("checked")) == "true"
            given[name] = element.get("truevalue" if is_true else "falsevalue")
        elif element.get("multiple") == "true":
            default = [each.get("value") for each in options if each.get("selected")]
            given[name] = value.split(",") if value else default
        elif options:
            given[name] = value or next(each.get("value") for each in options if each.get("selected"))
        else:
            given[name] = value or element.get("value") or ""
    return given


def run(tool, folder, chosen):
    """Run the command of the tool in a folder with the copy of zflipon that is tested."""
    given = values(tool, chosen)
    given["genome_source"] = SimpleNamespace(
        source=given.pop("source"),
        fasta=given.pop("fasta"),
        cached=SimpleNamespace(fields=SimpleNamespace(path=chosen.get("cached"))),
    )
    script = fill_template(tool.parse_command(), context=given)
    program = folder / "bin" / "zflipon"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zflipon "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    command = script.replace("\n", " ")  # as Galaxy does
    return subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("number", [0, 1])
def test_the_tests_of_the_tool_pass(tool, tmp_path, number):
    test = tool.parse_tests_to_dict()["tests"][number]
    chosen = {}
    for each in test["inputs"]:
        name, value = each["name"].rpartition("|")[2], each["value"]
        datatype = each["attributes"].get("ftype")
        chosen[name] = Dataset(FOLDER / "test-data" / value, datatype) if datatype else value
    result = run(tool, tmp_path, chosen)
    assert result.returncode == 0, result.stderr
    files = {each.get("name"): each.get("from_work_dir") for each in tool.xml_tree.iter("data")}
    assert len(list(tmp_path.glob("zdna.*[wd]"))) == int(test["expect_num_outputs"]) == len(test["outputs"])
    for output in test["outputs"]:
        assert output["attributes"]["assert_list"]
        verify_assertions(
            (tmp_path / files[output["name"]]).read_bytes(), output["attributes"]["assert_list"]
        )


def test_an_installed_genome_and_an_error(tool, tmp_path):
    """A genome of the server is linked; the exit status of zflipon is that of the job."""
    genome = tmp_path / "a b.fa"
    genome.write_text(">chr1\n" + "ACGT" * 20 + "\n")
    chosen = {"source": "cached", "cached": str(genome), "model": "zhunt", "threshold": "2"}
    result = run(tool, tmp_path, chosen)
    assert result.returncode != 0
    assert "2" in result.stderr
    assert Path(tmp_path / "genome.fa").resolve() == genome
    assert not list(tmp_path.glob("zdna.*"))
