"""What a terminal can show: colours, and lines of its width."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

import msgspec

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"
NARROWEST = 40


class Look(msgspec.Struct, frozen=True):
    """How text is shown on one stream. `width`: columns of the terminal, 0 where it is none and lines may have any length."""

    has_colours: bool = False
    width: int = 0

    def paint(self, text: str, *codes: str) -> str:
        """`text` in colours, where there are any. What comes from outside has been made readable before."""
        return f"\033[{';'.join(codes)}m{text}\033[0m" if self.has_colours and codes and text else text


def look_of(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Look:
    """NO_COLOR and FORCE_COLOR are as at https://no-color.org and https://force-color.org: any value that is not empty."""
    is_terminal = stream.isatty()
    if environ.get("NO_COLOR"):
        has_colours = False
    elif environ.get("FORCE_COLOR"):
        has_colours = True
    else:
        has_colours = is_terminal and environ.get("TERM", "dumb") != "dumb"
    if not is_terminal:
        return Look(has_colours)
    import shutil  # not before `process.set_up`, which puts off what it imports in turn

    return Look(has_colours, max(NARROWEST, shutil.get_terminal_size().columns))
