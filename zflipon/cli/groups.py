"""Click groups whose commands are imported when they are used, listed in sections."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from difflib import get_close_matches

import click


class StdoutClosed(Exception):
    """The reader of standard output went away, as with ``| head``.

    Not an `OSError`: click would catch it and exit with status 1.
    """


class CommandGroup(click.Group):
    """A group that imports a command's module when the command is used, so that ``--help`` stays fast.

    Parameters
    ----------
    sections : mapping of str to mapping of str to str
        Section heading → command name → one line of help.
    package : str
        Package of the commands. Module ``NAME`` holds a click command ``NAME``.
    """

    def __init__(self, *args, sections: Mapping[str, Mapping[str, str]], package: str, **settings):
        super().__init__(*args, **settings)
        self.sections, self.package = sections, package
        self.summaries = {name: text for section in sections.values() for name, text in section.items()}

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the sections."""
        return list(self.summaries)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import and return a command; None if the name is unknown."""
        if name not in self.summaries:
            return None
        return getattr(importlib.import_module(f"{self.package}.{name}"), name)

    def resolve_command(self, context: click.Context, args: list[str]):
        """Return the command that the arguments name; suggest a similar one if the name is unknown."""
        try:
            return super().resolve_command(context, args)
        except click.UsageError as error:
            similar = get_close_matches(args[0], self.summaries, n=1)
            if not similar:
                raise
            message = f"{error.message.rstrip('.')}. Did you mean '{similar[0]}'?"
            raise click.UsageError(message, error.ctx) from error

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections of the help page, without importing the commands."""
        width = max(map(len, self.summaries))
        for heading, section in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), text) for name, text in section.items()])

    def make_context(self, *args, **settings) -> click.Context:
        """Parse the arguments; raise `StdoutClosed` if help has no reader."""
        try:
            return super().make_context(*args, **settings)
        except BrokenPipeError as error:
            raise StdoutClosed from error

    def invoke(self, context: click.Context):
        """Run the command; raise `StdoutClosed` if its output has no reader."""
        try:
            return super().invoke(context)
        except BrokenPipeError as error:
            raise StdoutClosed from error
