"""What edged counts and says: one method per happening that counts and logs together.

Counters are plain integers on small objects; health is made by reading them. Histograms have fixed buckets, so that
nothing here grows with time.
"""

from __future__ import annotations

import time
import traceback
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import structlog

from edged.records import Message, Reject

LOG_EVERY_S = 10.0
QUIET = frozenset({"other", "partial", "thinned"})
"""Reasons that are nobody's concern: a message that is not meant, the rest of a line that was under way."""
INTERNAL_ERROR = "internal_error"
"""The reason of a drop that is a fault of ours."""


def whereabouts(error: BaseException) -> str:
    """What went wrong, and where in edged, for whoever is to repair it."""
    places = traceback.extract_tb(error.__traceback__)
    where = f" in {places[-1].name}, {Path(places[-1].filename).name}:{places[-1].lineno}" if places else ""
    return f"{error!r}{where}; please report it"


BOUNDS = tuple(int(1000 * 2 ** (i / 2)) for i in range(50))
"""Of a histogram's buckets, in ns: they grow by a factor of sqrt(2) from 1 us."""


class Histogram:
    """Times in ns in buckets; p50 and p99 are right to within 20 %."""

    __slots__ = ("counts", "maximum", "sum", "total")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.maximum = 0
        self.sum = 0
        self.total = 0

    def add(self, value_ns: int, times: int = 1) -> None:
        self.counts[bisect_left(BOUNDS, value_ns)] += times
        self.total += times
        self.sum += value_ns * times
        if value_ns > self.maximum:
            self.maximum = value_ns

    def quantile_ms(self, q: float) -> float | None:
        """The bucket's upper bound below which the fraction `q` lies, in ms; None when nothing was added."""
        if not self.total:
            return None
        wanted, seen = q * self.total, 0
        for bound, count in zip(BOUNDS, self.counts, strict=False):
            seen += count
            if seen >= wanted:
                return round(min(bound, self.maximum) / 1e6, 3)
        return round(self.maximum / 1e6, 3)

    def summary(self) -> dict[str, float | None]:
        return {
            "p50_ms": self.quantile_ms(0.5),
            "p99_ms": self.quantile_ms(0.99),
            "max_ms": round(self.maximum / 1e6, 3) if self.total else None,
        }


class Rate:
    """Events a second over the last ten readings of a counter; health reads it once an interval."""

    __slots__ = ("_points",)

    def __init__(self) -> None:
        self._points: deque[tuple[int, int]] = deque(maxlen=10)

    def read(self, count: int, now_ns: int) -> float:
        first_count, first_ns = self._points[0] if self._points else (0, now_ns)
        self._points.append((count, now_ns))
        elapsed = now_ns - first_ns
        return round((count - first_count) * 1e9 / elapsed, 3) if elapsed > 0 else 0.0


class Losses:
    """What was dropped, one after the other, since anything came through: whether nothing else comes of what comes in.

    `came` is how much had come through by then. What the broker sends again, what asks for too much and what comes too late is
    dropped as it should be, and counts only when it goes on. What gave its place to another (`overflow`) is not noted: the other
    comes through, or is lost itself.
    """

    EXPECTED = frozenset({"busy", "duplicate", "expired", "memory", "restart", "several_rows", "shutdown", "superseded"})
    ROWS, WAIT_S, LONG_S = 3, 2.0, 10.0

    __slots__ = ("came", "detail", "faults", "latest", "reason", "rows", "since")

    def __init__(self, came: int, now: float) -> None:
        self.came = came
        self.since = self.latest = now
        self.rows = self.faults = 0
        self.reason = self.detail = ""

    def add(self, reason: str, times: int, detail: str, now: float) -> None:
        self.rows += times
        self.faults += times * (reason not in self.EXPECTED)
        self.latest, self.reason, self.detail = now, reason, detail

    def verdict(self, now: float) -> str:
        """A sentence, if nothing comes through; empty while it may be chance. One row is enough where nothing ever did."""
        is_enough = self.faults >= (self.ROWS if self.came else 1) and now - self.since >= self.WAIT_S
        goes_on = self.rows >= self.ROWS and self.latest - self.since >= self.LONG_S
        if not is_enough and not goes_on:
            return ""
        which = f"the last {self.rows} were lost, the newest" if self.rows > 1 else "the last one was lost,"
        return f"{which} as {self.reason}" + (f": {self.detail}" if self.detail else "")


class Drops:
    """Counts by reason, and a log line for each reason once in a while, with what was left unsaid in between.

    `came` says how much came through so far, where that is known.
    """

    __slots__ = ("_came", "_last", "_log", "_losses", "_name", "_now", "_unsaid", "by_reason", "details", "total")

    def __init__(self, name: str, now: Callable[[], float] = time.monotonic, came: Callable[[], int] | None = None) -> None:
        self.by_reason: dict[str, int] = {}
        self.details: dict[str, str] = {}
        """What was said of the last one of each reason, if anything."""
        self.total = 0
        self._came = came
        self._losses: Losses | None = None
        self._name = name
        self._log: Any = structlog.get_logger("edged")
        self._now = now
        self._last: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def add(self, reason: str, times: int = 1, **details: Any) -> None:
        """Counts `times` under `reason`; logs the first and then at most one line every 10 s for each reason."""
        self.by_reason[reason] = self.by_reason.get(reason, 0) + times
        self.total += times
        now = self._now()
        if detail := details.get("detail", ""):
            self.details[reason] = detail
        self.note(reason, times, detail, now)
        if now - self._last.get(reason, -LOG_EVERY_S) < LOG_EVERY_S:
            self._unsaid[reason] = self._unsaid.get(reason, 0) + times
            return
        self._last[reason] = now
        if more := self._unsaid.pop(reason, 0):
            details["more_since"] = more
        log = self._log.debug if reason in QUIET else self._log.warning
        log("dropped", where=self._name, reason=reason, count=times, **details)

    def note(self, reason: str, times: int, detail: str = "", now: float | None = None) -> None:
        """Something was lost that is counted elsewhere."""
        if self._came is None or reason == "overflow" or reason in QUIET or not times:
            return
        now = self._now() if now is None else now
        losses = self.losses
        if losses is None:
            losses = self._losses = Losses(self._came(), now)
        losses.add(reason, times, detail, now)

    @property
    def losses(self) -> Losses | None:
        """What was lost since anything came through; None if nothing was."""
        if self._losses is not None and self._came is not None and self._losses.came != self._came():
            self._losses = None
        return self._losses

    def forgive(self) -> None:
        """From here on things are done in another way: what was lost before says nothing of that."""
        self._losses = None

    def add_rejects(self, rejects: Iterable[Reject]) -> None:
        for r in rejects:
            self.add(r.reason, r.times, detail=r.detail, offset=r.offset, data=r.data[:64])


class PublishCounts:
    """The publish ledger: `made == acked + spooled + dropped + queued + in_flight` (QoS 0 counts as acked once sent).

    What is spooled is on disk; what becomes of it there is in the spool's own ledger."""

    __slots__ = ("acked", "drops", "filtered", "in_flight", "last", "made", "queued", "refusal", "spooled")

    def __init__(self, name: str, now: Callable[[], float] = time.monotonic) -> None:
        self.made = 0
        self.acked = 0
        self.spooled = 0
        self.queued = 0
        self.in_flight = 0
        self.filtered = 0
        self.refusal = ""
        """The topic, and why the broker refused what was last sent there; empty when it took it."""
        self.last: Message | None = None
        """The newest message, for who looks."""
        self.drops = Drops(name, now, lambda: self.acked + self.spooled)

    def balance(self) -> int:
        """Zero, always."""
        return self.made - self.acked - self.spooled - self.drops.total - self.queued - self.in_flight
