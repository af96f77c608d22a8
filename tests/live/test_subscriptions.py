"""What is subscribed at the broker is what the configuration says, and a source that gets nothing says why that may be."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, until

DYNAMIC_SECURITY = next(Path("/usr/lib").glob("**/mosquitto_dynamic_security.so"), None)
"""mosquitto's own access rules never refuse a subscription; those of its plugin do."""

HEAD = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
version = "{version}"
"""
SOURCE = """
[source.{name}]
type = "mqtt"
topic = "in/{name}"
decode = {{ format = "json", fields = ["v"] }}
[pipeline.of_{name}]
source = "{name}"
publish = {{ topic = "out/{name}" }}
"""


def text(broker: Broker, version: str, *names: str) -> str:
    return HEAD.format(port=broker.port, version=version) + "".join(SOURCE.format(name=name) for name in names)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_went_from_the_file_is_unsubscribed(tmp_path: Path, version: str) -> None:
    """The broker keeps a session, and with it every subscription that nobody takes back."""
    with Broker(tmp_path, "log_type all") as broker, Client(broker.port) as client:
        with Daemon(tmp_path, text(broker, version, "kept", "gone")) as daemon:
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            until(lambda: (tmp_path / "state" / "subscriptions" / "main.json").exists())
        daemon.config.write_text(text(broker, version, "kept"))
        client.publish("in/gone", '{"v": 1}')  # waits for us at the broker
        with daemon:
            until(lambda: "Received UNSUBSCRIBE from edged-t" in broker.log)
            client.publish("in/gone", '{"v": 2}')
            client.publish("in/kept", '{"v": 3}')
            client.wait("out/kept")
            assert client.health()["brokers"]["main"]["dropped"].get("unrouted", 0) <= 1  # the one that waited
        asked = broker.log.count("Received UNSUBSCRIBE")
        with daemon:
            client.health(lambda h: h["brokers"]["main"]["connects"] == 1)
            client.publish("in/kept", '{"v": 4}')
            client.wait("out/kept", 2)
        assert broker.log.count("Received UNSUBSCRIBE") == asked  # once is enough


def test_a_subscription_that_is_granted_and_never_served(tmp_path: Path) -> None:
    """mosquitto says yes to a filter that its access rules then let nothing through for."""
    (tmp_path / "acl").write_text(
        "topic readwrite edged/#\ntopic readwrite out/#\ntopic readwrite in/kept\ntopic write in/gone\n"
    )
    with (
        Broker(tmp_path, f"acl_file {tmp_path / 'acl'}") as broker,
        Client(broker.port) as client,
        Daemon(tmp_path, text(broker, "5", "kept", "gone")),
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        for topic in ("in/kept", "in/gone"):
            client.publish(topic, '{"v": 1}')
        sources = client.health(lambda h: h["sources"]["kept"]["state"] == "running")["sources"]
        assert sources["gone"]["state"] == "silent"
        assert "no message yet on in/gone" in sources["gone"]["reason"]
        assert "lets edged read it" in sources["gone"]["reason"]
        assert client.health()["state"] == "degraded"


@pytest.mark.skipif(DYNAMIC_SECURITY is None, reason="mosquitto has no dynamic security plugin here")
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_refused_subscription_is_made_once_the_rules_allow_it(tmp_path: Path, version: str) -> None:
    """On the connection that there is: nobody has to restart anything."""
    rules = tmp_path / "rules.json"
    subprocess.run(["mosquitto_ctrl", "dynsec", "init", rules, "admin", "pw"], check=True, capture_output=True)
    options = [f"plugin {DYNAMIC_SECURITY}", f"plugin_opt_config_file {rules}", "allow_anonymous false"]
    with (
        Broker(tmp_path, *options) as broker,
        Client(broker.port, "$CONTROL/#", user=("admin", "pw")) as admin,
    ):

        def command(**said: object) -> None:
            admin.publish("$CONTROL/dynamic-security/v1", json.dumps({"commands": [said]}))
            admin.wait("$CONTROL/dynamic-security/v1/response")

        def may_subscribe(allow: bool) -> None:
            kinds = ["publishClientSend", "publishClientReceive"]
            acls = [{"acltype": kind, "allow": True} for kind in kinds] + [{"acltype": "subscribe", "allow": allow}]
            command(command="setDefaultACLAccess", acls=acls)

        command(command="createClient", username="edged", password="pw")
        may_subscribe(False)
        login = HEAD.replace("{version}", version).format(port=broker.port) + 'username = "edged"\npassword = "pw"\n'
        with Daemon(tmp_path, login + SOURCE.format(name="pump")) as daemon:
            daemon.wait_log("refuses the subscription to 'in/pump'")
            asked = broker.log.count("Received SUBSCRIBE from edged-t")
            until(lambda: broker.log.count("Received SUBSCRIBE from edged-t") > asked)
            may_subscribe(True)
            with Client(broker.port, user=("edged", "pw")) as client:
                health = client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
                client.publish("in/pump", '{"v": 1}')
                assert client.wait("out/pump")[0].json["outputs"] == {"v": 1.0}
            assert health["brokers"]["main"]["connects"] == 1
            assert health["brokers"]["main"].get("reason") is None
