"""Whether a version does worse after its swap than the one before. Pure: numbers in, a reason or nothing out."""

from __future__ import annotations

from typing import NamedTuple

from edged.config.schema import Guard
from edged.telemetry import BOUNDS

MIN_ROWS = 20
"""Before so many rows nothing is judged but failures of all of them."""


class Pace(NamedTuple):
    """The time of a row: the mean, which one hiccup moves, and the median, which is right to within 20 %."""

    mean: float = 0.0
    median: float = 0.0

    def times(self, before: Pace) -> float:
        """How many times as long as before, by whichever of the two says less; 0 where nobody knows."""
        if not before.mean or not before.median:
            return 0.0
        return min(self.mean / before.mean, self.median / before.median)


class Tally(NamedTuple):
    """What became of the rows of one version: how many went through, failed, gave results that are not finite; and the time of
    their runs, as a sum and in the buckets of a `Histogram`."""

    rows: int = 0
    failed: int = 0
    not_finite: int = 0
    run_ns: int = 0
    runs: int = 0
    times: tuple[int, ...] = ()

    def since(self, start: Tally) -> Tally:
        return Tally(
            self.rows - start.rows,
            self.failed - start.failed,
            self.not_finite - start.not_finite,
            self.run_ns - start.run_ns,
            self.runs - start.runs,
            tuple(now - then for now, then in zip(self.times, start.times or (0,) * len(self.times), strict=True)),
        )

    @property
    def row_ns(self) -> Pace:
        """How long a row takes; 0 if too few went through to tell."""
        if self.rows < MIN_ROWS or not self.runs:
            return Pace()
        seen = 0
        for bound, count in zip(BOUNDS, self.times, strict=False):
            seen += count
            if 2 * seen >= self.runs:
                return Pace(self.run_ns / self.rows, bound * self.runs / self.rows)
        return Pace(self.run_ns / self.rows, self.run_ns / self.rows)


def worse(guard: Guard, before: Pace, now: Tally) -> str:
    """Why the version is left; empty while it keeps to what is asked. `before`: the pace of that one."""
    if guard.failing and now.failed and now.failed >= now.rows:
        return f"all of its {now.rows} rows failed"
    if now.rows < MIN_ROWS:
        return ""
    if guard.failing and now.failed > now.rows // 2:
        return f"{now.failed} of {now.rows} rows failed"
    if guard.not_finite is not None and now.not_finite > guard.not_finite * now.rows:
        return f"{now.not_finite} of {now.rows} results are not finite; at most {guard.not_finite:g} of them may be"
    if guard.slower is not None and (ratio := now.row_ns.times(before)) > guard.slower:
        took, ran = f"{now.row_ns.mean / 1e6:.3g} ms", f"{before.mean / 1e6:.3g} ms"
        return f"a row takes {took}, and {ran} before: {ratio:.3g} times as long, and {guard.slower:g} times may be"
    return ""
