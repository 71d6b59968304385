"""Print a constraint for each dependency of zflipon: the release that is its lower bound in pyproject.toml.

python packaging/lower_bounds.py plot explain train > constraints.txt

`uv --resolution lowest-direct` alone takes a newer version of a dependency if the newest version of another package
asks for it, and the bound remains untested. With these constraints, uv takes an older version of the other package.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]


def constraints(project: dict[str, Any], extras: Sequence[str]) -> Iterator[str]:
    """Yield ``name==bound.*`` for each dependency and each dependency of the extras.

    Parameters
    ----------
    project : dict
        Table ``project`` of pyproject.toml.
    extras : sequence of str

    Raises
    ------
    SystemExit
        If an extra does not exist, or a requirement has no lower bound.
    """
    requirements = list(project["dependencies"])
    for extra in extras:
        if extra not in project["optional-dependencies"]:
            raise SystemExit(
                f"no extra {extra!r}; expected one of {', '.join(project['optional-dependencies'])}"
            )
        requirements += project["optional-dependencies"][extra]
    for requirement in dict.fromkeys(requirements):
        found = re.fullmatch(r"([\w.-]+)(?:\[.+\])?\s*>=([\d.]+)(\s*;.*)?", requirement)
        if not found:
            raise SystemExit(f"pyproject.toml: {requirement!r} has no lower bound; expected name>=version")
        name, bound, marker = found.groups()
        yield f"{name}=={bound}.*{marker or ''}"


def main() -> None:
    """Print the constraints of the extras that are given as arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("extras", nargs="*")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    print("\n".join(constraints(project, parser.parse_args().extras)))


if __name__ == "__main__":
    main()
