from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto as T

from edged.config.load import read
from edged.model.manifest import read_manifest
from edged.plan.make import make_plan
from edged.plan.records import Plan
from tests.support.deployments import NAMES, environ, net, written
from tests.support.planning import ACCEL, MACHINE, MAIN, MIB, planned


def deployment(name: str, folder: Path) -> Plan:
    draft = read(written(name, folder), environ(folder))
    manifests = {}
    for model, settings in draft.config.model.items():
        assert settings.path is not None
        manifest, problems = read_manifest(model, settings.path)
        assert manifest is not None, problems
        manifests[model] = manifest
    plan, problems = make_plan(draft.config, manifests, MACHINE)
    assert plan is not None, problems
    return plan


@pytest.mark.parametrize("name", NAMES)
def test_every_deployment_is_planned(name: str, tmp_path: Path) -> None:
    plan = deployment(name, tmp_path)
    assert plan.pipelines
    assert all(p.publishes or not p.sources or name == "06-cameras" for p in plan.pipelines.values())
    assert plan.planned_bytes < (256 if name == "06-cameras" else 100) * MIB


def test_the_pumps(tmp_path: Path) -> None:
    p = deployment("pumps", tmp_path).pipelines["health"]
    assert (p.keys, p.max_keys, p.slots, p.overflow) == (("line", "pump"), 250, 256, "block")
    assert p.window is not None
    assert (p.window.size, p.window.hop, p.window.gap_ns) == (60, 10, 5 * 10**9)
    output: Any = p.output
    assert (output.error, output.input, output.size) == ("mae", "x", 240)


def test_the_home(tmp_path: Path) -> None:
    p = deployment("home", tmp_path).pipelines["occupancy"]
    assert [f.name for f in p.fields] == ["occupancy", "illuminance", "temperature", "humidity", "contact"]
    assert p.align is not None
    assert p.align.period_ns == 10 * 10**9
    assert p.window is not None
    assert (p.window.size, p.window.hop) == (180, 6)


def test_the_keyword(tmp_path: Path) -> None:
    plan = deployment("keyword", tmp_path)
    p = plan.pipelines["keyword"]
    assert [(i.name, i.shape, i.value) for i in p.inputs] == [("audio", (576,), None), ("sr", (1,), 16000)]
    assert [(s.input, s.output, s.shape, s.axis) for s in p.states] == [("h", "h_out", (1, 8), 1), ("c", "c_out", (1, 8), 1)]
    model = plan.models["keyword"]
    assert (model.outputs, model.batch_max) == (("scores", "h_out", "c_out"), 8)  # one row of each of 8 rooms
    assert (p.output.tensors, p.state_gap_ns) == (("scores",), None)
    assert plan.sources["mic"].dtype == "float32"


def test_the_press(tmp_path: Path) -> None:
    p = deployment("press", tmp_path).pipelines["bearing"]
    vibration, temperature = p.inputs
    assert (vibration.shape, vibration.layout, vibration.columns) == ((3, 4096), "field,time", (0, 1, 2))
    assert (temperature.shape, temperature.rows, temperature.columns) == ((1,), 1, (3,))


def test_the_driver(tmp_path: Path) -> None:
    p = deployment("driver", tmp_path).pipelines["driver"]
    [x] = p.inputs
    assert [p.fields[c].name for c in x.columns or ()] == ["speed", "rpm", "brake", "throttle", "gear", "hdop", "track"]
    [normalize] = p.steps
    by_field = dict(zip([f.name for f in p.fields], normalize.mean or (), strict=True))
    assert (by_field["rpm"], by_field["track"], by_field["speed"]) == (2000, 180, 10)


def test_chains_are_planned_in_their_order(tmp_path: Path) -> None:
    net(tmp_path / "m.onnx", {"x": (T.FLOAT, ["N", 4])}, {"y": ["N", 1]})
    text = """
[model.m]
path = "m.onnx"
[pipeline.last]
source = ["first", "accel"]
align = { to = "first" }
model = "m"
[pipeline.first]
source = "accel"
window = { size = 100 }
model = "any"
output = { type = "anomaly", above = 0.5 }
publish = []
inputs = { x = { fields = "ax" } }
[model.any]
path = "any.onnx"
"""
    net(tmp_path / "any.onnx", {"x": (T.FLOAT, ["N", 100])}, {"score": ["N", 1]})
    found = planned(
        tmp_path,
        MAIN + ACCEL + text.replace('model = "m"', 'model = "m"\ninputs = { x = { fields = ["score", "ax", "ay", "az"] } }'),
    )
    assert list(found.whole.pipelines) == ["last", "first"]
    last = found.whole.pipelines["last"]
    assert [f.name for f in last.fields] == ["score", "anomaly", "ax", "ay", "az"]
    assert last.inputs[0].columns == (0, 2, 3, 4)
    assert last.rate == 10
    assert last.align is not None
    assert last.align.sources[1].tolerance_ns == 2 * 10**9


def test_other_parts_are_planned_beside_a_broken_one(tmp_path: Path) -> None:
    text = MAIN + ACCEL + '[pipeline.a]\nsource = "accel"\nwindow = { size = "1us" }\n[pipeline.b]\nsource = "a"\n'
    found = planned(tmp_path, text + '[pipeline.c]\nsource = "accel"\npublish = "x/{y}"\n')
    assert [line.partition(": ")[2].partition(":")[0] for line in found.lines] == [
        "pipeline.a.window.size",
        "pipeline.c.publish.topic",
    ]
