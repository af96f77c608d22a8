"""Behaviours as a user runs them: the daemon, a broker, a relay on a pseudo-terminal."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support import models, pictures
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced, until
from tests.support.devices import Device
from tests.support.http_peer import HttpPeer, completes

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


ASKING = """
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
decode = {{ format = "json", fields = ["a", "b"] }}
[source.gate]
type = "mqtt"
topic = "cam/gate"
decode = {{ format = "image" }}
[pipeline.seen]
source = "gate"
preprocess = {{ step = "resize", size = [16, 8] }}
model = "large"
inputs.prompt.template = "What is that?"
publish = []
[model.vibration]
path = "{folder}/vibration.onnx"
labels = ["normal", "bearing"]
[pipeline.vibration]
source = "vib"
model = "vibration"
output = {{ type = "classify", softmax = true }}
publish = []
[model.large]
url = "{url}/v1"
protocol = "openai"
name = "qwen"
[pipeline.describe]
source = "ask"
model = "large"
inputs.prompt.template = "The model says {{label}}: what should be done?"
publish = []
[pipeline.look]
source = "ask"
model = "large"
inputs.prompt.template = "Is that {{what}}?"
inputs.image.fields = ["photo"]
publish = []
[behaviour.guard]
run = "behaviours.py:guard"
per = "key"
source = "vibration"
publish = ["plant/alarm", "plant/report"]
write = "relay"
ask = "describe"
[behaviour.watch]
run = "behaviours.py:watch"
source = "gate"
publish = "plant/seen"
ask = "look"
"""

OF_THE_ISSUE = """
async def guard(me):
    async for result in me.results("vibration"):
        if result.label == "bearing" and result.score > 0.9:
            await me.publish("plant/alarm", {"pump": me.key, "score": result.score})
            await me.write("relay", b"STOP\\n")
            report = await me.ask("describe", {"label": result.label}, timeout=20)
            await me.publish("plant/report", report)
            await me.sleep(60)


async def watch(me):
    async for sample in me.samples("gate"):
        seen = await me.ask("look", {"what": "a person", "photo": sample.image}, timeout=20)
        await me.publish("plant/seen", seen.text)
"""


def test_one_asks_a_model_elsewhere_with_texts_and_with_pictures(broker: Broker, tmp_path: Path) -> None:
    models.linear(tmp_path / "vibration.onnx", width=2)
    (tmp_path / "behaviours.py").write_text(OF_THE_ISSUE)
    topics = ("edged/t/health", "plant/alarm", "plant/report", "plant/seen")
    with (
        HttpPeer(completes("Stop the pump, and replace it.")) as peer,
        Client(broker.port, *topics) as client,
        Device(tmp_path / "relay", silent) as relay,
        Daemon(tmp_path, ASKING.format(port=broker.port, folder=tmp_path, url=peer.url)),
    ):
        client.health(lambda h: h["ports"]["relay"]["state"] == "running")
        client.publish("plant/p7/vib", '{"a": 0, "b": 0}')
        client.publish("plant/p7/vib", '{"a": 9, "b": 9}')
        [report] = client.wait("plant/report")
        assert (report.json["text"], report.json["by"]) == ("Stop the pump, and replace it.", "large")
        [alarm] = client.of("plant/alarm")
        assert (alarm.json["pump"], round(alarm.json["score"], 3)) == ("p7", 1.0)
        assert relay.heard == b"STOP\n"
        assert peer.asked[0].json["messages"] == [{"role": "user", "content": "The model says bearing: what should be done?"}]

        client.publish("cam/gate", pictures.jpeg(np.full((8, 16, 3), 200, np.uint8)))
        client.wait("plant/seen")
        contents = [one.json["messages"][0]["content"] for one in peer.asked[1:]]
        [picture] = [picture for said, picture in contents if said["text"] == "Is that a person?"]
        assert picture["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
        health = client.health(lambda h: h["models"]["large"]["answered"] == 3)
        assert balanced(health)
        assert health["models"]["large"]["no_answer"] == {}
