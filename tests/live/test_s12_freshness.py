"""Old news is not sold as new: silent, frozen and wrong sensors, and results that come too late. Stories S12 and S15."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.sources.pace import GAPS
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Sensor, balanced, until
from tests.support.pause import pause

HEAD = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
"""
PUMPS = """
[source.pump]
type = "mqtt"
topic = "in/{pump}"
max_keys = 4
stale_after = "2s"
ON_BAD
decode = { format = "json", fields = [{ name = "v", valid = [0, 1000] }] }
[pipeline.p]
source = "pump"
publish = { topic = "out/{pump}" }
"""
FROZEN = """
[source.imu]
type = "serial"
port = "{port}"
frozen_after = "300ms"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.p]
source = "imu"
publish = {{ topic = "out/p" }}
"""
JOINED = """
[source.fast]
type = "mqtt"
topic = "in/fast"
decode = { format = "json", fields = ["a"] }
[source.slow]
type = "mqtt"
topic = "in/slow"
stale_after = "2s"
on_bad = "ON_BAD"
decode = { format = "json", fields = ["b"] }
[pipeline.p]
source = ["fast", "slow"]
publish = { topic = "out/p" }
"""
SIMULATED = """
[source.imu]
type = "simulate"
signal = "noise"
rate = {rate}
[model.m]
path = "{zoo}/{model}.onnx"
{run}
[pipeline.p]
source = "imu"
model = "m"
{more}
slots = 4096
deadline = "250ms"
publish = {{ topic = "out/p" }}
"""
SLEEPY = """
import time

def after(outputs):
    time.sleep(0.01)
    return outputs
"""


def word(client: Client, name: str) -> bytes | None:
    """What was last said of a source or a key."""
    found = client.of(f"edged/t/source/{name}")
    return found[-1].payload if found else None


def wait_word(client: Client, name: str, wanted: bytes) -> None:
    client.until(lambda: word(client, name) == wanted, what=f"{name} {wanted!r}")


def samples(start: int = 0) -> Iterator[str]:
    return (json.dumps({"v": i % 1000}) for i in itertools.count(start))


def test_a_silent_key_goes_offline_and_comes_back_by_itself(broker: Broker, tmp_path: Path) -> None:
    text = HEAD.format(port=broker.port) + PUMPS.replace("ON_BAD", "")
    with Client(broker.port) as client, Daemon(tmp_path, text):
        wait_word(client, "pump", b"offline")  # nothing has been heard of it yet
        numbers = samples()

        def speak(*keys: str) -> None:
            for key in keys:
                client.publish(f"in/{key}", next(numbers))

        def said(name: str, wanted: bytes, *speaking: str) -> bool:
            speak(*speaking)
            return word(client, name) == wanted

        until(lambda: said("pump/b", b"online", "a", "b"))
        since = time.monotonic()
        assert (word(client, "pump"), word(client, "pump/a")) == (b"online", b"online")
        until(lambda: said("pump/b", b"offline", "a"))
        assert time.monotonic() - since < 4  # twice `stale_after`
        assert (word(client, "pump"), word(client, "pump/a")) == (b"online", b"online")
        health = client.health(lambda h: h["sources"]["pump"]["keys_online"] == 1 and said("pump/a", b"online", "a"))
        assert health["sources"]["pump"]["reason"] == "1 of 2 keys are silent or frozen"
        wait_word(client, "pump", b"offline")  # now nobody speaks
        wait_word(client, "pump/a", b"offline")
        health = client.health(lambda h: h["sources"]["pump"]["state"] == "silent")
        assert health["pipelines"]["p"]["state"] == "waiting"
        until(lambda: said("pump/b", b"online", "b"))
        assert word(client, "pump") == b"online"
    with Client(broker.port, name="late") as late:  # all is retained, and a clean stop takes it back
        assert late.wait("edged/t/source/pump/b")[0][:3] == ("edged/t/source/pump/b", b"offline", True)


def test_it_is_said_again_to_a_broker_that_forgot(broker: Broker, tmp_path: Path) -> None:
    text = HEAD.format(port=broker.port) + PUMPS.replace("ON_BAD", "").replace('stale_after = "2s"', 'stale_after = "1h"')
    with Client(broker.port) as client, Daemon(tmp_path, text):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish("in/a", next(samples()))
        wait_word(client, "pump/a", b"online")
        broker.kill()
        client.forget()
        broker.start()
        wait_word(client, "pump/a", b"online")
        wait_word(client, "pump", b"online")


@pytest.mark.parametrize(("bad", "on_bad"), [("NaN", "drop"), ("4000", "drop"), ("null", "hold"), ("4000", "hold")])
def test_bad_values_are_withheld_or_marked_and_no_sign_of_life(broker: Broker, tmp_path: Path, bad: str, on_bad: str) -> None:
    text = HEAD.format(port=broker.port) + PUMPS.replace("ON_BAD", f'on_bad = "{on_bad}"')
    with Client(broker.port) as client, Daemon(tmp_path, text):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish("in/a", '{"v": 7}')
        client.wait("out/a")
        wait_word(client, "pump/a", b"online")

        def spoil(state: bytes) -> bool:
            client.publish("in/a", f'{{"v": {bad}}}')
            return word(client, "pump/a") == state and word(client, "pump") == state

        until(lambda: spoil(b"offline"))
        health = client.health(lambda h: h["sources"]["pump"]["state"] == "bad values" or spoil(b""))
        assert "no good sample for" in health["sources"]["pump"]["reason"]
        client.publish("in/a", '{"v": 8}')
        wait_word(client, "pump/a", b"online")
        wait_word(client, "pump", b"online")
        client.until(lambda: [m for m in client.of("out/a") if m.json["outputs"]["v"] == 8])
        results = [m.json for m in client.of("out/a")]
        assert ("degraded" in results[0], "degraded" in results[-1]) == (False, False)
        between = results[1:-1]
        assert all(r["degraded"] is True and r["outputs"]["v"] == 7 for r in between)
        assert bool(between) == (on_bad == "hold")
        balanced(client.health())


def test_frozen_values_are_marked_until_one_changes(broker: Broker, tmp_path: Path) -> None:
    text = HEAD.format(port=broker.port) + FROZEN.format(port=tmp_path / "imu")
    with Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor, Daemon(tmp_path, text) as daemon:
        client.health(lambda h: h["sources"]["imu"]["state"] == "running")

        def repeat() -> bool:
            sensor.write("21.5\n")
            return word(client, "imu") == b"offline"

        sensor.write("21.0\n21.5\n")
        client.wait("out/p", 2)
        wait_word(client, "imu", b"online")
        until(repeat)
        health = client.health(lambda h: h["sources"]["imu"]["state"] == "frozen")
        assert health["sources"]["imu"]["reason"] == "the same values for more than 0.3 s"
        assert health["state"] == "degraded"
        daemon.wait_log("state=frozen")
        sensor.write("21.6\n")
        wait_word(client, "imu", b"online")
        client.until(lambda: [m for m in client.of("out/p") if m.json["outputs"]["v"] > 21.55])
        results = [m.json for m in client.of("out/p")]
        marks = ["degraded" in r for r in results]
        assert marks[:2] == [False, False]
        assert marks[-2:] == [True, False]
        client.health(lambda h: h["sources"]["imu"]["state"] == "running")


@pytest.mark.parametrize("on_bad", ["drop", "pass"])
def test_a_joined_value_that_is_stale_withholds_or_marks_the_result(broker: Broker, tmp_path: Path, on_bad: str) -> None:
    text = HEAD.format(port=broker.port) + JOINED.replace("ON_BAD", on_bad)
    with Client(broker.port) as client, Daemon(tmp_path, text):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish("in/slow", '{"b": 1}')
        client.publish("in/fast", '{"a": 1}')
        assert "degraded" not in client.wait("out/p")[0].json
        wait_word(client, "slow", b"online")
        wait_word(client, "slow", b"offline")
        client.publish("in/fast", '{"a": 2}')
        client.health(lambda h: h["sources"]["fast"]["rows"] == 2)  # else all may come in one read, and meet
        client.publish("in/slow", '{"b": 2}')
        client.publish("in/fast", '{"a": 3}')
        client.until(lambda: [m for m in client.of("out/p") if m.json["outputs"]["a"] == 3])
        results = [m.json for m in client.of("out/p")]
        assert [r["outputs"]["a"] for r in results] == ([1, 3] if on_bad == "drop" else [1, 2, 3])
        assert ["degraded" in r for r in results] == ([False] * 2 if on_bad == "drop" else [False, True, False])
        wait_word(client, "slow", b"online")


@pytest.mark.parametrize(
    ("rate", "model", "run", "more"),
    [
        (300, "same", "batch = { max = 4 }", 'postprocess = "steps.py:after"'),
        (1500, "slow", 'run = "worker"', 'inputs = { x = { fields = ["ax"] } }'),
    ],
)
def test_s15_under_overload_what_is_published_is_younger_than_the_deadline(
    broker: Broker, tmp_path: Path, zoo: Path, rate: int, model: str, run: str, more: str
) -> None:
    """Three times as much comes in as the step can take, and many times what the model can. Without leaving out what would
    expire in its run, hardly anything would be published: the oldest is always next."""
    (tmp_path / "steps.py").write_text(SLEEPY)
    text = HEAD.format(port=broker.port) + SIMULATED.format(zoo=zoo, rate=rate, model=model, run=run, more=more)
    with Client(broker.port) as client, Daemon(tmp_path, text):
        results = [m.json for m in client.wait("out/p", 150)]
        health = client.health(lambda h: balanced(h) and h["pipelines"]["p"]["dropped"].get("expired", 0) > 50)
    ages = sorted(r["age_ms"] for r in results)
    counts: Any = health["pipelines"]["p"]
    assert ages[int(len(ages) * 0.99)] < 250
    assert counts["dropped"].keys() <= {"expired", "overflow"}
    assert counts["published"] > health["models"]["m"]["rows"] / 2  # the runs are not spent on what expires in them


PACES = """
[source.imu]
type = "serial"
port = "{tty}"
decode = {{ format = "csv", fields = ["v"] }}
[source.pump]
type = "mqtt"
topic = "in/{{pump}}"
max_keys = 4
decode = {{ format = "json", fields = ["v"] }}
[source.door]
type = "mqtt"
topic = "door"
decode = {{ format = "json", fields = ["v"] }}
[source.quiet]
type = "mqtt"
topic = "quiet"
stale_after = "never"
decode = {{ format = "json", fields = ["v"] }}
[pipeline.of_imu]
source = "imu"
[pipeline.of_pump]
source = "pump"
publish = {{ topic = "out/{{pump}}" }}
[pipeline.of_door]
source = "door"
[pipeline.of_quiet]
source = "quiet"
publish = {{ topic = "out/quiet" }}
"""
REGULAR_S = 0.1
LEARNED_S = 30.0


def test_the_silence_of_a_regular_sensor_is_noticed_though_nobody_said_how_often_it_speaks(
    broker: Broker, tmp_path: Path
) -> None:
    """It outlives a reload. A door has no pace, and one that may be silent is never said to be."""
    text = HEAD.format(port=broker.port) + PACES.format(tty=tmp_path / "imu")
    door = random.Random(7)
    with Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor, Daemon(tmp_path, text) as daemon:
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected" and h["sources"]["imu"]["state"] == "running")
        numbers, start = samples(), time.monotonic()
        regular = [(i * REGULAR_S, topic) for i in range(GAPS + 10) for topic in ("", "in/a", "in/b", "quiet")]
        irregular = itertools.accumulate(door.expovariate(1 / REGULAR_S) for _ in range(2 * GAPS))
        for due_s, topic in sorted([*regular, *((at, "door") for at in irregular)]):
            pause(start + due_s - time.monotonic(), "the next sample is due then")
            if topic:
                client.publish(topic, next(numbers), qos=0)
            else:
                sensor.write("1\n")
        health = client.health(lambda h: "silent_after_s" in h["sources"]["imu"] and "silent_after_s" in h["sources"]["pump"])
        assert health["state"] == "healthy"
        assert [h.get("silent_after_s") for h in health["sources"].values()] == [LEARNED_S, LEARNED_S, None, None]
        wait_word(client, "pump/a", b"online")
        daemon.config.write_text(text.replace("out/quiet", "out/other"))
        daemon.wait_log("event=reloaded")
        health = client.health()
        assert [h.get("silent_after_s") for h in health["sources"].values()] == [LEARNED_S, LEARNED_S, None, None]

        def is_missed() -> bool:
            client.publish("in/b", next(numbers), qos=0)
            return word(client, "imu") == word(client, "pump/a") == b"offline"

        until(is_missed, 2 * LEARNED_S)
        assert word(client, "pump/b") == b"online"
        health = client.health(lambda h: h["sources"]["imu"]["state"] == "silent")
        said = "and its learned pace allows 30 s at most"
        assert health["sources"]["imu"]["reason"].endswith(said)
        assert (health["state"], health["pipelines"]["of_imu"]["state"]) == ("degraded", "waiting")
        assert health["sources"]["pump"]["reason"] == "1 of 2 keys are silent or frozen"
        for name in ("door", "quiet"):
            assert (health["sources"][name]["state"], health["pipelines"][f"of_{name}"]["state"]) == ("running", "running")
        sensor.write("1\n")
        client.publish("in/a", next(numbers))
        wait_word(client, "imu", b"online")
        wait_word(client, "pump/a", b"online")
        client.health(lambda h: h["state"] == "healthy")
