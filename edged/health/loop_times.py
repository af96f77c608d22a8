"""How late the event loop is, and which stages block it. Counts; whoever calls logs and publishes."""

from __future__ import annotations

from typing import Any

from edged.telemetry import Histogram

EXPLAIN_EVERY_NS = 10 * 10**9


class LoopTimes:
    """`lag` is of the interval since it was cleared; `highest_ns` and the slow stages are since the start."""

    def __init__(self) -> None:
        self.lag = Histogram()
        self.highest_ns = 0
        self._slow: dict[str, tuple[int, int]] = {}
        self._next_news: dict[str, int] = {}

    def see_lag(self, ns: int) -> None:
        """The loop was so late."""
        self.lag.add(ns)
        self.highest_ns = max(self.highest_ns, ns)

    def see_slow(self, stage: str, ns: int, now: int) -> int:
        """A stage blocked the loop for this long. Returns how many times it has, if that is news; else 0."""
        count, longest = self._slow.get(stage, (0, 0))
        self._slow[stage] = (count + 1, max(longest, ns))
        if now < self._next_news.get(stage, 0):
            return 0
        self._next_news[stage] = now + EXPLAIN_EVERY_NS
        return count + 1

    def facts(self) -> dict[str, Any]:
        slow = {name: {"times": times, "longest_ms": ns // 10**6} for name, (times, ns) in self._slow.items()}
        lag = {**self.lag.summary(), "highest_ms": round(self.highest_ns / 1e6, 1)}
        return {"loop_lag": lag, **({"slow": slow} if slow else {})}
