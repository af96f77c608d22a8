"""The commands. No settings live here: they are in the configuration file.

Heavy libraries are imported by the command that needs them, after the settings of the process are made.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable

from edged.commands.arguments.configuration import settle_configuration
from edged.commands.arguments.table import make_parser
from edged.errors import EX_CONFIG, EX_OK, EX_SOFTWARE, EX_USAGE, ConfigError, Fatal, Finding
from edged.system import process
from edged.system.terminal import look_of


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0; 64 for a command line, 69 when no daemon answers or another one runs, 78 for a configuration that cannot be
    run; 70 for a bug or a failure outside. `edged doctor`: 1 for warnings, 69 for worse."""
    process.set_up()
    try:
        return _command(argv)
    except ConfigError as error:
        complain_of(error.found)
        return EX_CONFIG
    except Fatal as error:
        process.complain(f"edged: {error}")
        return error.code
    except KeyboardInterrupt:
        return EX_SOFTWARE
    except BrokenPipeError:
        return EX_OK
    finally:
        with contextlib.suppress(Fatal, BrokenPipeError):  # there is something else to say
            process.flush()


def complain_of(found: Iterable[Finding]) -> None:
    """Problems of a configuration, on standard error, with the lines of the file that they are about."""
    from edged.commands.problems import problems_text

    process.complain(problems_text(found, look_of(sys.stderr)), is_clean=True)


def _command(argv: list[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    if not words:
        parser.print_help()
        return EX_OK
    if said := _slip(parser, words):
        process.complain(said)
        return EX_USAGE
    arguments = parser.parse_args(words)
    del parser  # a command may run for months
    settle_configuration(arguments)
    code: int = arguments.command(arguments)
    process.flush()  # a step of the user's may have printed
    return code


def _slip(parser: argparse.ArgumentParser, words: list[str], prog: str = "edged") -> str:
    """What to say of a word that is no command; empty where it is one."""
    below = next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
    if not below or not words or words[0].startswith("-"):
        return ""
    if words[0] in below:
        return _slip(below[words[0]], words[1:], f"{prog} {words[0]}")
    from edged.notation.words import did_you_mean

    meant = did_you_mean(words[0], list(below))
    fix = meant.replace('mean "', f'mean "{prog} ') if meant else f"; there are: {', '.join(below)}"
    return f'{prog}: "{words[0]}" is no command{fix}'


if __name__ == "__main__":
    sys.exit(main())
