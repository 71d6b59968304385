"""The examples in docstrings print what they show."""

import doctest
import importlib

import pytest
from architecture.module_graph import module_files

NEEDS_FILES = {
    "zflipon.api",
    "zflipon.workflows.calibrate",
    "zflipon.workflows.merge",
}  # tests/test_api.py runs its examples

WITH_EXAMPLES = [
    name
    for name, path in module_files().items()
    if ">>> " in path.read_text(encoding="utf-8") and name not in NEEDS_FILES
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of_a_module(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert not result.failed
