"""The examples of RFC 8428, and what a reader must refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edged.decode import Arrived, make_payload_decoder
from edged.decode.senml import records
from edged.decode.values import BadPayload
from tests.support.decode_plans import plan, refused

NOW = 1_700_000_000 * 10**9
MULTIPLE = [
    {"bn": "urn:dev:ow:10e2073a01080063:", "bt": 1.320067464e09, "bu": "%RH", "v": 20},
    {"u": "lon", "v": 24.30621},
    {"u": "lat", "v": 60.07965},
    {"t": 60, "v": 20.3},
]


def test_records_are_resolved() -> None:
    found = records(json.dumps(MULTIPLE).encode())
    assert [(one["v"], one["u"], one["t"]) for one in found] == [
        (20, "%RH", 1.320067464e09),
        (24.30621, "lon", 1.320067464e09),
        (60.07965, "lat", 1.320067464e09),
        (20.3, "%RH", 1.320067524e09),
    ]


def test_a_mark_before_the_pack_and_a_nul_behind_it_are_nothing() -> None:
    pack = json.dumps(MULTIPLE).encode()
    assert records(b"\xef\xbb\xbf" + pack + b"\0") == records(b"\n" + pack) == records(pack)


def test_base_values_hold_until_they_change() -> None:
    pack = [{"bn": "a/", "bv": 10, "n": "x", "v": 1}, {"n": "x"}, {"bn": "b/", "bv": 0, "n": "y", "v": 2}, {"n": "z", "vb": True}]
    assert [(one["bn"], one["v"]) for one in records(json.dumps(pack).encode())] == [
        ("a/", 11),
        ("a/", 10),
        ("b/", 2),
        ("b/", True),
    ]


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        ({"n": "x", "v": 1}, "malformed"),
        ([1], "malformed"),
        ([{"bver": 11, "n": "x", "v": 1}], "unsupported"),
        ([{"n": "x", "v": 1, "unit_": "m"}], "unsupported"),
        ([{"bt": "x", "n": "x", "v": 1}], "not_a_number"),
    ],
)
def test_what_is_refused(pack: Any, reason: str) -> None:
    with pytest.raises(BadPayload) as bad:
        records(json.dumps(pack).encode())
    assert bad.value.reason == reason


def test_times_are_relative_to_now_unless_they_are_large() -> None:
    decoder = make_payload_decoder(plan("senml", "t", "h"))
    pack = [{"n": "t", "v": 1, "t": -5}, {"n": "h", "v": 2, "t": -5}, {"n": "t", "v": 3}, {"n": "h", "v": 9, "t": -10}]
    rows = decoder.decode([json.dumps(pack).encode()], None, Arrived((), 0, NOW))
    assert rows.values.tolist() == [[1, 2], [3, 2]]
    assert rows.time is not None
    assert rows.time.tolist() == [NOW - 5 * 10**9, NOW]
    assert refused(rows.rejects) == {"incomplete": 1}, "the one before came alone"


def test_in_cbor_labels_are_numbers() -> None:
    cbor2 = pytest.importorskip("cbor2")
    pack = [{-2: "urn:", -3: 1_276_020_076, 0: "t", 2: 21.5}, {0: "h", 2: 40}]
    rows = make_payload_decoder(plan("senml", "t", "h")).decode([cbor2.dumps(pack)])
    assert rows.values.tolist() == [[21.5, 40]]
