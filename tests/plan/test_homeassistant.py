"""What Home Assistant is shown: which entry of `publish`, which entities, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.plan.records import HomeAssistantPlan
from edged.plan.report import plan_json, plan_text
from tests.support.models import identity
from tests.support.planning import ACCEL, MAIN, PUMPS, Planned, planned

ON = "[homeassistant]\ndiscovery = true\n"
MODELS = '[model.two]\npath = "two.onnx"\nlabels = ["fine", "worn"]\n[model.one]\npath = "one.onnx"\n'
ROOM = '[source.room]\ntype = "mqtt"\ntopic = "room"\ndecode = { format = "json", fields = ["a", "b"] }\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    identity(tmp_path / "two.onnx", 1, width=2)
    identity(tmp_path / "one.onnx", 1, width=1)
    return tmp_path


def shown(found: Planned) -> HomeAssistantPlan:
    plan = found.whole.homeassistant
    assert plan is not None
    return plan


def entities(folder: Path, pipeline: str) -> list[tuple[str, str, str, str | None]]:
    """Component, field, name and class of each entity of a pipeline `p` that has these lines."""
    found = planned(folder, MAIN + ON + MODELS + ROOM + f'[pipeline.p]\nsource = "room"\n{pipeline}')
    one = shown(found).shown["p"]
    return [(e.component, e.field.name, one.called(e), e.device_class) for e in one.entities]


def regress(fields: str, publish: str = "{}") -> str:
    return f'model = "two"\noutput = {{ type = "regress", fields = [{fields}] }}\npublish = {publish}\n'


def test_what_each_output_type_is_there(folder: Path) -> None:
    assert entities(folder, 'model = "two"\noutput = "classify"\n') == [("sensor", "label", "p", "enum")]
    assert entities(folder, regress('{ name = "t", unit = "°C" }, { name = "h", unit = "%" }')) == [
        ("sensor", "values.t", "p t", "temperature"),
        ("sensor", "values.h", "p h", None),
    ]
    error = 'model = "two"\noutput = { type = "anomaly", error = "mae", above = 1 }\n'
    assert entities(folder, error) == [
        ("binary_sensor", "anomaly", "p", "problem"),
        ("sensor", "score", "p score", None),
    ]
    assert entities(folder, "") == [("sensor", "outputs.a", "p a", None), ("sensor", "outputs.b", "p b", None)]


def test_the_field_that_is_sent_is_shown(folder: Path) -> None:
    both = '"t", "h"'
    fields = ", ".join(f"{{ name = {name} }}" for name in both.split(", "))
    assert entities(folder, regress(fields, '{ fields = ["values.h", "time"] }'))[0][1:3] == ("values.h", "p h")
    assert entities(folder, regress(fields, '{ format = "text", fields = "values.h" }'))[0][1:3] == ("values.h", "p h")
    assert len(entities(folder, regress(fields, '{ fields = "values" }'))) == 2


def test_the_first_entry_that_can_be_read_unless_another_one_is_named(folder: Path) -> None:
    entries = '[{ topic = "a", format = "msgpack" }, { topic = "b" }, { topic = "c" }]'
    text = MAIN + ON + ROOM + f'[pipeline.p]\nsource = "room"\npublish = {entries}\n'
    assert shown(planned(folder, text)).shown["p"].publish.topic.text == "b"
    named = text.replace('"c" }', '"c", homeassistant = { name = "Room" } }')
    one = shown(planned(folder, named)).shown["p"]
    assert (one.publish.topic.text, one.name) == ("c", "Room")
    without = text.replace('"b" }', '"b", homeassistant = false }')
    assert shown(planned(folder, without)).shown["p"].publish.topic.text == "c"


def test_keys_are_devices_and_bounded(folder: Path) -> None:
    keyed = '[pipeline.p]\nsource = "pumps"\n[pipeline.q]\nsource = "pumps"\npublish = "q/{key}"\n'
    plan = shown(planned(folder, MAIN + ON + PUMPS + keyed))
    assert [one.source for one in plan.shown.values()] == ["pumps", "pumps"]
    assert plan.most_devices == 250
    many = MAIN + ON + PUMPS.replace("250", "5000") + keyed
    found = planned(folder, many).whole
    assert shown(planned(folder, many)).most_devices == 1000
    [line] = [line for line in found.memory if line.what == "Home Assistant"]
    assert line.bytes == 1001 * 1024 + 2 * 8 * 1024  # four fields of two pipelines


@pytest.mark.parametrize(
    ("rate", "publish", "wanted"),
    [
        ("1000", "{ retain = true }", None),
        ("1000", "{}", 30),
        ('"2/min"', "{}", 90),
        ("1000", '{ when = { change = true, of = "outputs.ax" } }', None),
        ("1000", '{ when = { change = true, of = "outputs.ax", max_interval = "1min" } }', 180),
        ("1000", '{ when = { min_interval = "20s" } }', 60),
    ],
)
def test_when_a_result_that_is_not_retained_is_too_old(folder: Path, rate: str, publish: str, wanted: int | None) -> None:
    source = ACCEL.replace("rate = 1000", f"rate = {rate}")
    found = planned(folder, MAIN + ON + source + f'[pipeline.p]\nsource = "accel"\npublish = {publish}\n')
    assert shown(found).shown["p"].expire_after_s == wanted


def test_it_is_told_when_home_assistant_starts(folder: Path) -> None:
    text = MAIN + ON + ROOM + '[pipeline.p]\nsource = "room"\n'
    assert [s.filter for s in planned(folder, text).whole.links["main"].subscriptions] == ["room", "homeassistant/status"]
    found = planned(folder, text.replace("discovery = true", 'discovery = true\nprefix = "ha/{device}"'))
    assert shown(found).prefix == "ha/pi4"
    assert [s.filter for s in found.whole.links["main"].subscriptions][1:] == ["ha/pi4/status", "homeassistant/status"]


@pytest.mark.parametrize(
    ("publish", "wrong"),
    [
        (
            '{ format = "msgpack", homeassistant = true }',
            'homeassistant: Home Assistant cannot read format "msgpack"; write "json"',
        ),
        (
            '{ fields = "time", homeassistant = true }',
            'homeassistant: none of its fields can be shown; add "outputs.a" or "outputs.b" to fields',
        ),
        (
            '[{ topic = "a", homeassistant = true }, { topic = "b", homeassistant = true }]',
            "publish[0] is shown already; one entry of a pipeline is, or its entities would be there twice",
        ),
        (
            '{ homeassistant = { device_class = "temperature" } }',
            "device_class: has no effect: there are several values; the unit of each says of which class it is",
        ),
        ('{ homeassistant = { icon = "pump" } }', 'icon: expected an icon such as "mdi:pump", found "pump"'),
        ('{ when = { of = "outputs.a", above = 1 } }', "Home Assistant gets a result while this holds, and none when it ends"),
    ],
)
def test_what_cannot_be_shown(folder: Path, publish: str, wrong: str) -> None:
    found = planned(folder, MAIN + ON + ROOM + f'[pipeline.p]\nsource = "room"\npublish = {publish}\n')
    assert any(wrong in line for line in found.lines), found.lines


@pytest.mark.parametrize(
    ("output", "given", "wrong"),
    [
        ('"classify"', "battery", "has no effect: these are labels or texts, and classes are of numbers"),
        (
            '{ type = "anomaly", error = "mae", above = 1 }',
            "ocupancy",
            'of a binary_sensor, found "ocupancy"; did you mean "occupancy"?',
        ),
    ],
)
def test_classes_are_those_of_the_component(folder: Path, output: str, given: str, wrong: str) -> None:
    entry = f'publish = {{ homeassistant = {{ device_class = "{given}" }} }}\n'
    found = planned(
        folder, MAIN + ON + MODELS + ROOM + f'[pipeline.p]\nsource = "room"\nmodel = "two"\noutput = {output}\n{entry}'
    )
    assert any(wrong in line for line in found.lines), found.lines


def test_tables_by_themselves(folder: Path) -> None:
    rest = ROOM + '[pipeline.p]\nsource = "room"\npublish = { homeassistant = true }\n'
    off = planned(folder, MAIN + rest)
    assert off.whole.homeassistant is None
    assert any("has no effect without [homeassistant] discovery = true" in line for line in off.lines)
    lines = planned(folder, MAIN + '[homeassistant]\nprefix = "x"\n' + rest).lines
    assert any("homeassistant.discovery: required: true, or false" in line for line in lines), lines
    two = '[broker.other]\nurl = "mqtt://other"\n' + MAIN + ON + rest
    assert any("homeassistant.broker: required, since there are two brokers" in line for line in planned(folder, two).lines)


def test_what_check_says(folder: Path) -> None:
    text = MAIN + ON + PUMPS + ROOM + '[pipeline.p]\nsource = "pumps"\npublish = { fields = "outputs.temp", topic = "p/{key}" }\n'
    plan = planned(folder, text + '[pipeline.q]\nsource = "room"\npublish = { format = "msgpack" }\n').whole
    lines = plan_text(plan).splitlines()
    at = lines.index("in Home Assistant, by main: homeassistant/device/+/config: pi4 with its own diagnostics, and")
    assert lines[at + 1 : at + 3] == [
        '  pipeline.p: sensor "p temp", on a device for each of up to 250 keys of source.pumps; unavailable after 30 s without a '
        "result",
        "  nothing of pipeline.q",
    ]
    assert plan_json(plan)["homeassistant"]["entities"] == [
        {
            "pipeline": "p",
            "field": "outputs.temp",
            "component": "sensor",
            "name": "p temp",
            "device_class": None,
            "unit": None,
            "per_key": True,
        }
    ]
