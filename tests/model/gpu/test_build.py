"""What happens to the folder of an engine; the builder is a stand-in, the disk is not."""

# ruff: noqa: ASYNC240

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from edged.model.gpu.build import build_engine
from edged.model.gpu.engines import Engines
from edged.model.gpu.gpu import Found, Gpu
from edged.model.gpu.ladder import Ladder
from edged.model.load import load_session
from edged.model.manifest import read_manifest
from edged.model.onnx import available
from edged.model.records import ModelPlan, ModelRefused
from edged.model.trial.attempt import MIN_NICE, Limits, Trial
from edged.system.durable import NEW
from tests.support import models

GPU = Gpu("Orin", "L4T 36.4 CUDA 12.6", 8 << 30, 4 << 30, True, "100300")


def no_trial(plan: ModelPlan, engine: str) -> Trial:
    raise AssertionError("nothing is tried here")


@pytest.fixture
def plan(tmp_path: Path) -> ModelPlan:
    manifest, _ = read_manifest("m", models.linear(tmp_path / "m.onnx"))
    assert manifest is not None
    return ModelPlan(manifest, {"x": (3,)})


@pytest.fixture
def ladder(tmp_path: Path) -> Ladder:
    return Ladder(Found(GPU), Engines(tmp_path / "engines"), ("tensorrt", "cuda", "cpu"), no_trial)


def builder(seen: list[tuple[str, int, str]], rebuilds: bool = False) -> Callable[[ModelPlan, Limits, str, bool], object]:
    """Leaves an engine where it is told to, as TensorRT does, unless there is one."""

    async def trial(plan: ModelPlan, allowed: Limits, engine: str, compares: bool) -> Trial:
        (rung,) = tuple(plan.providers or ())
        seen.append((rung, allowed.nice, Path(engine).suffix))
        assert compares
        file = Path(engine, "model.engine")
        if rebuilds or not file.exists():
            file.write_bytes(os.urandom(8))
        return Trial(load_session(replace(plan, providers=("cpu",)))[1], 0)

    return trial


async def test_what_was_built_is_tried_again_from_where_it_stays(plan: ModelPlan, ladder: Ladder) -> None:
    seen: list[tuple[str, int, str]] = []
    await build_engine(plan, ladder, builder(seen))  # type: ignore[arg-type]
    assert seen == [("tensorrt", MIN_NICE, NEW), ("tensorrt", 10, "")]
    assert [f.name for f in Path(ladder.engine(plan)).iterdir()] == ["model.engine"]
    assert not list(ladder.engines.root.glob(f"*{NEW}"))


async def test_one_that_is_not_found_again_is_none(plan: ModelPlan, ladder: Ladder) -> None:
    with pytest.raises(ModelRefused, match="does not find the engine again"):
        await build_engine(plan, ladder, builder([], rebuilds=True))  # type: ignore[arg-type]
    assert ladder.engine(plan) == ""


@pytest.mark.skipif(available() != ["cpu"], reason="this onnxruntime has more than the CPU")
async def test_what_cannot_be_built_leaves_nothing(plan: ModelPlan, ladder: Ladder) -> None:
    with pytest.raises(ModelRefused, match="this onnxruntime has none"):
        await build_engine(plan, ladder)
    assert not list(ladder.engines.root.iterdir())


async def test_one_that_nobody_waits_for_any_more_leaves_nothing(plan: ModelPlan, ladder: Ladder) -> None:
    begun = asyncio.Event()

    async def trial(plan: ModelPlan, allowed: Limits, engine: str, compares: bool) -> Trial:
        Path(engine, "model.engine").write_bytes(b"half")
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(build_engine(plan, ladder, trial))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not list(ladder.engines.root.iterdir())


KILLED = """
import os, sys
from pathlib import Path
from edged.model.gpu.engines import Engines
new = Engines(Path(sys.argv[1])).begin("m-1", 0)
(new / "model.engine").write_bytes(b"half")
print(flush=True)
sys.stdin.read()
"""


def test_s06_killed_while_it_builds_leaves_no_half_cache(tmp_path: Path) -> None:
    root = tmp_path / "engines"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    engines = Engines(root)
    assert len(list(root.iterdir())) == 1
    assert engines.find("m-1") is None
    engines.sweep(())
    assert not list(root.iterdir())
