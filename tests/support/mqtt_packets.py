"""Packets of every type that a server may send, and their mutations."""

from __future__ import annotations

import random

from tests.support.mqtt_peer import connack, packet, publish, text

PROPERTIES = b"".join(
    [
        b"\x01\x01",
        b"\x02\x00\x00\x00\x3c",
        b"\x03" + text(b"application/json"),
        b"\x08" + text(b"reply/to"),
        b"\x09" + text(b"\x00\xff\x01"),
        b"\x0b\xac\x02",
        b"\x0b\x05",
        b"\x26" + text(b"k") + text(b"v"),
    ]
)


def every_packet(is_v5: bool) -> list[bytes]:
    if not is_v5:
        return [
            connack(False),
            publish(b"a/b", b"body", is_v5=False),
            publish(b"a/b", b"body" * 50, 1, 9, is_v5=False),
            *(packet(head, b"\x00\x07") for head in (0x40, 0x50, 0x62, 0x70)),
            packet(0x90, b"\x00\x01\x01"),
            packet(0xB0, b"\x00\x01"),
            packet(0xD0, b""),
        ]
    return [
        connack(True, properties=b"\x21\x00\x05\x22\x00\x0a\x12" + text(b"you") + b"\x1f" + text(b"why")),
        publish(b"a/b", b"body"),
        publish(b"a/b", b"body" * 50, 1, 9, properties=PROPERTIES),
        *(packet(head, b"\x00\x07") for head in (0x40, 0x50, 0x62, 0x70)),
        *(packet(head, b"\x00\x07\x87") for head in (0x40, 0x50, 0x62, 0x70)),
        packet(0x40, b"\x00\x07\x87\x05\x1f" + text(b"no")),
        packet(0x90, b"\x00\x01\x00\x01"),
        packet(0x90, b"\x00\x01\x05\x1f" + text(b"no") + b"\x87"),
        packet(0xB0, b"\x00\x01\x00\x00"),
        packet(0xD0, b""),
        packet(0xE0, b""),
        packet(0xE0, b"\x8b\x05\x1f" + text(b"no")),
        packet(0xF0, b"\x18\x0a\x15" + text(b"m") + b"\x16" + text(b"xy")),
    ]


def mutated(rng: random.Random, is_v5: bool) -> bytes:
    """One packet with one to three faults: flipped, dropped, inserted, cut or repeated bytes, a wrong length, another type."""
    data = bytearray(rng.choice(every_packet(is_v5)))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data)) if data else 0
        fault = rng.randrange(7)
        if fault == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif fault == 1:
            del data[at : at + 1]
        elif fault == 2:
            data.insert(at, rng.randrange(256))
        elif fault == 3:
            del data[at:]
        elif fault == 4:
            data += data[at:]
        elif fault == 5 and len(data) > 1:
            data[1] = rng.randrange(256)
        elif fault == 6 and data:
            data[0] = rng.randrange(256)
    return bytes(data)
