"""What a broker keeps, and what is left out, through the real daemon: a sample once, and a dead sensor stays dead."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced

CONFIG = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
version = "{version}"
[source.limit]
type = "mqtt"
topic = "limit/{{k}}"
retained = true
stale_after = "1s"
decode = {{ format = "json", fields = ["v"] }}
[pipeline.p]
source = "limit"
publish = {{ topic = "out/{{k}}" }}
"""


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_message_that_the_broker_keeps_is_one_sample_however_often_it_is_met(tmp_path: Path, version: str) -> None:
    """Of a sensor that died long ago: its result comes once, and its topic never says online."""
    persistence = ("persistence true", f"persistence_location {tmp_path}/", "autosave_interval 1")
    with Broker(tmp_path, *persistence) as broker:
        with Client(broker.port) as client:
            client.publish("limit/a", '{"v": 1}', retain=True)
        with Daemon(tmp_path, CONFIG.format(port=broker.port, version=version)):
            with Client(broker.port) as client:
                health = client.health(lambda h: h["sources"]["limit"]["rows"] == 1)
                assert health["sources"]["limit"]["keys_online"] == 0
            broker.restart()
            with Client(broker.port) as client:
                client.health(lambda h: h["brokers"]["main"]["connects"] == 2 and h["brokers"]["main"]["state"] == "connected")
                client.publish("limit/b", '{"v": 2}')
                source = client.health(lambda h: h["sources"]["limit"]["rows"] == 2)["sources"]["limit"]
                assert source["keys_online"] == 1
                client.publish("limit/a", '{"v": 3}')
                health = client.health(lambda h: h["sources"]["limit"]["rows"] == 3)
                assert health["sources"]["limit"]["keys_online"] == 2
                assert balanced(health)


EVERY = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.power]
type = "mqtt"
topic = "tele/{{plug}}"
every = "1h"
decode = {{ format = "json", fields = ["w"] }}
[pipeline.p]
source = "power"
publish = {{ topic = "out/{{plug}}" }}
"""


def test_every_takes_the_first_message_of_each_plug_and_settles_the_others(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Client(broker.port) as client, Daemon(tmp_path, EVERY.format(port=broker.port)):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish("tele/b", "not even JSON")
        client.health(lambda h: h["sources"]["power"]["messages"] == 1)
        for value in range(1, 50):
            client.publish("tele/a", f'{{"w": {value}}}')
            client.publish("tele/b", f'{{"w": {value}}}')
        health = client.health(lambda h: h["sources"]["power"]["messages"] == 99)
        assert health["sources"]["power"]["rows"] == 2
        assert health["sources"]["power"]["dropped"] == {"thinned": 96, "malformed": 1}
        assert [client.wait(f"out/{plug}")[0].json["outputs"]["w"] for plug in "ab"] == [1.0, 1.0]
        assert balanced(health)
