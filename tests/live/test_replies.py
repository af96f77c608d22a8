"""Request/response at a real broker: everybody gets his own answer, once; what cannot be answered is told so at once."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import burner
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced

CONFIG = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[model.score]
path = "{zoo}/score.onnx"
[model.slow]
path = "slow.onnx"
batch = {{ max = 1 }}
[source.fast]
type = "mqtt"
topic = "ask/fast"
reply = ["clients/+/answers", "clients/{{device}}"]
decode = {{ format = "csv", fields = [{{ name = "v", valid = [-1000, 1000] }}] }}
[pipeline.score]
source = "fast"
model = "score"
slots = 256
publish = {{ topic = "out/fast" }}
[pipeline.after]
source = "score"
publish = {{ topic = "out/after" }}
[source.slow]
type = "mqtt"
topic = "ask/slow"
reply = "clients/+/answers"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.burn]
source = "slow"
model = "slow"
slots = {slots}
overflow = "block"
publish = {{ topic = "out/slow" }}
"""


@pytest.fixture
def slots() -> int:
    return 2


@pytest.fixture
def client(tmp_path: Path, zoo: Path, broker: Broker, slots: int) -> Iterator[Client]:
    burner(tmp_path / "slow.onnx", products=100)
    with (
        Client(broker.port, "edged/#", "out/#", "clients/#", "elsewhere/#") as one,
        Daemon(tmp_path, CONFIG.format(port=broker.port, zoo=zoo, slots=slots)),
    ):
        one.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        yield one


def answers(client: Client) -> list[Any]:
    return [seen for seen in client.messages if seen.topic.startswith("clients/")]


def code(seen: Any) -> str:
    return str(seen.json["error"]["code"]) if "error" in seen.json else "answer"


def test_two_hundred_ask_at_once_and_each_gets_its_own_answer(client: Client) -> None:
    for n in range(200):
        client.ask("ask/fast", str(n), f"clients/{n}/answers", b"c%d" % n, qos=n % 2)
    client.until(lambda: len(answers(client)) >= 200, what="200 answers")
    got = {seen.topic: seen for seen in answers(client)}
    weight = got["clients/1/answers"].json["outputs"]["y"][0]
    for n in range(200):
        seen = got[f"clients/{n}/answers"]
        assert seen.correlation == b"c%d" % n
        assert seen.json["pipeline"] == "score"
        assert seen.json["outputs"]["y"] == pytest.approx([n * weight])
    health = client.health(lambda h: h["sources"]["fast"]["requests"]["answers"]["acked"] == 200)
    requests = health["sources"]["fast"]["requests"]
    assert (requests["asked"], requests["answered"], requests["failed"], requests["waiting"]) == (200, 200, {}, 0)
    assert len(answers(client)) == 200
    assert not [seen for seen in client.messages if seen.topic.startswith("out/")]
    assert balanced(health)


def test_what_cannot_be_answered_is_told_so_and_other_inputs_go_their_way(client: Client) -> None:
    client.ask("ask/fast", "no number", "clients/a/answers", b"1")
    client.ask("ask/fast", "2000", "clients/a/answers", b"2")
    client.ask("ask/fast", "1\n2", "clients/a/answers", b"3")
    client.ask("ask/fast", "3", "clients/t", None, qos=0)
    client.ask("ask/fast", "4", "elsewhere/a", b"5")
    client.publish("ask/fast", "5")
    client.wait("out/fast", 2)
    client.until(lambda: len(answers(client)) >= 4, what="4 answers")
    assert {seen.correlation: code(seen) for seen in answers(client)} == {
        b"1": "not_a_number",
        b"2": "out_of_range",
        b"3": "several_rows",
        None: "answer",
    }
    assert not [seen for seen in client.messages if seen.topic.startswith("elsewhere")]
    health = client.health(lambda h: h["pipelines"]["score"]["publish"][0]["acked"] == 2)
    assert health["sources"]["fast"]["requests"]["forbidden"] == 1
    assert health["pipelines"]["score"]["dropped"] == {"several_rows": 2}
    assert balanced(health)


def test_without_a_free_place_the_answer_is_busy_though_inputs_wait(client: Client) -> None:
    for n in range(8):
        client.ask("ask/slow", str(n), "clients/a/answers", b"%d" % n)
    for n in range(6):
        client.publish("ask/slow", str(n))
    client.until(lambda: len(answers(client)) >= 8, what="8 answers")
    codes = Counter(code(seen) for seen in answers(client))
    assert len({seen.correlation for seen in answers(client)}) == 8
    assert set(codes) == {"answer", "busy"}
    client.wait("out/slow", 6)
    assert balanced(client.health(lambda h: h["sources"]["slow"]["requests"]["waiting"] == 0))


@pytest.mark.parametrize("slots", [64])
def test_after_its_message_expiry_a_request_is_told_and_not_run(client: Client, slots: int) -> None:
    for n in range(slots):
        client.ask("ask/slow", str(n), "clients/a/answers", b"%d" % n, qos=0, expiry_s=1)
    client.until(lambda: len(answers(client)) >= slots, what=f"{slots} answers")
    codes = Counter(code(seen) for seen in answers(client))
    assert codes["expired"] > 0
    health = client.health(lambda h: h["pipelines"]["burn"]["waiting"] == 0)
    assert health["models"]["slow"]["rows"] < slots
    assert balanced(health)


def test_at_a_stop_everybody_who_asked_is_told(tmp_path: Path, zoo: Path, broker: Broker) -> None:
    """What can be run still is; what comes meanwhile is told that it cannot."""
    burner(tmp_path / "slow.onnx", products=350)
    with Client(broker.port, "edged/#", "clients/#") as client:
        with Daemon(tmp_path, CONFIG.format(port=broker.port, zoo=zoo, slots=64)) as daemon:
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            for n in range(20):
                client.ask("ask/slow", str(n), "clients/a/answers", b"%d" % n, qos=n % 2)
            client.until(lambda: answers(client), what="an answer")
            daemon.signal(signal.SIGTERM)
            daemon.wait_log("stopping")
            for n in range(20, 30):
                client.ask("ask/slow", str(n), "clients/a/answers", b"%d" % n, qos=n % 2)
            assert daemon.wait() == 0
        client.until(lambda: len(answers(client)) >= 30, what="30 answers")
        assert {seen.correlation for seen in answers(client)} == {b"%d" % n for n in range(30)}
        assert {code(seen) for seen in answers(client)} <= {"answer", "shutdown"}


def test_a_request_at_qos_1_outlives_the_broker_and_no_answer_goes_to_disk(tmp_path: Path, zoo: Path) -> None:
    burner(tmp_path / "slow.onnx", products=100)
    with (
        Broker(tmp_path, "persistence true", f"persistence_location {tmp_path}/") as broker,
        Client(broker.port, "edged/#", "clients/#", session_s=60, name="asks") as client,
        Daemon(tmp_path, CONFIG.format(port=broker.port, zoo=zoo, slots=64)),
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        for n in range(16):
            client.ask("ask/slow", str(n), "clients/a/answers", b"%d" % n)
        client.until(lambda: answers(client), what="an answer")
        broker.restart()
        client.until(lambda: len({seen.correlation for seen in answers(client)}) == 16, what="16 answers")
        assert {code(seen) for seen in answers(client)} == {"answer"}
        health = client.health(lambda h: h["sources"]["slow"]["requests"]["waiting"] == 0)
        assert health["spool"]["brokers"].get("main", {}).get("stored", 0) == 0
        assert balanced(health)
