"""Results that are large beside the outbox, or larger than the broker takes: none stops the inputs, and none is lost unseen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import models
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced

ONE = """
[device]
id = "t"
[health]
interval = "200ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in/x"
decode = {{ format = "json", fields = ["a"] }}
[model.m]
path = "{model}"
[pipeline.p]
source = "in"
model = "m"
publish = {publish}
"""
BACKLOG = 200
KIB = 1024
LIMIT_S = 90.0
"""For some hundred MiB through a broker on a machine that others use too."""


def wide(folder: Path, size: int) -> Path:
    """A model whose results are of `size` numbers: y[i] = a * (i + 1)."""
    return models.linear(folder / "wide.onnx", width=1, out=size)


def backlog(port: int, folder: Path, text: str, count: int) -> None:
    """Inputs that come while nobody is there: the broker keeps them for the daemon, which was there once."""
    with Client(port, "edged/#") as client:
        with Daemon(folder, text):
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected" and h["sources"]["in"]["messages"] == 0)
        client.publish_all("in/x", [json.dumps({"a": n}) for n in range(count)])


def number(result: Any) -> int:
    return int(result["outputs"]["y"][0])


@pytest.mark.parametrize(
    ("numbers", "least", "count"),
    [(26_000, 192_000, BACKLOG), (70_000, 512 * KIB, BACKLOG), (140_000, 1024 * KIB, 40)],
    ids=["192 kB", "512 KiB", "more than the outbox"],
)
def test_a_backlog_of_inputs_with_large_results(broker: Broker, tmp_path: Path, numbers: int, least: int, count: int) -> None:
    text = ONE.format(port=broker.port, model=wide(tmp_path, numbers), publish="{}")
    backlog(broker.port, tmp_path, text, count)
    with Client(broker.port, "edged/t/health", "edged/t/p") as client, Daemon(tmp_path, text):
        results = client.wait("edged/t/p", count, LIMIT_S)
        assert min(len(m.payload) for m in results[1:]) > least
        assert [number(m.json) for m in results] == list(range(count))
        assert not any("replayed" in m.json for m in results)
        health = client.health(lambda h: h["brokers"]["main"]["unacked"] == 0 and balanced(h) and _is_settled(h))
        (entry,) = health["pipelines"]["p"]["publish"]
        assert (entry["made"], entry["acked"], entry["spooled"], entry["dropped"]) == (count, count, 0, {})


def _is_settled(health: Any) -> bool:
    return not any(e["queued"] + e["in_flight"] for e in health["pipelines"]["p"]["publish"])


def test_while_their_broker_is_away_large_results_go_to_disk(broker: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    there = Broker(folder)
    two = ONE.replace("[source.in]", '[broker.there]\nurl = "mqtt://127.0.0.1:{there}"\n[source.in]\nbroker = "main"')
    two = two.replace('interval = "200ms"', 'interval = "200ms"\nbroker = "main"')
    publish = '{ broker = "there", topic = "out/p" }'
    text = two.format(port=broker.port, there=there.port, model=wide(tmp_path, 70_000), publish=publish)
    with there, Client(broker.port, "edged/t/health") as here, Daemon(tmp_path, text) as daemon:
        here.health(lambda h: {b["state"] for b in h["brokers"].values()} == {"connected"})
        there.stop()
        here.health(lambda h: h["brokers"]["there"]["state"] not in ("connected", "degraded"))
        here.publish_all("in/x", [json.dumps({"a": n}) for n in range(100)])
        health = here.health(lambda h: h["spool"]["brokers"]["there"]["waiting"] == 100 and h["brokers"]["main"]["unacked"] == 0)
        assert health["pipelines"]["p"]["publish"][0]["dropped"] == {}
        with daemon.paused():
            there.start()
            client = Client(there.port, "out/#")
            client.__enter__()
        try:
            assert [number(m.json) for m in client.wait("out/p", 100, LIMIT_S)] == list(range(100))
        finally:
            client.__exit__()


@pytest.mark.parametrize("qos", [0, 1])
def test_results_larger_than_the_broker_takes_are_told_of_and_stop_nothing(tmp_path: Path, qos: int) -> None:
    with Broker(tmp_path, "max_packet_size 100000") as broker:
        publish = f'{{ topic = "out/p", qos = {qos} }}'
        text = ONE.format(port=broker.port, model=wide(tmp_path, 26_000), publish=publish)
        with Client(broker.port) as client, Daemon(tmp_path, text) as daemon:
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            client.publish_all("in/x", [json.dumps({"a": n}) for n in range(BACKLOG)])

            def is_told(h: Any) -> bool:
                p = h["pipelines"]["p"]
                return bool(p["publish"][0]["dropped"] == {"too_large": BACKLOG} and p["state"] == "refused")

            health = client.health(lambda h: is_told(h) and h["brokers"]["main"]["unacked"] == 0 and balanced(h))
            assert health["state"] == "degraded"
            assert "it takes packets of at most 100000): raise its limit" in health["pipelines"]["p"]["reason"]
            assert client.of("out/p") == []
            daemon.wait_log("reason=too_large")


def test_what_edged_says_of_itself_may_be_too_large_for_a_broker(tmp_path: Path) -> None:
    with Broker(tmp_path, "max_packet_size 500") as broker:
        text = ONE.format(port=broker.port, model=wide(tmp_path, 2), publish='{ topic = "out/p", fields = ["outputs"] }')
        with Client(broker.port) as client, Daemon(tmp_path, text) as daemon:
            daemon.wait_log("the broker refuses what edged publishes about itself on edged/t/health (too large:")
            client.publish("in/x", '{"a": 3}')
            assert client.wait("out/p")[0].json["outputs"]["y"] == [3, 6]
