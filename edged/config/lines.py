"""Which lines of a file may be shown beside a problem: one that may hold a secret is not.

Nobody can tell a secret by its looks, so a line is withheld for what its words say of it, a misspelt key included. A line that
is withheld without need costs a caret; one that is shown without right costs a password.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from edged.config.external import private_key, secret
from edged.config.introspection import attributes, tables_with_places
from edged.config.parsers.value import Value

_ALWAYS = re.compile(r"(?i)pass|pwd|secret|token|auth|credential|psk|[-_]key|//.*@|-----BEGIN")
_WORD = re.compile(r"[A-Za-z_]+")
_LIKENESS = 0.75


def shown_line(text: str, line: int, kind: str = "") -> str:
    """Line `line`, counted from 1, of a file; empty where it may hold a secret. `kind`: the table of the file that the problem is
    in, such as `broker`; empty where nobody knows, as in a text that is no TOML."""
    lines = text.split("\n")
    source = lines[line - 1].rstrip("\r") if line <= len(lines) else ""
    before = "\n".join(lines[: line - 1])
    if before.count('"""') % 2 or before.count("'''") % 2 or _ALWAYS.search(source):
        return ""
    secrets = _secret_keys(kind)
    if any(difflib.get_close_matches(word.lower(), secrets, 1, _LIKENESS) for word in _WORD.findall(source)):
        return ""
    return source


@cache
def _secret_keys(kind: str) -> list[str]:
    """The keys that hold secrets, of the tables below `kind`, or of all."""
    return sorted(
        {
            attribute.name
            for table, where in tables_with_places()
            if kind in ("", where[0])
            for attribute in attributes(table).values()
            if any(note.parse in (secret, private_key) for note in values_in(attribute.type))
        }
    )


def values_in(hint: Any) -> Iterator[Value]:
    """How the values of a key are written."""
    if get_origin(hint) is Annotated:
        yield from (note for note in get_args(hint)[1:] if isinstance(note, Value))
    for inner in get_args(hint):
        yield from values_in(inner)
