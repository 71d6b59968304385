"""The Snakemake workflow: parts and merged tracks. It runs if Snakemake is installed, as in CI."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging_files import PACKAGING, ROOT, read

FOLDER = PACKAGING / "snakemake"

needs_snakemake = pytest.mark.skipif(
    importlib.util.find_spec("snakemake") is None, reason="Snakemake is not installed"
)


def snakemake(folder, *arguments):
    """Run the workflow in a folder with the copy of zflipon that is tested."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        FOLDER / "Snakefile",
        "--cores",
        "2",
        *arguments,
    ]
    environment = {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_every_setting_of_the_workflow_has_a_default():
    settings = yaml.safe_load(read("snakemake/config.yaml"))
    for name in settings:
        assert f'config["{name}"]' in read("snakemake/Snakefile")


@needs_snakemake
def test_four_parts_give_the_tracks_of_one_run(tmp_path):
    genome = tmp_path / "demo.fa"
    genome.write_bytes((ROOT / "examples" / "demo.fa").read_bytes())
    settings = [
        "genome=demo.fa",
        "parts=4",
        "threads=1",
        "extra=--model zhunt",
        'tracks=["zdna.bw", "zdna.bed"]',
    ]
    result = snakemake(tmp_path, "--config", *settings)
    assert result.returncode == 0, result.stderr
    command = [sys.executable, "-m", "zflipon", "annotate", "demo.fa", "-o", "one.bw", "-o", "one.bed"]
    subprocess.run([*command, "--model", "zhunt", "--quiet"], cwd=tmp_path, check=True)
    for extension in (".bw", ".bed"):
        assert (tmp_path / f"zdna{extension}").read_bytes() == (tmp_path / f"one{extension}").read_bytes()
    assert list((tmp_path / "parts").glob("*.zfp")) == []  # parts are temporary, their run records stay
    assert (tmp_path / "logs" / "merge.log").is_file()
