"""Imports point one way, there is no cycle, the command line loads nothing heavy for its help."""

import ast
import re
import subprocess
import sys

import pytest
from architecture.module_graph import find_cycles, imports_of, load_time_graph, module_files

from zflipon.cli import COMMANDS
from zflipon.cli.explain import COMMANDS as EXPLAIN_COMMANDS
from zflipon.config import DEFAULT_MODEL, OMICS_MODEL
from zflipon.models import family_names

LAYERS = [
    ("errors", "progress", "checksums", "json_files"),
    ("config",),
    ("genome",),
    ("energetics",),
    ("tokenization",),
    ("models",),
    ("tracks",),
    ("omics",),
    ("metrics",),
    ("jobs",),
    ("inference",),
    ("plots",),
    ("workflows", "explain", "training"),
    ("reproduction",),
    ("report",),
    ("api",),
    ("cli",),
    ("__main__",),
]
"""Packages and modules from the bottom to the top; each may import only from the rows above its own."""

RANK = {name: row for row, names in enumerate(LAYERS) for name in names}

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
    "sklearn",
    "jinja2",
)
"""Packages that the help does not need and that take long to import."""

LIGHT = {"zflipon.training.recipe", "zflipon.training.output_folder"}
"""Modules that commands may import when they are loaded, because they need nothing heavy."""

FAMILIES_AND_INPUTS = {"zhunt"}
"""Families whose names are also names of other things, such as an input of the base head."""

IMPORTS = [each for path in module_files().values() for each in imports_of(path)]


def layer(module: str) -> str | None:
    """Return the most specific entry of LAYERS for a module; None for the bare package and for other packages."""
    if not module.startswith("zflipon."):
        return None
    parts = module.split(".")[1:]
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in RANK), parts[0])


def package(module: str) -> str:
    """Return the top-level package of a module."""
    return ".".join(module.split(".")[:2])


# ---- the parser of imports -------------------------------------------------------------------------------


@pytest.fixture
def small_package(tmp_path):
    """Return the folder of a package whose imports are of every kind."""
    folder = tmp_path / "zflipon"
    (folder / "models").mkdir(parents=True)
    for name in ("__init__", "predict", "tokens", "models/__init__", "models/heads"):
        (folder / f"{name}.py").touch()
    (folder / "models" / "base.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from zflipon import annotate\n"
        "else:\n    from . import heads\n"
        "def late():\n    from ..predict import Predictor\n    from zflipon import tokens\n"
        "class Kind:\n    import zflipon.models\n"
        "NAME = 'zflipon.models.heads:HEAD'\n"
        "OTHER = 'zflipon.missing'\n"
    )
    return folder


def test_late_relative_and_named_imports_are_found(small_package):
    found = imports_of(small_package / "models" / "base.py", small_package)
    assert [(each.target, each.at_load) for each in found] == [
        ("typing", True),
        ("zflipon.models.heads", True),
        ("zflipon.predict", False),
        ("zflipon.tokens", False),
        ("zflipon.models", True),
        ("zflipon.models.heads", False),
    ]


def test_cycles_are_found(small_package):
    assert find_cycles(load_time_graph(small_package)) == []
    (small_package / "models" / "heads.py").write_text("import zflipon.models.base\n")
    (small_package / "copy").mkdir()
    for path in (imports_of, module_files):
        path.cache_clear()
    assert find_cycles(load_time_graph(small_package)) == [["zflipon.models.base", "zflipon.models.heads"]]


# ---- layers ----------------------------------------------------------------------------------------------


def test_every_package_has_a_layer():
    layers = {layer(name) for name in module_files()} - {None}
    assert layers <= set(RANK), "a new package needs a line in LAYERS"


def test_imports_point_one_way():
    wrong = [
        str(each)
        for each in IMPORTS
        if layer(each.module) and layer(each.target) and layer(each.module) != layer(each.target)
        if RANK[layer(each.target)] >= RANK[layer(each.module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_there_is_no_import_cycle():
    cycles = find_cycles(load_time_graph())
    assert not cycles, cycles


def test_errors_need_only_the_standard_library():
    targets = {each.target.split(".")[0] for each in IMPORTS if each.module == "zflipon.errors"}
    assert targets
    assert targets <= set(sys.stdlib_module_names)


def test_commands_import_workflows_inside_functions():
    upper = [
        each
        for each in IMPORTS
        if package(each.module) == "zflipon.cli"
        and RANK["inference"] <= RANK.get(layer(each.target), -1) < RANK["cli"]
    ]
    assert {package(each.target) for each in upper} >= {
        "zflipon.workflows",
        "zflipon.training",
        "zflipon.report",
    }
    wrong = [str(each) for each in upper if each.at_load and each.target not in LIGHT]
    assert not wrong, "\n".join(wrong)


# ---- families --------------------------------------------------------------------------------------------


def test_only_models_knows_the_families():
    wrong = [
        str(each)
        for each in IMPORTS
        if package(each.module) != "zflipon.models" and each.target.startswith("zflipon.models.families.")
    ]
    for name, path in module_files().items():
        if package(name) == "zflipon.models":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            default = package(name) == "zflipon.config" and getattr(node, "value", None) in (
                DEFAULT_MODEL,
                OMICS_MODEL,
            )
            if names_a_family(node) and not default:
                wrong.append(f"{name}:{node.lineno} names {node.value!r}")
    assert not wrong, "\n".join(wrong)


def names_a_family(node: ast.AST) -> bool:
    """Return whether a node is a string such as ``'gena'`` or ``'gena-lm'``."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    names = sorted(set(family_names()) - FAMILIES_AND_INPUTS)
    pattern = rf"({'|'.join(names)})([-_.][\w.-]*)?"
    return re.fullmatch(pattern, node.value, re.IGNORECASE) is not None


# ---- start-up --------------------------------------------------------------------------------------------


def run_python(script: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


@pytest.mark.parametrize(
    "module",
    [
        "zflipon.explain.ranking",
        *(
            f"zflipon.workflows.{name}"
            for name in ("calibrate", "compare", "evaluate", "genes", "merge", "provenance")
        ),
    ],
)
def test_what_runs_no_model_loads_no_torch(module):
    done = run_python(
        f"import sys, {module}; print(*sorted({{'torch', 'transformers', 'accelerate'}} & set(sys.modules)))"
    )
    assert done.returncode == 0, done.stderr
    assert not done.stdout.strip()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["models"],
        ["models", "show", "--help"],
        *([command, "--help"] for command in COMMANDS),
        *(["explain", command, "--help"] for command in EXPLAIN_COMMANDS),
    ],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments):
    done = run_python(
        "import sys; from zflipon.cli import cli; "
        f"status = cli({arguments!r}, prog_name='zflipon', standalone_mode=False); "
        f"print('loaded', *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); "
        "sys.exit(status or 0)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["loaded"]
    assert done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["annotate", "absent.fa", "-o", "z.bw"],
        ["variants", "absent.vcf", "-g", "absent.fa", "-o", "z.vcf"],
        ["variants", "--saturate", "chr1:1-9", "-g", "absent.fa", "-o", "z.tsv.gz"],
        ["explain", "attributions", "absent.fa", "-o", "z.tsv"],
        ["explain", "locus", "chr1:1-9", "--genome", "absent.fa", "-o", "z.png"],
        ["calibrate", "absent.bw", "--genome", "absent.fa", "--labels", "absent.bed", "-o", "z.json"],
    ],
    ids=" ".join,
)
def test_a_missing_input_is_reported_before_torch_is_imported(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_python(
        "import sys; from zflipon.cli import cli\n"
        "from zflipon.errors import InputError\n"
        f"try: cli({arguments!r}, prog_name='zflipon', standalone_mode=False)\n"
        "except InputError as error: print(error)\n"
        "print('loaded', *[name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    message, loaded = done.stdout.splitlines()
    assert message.startswith("absent.")
    assert message.endswith(": no such file")
    assert loaded == "loaded"
