"""Errors, named by what the caller must do.

`ConfigError`: refuse to start. `Retryable`: back off and try again. `Fatal`: leave the process.
A datum that cannot be used is no exception but a `records.Reject`: counted, shown, and the next one is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

EX_OK, EX_USAGE, EX_UNAVAILABLE, EX_SOFTWARE, EX_CONFIG = 0, 64, 69, 70, 78  # sysexits.h; systemd prints their names


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a configuration.

    `path` is the key's path (`pipeline.motor.publish[1].deadline`). `text` says what was expected and what was
    found, then the cure. `at` is where to point: the "value" of the key, the "key" itself, or the "table" it is missing from.
    """

    path: str
    text: str
    at: str = "value"
    is_warning: bool = False


class ConfigError(Exception):
    """The configuration cannot be run. Carries every problem of it, each already a full line for a person."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Retryable(Exception):
    """Something outside is not there now: back off and try again.

    `state` is one word for health (`missing`, `busy`, `forbidden`, `unplugged`, `refused`), `reason` a sentence with the cure.
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
