"""Errors, named by what the caller must do.

`ConfigError`: refuse to start. `Retryable`: back off and try again. `Fatal`: leave the process.
A datum that cannot be used is no exception but a `records.Reject`: counted, shown, and the next one is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

EX_OK, EX_USAGE, EX_UNAVAILABLE, EX_SOFTWARE, EX_CONFIG = 0, 64, 69, 70, 78  # sysexits.h; systemd prints their names


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong in a configuration.

    `path` is the key's path (`pipeline.motor.publish[1].deadline`). `text` says what was expected and what was
    found, then the fix. `at` is where to point: the "value" of the key, the "key" itself, or the "table" it is missing from.
    """

    path: str
    text: str
    at: str = "value"
    is_warning: bool = False


class Finding(msgspec.Struct, frozen=True):
    """A problem as people and editors are told of it: in which file, and where.

    `line` and `column` are counted from 1; 0 where the whole file is meant. `source` is that line of the file, empty where it
    may hold a secret.
    """

    file: str
    text: str
    line: int = 0
    column: int = 0
    key: str = ""
    source: str = ""
    is_warning: bool = False

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def __str__(self) -> str:
        """One line for a person: `file:line:column: key: expected, found; fix`."""
        return ": ".join(part for part in (self.place, self.key, self.text) if part)

    def facts(self) -> dict[str, str | int | None]:
        """The same as data."""
        message, fix = said_and_fix(self.text)
        where = {"path": self.file, "line": self.line or None, "column": self.column or None}
        return {**where, "key": self.key or None, "message": message, "fix": fix or None}


def said_and_fix(text: str) -> tuple[str, str]:
    """What is wrong, and how to fix it: the two stand on either side of a semicolon outside of quotes."""
    found = re.match(r'((?:"[^"]*"|[^";]|;(?! )|")*?); (.*)', text, re.DOTALL)
    return (found[1], found[2]) if found else (text, "")


class ConfigError(Exception):
    """The configuration cannot be run. Carries every problem of it; a text stands for a problem without a place."""

    def __init__(self, found: Iterable[Finding | str]) -> None:
        self.found = [Finding("", one) if isinstance(one, str) else one for one in found]
        super().__init__("\n".join(self.lines))

    @property
    def lines(self) -> list[str]:
        """A full line for a person each."""
        return [str(one) for one in self.found]


class Retryable(Exception):
    """Something outside is not there now: back off and try again.

    `state` is one word for health (`missing`, `busy`, `forbidden`, `unplugged`, `refused`), `reason` a sentence with the fix.
    """

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(f"{state}: {reason}")
        self.state = state
        self.reason = reason


class Fatal(Exception):
    """The process cannot go on; `code` is its exit status."""

    def __init__(self, reason: str, code: int = EX_SOFTWARE) -> None:
        super().__init__(reason)
        self.code = code
