"""A result that the broker ends the connection over: it alone is dropped, the others get through, and nobody else is blamed.

MQTT 3.1.1 knows no limit for packets, so mosquitto ends the connection over one that is larger than it takes.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced, until

FIELDS = 60
CONFIG = """
[device]
id = "t"
[health]
interval = "100ms"
broker = "here"
[spool]
mode = "{mode}"
[broker.here]
url = "mqtt://127.0.0.1:{here}"
[broker.there]
url = "mqtt://127.0.0.1:{there}"
version = "3.1.1"
[source.in]
type = "mqtt"
broker = "here"
topic = "in/x"
decode = {{ format = "raw", dtype = "float64", fields = [{fields}] }}
[pipeline.p]
source = "in"
publish = {{ broker = "there", topic = "out/p", qos = {qos} }}
"""


def sample(number: int, is_large: bool = False) -> bytes:
    """A result of 1,700 bytes or of 900."""
    rest = 1.2345678901234567 if is_large else 1.0
    return struct.pack(f"<{FIELDS}d", number, *[rest] * (FIELDS - 1))


def numbers(client: Client) -> list[int]:
    return [int(m.json["outputs"]["f0"]) for m in client.of("out/p")]


@pytest.mark.parametrize("mode", ["off", "offline", "always"])
def test_it_is_found_among_others_and_not_sent_again_after_a_crash(tmp_path: Path, mode: str) -> None:
    fields = ", ".join(f'"f{i}"' for i in range(FIELDS))
    (tmp_path / "there").mkdir()
    with Broker(tmp_path) as here, Broker(tmp_path / "there", "max_packet_size 1200") as there:
        text = CONFIG.format(here=here.port, there=there.port, mode=mode, qos=1, fields=fields)
        with Client(here.port) as client, Client(there.port, "out/#") as hears, Daemon(tmp_path, text) as daemon:
            client.health(lambda h: all(b["state"] == "connected" for b in h["brokers"].values()))
            client.publish_all("in/x", [sample(i, is_large=i == 10) for i in range(40)])
            hears.until(lambda: set(numbers(hears)) == {*range(10), *range(11, 40)} or None)
            daemon.wait_log("event=message_refused")
            health = client.health(lambda h: h["brokers"]["there"]["state"] == "connected")
            assert health["brokers"]["there"]["connects"] == 4
            said = [line for line in daemon.log.splitlines() if "event=message_refused" in line]
            assert len(said) == 1
            assert "topic=out/p" in said[0]
            assert "another client" not in daemon.log
            (publish,) = health["pipelines"]["p"]["publish"]
            if mode != "always":
                assert publish["dropped"] == {"refused": 1}
            assert balanced(health)
            if mode == "always":
                kept = tmp_path / "state" / "spool" / "there"  # empty once all of it is done
                until(lambda: (kept / "done").exists() or not any(kept.glob("*")), what="a note of what is done")
                client.health(lambda h: h["spool"]["brokers"]["there"]["waiting"] == 0)
            daemon.kill()
            hears.forget()
            daemon.start()
            client.publish("in/x", sample(100))
            hears.until(lambda: 100 in numbers(hears) or None)
            client.health(lambda h: h["brokers"]["there"].get("connects") == 1)
            assert len([line for line in daemon.log.splitlines() if "event=message_refused" in line]) == 1
