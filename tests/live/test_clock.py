"""The machine's clock is set while the daemon runs: a day ahead, a day back, to 1970, and right again.

libfaketime gives one process a clock of its own; the monotonic clock stays the kernel's.
"""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.support.broker import Broker, free_port
from tests.support.daemon import Client, Daemon, Sensor, balanced, until
from tests.support.fake_time import FakeTime
from tests.support.mqtt_peer import make_certificates

TEXT = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
keepalive = "2s"
[source.serial]
type = "serial"
port = "{port_path}"
decode = {{ format = "csv", fields = ["v"] }}
stale_after = "5s"
[source.mqtt]
type = "mqtt"
topic = "in/mqtt"
decode = {{ format = "json", fields = ["v"] }}
stale_after = "5s"
[source.stamped]
type = "mqtt"
topic = "in/stamped"
decode = {{ format = "json", fields = ["v"], time = {{ field = "t", format = "unix_ns" }} }}
[pipeline.of_serial]
source = "serial"
deadline = "5s"
window = {{ size = 2, hop = 1, gap = "5s" }}
publish = {{ topic = "out/serial" }}
[pipeline.of_mqtt]
source = "mqtt"
deadline = "5s"
publish = {{ topic = "out/mqtt" }}
[pipeline.of_stamped]
source = "stamped"
publish = {{ topic = "out/stamped" }}
"""
SILENCE = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.imu]
type = "serial"
port = "{tty}"
stale_after = "2s"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.p]
source = "imu"
publish = {{ topic = "out/p" }}
"""
SECURE = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtts://127.0.0.1:{port}"
ca = "{folder}/ca.pem"
[source.imu]
type = "serial"
port = "{folder}/imu"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.p]
source = "imu"
publish = {{ topic = "out/p" }}
"""
LISTENERS = """listener {port} 127.0.0.1
listener SECURE 127.0.0.1
cafile {dir}/ca.pem
certfile {dir}/server.pem
keyfile {dir}/server.key"""
JUMPS = ("+1d", "-1d", "@1970-01-02 00:00:00", "+0")


@pytest.fixture
def fake(tmp_path: Path) -> FakeTime:
    return FakeTime(tmp_path)


def test_the_clock_jumps(tmp_path: Path, fake: FakeTime) -> None:
    with Broker(tmp_path) as broker, Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor:
        text = TEXT.format(port=broker.port, port_path=tmp_path / "imu")
        with Daemon(tmp_path, text, environ=fake.environ) as daemon:
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            sensor.write("0\n")
            client.health(lambda h: h["sources"]["serial"]["rows"] == 1)
            for n, jump in enumerate(JUMPS, 1):
                fake.set(jump)
                sensor.write(f"{n}\n")
                client.publish("in/mqtt", json.dumps({"v": n}))
                window, row = client.wait("out/serial", n)[n - 1].json, client.wait("out/mqtt", n)[n - 1].json
                assert window["outputs"]["v"] == [n - 1, n]  # no gap: the sensor was not silent
                assert row["outputs"]["v"] == n
                assert (window["seq"], row["seq"]) == (n, n)
                assert 0 <= row["age_ms"] < 2000
                if jump == "@1970-01-02 00:00:00":
                    assert row["time"].startswith("1970-01-02T00:00")
            off_s = abs((_utc(row["time"]) - datetime.now(timezone.utc)).total_seconds())
            assert off_s < 5
            health = client.health()
            assert health["brokers"]["main"]["connects"] == 1
            assert balanced(health)
            for name in ("serial", "mqtt"):
                assert health["sources"][name]["rejected"] == 0
                assert health["pipelines"][f"of_{name}"]["dropped"] == {}
                words = [m.payload for m in client.of(f"edged/t/source/{name}")]
                assert b"offline" not in words[words.index(b"online") :]
            assert "event=dropped" not in daemon.log


def test_samples_with_times_of_their_own_recover(tmp_path: Path, fake: FakeTime) -> None:
    """Their times stay right; a clock that is wrong can at most refuse them for as long as it is."""
    with Broker(tmp_path) as broker, Client(broker.port) as client:
        text = TEXT.format(port=broker.port, port_path=tmp_path / "absent")
        with Daemon(tmp_path, text, environ=fake.environ):
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")

            def publish(n: int) -> None:
                client.publish("in/stamped", json.dumps({"v": n, "t": time.time_ns()}))

            publish(1)
            client.wait("out/stamped", 1)
            fake.set("+1d")
            publish(2)
            assert abs((_utc(client.wait("out/stamped", 2)[1].json["time"]) - datetime.now(timezone.utc)).total_seconds()) < 5
            fake.set("@1970-01-02 00:00:00")
            publish(3)  # in the future, if the kernel calls its clock synchronised
            client.health(lambda h: h["sources"]["stamped"]["read"] == 3)
            fake.set("+0")
            publish(4)
            client.until(lambda: any(m.json["outputs"]["v"] == 4 for m in client.of("out/stamped")) or None)
            assert set(client.health()["sources"]["stamped"]["dropped"]) <= {"future"}


def test_a_silence_is_noticed_in_time_whatever_the_clock_says(tmp_path: Path, fake: FakeTime) -> None:
    with Broker(tmp_path) as broker, Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor:
        text = SILENCE.format(port=broker.port, tty=tmp_path / "imu")
        with Daemon(tmp_path, text, environ=fake.environ):
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            sensor.write("1\n")
            client.health(lambda h: h["state"] == "healthy")
            fake.set("-1d")
            sensor.write("2\n")
            since = time.monotonic()
            client.health(lambda h: h["sources"]["imu"]["state"] == "silent")
            assert 2.0 <= time.monotonic() - since < 4.0
            fake.set("+1d")
            sensor.write("3\n")
            client.health(lambda h: h["state"] == "healthy")


def test_tls_with_a_clock_in_1970_says_so_and_is_tried_again(tmp_path: Path, fake: FakeTime) -> None:
    """The certificate is not valid yet, to such a clock. Once it is right, all results arrive."""
    make_certificates(tmp_path)
    secure = free_port()
    listener = LISTENERS.replace("SECURE", str(secure))
    with Broker(tmp_path, listener=listener) as broker, Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor:
        fake.set("@1970-01-02 00:00:00")
        with Daemon(tmp_path, SECURE.format(port=secure, folder=tmp_path), environ=fake.environ) as daemon:
            daemon.wait_log("certificate is not yet valid; this machine's clock says 1970-01-02 00:0")
            sensor.write("1\n")
            tried = broker.log.count(f"on port {secure}")
            until(lambda: broker.log.count(f"on port {secure}") > tried, what="another attempt")
            fake.set("+0")
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            sensor.write("2\n")
            assert {m.json["outputs"]["v"] for m in client.wait("out/p", 2)} == {1.0, 2.0}


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
