"""The Galaxy tool: its choices, parameters and outputs exist. `test_galaxy_run.py` runs it."""

import re
import xml.etree.ElementTree as ET

import pytest
from packaging_files import PACKAGING, read

from zflipon.config import SCORES
from zflipon.models.files import bundled

TOOL = ET.fromstring(read("galaxy/zflipon_annotate.xml"))


def choices(parameter):
    """Return the values of a select parameter, by its name or argument."""
    for element in TOOL.iter("param"):
        if parameter in (element.get("name"), element.get("argument")) and element.get("type") == "select":
            return [option.get("value") for option in element.iter("option")]
    raise KeyError(parameter)


def test_models_and_scores_exist():
    assert set(choices("--model")) <= set(bundled())
    assert choices("--score") == list(SCORES)


def test_every_output_is_written_by_the_command():
    command = TOOL.find("command").text
    for data in TOOL.iter("data"):
        assert f"--output {data.get('from_work_dir')}" in command
        assert data.get("name") in choices("outputs")


def parameter_names():
    """Return the name of each input; an argument ``--min-length`` has the name ``min_length``."""
    return {
        element.get("name") or element.get("argument").lstrip("-").replace("-", "_")
        for element in TOOL.find("inputs").iter("param")
    }


def test_every_parameter_is_used_by_the_command():
    command = TOOL.find("command").text
    for name in parameter_names():
        assert re.search(rf"\$(?:genome_source\.)?{name}\b", command), name


def test_parameters_and_files_of_tests_exist():
    for test in TOOL.iter("test"):
        assert {element.get("name") for element in test.iter("param")} <= parameter_names()
        for element in test.iter("param"):
            if element.get("ftype"):
                assert (PACKAGING / "galaxy" / "test-data" / element.get("value")).is_file()


@pytest.mark.parametrize("name", ["zflipon_annotate.xml", "macros.xml"])
def test_tokens_are_defined(name):
    used = set(re.findall(r"@[A-Z_]+@", read(f"galaxy/{name}")))
    defined = {token.get("name") for token in ET.fromstring(read("galaxy/macros.xml")).iter("token")}
    assert used <= defined
