from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from onnx import TensorProto as T

from edged.model.gpu.gpu import Gpu
from edged.model.records import LoadReport
from edged.plan.report import load_text, plan_json, plan_text
from tests.support.deployments import net
from tests.support.models import total
from tests.support.planning import ACCEL, MACHINE, MAIN, MIB, PUMPS, planned

TEXT = """
[model.m]
path = "m.onnx"
labels = ["calm", "brisk"]
[pipeline.driver]
source = ["pumps", "accel"]
align = { tolerance = "3s" }
window = { size = "30s", hop = 5 }
preprocess = ["detrend", "steps.py:same"]
model = "m"
inputs = { gain = { value = 2 } }
output = { type = "classify", smooth = 3 }
slots = 20
overflow = "latest_only"
publish = [
  { when = { change = true, min_interval = "1s", max_interval = "1min" } },
  { topic = "x/{key}", qos = 0, retain = true, format = "text", fields = "score", when = { above = 0.5, label = "brisk" } },
]
"""


def test_a_person_reads_what_is_wired_to_what(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text("def same(window):\n    return window\n")
    net(tmp_path / "m.onnx", {"x": (T.FLOAT, ["N", 30, 7]), "gain": (T.FLOAT, [1])}, {"y": ["N", 2]})
    plan = planned(tmp_path, MAIN + ACCEL + PUMPS + TEXT).whole
    lines = plan_text(plan).splitlines()
    assert lines[:18] == [
        "device pi4 publishes about itself on edged/pi4/status, /health, /model, /source, /event",
        "",
        "source.accel",
        "source.pumps",
        "  --> pipeline.driver + source.accel --> model.m --> main: edged/pi4/driver/{key}, main: x/{key}",
        "",
        "pipeline.driver",
        "  source.pumps: main: plant/{line}/{pump}/telemetry (QoS 1), 1 per second, up to 250 keys by line pump: "
        "temp, p_in, p_out, rpm",
        "  source.accel: serial port /dev/ttyACM9 at 921600 baud, 1000 per second: ax, ay, az",
        "    --> one row every sample of pumps, previous values of the others, at most 3s old",
        "    --> window of 30 samples, one every 5, starting over after a silence of 3s",
        "    --> detrend",
        "    --> steps.py:same",
        "    --> 20 slots, only the newest row of each key waits",
        "    --> model.m: x [30, 7] float32, gain = 2",
        "    --> classify: calm, brisk, mean of 3",
        "    --> main: edged/pi4/driver/{key} (json, QoS 1, if changed, at most one in 1s, at least one in 60s)",
        "    --> main: x/{key} (text of score, QoS 0, retained, if above 0.5 and label is brisk)",
    ]
    sums = lines[-1]
    assert sums.startswith("sum ")
    assert f"of 512 MiB, {(plan.budget - plan.planned_bytes) / MIB:.0f} MiB to spare" in sums


def test_what_a_model_remembers_is_said(tmp_path: Path) -> None:
    total(tmp_path / "m.onnx", layers=2, width=4)
    model = '[model.m]\npath = "m.onnx"\nstate = { sum_out = "sum" }\n[pipeline.p]\nsource = "pumps"\nmodel = "m"\n'
    plan = planned(tmp_path, MAIN + PUMPS + model).whole
    lines = plan_text(plan).splitlines()
    assert "    --> what it remembers of each key: sum_out as sum [2, 4] float32" in lines
    [memory] = [line for line in plan.memory if line.what == "pipeline.p: state of the model"]
    assert (memory.bytes, memory.how) == (250 * (2 * 4 * 4 + 108), "250 keys x sum[2, 4] float32")
    assert plan_json(plan)["pipelines"]["p"]["state"] == {"sum_out": {"input": "sum", "shape": [2, 4], "dtype": "float32"}}


def test_a_machine_reads_the_same(tmp_path: Path) -> None:
    plan = planned(tmp_path, MAIN + PUMPS + '[pipeline.p]\nsource = "pumps"\n').whole
    facts = json.loads(json.dumps(plan_json(plan)))
    assert facts["pipelines"]["p"]["publish"] == [{"broker": "main", "topic": "edged/pi4/p/{key}", "qos": 1, "format": "json"}]
    assert facts["sources"]["pumps"]["keys"] == ["line", "pump"]
    assert facts["memory"]["planned_bytes"] == sum(line["bytes"] for line in facts["memory"]["lines"])


def loaded(**more: Any) -> LoadReport:
    figures = {"load_s": 0.1, "weight_bytes": 1, "array_bytes": 1, "resident_bytes": 1, "p50_us": 7.0, "max_us": 9.0}
    known = {"provider": "cuda", "reasons": ("why",), "run": "worker", "batch_max": 16, "outputs": ()}
    return LoadReport("m", "", "0" * 64, **(known | figures | more))  # type: ignore[arg-type]


def test_who_runs_a_model_and_why_nobody_else_does() -> None:
    assert load_text(loaded()).splitlines()[:2] == ["model.m: runs on cuda, worker, 7 us for 16 rows", "  why"]
    assert "nodes of the graph: 9 on cuda, 2 on cpu" in load_text(loaded(nodes={"cuda": 9, "cpu": 2}))
    assert "TensorRT's engine is not built yet: edged model prepare m" in load_text(loaded(builds=True))
    assert "gives no results until TensorRT's engine is built" in load_text(loaded(builds=True, is_held=True))


def test_a_gpu_has_a_table_of_its_own(tmp_path: Path) -> None:
    net(tmp_path / "m.onnx", {"x": (T.FLOAT, ["N", 3])}, {"y": ["N", 2]})
    gpu = Gpu("Orin", "", 8192 * MIB, 4096 * MIB, is_shared=True)
    text = MAIN + ACCEL + '[model.m]\npath = "m.onnx"\n[pipeline.p]\nsource = "accel"\nmodel = "m"\n'
    plan = planned(tmp_path, text, replace(MACHINE, gpu=gpu)).whole
    lines = plan_text(plan).splitlines()
    at = lines.index("Orin, the same memory as above")
    assert lines[at + 2].startswith("CUDA and its libraries")
    assert lines[-1].split()[:4] == ["sum", "464.00", "of", "2048"]
    assert plan_json(plan)["gpu"]["budget_bytes"] == 2048 * MIB
    assert plan_json(planned(tmp_path, text).whole)["gpu"] is None


DOORS = """
[source.door]
type = "mqtt"
topic = "door"
decode = { format = "csv", fields = ["v"] }
[source.key]
type = "mqtt"
topic = "key"
stale_after = "never"
decode = { format = "csv", fields = ["v"] }
[pipeline.a]
source = "door"
[pipeline.b]
source = "key"
[pipeline.c]
source = "accel"
"""


def test_sources_without_a_limit_of_silence_are_named(tmp_path: Path) -> None:
    plan = planned(tmp_path, MAIN + ACCEL + DOORS).whole
    lines = plan_text(plan).splitlines()
    at = lines.index("no limit of silence: source.door; neither rate nor stale_after is set")
    assert lines[at + 1].startswith(
        "  if 50 gaps are regular, edged learns the pace, and reports silent after 10 gaps, at least 30 s;"
    )
    assert lines[at + 2] == 'silence is never reported: source.key; stale_after = "never"'
    found = {name: (s["stale_after_ns"], s["learns_pace"]) for name, s in plan_json(plan)["sources"].items()}
    assert found == {"accel": (2 * 10**9, False), "door": (None, True), "key": (None, False)}
    only = planned(tmp_path, MAIN + ACCEL + '[pipeline.c]\nsource = "accel"\n').whole
    assert not any("silence" in line for line in plan_text(only).splitlines()[:8])
