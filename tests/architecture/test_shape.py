"""Size and documentation of modules and functions, and tests that mirror the package."""

import ast
from pathlib import Path

import pytest
from architecture.module_graph import PACKAGE, module_files

MODULE_LINES, FUNCTION_LINES = 400, 60
"""Highest number of lines of a module, and of a function without its signature and docstring."""

LONGER_MODULES = {
    "zflipon.api",  # the public functions with their documentation on one page
}
"""Modules that may be longer, each with a reason."""

LONGER_FUNCTIONS: set[str] = set()
"""Functions that may be longer, each with a reason."""

ROOT = PACKAGE.parent
TESTS = ROOT / "tests"

OTHER_TEST_FOLDERS = {"architecture", "benchmarks", "data", "docs", "packaging", "robustness"}
"""Test folders that mirror no package."""


def functions(tree: ast.Module):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function without its signature and docstring."""
    statements = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_modules_are_short():
    long = {name: len(read(path).splitlines()) for name, path in module_files().items()}
    long = {name: lines for name, lines in long.items() if lines > MODULE_LINES}
    assert set(long) <= LONGER_MODULES, long
    assert set(long) >= LONGER_MODULES, "take modules that are short now off the list"


def test_functions_are_short():
    long = {
        f"{name}.{function.name}": length(function)
        for name, path in module_files().items()
        for function in functions(ast.parse(read(path)))
        if length(function) > FUNCTION_LINES
    }
    assert set(long) <= LONGER_FUNCTIONS, long
    assert set(long) >= LONGER_FUNCTIONS, "take functions that are short now off the list"


@pytest.mark.parametrize("name", module_files())
def test_modules_have_a_docstring(name):
    docstring = ast.get_docstring(ast.parse(read(module_files()[name])))
    assert docstring
    assert docstring.split("\n\n")[0].rstrip().endswith((".", "?"))


def test_test_folders_mirror_packages():
    folders = {
        path.parent.relative_to(TESTS)
        for path in TESTS.rglob("test_*.py")
        if path.relative_to(TESTS).parts[0] not in OTHER_TEST_FOLDERS
    }
    wrong = [str(folder) for folder in folders if not (PACKAGE / folder / "__init__.py").is_file()]
    assert not wrong


def test_every_package_is_tested():
    packages = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/__init__.py")}
    untested = [name for name in sorted(packages) if not list((TESTS / name).rglob("test_*.py"))]
    # settings are tested where they are used
    assert untested in ([], ["config"])
