"""How often Home Assistant said that it has started. Whoever announces looks; who takes the messages counts."""

from __future__ import annotations


class Births:
    def __init__(self) -> None:
        self.count = 0

    def take(self, payload: bytes) -> None:
        """A message on a birth topic: it also says there that it stops."""
        self.count += payload.strip() == b"online"
