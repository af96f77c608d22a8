"""Whether a broker acknowledges what it was given.

A broker may answer pings and acknowledge nothing, for ever: a quota, a full disk behind it. What it has not been given yet, on a
thin line, it cannot acknowledge: so the time counts from when its kernel took the last byte of what it owes an answer to.
"""

from __future__ import annotations


class AckWatch:
    """One for each link. `reason` says why the last connection was given up, until something is acknowledged."""

    def __init__(self) -> None:
        self.reason = ""
        self.begin()

    def begin(self) -> None:
        """A new connection."""
        self.has_acknowledged = False
        self._is_owed = False
        self._since = 0.0  # the broker last acknowledged something, or owed nothing, or took in what it is to acknowledge
        self._ends = 0  # what it is to acknowledge, in bytes of the link
        self._delivered = 0

    def acknowledged(self) -> None:
        self.has_acknowledged, self._is_owed = True, False

    def look(self, now_s: float, is_owed: bool, delivered: int, written: int) -> float:
        """How long the broker has owed an acknowledgement, in seconds; to be called now and then. `delivered` bytes are with its
        kernel, of `written`."""
        was_owed, self._is_owed = self._is_owed, is_owed
        before, self._delivered = self._delivered, delivered
        if not (was_owed and is_owed):
            self._since, self._ends = now_s, written
        elif before < self._ends and delivered > before:
            self._since = now_s
        return now_s - self._since
