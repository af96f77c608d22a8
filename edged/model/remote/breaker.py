"""Whether a peer may be asked now: after failures in a row it is left alone for a while."""

from __future__ import annotations

FAILURES = 5


class Breaker:
    """Opens after 5 failures in a row. When `cooldown_ns` is over one request tries, and what comes of it decides."""

    def __init__(self, cooldown_ns: int) -> None:
        self.cooldown_ns = cooldown_ns
        self._in_a_row = 0
        self._until = 0
        self._is_trying = False

    def allows(self, now: int) -> bool:
        """Whether a request may begin; while the circuit is half open the first that asks is the one that tries."""
        if not self._until:
            return True
        if now < self._until or self._is_trying:
            return False
        self._is_trying = True
        return True

    def is_open(self, now: int) -> bool:
        return self._until > 0 and (now < self._until or self._is_trying)

    def succeed(self) -> None:
        self._in_a_row, self._until, self._is_trying = 0, 0, False

    def fail(self, now: int) -> bool:
        """Whether it opens now."""
        self._in_a_row += 1
        opens = self._is_trying or (self._in_a_row >= FAILURES and not self._until)
        if opens:
            self._until, self._is_trying = now + self.cooldown_ns, False
        return opens

    def give_up(self) -> None:
        """The one that tried says nothing of the peer."""
        self._is_trying = False
