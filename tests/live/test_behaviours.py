"""Behaviours as a user runs them: the daemon, a broker, a relay on a pseudo-terminal."""

from __future__ import annotations

from pathlib import Path

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced, until
from tests.support.devices import Device

CONFIG = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[port.relay]
port = "{folder}/relay"
[source.vib]
type = "mqtt"
topic = "plant/{{pump}}/vib"
decode = {{ format = "json", fields = ["rms"] }}
[pipeline.vibration]
source = "vib"
publish = {{ topic = "out/{{pump}}" }}
[behaviour.guard]
run = "behaviours.py:guard"
per = "key"
source = "vibration"
publish = "plant/{{key}}/alarm"
write = "relay"
on_end = [{{ write = "relay", data = "OFF\\n" }}, {{ topic = "plant/{{key}}/guard", value = "ended", retain = true }}]
[behaviour.count]
run = "behaviours.py:count"
source = "vib"
publish = "plant/count"
limit = 1000
"""
SEEN = ("edged/t/health", "out/+", "plant/+/alarm", "plant/+/guard", "plant/count")

GUARD = """
from edged import Behaviour


async def guard(me: Behaviour) -> None:
    async for result in me.results("vibration"):
        if result.rms > 9:
            raise ValueError("out of range")
        me.state["n"] = me.state.get("n", 0) + 1
        await me.publish(f"plant/{me.key}/alarm", {"rms": result.rms, "n": me.state["n"]})
        await me.write("relay", b"STOP\\n")


async def count(me: Behaviour) -> None:
    n = 0
    async for _ in me.samples("vib"):
        n += 1
        await me.publish("plant/count", n)
"""


def silent(data: bytes) -> tuple[bytes, int]:
    return b"", len(data)


def prepared(broker: Broker, folder: Path, text: str = GUARD) -> str:
    (folder / "behaviours.py").write_text(text)
    return CONFIG.format(port=broker.port, folder=folder)


def test_it_acts_fails_starts_again_reloads_and_says_off_at_the_end(broker: Broker, tmp_path: Path) -> None:
    config = prepared(broker, tmp_path)
    with Client(broker.port, *SEEN) as client, Device(tmp_path / "relay", silent) as relay, Daemon(tmp_path, config) as daemon:
        client.health(lambda h: h["ports"]["relay"]["state"] == "running")
        for n in range(1, 4):
            client.publish("plant/p1/vib", b'{"rms": %d}' % n)
            client.wait("plant/p1/alarm", n)
        assert client.of("plant/p1/alarm")[2].json == {"rms": 3.0, "n": 3}
        heard = b"STOP\n" * 3
        until(lambda: relay.heard == heard, what="STOP")

        client.publish("plant/p2/vib", '{"rms": 10}')
        client.wait("plant/p2/guard")
        heard += b"OFF\n"
        until(lambda: relay.heard == heard, what="OFF")
        assert "behaviours.py:8: ValueError: out of range; ended (key p2), restarted in 1 s" in daemon.log
        health = client.health(lambda h: h["behaviours"]["guard"]["restarts"] == 1)
        assert health["behaviours"]["guard"]["dropped"] == {"failed": 1}
        assert health["behaviours"]["guard"]["instances"] == 2
        assert balanced(health)
        client.wait("plant/count", 4)

        (tmp_path / "behaviours.py").write_text(GUARD.replace('b"STOP\\n"', 'b"HALT\\n"'))
        daemon.wait_log("behaviours.py changed")
        until(lambda: "behaviour.guard: code" in daemon.log, what="the reload")
        assert "behaviour.count" not in daemon.log.split("reloaded")[-1]
        heard += b"OFF\n" * 2  # both old instances ended
        until(lambda: relay.heard == heard, what="OFF of both")
        client.publish("plant/p1/vib", '{"rms": 4}')
        client.wait("plant/p1/alarm", 4)
        assert client.of("plant/p1/alarm")[3].json == {"rms": 4.0, "n": 4}  # the state went over
        heard += b"HALT\n"
        until(lambda: relay.heard == heard, what="HALT")
        client.wait("plant/count", 5)
        assert client.of("plant/count")[4].payload == b"5"  # and this one went on

        assert daemon.stop() == 0
        heard += b"OFF\n"
        until(lambda: relay.heard == heard, what="the last OFF")
        daemon.start()
        client.publish("plant/p1/vib", '{"rms": 5}')
        client.wait("plant/p1/alarm", 5)
        assert client.of("plant/p1/alarm")[4].json["n"] == 5


SPIN = """
async def guard(me):
    pass


async def count(me):
    async for _ in me.samples("vib"):
        while True:
            pass
"""


def test_one_that_never_awaits_ends_with_the_process_and_is_not_started_a_third_time(broker: Broker, tmp_path: Path) -> None:
    config = prepared(broker, tmp_path, SPIN)
    daemon = Daemon(tmp_path, config, watchdog_s=2)
    with Client(broker.port, *SEEN) as client:
        for n in range(1, 3):
            daemon.start()
            until(lambda: daemon.log.count("broker=main state=connected") == n, what="the broker")
            client.publish("plant/p1/vib", '{"rms": 1}')
            assert daemon.wait() != 0
        daemon.start()
        assert daemon.log.count("last_run_ended_in") == 2
        daemon.wait_log("behaviour_not_started")
        before = len(client.of("out/p1"))
        client.publish("plant/p1/vib", '{"rms": 2}')
        client.wait("out/p1", before + 1)
        health = client.health(lambda h: h["behaviours"]["count"]["state"] == "ended")
        assert "the process ended in it 2 times" in health["behaviours"]["count"]["reason"]
        assert health["state"] == "degraded"
        daemon.stop()
