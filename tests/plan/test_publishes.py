from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.planning import ACCEL, MAIN, PUMPS, Planned, planned


def publish(folder: Path, entries: str, source: str = PUMPS, name: str = "pumps") -> Planned:
    return planned(folder, MAIN + source + f'[pipeline.p]\nsource = "{name}"\npublish = {entries}\n')


def topics(found: Planned) -> list[str]:
    return [x.topic.text for x in found.whole.pipelines["p"].publishes]


def test_default_topics(tmp_path: Path) -> None:
    assert topics(publish(tmp_path, "{}")) == ["edged/pi4/p/{key}"]
    assert topics(publish(tmp_path, "{}", ACCEL, "accel")) == ["edged/pi4/p"]


def test_topics_are_filled_as_far_as_they_are_known(tmp_path: Path) -> None:
    found = publish(tmp_path, '["{device}/{pipeline}/{line}/{pump}", "x/{key}", "{base_topic}/{pump}/{line}"]')
    assert topics(found) == ["pi4/p/{line}/{pump}", "x/{key}", "edged/pi4/{pump}/{line}"]
    assert found.whole.pipelines["p"].publishes[0].topic.fill({"line": "A", "pump": "7"}) == "pi4/p/A/7"


def test_nothing_may_be_published(tmp_path: Path) -> None:
    assert topics(publish(tmp_path, "[]")) == []


def test_conditions_are_planned(tmp_path: Path) -> None:
    found = publish(tmp_path, '{ when = { of = "outputs.rpm", above = 100, min_interval = "1s" } }').whole
    [entry] = found.pipelines["p"].publishes
    assert entry.when is not None
    assert (entry.when.condition.of, entry.when.condition.above, entry.when.min_interval) == (("outputs", "rpm"), 100, 10**9)
    [entry] = publish(tmp_path, "{}").whole.pipelines["p"].publishes
    assert entry.when is None


@pytest.mark.parametrize(
    ("source", "topic", "is_loop"),
    [
        ("plant/{line}/{pump}/telemetry", "plant/{line}/{pump}/health", False),
        ("plant/{line}/{pump}/telemetry", "plant/{line}/{pump}/telemetry", True),
        ("plant/{line}/{pump}/{what}", "plant/{key}", True),
        ("plant/{rest...}", "plant/{rest}/health", True),
        ("plant/{rest...}", "health/{rest}", False),
        ("{a}/{b}", "out/{key}", False),  # a key of two parts is two levels: out/a/b
        ("{rest...}", "out/{rest}", True),
        ("edged/{device}/{rest...}", "out/{rest}", True),
        ("edged/pi4/source/{name}", "out/{name}", True),
        ("edged/pi4/source/pumps/{line}/{pump}", "out/{key}", True),
    ],
)
def test_results_do_not_come_back(tmp_path: Path, source: str, topic: str, is_loop: bool) -> None:
    text = PUMPS.replace("plant/{line}/{pump}/telemetry", source)
    found = publish(tmp_path, f'"{topic}"', text)
    own = "which edged publishes itself"
    assert any("come back as inputs" in line or own in line for line in found.lines) is is_loop, found.lines


def test_connections_to_one_address_are_one_broker(tmp_path: Path) -> None:
    brokers = '[broker.a]\nurl = "mqtt://h"\n[broker.b]\nurl = "mqtt://h"\n[broker.c]\nurl = "mqtt://h:1884"\n'
    source = PUMPS + 'broker = "a"\n[pipeline.p]\nsource = "pumps"\n'
    entry = 'publish = { broker = "BROKER", topic = "plant/{line}/{pump}/telemetry" }\n'
    assert "come back" in planned(tmp_path, brokers + source + entry.replace("BROKER", "b")).lines[0]
    assert planned(tmp_path, brokers + source + entry.replace("BROKER", "c")).lines == []
