"""What is announced and when, without a broker; with one it is tests/live/test_s13_homeassistant.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edged.daemon.assembly import Assembly
from edged.health.homeassistant.announcer import Announcer
from edged.health.homeassistant.ledger import read
from edged.records import NONE
from edged.sources.pace import GAPS

CONFIG = """
[homeassistant]
discovery = true
[source.pump]
type = "mqtt"
topic = "pump/{pump}"
decode = { format = "csv", fields = ["v"] }
stale_after = "10s"
max_keys = 2
[pipeline.p]
source = "pump"
publish = { topic = "out/{key}" }
"""
MAIN = "edged_t"


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))


class Rig:
    def __init__(self, make: Callable[[str], Assembly], clock: Any, config: str = CONFIG) -> None:
        self.clock = clock
        self.a = make(config)
        self.link = self.a.links["main"]
        self.link.show("connected", "")
        self.announcer = Announcer(self.a)

    def hear(self, topic: str) -> None:
        self.a.routers["main"].on_publishes([(topic.encode(), b"1", 1, False, (), NONE, b"")])

    async def look(self, after_s: float = 1) -> dict[str, Any]:
        """What is said in two looks, by the ID of the device; what was written down is, by then."""
        self.clock.pass_s(after_s)
        for _ in range(2):
            self.announcer.look()
            while self.announcer.is_writing:  # noqa: ASYNC110 (a thread tells the loop)
                await asyncio.sleep(0)
        self.silenced = [message.topic.decode() for message in self.link.outbox.qos0 if message.body == b"offline"]
        self.link.outbox.qos0.clear()
        return self.said()

    def said(self) -> dict[str, Any]:
        outbox, found = self.link.outbox, {}
        while outbox.qos1:
            message = outbox.take(outbox.qos1)
            message.end()
            if "/device/edged_" in (topic := message.topic.decode()):
                assert message.retain
                found[topic.removeprefix("homeassistant/device/").removesuffix("/config")] = json.loads(message.body or "null")
        return found


async def test_keys_are_announced_as_they_are_heard(make: Callable[[str], Assembly], clock: Any) -> None:
    rig = Rig(make, clock)
    assert [*await rig.look()] == [MAIN]
    rig.hear("pump/a")
    said = await rig.look()
    assert [*said] == ["edged_t_pump_a"]
    assert said["edged_t_pump_a"]["components"]["p.outputs.v"]["availability"][1] == {"topic": "edged/t/source/pump/a"}
    assert await rig.look() == {}
    rig.a.births.take(b"online")
    assert [*await rig.look()] == [MAIN, "edged_t_pump_a"]
    rig.link.counts.connects += 1
    assert [*await rig.look()] == [MAIN, "edged_t_pump_a"]
    rig.link.show("lost", "")
    rig.hear("pump/b")
    assert await rig.look() == {}
    assert rig.announcer.facts() == {"homeassistant": {"devices": 2, "left_out": 0}}
    assert {one.topic.split("/")[2] for one in read(rig.a.plan.state_dir)} == {MAIN, "edged_t_pump_a"}


async def test_a_new_key_takes_the_place_of_one_that_is_gone(make: Callable[[str], Assembly], clock: Any) -> None:
    rig = Rig(make, clock)
    for pump in "ab":
        rig.hear(f"pump/{pump}")
    assert [*await rig.look()] == [MAIN, "edged_t_pump_a", "edged_t_pump_b"]
    clock.pass_s(20)
    rig.hear("pump/c")  # in the place of a, which was silent longest
    said = await rig.look()
    assert (said["edged_t_pump_a"], said["edged_t_pump_c"]["device"]["name"]) == (None, "pump c")
    await rig.look()
    assert rig.announcer.facts() == {"homeassistant": {"devices": 3, "left_out": 0}}
    assert {one.topic.split("/")[2] for one in read(rig.a.plan.state_dir)} == {MAIN, "edged_t_pump_b", "edged_t_pump_c"}


async def test_a_pace_that_is_learned_becomes_a_topic(make: Callable[[str], Assembly], clock: Any) -> None:
    rig = Rig(make, clock, CONFIG.replace('stale_after = "10s"\n', ""))
    rig.hear("pump/a")
    said = await rig.look()
    assert said["edged_t_pump_a"]["components"]["p.outputs.v"]["availability"][1] == {"topic": "edged/t/source/pump"}
    for _ in range(GAPS + 2):
        clock.pass_s(1)
        rig.hear("pump/a")
    said = await rig.look()
    assert said["edged_t_pump_a"]["components"]["p.outputs.v"]["availability"][1] == {"topic": "edged/t/source/pump/a"}


async def test_what_an_earlier_run_told_is_taken_back(make: Callable[[str], Assembly], clock: Any) -> None:
    rig = Rig(make, clock)
    for pump in "ab":
        rig.hear(f"pump/{pump}")
    await rig.look()
    more = '[pipeline.q]\nsource = "pump"\npublish = { topic = "more/{key}" }\n'

    rig = Rig(make, clock, CONFIG + more)  # nothing is heard yet, and all the same
    rig.announcer.restore()
    rig.hear("pump/b")
    said = await rig.look()
    assert rig.silenced == ["edged/t/source/pump/a"]  # a crash may have left it alive
    assert [*said["edged_t_pump_a"]["components"]] == ["p.outputs.v", "q.outputs.v"]

    rig = Rig(make, clock, (CONFIG + more).replace('topic = "out/{key}"', 'topic = "out/{key}", homeassistant = false'))
    rig.announcer.restore()
    said = await rig.look()
    assert said["edged_t_pump_b"]["components"]["p.outputs.v"] == {"platform": "sensor"}

    rig = Rig(make, clock, CONFIG.replace("discovery = true", 'discovery = true\nprefix = "ha"'))
    rig.announcer.restore()
    said = await rig.look()
    assert said.pop("ha/device/edged_t")
    assert said == {MAIN: None, "edged_t_pump_a": None, "edged_t_pump_b": None}
    await rig.look()
    assert [one.topic for one in read(rig.a.plan.state_dir)] == ["ha/device/edged_t/config"]
