"""Options and functions that several commands share."""

from __future__ import annotations

import logging
import os
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, cast, get_args

import click
from click.shell_completion import CompletionItem

from zflipon.config import DEFAULT_MODEL, MISSING_FEATURES, InferenceConfig, Precision
from zflipon.errors import InputError, printable
from zflipon.tracks.registry import list_extensions

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
"""Environment variables from which torch and tokenizers read the number of threads when they are imported."""


def default_of(kind: type, name: str) -> Any:
    """Return the default of a field of a configuration class, so that `zflipon.config` alone holds it."""
    return next(item.default for item in fields(kind) if item.name == name)


def split_names(_context, _parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Click callback: split the values of a repeatable option at commas; drop duplicates."""
    parts = (part.strip() for value in values for part in value.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def limit_threads(threads: int | None) -> None:
    """Set the number of CPU threads, before torch and tokenizers are imported."""
    if threads:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))


def log_to_stderr(quiet: bool = False, verbose: bool = False) -> None:
    """Print log messages on standard error, one line each."""
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


def print_data(text: str) -> None:
    """Print a table or JSON on standard output: unchanged in a file or pipe, without terminal escapes on a terminal."""
    click.echo(printable(text, keep="\n\t") if sys.stdout.isatty() else text, nl=False)


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


class InputPath(click.Path):
    """The path of an input that must exist. The check comes before the command imports torch, which takes seconds."""

    def __init__(self):
        super().__init__(path_type=Path)

    def convert(self, value, param, ctx):
        """Return the path, or raise `InputError` if there is nothing."""
        path = cast(Path, super().convert(value, param, ctx))
        is_completion = ctx is not None and ctx.resilient_parsing
        if not path.exists() and not is_completion:
            raise InputError(f"{path}: no such file")
        return path


def complete_models(_context, _parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a model: the names of bundled models, or else folders."""
    from zflipon.models.files import bundled

    names = [CompletionItem(name) for name in bundled() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="dir")]


def complete_contigs(context, _parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a contig from the index of the FASTA that precedes it on the command line."""
    # while the value of an option is being typed, click leaves the rest of the line unparsed
    genomes = (context.params.get("genome"), context.params.get("source"), *context.args)
    indices = (Path(f"{genome}.fai") for genome in genomes if genome)
    index = next((path for path in indices if path.is_file()), None)
    if index is None:
        return []
    lines = index.read_text(encoding="utf-8").splitlines()
    names = (line.split("\t", 1)[0] for line in lines)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


threads_option = click.option("-t", "--threads", type=click.IntRange(1), help="CPU threads.  [default: all]")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Print details.")
restart_option = click.option(
    "--restart", is_flag=True, help="Discard the finished work of a stopped run of the same output."
)
outputs_option = click.option(
    "-o",
    "--output",
    "outputs",
    type=click.Path(allow_dash=True),
    multiple=True,
    required=True,
    metavar="FILE",
    help=f"Track to write, repeatable. The extension chooses the format: {list_extensions()}; - is BED on standard "
    "output.",
)
force_option = click.option("--force", is_flag=True, help="Replace existing outputs.")
model_option = click.option(
    "-m",
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    shell_complete=complete_models,
    help="Model: name of a bundled model, folder, file or Hugging Face Hub id.",
)
both_strands_option = click.option(
    "--both-strands/--one-strand",
    default=default_of(InferenceConfig, "both_strands"),
    help="Average with the prediction of the reverse complement, or not.  [default: the model's]",
)
batch_size_option = click.option(
    "--batch-size", type=click.IntRange(1), help="Windows per forward pass.  [default: by device]"
)
precision_option = click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default=default_of(InferenceConfig, "precision"),
    show_default=True,
    help="Precision of the model's arithmetic. auto is bfloat16 on a GPU that supports it and, for compact and large "
    "models, on a CPU with bfloat16 instructions; otherwise float32. int8 is for transformers, such as "
    "DNABERT-2, on CPUs; zflipon doctor shows how fast and how close it is.",
)
device_option = click.option(
    "--device",
    default=default_of(InferenceConfig, "device"),
    show_default=True,
    help="Torch device, such as cpu or cuda:1. auto is CUDA, else MPS, else CPU.",
)
processes_option = click.option(
    "-n",
    "--num-processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes on this computer: one per GPU, or several that divide the CPU cores.",
)
contigs_option = click.option(
    "--contigs",
    multiple=True,
    callback=split_names,
    metavar="NAMES",
    shell_complete=complete_contigs,
    help="Use these contigs only; separate names by commas, or repeat the option.",
)
features_option = click.option(
    "--features",
    type=click.Path(),
    metavar="TABLE",
    help="Table of omics tracks for a model that reads them: name, file and kind, separated by tabs.",
)
missing_features_option = click.option(
    "--missing-features",
    type=click.Choice(MISSING_FEATURES),
    default=MISSING_FEATURES[0],
    show_default=True,
    help="If a track that the model reads is not given: stop (error), or predict without it (zero).",
)
track_line_option = click.option(
    "--track-line",
    is_flag=True,
    help="Begin text tracks with a track line, so that UCSC loads them as custom tracks. BED then has nine columns.",
)
header_option = click.option(
    "--header", is_flag=True, help="Name the columns of text tracks in a first line with #."
)
contig_aliases_option = click.option(
    "--contig-aliases",
    type=LocalPath(),
    metavar="TABLE",
    help="Names of contigs, as in chromAlias.txt of UCSC: each line has the names of one contig, separated by tabs. "
    "The chromosomes of hg19, hg38, T2T-CHM13, mm10 and mm39 need none.",
)
