from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edged.daemon.assembly import Assembly
from edged.health.availability import AT_ONCE, LOOKED_AT, Availability
from edged.health.status import Look, states
from edged.records import NONE
from edged.sources.pace import GAPS

CONFIG = """
[source.door]
type = "mqtt"
topic = "door"
decode = { format = "csv", fields = ["v"] }
[source.pump]
type = "mqtt"
topic = "pump/{line}/{pump}"
decode = { format = "csv", fields = ["v"] }
stale_after = "10s"
frozen_after = "20s"
max_keys = KEYS
[pipeline.doors]
source = "door"
[pipeline.pumps]
source = "pump"
publish = { topic = "out/{key}" }
"""


class Rig:
    def __init__(self, make: Callable[[str], Assembly], clock: Any, keys: int = 2, config: str = CONFIG) -> None:
        self.a = make(config.replace("KEYS", str(keys)))
        self.clock = clock
        self.link = self.a.links["main"]
        self.link.show("connected", "")
        self.availability = Availability(self.a)

    def hear(self, topic: str, text: str = "1") -> None:
        self.a.routers["main"].on_publishes([(topic.encode(), text.encode(), 1, False, (), NONE, b"")])

    def look(self, after_s: float = 0) -> dict[str, str]:
        """What is said next, by topic."""
        self.clock.pass_s(after_s)
        self.availability.look(Look(self.a, self.clock.now()))
        return self.said()

    def said(self) -> dict[str, str]:
        outbox = self.link.outbox
        found: dict[str, str] = {}
        while outbox.qos0:
            message = outbox.take(outbox.qos0)
            assert message.retain
            found[message.topic.decode().removeprefix("edged/t/source/")] = message.body.decode()
        outbox.qos1.clear()
        return found


async def test_said_on_a_change_and_again_on_every_connect(make: Callable[[str], Assembly], clock: Any) -> None:
    rig = Rig(make, clock)
    assert rig.look() == {"door": "offline", "pump": "offline"}
    assert rig.look(1) == {}
    rig.hear("door")
    rig.hear("pump/1/a")
    rig.hear("pump/1/b")
    assert rig.look(1) == {"door": "online", "pump": "online", "pump/1/a": "online", "pump/1/b": "online"}
    rig.clock.pass_s(6)
    rig.hear("pump/1/b", "2")
    assert rig.look(6) == {"pump/1/a": "offline"}
    rig.link.show("lost", "")
    assert rig.look(1) == {}
    rig.link.show("connected", "")
    rig.link.counts.connects = 2
    assert rig.look() == {"door": "online", "pump": "online", "pump/1/a": "offline", "pump/1/b": "online"}
    rig.hear("pump/1/a")
    assert rig.look(1) == {"pump/1/a": "online"}
    rig.availability.stop()
    assert rig.said() == {"door": "offline", "pump": "offline", "pump/1/a": "offline", "pump/1/b": "offline"}


async def test_what_the_broker_does_not_take_is_not_said_again_and_again(make: Callable[[str], Assembly], clock: Any) -> None:
    rig = Rig(make, clock)
    assert rig.look() == {"door": "offline", "pump": "offline"}
    (listener,) = rig.availability._listeners
    listener.counts.drops.add("refused")
    assert rig.look(1) == {}


async def test_bad_and_frozen_values_are_no_sign_of_life(make: Callable[[str], Assembly], clock: Any) -> None:
    rig = Rig(make, clock)
    rig.hear("pump/1/a")
    rig.hear("pump/1/b")
    rig.look()
    for i in range(5):
        rig.clock.pass_s(5)
        rig.hear("pump/1/a", "nan")
        rig.hear("pump/1/b", str(i // 2))
    assert rig.look() == {"pump/1/a": "offline"}
    assert [s.reason for s in states(rig.a, clock.now()) if s.name == "pump"] == ["1 of 2 keys are silent or frozen"]
    for _ in range(5):
        rig.clock.pass_s(5)
        rig.hear("pump/1/b", "2")
    assert rig.look() == {"pump": "offline", "pump/1/b": "offline"}
    assert [s.state for s in states(rig.a, clock.now()) if s.name == "pump"] == ["frozen"]
    rig.hear("pump/1/b", "3")
    assert rig.look() == {"pump": "online", "pump/1/b": "online"}
    rig.clock.pass_s(11)
    rig.hear("pump/1/a", "nan")
    assert rig.look() == {"pump": "offline", "pump/1/b": "offline"}
    assert [s.state for s in states(rig.a, clock.now()) if s.name == "pump"] == ["bad values"]


async def test_the_topic_of_a_key_that_gave_way_is_removed(make: Callable[[str], Assembly], clock: Any) -> None:
    rig = Rig(make, clock)
    rig.hear("pump/1/a")
    rig.hear("pump/1/b")
    rig.look()
    rig.clock.pass_s(11)
    rig.hear("pump/1/c")
    assert rig.look() == {"pump/1/a": "", "pump/1/b": "offline", "pump/1/c": "online"}
    rig.clock.pass_s(11)
    rig.hear("pump/1/a")
    assert rig.look() == {"pump/1/b": "", "pump/1/a": "online", "pump/1/c": "offline"}


async def test_of_a_key_without_a_limit_nothing_is_said_before_its_pace_is_learned(
    make: Callable[[str], Assembly], clock: Any
) -> None:
    rig = Rig(make, clock, 3, CONFIG.replace('stale_after = "10s"\nfrozen_after = "20s"\n', ""))
    for second in range(GAPS + 1):
        rig.hear("pump/1/a")
        if second in (0, 3, 4, 20):
            rig.hear("pump/1/door")
        assert rig.look(1) in ({}, {"door": "offline", "pump": "online"}, {"pump/1/a": "online"})
    assert rig.look(30) == {"pump": "offline", "pump/1/a": "offline"}
    rig.hear("pump/1/door")
    assert rig.look() == {"pump": "online"}
    rig.hear("pump/1/a")
    assert rig.look() == {"pump/1/a": "online"}
    rig.clock.pass_s(60)
    rig.hear("pump/1/door")
    assert rig.look() == {"pump/1/a": "offline"}
    rig.hear("pump/1/a")  # twice in a row it was silent for longer: it has no pace
    assert rig.look() == {"pump/1/a": ""}
    assert rig.look(10**6) == {}


async def test_many_keys_are_said_a_few_at_a_time(make: Callable[[str], Assembly], clock: Any) -> None:
    rig = Rig(make, clock, AT_ONCE + 50)
    for i in range(AT_ONCE + 50):
        rig.hear(f"pump/1/{i}")
    first, second, third = rig.look(), rig.look(), rig.look()
    assert len(first) == AT_ONCE
    assert len(first) + len(second) == 2 + AT_ONCE + 50
    assert third == {}


async def test_many_sources_are_looked_at_in_turn(make: Callable[[str], Assembly], clock: Any) -> None:
    source = '[source.s{0}]\ntype = "mqtt"\ntopic = "s{0}"\ndecode = {{ format = "csv", fields = ["v"] }}\n'
    count = LOOKED_AT + 50
    config = "".join(source.format(i) + f'[pipeline.p{i}]\nsource = "s{i}"\n' for i in range(count))
    rig = Rig(make, clock, config=config)
    looks = [rig.look() for _ in range(3)]
    assert [len(look) for look in looks] == [LOOKED_AT, count - LOOKED_AT, 0]
    rig.hear(f"s{count - 1}")
    assert {**rig.look(), **rig.look()} == {f"s{count - 1}": "online"}


async def test_what_an_outbox_dropped_is_said_again(make: Callable[[str], Assembly], clock: Any) -> None:
    rig = Rig(make, clock)
    rig.availability.look(Look(rig.a, clock.now()))
    rig.link.outbox.drop_oldest("overflow")
    assert set(rig.said()) == {"pump"}
    assert rig.look() == {"door": "offline", "pump": "offline"}
