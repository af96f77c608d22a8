"""Models are tried elsewhere before they are loaded here, once, and planned with what was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.daemon import prepare as module
from edged.daemon.prepare import load, prepare
from edged.errors import ConfigError
from edged.model.trial import attempt
from edged.plan.records import Plan
from tests.support import hostile, models

TEXT = """
[device]
state_dir = "state"
[memory]
budget = "{budget}"
[broker.main]
url = "mqtt://localhost"
[source.in]
type = "mqtt"
topic = "in"
decode = {{ format = "csv", fields = ["a", "b", "c"] }}
[model.m]
path = "{model}"
providers = ["cpu"]
[pipeline.p]
source = "in"
model = "m"
inputs = {{ x = {{ fields = {fields} }} }}
"""


def configuration(folder: Path, model: str = "m.onnx", budget: str = "200MiB", fields: str = '["a", "b", "c"]') -> Path:
    (folder / "state").mkdir(exist_ok=True)
    path = folder / "edged.toml"
    path.write_text(TEXT.format(budget=budget, model=model, fields=fields))
    return path


def arrays(plan: Plan) -> str:
    return next(line.how for line in plan.memory if line.what == "model.m: arrays")


def never(*_: object) -> None:
    raise AssertionError("it was tried before")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this were a process that has just started: that of the tests may be above the budget already."""
    monkeypatch.setattr(module, "resident_bytes", lambda: 64 << 20)


def test_a_model_is_tried_once_and_planned_with_its_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models.centred(tmp_path / "m.onnx")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = configuration(tmp_path, fields='["a", "b"]')
    prepared = prepare(path)
    assert arrays(prepared.plan).startswith("16 rows of")
    plan, loaded = load(prepared)
    report = loaded["m"].report
    assert report.batch_max == 1
    assert arrays(plan).startswith("1 rows of")
    monkeypatch.setattr(module, "attempt_now", never)
    prepared = prepare(path)
    assert arrays(prepared.plan).startswith("1 rows of")
    plan, loaded = load(prepared)
    assert loaded["m"].report.batch_max == 1
    assert loaded["m"].report.reasons == report.reasons  # what was found is said again
    assert loaded["m"].report.batching == report.batching


def test_a_model_that_loops_for_ever_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "FIRST_RUN_S", 0.5)
    (tmp_path / "m").mkdir()
    hostile.build("endless loop", tmp_path / "m")
    with pytest.raises(ConfigError, match=r"its first run did not end within 0.5 s: it loops forever"):
        load(prepare(configuration(tmp_path, "m")))


def test_a_model_that_asks_for_more_than_the_budget_is_refused_before_it_gets_it(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    hostile.build("64 GiB", tmp_path / "m")
    with pytest.raises(ConfigError, match=r"it needs more than the \d+ MiB that are free for it"):
        load(prepare(configuration(tmp_path, "m")))


def test_open_axes_go_into_a_chain_and_a_function_as_they_come_out(tmp_path: Path) -> None:
    """y = x twice, behind each other, of which the file says only that it has some columns."""
    models.twice(tmp_path / "m.onnx")
    models.linear(tmp_path / "next.onnx", width=6)
    (tmp_path / "steps.py").write_text('def last(outputs):\n    return {"last": outputs["y"][3:]}\n')
    path = configuration(tmp_path)
    more = """
[model.next]
path = "next.onnx"
[pipeline.next]
source = "p"
model = "next"
[pipeline.made]
source = "in"
model = "m"
inputs = { x = { fields = ["a", "b", "c"] } }
postprocess = "steps.py:last"
"""
    path.write_text(path.read_text() + more)
    plan, loaded = load(prepare(path))
    assert [(field.name, field.shape) for field, _ in plan.pipelines["p"].results] == [("outputs.y", (6,))]
    assert [(field.name, field.shape) for field, _ in plan.pipelines["made"].results] == [("outputs.last", (3,))]
    assert [o.shape for o in loaded["m"].report.outputs] == [(6,)]
