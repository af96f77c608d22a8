from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from edged.daemon.assembly import Assembly
from edged.daemon.relief import Relief
from edged.health import schedule
from edged.health.configured import Fallback
from edged.health.schedule import Health
from edged.health.status import Look
from edged.pipeline.admission import Admission
from edged.pipeline.exit import Heads
from edged.plan.change import Change
from edged.records import NONE
from edged.sources import mqtt
from tests.support.ticking import tick_within

CONFIG = """
[health]
interval = "5s"
[source.in]
type = "mqtt"
topic = "in/{k}"
decode = { format = "csv", fields = [{ name = "v", unit = "mm" }] }
[pipeline.p]
source = "in"
publish = { topic = "out/{k}" }
"""


def sent(a: Assembly) -> list[tuple[str, Any, bool]]:
    """What waits in the outbox, and empties it."""
    outbox = a.links["main"].outbox
    found = []
    while outbox.qos0:
        message = outbox.take(outbox.qos0)
        if "/source/" in message.topic.decode():  # availability: plain words
            continue
        found.append((message.topic.decode(), msgspec.json.decode(message.body), message.retain))
    return found


async def test_the_snapshot_holds_every_part_and_its_ledgers(make: Callable[[str], Assembly], clock: Any) -> None:
    a = make(CONFIG)
    health = Health(a, Relief(a), clock, "cafe0000")
    a.routers["main"].on_publishes([(b"in/a", b"1", 1, False, (), NONE, b""), (b"in/b", b"x", 1, False, (), NONE, b"")])
    clock.pass_s(2)
    facts = msgspec.json.decode(msgspec.json.encode(health.snapshot()))
    assert (facts["device"], facts["config"], facts["run"], facts["uptime_s"]) == ("t", "cafe0000", a.run, 2.0)
    assert facts["state"] == "degraded"
    source = facts["sources"]["in"]
    assert (source["read"], source["rows"], source["rejected"], source["dropped"]) == (2, 1, 1, {"not_a_number": 1})
    assert (source["keys"], source["max_keys"], source["units"], source["age_s"]) == (1, 256, {"v": "mm"}, 2.0)
    pipeline = facts["pipelines"]["p"]
    assert (pipeline["due"], pipeline["published"], pipeline["waiting"]) == (1, 1, 0)
    [entry] = pipeline["publish"]
    assert (entry["made"], entry["queued"]) == (1, 1)
    assert facts["brokers"]["main"]["state"] == "connecting"
    assert facts["memory"]["resident_mib"] > 0
    assert health.status_line().startswith("source in: waiting; pipeline p: waiting; broker main: connecting; ")


async def test_where_the_time_goes_is_in_the_part_that_spends_it(
    make: Callable[[str], Assembly], clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message is decoded, prepared and made a result, and the account of each stage grows by its own time alone."""
    tick_within(monkeypatch, 10**9, (mqtt, "stamped"), (Admission, "push"), (Heads, "bodies"))
    a = make(CONFIG)
    a.routers["main"].on_publishes([(b"in/a", b"1", 1, False, (), NONE, b"")])
    facts = Health(a, Relief(a), clock, "").snapshot()
    assert facts["sources"]["in"]["spent_s"] == {"decode": 1.0}
    assert facts["pipelines"]["p"]["spent_s"] == {"prepare": 1.0, "run": 0.0, "results": 1.0}
    assert facts["brokers"]["main"]["spent_s"] == {"receive": 0.0, "send": 0.0}


async def test_health_goes_out_at_its_interval_and_only_where_it_is_heard(make: Callable[[str], Assembly], clock: Any) -> None:
    a = make(CONFIG)
    health = Health(a, Relief(a), clock, "")
    health.tick()
    assert sent(a) == []  # nobody to tell; it is said anew when the broker is there
    a.links["main"].show("connected", "")
    topics = []
    for _ in range(12):
        clock.pass_s(1)
        health.tick()
        topics += [topic for topic, _, is_retained in sent(a) if is_retained]
    assert topics == ["edged/t/health"] * topics.count("edged/t/health")
    assert topics.count("edged/t/health") in (2, 3)


async def test_health_of_many_parts_is_made_a_piece_at_a_time(
    make: Callable[[str], Assembly], clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each look at the clock is a slice later, each turn makes one part; all of it goes out once it is whole."""
    a = make(CONFIG)
    a.links["main"].show("connected", "")
    health = Health(a, Relief(a), clock, "")
    begun = itertools.count(clock.now(), schedule.SLICE_NS + 1)
    monkeypatch.setattr(clock, "now", lambda: next(begun))
    health.tick()
    turns = 1
    while health.go_on():
        assert "edged/t/health" not in [topic for topic, _, _ in sent(a)]
        turns += 1
    assert turns == 3  # a source, a pipeline, a broker
    [facts] = [facts for topic, facts, _ in sent(a) if topic == "edged/t/health"]
    assert (list(facts["sources"]), list(facts["pipelines"]), list(facts["brokers"])) == (["in"], ["p"], ["main"])


async def test_health_of_parts_that_are_gone_is_made_anew(make: Callable[[str], Assembly], clock: Any) -> None:
    a, b = make(CONFIG), make(CONFIG.replace("pipeline.p", "pipeline.q"))
    for one in (a, b):
        one.links["main"].show("connected", "")
    health = Health(a, Relief(a), clock, "")
    health._due.telling = health._tell(Look(a, clock.now()))  # begun
    health.adopt(b, "")
    assert not health.go_on()
    health.tick()
    assert [list(facts["pipelines"]) for topic, facts, _ in sent(b) if topic == "edged/t/health"] == [["q"]]


async def test_a_change_of_state_is_said_once(make: Callable[[str], Assembly], clock: Any) -> None:
    a = make(CONFIG)
    link = a.links["main"]
    link.show("connected", "")
    with capture_logs() as logs:
        health = Health(a, Relief(a), clock, "")
        for _ in range(3):
            clock.pass_s(1)
            health.tick()
        assert not [e for e in logs if e["log_level"] == "warning"]  # what every start goes through is no news
        a.routers["main"].on_publishes([(b"in/a", b"1", 1, False, (), NONE, b"")])
        sent(a)
        for _ in range(3):
            clock.pass_s(1)
            health.tick()
    events = [facts for topic, facts, _ in sent(a) if topic == "edged/t/event"]
    assert [(e["part"], e["name"], e["state"]) for e in events if e["event"] == "state"].count(("source", "in", "running")) == 1
    assert [e for e in logs if e.get("source") == "in" and e["state"] == "running"][1:] == []


async def test_a_source_that_never_heard_anything_is_told_once(make: Callable[[str], Assembly], clock: Any) -> None:
    """It is silent from the first look on: without a change of state nothing else would say so."""
    a = make(CONFIG)
    a.links["main"].show("connected", "")
    health = Health(a, Relief(a), clock, "")
    with capture_logs() as logs:
        for _ in range(120):
            clock.pass_s(1)
            health.tick()
            if clock.time == 10**12 + 60 * 10**9:
                assert [(e["source"], e["reason"][:25]) for e in logs if e["event"] == "unheard"] == [
                    ("in", "no message yet on in/+: c")
                ]
        assert len([e for e in logs if e["event"] == "unheard"]) == 1


async def test_the_network_learns_where_a_file_is_wrong_and_none_of_its_words(
    make: Callable[[str], Assembly], clock: Any
) -> None:
    a = make(CONFIG)
    a.links["main"].show("connected", "")
    health = Health(a, Relief(a), clock, "")
    lines = ["/etc/edged/edged.toml:3:12: broker.main.url: hunter2", "/etc/edged/edged.toml: there is no such file"]
    with capture_logs() as logs:
        health.say_reload(lines, None, "the file changed")
        health.publish()
    messages = sent(a)
    places = ["/etc/edged/edged.toml:3:12", lines[1]]
    assert [facts["errors"] for topic, facts, _ in messages if topic == "edged/t/event"] == [places]
    assert [facts["config_errors"] for topic, facts, _ in messages if topic == "edged/t/health"] == [places]
    assert "hunter2" not in str(messages)
    assert [e["problem"] for e in logs if e["event"] == "configuration"] == lines
    assert list(health.snapshot()["config_errors"]) == lines  # for `edged status`, on the machine itself


async def test_what_is_wrong_with_the_file_is_said_until_the_file_is_right(make: Callable[[str], Assembly], clock: Any) -> None:
    a = make('[source.a]\ntype = "simulate"\nsignal = "sine"\nrate = 1\n[pipeline.p]\nsource = "a"\npublish = []\n')
    clock.pass_s(1)
    health = Health(a, Relief(a), clock, "", fallback=Fallback(("edged.toml:1:1: wrong",), "2026-11-29T18:30:00Z"))
    models_only = Change((), (), ("model.m",), ())

    def said() -> tuple[Any, Any, bool]:
        facts = health.snapshot()
        is_told = "runs the last good configuration" in health.status_line()
        return facts.get("config_errors"), facts.get("config_last_good"), is_told

    wrong = (("edged.toml:1:1: wrong",), "2026-11-29T18:30:00Z", True)
    assert (said(), health.snapshot()["state"]) == (wrong, "degraded")
    health.say_reload((), models_only, "model m changed", of_file=False)
    assert said() == wrong
    health.say_reload(("edged.toml:2:1: worse",), None, "the file changed")
    assert said() == (("edged.toml:2:1: worse",), "2026-11-29T18:30:00Z", True)
    with capture_logs() as logs:
        health.say_reload((), Change((), (), (), ()), "the file changed")
    assert said() == (None, None, False)
    assert [line["event"] for line in logs] == ["configuration_right_again"]
