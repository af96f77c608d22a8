from __future__ import annotations

import json
from pathlib import Path

from onnx import TensorProto as T

from edged.report import plan_json, plan_text
from tests.deployments import net
from tests.plan.planning import ACCEL, MAIN, MIB, PUMPS, planned

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
    assert lines[:14] == [
        "device pi4, says of itself on edged/pi4/status, /health, /model, /source, /event",
        "",
        "pipeline.driver",
        "  source.pumps: main: plant/{line}/{pump}/telemetry (QoS 1), 1 a second, up to 250 keys by line pump: "
        "temp, p_in, p_out, rpm",
        "  source.accel: serial port /dev/ttyACM9 at 921600 baud, 1000 a second: ax, ay, az",
        "    --> one row every sample of pumps, previous values of the others, at most 3s old",
        "    --> window of 30 samples, one every 5, starting over after a silence of 3s",
        "    --> detrend",
        "    --> steps.py:same",
        "    --> 20 places to wait for the model, when full the newest of a key replaces its older one",
        "    --> model.m: x [30, 7] float32, gain = 2",
        "    --> classify: calm, brisk, mean of 3",
        "    --> main: edged/pi4/driver/{key} (json, QoS 1, if changed, at most one in 1s, at least one in 60s)",
        "    --> main: x/{key} (text of score, QoS 0, retained, if above 0.5 and label is brisk)",
    ]
    sums = lines[-1]
    assert sums.startswith("sum ")
    assert f"of 512 MiB, {(plan.budget - plan.planned_bytes) / MIB:.0f} MiB to spare" in sums


def test_a_machine_reads_the_same(tmp_path: Path) -> None:
    plan = planned(tmp_path, MAIN + PUMPS + '[pipeline.p]\nsource = "pumps"\n').whole
    facts = json.loads(json.dumps(plan_json(plan)))
    assert facts["pipelines"]["p"]["publish"] == [{"broker": "main", "topic": "edged/pi4/p/{key}", "qos": 1, "format": "json"}]
    assert facts["sources"]["pumps"]["keys"] == ["line", "pump"]
    assert facts["memory"]["planned_bytes"] == sum(line["bytes"] for line in facts["memory"]["lines"])
