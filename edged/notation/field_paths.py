"""Paths of members in a payload: `pressure.in`, `rows.0.v`, `"a.b".c`, `values[id=Ch1.Tag1].v`, `^.device`.

Pure: what a path leads to is `decode.paths`' to say.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from edged.notation.words import shown


class Step(Enum):
    """A step of a path that names no member."""

    SELF = "."
    ROOT = "^"
    """The root of the message, of an element of `rows`."""


class Select(NamedTuple):
    """The element of an array whose member equals `value`; without a member, the element that equals it."""

    member: tuple[Part, ...]
    value: str


Part = str | int | Step | Select
Path = tuple[Part, ...]

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|\'([^\']*)\'')
_WORD = re.compile(r"[^.\[\"']*")
_SELECT = re.compile(r"\[([^\]=]*)=(?:\"((?:[^\"\\]|\\.)*)\"|([^\]]*))\]")


def parse_field_path(raw: str) -> Path:
    """A path as its parts; bare digits are an index. Raises ValueError."""
    if raw == Step.SELF.value:
        return (Step.SELF,)
    parts: list[Part] = []
    rest = raw
    while True:
        if not rest.startswith("["):
            part, rest = _name(rest, raw, is_first=not parts)
            parts.append(part)
        while rest.startswith("["):
            part, rest = _selection(rest, raw)
            parts.append(part)
        if not rest:
            return tuple(parts)
        if not rest.startswith("."):
            raise _bad(raw)
        rest = rest[1:]


def path_of_name(name: str) -> Path:
    """Where a field without a path of its own is: its name read as one, else the name as it stands."""
    try:
        return parse_field_path(name)
    except ValueError:
        return (name,)


def flat(path: Path) -> str:
    """The path as one name, for formats whose members have dots in their names."""
    text = ""
    for part in path:
        if isinstance(part, Select):
            text += f"[{flat(part.member)}={part.value}]"
        else:
            text += f"{'.' if text else ''}{part.value if isinstance(part, Step) else part}"
    return text


def _name(rest: str, raw: str, is_first: bool) -> tuple[Part, str]:
    quoted = _QUOTED.match(rest)
    if quoted:
        return quoted[2] if quoted[2] is not None else re.sub(r"\\(.)", r"\1", quoted[1]), rest[quoted.end() :]
    word = _WORD.match(rest)[0]  # type: ignore[index]  # it matches nothing too
    rest = rest[len(word) :]
    if not word or rest[:1] in ('"', "'"):
        raise _bad(raw)
    if is_first and word == Step.ROOT.value:
        return Step.ROOT, rest
    is_index = word.isdecimal() and word.isascii() and word == str(int(word))
    return int(word) if is_index else word, rest


def _selection(rest: str, raw: str) -> tuple[Select, str]:
    found = _SELECT.match(rest)
    if found is None:
        raise _bad(raw)
    member, quoted, plain = found.groups()
    rest = rest[found.end() :]
    value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    return Select(parse_field_path(member) if member else (), value), rest


def _bad(raw: str) -> ValueError:
    return ValueError(f'expected a path such as pressure.in, rows.0.v, "a.b".c or values[id=T1].v, found {shown(raw)}')
