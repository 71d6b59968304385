"""What is installed here, and whether it loads; by the standard library alone, since nothing else may be sound."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "safetensors",
    "pysam",
    "pyBigWig",
    "numpy",
)
"""What zflipon cannot do without, by the names under which it is imported."""

EXTRAS = {
    "captum": "explain",
    "matplotlib": "plot",
    "pybigtools": "bundle",
    "igv_notebook": "view",
    "tensorboard": "log",
    "wandb": "log",
    "pyfaidx": "test",
}
"""Optional module → the extra that brings it."""


@dataclass(frozen=True)
class Environment:
    """What there is.

    Attributes
    ----------
    machine : dict of str to str
    packages, extras : dict of str to str or None
        Version; None where it is not installed.
    problems : list of str
        What is broken; empty if nothing is.
    """

    machine: dict[str, str]
    packages: dict[str, str | None]
    extras: dict[str, str | None]
    problems: list[str]


def look() -> Environment:
    """Look at packages and machine; each package that is needed is loaded."""
    return Environment(_machine(), _versions(PACKAGES), _versions(EXTRAS), list(_lacking()))


def _lacking() -> Iterator[str]:
    """Say which packages are not there, too old, or do not load."""
    told = {name.lower(): _version(name) for name in PACKAGES}
    for line in _requirements():
        name = line.name.lower()
        if name in told and told[name] and not line.specifier.contains(told[name], prereleases=True):
            yield f"{line.name} {told[name]} is not what zflipon needs: pip install '{line.name}{line.specifier}'"
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            yield f"{name} is not installed: pip install zflipon"
            continue
        try:
            importlib.import_module(name)
        except Exception as error:  # a package that is broken may raise any kind
            reason = (str(error) or type(error).__name__).splitlines()[0]
            yield f"{name} is installed and does not load ({reason}): install it anew"


def _requirements() -> list:
    """Return what the installed zflipon asks for; nothing where it runs from a folder, or nobody can read it."""
    try:
        from packaging.requirements import Requirement

        told = [Requirement(line) for line in requires("zflipon") or ()]
    except (ImportError, PackageNotFoundError):
        return []
    return [each for each in told if each.marker is None or each.marker.evaluate({"extra": ""})]


def _machine() -> dict[str, str]:
    return {
        "zflipon": _version("zflipon") or "not installed",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "processor": _processor(),
    }


def _processor() -> str:
    """Return the processor's name, which `platform` does not know on Linux."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            return next(named, platform.processor())
    except OSError:
        return platform.processor() or platform.machine()


def _versions(names: Sequence[str]) -> dict[str, str | None]:
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    """Return the version of a distribution, whose name may have dashes where its module has underscores."""
    try:
        return version(name.replace("_", "-"))
    except PackageNotFoundError:
        return None
