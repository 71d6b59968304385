"""Print the conda recipe of a release, whose source is the archive on PyPI with its checksum.

python packaging/conda/release_recipe.py dist/zflipon-0.1.0.tar.gz > recipe.yaml
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

RECIPE = Path(__file__).with_name("recipe.yaml")

SOURCE = "  path: ../..\n  use_gitignore: true\n"
"""The source of the recipe in the repository."""


def release_recipe(archive: Path) -> str:
    """Return the recipe for a source archive.

    Parameters
    ----------
    archive : Path
        ``zflipon-VERSION.tar.gz``; the version must be that of the recipe.

    Raises
    ------
    SystemExit
        If the name of the archive does not have the recipe's version.
    """
    recipe = RECIPE.read_text(encoding="utf-8")
    version = re.search(r'^  version: "(.+)"$', recipe, re.MULTILINE)
    if version is None or SOURCE not in recipe:
        raise SystemExit(f"{RECIPE}: expected a version and the source\n{SOURCE}")
    expected = f"zflipon-{version[1]}.tar.gz"
    if archive.name != expected:
        raise SystemExit(
            f"{archive}: expected the archive {expected}; set the version in {RECIPE} to the released one"
        )
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    address = "https://pypi.org/packages/source/z/zflipon/zflipon-${{ version }}.tar.gz"
    return recipe.replace(SOURCE, f"  url: {address}\n  sha256: {checksum}\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} dist/zflipon-VERSION.tar.gz")
    sys.stdout.write(release_recipe(Path(sys.argv[1])))
