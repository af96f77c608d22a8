"""What a group that shares a topic is refused, and what its subscriptions are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import TensorProto

from edged.mqtt.settings import LinkSettings, Subscription
from edged.plan.records import Plan
from edged.topics import shared, unshared
from tests.support import models
from tests.support.planning import planned

HEAD = """
[broker.main]
url = "mqtt://localhost"
session_expiry = "10min"
[source.s]
type = "mqtt"
topic = "line/{station}"
share = "scorers"
SOURCE
decode = { format = "json", fields = ["v"] }
"""

MODEL = 'model = "m"\n[model.m]\npath = "m.onnx"\n[pipeline.q]\nsource = "s"\nmodel = "m"\n'
REMEMBERS = 'model = "m"\n[model.m]\npath = "total.onnx"\nstate = { sum_out = "sum" }'


def config(source: str = "", pipeline: str = "") -> str:
    if source == "NAMED_BY":
        return config("", pipeline).replace('["v"]', '["v"], named_by = "n", payload = "x"')
    if source == "FIELD":
        return config("", pipeline).replace("{station}", "{station}/{field}")
    if source == "HOLD":
        return config("", pipeline).replace('["v"]', '[{ name = "v", absent = "hold" }]')
    return HEAD.replace("SOURCE", source) + f'[pipeline.p]\nsource = "s"\n{pipeline}\n'


Planner = Callable[[str], Plan]


@pytest.fixture
def plan(tmp_path: Path) -> Planner:
    return lambda text: planned(tmp_path, text).whole


def test_subscribes_as_a_member_of_the_group(plan: Planner) -> None:
    made = plan(config())
    (subscription,) = made.links["main"].subscriptions
    assert subscription.filter == "$share/scorers/line/+"
    assert subscription.is_shared
    assert [topic.mqtt for _, topic in made.sources["s"].filters] == ["line/+"]


def test_an_observer_is_no_member(plan: Planner) -> None:
    (subscription,) = plan(config()).links["main"].apart.subscriptions
    assert subscription.filter == "line/+"


def test_silence_of_a_part_says_nothing(plan: Planner) -> None:
    made = plan(config("rate = 10")).sources["s"]
    assert made.stale_ns is None
    assert not made.learns_pace
    assert plan(config('stale_after = "5s"')).sources["s"].stale_ns == 5 * 10**9


@pytest.mark.parametrize(
    ("source", "pipeline", "key"),
    [
        ('every = "1s"', "", "every"),
        ('on_bad = "hold"', "", "on_bad"),
        ("retained = true", "", "retained"),
        ("HOLD", "", 'absent = "hold"'),
        ('frozen_after = "1min"', "", "frozen_after"),
        ("", "window = { size = 4 }", "window"),
        ("rate = 10", "align = { rate = 5 }", "align"),
        ("", 'gate = { source = "s", of = "v", above = 1 }', "gate"),
        ("", 'publish = { when = { change = true, of = "outputs.v" } }', "when.change"),
        ("", 'publish = { when = { min_interval = "1s" } }', "when.min_interval"),
        ("", MODEL + 'output = { type = "anomaly", above = 1, latch = true }', "latch"),
        ("", MODEL + 'output = { type = "anomaly", above = 1, latch = "ack" }', "latch"),
        ("", MODEL + 'output = { type = "anomaly", above = 1, release = 0.5 }', "release"),
        ("", MODEL + 'output = { type = "anomaly", above = 1, smooth = 3 }', "smooth"),
        ("", REMEMBERS, "state"),
        ("NAMED_BY", "", "named_by"),
        ("FIELD", "", "{field}"),
        ("", 'publish = []\n[pipeline.next]\nsource = "p"\nwindow = { size = 4 }', "window of pipeline.next"),
    ],
)
def test_refuses_what_needs_all_samples_of_a_key(source: str, pipeline: str, key: str, tmp_path: Path) -> None:
    """Each of them by its name."""
    models.identity(tmp_path / "m.onnx", TensorProto.FLOAT, width=1)
    models.total(tmp_path / "total.onnx")
    problems = planned(tmp_path, config(source, pipeline)).lines
    assert any("deals the samples of one key out" in text and key in text for text in problems), problems


def test_refuses_a_broker_without_shared_subscriptions(tmp_path: Path) -> None:
    problems = planned(tmp_path, config().replace('session_expiry = "10min"', 'version = "3.1.1"')).lines
    assert any("3.1.1 has no shared subscriptions" in text for text in problems)


def test_filters_of_a_group_there_and_back() -> None:
    assert shared("", "a/+") == "a/+"
    assert unshared(shared("g", "a/+")) == "a/+"
    assert unshared("a/$share/b") == "a/$share/b"
    settings = LinkSettings("m", None, "c", subscriptions=(Subscription("a"), Subscription("$share/g/b")))  # type: ignore[arg-type]
    assert [s.filter for s in settings.apart.subscriptions] == ["a", "b"]
