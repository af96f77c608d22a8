"""The seam to paho: it must go on taking its socket from the one private method that we override."""

from __future__ import annotations

import inspect

import paho.mqtt.client as paho

from edged.transport.mqtt_session import Connected, Malformed, Pinged, Refused, Session, Silent
from edged.transport.mqtt_settings import LinkCounts
from tests.transport.mqtt_peer import connack, packet, settings


def make(**more: object) -> tuple[Session, bytearray, LinkCounts]:
    out, counts = bytearray(), LinkCounts()
    return Session(settings(1, **more), counts, out), out, counts


def test_paho_still_takes_its_socket_from_create_socket() -> None:
    """If this fails, paho-mqtt has changed inside: `_Client._create_socket` in mqtt_session.py no longer hands it our wire."""
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


def test_ping_that_is_not_answered(monkeypatch) -> None:
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
