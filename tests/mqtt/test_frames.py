"""The parser and the writer of PUBLISH and PUBACK: any chopping gives the same, and nothing malformed passes."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import product

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.mqtt.frames import (
    MAX_PROPERTIES,
    MAX_PROPERTIES_BYTES,
    PROTOCOL_ERROR,
    TOO_LARGE,
    UNREAD,
    FrameParser,
    FrameWriter,
    ProtocolError,
    read_subscription_identifiers,
    reply_properties,
    user_property,
)
from edged.mqtt.receipts import Ledger
from edged.mqtt.session import Session
from edged.mqtt.settings import LinkCounts
from edged.records import NONE
from tests.support.mqtt_packets import PROPERTIES, every_packet, mutated
from tests.support.mqtt_peer import connack, packet, publish, settings, suback

MAX_PACKET = 1 << 20


@dataclass
class Heard:
    """Everything that came out, in order, without where the reads were cut."""

    publishes: list[tuple[object, ...]] = field(default_factory=list)
    acks: list[tuple[int, int]] = field(default_factory=list)
    control: list[bytes] = field(default_factory=list)
    error: str = ""


def hear(reads: list[bytes], is_v5: bool, max_packet: int = MAX_PACKET) -> Heard:
    parser = FrameParser(is_v5, max_packet, Ledger())
    heard = Heard()
    for data in reads:
        batches = parser.feed(data)
        while parser.is_behind:
            batches += parser.feed(b"")
        for batch in batches:
            heard.publishes += [(*p[:5], p[5].mid, p[6], p[5].is_again) for p in batch.publishes]
            heard.acks += batch.acks
            heard.control += [batch.control] if batch.control else []
    heard.error = parser.error.reason if parser.error else ""
    return heard


topics = st.text(st.characters(codec="utf-8", exclude_characters="\0+#"), min_size=1, max_size=200).map(str.encode)
bodies = st.one_of(st.binary(max_size=300), st.integers(16_000, 17_000).map(bytes))


@st.composite
def packets(draw: st.DrawFn, is_v5: bool) -> bytes:
    kind = draw(st.sampled_from(["publish", "publish", "puback", "control"]))
    if kind == "publish":
        qos = draw(st.sampled_from([0, 1]))
        properties = draw(st.sampled_from([b"", b"\x0b\x05", PROPERTIES])) if is_v5 else b""
        flags = draw(st.booleans()) | (draw(st.booleans()) << 3 if qos else 0)
        return publish(draw(topics), draw(bodies), qos, draw(st.integers(1, 65535)), is_v5, properties, flags)
    if kind == "puback":
        return packet(
            0x40, draw(st.integers(1, 65535)).to_bytes(2, "big") + (draw(st.sampled_from([b"", b"\x87"])) if is_v5 else b"")
        )
    return draw(st.sampled_from([suback(b"\0\1", 1, is_v5), packet(0xD0, b"")]))


@pytest.mark.parametrize("is_v5", [True, False])
@hypothesis.settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_chopped_is_as_whole(is_v5: bool, data: st.DataObject) -> None:
    sent = data.draw(st.lists(packets(is_v5), max_size=8))
    stream = b"".join(sent)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    reads = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = hear([stream], is_v5)
    assert hear(reads, is_v5) == whole
    assert whole.error == ""
    assert len(whole.publishes) + len(whole.acks) + len(whole.control) == len(sent)


@pytest.mark.parametrize("is_v5", [True, False])
@hypothesis.settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_packet_is_read_as_if_it_stood_alone(is_v5: bool, data: st.DataObject) -> None:
    """Though it has its topic, its length and its flags in common with the ones before it, or nearly all of them."""
    kinds = [packet(0x40, b"\x00\x07"), packet(0xD0, b""), packet(0x40, b"\x01\x07")]
    for topic, body, (qos, flags), mid in product((b"a", b"b"), (b"", b"\0\0\0"), ((0, 0), (1, 0), (1, 8), (1, 1)), (1, 513)):
        kinds += [publish(topic, body, qos, mid, is_v5, some, flags) for some in ((b"", b"\x0b\x05") if is_v5 else (b"",))]
    sent = data.draw(st.lists(st.sampled_from(kinds), max_size=20))
    alone = Heard()
    for one in sent:
        heard = hear([one], is_v5)
        alone.publishes += heard.publishes
        alone.acks += heard.acks
        alone.control += heard.control
    assert hear([b"".join(sent)], is_v5) == alone


@pytest.mark.parametrize("is_v5", [True, False])
def test_a_bad_message_id_is_found_behind_a_good_one(is_v5: bool) -> None:
    heard = hear([publish(b"a", b"x", 1, 7, is_v5) + publish(b"a", b"x", 1, 0, is_v5)], is_v5)
    assert (len(heard.publishes), heard.error) == (1, "message id 0")


@pytest.mark.parametrize("is_v5", [True, False])
def test_byte_at_a_time_is_as_whole(is_v5: bool) -> None:
    good = [p for p in every_packet(is_v5) if p[0] not in (0x50, 0x62, 0x70)]
    stream = b"".join(good)
    assert hear([bytes([b]) for b in stream], is_v5) == hear([stream], is_v5)
    assert hear([stream], is_v5).error == ""


@given(topic=topics, body=bodies, qos=st.sampled_from([0, 1]), retain=st.booleans(), dup=st.booleans(), mid=st.integers(1, 65535))
@pytest.mark.parametrize("is_v5", [True, False])
def test_what_is_written_is_read(is_v5: bool, topic: bytes, body: bytes, qos: int, retain: bool, dup: bool, mid: int) -> None:
    writer, out = FrameWriter(is_v5), bytearray()
    for _ in range(2):  # the second time the topic is known
        writer.publish(out, topic, body, qos, retain, mid, dup)
    message = (topic, body, qos, retain, (), mid if qos else 0, b"", bool(qos and dup))
    assert hear([bytes(out)], is_v5).publishes == [message, message]
    assert bytes(out) == publish(topic, body, qos, mid, is_v5, flags=retain | (dup << 3 if qos else 0)) * 2


@pytest.mark.parametrize("size", [0, 1, 124, 125, 300, 1024])
@pytest.mark.parametrize("qos", [0, 1])
def test_the_properties_of_an_answer_come_with_it(size: int, qos: int) -> None:
    out = bytearray()
    properties = reply_properties(bytes(size), None)
    for version in (True, False):
        FrameWriter(version).publish(out, b"a/b", b"body", qos, mid=7, properties=properties)
        (read,) = hear([bytes(out)], version).publishes
        assert (read[1], read[6]) == (b"body", properties if version else b"")
        out.clear()


def test_pubacks() -> None:
    out = bytearray()
    FrameWriter.pubacks(out, [1, 513, 65535])
    assert out == b"\x40\x02\x00\x01\x40\x02\x02\x01\x40\x02\xff\xff"
    assert hear([bytes(out)], False).acks == [(1, 0), (513, 0), (65535, 0)]


def test_qos_1_enters_the_ledger_in_order() -> None:
    ledger = Ledger()
    batches = FrameParser(True, MAX_PACKET, ledger).feed(b"".join(publish(b"a", b"", m % 2, m) for m in range(1, 8)))
    assert [r.mid for r in ledger.unacked] == [1, 3, 5, 7]
    assert [p[5] for p in batches[0].publishes][1::2] == [NONE] * 3
    assert all(r.owed == 1 for r in ledger.unacked)


def test_equal_topics_are_one_object() -> None:
    batches = FrameParser(True, MAX_PACKET, Ledger()).feed(publish(b"a/b", b"1") + publish(b"a/b", b"2"))
    one, two = batches[0].publishes
    assert one[0] is two[0]


def test_control_packets_split_batches() -> None:
    """What came before a DISCONNECT is handed over before it."""
    batches = FrameParser(True, MAX_PACKET, Ledger()).feed(publish(b"a", b"1") + packet(0xE0, b"") + publish(b"a", b"2"))
    assert [(len(b.publishes), b.control) for b in batches] == [(1, b"\xe0\x00"), (1, b"")]


def test_properties() -> None:
    heard = hear([publish(b"a", b"x", properties=PROPERTIES)], True)
    assert heard.publishes == [(b"a", b"x", 0, False, (300, 5), 0, PROPERTIES, False)]


SMALL = user_property(b"", b"")


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (MAX_PROPERTIES * SMALL, MAX_PROPERTIES * SMALL),
        ((MAX_PROPERTIES + 1) * SMALL, UNREAD),
        (SMALL + user_property(b"", bytes(MAX_PROPERTIES_BYTES - 10).replace(b"\0", b"x")), None),
        (SMALL + user_property(b"", bytes(MAX_PROPERTIES_BYTES - 9).replace(b"\0", b"x")), UNREAD),
        (200_000 * SMALL, UNREAD),
    ],
    ids=["64", "65", "16 KiB", "more than 16 KiB", "1 MB"],
)
@pytest.mark.parametrize("qos", [0, 1])
def test_more_properties_than_are_read(properties: bytes, expected: bytes | None, qos: int) -> None:
    """The message comes out whole but for them, and so do those around it; what follows the 64th is not looked at."""
    data = publish(b"a", b"before") + publish(b"a", b"x", qos, 9, True, properties) + publish(b"a", b"after")
    heard = hear([data], True)
    assert [p[:3] for p in heard.publishes] == [(b"a", b"before", 0), (b"a", b"x", qos), (b"a", b"after", 0)]
    assert heard.publishes[1][6] == (properties if expected is None else expected)


def test_one_call_checks_so_many_properties_and_no_more() -> None:
    """Many packets, each within the bounds, leave turns to others as well; each different one is checked once."""
    packets = [publish(b"a", b"%d" % i, properties=user_property(b"%02x" % i, b"") * 64) for i in range(200)]
    parser = FrameParser(True, MAX_PACKET, Ledger())
    calls = [sum(len(batch.publishes) for batch in parser.feed(b"".join(packets)))]
    while parser.is_behind:
        calls.append(sum(len(batch.publishes) for batch in parser.feed(b"")))
    assert sum(calls) == 200
    assert max(calls) == 19  # 14 units of room each, of 256


@pytest.mark.parametrize(
    "properties",
    [
        b"\x01",
        b"\x02\x00\x00",
        b"\x03\x00\x05abc",
        b"\x03\x00\x01\xff",
        b"\x03\x00\x01\x00",
        b"\x08\x00",
        b"\x09\x00\x02a",
        b"\x0b",
        b"\x0b\x00",
        b"\x0b\xff\xff\xff\xff\x01",
        b"\x0b\x80\x00",
        b"\x23\x00\x01",
        b"\x26\x00\x01a",
        b"\x26\x00\x01a\x00\x01\xff",
        b"\x11\x00\x00\x00\x01",
        b"\x7f",
        b"\x01\x00\x01\x00",
    ],
)
def test_bad_properties(properties: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_subscription_identifiers(properties)


@pytest.mark.parametrize(
    ("data", "is_v5", "reason"),
    [
        (publish(b"", b""), True, "empty topic"),
        (publish(b"", b"", is_v5=False), False, "empty topic"),
        (publish(b"", b"", properties=b"\x23\x00\x01"), True, "empty topic"),
        (publish(b"a\0b", b""), True, "NUL"),
        (publish(b"a/+", b""), True, "wildcard"),
        (publish(b"\xc3", b""), True, "not UTF-8"),
        (publish(b"\xed\xa0\x80", b""), True, "not UTF-8"),
        (publish(b"a", b"", 1, 0), True, "message id 0"),
        (publish(b"a", b"", 2, 1), True, "0x34"),
        (publish(b"a", b"", 3, 1), True, "0x36"),
        (publish(b"a", b"", flags=8), True, "0x38"),
        (b"\x30\x01\x00", False, "without a topic"),
        (b"\x30\x03\x00\x05a", False, "longer than its packet"),
        (b"\x32\x03\x00\x01a", False, "without a message id"),
        (b"\x30\x03\x00\x01a", True, "properties longer"),
        (b"\x30\x04\x00\x01a\x02", True, "properties longer"),
        (b"\x30\x05\x00\x01a\x80\x80", True, "properties longer"),
        (b"\x30\x80\x00", True, "more bytes than it needs"),
        (b"\x30\xff\xff\xff\xff\x01", True, "more than four bytes"),
        (b"\x40\x01\x00", True, "a PUBACK of 1 bytes"),
        (b"\x40\x03\x00\x01\x00", False, "a PUBACK of 3 bytes"),
        (b"\x40\x02\x00\x00", True, "message id 0"),
        (b"\x40\x05\x00\x01\x00\x05\x00", True, "do not fill"),
        (b"\x42\x02\x00\x01", True, "0x42"),
        (b"\x21\x03\x00\x00\x00", True, "0x21"),
        (b"\x10\x00", True, "0x10"),
        (b"\x50\x02\x00\x01", True, "0x50"),
        (b"\xc0\x00", True, "0xc0"),
        (b"\xe0\x00", False, "0xe0"),
        (b"\x00\x00", True, "0x00"),
        (b"\x90\xff\xff\x7f", True, "a SUBACK of"),
        (b"\x90\x81\x10", True, "a SUBACK of 2049 bytes"),
    ],
)
def test_malformed(data: bytes, is_v5: bool, reason: str) -> None:
    """What came before is kept, what comes after is not looked at."""
    good = publish(b"a", b"x", is_v5=is_v5)
    for reads in ([good + data + good * 3], [good, *(bytes([b]) for b in data), good * 3]):
        heard = hear(reads, is_v5, 1 << 28)
        assert reason in heard.error
        assert len(heard.publishes) == 1


@pytest.mark.parametrize("is_v5", [True, False])
def test_too_large_is_refused_from_its_length_field(is_v5: bool) -> None:
    parser = FrameParser(is_v5, 1000, Ledger())
    assert parser.feed(b"\x30\xe9\x07")[0].publishes == []  # 1001 bytes, of which 3 are here
    assert parser.error
    assert parser.error.code == TOO_LARGE
    limit = publish(b"a", bytes(1000 - 6 - is_v5), is_v5=is_v5)
    assert len(limit) == 1000
    assert len(hear([limit], is_v5, 1000).publishes) == 1


def test_one_call_gives_a_bounded_number_of_acknowledgements_and_others() -> None:
    """All come in the end, in order, with nothing more to read; large ones count for more."""
    acks, pings, large = b"".join(b"\x40\x02" + i.to_bytes(2, "big") for i in range(1, 1001)), b"\xd0\0" * 1000, bytes(1000)
    parser = FrameParser(True, MAX_PACKET, Ledger())
    calls = [parser.feed(acks + pings + b"\xb0\xe8\x07" + large + b"\xb0\xe8\x07" + large + b"\xb0\xe8\x07" + large + b"\xd0")]
    while parser.is_behind:
        calls.append(parser.feed(b""))
    counts = [sum(len(batch.acks) + bool(batch.control) for batch in call) for call in calls]
    assert counts == [256] * 7 + [209, 2]
    assert [mid for call in calls for batch in call for mid, _ in batch.acks] == list(range(1, 1001))
    assert parser.feed(b"\0")[0].control == b"\xd0\0"  # half of it waited for the rest


def test_codes_tell_malformed_from_forbidden() -> None:
    parser = FrameParser(True, MAX_PACKET, Ledger())
    parser.feed(publish(b"a", b"", 1, 0))
    assert parser.error
    assert parser.error.code == PROTOCOL_ERROR


def test_remembers_a_bounded_number_of_topics() -> None:
    parser = FrameParser(True, MAX_PACKET, Ledger())
    for i in range(10_000):
        parser.feed(publish(b"t%d" % i, b"", properties=b"\x02" + i.to_bytes(4, "big")))
    assert len(parser._known_topics) <= 4096
    assert len(parser._known_properties) <= 4096


@pytest.mark.parametrize("is_v5", [True, False])
def test_mutated_packets_raise_nothing(is_v5: bool) -> None:
    """3,000 of them, through the parser and through paho, which gets every control packet that passes."""
    rng = random.Random(38)
    refused = 0
    for _ in range(3000):
        out = bytearray()
        session = Session(settings(1, version="5" if is_v5 else "3.1.1"), LinkCounts(), out)
        session.connect()
        session.feed(connack(is_v5))
        parser = FrameParser(is_v5, MAX_PACKET, Ledger())
        for control in [batch.control for batch in parser.feed(mutated(rng, is_v5))]:
            if control:
                session.feed(control)
        refused += parser.error is not None
    assert refused > 1000
