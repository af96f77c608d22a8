"""What a port was asked, as counts."""

from __future__ import annotations

import msgspec


class Asked(msgspec.Struct):
    """What was sent, and what came of it. `skipped` bytes stood before an answer or were it."""

    messages: int = 0
    bytes: int = 0
    answered: int = 0
    unanswered: int = 0
    skipped: int = 0

    def facts(self) -> dict[str, int]:
        return {
            "messages": self.messages,
            "bytes": self.bytes,
            "answered": self.answered,
            "unanswered": self.unanswered,
            "skipped_bytes": self.skipped,
        }
