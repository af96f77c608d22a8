from __future__ import annotations

import argparse

import pytest

from edged.cli import main
from edged.commands.arguments.running import TAP_STAGES
from edged.commands.arguments.table import make_parser
from edged.daemon.taps import STAGES
from edged.errors import EX_OK


def test_alone_it_prints_its_help_with_an_example_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == EX_OK
    said = capsys.readouterr().out
    (commands,) = (a.choices for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    examples = said.partition("examples:")[2].splitlines()[1:]
    assert [line.replace("sudo ", "").split()[1] for line in examples] == list(commands)


def test_the_stages_of_tap_are_those_of_the_daemon() -> None:
    """The parser has them as words, so that it need not import the daemon."""
    assert TAP_STAGES == STAGES
