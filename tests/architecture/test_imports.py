"""The arrows between rooms point one way, and help is light."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import zflipon
from zflipon.cli import COMMANDS
from zflipon.cli.explain import COMMANDS as EXPLAIN
from zflipon.config import DEFAULT_MODEL, OMICS_MODEL
from zflipon.models.registry import BUILT_IN

PACKAGE = Path(zflipon.__file__).parent

ORDER = [
    ("errors", "progress"),
    ("config",),
    ("recipe", "environment"),
    # the data's way
    ("genome",),
    ("zhunt",),
    ("intervals",),
    ("windows",),
    ("shards", "screen"),
    ("samples",),
    ("slices",),
    ("bpe",),
    ("tokens",),
    ("project",),
    ("models",),
    ("regions",),
    ("outputs",),
    ("journal",),
    ("readers", "tracks"),
    ("features",),
    ("metrics",),
    # the verbs; those on one line do not know each other
    ("devices", "overlap"),
    ("predict",),
    ("stretches", "runs"),
    ("annotate", "variants", "evaluate", "explain", "training", "provenance", "doctor"),
    ("report", "bundle"),
    ("view",),
    ("cli",),
    ("__main__",),
]
"""A room imports only rooms of the lines above its own."""

RANK = {room: line for line, rooms in enumerate(ORDER) for room in rooms}
VERBS = {room for room in RANK if RANK["devices"] <= RANK[room] < RANK["cli"]}
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = (
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "tokenizers",
    "pysam",
    "pyfaidx",
    "pyBigWig",
    "matplotlib",
    "captum",
    "pybigtools",
)


class Import(NamedTuple):
    """One import: by whom, of what, and whether it happens when the module is loaded."""

    module: str
    line: int
    target: str
    at_load: bool

    def __str__(self):
        return f"{self.module}:{self.line} imports {self.target}"


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> list[Import]:
    """Every import of a module, late ones too, but for those that only type checkers see."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    found = []

    def visit(node: ast.AST, at_load: bool) -> None:
        found.extend(Import(dotted(path), node.lineno, target, at_load) for target in targets(node, package))
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in unseen_by_checkers(node):
            visit(child, at_load and not lazy)

    visit(ast.parse(path.read_text(encoding="utf-8")), True)
    return found


def unseen_by_checkers(node: ast.AST) -> Iterator[ast.AST]:
    """The children of a node, without the body of ``if TYPE_CHECKING``."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        yield from node.orelse
    else:
        yield from ast.iter_child_nodes(node)


def targets(node: ast.AST, package: str) -> Iterator[str]:
    """The modules that one node imports; a string that is a module's dotted name is there to be imported."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        source = ".".join([*above, *filter(None, [node.module])])
        for alias in node.names:
            whole = f"{source}.{alias.name}"
            yield whole if is_module(whole) else source
    elif is_text(node) and re.fullmatch(r"zflipon(\.\w+)+\.?", node.value):
        yield node.value.rstrip(".")


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_module(name: str) -> bool:
    place = PACKAGE.parent.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def room(module: str) -> str | None:
    """The room that a module of ours lies in; None for the bare package and for what is not ours."""
    parts = module.split(".")
    return parts[1] if parts[0] == "zflipon" and len(parts) > 1 else None


EVERY_IMPORT = [one for path in MODULES for one in imports_of(path)]


def test_late_relative_and_named_imports_are_seen(tmp_path, monkeypatch):
    (tmp_path / "zflipon" / "models").mkdir(parents=True)
    for name in ("predict", "tokens", "models/heads"):
        (tmp_path / "zflipon" / f"{name}.py").touch()
    module = tmp_path / "zflipon" / "models" / "base.py"
    module.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from zflipon import annotate\n"
        "else:\n    from . import heads\n"
        "def late():\n    from ..predict import Predictor\n    from zflipon import tokens\n"
        "class Kind:\n    import zflipon.genome.fasta\n"
        "NAME = 'zflipon.models.families.gena'\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "zflipon")
    assert [(one.target, one.at_load) for one in imports_of(module)] == [
        ("typing", True),
        ("zflipon.models.heads.base_resolution", True),
        ("zflipon.inference.predictor", False),
        ("zflipon.tokenization.tokenizers", False),
        ("zflipon.genome.fasta", True),
        ("zflipon.models.families.gena", True),
    ]


def test_every_room_has_its_place():
    rooms = {room(dotted(path)) for path in MODULES} - {None}
    assert rooms == set(RANK), "a new room needs a line in ORDER"


def test_a_room_imports_only_rooms_above_it():
    wrong = [
        str(one)
        for one in EVERY_IMPORT
        if room(one.target) not in (None, room(one.module))
        and RANK[room(one.target)] >= RANK.get(room(one.module), -1)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_data_way_imports_no_verb():
    """Implied by the order; this holds however the order is changed."""
    way = {"genome", "intervals", "windows", "tokens", "models", "project"}
    way |= {"regions", "tracks", "readers", "outputs", "metrics"}
    verbs = {"predict", "annotate", "evaluate", "explain", "report", "training", "cli"}
    wrong = [str(one) for one in EVERY_IMPORT if room(one.module) in way and room(one.target) in verbs]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", ["zflipon.errors", "zflipon.config"])
def test_what_all_import_needs_only_the_standard_library(module):
    targets = {one.target.split(".")[0] for one in EVERY_IMPORT if one.module == module}
    assert targets
    assert targets <= set(sys.stdlib_module_names)


def test_the_command_line_imports_verbs_only_in_function_bodies():
    ours = [one for one in EVERY_IMPORT if room(one.module) == "cli" and room(one.target) in VERBS]
    assert {room(one.target) for one in ours} >= {"annotate", "evaluate", "explain", "training"}
    wrong = [str(one) for one in ours if one.at_load]
    assert not wrong, "\n".join(wrong)


def test_ranking_tables_needs_no_model():
    script = (
        "import sys, zflipon.explain.ranking; print(*sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


@pytest.mark.parametrize("model", [DEFAULT_MODEL, OMICS_MODEL])
def test_the_bundled_models_load_without_the_base_class_of_transformers(model):
    # which takes longer to import than all else that they need
    script = f"import sys; from zflipon.models import load; load({model!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "transformers.configuration_utils" in loaded.stdout.split()
    assert not {"transformers.modeling_utils", "peft", "accelerate"} & set(loaded.stdout.split())


FAMILY_MODULES = {location.partition(":")[0] for location in BUILT_IN.values()}


def test_nothing_outside_models_knows_a_family():
    wrong = [
        str(one) for one in EVERY_IMPORT if room(one.module) != "models" and one.target in FAMILY_MODULES
    ]
    for path in MODULES:
        if room(dotted(path)) == "models":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            bundled = dotted(path) == "zflipon.config" and getattr(node, "value", None) in (
                DEFAULT_MODEL,
                OMICS_MODEL,
            )
            if names_a_family(node) and not bundled:
                wrong.append(f"{dotted(path)}:{node.lineno} says {node.value!r}")
    assert not wrong, "\n".join(wrong)


def names_a_family(node: ast.AST) -> bool:
    """Whether this is a string such as ``'gena'`` or ``'gena-lm'``, to compare with or to look up."""
    named = rf"({'|'.join(BUILT_IN)})([-_.][\w.-]*)?"
    return is_text(node) and re.fullmatch(named, node.value, re.IGNORECASE) is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["models"],
        ["models", "show", "--help"],
        *([verb, "--help"] for verb in COMMANDS),
        *(["explain", verb, "--help"] for verb in EXPLAIN),
    ],
    ids=" ".join,
)
def test_help_is_light(arguments):
    script = (
        "import sys; from zflipon.cli import cli; "
        f"status = cli({arguments!r}, prog_name='zflipon', standalone_mode=False); "
        f"print('loaded', *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); "
        "sys.exit(status or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["loaded"]
    assert done.stdout
