from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import TensorProto as T

from edged.model.manifest import read_manifest
from edged.model.records import ModelPlan, ModelRefused
from edged.model.store import Store
from edged.model.trial.attempt import Limits, Trial, attempt, attempt_now, limits
from edged.system.one_shot import in_one_shot_thread
from tests.support import hostile, models
from tests.support.pause import pause

MIB = 1 << 20


def plan_for(path: Path, width: int = 3) -> ModelPlan:
    manifest, problems = read_manifest("m", path)
    assert manifest is not None, problems
    return ModelPlan(manifest, {"x": (width,)}, outputs=("y",), providers=("cpu",))


def hidden(tmp_path: Path, kind: str) -> ModelPlan:
    """A hostile file behind a good file's manifest: what the scan would have found reaches onnxruntime."""
    plan = plan_for(models.linear(tmp_path / "good.onnx"))
    return replace(plan, manifest=replace(plan.manifest, path=hostile.build(kind, tmp_path / "m") / "model.onnx"))


def refused(plan: ModelPlan, allowed: Limits | None = None) -> str:
    with pytest.raises(ModelRefused) as caught:
        attempt_now(plan, allowed or limits(plan))
    assert len(caught.value.problems) == 1
    return caught.value.problems[0].text


def until(what: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        pause(0.01, "between two looks")


def children(pid: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            found |= {int(n) for n in (task / "children").read_text().split()}
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_good_model_takes(tmp_path: Path) -> None:
    plan = plan_for(models.linear(tmp_path / "m.onnx"))
    fds = os.listdir("/proc/self/fd")
    trial = attempt_now(plan, limits(plan))
    assert trial.report.batch_max == 16
    assert trial.report.outputs[0].name == "y"
    assert 0 < trial.report.p50_us <= trial.report.max_us
    assert trial.peak_bytes >= trial.report.resident_bytes > 0
    assert os.listdir("/proc/self/fd") == fds
    assert not children(os.getpid())


def test_relative_paths_lead_from_the_folder_of_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models.external(tmp_path / "m.onnx", "weights.bin")
    monkeypatch.chdir(tmp_path)
    plan = plan_for(Path("m.onnx"))
    assert not plan.manifest.path.is_absolute()
    assert attempt_now(plan, limits(plan)).report.provider == "cpu"


def test_a_crash_is_a_reason(tmp_path: Path) -> None:
    text = refused(hidden(tmp_path, "function chain"))
    assert text == "onnxruntime crashes on it (Segmentation fault) while it was loaded: the file is damaged or hostile"


def test_an_endless_run_is_a_reason(tmp_path: Path) -> None:
    plan = plan_for(hostile.build("endless loop", tmp_path))
    text = refused(plan, replace(limits(plan), run_s=0.5))
    assert text == "its first run did not end within 0.5 s: it loops forever, or is too slow for this machine"


def test_slow_trials_end(tmp_path: Path) -> None:
    path = models.slow(tmp_path / "m.onnx", layers=10)
    plan = replace(plan_for(path), rows={"x": (384, 384)})
    text = refused(plan, replace(limits(plan, 512 * MIB), runs=0, rest_s=0.0))
    assert text == "its trial runs did not end within 0 s: it is too slow for this machine"


def test_memory_is_a_reason(tmp_path: Path) -> None:
    text = refused(plan_for(hostile.build("64 GiB", tmp_path)))
    when = "while it (ran|was loaded)"  # as the version of onnxruntime likes
    assert re.fullmatch(f"it needs more than the 64 MiB that are free for it, {when}; use a smaller model, or .*higher", text)


def test_memory_that_is_granted_can_be_used(tmp_path: Path) -> None:
    plan = plan_for(models.identity(tmp_path / "m.onnx", T.FLOAT, width=1 << 20), 1 << 20)  # 16 rows: 64 MiB in, as much out
    assert "it needs more than the 64 MiB" in refused(plan, replace(limits(plan), memory_bytes=64 * MIB))
    assert attempt_now(plan, limits(plan)).peak_bytes > 128 * MIB


def test_a_model_that_took_more_than_is_left_is_refused(tmp_path: Path) -> None:
    plan = plan_for(models.linear(tmp_path / "m.onnx"))
    found = re.fullmatch(
        r"it took (\d+) MiB when it was tried, 1 MiB are left for it; use a smaller model.*", refused(plan, limits(plan, 4096))
    )
    assert found is not None
    assert 1 < int(found[1]) < 64


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        ({"ir_version": 99}, "it was written for a newer ONNX: IR version 99, and onnxruntime"),
        ({"opset": 99}, "its opset 99 of ai.onnx is too new: onnxruntime"),
    ],
)
def test_a_model_newer_than_the_runtime(tmp_path: Path, edit: dict[str, int], text: str) -> None:
    path = models.linear(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    model.ir_version = edit.get("ir_version", model.ir_version)
    model.opset_import[0].version = edit.get("opset", model.opset_import[0].version)
    path.write_bytes(model.SerializeToString())
    assert text in refused(plan_for(path))


def test_golden_samples_that_come_out_otherwise(tmp_path: Path) -> None:
    models.linear(tmp_path / "model.onnx")
    (tmp_path / "model.toml").write_text('golden = "golden.npz"\n')
    x = np.ones((2, 3), np.float32)
    np.savez(tmp_path / "golden.npz", x=x, y=np.array([[6, 9], [6, 9]], np.float32))
    plan = plan_for(tmp_path)
    assert attempt_now(plan, limits(plan)).report.reasons == ()
    np.savez(tmp_path / "golden.npz", x=x, y=np.array([[6, 9], [6, 10]], np.float32))
    assert refused(plan_for(tmp_path)) == "golden sample 1 of golden.npz: y is [6., 9.], expected [ 6., 10.]"
    x[0, 0] = np.nan
    np.savez(tmp_path / "golden.npz", x=x, y=np.full((2, 2), np.nan, np.float32))
    assert refused(plan_for(tmp_path)) == "golden sample 0 of golden.npz: y is not a number: [nan, nan]"


@pytest.mark.parametrize("kind", hostile.ALL)
async def test_hostile_files_are_refused_with_the_reason_while_the_loop_runs_on(tmp_path: Path, kind: str) -> None:
    """As the daemon meets them: copied, read, tried in place of a model whose runs take a millisecond."""
    path = hostile.build(kind, tmp_path / "models" / "m")
    turns = 0
    asked = asyncio.create_task(reason(Store(tmp_path / "store"), path))
    while not asked.done():
        await asyncio.wait([asked], timeout=0.001)
        turns += 1
    if (
        kind == "endless loop"
    ):  # its trial takes the whole limit; a loop that waited for that itself would turn two or three times
        assert turns > 10
    assert hostile.ALL[kind][1] in asked.result()


async def reason(store: Store, path: Path) -> str:
    try:
        _, manifest = await in_one_shot_thread("edged-copy", partial(store.take, "m", path), lambda _: None)
        plan = ModelPlan(manifest, {"x": (3,)}, outputs=("y",), providers=("cpu",))
        await attempt(plan, limits(plan, slowest_s=0.001))
    except ModelRefused as refusal:
        (problem,) = refusal.problems
        assert problem.path == "model.m.path"
        return problem.text
    raise AssertionError("it was taken")


async def test_whoever_waits_no_more_ends_it(tmp_path: Path) -> None:
    plan = plan_for(hostile.build("endless loop", tmp_path))
    trial: asyncio.Task[Trial] = asyncio.create_task(attempt(plan, replace(limits(plan), run_s=60)))
    while not children(os.getpid()):
        await asyncio.wait([trial], timeout=0.01)
        assert not trial.done()
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    until(lambda: not children(os.getpid()))
    until(lambda: "edged-trial" not in {t.name for t in threading.enumerate()})


PARENT = """
import sys, msgspec, pathlib
from edged.system import process
process.set_up()
from edged.model.trial.attempt import attempt_now, limits
from tests.model.trial.test_attempt import plan_for
plan = plan_for(pathlib.Path(sys.argv[1]))
attempt_now(plan, msgspec.structs.replace(limits(plan), run_s=60))
"""


def test_it_ends_with_the_daemon(tmp_path: Path) -> None:
    """Its limits are looked at on the way: nothing of them can be raised again."""
    hostile.build("endless loop", tmp_path)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=Path(__file__).parents[3])
    try:
        until(lambda: bool(children(parent.pid)), 30)
        (child,) = children(parent.pid)
        until(lambda: "core file size 0 0 " in limits_of(child), 30)
        until(lambda: "Max file size 0 0 " in limits_of(child), 30)
        found = limits_of(child)
        assert "Max open files 64 64 " in found
        assert "Max address space unlimited" not in found
        assert "Max cpu time unlimited" not in found
        assert os.getpriority(os.PRIO_PROCESS, child) >= 10
        assert os.getsid(child) == child
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until(lambda: not is_alive(child))


def limits_of(pid: int) -> str:
    return " ".join(Path(f"/proc/{pid}/limits").read_text().split())


def test_what_is_allowed(tmp_path: Path) -> None:
    plan = plan_for(models.linear(tmp_path / "m.onnx"))
    allowed = limits(plan)
    assert (allowed.memory_bytes, allowed.run_s) == (64 * MIB + 3 * 24 + 32 * 16 * 3, 10.0)
    assert limits(plan, 100 * MIB).memory_bytes == 100 * MIB
    assert [limits(plan, 0, slowest_s=s).run_s for s in (0.001, 1.0)] == [3.0, 20.0]
