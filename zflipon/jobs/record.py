"""Run records: a JSON file for each output that says how the output was made.

This module describes the model, the programs and the machine; each workflow adds its own settings and results.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from zflipon.checksums import sha256_of
from zflipon.tracks.atomic import atomic_file, record_path

if TYPE_CHECKING:
    from zflipon.models import Checkpoint
    from zflipon.omics.features import FeatureTracks

PACKAGES = ("zflipon", "torch", "transformers", "tokenizers", "accelerate", "pysam", "pyBigWig", "numpy")
"""Packages whose versions are recorded."""


def write_record(output: Path, record: dict) -> None:
    """Write the record of an output, together with the size and the SHA-256 of the output."""
    file = {"name": output.name, "bytes": output.stat().st_size, "sha256": sha256_of(output)}
    with atomic_file(record_path(output)) as part:
        part.write_text(json.dumps({**record, "file": file}, indent=1) + os.linesep)


def describe_model(checkpoint: Checkpoint) -> dict[str, object]:
    """Return the record's section on the model: its place, its checksum and its metadata."""
    return {
        "name": checkpoint.name,
        "path": str(checkpoint.required_files.folder.resolve()),
        "sha256": checkpoint.sha256,
        **checkpoint.metadata.to_dict(),
    }


def describe_features(tracks: FeatureTracks | None) -> dict[str, dict[str, str] | None] | None:
    """Return omics track → path and checksum of its file, None for a track that was not given."""
    if tracks is None:
        return None
    hashes = tracks.file_hashes
    return {
        feature.name: {"path": str(tracks.paths[feature.name].resolve()), "sha256": hashes[feature.name]}
        if feature.name in hashes
        else None
        for feature in tracks.features
    }


def command_line(words: list[str]) -> str:
    """Return the words of a zflipon command as one line for a shell."""
    return shlex.join(["zflipon", *words])


def local_time(seconds: float) -> str:
    """Return a time, in seconds since the epoch, in ISO 8601 with the offset of the local time zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of `PACKAGES`."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def peak_memory() -> int:
    """Return the peak resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
