from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edged.daemon.promotion import Builds
from edged.errors import Problem
from edged.model.manifest import read_manifest
from edged.model.records import ModelPlan, ModelRefused
from tests.support import models


class Yard:
    """Builds that end when the test says so, and what became of them."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.promoted: list[tuple[str, str]] = []
        self.failed: list[tuple[str, str]] = []
        self.ended: dict[str, asyncio.Future[str]] = {}
        self.was_cancelled: list[str] = []

    async def build(self, name: str, plan: ModelPlan) -> str:
        self.begun.append(name)
        self.ended[name] = asyncio.get_running_loop().create_future()
        try:
            return await self.ended[name]
        except asyncio.CancelledError:
            self.was_cancelled.append(name)
            raise

    async def promote(self, name: str, plan: ModelPlan, made: str) -> None:
        self.promoted.append((name, made))

    def fail(self, name: str, plan: ModelPlan, reason: str) -> None:
        self.failed.append((name, reason))


@pytest.fixture
def plan(tmp_path: Path) -> ModelPlan:
    manifest, _ = read_manifest("m", models.linear(tmp_path / "m.onnx"))
    assert manifest is not None
    return ModelPlan(manifest, {"x": (3,)})


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_at_a_time_and_each_says_how_long(plan: ModelPlan, clock: Any) -> None:
    yard = Yard()
    builds: Builds[str] = Builds(yard.build, yard.promote, yard.fail, clock)
    builds.follow({"a": plan, "b": plan})
    await turns()
    clock.pass_s(7)
    assert (yard.begun, builds.elapsed_s()) == (["a"], {"a": 7.0, "b": 0.0})
    builds.follow({"a": plan, "b": plan})
    yard.ended["a"].set_result("engine")
    await turns()
    assert (yard.promoted, yard.begun, builds.elapsed_s()) == ([("a", "engine")], ["a", "b"], {"b": 0.0})
    yard.ended["b"].set_exception(ModelRefused([Problem("model.b.providers", "no such layer")]))
    await turns()
    assert (yard.failed, builds.elapsed_s()) == ([("b", "no such layer")], {})
    await builds.close()


async def test_what_nobody_wants_any_more_ends_and_what_changed_begins_again(plan: ModelPlan, clock: Any) -> None:
    yard = Yard()
    builds: Builds[str] = Builds(yard.build, yard.promote, yard.fail, clock)
    builds.follow({"a": plan})
    await turns()
    builds.follow({"a": replace(plan, batch_max=4)})
    await turns()
    assert (yard.was_cancelled, yard.begun) == (["a"], ["a", "a"])
    await builds.close()
    assert (yard.was_cancelled, builds.elapsed_s(), yard.promoted, yard.failed) == (["a", "a"], {}, [], [])


async def test_a_bug_is_no_reason(plan: ModelPlan, clock: Any) -> None:
    yard, said = Yard(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["exception"]))
    builds: Builds[str] = Builds(yard.build, yard.promote, yard.fail, clock)
    builds.follow({"a": plan})
    await turns()
    yard.ended["a"].set_exception(error := KeyError("bug"))
    await turns()
    assert (said, yard.failed) == ([error], [])
    await builds.close()
