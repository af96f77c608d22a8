"""What the watchdog asks: does every stage that has work get on with it? Inputs that are silent by nature do not count."""

from __future__ import annotations

from edged.daemon.assembly import Assembly

STUCK_S = 20.0
"""A run of a model, or rows that wait, get no further for this long: that stage hangs. A model that is known to take longer
has three times its longest run."""


class Progress:
    """Asked a few times in a watchdog interval; remembers when each pipeline last moved."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._moved: dict[str, tuple[int, int]] = {}

    def stuck(self, now: int) -> str | None:
        """The stage that makes no progress although it has work; None when all is well."""
        for name, model in self._assembly.models.items():
            if model.running is not None:
                limit = max(STUCK_S, 3 * model.counts.time.maximum / 1e9)
                if now - model.running_since > limit * 1e9:
                    return f"model.{name}: a run began {(now - model.running_since) / 1e9:.0f} s ago"
        building = {name for name, report in self._assembly.reports.items() if report.is_held}  # nothing to run with yet
        for name, pipeline in self._assembly.pipelines.items():
            has_nobody = self._assembly.plan.pipelines[name].model in building
            waiting = 0 if pipeline.is_stalled or pipeline.is_held or has_nobody else pipeline.slots.ready
            taken = pipeline.counts.due - waiting
            before, since = self._moved.get(name, (-1, now))
            if taken != before or not waiting:
                self._moved[name] = (taken, now)
            elif now - since > STUCK_S * 1e9:
                return f"pipeline.{name}: {waiting} windows wait and none is taken"
        return None
