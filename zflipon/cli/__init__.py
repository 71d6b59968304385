"""The command line. One module per command: it parses the arguments, calls one workflow and prints the result.

Commands are imported when they are used, so that ``--help`` imports neither torch nor transformers.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress
from io import TextIOWrapper

import click

from zflipon import __version__
from zflipon.cli.groups import CommandGroup, StdoutClosed
from zflipon.cli.memory import collect_garbage_rarely, end_without_collection, keep_freed_memory
from zflipon.errors import MainProcessError, Stopped, ZfliponError, printable

SECTIONS = {
    "Annotate": {
        "annotate": "Write the Z-DNA tracks of a genome.",
        "merge": "Write tracks from the parts of an annotation.",
        "variants": "Score how variants change Z-DNA.",
        "evaluate": "Compare tracks with labelled intervals.",
        "calibrate": "Choose the threshold for a stated precision.",
    },
    "Interpret": {
        "genes": "Find the genes, features and repeats of calls.",
        "compare": "Compare call sets or tracks with each other.",
        "explain": "Find the sequence that caused the calls.",
        "view": "Show tracks in a genome browser on this computer.",
    },
    "Train": {
        "train": "Train a model from a recipe.",
        "models": "List, inspect, import and convert models.",
        "reproduce": "Reproduce the tables of the paper.",
    },
    "Share and check": {
        "bundle": "Make a folder of tracks for genome browsers, with a report.",
        "provenance": "Show how a track was made, and verify it.",
        "doctor": "Check this installation: devices, results, speed.",
    },
}
"""Section of the help page → command → one line of help. Module ``zflipon.cli.NAME`` holds the command ``NAME``."""

COMMANDS = {name: text for section in SECTIONS.values() for name, text in section.items()}
"""Command → one line of help."""


_ERRORS_OF_NAMES = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
"""Errors of a named file that are no bugs, wherever they occur: names are used in many places."""

_ERRORS_OF_STREAMS = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT, errno.EFBIG)
"""Errors of a file without a name that concern standard output."""


@click.group(
    cls=CommandGroup,
    sections=SECTIONS,
    package=__name__,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="%(version)s")
def cli() -> None:
    """Find Z-DNA (left-handed DNA) in whole genomes with DNA language models."""


def main() -> None:
    """Run the command line and exit: 0, 1 for an error of the user, 2 for wrong usage, 128 + number for a signal."""
    collect_garbage_rarely()
    keep_freed_memory()

    from zflipon.cli.launch import follow_launcher

    _prepare_streams()
    follow_launcher()
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _terminate)
    try:
        status = _run()
    except SystemExit as error:
        status = error.code
    end_without_collection()
    if not _leave_process_group():
        _flush_streams()
        os._exit(status if isinstance(status, int) else 1)
    sys.exit(status)


def _run() -> int:
    """Run the command and return the exit status. Errors of the user are printed as one line."""
    try:
        status = cli.main(prog_name="zflipon", standalone_mode=False) or 0
        sys.stdout.flush()
        return status
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("zflipon: stopped", err=True)
        return 128 + signal.SIGINT
    except Stopped as stopped:
        click.echo(f"zflipon: {printable(stopped)}", err=True)
        return 128 + stopped.signal_number
    except MainProcessError:  # the main process prints the message
        return 1
    except ZfliponError as error:
        click.echo(f"zflipon: error: {printable(error)}", err=True)
        return 1
    except (StdoutClosed, BrokenPipeError):
        _discard_stdout()
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.filename is not None and error.errno in _ERRORS_OF_NAMES:
            click.echo(f"zflipon: error: {printable(error.filename)}: {error.strerror}", err=True)
            return 1
        if error.filename is not None or error.errno not in _ERRORS_OF_STREAMS:
            raise
        _discard_stdout()
        click.echo(f"zflipon: error: standard output cannot be written ({error.strerror})", err=True)
        return 1


def _prepare_streams() -> None:
    """Make standard streams usable: none is closed, and names that the terminal cannot show do not fail."""
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: a data file would get the number of the stream
            os.set_inheritable(os.open(os.devnull, mode), True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if not isinstance(sys.stdout, TextIOWrapper):  # replaced by a program that embeds this one
        return
    if not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    else:
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard_stdout() -> None:
    """Discard buffered output, so that the interpreter does not fail when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def _leave_process_group() -> bool:
    """Leave the other processes of a run. Return False if the interpreter must end at once."""
    module = sys.modules.get("zflipon.jobs.distributed")
    return module is None or module.leave_process_group()


def _terminate(number: int, _frame) -> None:
    """Exit through all context managers, so that no temporary file stays behind."""
    click.echo("zflipon: terminated", err=True)
    sys.exit(128 + number)
