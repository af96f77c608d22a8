"""Which inputs are worth a look: those that the model was unsure of, and a random share. Pure: time and chance are arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edged.clock.caps import Caps
from edged.records import Cap, Result
from edged.results.when import Condition

UNSURE, AUDIT = "unsure", "audit"


class Choice:
    """Of those that `when` holds for at most `limits`. Of all, as many as `audit` says on average, at random moments: the time to
    the next is drawn again after each, so that neither a restart nor a reload favours anything. `draw` gives exponentially
    distributed numbers of mean 1."""

    def __init__(
        self, when: Condition | None, limits: Sequence[Cap], audit: Cap | None, draw: Callable[[], float], now: int
    ) -> None:
        self._when = when
        self._caps = Caps(limits)
        self._apart = audit.period / audit.count if audit is not None else 0.0
        self._draw = draw
        self._next = self._drawn(now)
        self.left_out = 0
        """Those beyond the limits."""

    def of(self, result: Result, now: int) -> str | None:
        """Why this one is to be kept, None if it is not. `now` is monotonic ns."""
        if self._next is not None and now >= self._next:
            self._next = self._drawn(now)
            return AUDIT
        if self._when is None or not self._when.holds(result.body):
            return None
        if not self._caps.take(now):
            self.left_out += 1
            return None
        return UNSURE

    def take_over(self, old: Choice) -> None:
        """After a reload: what was kept before counts on."""
        self._caps.take_over(old._caps)
        self.left_out = old.left_out

    def _drawn(self, now: int) -> int | None:
        return now + int(self._apart * self._draw()) if self._apart else None
