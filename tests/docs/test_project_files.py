"""Project files agree with each other: version, changelog, citation, packaged data."""

import re
from fnmatch import fnmatch
from pathlib import Path

from zflipon import __version__

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_changelog_has_the_version_or_unreleased_changes():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0] == __version__


def test_the_citation_has_the_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^cff-version: 1\.2\.0$", citation, re.MULTILINE)
    assert re.search(rf"^version: {re.escape(__version__)}$", citation, re.MULTILINE)


def test_data_files_are_packaged():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for path in (ROOT / "zflipon").rglob("*"):
        if not path.is_file() or path.suffix in (".py", ".pyc"):
            continue
        packages = [
            (parent, ".".join(parent.relative_to(ROOT).parts))
            for parent in path.parents
            if (parent / "__init__.py").is_file()
        ]
        covered = any(
            fnmatch(str(path.relative_to(folder)), pattern.replace("**/", ""))
            for folder, name in packages
            for pattern in patterns.get(name, [])
        )
        assert covered, f"{path.relative_to(ROOT)} is in no pattern of package-data"


def test_extras_used_in_messages_exist():
    extras = set(PROJECT["project"]["optional-dependencies"])
    used = {
        match
        for path in (ROOT / "zflipon").rglob("*.py")
        for match in re.findall(r"zflipon\[(\w+)\]", path.read_text(encoding="utf-8"))
    }
    assert used <= extras
