"""Resident memory against the budget while the daemon runs: how bad it is, and what to do about it, decided once a second.

    ok      at most nine tenths of the budget, or the plan where that is more
    tight   above that: trim, then drop the caches, then trim again ever less often
    over    above the budget: the same, then shed pipelines one a second, the least important first

A level is left only when memory stays well below where it began, or below it for long, and what was shed comes back one pipeline
at a time, ever more slowly where that made memory go over again: so nothing swings to and fro. Pure: `read` decides, the
caller (`runtime.relief`) acts, and nothing here or there ever ends the process.
"""

from __future__ import annotations

from typing import NamedTuple

TIGHT = 0.9
"""Above this share of the budget memory is `tight`."""
HIGHEST_TIGHT = 0.98
"""Where the plan fills the budget, `tight` begins here: trimming comes before shedding."""
MARGIN = 0.03
CALM_READINGS, PATIENT_READINGS = 3, 30
"""A level is left after so many readings in a row below where it began: the first if the last of them is `MARGIN` of the budget
below, else the second."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 10, 600
"""Between two trims: doubled while they give nothing back."""
WORTH = 1024 * 1024
"""Bytes that make a trim worth repeating soon."""
FIRST_REST_S, LONGEST_REST_S = 4, 384
"""Before a shed pipeline comes back: doubled whenever memory is over again soon after one did,"""
RELAPSE_S = 60
"""within so many seconds, or twice the rest where that is more."""


class Orders(NamedTuple):
    """What to do now. `shed` is how many pipelines are to be shed from now on, counted from the least important."""

    trim: bool
    drop_caches: bool
    shed: int


class Governor:
    """`budget` and `planned` in bytes; `pipelines` is how many could be shed. `level` is `ok`, `tight` or `over`."""

    def __init__(self, budget: int, planned: int, pipelines: int) -> None:
        self.level = "ok"
        self.shed = 0
        self.budget = budget
        self.tight_at = min(max(int(TIGHT * budget), planned), int(HIGHEST_TIGHT * budget))
        self._pipelines = pipelines
        self._margin = int(MARGIN * budget)
        self._calm = 0
        self._is_above = False
        self._steps = 0  # taken since the level was ok: 1 trimmed, 2 caches dropped as well
        self._pause_s = FIRST_PAUSE_S
        self._next_trim = 0.0
        self._before_trim = 0
        self._rest_s = FIRST_REST_S
        self._next_return = 0.0
        self._returned = 0.0

    @property
    def relief(self) -> tuple[str, ...]:
        """The steps of relief taken since the level was last `ok`, and `shed` while something is."""
        return (*("trim", "caches")[: self._steps], *(("shed",) if self.shed else ()))

    def read(self, resident: int, now_s: float) -> Orders:
        """One reading of resident memory, in bytes; `now_s` is monotonic."""
        self._set_level(resident, now_s)
        if self.level == "ok":
            self._steps, self._pause_s = 0, FIRST_PAUSE_S
            self._bring_back(now_s)
            return Orders(False, False, self.shed)
        has_dropped = self._steps >= 2
        trim, drop_caches = self._relieve(resident, now_s)
        if resident > self.budget:
            if has_dropped and self.shed < self._pipelines:
                self.shed += 1
        else:
            self._bring_back(now_s)
        return Orders(trim, drop_caches, self.shed)

    def _set_level(self, resident: int, now_s: float) -> None:
        """Up at once, down when it stays below."""
        was_above, self._is_above = self._is_above, resident > self.budget
        if self._is_above:
            if not was_above:
                is_relapse = self._returned and now_s - self._returned < max(RELAPSE_S, 2 * self._rest_s)
                self._rest_s = min(2 * self._rest_s, LONGEST_REST_S) if is_relapse else FIRST_REST_S
            self._next_return = now_s + self._rest_s
            self._calm = 0
            self.level = "over"
            return
        if self.level == "ok":
            if resident > self.tight_at:
                self.level = "tight"
            return
        begin = self.budget if self.level == "over" else self.tight_at
        self._calm = self._calm + 1 if resident <= begin else 0
        is_far = resident <= begin - self._margin
        if self._calm >= (CALM_READINGS if is_far else PATIENT_READINGS):
            self._calm = 0
            is_tight = self.level == "over" and resident > self.tight_at - self._margin
            self.level = "tight" if is_tight else "ok"

    def _relieve(self, resident: int, now_s: float) -> tuple[bool, bool]:
        """Trim, a reading later drop the caches and trim, then trim every now and then."""
        if self._steps < 2:
            self._steps += 1
            self._before_trim, self._next_trim = resident, now_s + self._pause_s
            return True, self._steps == 2
        if now_s < self._next_trim:
            return False, False
        is_worth_it = self._before_trim - resident >= WORTH
        self._pause_s = FIRST_PAUSE_S if is_worth_it else min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._before_trim, self._next_trim = resident, now_s + self._pause_s
        return True, False

    def _bring_back(self, now_s: float) -> None:
        if self.shed and now_s >= self._next_return:
            self.shed -= 1
            self._returned, self._next_return = now_s, now_s + self._rest_s
