from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from edged.decode import make_payload_decoder
from tests.support.decode_plans import plan, reasons

cbor2 = pytest.importorskip("cbor2")


@pytest.mark.parametrize(
    ("value", "number"), [(1, 1), (2.5, 2.5), (True, 1), ("3", 3), (Decimal("0.5"), 0.5), (2**70, float(2**70))]
)
def test_numbers(value: Any, number: float) -> None:
    rows = make_payload_decoder(plan("cbor", "x")).decode([cbor2.dumps({"x": value, "y": [b"bytes", {"z": None}]})])
    assert rows.values.tolist() == [[pytest.approx(number)]]


def nested(depth: int) -> bytes:
    return b"\xa1\x61x" * depth + b"\x01"


def laughs(times: int) -> bytes:
    """An array of two arrays that are one, each of which is again."""
    shared = b"\xd8\x1c\x82\x01\x01"  # shared 0
    for i in range(times):
        shared = b"\xd8\x1c\x82" + shared + b"\xd8\x1d\x18" + bytes([times - i])
    return b"\xa1\x61x" + shared


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xa1",
        b"\xff",
        b"\x9b\x00\x00\x7f\xff\xff\xff\xff\xff",
        b"\x5b\x00\x00\x7f\xff\xff\xff\xff\xff",
        nested(2000),
        nested(100_000),
        b"\xd8\x1c\x81\xd8\x1d\x00",
        laughs(40),
        b"\xa1\x61x\xc4\x82\x1a\x7f\xff\xff\xff\x01",
        b"\xa1\x61x\xc5\x82\x1a\x7f\xff\xff\xff\x01",
        b"\xa1\x61x\xd8\x23\x66(a+)+$",
    ],
    ids=lambda payload: payload[:12].hex(),
)
def test_bytes_that_are_made_to_hurt_are_refused(payload: bytes) -> None:
    good = cbor2.dumps({"x": 1})
    rows = make_payload_decoder(plan("cbor", "x", max_bytes=1 << 20)).decode([good, payload, good])
    assert rows.values.tolist() == [[1], [1]]
    assert len(reasons(rows.rejects)) == 1
