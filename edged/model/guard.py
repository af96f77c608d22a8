"""Whether a version does worse after its swap than the one before. Pure: numbers in, a reason or nothing out."""

from __future__ import annotations

from typing import NamedTuple

from edged.config.schema import Guard

MIN_ROWS = 20
"""Before so many rows nothing is judged but failures of all of them."""


class Tally(NamedTuple):
    """What became of the rows of one version: how many went through, failed, gave results that are not finite, and the time of
    their runs."""

    rows: int = 0
    failed: int = 0
    not_finite: int = 0
    run_ns: int = 0

    def since(self, start: Tally) -> Tally:
        return Tally(*(now - then for now, then in zip(self, start, strict=True)))

    @property
    def row_ns(self) -> float:
        """The mean time of a row; 0 if too few went through to tell."""
        return self.run_ns / self.rows if self.rows >= MIN_ROWS else 0.0


def worse(guard: Guard, row_ns_before: float, now: Tally) -> str:
    """Why the version is left; empty while it keeps to what is asked. `row_ns_before`: 0 where nobody knows."""
    if guard.failing and now.failed and now.failed >= now.rows:
        return f"all of its {now.rows} rows failed"
    if now.rows < MIN_ROWS:
        return ""
    if guard.failing and now.failed > now.rows // 2:
        return f"{now.failed} of {now.rows} rows failed"
    if guard.not_finite is not None and now.not_finite > guard.not_finite * now.rows:
        return f"{now.not_finite} of {now.rows} results are not finite; at most {guard.not_finite:g} of them may be"
    if guard.slower is not None and row_ns_before and now.row_ns > guard.slower * row_ns_before:
        took, before = now.row_ns / 1e6, row_ns_before / 1e6
        return f"a row takes {took:.3g} ms, and {before:.3g} ms before; at most {guard.slower:g} times that may be"
    return ""
