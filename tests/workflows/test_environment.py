"""Which packages are installed, and whether they can be imported."""

import importlib
import subprocess
import sys

from zflipon.workflows import environment
from zflipon.workflows.environment import inspect_environment


def test_packages_that_are_missing_or_cannot_be_imported(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no_such_package", "broken"))
    monkeypatch.setattr(
        environment.importlib.util,
        "find_spec",
        lambda name: None if name == "no_such_package" else name,
    )
    original = importlib.import_module

    def import_module(name, *rest):
        if name == "broken":
            raise ImportError("libcuda.so.99: cannot open\nmore")
        return original(name, *rest)

    monkeypatch.setattr(environment.importlib, "import_module", import_module)
    problems = inspect_environment().problems
    assert problems == [
        "no_such_package is not installed: pip install zflipon",
        "broken is installed but cannot be imported (libcuda.so.99: cannot open): reinstall it",
    ]


def test_a_package_that_is_too_old(monkeypatch):
    monkeypatch.setattr(environment, "_version", lambda name: "0.1" if name == "peft" else "99")
    monkeypatch.setattr(
        environment,
        "requires",
        lambda _: ["peft>=0.18", "numpy>=1.26", "wandb>=100; extra == 'log'"],
    )
    (problem,) = inspect_environment().problems
    assert problem == "peft 0.1 does not match peft>=0.18: pip install 'peft>=0.18'"


def test_the_environment_module_imports_only_the_standard_library():
    script = "import sys, zflipon.workflows.environment; print(*sorted({'torch', 'numpy', 'pysam'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not result.stdout.strip()
