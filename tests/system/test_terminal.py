from __future__ import annotations

import io

import pytest

from edged.system.terminal import BOLD, RED, Look, look_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "has_colours"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (io.StringIO(), {"TERM": "xterm"}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (io.StringIO(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colours(stream: io.StringIO, environ: dict[str, str], has_colours: bool) -> None:
    assert look_of(stream, environ).has_colours is has_colours


def test_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    assert look_of(Terminal(), {}).width == 72
    assert look_of(io.StringIO(), {}).width == 0


def test_paint() -> None:
    assert Look(True).paint("a", BOLD, RED) == "\033[1;31ma\033[0m"
    assert Look(False).paint("a", BOLD, RED) == "a"
