"""Acts on what the governor decides about memory: trims, drops caches, sheds pipelines, and says so.

The order of relief, each step a second after the one before, while memory is not back at `ok`:

    1  trim: freed memory goes back to the kernel, in a thread that ends
    2  drop the caches of topics and routes, which fill again by themselves, and trim again; from then on trim now and then
    3  only above the budget: shed pipelines, one a second, lowest `priority` first, among equals the last of the file first

A shed pipeline drops what is due and what waits, counted as `memory`; with `overflow = "block"` it holds its sources.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import structlog

from edged.daemon.assembly import Assembly
from edged.daemon.governor import Governor
from edged.notation.units import MIB
from edged.pipeline.pipeline import Pipeline
from edged.plan.records import Plan
from edged.system.process import trim
from edged.system.process_memory import bound_private, resident_bytes

log: Any = structlog.get_logger("edged")


THREADS_BYTES, STACK = 96 * MIB, 8 * MIB
"""Address space for the stacks of threads, of which few pages are ever used: of all others, and of one that runs models."""
GPU_BYTES = 4 << 30
"""The same for what a GPU's driver takes for itself."""


def bound_memory(plan: Plan | None) -> None:
    """A run that asks for more than the budget of `plan` has left fails, and nothing else does. None: while models are loaded,
    which took what they need in a trial before."""
    room = None
    if plan is not None:
        left = max(0, min(plan.budget, plan.cgroup or plan.budget) - resident_bytes())
        room = left + THREADS_BYTES + plan.workers * STACK + (GPU_BYTES if plan.gpu is not None else 0)
    try:
        bound_private(room)
    except (OSError, ValueError) as error:
        log.warning("memory_not_bounded", reason=str(error))


class Relief:
    """`look` once a second. `resident` reads this process's resident memory in bytes."""

    def __init__(
        self,
        assembly: Assembly,
        resident: Callable[[], int] = resident_bytes,
        trim: Callable[[], None] = trim,
    ) -> None:
        self._plan = plan = assembly.plan
        self.highest = 0
        self.trims = 0
        self._assembly = assembly
        self._last = 0
        self._resident = resident
        self._trim = trim
        self._thread: threading.Thread | None = None
        self._candidates = shed_order(list(assembly.pipelines.values()))
        self._governor = Governor(min(plan.budget, plan.cgroup or plan.budget), plan.planned_bytes, len(self._candidates))
        self._said = ("ok", 0)

    def adopt(self, assembly: Assembly) -> None:
        """Looks after another assembly. What is shed now is let go first: its pipelines may be others, and so may the budget."""
        self.end()
        self._assembly, self._plan = assembly, assembly.plan
        plan = assembly.plan
        self._candidates = shed_order(list(assembly.pipelines.values()))
        self._governor = Governor(min(plan.budget, plan.cgroup or plan.budget), plan.planned_bytes, len(self._candidates))

    @property
    def shed(self) -> list[str]:
        """The pipelines that are shed now, the least important first."""
        return [pipeline.name for pipeline in self._candidates if pipeline.is_shed]

    def look(self, now_s: float) -> dict[str, Any] | None:
        """Reads memory and does what is to be done; returns what is news of it. `now_s` is monotonic."""
        resident = self.read()
        orders = self._governor.read(resident, now_s)
        if orders.drop_caches:
            self._assembly.drop_caches()
        if orders.trim:
            self._start_trim()
        for i, pipeline in enumerate(self._candidates):
            if pipeline.is_shed != (i < orders.shed):
                pipeline.shed(i < orders.shed)
        return self._news(resident)

    def read(self) -> int:
        """Resident memory in bytes, now; as last known when no descriptor is free to look it up."""
        with contextlib.suppress(OSError):
            self._last = self._resident()
            self.highest = max(self.highest, self._last)
        return self._last

    def end(self) -> None:
        """Lets every pipeline work, so that what waits at a stop is finished."""
        for pipeline in self._candidates:
            if pipeline.is_shed:
                pipeline.shed(False)

    def _start_trim(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        self.trims += 1
        self._thread = threading.Thread(target=self._trim, name="edged-trim", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread can be had: it is tried again later
            self._thread.start()

    def _news(self, resident: int) -> dict[str, Any] | None:
        now = (self._governor.level, self._governor.shed)
        if now == self._said:
            return None
        self._said = now
        facts = {"resident_mib": resident // MIB, "budget_mib": self._governor.budget // MIB}
        (log.info if now == ("ok", 0) else log.warning)("memory", state=now[0], **facts, shed=" ".join(self.shed))
        return {"level": now[0], **facts, "shed": self.shed}

    def facts(self) -> dict[str, Any]:
        """For health: the level, and what is being done about it."""
        return {
            "resident_mib": round(self.read() / MIB, 1),
            "highest_mib": round(self.highest / MIB, 1),
            "planned_mib": round(self._plan.planned_bytes / MIB, 1),
            "budget_mib": round(self._governor.budget / MIB, 1),
            "cgroup_mib": round(self._plan.cgroup / MIB, 1) if self._plan.cgroup is not None else None,
            "level": self._governor.level,
            "relief": list(self._governor.relief),
            "shed": self.shed,
            "trims": self.trims,
        }


def shed_order(pipelines: list[Pipeline]) -> list[Pipeline]:
    """The least important first: by priority, then from the end of the file."""
    order = pipelines[::-1]
    order.sort(key=lambda p: p.priority)
    return order
