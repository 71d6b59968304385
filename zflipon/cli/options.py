"""What several verbs share on the command line."""

from __future__ import annotations

import logging
import os
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from zflipon.config import DEFAULT_MODEL, MISSING_FEATURES, InferenceConfig
from zflipon.errors import printable

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
"""Where torch and tokenizers, once imported, look for the number of threads."""


def default(kind: type, name: str) -> Any:
    """Return a field's default, so that the number stands in `zflipon.config` alone."""
    return next(item.default for item in fields(kind) if item.name == name)


def names(_context, _parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Split an option that may be repeated and may hold commas; repeated names count once."""
    found = (part.strip() for value in values for part in value.split(","))
    return tuple(dict.fromkeys(part for part in found if part))


def limit_threads(threads: int | None) -> None:
    """Set the number of CPU threads, before torch and tokenizers are imported."""
    if threads:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))


def log_to_stderr(quiet: bool = False, verbose: bool = False) -> None:
    """Send zflipon's messages to stderr: a line each, with no more ceremony than that."""
    log = logging.getLogger("zflipon")
    log.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    log.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PrintableFormatter("zflipon: %(message)s"))
    log.handlers = [handler]


class _PrintableFormatter(logging.Formatter):
    """Formats a record as text without terminal escapes; tracebacks keep their lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return printable(super().format(record), keep="\n\t")


def print_line(text: object, to_stderr: bool = False) -> None:
    """Print text whose names come from input files: terminal escapes in it are shown, not executed."""
    click.echo(printable(text, keep="\n\t"), err=to_stderr)


class LocalPath(click.Path):
    """The path of a local file; a URL is refused with a hint, because a path would lose one of its slashes."""

    def __init__(self):
        super().__init__(path_type=Path)

    def convert(self, value, param, ctx):
        """Return the path, or fail if the value is a URL."""
        if isinstance(value, str) and re.match(r"[a-z][a-z0-9+.-]+://", value, re.IGNORECASE):
            self.fail(f"{value} is a URL; download the file and give its path", param, ctx)
        return super().convert(value, param, ctx)


def complete_models(_context, _parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the shell the bundled models, then folders."""
    from zflipon.models.hub import bundled

    names = [CompletionItem(name) for name in bundled() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="dir")]


def complete_contigs(context, _parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the shell the contigs of the FASTA that was named before, where it has an index."""
    # an option without its value, which is being typed, leaves the rest of the line unparsed
    named = (context.params.get("genome"), context.params.get("source"), *context.args)
    indices = (Path(f"{name}.fai") for name in named if name)
    index = next((path for path in indices if path.is_file()), None)
    if index is None:
        return []
    lines = index.read_text(encoding="utf-8").splitlines()
    names = (line.split("\t", 1)[0] for line in lines)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


threads_option = click.option("-t", "--threads", type=click.IntRange(1), help="CPU threads.  [default: all]")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Say more.")
restart_option = click.option(
    "--restart", is_flag=True, help="Throw away what a stopped run left, and start over."
)

force_option = click.option("--force", is_flag=True, help="Replace outputs that exist.")
model_option = click.option(
    "-m",
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    shell_complete=complete_models,
    help="Bundled name, folder, file or hub id.",
)
both_strands_option = click.option(
    "--both-strands/--one-strand",
    default=default(InferenceConfig, "both_strands"),
    help="Average with the reverse complement, or not.  [default: as the model is meant to be read]",
)
batch_size_option = click.option(
    "--batch-size", type=click.IntRange(1), help="Windows a forward pass.  [default: by device]"
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default=default(InferenceConfig, "precision"),
    show_default=True,
    help="auto: bfloat16 on a GPU that has it and, for large models, on a CPU that is fast in it; else float32.",
)
device_option = click.option(
    "--device",
    default=default(InferenceConfig, "device"),
    show_default=True,
    help="auto: CUDA, then MPS, then CPU; or a torch device.",
)
processes_option = click.option(
    "-n",
    "--num-processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes on this machine: one a GPU, or sharing its cores.",
)
contigs_option = click.option(
    "--contigs",
    multiple=True,
    callback=names,
    metavar="NAMES",
    shell_complete=complete_contigs,
    help="Only these; commas or repeated.",
)
features_option = click.option(
    "--features",
    type=click.Path(),
    metavar="TABLE",
    help="Omics tracks of a model that reads them: name, file (bigWig, bedGraph, BED) and kind, separated by tabs.",
)
missing_features_option = click.option(
    "--missing-features",
    type=click.Choice(MISSING_FEATURES),
    default=MISSING_FEATURES[0],
    show_default=True,
    help="zero: do without tracks that are not given.",
)
