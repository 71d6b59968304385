"""The command line: a file per verb, each parses, calls one library function and writes.

Verbs are imported when they are asked for, so that ``--help`` needs neither torch nor transformers.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Mapping

import click

from zflipon import __version__
from zflipon.errors import MainProcessError, Stopped, ZfliponError, printable

COMMANDS = {
    "annotate": "Write the Z-DNA track of a genome.",
    "variants": "Tell what variants do to Z-DNA.",
    "evaluate": "Hold tracks against labels.",
    "explain": "Tell which sequence made the calls.",
    "bundle": "Gather tracks for browsers, with a report.",
    "view": "Show tracks in the web browser, from this machine.",
    "train": "Train a model by a recipe.",
    "models": "List models and print a checkpoint's story.",
    "provenance": "Tell how a track was made, and read a place again.",
    "doctor": "Look at this installation: devices, agreement, speed.",
}
"""Verb → one line of help; the verb's click command has its name in ``zflipon.cli.<verb>``."""


class Verbs(click.Group):
    """A group that imports a verb when it is used.

    Parameters
    ----------
    verbs : mapping of str to str
        Verb → one line of help.
    package : str
        Where the verb's module lies, which holds a click command of its name.
    """

    def __init__(self, *args, verbs: Mapping[str, str], package: str, **settings):
        super().__init__(*args, **settings)
        self.verbs, self.package = verbs, package

    def list_commands(self, _context) -> list[str]:
        """Return the verbs in the order in which a newcomer meets them."""
        return list(self.verbs)

    def get_command(self, _context, name: str) -> click.Command | None:
        """Import the verb's module."""
        if name not in self.verbs:
            return None
        return getattr(importlib.import_module(f"{self.package}.{name}"), name)

    def format_commands(self, _context, formatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.verbs.items()))


@click.group(
    cls=Verbs,
    verbs=COMMANDS,
    package=__name__,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="zflipon %(version)s")
def cli() -> None:
    """Find Z-DNA (left-handed DNA) in whole genomes with DNA language models."""


def main() -> None:
    """Run the command line; an error of the user's is one line and exit status 1, a signal 128 + its number."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = cli.main(prog_name="zflipon", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except click.exceptions.Abort:  # click's name for Ctrl-C
        click.echo("zflipon: stopped", err=True)
        status = 130
    except Stopped as stopped:
        click.echo(f"zflipon: {printable(stopped)}", err=True)
        status = 128 + stopped.signal_number
    except MainProcessError:
        status = 1
    except ZfliponError as error:
        click.echo(f"zflipon: error: {printable(error)}", err=True)
        status = 1
    except BrokenPipeError:  # the reader of our stdout has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    finally:
        _part()
    sys.exit(status or 0)


def _part() -> None:
    """Leave the other processes of a run: threads that join them may abort an interpreter which ends before they do."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _terminate(number: int, _frame) -> None:
    """Leave by the front door, so that nothing half-written stays behind."""
    click.echo("zflipon: terminated", err=True)
    sys.exit(128 + number)
