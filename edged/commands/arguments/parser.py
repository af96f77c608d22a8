"""The parser of the command line, and how a command is added to it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from edged.errors import EX_USAGE
from edged.system import process

Command = Callable[[argparse.Namespace], int]
"""Carries out a command, and returns the exit status."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")

    def _print_message(self, message: str, file: object = None) -> None:
        """argparse's own hides what cannot be written."""
        (process.say if file is sys.stdout else process.complain)(message.rstrip("\n"))


class Commands:
    """Adds commands to the parser, each with an example, which `edged` alone shows as well."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._below = parser.add_subparsers(required=True, metavar="COMMAND")
        self.examples: list[str] = []

    def add(self, name: str, said: str, example: str, run: Command) -> argparse.ArgumentParser:
        """A command that `run` carries out; its arguments are added to the parser that comes back."""
        parser = self._add(name, said, example)
        parser.set_defaults(command=run)
        return parser

    def group(self, name: str, said: str, example: str) -> Commands:
        """A command with commands of its own, such as `edged model inspect`."""
        return Commands(self._add(name, said, example))

    def _add(self, name: str, said: str, example: str) -> argparse.ArgumentParser:
        self.examples.append(example)
        form = argparse.RawDescriptionHelpFormatter
        text = said[:1].upper() + said[1:] + "."
        return self._below.add_parser(name, help=said, description=text, epilog=f"example: {example}", formatter_class=form)
