"""`wss://` from end to end: the daemon, and mosquitto's listener of websockets behind TLS."""

from __future__ import annotations

from pathlib import Path

from tests.support.broker import Broker, free_port
from tests.support.daemon import Client, Daemon, balanced, until
from tests.support.mqtt_peer import make_certificates

LISTENERS = """
listener {{port}} 127.0.0.1
protocol websockets
socket_domain ipv4
cafile {{dir}}/ca.pem
certfile {{dir}}/server.pem
keyfile {{dir}}/server.key
listener {plain} 127.0.0.1
"""
TEXT = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "wss://127.0.0.1:{port}/mqtt"
ca = "{ca}"
[source.in]
type = "mqtt"
topic = "in/{{k}}"
decode = {{ format = "json", fields = ["v"] }}
[pipeline.p]
source = "in"
publish = {{ topic = "out/{{k}}", qos = 1 }}
"""


def test_inputs_and_results_pass_and_a_wrong_authority_is_named(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    plain = free_port()
    (other := tmp_path / "other").mkdir()
    make_certificates(other)
    with Broker(tmp_path, listener=LISTENERS.format(plain=plain)) as broker, Client(plain) as client:
        with Daemon(tmp_path, TEXT.format(port=broker.port, ca=tmp_path / "ca.pem")):
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            for v in range(50):
                client.publish("in/a", f'{{"v": {v}}}')
            client.wait("out/a", 50)
            assert [one.json["outputs"]["v"] for one in client.of("out/a")] == list(range(50))
            assert balanced(client.health(lambda h: h["pipelines"]["p"]["published"] == 50))
        with Daemon(tmp_path, TEXT.format(port=broker.port, ca=other / "ca.pem")) as daemon:
            until(lambda: any("broker main: " in one for one in daemon.notices), what="a status that says why")
            daemon.wait_log("certificate chain; it was not signed by the authority in")
