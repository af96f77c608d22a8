"""MQTT packets, as bytes: takes PUBLISH and PUBACK out of what was read, and frames them for sending. Both versions.

PUBLISH and PUBACK are the data path and are handled here, in one pass over each read. Every other packet that a server
may send comes out whole, for the library that keeps the connection. What a server must not send ends the connection:
the parser stops at the first malformed packet, keeps what came before it, and says why in `error`.

Nothing here knows a socket. Chopping the input differently never changes what comes out.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec

from edged.mqtt.receipts import Ledger
from edged.records import NONE, Receipt

Inbound = tuple[bytes, bytes, int, bool, tuple[int, ...], Receipt, bytes]
"""(topic, payload, qos, retain, subscription identifiers, receipt, properties as they came, without their length)

Properties that are `UNREAD` are too many: whoever takes such a message rejects it.

A plain tuple: making a named one costs as much as all else that is done here for a message. Equal topics are one object."""

# The first bytes of a PUBLISH that we may be sent, and the (qos, retain) they mean. Absent: QoS 2 and 3 (we subscribe at
# QoS 1 at most, so no server may send more) and DUP at QoS 0.
PUBLISH_HEADS = {0x30: (0, False), 0x31: (0, True), 0x32: (1, False), 0x33: (1, True), 0x3A: (1, False), 0x3B: (1, True)}
BY_HEAD = [PUBLISH_HEADS.get(head) for head in range(256)]
DUP_HEAD = 0x38
"""Above it, a PUBLISH is one that was sent before."""
PUBACK_HEAD = 0x40
CONTROL_HEADS = {0x20: "CONNACK", 0x90: "SUBACK", 0xB0: "UNSUBACK", 0xD0: "PINGRESP"}
CONTROL_HEADS_V5 = {**CONTROL_HEADS, 0xE0: "DISCONNECT", 0xF0: "AUTH"}
CONTROL_MAX = 1 << 11
"""Bytes of one other packet, which has one code and perhaps a reason. Paho takes 75 us for each 5 bytes of properties."""
AT_ONCE = 256
"""PUBACKs and other packets given out by one call, so that a storm of them does not block the loop; large ones count for more."""
MAX_PROPERTIES, MAX_PROPERTIES_BYTES = 64, 16 << 10
"""Of one PUBLISH. Checking a property takes some microseconds: a packet of 1 MB made of small ones would block the loop for a
second and a half."""
UNREAD = b"\0"
"""Stands for properties beyond these bounds, which nobody reads. No good ones are equal to it: there is no property 0."""
PROPERTIES_A_ROOM = 32
"""Bytes of properties not seen before that count for as much as one PUBACK."""
PINGREQ, PINGRESP = b"\xc0\x00", 0xD0

MALFORMED, PROTOCOL_ERROR, TOO_MANY, TOO_LARGE = 0x81, 0x82, 0x93, 0x95  # reason codes of a DISCONNECT

# What a PUBLISH may carry: identifier -> (size in bytes, or the kind of a length-prefixed value; whether it may repeat)
STRING, BINARY, PAIR, VARINT = -1, -2, -3, -4
SUBSCRIPTION_IDENTIFIER, TOPIC_ALIAS = 0x0B, 0x23
EXPIRY, RESPONSE_TOPIC, CORRELATION_DATA = 0x02, 0x08, 0x09
PUBLISH_PROPERTIES = {
    0x01: (1, False),  # payload format indicator
    EXPIRY: (4, False),  # message expiry interval
    0x03: (STRING, False),  # content type
    RESPONSE_TOPIC: (STRING, False),
    CORRELATION_DATA: (BINARY, False),
    SUBSCRIPTION_IDENTIFIER: (VARINT, True),
    TOPIC_ALIAS: (2, False),
    0x26: (PAIR, True),  # user property
}

# Topics and properties repeat: each different one is checked once. Bounded by number and by length.
KNOWN_MAX = 4096
KNOWN_BYTES = 128

ALIKE_BYTES = 1024
"""A longer head is parsed each time, and not kept."""
NO_HEAD: tuple[bytes, int, int, bytes, int, bool, bool, tuple[int, ...], bytes] = (b"", 0, 0, b"", 0, False, False, (), b"")
"""Stands for the head of the last PUBLISH, which most have in common with the one before: its bytes up to what differs, how many
they are, the size of the whole, and what they mean."""


class Request(NamedTuple):
    """What a PUBLISH asks for: an answer on `topic` with `correlation` (None: without), in `expiry_s` seconds (None: ever)."""

    topic: bytes
    correlation: bytes | None
    expiry_s: int | None


class ProtocolError(Exception):
    """The peer broke the protocol; `code` is what MQTT 5 calls it."""

    def __init__(self, reason: str, code: int = MALFORMED) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Batch(msgspec.Struct):
    """What stood in one read up to a control packet or its end. `acks`: (message id, reason code) of each PUBACK."""

    publishes: list[Inbound]
    acks: list[tuple[int, int]]
    control: bytes = b""


class FrameParser:
    """Turns reads into batches. One for each connection; QoS 1 messages are entered in `ledger` as they come.

    `error` is set at the first malformed packet; from then on nothing more comes out. `is_behind`: what was read holds more
    packets than one call may give; to be called again, with nothing, before more is read.
    """

    __slots__ = (
        *("error", "is_behind", "ledger", "_is_v5", "_max_packet", "_heads"),
        *("_parts", "_pending", "_needed", "_known_topics", "_known_properties", "_last"),
    )

    def __init__(self, is_v5: bool, max_packet: int, ledger: Ledger) -> None:
        self.ledger = ledger
        self.error: ProtocolError | None = None
        self._is_v5 = is_v5
        self._max_packet = max_packet
        self._heads = CONTROL_HEADS_V5 if is_v5 else CONTROL_HEADS
        self._parts: list[bytes] = []
        self._pending = 0
        self._needed = 0
        self.is_behind = False
        self._known_topics: dict[bytes, bytes] = {}
        self._known_properties: dict[bytes, tuple[int, ...]] = {}
        self._last = NO_HEAD

    def feed(self, data: bytes) -> list[Batch]:
        """All whole packets in what was read so far, in order; the rest is kept until more comes."""
        self.is_behind = False
        if self._pending:
            if data:
                self._parts.append(data)
            self._pending += len(data)
            if self._pending < self._needed:
                return []
            data = b"".join(self._parts)
            self._parts.clear()
            self._pending = 0
        if self.error:
            return []
        batches: list[Batch] = []
        try:
            position = self._parse(data, batches)
        except ProtocolError as error:
            self.error = error
            return batches
        if position < len(data):
            self._parts.append(data[position:])
            self._pending = len(data) - position
        return batches

    def _parse(self, data: bytes, batches: list[Batch]) -> int:
        """Appends to `batches`; returns where the first incomplete packet begins. One pass, spelled out: this loop is
        the cost of receiving."""
        position, end = 0, len(data)
        is_v5, max_packet, by_head, ledger = self._is_v5, self._max_packet, BY_HEAD, self.ledger
        known_topics, known_properties = self._known_topics, self._known_properties
        room = AT_ONCE
        batch = Batch([], [])
        batches.append(batch)
        add = batch.publishes.append
        alike, skip, whole, topic, qos, retain, is_again, identifiers, properties = self._last
        while end - position >= 2 and room > 0:
            if alike and data.startswith(alike, position) and (stop := position + whole) <= end:
                at = position + skip
                if not qos:
                    add((topic, data[at:stop], qos, retain, identifiers, NONE, properties))
                    position = stop
                    continue
                mid = (data[at] << 8) + data[at + 1]
                if mid and not (is_v5 and data[at + 2]):
                    add((topic, data[at + 2 + is_v5 : stop], qos, retain, (), ledger.add(mid, is_again), b""))
                    position = stop
                    continue
            head = data[position]
            length = data[position + 1]
            start = position + 2
            if length > 127:
                if end - start and 0 < data[start] < 128:  # the usual two bytes, without a call
                    length += (data[start] << 7) - 128
                    start += 1
                else:
                    length, start = read_varint(data, position + 1, end)
                    if not start:
                        self._needed = end - position + 1
                        return position
            stop = start + length
            if stop - position > max_packet:
                raise ProtocolError(f"a packet of {stop - position} bytes, larger than max_packet ({max_packet})", TOO_LARGE)
            if stop > end:
                if head >> 4 != 3:
                    self._check_head(head, length)
                elif by_head[head] is None:
                    raise ProtocolError(f"a PUBLISH that begins with 0x{head:02x}")
                self._needed = stop - position
                return position

            flags = by_head[head]
            if flags is not None:
                if length < 2:
                    raise ProtocolError("a PUBLISH without a topic")
                at = start + 2 + (data[start] << 8) + data[start + 1]
                if at > stop:
                    raise ProtocolError("a topic longer than its packet")
                text = data[start + 2 : at]
                topic = known_topics.get(text) or self._check_topic(text)
                qos, retain = flags
                receipt, skip, is_again = NONE, 0, False
                if qos:
                    skip = at - position
                    if at + 2 > stop:
                        raise ProtocolError("a PUBLISH at QoS 1 without a message id")
                    mid = (data[at] << 8) + data[at + 1]
                    if not mid:
                        raise ProtocolError("message id 0", PROTOCOL_ERROR)
                    at += 2
                    is_again = head > DUP_HEAD
                    receipt = ledger.add(mid, is_again)
                identifiers, properties = (), b""
                if is_v5:
                    size = data[at] if at < stop else 128
                    at += 1
                    if size > 127:
                        size, at = read_varint(data, at - 1, stop)
                    if not at or at + size > stop:
                        raise ProtocolError("properties longer than their packet")
                    if size > MAX_PROPERTIES_BYTES:
                        properties = UNREAD
                    elif size:
                        properties = data[at : at + size]
                        found = known_properties.get(properties)
                        if found is None:
                            room -= size // PROPERTIES_A_ROOM
                            found = self._check_properties(properties)
                        if found is None:
                            properties = UNREAD
                        else:
                            identifiers = found
                    at += size
                add((topic, data[at:stop], qos, retain, identifiers, receipt, properties))
                skip, whole = skip or at - position, stop - position
                alike = data[position : position + skip] if not (qos and properties) and skip <= ALIKE_BYTES else b""
                self._last = alike, skip, whole, topic, qos, retain, is_again, identifiers, properties
            elif head == PUBACK_HEAD:
                mid = (data[start] << 8) + data[start + 1] if length == 2 else 0
                batch.acks.append((mid, 0) if mid else read_puback(data, start, stop, is_v5))  # usually without a call
                room -= 1
            else:
                self._check_head(head, length)
                room -= 1 + (length >> 3)
                batch.control = data[position:stop]
                batch = Batch([], [])
                batches.append(batch)
                add = batch.publishes.append
            position = stop
        self.is_behind = room <= 0 and end - position >= 2
        self._needed = 2
        return position

    def _check_head(self, head: int, length: int) -> None:
        """Whether a server may send such a packet at all."""
        if head == PUBACK_HEAD:
            return
        if head not in self._heads:
            what = "a PUBLISH" if head >> 4 == 3 else "a packet"
            raise ProtocolError(f"{what} that begins with 0x{head:02x}")
        if length > CONTROL_MAX:
            raise ProtocolError(f"a {self._heads[head]} of {length} bytes", TOO_LARGE)

    def drop_caches(self) -> None:
        self._known_topics.clear()
        self._known_properties.clear()
        self._last = NO_HEAD

    def _check_topic(self, text: bytes) -> bytes:
        if not text:
            raise ProtocolError("a PUBLISH with an empty topic, though topic aliases are not allowed", PROTOCOL_ERROR)
        if b"\0" in text or b"+" in text or b"#" in text:
            raise ProtocolError(f"a topic with NUL or a wildcard: {text[:64]!r}")
        check_utf8(text)
        if len(text) <= KNOWN_BYTES:
            if len(self._known_topics) >= KNOWN_MAX:
                self._known_topics.clear()
            self._known_topics[text] = text
        return text

    def _check_properties(self, properties: bytes) -> tuple[int, ...] | None:
        identifiers = read_subscription_identifiers(properties)
        if identifiers is not None and len(properties) <= KNOWN_BYTES:
            if len(self._known_properties) >= KNOWN_MAX:
                self._known_properties.clear()
            self._known_properties[properties] = identifiers
        return identifiers


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A variable byte integer and where it ends; (0, 0) when `data` ends first. Raises ProtocolError after four bytes."""
    value = shift = 0
    for i in range(at, min(at + 4, end)):
        byte = data[i]
        value |= (byte & 127) << shift
        if byte < 128:
            if not byte and shift:
                raise ProtocolError("a length written with more bytes than it needs")
            return value, i + 1
        shift += 7
    if end - at >= 4:
        raise ProtocolError("a length of more than four bytes")
    return 0, 0


def read_puback(data: bytes, start: int, stop: int, is_v5: bool) -> tuple[int, int]:
    """(message id, reason code) of the PUBACK whose body is `data[start:stop]`."""
    length = stop - start
    if length < 2 or (length > 2 and not is_v5):
        raise ProtocolError(f"a PUBACK of {length} bytes")
    mid = (data[start] << 8) + data[start + 1]
    if not mid:
        raise ProtocolError("message id 0", PROTOCOL_ERROR)
    if length == 2:
        return mid, 0
    if length > 3:
        size, at = read_varint(data, start + 3, stop)
        if not at or at + size != stop:
            raise ProtocolError("properties of a PUBACK that do not fill it")
    return mid, data[start + 2]


def read_subscription_identifiers(properties: bytes) -> tuple[int, ...] | None:
    """Checks the properties of a PUBLISH and returns its subscription identifiers; None if there are more than
    `MAX_PROPERTIES`, of which the rest is not checked. Raises ProtocolError."""
    identifiers: list[int] = []
    seen: set[int] = set()
    at, end = 0, len(properties)
    count = 0
    while at < end:
        count += 1
        if count > MAX_PROPERTIES:
            return None
        kind = properties[at]
        if kind not in PUBLISH_PROPERTIES:
            raise ProtocolError(f"property 0x{kind:02x} in a PUBLISH")
        size, may_repeat = PUBLISH_PROPERTIES[kind]
        if kind in seen and not may_repeat:
            raise ProtocolError(f"property 0x{kind:02x} twice in a PUBLISH", PROTOCOL_ERROR)
        seen.add(kind)
        at += 1
        if kind == SUBSCRIPTION_IDENTIFIER:
            value, at = read_varint(properties, at, end)
            if not at or not value:
                raise ProtocolError("a subscription identifier that is 0 or cut off", PROTOCOL_ERROR)
            identifiers.append(value)
        elif kind == TOPIC_ALIAS:
            raise ProtocolError("a topic alias, though none are allowed", PROTOCOL_ERROR)
        elif size > 0:
            at += size
        else:
            for _ in range(2 if size == PAIR else 1):
                at = _skip_value(properties, at, end, is_text=size != BINARY)
        if at > end:
            raise ProtocolError("a property longer than its packet")
    return tuple(identifiers)


def read_request(properties: bytes) -> Request | None:
    """The answer that is wanted by the sender of a PUBLISH with these properties, which have been checked; None: none is."""
    if RESPONSE_TOPIC not in properties:  # as a byte of anything: most have not even that
        return None
    found: dict[int, bytes] = {}
    at, end = 0, len(properties)
    while at < end:
        kind = properties[at]
        size, start = PUBLISH_PROPERTIES[kind][0], at + 1
        if size > 0:
            at = start + size
        elif size == VARINT:
            _, at = read_varint(properties, start, end)
        else:
            at = _skip_value(properties, start, end, is_text=False)
            if size == PAIR:
                at = _skip_value(properties, at, end, is_text=False)
        found[kind] = properties[start:at]
    topic, correlation, expiry = (found.get(kind) for kind in (RESPONSE_TOPIC, CORRELATION_DATA, EXPIRY))
    if topic is None:
        return None
    return Request(
        topic[2:],
        None if correlation is None else correlation[2:],
        None if expiry is None else int.from_bytes(expiry, "big"),
    )


def reply_properties(correlation: bytes | None, expiry_s: int | None) -> bytes:
    """The properties of an answer, of no more use after `expiry_s` seconds."""
    expiry = b"" if expiry_s is None else b"%c%b" % (EXPIRY, expiry_s.to_bytes(4, "big"))
    if correlation is None:
        return expiry
    return expiry + b"%c%b%b" % (CORRELATION_DATA, len(correlation).to_bytes(2, "big"), correlation)


def _skip_value(properties: bytes, at: int, end: int, is_text: bool) -> int:
    """Steps over a value with a length of two bytes before it."""
    if at + 2 > end:
        raise ProtocolError("a property longer than its packet")
    stop = at + 2 + (properties[at] << 8) + properties[at + 1]
    if stop > end:
        raise ProtocolError("a property longer than its packet")
    if is_text:
        check_utf8(properties[at + 2 : stop])
    return stop


def check_utf8(text: bytes) -> None:
    try:
        text.decode()
    except UnicodeDecodeError:
        raise ProtocolError(f"a text that is not UTF-8: {text[:64]!r}") from None
    if b"\0" in text:
        raise ProtocolError(f"a text with NUL: {text[:64]!r}")


def user_property(name: bytes, value: bytes) -> bytes:
    """One user property of MQTT 5."""
    return b"\x26" + len(name).to_bytes(2, "big") + name + len(value).to_bytes(2, "big") + value


def varint(value: int) -> bytes:
    """As a variable byte integer."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class FrameWriter:
    """Appends PUBLISH and PUBACK to a buffer. One for each connection. `end` is that of JSON which is sent `age_us` after its
    input came: what came together is sent together."""

    __slots__ = ("_heads", "age_us", "end", "is_v5")

    def __init__(self, is_v5: bool) -> None:
        self.is_v5 = is_v5
        self.age_us, self.end = -1, b""
        self._heads: dict[bytes, bytes] = {}

    def publish(
        self,
        out: bytearray,
        topic: bytes,
        body: bytes,
        qos: int = 0,
        retain: bool = False,
        mid: int = 0,
        dup: bool = False,
        properties: bytes = b"",
        end: bytes = b"",
    ) -> None:
        """One PUBLISH; `mid` is used at QoS 1 only, `properties` under MQTT 5 only. `end` is that of the body."""
        head = self._heads.get(topic) or self._make_head(topic)
        first = 0x30 | retain
        if qos:
            first |= 0x02 | dup << 3
            head += mid.to_bytes(2, "big")
        if self.is_v5:
            head += varint(len(properties)) + properties if properties else b"\0"
        size = len(head) + len(body) + len(end)
        if 127 < size < 16384:  # what most results are
            out += b"%c%c%c%b%b%b" % (first, size & 127 | 128, size >> 7, head, body, end)
        else:
            out += bytes((first,)) + varint(size) + head + body + end

    def drop_caches(self) -> None:
        self._heads.clear()

    def _make_head(self, topic: bytes) -> bytes:
        """The topic with its length: the same for each message of a topic."""
        head = len(topic).to_bytes(2, "big") + topic
        if len(topic) <= KNOWN_BYTES:
            if len(self._heads) >= KNOWN_MAX:
                self._heads.clear()
            self._heads[topic] = head
        return head

    @staticmethod
    def pubacks(out: bytearray, mids: list[int]) -> None:
        """One PUBACK (success) for each message id, in that order."""
        out += struct.pack(f">{len(mids)}I", *[0x40020000 + mid for mid in mids])
