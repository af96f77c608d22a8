"""Problems of a configuration as a person reads them: a line, the line of the file that it is about, and a caret. Pure."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable

from edged.errors import Finding
from edged.system.readable import readable, readable_lines
from edged.system.terminal import BOLD, CYAN, DIM, RED, YELLOW, Look

JSON_SCHEMA_VERSION = 1
"""Of what `edged check --json` prints; it goes up when a reader of the older form would be misled."""
_TOKEN = re.compile(r"\"[^\"]*\"?|'[^']*'?|[\w.+-]+|.|$")
_INDENT = "    "


def problems_text(found: Iterable[Finding], look: Look) -> str:
    """All of them, one below the other."""
    return "\n".join(_one(finding, look) for finding in found)


def _one(finding: Finding, look: Look) -> str:
    colour = YELLOW if finding.is_warning else RED
    level = look.paint("warning", BOLD, YELLOW) + ": " if finding.is_warning else ""
    place, key, text = readable(finding.place), readable(finding.key), readable_lines(finding.text)
    head = ": ".join(part for part in (place, key, text) if part)
    if look.width:
        head = "\n".join(line for one in head.split("\n") for line in _wrapped(one, look.width))
    for part, codes in ((place, (BOLD,)), (key, (BOLD, colour))):
        if part:
            head = head.replace(part, look.paint(part, *codes), 1)
    return level + head + _excerpt(finding, look, colour)


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent=_INDENT, break_on_hyphens=False, break_long_words=False) or [""]


def _excerpt(finding: Finding, look: Look, colour: str) -> str:
    if not finding.source.strip():
        return ""
    number = str(finding.line)
    at = min(finding.column, len(finding.source) + 1) - 1
    before, token = _shown(finding.source[:at]), _shown((_TOKEN.match(finding.source, at) or [""])[0])
    after = _shown(finding.source[at:])[len(token) :]
    if look.width and _columns(before + token + after) > (room := look.width - len(number) - 5):
        before, token, after = _cut(before, token, after, room)
    caret = " " * _columns(before) + look.paint("^" * max(1, _columns(token)), BOLD, colour)
    gutter = look.paint(f"{number} |", DIM, CYAN), look.paint(f"{' ' * len(number)} |", DIM, CYAN)
    return f"\n  {gutter[0]} {before}{token}{after}".rstrip() + f"\n  {gutter[1]} {caret}"


def _shown(text: str) -> str:
    return readable(text.replace("\t", " "))


def _cut(before: str, token: str, after: str, room: int) -> tuple[str, str, str]:
    """The stretch of the line around what is meant."""
    token = token[: room // 2]
    if len(before) > room // 3:
        before = "..." + before[len(before) - room // 3 + 3 :]
    return before, token, after[: max(0, room - len(before) - len(token) - 3)] + "..."


def _columns(text: str) -> int:
    """What a text takes on a terminal: letters of East Asia take two columns each."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)
