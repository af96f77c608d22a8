"""The parser of the command line, and how a command is added to it."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from edged.errors import EX_USAGE
from edged.system import process


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

    def add(self, name: str, said: str, example: str) -> argparse.ArgumentParser:
        self.examples.append(example)
        form = argparse.RawDescriptionHelpFormatter
        text = said[:1].upper() + said[1:] + "."
        return self._below.add_parser(name, help=said, description=text, epilog=f"example: {example}", formatter_class=form)
