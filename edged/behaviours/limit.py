"""How many messages may leave: a bucket for each rate, which all must allow. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class Limit:
    """`rates` are per second. A second's worth, at least one, may leave at once."""

    __slots__ = ("_left", "_rates", "_since")

    def __init__(self, rates: Sequence[float]) -> None:
        self._rates = rates
        self._left = [max(1.0, rate) for rate in rates]
        self._since = 0

    def allows(self, now: int) -> bool:
        """Whether one may leave at `now` (monotonic ns); it then has."""
        if self._since:
            passed = (now - self._since) / 1e9
            self._left = [min(max(1.0, rate), left + passed * rate) for rate, left in zip(self._rates, self._left, strict=True)]
        self._since = now
        if any(left < 1.0 - 1e-9 for left in self._left):
            return False
        self._left = [left - 1.0 for left in self._left]
        return True
