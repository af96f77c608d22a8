"""The commands that print what edged knows about itself."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from edged.commands.arguments.parser import Commands
from edged.errors import EX_OK
from edged.late import Late
from edged.system import process
from edged.system.terminal import look_of

if TYPE_CHECKING:
    from edged.commands.completions import Command

SHELLS: dict[str, Late[Callable[[list[Command]], str]]] = {
    "bash": Late("edged.commands.completions:bash"),
    "zsh": Late("edged.commands.completions:zsh"),
    "fish": Late("edged.commands.completions:fish"),
}


def add_help(commands: Commands) -> None:
    about = commands.add(
        "help", "explain a key, a table, a state or the reason of a drop, or print a page of the manual", "edged help silent"
    )
    about.add_argument("topic", nargs="?", metavar="WORD", help="such as baudrate, pipeline.window, silent or troubleshooting")
    about.set_defaults(command=_help)


def _help(arguments: argparse.Namespace) -> int:
    from edged.commands.help import show

    return show(arguments.topic, look_of(sys.stdout))


def add_schema(commands: Commands) -> None:
    schema = commands.add(
        "schema", "print the JSON Schema of the configuration, for an editor", "edged schema > edged.schema.json"
    )
    schema.set_defaults(command=_schema)


def _schema(arguments: argparse.Namespace) -> int:
    from edged.config.json_schema import json_schema

    process.say(json.dumps(json_schema(), indent=2))
    return EX_OK


def add_completions(commands: Commands) -> None:
    completions = commands.add(
        "completions",
        "print the script with which a shell completes edged commands",
        "edged completions bash > ~/.local/share/bash-completion/completions/edged",
    )
    completions.add_argument("shell", choices=tuple(SHELLS), help="which shell")
    completions.set_defaults(command=_completions)


def _completions(arguments: argparse.Namespace) -> int:
    from edged.commands.arguments.table import make_parser
    from edged.commands.completions import commands_of

    process.say(SHELLS[arguments.shell].get()(list(commands_of(make_parser()))).rstrip())
    return EX_OK
