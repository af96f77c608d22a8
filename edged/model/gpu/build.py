"""Builds TensorRT's engine for a model: elsewhere, at low priority, into a folder that counts only when it is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from edged.errors import Problem
from edged.model.gpu.engines import NoRoom
from edged.model.gpu.ladder import Ladder, probe_of
from edged.model.records import ModelPlan, ModelRefused
from edged.model.trial.attempt import Limits, Trial, attempt, limits, limits_of_build
from edged.system.one_shot import in_one_shot_thread

T = TypeVar("T")
TryOut = Callable[[ModelPlan, Limits, str, bool], Awaitable[Trial]]
BuildEngine = Callable[[ModelPlan, Ladder], Awaitable[Trial]]
LOST = "TensorRT does not find the engine again that it has just built; it would build one at each start"


async def build_engine(plan: ModelPlan, ladder: Ladder, trial: TryOut = attempt) -> Trial:
    """What came of trying the engine when it was there. If cancelled, the process that builds is ended and nothing is left.
    `trial` loads and runs a plan elsewhere.

    Raises `ModelRefused` with the reason in words.
    """
    id, alone = ladder.engine_id(plan), replace(plan, providers=("tensorrt",))
    try:
        new = await _aside(partial(ladder.engines.begin, id, plan.manifest.onnx.initializer_bytes))
    except (NoRoom, OSError) as error:
        raise _refused(plan, str(error)) from None
    try:
        await trial(alone, limits_of_build(alone), str(new), True)
        folder = await _aside(partial(ladder.engines.keep, new))
        before = _engines(folder)
        found = await trial(alone, limits(alone), str(folder), True)
        if not before or _engines(folder) != before:
            new = folder
            raise _refused(plan, LOST)
        note = ladder.note(plan, "tensorrt")
        if note is not None:
            note.write(probe_of(found))
    except OSError as error:
        await _aside(partial(ladder.engines.drop, new))
        raise _refused(plan, f"the engine cannot be written to {new}: {error.strerror}") from None
    except (ModelRefused, asyncio.CancelledError):
        ladder.engines.drop(new)  # a few files; nobody waits for a thread while the daemon stops
        raise
    return found


def _engines(folder: Path) -> dict[str, tuple[int, int]]:
    return {f.name: (f.stat().st_size, f.stat().st_mtime_ns) for f in folder.rglob("*.engine")}


async def _aside(work: Callable[[], T]) -> T:
    return await in_one_shot_thread("edged-engine", work, lambda _: None)


def _refused(plan: ModelPlan, text: str) -> ModelRefused:
    return ModelRefused([Problem(f"model.{plan.manifest.name}.providers", text)])
