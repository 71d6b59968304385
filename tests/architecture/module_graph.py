"""The imports of every module of the package, read from its source without importing it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import zflipon

PACKAGE = Path(zflipon.__file__).parent


@dataclass(frozen=True)
class Import:
    """One import.

    Attributes
    ----------
    module : str
        Dotted name of the importing module.
    line : int
    target : str
        Dotted name of the imported module.
    at_load : bool
        Whether it happens when the module is loaded, and not inside a function.
    """

    module: str
    line: int
    target: str
    at_load: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


@cache
def module_files(package: Path = PACKAGE) -> dict[str, Path]:
    """Return dotted name → file of every module of a package."""
    return {dotted_name(path, package): path for path in sorted(package.rglob("*.py"))}


def dotted_name(path: Path, package: Path = PACKAGE) -> str:
    """Return the dotted name of a module's file."""
    return ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports_of(path: Path, package: Path = PACKAGE) -> tuple[Import, ...]:
    """Return the imports of a module: late ones and names in strings too, those under TYPE_CHECKING not."""
    module = dotted_name(path, package)
    parent = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imports = []

    def visit(node: ast.AST, at_load: bool) -> None:
        imports.extend(
            Import(module, getattr(node, "lineno", 0), target, at_load and not isinstance(node, ast.Constant))
            for target in _targets(node, parent, package)
        )
        in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in _run_time_children(node):
            visit(child, at_load and not in_function)

    visit(ast.parse(path.read_text(encoding="utf-8")), True)
    return tuple(imports)


def _run_time_children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the children of a node, without the body of ``if TYPE_CHECKING``."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        yield from node.orelse
    else:
        yield from ast.iter_child_nodes(node)


def _targets(node: ast.AST, parent: str, package: Path) -> Iterator[str]:
    """Yield the modules that one node imports; a string that is the name of an existing module is a late import."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = parent.split(".")[: len(parent.split(".")) - node.level + 1] if node.level else []
        source = ".".join([*above, *filter(None, [node.module])])
        for alias in node.names:
            submodule = f"{source}.{alias.name}"
            yield submodule if submodule in module_files(package) else source
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        # "zflipon.models.families.gena:GENA" of a registry, or the argument of import_module
        name = node.value.partition(":")[0]
        if re.fullmatch(rf"{package.name}(\.\w+)+", name) and name in module_files(package):
            yield name


def load_time_graph(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Return module → modules of the package that are imported when it is loaded.

    Importing ``a.b.c`` also loads the packages ``a`` and ``a.b``; these edges are left out for modules inside the same
    package, which are loaded after it.
    """
    names = module_files(package)
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        targets = {each.target for each in imports_of(path, package) if each.at_load and each.target in names}
        parents = {parent for target in targets for parent in _parents(target) if parent in names}
        graph[name] = {
            each for each in targets | parents if each != name and not name.startswith(f"{each}.")
        } | (targets - {name})
    return graph


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def find_cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one module, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    cycles: list[list[str]] = []

    def connect(name: str) -> None:
        index[name] = lowest[name] = len(index)
        stack.append(name)
        for target in sorted(graph.get(name, ())):
            if target not in index:
                connect(target)
                lowest[name] = min(lowest[name], lowest[target])
            elif target in stack:
                lowest[name] = min(lowest[name], index[target])
        if lowest[name] == index[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                cycles.append(sorted(component))

    for name in sorted(graph):
        if name not in index:
            connect(name)
    return cycles
