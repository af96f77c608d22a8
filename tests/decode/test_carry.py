from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest

from edged.decode.carry import MAX_BYTES, make_carry
from edged.decode.formats import FORMATS
from edged.decode.payload import make_payload_decoder
from edged.decode.plan import DecodePlan, FieldPlan

CASES = [
    ({"id": "a1", "v": [1, 2]}, {"id": "a1"}),
    ({"id": 12345678901234567890, "meta": {"seq": 1.5}}, {"id": 12345678901234567890, "meta.seq": 1.5}),
    ({"id": None, "meta": {"seq": True}}, {"id": None, "meta.seq": True}),
    ({"id": {"deep": 1}, "meta": {"seq": 7}}, {"meta.seq": 7}),
    ({"meta": 3}, None),
    ([1, 2], None),
]


def tree(format: str) -> Any:
    """msgspec's decoder of a format, or one like it."""
    found = FORMATS[format].tree
    assert found is not None
    return found.get()


@pytest.mark.parametrize("format", ["json", "msgpack"])
@pytest.mark.parametrize(("message", "carried"), CASES)
def test_scalars_are_carried_as_they_are(format: str, message: object, carried: object) -> None:
    encode = msgspec.json.encode if format == "json" else msgspec.msgpack.encode
    found = make_carry(tree(format), ("id", "meta.seq"))(encode(message))
    assert (None if found is None else msgspec.json.decode(found)) == carried


def test_a_path_within_another() -> None:
    carry = make_carry(tree("json"), ("a", "a.b"))
    assert carry(b'{"a":{"b":1}}') == b'{"a.b":1}'
    assert carry(b'{"a":2}') == b'{"a":2}'


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"[" * 2000, b'{"id":}'])
def test_what_is_no_message_carries_nothing(payload: bytes) -> None:
    assert make_carry(tree("json"), ("id",))(payload) is None


def test_too_much_is_refused_by_itself() -> None:
    payloads = [b'{"id":"%s","v":%d}' % (b"x" * size, i) for i, size in enumerate((1, MAX_BYTES, 2))]
    plan = DecodePlan("json", (FieldPlan("v", ("v",), start=0, stop=1),), 1, np.dtype(np.float32), carry=("id",))
    rows = make_payload_decoder(plan).decode([*payloads, b"bad"])
    assert rows.values[:, 0].tolist() == [0, 2]
    assert rows.payload is not None
    assert rows.carried is not None
    assert [rows.carried[p] for p in rows.payload] == [b'{"id":"x"}', b'{"id":"xx"}']
    assert [(r.reason, r.payload) for r in rows.rejects] == [("carry_too_large", 1), ("malformed", 3)]


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63), 2**64, -(2**63) - 1, 10**40])
def test_every_integer_that_is_carried_can_be_said_in_msgpack(number: int) -> None:
    carried = make_carry(tree("json"), ("id",))(b'{"id":%d}' % number)
    assert carried is not None
    said = msgspec.msgpack.decode(msgspec.msgpack.encode(msgspec.json.decode(carried)))
    assert said == {"id": number if -(2**63) <= number < 2**64 else str(number)}


def test_what_is_too_large_is_not_read() -> None:
    plan = DecodePlan("json", (FieldPlan("v", ("v",), start=0, stop=1),), 1, np.dtype(np.float32), carry=("id",))
    payload = b'{"v":1,"id":[],"x":[' + b"{}," * 100_000 + b"0]}"
    decoder = make_payload_decoder(plan)
    tracemalloc.start()
    rows = decoder.decode([payload, b'{"v":2,"id":"a"}'])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(r.reason, r.payload) for r in rows.rejects] == [("too_large", 0)]
    assert rows.values.tolist() == [[2]]
    assert peak < len(payload)
