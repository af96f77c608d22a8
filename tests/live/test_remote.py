"""Models that run elsewhere: asked beside the local work, which never waits for them, however their peers behave."""

from __future__ import annotations

import base64
import io
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh
from PIL import Image

import edged as package
from edged.daemon.control import ask
from tests.support import models, pictures
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced, edged, said
from tests.support.http_peer import HOSTILE, HttpPeer, completes, hangs, infers, streams

BASE = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in/{{pump}}"
max_keys = 8
decode = {{ format = "json", fields = ["a", "b"] }}
"""
KSERVE = (
    BASE
    + """
[model.far]
url = "{url}/v2/models/m"
protocol = "kserve"
timeout = "300ms"
retries = 0
cooldown = "200ms"
{more}
[pipeline.far]
source = "in"
model = "far"
output = {{ type = "regress", fields = ["sum"] }}
publish = {{ topic = "out/far/{{pump}}" }}
[pipeline.near]
source = "in"
publish = {{ topic = "out/near/{{pump}}" }}
"""
)
OPENAI = (
    BASE.replace("[source.in]", '[source.in]\nreply = "reply/#"')
    + """
[model.large]
url = "{url}/v1"
protocol = "openai"
name = "qwen"
token = {{ env = "TOKEN" }}
stream = true
[pipeline.words]
source = "in"
model = "large"
inputs = {{ prompt = {{ template = "Pump {{pump}} has a = {{a}}: what is wrong?" }} }}
publish = {{ topic = "out/words/{{pump}}" }}
"""
)


WIDE = {"COLUMNS": "400", "NO_COLOR": "1"}


def add(x: NDArray[Any]) -> NDArray[Any]:
    made: NDArray[Any] = x.sum(axis=1, keepdims=True)
    return made


def test_hostile_peers_cost_their_own_rows_and_nothing_else(tmp_path: Path, broker: Broker) -> None:
    with (
        HttpPeer(infers(add)) as peer,
        Client(broker.port) as client,
        Daemon(tmp_path, KSERVE.format(port=broker.port, url=peer.url, more="")) as daemon,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish_all("in/p7", ['{"a":1.5,"b":2}'])
        [far] = client.wait("out/far/p7", 1)
        assert (far.json["values"], far.json["by"]) == ({"sum": 3.5}, "far")
        for done, behaviour in enumerate(HOSTILE.values(), 2):
            client.health(lambda h: h["models"]["far"]["state"] != "resting")  # else this peer would not be asked
            peer.behaviour = behaviour
            client.publish_all("in/p7", ['{"a":1,"b":2}'])
            client.wait("out/near/p7", done)
            client.health(partial(_has, "far", "unanswered", done - 1))
        assert len(client.of("out/near/p7")) == len(HOSTILE) + 1
        peer.behaviour = infers(add)
        count = len(client.of("out/far/p7"))
        while len(client.of("out/far/p7")) == count:  # as soon as the circuit closes
            client.publish_all("in/p7", ['{"a":1,"b":2}'])
            client.health(lambda h: h["pipelines"]["far"]["waiting"] == 0 and h["models"]["far"]["under_way"] == 0)
        health = client.health(lambda h: h["models"]["far"]["answered"] >= 2 and h["models"]["far"]["state"] == "idle")
        assert balanced(health)
        assert health["models"]["far"]["rests"] >= 1
        failures = health["models"]["far"]["no_answer"]
        assert failures.keys() >= {"timeout", "connection", "no_http", "too_large", "redirect", "status_500"}
        for command, shown in (("status", "requests, "), ("top", "1 redirect")):
            _, out, err = said(edged(command, "-c", str(daemon.config), *(["--once"] if command == "top" else []), environ=WIDE))
            assert shown in out, err
            assert "redirect" in out
        assert "internal_error" not in daemon.log


def test_what_a_peer_does_not_answer_the_fallback_does(tmp_path: Path, broker: Broker, zoo: Path) -> None:
    more = f'fallback = "here"\nlimit = "2/h"\n[model.here]\npath = "{tmp_path}/here.onnx"'
    summing(tmp_path / "here.onnx")
    text = KSERVE.format(port=broker.port, url="{url}", more=more)
    with HttpPeer(infers(add)) as peer, Client(broker.port) as client, Daemon(tmp_path, text.replace("{url}", peer.url)):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        for n in range(4):
            client.publish_all("in/p7", [json.dumps({"a": n, "b": 2})])
            client.wait("out/far/p7", n + 1)
        seen = [(one.json["by"], one.json["values"]["sum"]) for one in client.of("out/far/p7")]
        assert seen == [("far", 2.0), ("far", 3.0), ("here", 4.0), ("here", 5.0)]
        health = client.health(lambda h: h["models"]["far"]["limited"] == 2)
        assert balanced(health)
        assert health["pipelines"]["far"]["dropped"] == {}


def test_a_prompt_goes_out_and_words_come_in_parts(tmp_path: Path, broker: Broker) -> None:
    with (
        HttpPeer(streams("It is ", "the ", "bearing.", pause_s=0.15)) as peer,
        Client(broker.port, "edged/#", "out/#", "reply/#") as client,
        Daemon(tmp_path, OPENAI.format(port=broker.port, url=peer.url), environ={"TOKEN": "sesame"}) as daemon,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish_all("in/p7", ['{"a":1.5,"b":2}'])
        [words] = client.wait("out/words/p7", 1)
        assert (words.json["text"], words.json["by"]) == ("It is the bearing.", "large")
        parts = [seen.json for seen in client.wait("out/words/p7/partial", 1)]
        assert all("It is the bearing.".startswith(part["text"]) and part["partial"] for part in parts)
        client.ask("in/p8", '{"a":7,"b":2}', "reply/me", b"42")
        *said, whole = client.until(lambda: _whole(client, "reply/me"))
        assert whole.json["text"] == "It is the bearing."
        assert said
        assert all(one.correlation == b"42" for one in (*said, whole))
        assert client.of("out/words/p8") == []
        prompts = [one.json["messages"] for one in peer.asked]
        assert prompts[0] == [{"role": "user", "content": "Pump p7 has a = 1.5: what is wrong?"}]
        assert {one.path for one in peer.asked} == {"/v1/chat/completions"}
        assert {one.headers["authorization"] for one in peer.asked} == {"Bearer sesame"}
        assert "sesame" not in daemon.log


def _has(pipeline: str, reason: str, count: int, health: Any) -> bool:
    return bool(health["pipelines"][pipeline]["dropped"].get(reason, 0) == count)


def _is_done(due: int, health: Any) -> bool:
    dues = [health["pipelines"][name]["due"] for name in ("unsure", "changed")]
    return dues == [due, due] and not health["models"]["large"]["under_way"]


def _whole(client: Client, topic: str) -> list[Any] | None:
    found = client.of(topic)
    return found if found and "partial" not in found[-1].json else None


PAGE = (Path(package.__file__).parent / "manual" / "remote.md").read_text("utf-8")
[CASCADE] = [text for text in re.findall(r"```toml\n(.*?)```", PAGE, re.S) if "[source.gate]" in text]
[SCHEMA] = re.findall(r"```json\n(.*?)```", PAGE, re.S)


def summing(path: Path) -> None:
    nodes = [h.make_node("ReduceSum", ["x"], ["y"], keepdims=1, axes=[1])]
    given, made = models.value("x", T.FLOAT, ["n", 2]), models.value("y", T.FLOAT, ["n", 1])
    models.save(path, nodes, [given], [made], [], opsets=(("", 11),))


def detector(path: Path) -> None:
    """Of a picture of 8 x 8 pixels: a box whose score is how bright it is."""
    nodes = [
        h.make_node("Div", ["images", "whole"], ["x"]),
        h.make_node("ReduceMean", ["x"], ["m"], keepdims=0, axes=[1, 2]),
        h.make_node("ReduceMean", ["m"], ["n"], keepdims=1, axes=[1]),
        h.make_node("Unsqueeze", ["n"], ["score"], axes=[1]),
        h.make_node("Mul", ["score", "place"], ["scored"]),
        h.make_node("Add", ["scored", "box"], ["output0"]),
    ]
    constants = {
        "whole": np.float32(255),
        "place": np.array([0, 0, 0, 0, 1, 0], np.float32),
        "box": np.array([1, 1, 5, 5, 0, 0], np.float32),
    }
    given, made = models.value("images", T.FLOAT, ["n", 3, 8, 8]), models.value("output0", T.FLOAT, ["n", 1, 6])
    weights = [nh.from_array(np.asarray(x), name) for name, x in constants.items()]
    models.save(path, nodes, [given], [made], weights, opsets=(("", 11),))


def test_the_cascade_of_the_manual(tmp_path: Path, broker: Broker) -> None:
    detector(tmp_path / "yolov8n.onnx")
    (tmp_path / "answer.schema.json").write_text(SCHEMA)
    text = '[device]\nid = "t"\n[health]\ninterval = "100ms"\n' + CASCADE.replace("640, 640", "8, 8")
    text = text.replace('output = "detect"', 'output = { type = "detect", head = "end-to-end" }')
    with HttpPeer(completes('{"climbing": false}')) as peer, Client(broker.port, "edged/#", "cam/+/+") as client:
        text = text.replace("mqtt://localhost", f"mqtt://127.0.0.1:{broker.port}").replace("https://gpu-box:4000", peer.url)
        with Daemon(tmp_path, text.replace("token =", "# token ="), environ={"VLM_TOKEN": "sesame"}):
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            for n, gray in enumerate((10, 128, 250, 130, 10), 1):
                client.publish_all("cam/yard", [pictures.jpeg(np.full((16, 16, 3), gray, np.uint8))])
                client.wait("cam/yard/look", n)
                client.health(partial(_is_done, n))
            assert [one.json["count"] for one in client.of("cam/yard/look")] == [0, 1, 1, 1, 0]
            words = client.wait("cam/yard/words", 4)
            assert [(one.json["answer"], one.json["by"]) for one in words] == [({"climbing": False}, "large")] * 4
            health = client.health(lambda h: h["models"]["large"]["answered"] == 4)
            assert [health["pipelines"][name]["gated"] for name in ("unsure", "changed")] == [3, 3]
            assert balanced(health)
    said, picture = peer.asked[0].json["messages"][0]["content"]
    assert "1 people" in said["text"]
    sent = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
    assert np.asarray(Image.open(io.BytesIO(sent))).mean().round() == 128
    assert peer.asked[0].json["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA)


def test_a_reload_goes_over_to_another_peer_and_a_stop_ends_what_hangs(tmp_path: Path, broker: Broker) -> None:
    text = KSERVE.replace('timeout = "300ms"', 'timeout = "1h"').format(port=broker.port, url="{url}", more="")
    with (
        HttpPeer(infers(add)) as one,
        HttpPeer(infers(lambda x: -add(x))) as other,
        Client(broker.port) as client,
        Daemon(tmp_path, text.replace("{url}", one.url)) as daemon,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish_all("in/p7", ['{"a":1,"b":2}'])
        client.wait("out/far/p7", 1)
        daemon.config.write_text(text.replace("{url}", other.url).replace("retries = 0", "retries = 1"))
        answer = ask(daemon.config, {"command": "reload", "wait": True})
        assert answer["changed"] == ["model.far: settings"]
        client.publish_all("in/p7", ['{"a":1,"b":2}'])
        values = [seen.json["values"]["sum"] for seen in client.wait("out/far/p7", 2)]
        assert values == [3.0, -3.0]
        other.behaviour = hangs
        client.publish_all("in/p7", ['{"a":1,"b":2}'] * 9)
        health = client.health(lambda h: h["models"]["far"]["under_way"] == 4 and h["pipelines"]["far"]["waiting"] == 5)
        assert balanced(health)
        assert health["brokers"]["main"]["unacked"] == 0  # settled in the queue
