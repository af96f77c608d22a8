from __future__ import annotations

from pathlib import Path

import pytest

from edged.mqtt.settings import KEPT_IF_NEW, KEPT_NEVER
from tests.support.planning import MAIN, PUMPS, planned

KIB, MIB = 1024, 1024 * 1024
PIPELINE = '[pipeline.p]\nsource = "pumps"\npublish = { broker = "BROKER", topic = "out/{key}" }\n'


def test_one_broker_has_the_name_of_the_device(tmp_path: Path) -> None:
    plan = planned(tmp_path, MAIN + PUMPS + PIPELINE.replace("BROKER", "main")).whole
    link = plan.links["main"]
    assert link.client_id == "edged-pi4"
    assert link.status_topic == "edged/pi4/status"
    assert link.max_packet == MIB
    [subscription] = link.subscriptions
    assert (subscription.filter, subscription.qos, subscription.retain_handling) == ("plant/+/+/telemetry", 1, KEPT_NEVER)
    assert subscription.identifier == plan.sources["pumps"].filters[0][0] > 0
    assert plan.health_brokers == ("main",)


def test_two_brokers_have_names_of_their_own(tmp_path: Path) -> None:
    brokers = '[device]\nid = "x"\n[broker.a]\nurl = "mqtt://a"\n[broker.b]\nurl = "mqtt://b"\n'
    source = PUMPS + 'broker = "a"\nretained = true\nmax_bytes = "2MiB"\n'
    plan = planned(tmp_path, brokers + source.replace("rate = 1\n", "") + PIPELINE.replace("BROKER", "b")).whole
    assert [link.client_id for link in plan.links.values()] == ["edged-x-a", "edged-x-b"]
    assert plan.links["a"].subscriptions[0].retain_handling == KEPT_IF_NEW
    assert plan.links["a"].max_packet == 2 * MIB + 64 * KIB  # with room for topic and properties
    assert plan.links["b"].subscriptions == ()
    assert plan.links["b"].max_packet == MIB


def test_a_packet_too_small_for_the_greeting_is_refused(tmp_path: Path) -> None:
    main = MAIN + 'max_packet = "1B"\n'
    lines = planned(tmp_path, main + PUMPS + PIPELINE.replace("BROKER", "main")).lines
    assert any('broker.main.max_packet: expected at least "512B", found "1B"' in line for line in lines)


@pytest.mark.parametrize(
    ("url", "is_warned"),
    [
        ("mqtt://10.0.0.1", True),
        ("mqtt://broker.example", True),
        ("mqtt://[fe80::1]", True),
        ("mqtts://10.0.0.1", False),
        ("mqtt://localhost", False),
        ("mqtt://127.0.0.2", False),
        ("mqtt://[::1]", False),
        ("unix:/run/mosquitto.sock", False),
    ],
)
def test_a_password_in_plain_text_over_a_network_is_warned_of(url: str, is_warned: bool, tmp_path: Path) -> None:
    broker = f'[broker.main]\nurl = "{url}"\nusername = "me"\npassword = "hunter2"\n'
    text = broker + PUMPS + PIPELINE.replace("BROKER", "main")
    lines = planned(tmp_path, text).lines
    said = [line for line in lines if "broker.main.password: it goes to" in line]
    assert len(said) == is_warned
    assert all("as plain text, and whoever is on the way can read it; use mqtts://" in line for line in said)
    assert "hunter2" not in str(lines)
