from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto as T

from edged.pipeline.align.aligner import Aligner
from edged.pipeline.window import WindowStage
from edged.plan.memory import THREAD, check_budget, freshness_bytes, join_bytes, window_bytes, with_measured
from edged.plan.records import Machine, MemoryLine, PipelinePlan, Plan
from edged.sources.freshness import Freshness
from tests.support.deployments import net
from tests.support.planning import ACCEL, MACHINE, MAIN, MIB, PUMPS, planned

ROOM = '[source.room]\ntype = "mqtt"\ntopic = "room"\nrate = 1\ndecode = { format = "json", fields = ["t"] }\n'


def pipeline(folder: Path, more: str) -> PipelinePlan:
    return planned(folder, MAIN + ACCEL + PUMPS + ROOM + f"[pipeline.p]\n{more}\n").whole.pipelines["p"]


def lines(plan: Plan) -> dict[str, int]:
    return {line.what: line.bytes for line in plan.memory}


@pytest.mark.parametrize("source", ["accel", "pumps"])
def test_windows_are_counted_to_the_byte(tmp_path: Path, source: str) -> None:
    p = pipeline(tmp_path, f'source = "{source}"\nwindow = {{ size = 100, hop = 10 }}')
    assert p.window is not None
    stage = WindowStage(p.window.size, p.window.hop, p.window.gap_ns, p.width, p.max_keys, p.dtype)
    assert window_bytes(p) == stage.nbytes


@pytest.mark.parametrize(
    "more",
    [
        'source = ["accel", "room"]',
        'source = ["room", "accel"]\nalign = { method = "linear", tolerance = "30s" }',
        'source = ["pumps", "room"]\nalign = { method = "nearest" }',
        'source = ["room", "pumps"]',
        'source = ["pumps", "room"]\nalign = { rate = 1, method = "linear" }',
    ],
)
def test_joins_are_counted_to_the_byte(tmp_path: Path, more: str) -> None:
    align = pipeline(tmp_path, more).align
    assert align is not None
    assert join_bytes(align) == Aligner(align).nbytes


def test_the_table_has_a_line_for_everybody(tmp_path: Path) -> None:
    net(tmp_path / "m.onnx", {"x": (T.FLOAT, ["N", 60, 4])}, {"y": ["N", 2]})
    text = '[model.m]\npath = "m.onnx"\n[pipeline.p]\nsource = "pumps"\nmodel = "m"\nwindow = { size = 60 }\nslots = 10\n'
    plan = planned(tmp_path, MAIN + PUMPS + text).whole
    found = lines(plan)
    assert list(found) == [
        "interpreter and libraries",
        "onnxruntime, first session",
        "model.m: weights",
        "model.m: activations",
        "model.m: arrays",
        "model threads",
        "source.pumps: read and decode",
        "pipeline.p: windows",
        "pipeline.p: slots",
        "pipeline.p: state of results",
        "broker.main: buffers",
        "broker.main: inputs too many",
        "broker.main: unacknowledged inputs",
        "spool",
        "slack",
    ]
    assert found["interpreter and libraries"] == MACHINE.base
    assert found["model.m: arrays"] == 16 * (60 * 4 + 2) * 4
    assert found["pipeline.p: slots"] == 10 * (60 * 4 * 4 + 200)
    assert found["pipeline.p: windows"] == 250 * (2 * 60 * 4 * 4 + 80)
    assert found["broker.main: unacknowledged inputs"] == 64 * (64 * 1024 + 600)
    assert plan.planned_bytes == sum(found.values())


def test_averages_and_kept_results_cost_memory(tmp_path: Path) -> None:
    net(tmp_path / "m.onnx", {"x": (T.FLOAT, ["N", 4])}, {"y": ["N", 8]})
    text = '[model.m]\npath = "m.onnx"\n[pipeline.p]\nsource = "pumps"\nmodel = "m"\noutput = { type = "classify"SMOOTH }\n'
    plain = lines(planned(tmp_path, MAIN + PUMPS + text.replace("SMOOTH", "")).whole)["pipeline.p: state of results"]
    text = text.replace("SMOOTH", ", smooth = 5") + 'publish = { when = { min_interval = "1s" } }\n'
    more = lines(planned(tmp_path, MAIN + PUMPS + text).whole)["pipeline.p: state of results"]
    message = 1024 + 25 + len("score")
    assert more - plain == 250 * (4 * 8 * 8 + 1024 + 32 + message)


def test_a_budget_that_one_setting_can_keep(tmp_path: Path) -> None:
    net(tmp_path / "m.onnx", {"x": (T.FLOAT, ["N", 3, 640, 640])}, {"y": ["N", 8]})
    camera = '[source.cameras]\ntype = "mqtt"\ntopic = "cam/{camera}"\nqos = 0\nmax_keys = 256\nmax_bytes = "2MiB"\n'
    decode = 'decode = { format = "raw", dtype = "uint8", fields = [{ name = "image", shape = [3, 640, 640] }] }\n'
    text = '[memory]\nbudget = "512MiB"\n[model.m]\npath = "m.onnx"\nbatch = { max = 4 }\n[pipeline.people]\nsource = "cameras"\n'
    assert planned(tmp_path, MAIN + camera + decode + text + 'model = "m"\n').lines == [
        "8:12: source.cameras.max_keys: pipeline.people: slots: 256 x 3 x 640 x 640 float32, one per key is 1200 MiB, and the "
        "plan needs 1311 MiB, the budget is 512 MiB; set source.cameras.max_keys, or pipeline.people.slots"
    ]


def test_a_budget_that_nothing_single_can_keep(tmp_path: Path) -> None:
    text = MAIN + ACCEL + '[pipeline.p]\nsource = "accel"\n[memory]\nbudget = "32MiB"\n'
    assert planned(tmp_path, text).lines == [
        "14:10: memory.budget: the plan needs 76 MiB, the budget is 32 MiB; most of it: interpreter and libraries 64 MiB, "
        "slack 5 MiB, broker.main: buffers 3 MiB; set budget to at least 77 MiB"
    ]


def test_the_default_budget_is_a_quarter_of_the_machine(tmp_path: Path) -> None:
    text = MAIN + ACCEL + '[pipeline.p]\nsource = "accel"\n'
    assert planned(tmp_path, text).whole.budget == 512 * MIB
    [line] = planned(tmp_path, text, Machine("zero", 256 * MIB, 64 * MIB)).lines
    assert "a quarter of this machine and at most 512 MiB, is 64 MiB" in line


def test_what_models_really_took_is_in_the_table() -> None:
    before = (
        MemoryLine("interpreter and libraries", 60 * MIB, ""),
        MemoryLine("onnxruntime, first session", 9 * MIB, "", is_of_models=True),
        MemoryLine("model.m: weights", 15 * MIB, "", is_of_models=True),
        MemoryLine("slack", 4 * MIB, ""),
    )
    assert with_measured(before, 20 * MIB) == before
    after = with_measured(before, 38 * MIB)
    assert [line.what for line in after][3] == "models: activations and copies"
    assert after[3].bytes == 14 * MIB
    assert after[3].how == "measured at load: 38 MiB, 24 MiB assumed"
    assert check_budget(after, 102 * MIB, True) is None
    assert check_budget(after, 101 * MIB, True) is not None


def with_limit(folder: Path, limit: int, budget: str = "") -> list[str]:
    text = MAIN + ACCEL + '[pipeline.p]\nsource = "accel"\n' + budget
    return planned(folder, text, Machine("pi4", 8192 * MIB, 64 * MIB, cgroup=limit * MIB)).lines


def test_what_tells_frozen_values_is_counted_to_the_byte(tmp_path: Path) -> None:
    for rate, more in (("rate = 1", ""), ("rate = 1", 'frozen_after = "1min"\n'), ("", ""), ("", 'stale_after = "never"\n')):
        text = MAIN + PUMPS.replace("rate = 1", rate) + more + '[pipeline.p]\nsource = "pumps"\n'
        source = planned(tmp_path, text).whole.sources["pumps"]
        assert source.learns_pace == (not rate and not more)
        fresh = Freshness(source.stale_ns, source.frozen_ns, source.width, source.max_keys, source.dtype, source.learns_pace)
        assert freshness_bytes(source) == fresh.nbytes


def test_a_control_group_that_is_smaller_than_the_plan_is_refused(tmp_path: Path) -> None:
    [line] = with_limit(tmp_path, 70, '[memory]\nbudget = "128MiB"\n')
    assert line.startswith(
        "14:10: memory.budget: the control group of this process allows 70 MiB (systemd: MemoryMax, MemoryHigh),"
    )
    assert line.endswith("the plan needs 76 MiB: allow at least 77 MiB")


def test_a_control_group_that_is_smaller_than_the_budget_is_taken_as_the_budget(tmp_path: Path) -> None:
    [line] = with_limit(tmp_path, 100, '[memory]\nbudget = "128MiB"\n')
    assert line.endswith("allows 100 MiB (systemd: MemoryMax, MemoryHigh), less than the budget of 128 MiB: taken as the budget")


def test_the_default_budget_is_a_quarter_of_the_control_group(tmp_path: Path) -> None:
    assert with_limit(tmp_path, 1024) == []


@pytest.mark.parametrize(("device", "threads"), [("", 1), ("[device]\nworkers = 2\n", 2), ("[device]\nworkers = 8\n", 3)])
def test_threads_that_run_models_are_planned(tmp_path: Path, device: str, threads: int) -> None:
    """No more than there are models, since a model's own runs follow each other; those that work on one run are the model's."""
    net(tmp_path / "m.onnx", {"x": (T.FLOAT, ["N", 4])}, {"y": ["N", 2]})
    text = ""
    for name, inside in (("a", 1), ("b", 1), ("c", 3)):
        text += f'[model.{name}]\npath = "m.onnx"\nthreads = {inside}\n[pipeline.{name}]\nsource = "pumps"\nmodel = "{name}"\n'
    found = lines(planned(tmp_path, MAIN + device + PUMPS + text).whole)
    assert found["model threads"] == threads * THREAD
    assert found["model.c: threads"] == 2 * THREAD
    assert "model.a: threads" not in found
