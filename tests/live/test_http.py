"""What a daemon shows over HTTP: metrics that Prometheus reads, health checks, a page; and who gets nothing."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, until
from tests.support.http_peer import HttpPeer, infers

TEXT = """
[device]
id = "t"
[http]
listen = "127.0.0.1:{http}"
{token}
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.pumps]
type = "mqtt"
topic = "pumps/{{pump}}"
stale_after = "1min"
decode = {{ format = "json", fields = ["v"] }}
[model.sum]
path = "{zoo}/score.onnx"
[pipeline.each]
source = "pumps"
model = "sum"
"""
REMOTE = """
[model.far]
url = "{url}/v2/models/m"
protocol = "kserve"
[pipeline.far]
source = "pumps"
model = "far"
output = {{ type = "regress", fields = ["v"] }}
"""


class Stage:
    def __init__(self, port: int, client: Client, daemon: Daemon) -> None:
        self.port = port
        self.client = client
        self.daemon = daemon

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, zoo: Path) -> Iterator[Stage]:
    folder, port = tmp_path_factory.mktemp("http"), free_port()
    with (
        Broker(folder) as broker,
        Client(broker.port) as client,
        Daemon(folder, TEXT.format(port=broker.port, http=port, zoo=zoo, token="")) as daemon,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        yield Stage(port, client, daemon)


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples by name and labels; the parser is strict."""
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for one in family.samples
    }


def test_metrics_are_what_health_says(stage: Stage) -> None:
    code, text = stage.get("/metrics", Accept="application/openmetrics-text")
    assert code == 200
    before = samples(text)
    assert before["edged_state", (("kind", "source"), ("name", "pumps"), ("state", "silent"))] == 1
    stage.client.publish("pumps/a", '{"v": 3}')
    stage.client.publish("pumps/a", '{"v": "\\"\\n\\\\x"}')
    stage.client.publish("pumps/b", '{"v": 5}')
    stage.client.wait("edged/t/each/b")
    after = samples(stage.get("/metrics", Accept="application/openmetrics-text")[1])
    assert after["edged_source_rows_total", (("source", "pumps"),)] == 2
    assert after["edged_source_keys", (("source", "pumps"), ("state", "online"))] == 2
    assert after["edged_pipeline_results_total", (("pipeline", "each"),)] == 2
    assert after["edged_model_rows_total", (("model", "sum"),)] == 2
    assert after["edged_pipeline_age_seconds_count", (("pipeline", "each"),)] == 2
    assert 0 < after["edged_pipeline_age_seconds_sum", (("pipeline", "each"),)] < 60
    buckets = [v for (name, labels), v in after.items() if name == "edged_pipeline_age_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 2
    assert after["edged_publish_messages_total", (("outcome", "acked"), ("pipeline", "each"), ("publish", "0"))] == 2
    assert after["edged_healthy", ()] == 1
    assert sum(v for (name, labels), v in after.items() if name == "edged_source_dropped_total") == 1


def test_health_checks(stage: Stage) -> None:
    def is_well() -> bool:
        stage.client.publish("pumps/a", '{"v": 3}')  # a source that has heard nothing yet is not well
        return stage.get("/readyz")[0] == 200

    assert stage.get("/healthz") == (200, "ok\n")
    until(is_well, what="every part is well")
    assert stage.get("/healthz", "HEAD") == (200, "")


def test_the_page_and_its_events(stage: Stage) -> None:
    code, page = stage.get("/")
    assert code == 200
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert "edged help WORD says what a state or a reason means" in page
    connection = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=30)
    connection.request("GET", "/events")
    response = connection.getresponse()
    assert response.getheader("Content-Type") == "text/event-stream"
    line = response.readline()
    seen = json.loads(line.removeprefix(b"data: "))
    assert seen["graph"]["pipelines"]["each"] == {"sources": ["pumps"], "model": "sum", "brokers": ["main"], "threshold": None}
    assert seen["status"]["device"] == "t"
    assert seen.keys() == {"status", "details", "graph", "events", "good"}
    connection.close()
    response.close()


def test_nothing_can_be_changed_and_no_other_name_is_served(stage: Stage) -> None:
    assert stage.get("/", "POST")[0] == 405
    assert stage.get("/", "DELETE")[0] == 405
    assert stage.get("/metrics", Host="evil.example:80")[0] == 421
    assert stage.get("/metrics", Host="localhost")[0] == 200
    assert stage.get("/metrics", Host="[::1]:99")[0] == 200
    assert stage.get("/../../etc/passwd")[0] == 404


@pytest.mark.parametrize(
    "data", [b"\0" * 100_000, b"GET / HTTP/1.1\r\n\r\n", b"G" * 100_000, b"GET / HTTP/1.1\r\nHost: " + b"x" * 99_999]
)
def test_what_is_no_request_costs_a_connection(data: bytes, stage: Stage) -> None:
    with socket.create_connection(("127.0.0.1", stage.port), timeout=30) as one:
        try:
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            answer = one.recv(100)
        except ConnectionError:
            answer = b""
    assert not answer or answer.startswith(b"HTTP/1.1 4")
    assert stage.get("/healthz")[0] == 200


def test_those_who_say_nothing_keep_nobody_out_for_long(stage: Stage) -> None:
    silent = [socket.create_connection(("127.0.0.1", stage.port), timeout=30) for _ in range(40)]
    for one in silent:
        one.close()

    def is_served() -> bool:
        try:
            return stage.get("/healthz")[0] == 200
        except ConnectionError:  # while the daemon has yet to see that they left, it closes the connections that are too many
            return False

    until(is_served, what="an answer")


def test_a_token_keeps_others_out(tmp_path: Path, zoo: Path) -> None:
    port = free_port()
    text = TEXT.format(port=1, http=port, zoo=zoo, token='token = "open sesame"')
    with Daemon(tmp_path, text) as daemon:
        stage = Stage(port, None, daemon)  # type: ignore[arg-type]
        code, said = stage.get("/metrics")
        assert (code, "sesame" in said) == (401, False)
        assert stage.get("/metrics", Authorization="Bearer shut")[0] == 401
        assert stage.get("/metrics", Authorization="Bearer open sesame")[0] == 200
        assert stage.get("/healthz?token=open%20sesame")[0] == 200
        assert "sesame" not in daemon.log


def test_metrics_of_a_model_that_runs_elsewhere(broker: Broker, tmp_path: Path, zoo: Path) -> None:
    port = free_port()
    with HttpPeer(infers(lambda x: 2 * x, shape=(-1, 1))) as peer, Client(broker.port) as client:
        text = TEXT.format(port=broker.port, http=port, zoo=zoo, token="") + REMOTE.format(url=peer.url)
        with Daemon(tmp_path, text) as daemon:
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            client.publish("pumps/b", '{"v": 5}')
            client.wait("edged/t/far/b")
            after = samples(Stage(port, client, daemon).get("/metrics", Accept="application/openmetrics-text")[1])
    of_far = (("model", "far"),)
    outcomes = {dict(labels)["outcome"]: v for (name, labels), v in after.items() if name == "edged_remote_rows_total"}
    assert outcomes == {"answered": 1, "unanswered": 0, "limited": 0, "fell_back": 0}
    assert after["edged_remote_requests_total", of_far] >= 1
    assert after["edged_remote_answer_seconds_count", of_far] == 1
    assert after["edged_remote_sent_bytes_total", of_far] > 0
    assert after["edged_remote_received_bytes_total", of_far] > 0
    assert {v for (name, labels), v in after.items() if name.startswith(("edged_remote_rest", "edged_remote_retr"))} == {0}
    assert after["edged_remote_in_flight", of_far] == 0
    assert not [labels for name, labels in after if name == "edged_remote_failures_total"]
