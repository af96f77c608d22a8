"""The seam to paho: it must go on taking its socket from the one private method that we override."""

from __future__ import annotations

import inspect

import paho.mqtt.client as paho
import pytest

from edged.mqtt.sender import FIRST_MID
from edged.mqtt.session import Connected, Malformed, Pinged, Refused, Session, Silent, Subscribed, Unasked
from edged.mqtt.settings import LinkCounts, Subscription
from tests.support.mqtt_peer import connack, packet, settings, suback


def make(**more: object) -> tuple[Session, bytearray, LinkCounts]:
    out, counts = bytearray(), LinkCounts()
    return Session(settings(1, **more), counts, out), out, counts


def test_paho_still_takes_its_socket_from_create_socket() -> None:
    """If this fails, paho-mqtt has changed inside: `_Client._create_socket` in mqtt/session.py no longer hands it our wire."""
    assert "self._sock = self._create_socket()" in inspect.getsource(paho.Client.reconnect)
    session, out, _ = make()
    session.connect()
    assert out[0] == 0x10
    assert session._client._sock is session._wire


def test_connack_tells_what_the_broker_allows() -> None:
    session, _, _ = make()
    session.connect()
    properties = b"\x21\x00\x05\x24\x00\x25\x00\x27\x00\x00\x10\x00\x29\x00"
    assert session.feed(connack(present=True, properties=properties)) == [Connected(True, 5, 0, 4096, False)]


def test_refused() -> None:
    session, _, _ = make(version="3.1.1")
    session.connect()
    (event,) = session.feed(connack(False, code=5))
    assert isinstance(event, Refused)
    assert (event.code, event.text) == (0x87, "Not authorized")


def test_malformed() -> None:
    session, _, _ = make()
    session.connect()
    assert isinstance(session.feed(packet(0x20, b"\x00"))[0], Malformed)


def test_the_ids_of_subscriptions_stay_below_those_of_messages() -> None:
    """However often a refused one is asked for again: ids are shared by both in a session."""
    session, _, _ = make()
    session.connect()
    session.feed(connack())
    for _ in range(2 * FIRST_MID):
        session.subscribe(Subscription("a"))
    assert max(session._asked) == FIRST_MID - 1
    assert min(session._asked) == 1


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_answers_to_nothing(version: str) -> None:
    is_v5 = version == "5"
    session, out, _ = make(version=version)
    session.connect()
    session.feed(connack(is_v5))
    unsuback = packet(0xB0, b"\0\x77\0\0" if is_v5 else b"\0\x77")
    assert [session.feed(p) for p in (b"\xd0\0", suback(b"\0\x77", 0, is_v5), unsuback)] == [[Unasked()]] * 3
    out.clear()
    one = Subscription("a")
    session.subscribe(one)
    mid = bytes(out[2:4])
    (answer,) = session.feed(suback(mid, 1, is_v5))
    assert isinstance(answer, Subscribed)
    assert (answer.subscription, answer.code) == (one, 1)
    assert session.feed(suback(mid, 1, is_v5)) == [Unasked()]
    session.ping()
    session.ping()
    assert [session.feed(b"\xd0\0") for _ in range(3)] == [[], [Pinged()], [Unasked()]]


def test_ping_that_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings after a keepalive of silence; gives up after another, but not while anything is heard."""
    now = [1000.0]
    monkeypatch.setattr(paho, "time_func", lambda: now[0])
    session, out, counts = make(keepalive_s=10)
    session.connect()
    session.feed(connack())
    out.clear()
    assert (session.tick(False), bytes(out)) == ([], b"")
    now[0] += 10.5
    assert (session.tick(False), bytes(out)) == ([], b"\xc0\x00")
    assert counts.pings == 1
    now[0] += 10.5
    assert session.tick(True) == []
    assert session.feed(packet(0xD0, b"")) == [Pinged()]
    now[0] += 10.5
    assert session.tick(False) == []
    now[0] += 10.5
    assert session.tick(False) == [Silent()]
