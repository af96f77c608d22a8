"""The end of a wake-up: what is put off until all that one read brought has been handed out, and runs before the loop goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Tail:
    """Whoever hands out what was read calls `open` before and `close` after; only in between is anything `add`ed."""

    __slots__ = ("_calls", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        self._calls: list[Callable[[], object]] = []

    def open(self) -> None:
        self.is_open = True

    def add(self, call: Callable[[], object]) -> None:
        """Calls it once, at the end of this wake-up. It must not raise."""
        self._calls.append(call)

    def close(self) -> bool:
        """The wake-up ends; whether anything was left to do."""
        self.is_open = False
        calls = self._calls
        if not calls:
            return False
        self._calls = []
        for call in calls:
            call()
        return True

    def around(self, work: Callable[[Any], Any]) -> Callable[[Any], None]:
        """`work` as a wake-up of its own."""

        def run(what: Any) -> None:
            self.is_open = True
            try:
                work(what)
            finally:
                self.is_open = False
                if self._calls:
                    self.close()

        return run
