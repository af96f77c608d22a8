"""Engines that are built elsewhere while something else serves, and promoted when they are whole.

    follow    which models wait for one: builds begin for what is new, and end for what nobody wants any more
    build     in a process of its own, one at a time: each takes all that it can get
    promote   by the way of a changed model file, between two runs; or `fail`, with the reason

What is built, and how, is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from edged.clock.clock import Clock
from edged.model.records import ModelPlan, ModelRefused

T = TypeVar("T")


class Build(msgspec.Struct, eq=False):
    """One that is wanted. `since`: when it began, by the monotonic clock; None while others come first."""

    plan: ModelPlan
    since: int | None = None
    task: asyncio.Task[None] | None = None


class Builds(Generic[T]):
    """`build` makes what `promote` takes; `fail` hears why there is none. All of them are called on the loop."""

    def __init__(
        self,
        build: Callable[[str, ModelPlan], Awaitable[T]],
        promote: Callable[[str, ModelPlan, T], Awaitable[None]],
        fail: Callable[[str, ModelPlan, str], None],
        clock: Clock,
    ) -> None:
        self._build = build
        self._promote = promote
        self._fail = fail
        self._clock = clock
        self._wanted: dict[str, Build] = {}
        self._turn = asyncio.Lock()

    def follow(self, wanted: Mapping[str, ModelPlan]) -> None:
        """These models and no others wait for a build."""
        for name, one in list(self._wanted.items()):
            if name not in wanted or wanted[name].identity != one.plan.identity:
                del self._wanted[name]
                if one.task is not None:
                    one.task.cancel()
        for name, plan in wanted.items():
            if name not in self._wanted:
                one = self._wanted[name] = Build(plan)
                one.task = asyncio.get_running_loop().create_task(self._run(name, one), name=f"build:{name}")
                one.task.add_done_callback(_ended)

    def elapsed_s(self) -> dict[str, float]:
        """How long each has been under way; 0 for one that waits for another."""
        now = self._clock.now()
        return {name: 0.0 if one.since is None else (now - one.since) / 1e9 for name, one in self._wanted.items()}

    async def close(self) -> None:
        """Ends them all; what was half built is gone."""
        tasks = [one.task for one in self._wanted.values() if one.task is not None]
        self.follow({})
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, name: str, one: Build) -> None:
        try:
            async with self._turn:
                one.since = self._clock.now()
                made = await self._build(name, one.plan)
            await self._promote(name, one.plan, made)
        except ModelRefused as error:
            self._fail(name, one.plan, "; ".join(p.text for p in error.problems))
        finally:
            if self._wanted.get(name) is one:
                del self._wanted[name]


def _ended(task: asyncio.Task[None]) -> None:
    """A bug is said: the loop's exception handler ends the process."""
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": f"task {task.get_name()}", "exception": error}
        task.get_loop().call_exception_handler(context)
