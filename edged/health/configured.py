"""What is to be said of the configuration: what runs, what is wrong with the file, what waits for the next start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from edged.config.load import place_of

MAX_ERRORS = 20
"""Problems of a refused configuration that are published; the log has all."""


class Fallback(NamedTuple):
    """The file has `errors`; what runs is what ran last without a fault, `kept` then."""

    errors: tuple[str, ...]
    kept: str


class Configured:
    """`digest` is that of what runs. `last_good`: when what runs was kept, where the file could not be used; else empty."""

    def __init__(self, digest: str, fallback: Fallback | None) -> None:
        self.digest = digest
        self.errors: tuple[str, ...] = fallback.errors if fallback is not None else ()
        self.last_good = fallback.kept if fallback is not None else ""
        self.at_start: tuple[str, ...] = ()

    def refused(self, errors: Sequence[str]) -> None:
        """A reload found these in the file, and changed nothing."""
        self.errors = tuple(errors)

    def taken(self, at_start: tuple[str, ...], of_file: bool) -> bool:
        """A reload took effect, but for `at_start`; whether the file is right again after a start without it. `of_file` False: it
        was of models only, so that what is wrong with the file still is."""
        self.at_start = at_start
        if not of_file:
            return False
        self.errors = ()
        was_fallback, self.last_good = bool(self.last_good), ""
        return was_fallback

    @property
    def places(self) -> list[str]:
        """What the network learns of the file's errors: their words may be those of the file, and everybody reads the topics."""
        return [place_of(line) for line in self.errors[:MAX_ERRORS]]

    def facts(self) -> dict[str, Any]:
        return {
            "config": self.digest,
            **({"config_errors": self.errors[:MAX_ERRORS]} if self.errors else {}),
            **({"config_last_good": self.last_good} if self.last_good else {}),
            **({"config_at_start": self.at_start} if self.at_start else {}),
        }
