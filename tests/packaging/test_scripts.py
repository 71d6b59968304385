"""Scripts of `packaging/`: the check of a wheel, the recipe of a release, and the lower bounds."""

import hashlib
from zipfile import ZipFile

import pytest
import yaml
from packaging_files import load_script, read

from zflipon import __version__


def write_wheel(path, names, content=b"x"):
    with ZipFile(path, "w") as wheel:
        for name in names:
            wheel.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def check_wheel():
    return load_script("check_wheel.py")


@pytest.fixture(scope="module")
def complete(check_wheel):
    """Return the names of files of a complete wheel."""
    required = [f"{name}page.html" if name.endswith("/") else name for name in check_wheel.REQUIRED]
    return [*required, "zflipon-1.dist-info/METADATA"]


def test_a_complete_wheel_has_no_problem(check_wheel, complete, tmp_path):
    assert list(check_wheel.problems(write_wheel(tmp_path / "a.whl", complete))) == []


@pytest.mark.parametrize("position", range(6))
def test_a_missing_file_is_named(check_wheel, complete, tmp_path, position):
    names = [name for index, name in enumerate(complete) if index != position]
    (problem,) = check_wheel.problems(write_wheel(tmp_path / "a.whl", names))
    assert (
        problem == f"a.whl lacks {check_wheel.REQUIRED[position]}; add it to package-data in pyproject.toml"
    )


def test_a_large_wheel_is_refused_with_its_largest_files(check_wheel, complete, tmp_path):
    path = write_wheel(tmp_path / "a.whl", complete)
    size = path.stat().st_size
    assert list(check_wheel.problems(path, size)) == []
    (problem,) = check_wheel.problems(path, size - 1)
    assert problem.startswith(
        f"a.whl has {size:,} bytes, expected at most {size - 1:,}; its largest files: zflipon/"
    )


def test_files_outside_the_package_are_refused(check_wheel, complete, tmp_path):
    path = write_wheel(tmp_path / "a.whl", [*complete, "tests/conftest.py", "zflipon_extra.py"])
    assert [problem.split(", ")[0] for problem in check_wheel.problems(path)] == [
        "a.whl has tests/conftest.py",
        "a.whl has zflipon_extra.py",
    ]


def test_the_recipe_of_a_release_has_its_archive_and_checksum(tmp_path):
    archive = tmp_path / f"zflipon-{__version__}.tar.gz"
    archive.write_bytes(b"archive")
    recipe = yaml.safe_load(load_script("conda/release_recipe.py").release_recipe(archive))
    assert recipe["source"] == {
        "url": "https://pypi.org/packages/source/z/zflipon/zflipon-${{ version }}.tar.gz",
        "sha256": hashlib.sha256(b"archive").hexdigest(),
    }
    local = yaml.safe_load(read("conda/recipe.yaml"))
    assert {**local, "source": None} == {**recipe, "source": None}


def test_an_archive_of_another_version_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"expected the archive zflipon-.+\.tar\.gz; set the version"):
        load_script("conda/release_recipe.py").release_recipe(tmp_path / "zflipon-99.tar.gz")


def test_each_dependency_is_held_at_its_bound():
    project = {
        "dependencies": ["torch>=2.6", "tomli>=2.0; python_version < '3.11'"],
        "optional-dependencies": {
            "docs": ["mkdocstrings[python]>=0.26"],
            "genes": ["torch>=2.6", "pyarrow>=15"],
        },
    }
    constraints = load_script("lower_bounds.py").constraints
    assert list(constraints(project, ["genes", "docs"])) == [
        "torch==2.6.*",
        "tomli==2.0.*; python_version < '3.11'",
        "pyarrow==15.*",
        "mkdocstrings==0.26.*",
    ]
    with pytest.raises(SystemExit, match="no extra 'gene'; expected one of docs, genes"):
        list(constraints(project, ["gene"]))
    with pytest.raises(SystemExit, match="'numpy<3' has no lower bound"):
        list(constraints({**project, "dependencies": ["numpy<3"]}, []))
