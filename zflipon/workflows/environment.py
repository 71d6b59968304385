"""Check the installation: which packages are installed, in which versions, and whether they can be imported.

Only the standard library is imported at load time, because any other package may be broken.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "safetensors",
    "pydantic",
    "jinja2",
    "pyfaidx",
    "pysam",
    "pyBigWig",
    "numpy",
)
"""Required packages, by the names that are imported."""

EXTRAS = {
    "captum": "explain",
    "matplotlib": "plot",
    "logomaker": "plot",
    "scikit_learn": "train",
    "pybigtools": "bundle",
    "igv_notebook": "view",
    "openvino": "int8",
    "tensorboard": "log",
    "wandb": "log",
}
"""Optional package → the extra of zflipon that installs it."""


@dataclass(frozen=True)
class Environment:
    """Machine and packages.

    Attributes
    ----------
    machine : dict of str to str
        Versions of zflipon, Python and the system.
    packages, extras : dict of str to str or None
        Package → version; None if it is not installed.
    problems : list of str
        One message for each problem.
    """

    machine: dict[str, str]
    packages: dict[str, str | None]
    extras: dict[str, str | None]
    problems: list[str]


def inspect_environment() -> Environment:
    """Return versions of machine and packages, and try to import each required package."""
    return Environment(_describe_machine(), _versions(PACKAGES), _versions(EXTRAS), list(_find_problems()))


def _find_problems() -> Iterator[str]:
    """Yield a message for each required package that is missing, has a wrong version, or cannot be imported."""
    installed = {name.lower(): _version(name) for name in PACKAGES}
    for requirement in _requirements():
        found = installed.get(requirement.name.lower())
        if found and not requirement.specifier.contains(found, prereleases=True):
            needed = f"{requirement.name}{requirement.specifier}"
            yield f"{requirement.name} {found} does not match {needed}: pip install '{needed}'"
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            yield f"{name} is not installed: pip install zflipon"
            continue
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken package may raise anything
            reason = (str(error) or type(error).__name__).splitlines()[0]
            yield f"{name} is installed but cannot be imported ({reason}): reinstall it"


def _requirements() -> list:
    """Return the requirements of the installed zflipon; none if it is not installed or packaging is missing."""
    try:
        from packaging.requirements import Requirement

        requirements = [Requirement(line) for line in requires("zflipon") or ()]
    except (ImportError, PackageNotFoundError):
        return []
    return [
        requirement
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]


def _describe_machine() -> dict[str, str]:
    return {
        "zflipon": _version("zflipon") or "not installed",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "processor": _processor(),
    }


def _processor() -> str:
    """Return the name of the processor, which `platform` does not report on Linux."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            return next(names, platform.processor())
    except OSError:
        return platform.processor() or platform.machine()


def _versions(names: Iterable[str]) -> dict[str, str | None]:
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    """Return the version of a package; distributions have dashes where module names have underscores."""
    try:
        return version(name.replace("_", "-"))
    except PackageNotFoundError:
        return None
