"""The housekeeping of a connection, by paho-mqtt: CONNECT, SUBSCRIBE, PING, DISCONNECT and their properties.

The only file that knows paho. It gives paho a socket that is none: what we feed it comes from its `recv`, and what paho
sends lands in our own outgoing buffer, between our PUBLISH frames. So paho does no I/O, needs no thread, and never sees
a PUBLISH or a PUBACK. One session for each connection: nothing is carried over to the next.
"""

from __future__ import annotations

from typing import Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edged.mqtt.frames import PINGREQ, PINGRESP
from edged.mqtt.settings import LinkCounts, LinkSettings, Subscription

CONNACK, SUBACK, UNSUBACK = 0x20, 0x90, 0xB0
LAST_MID = 8191
"""The ids above are those of PUBLISH packets (`sender.FIRST_MID`)."""
WRONG_VERSION = 0x84
WRONG_VERSION_311 = 1
SHOWN_CHARACTERS = 200
"""Of what a broker says in words of its own."""


class Connected(msgspec.Struct, frozen=True):
    """The broker took us. What it allows: 65,535 unacknowledged and any size where it does not say."""

    is_session_present: bool
    receive_maximum: int = 65535
    maximum_qos: int = 2
    maximum_packet: int = 0
    """Largest packet the broker takes, in bytes; 0: any."""
    may_retain: bool = True
    may_share: bool = True
    session_expiry_s: int | None = None
    """How long the broker keeps our session, where it says that that is not as long as we asked for."""


class Refused(msgspec.Struct, frozen=True):
    """The broker answered CONNECT with an error."""

    code: int
    text: str


class Subscribed(msgspec.Struct, frozen=True):
    """The answer to one SUBSCRIBE: the granted QoS, or 0x80 and above for a refusal."""

    subscription: Subscription
    code: int
    text: str


class Unsubscribed(msgspec.Struct, frozen=True):
    """The answer to one UNSUBSCRIBE: the broker has no such subscription now."""

    filter: str


class Pinged(msgspec.Struct, frozen=True):
    """All pings are answered: the broker has handled what was sent before the last of them."""


class Unasked(msgspec.Struct, frozen=True):
    """The answer to something that was not asked."""


class Ended(msgspec.Struct, frozen=True):
    """The broker's DISCONNECT, with its reason."""

    code: int
    text: str


class Malformed(msgspec.Struct, frozen=True):
    """The broker sent a packet that paho could not make sense of."""

    text: str


class Silent(msgspec.Struct, frozen=True):
    """A ping was not answered for a keepalive."""


Event = Connected | Refused | Subscribed | Unsubscribed | Pinged | Unasked | Ended | Malformed | Silent


class _Wire:
    """What paho takes for its socket."""

    def __init__(self, out: bytearray, counts: LinkCounts) -> None:
        self.out = out
        self.counts = counts
        self.packet = b""
        self.position = 0
        self.is_closed = False
        self.pings = 0
        """That have not been answered."""

    def recv(self, size: int) -> bytes:
        if self.position >= len(self.packet):
            raise BlockingIOError
        data = self.packet[self.position : self.position + size]
        self.position += size
        return data

    def send(self, data: bytes | bytearray) -> int:
        if data == PINGREQ:
            self.counts.pings += 1
            self.pings += 1
        self.out += data
        return len(data)

    def close(self) -> None:
        self.is_closed = True

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None:
        pass

    def pending(self) -> int:
        return 0


class _Client(paho.Client):
    """paho with two private methods overridden: the one that makes its socket, and the one that counts its packets, which
    would in time come to ids of ours."""

    wire: _Wire

    def _create_socket(self) -> Any:
        return self.wire

    def _mid_generate(self) -> int:
        self._last_mid = self._last_mid % LAST_MID + 1
        return self._last_mid


class Session:
    """One connection's housekeeping. Packets go in by `feed`, packets come out in `out`, happenings in what `feed` and
    `tick` return. No method raises, whatever the peer sends."""

    def __init__(self, settings: LinkSettings, counts: LinkCounts, out: bytearray) -> None:
        self._settings = settings
        self._wire = _Wire(out, counts)
        self._events: list[Event] = []
        self._asked: dict[int, Subscription] = {}
        self._asked_not: dict[int, str] = {}
        self._has_identifiers = False
        self.was_answered = False
        """There was a CONNACK, good or bad."""
        self._client = client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=None if settings.is_v5 else settings.is_clean,
            protocol=paho.MQTTv5 if settings.is_v5 else paho.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.wire = self._wire
        client.suppress_exceptions = True
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_disconnect = self._on_disconnect

    @property
    def unanswered(self) -> list[Subscription]:
        """Subscriptions that the broker has not answered yet."""
        return list(self._asked.values())

    @property
    def awaits_answers(self) -> bool:
        """Whether a ping or an UNSUBSCRIBE is unanswered."""
        return bool(self._wire.pings or self._asked_not)

    def connect(self) -> None:
        """Writes CONNECT, with the will where there is a status topic."""
        s, client = self._settings, self._client
        if s.username is not None or s.password is not None:
            client.username_pw_set(s.username or "", s.password.reveal() if s.password is not None else None)
        if s.status_topic:
            client.will_set(s.status_topic, b"offline", qos=0, retain=s.may_retain)
        properties = None
        if s.is_v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = s.session_expiry_s
            properties.ReceiveMaximum = s.receive_maximum
            properties.MaximumPacketSize = s.max_packet
        keepalive = max(1, s.keepalive_s)
        if s.is_v5:
            client.connect_async("broker", keepalive=keepalive, clean_start=s.is_clean, properties=properties)
        else:
            client.connect_async("broker", keepalive=keepalive)
        client.reconnect()

    def feed(self, packet: bytes) -> list[Event]:
        """Hands paho one whole control packet; returns what it meant."""
        self.was_answered |= packet[0] == CONNACK
        if self._is_version_refused(packet):
            return [Refused(WRONG_VERSION, "the broker does not speak this version of MQTT")]
        if self._is_unasked(packet):
            return [Unasked()]
        wire = self._wire
        wire.packet, wire.position = packet, 0
        if packet[0] == PINGRESP and len(packet) == 2:
            wire.pings -= 1
            if wire.pings:
                return []
            self._events.append(Pinged())
        try:
            self._client.loop_read()
            if self._client.want_write():
                self._client.loop_write()
        except Exception as error:  # the fence around a parser of hostile input that is not ours
            self._events = [Malformed(f"a {packet[0]:#04x} packet on which paho-mqtt failed: {error!r}")]
        if wire.is_closed and not self._events:
            self._events = [Malformed(f"a malformed {packet[0]:#04x} packet")]
        return self._take_events()

    def tick(self, is_heard: bool) -> list[Event]:
        """Keepalive; to be called every half second. Sends PINGREQ after a keepalive without control packets, and gives up
        when another passes without an answer: a dead link is noticed within twice the keepalive. While anything `is_heard`
        the link is not dead: on a slow one the answer stands in line behind messages."""
        if is_heard and self._wire.pings:
            return []
        self._client.loop_misc()
        return [Silent()] if self._wire.is_closed else self._take_events()

    def ping(self) -> None:
        """Writes PINGREQ: the answer says that all before it has been handled."""
        self._wire.send(PINGREQ)

    def unsubscribe(self, topic: str) -> None:
        """Writes one UNSUBSCRIBE."""
        _, mid = self._client.unsubscribe(topic)
        if mid is not None:
            self._asked_not[mid] = topic

    def subscribe(self, subscription: Subscription) -> None:
        """Writes one SUBSCRIBE: an identifier belongs to a packet, so each subscription has its own."""
        s = subscription
        properties = options = None
        if self._settings.is_v5:
            # Not as published: only then does a set retain flag tell a message that was kept from a live one.
            options = SubscribeOptions(qos=s.qos, retainAsPublished=False, retainHandling=s.retain_handling)
            if s.identifier and self._has_identifiers:
                properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
                properties.SubscriptionIdentifier = s.identifier
            _, mid = self._client.subscribe(s.filter, options=options, properties=properties)
        else:
            _, mid = self._client.subscribe(s.filter, s.qos)
        if mid is not None:
            self._asked[mid] = s

    def disconnect(self, code: int = 0) -> None:
        """Writes DISCONNECT, under MQTT 5 with a reason code; one that is not 0 makes the broker publish the will."""
        reason = ReasonCode(PacketTypes.DISCONNECT, identifier=code) if self._settings.is_v5 and code else None
        self._client.disconnect(reason)

    def _is_version_refused(self, packet: bytes) -> bool:
        """A broker without our version answers in its own: CONNACK of two bytes, which under MQTT 5 paho takes for garbage, and
        which says code 1 if the broker is careful."""
        return len(packet) == 4 and packet[0] == CONNACK and (self._settings.is_v5 or packet[3] == WRONG_VERSION_311)

    def _is_unasked(self, packet: bytes) -> bool:
        """Paho, which takes its time, would look at it all the same."""
        head = packet[0]
        if head == PINGRESP:
            return len(packet) == 2 and not self._wire.pings
        if head in (SUBACK, UNSUBACK) and len(packet) >= 4:
            at = 2 if packet[1] < 128 else 3  # of no more than 2 KiB
            mid = int.from_bytes(packet[at : at + 2], "big")
            return mid not in (self._asked if head == SUBACK else self._asked_not)
        return False

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None) -> None:
        if reason.is_failure:
            self._events.append(Refused(reason.value, _in_words(reason, properties)))
            return
        said = vars(properties) if properties else {}
        self._has_identifiers = self._settings.is_v5 and bool(said.get("SubscriptionIdentifierAvailable", 1))
        self._events.append(
            Connected(
                is_session_present=flags.session_present,
                receive_maximum=said.get("ReceiveMaximum", 65535),
                maximum_qos=said.get("MaximumQoS", 2),
                maximum_packet=said.get("MaximumPacketSize", 0),
                may_retain=bool(said.get("RetainAvailable", 1)),
                may_share=self._settings.is_v5 and bool(said.get("SharedSubscriptionAvailable", 1)),
                session_expiry_s=said.get("SessionExpiryInterval"),
            )
        )

    @property
    def has_identifiers(self) -> bool:
        """Whether the broker says of each message which subscription brought it. Known from CONNACK on."""
        return self._has_identifiers

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Properties) -> None:
        if (subscription := self._asked.pop(mid, None)) and reasons:
            self._events.append(Subscribed(subscription, reasons[0].value, _in_words(reasons[0], properties)))

    def _on_unsubscribe(self, client: Any, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        topic = self._asked_not.pop(mid, None)
        # What was refused is still there: it is asked again on the next connect.
        if topic is not None and not any(reason.is_failure for reason in reasons):
            self._events.append(Unsubscribed(topic))

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None) -> None:
        if flags.is_disconnect_packet_from_server:
            self._events.append(Ended(reason.value, _in_words(reason, properties)))


def _in_words(reason: ReasonCode, properties: Properties | None) -> str:
    """A reason code by its name, with what the broker says of it itself, if it does."""
    said = vars(properties) if properties else {}
    text = "".join(c if c.isprintable() else " " for c in str(said.get("ReasonString", ""))[:SHOWN_CHARACTERS]).strip()
    elsewhere = str(said.get("ServerReference", ""))[:SHOWN_CHARACTERS]
    named = f"{reason} ({text})" if text and text != str(reason) else str(reason)
    return f"{named}; it names another server: {elsewhere}" if elsewhere else named
