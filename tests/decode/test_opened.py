"""Bytes in a member, as digits, compressed: what comes out is right, bounded, and refused by name."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import sys
import tracemalloc
import zlib
from typing import Any

import pytest

from edged.decode import make_payload_decoder
from edged.decode.opened import missing_package, opener
from edged.decode.values import BadPayload
from edged.notation.field_paths import Step
from tests.support.decode_plans import field, plan, refused
from tests.support.pictures import jpeg, pixels

LIMIT = 1000


def refusal(encoding: str | None, compress: str | None, data: bytes) -> str:
    with pytest.raises(BadPayload) as bad:
        opener(encoding, compress, LIMIT)(data)
    return bad.value.reason


def zstd(data: bytes, **keys: Any) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd as library

        return bytes(library.compress(data))
    library = pytest.importorskip("zstandard")
    return bytes(library.ZstdCompressor(**keys).compress(data))


@pytest.mark.parametrize(
    ("encoding", "text", "data"),
    [
        ("hex", b"01 0aFF\n", b"\x01\x0a\xff"),
        ("hex", b"0x0102", b"\x01\x02"),
        ("hex", b"01:0a-FF", b"\x01\x0a\xff"),
        ("hex", b"0x01, 0x0A", b"\x01\x0a"),
        ("hex", b"\\x01\\x0A", b"\x01\x0a"),
        ("hex", b"\xef\xbb\xbf0102\0", b"\x01\x02"),
        ("base64", b"\xef\xbb\xbfAQID\0", b"\x01\x02\x03"),
        ("base64", b"AQID", b"\x01\x02\x03"),
        ("base64", b" AQ\r\nI= ", b"\x01\x02"),
        ("base64", b"_-8", b"\xff\xef"),
        ("base64", b"data:image/jpeg;base64,AQID", b"\x01\x02\x03"),
        ("base64", b"", b""),
    ],
)
def test_digits(encoding: str, text: bytes, data: bytes) -> None:
    assert opener(encoding, None, LIMIT)(text) == data


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("hex", b"012"), ("hex", b"0g"), ("hex", b"0x1,0x2"), ("base64", b"A"), ("base64", b"A*ID"), ("base64", b"\xff")],
)
def test_what_is_no_digit(encoding: str, text: bytes) -> None:
    assert refusal(encoding, None, text) == "malformed"


@pytest.mark.parametrize(("compress", "pack"), [("gzip", gzip.compress), ("zlib", zlib.compress), ("zstd", zstd)])
def test_compression(compress: str, pack: Any) -> None:
    if missing := missing_package(compress):
        pytest.skip(missing)
    data = bytes(range(256)) * 3
    packed = pack(data)
    opened = opener(None, compress, LIMIT)
    assert opened(packed) == data
    assert opener("base64", compress, LIMIT)(base64.b64encode(packed)) == data
    assert refusal(None, compress, packed[:-6]) == "short"
    assert refusal(None, compress, b"hello") == "malformed"
    assert refusal(None, compress, pack(b"x" * (LIMIT + 1))) == "too_large"
    assert opened(pack(b"x" * LIMIT)) == b"x" * LIMIT


@pytest.mark.parametrize(("compress", "pack"), [("gzip", gzip.compress), ("zlib", zlib.compress), ("zstd", zstd)])
def test_a_bomb_costs_no_memory(compress: str, pack: Any) -> None:
    bomb = pack(bytes(64 << 20))
    tracemalloc.start()
    try:
        assert refusal(None, compress, bomb) == "too_large"
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("compress", "data", "words"),
    [
        ("zlib", gzip.compress(b"{}", mtime=0), 'expected zlib data, found gzip data: write compress = "gzip"'),
        ("gzip", zlib.compress(b"{}"), 'found zlib data: write compress = "zlib"'),
        ("gzip", b'{"t":1}', "expected gzip data, found JSON"),
        ("zlib", b"\x78\x9c\xff\xff", "zlib data that are damaged"),
    ],
)
def test_what_is_packed_in_another_way_says_so(compress: str, data: bytes, words: str) -> None:
    with pytest.raises(BadPayload) as bad:
        opener(None, compress, LIMIT)(data)
    assert words in bad.value.detail


def test_gzip_of_several_members() -> None:
    assert opener(None, "gzip", LIMIT)(gzip.compress(b"a") + gzip.compress(b"b")) == b"ab"


def test_a_bomb_is_refused_and_counted_beside_good_ones() -> None:
    decoder = make_payload_decoder(plan("json", "x", compress="zlib", max_bytes=1000))
    rows = decoder.decode(
        [zlib.compress(b'{"x":1}'), zlib.compress(b" " * 5000), b"no", zlib.compress(b'{"x":2}'), zlib.compress(b"{}")]
    )
    assert rows.values.tolist() == [[1], [2]]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 3]
    assert refused(rows.rejects) == {"too_large": 1, "malformed": 1, "other": 1}
    assert {reject.reason: reject.payload for reject in rows.rejects} == {"too_large": 1, "malformed": 2, "other": 4}


def test_bytes_in_a_member_and_what_stands_around_them() -> None:
    fields = field("a", dtype="int16"), field("rssi", path=("radio", "rssi")), field("b", dtype="uint8")
    planned = plan(
        "struct",
        *fields,
        payload=("data",),
        encoding="hex",
        time=("at", "rfc3339"),
        key_fields=("dev",),
        carry=("id",),
        endian="big",
        rows=(Step.SELF,),
    )
    assert [f.name for f in planned.value_fields] == ["a", "rssi", "b"]

    def message(data: Any, **more: Any) -> bytes:
        return json.dumps(
            {"data": data, "radio": {"rssi": "-70"}, "at": "2024-01-01T00:00:00Z", "dev": "d1", "id": 7} | more
        ).encode()

    good = struct.pack(">hB", -5, 9).hex()
    sent = [
        message(good + good),
        message("zz"),
        message(None),
        message(good, radio={}),
        message(good, at="?"),
        message(5),
        message(good, dev="d2"),
    ]
    rows = make_payload_decoder(planned).decode(sent)
    assert rows.values.tolist() == [[-5, -70, 9], [-5, -70, 9], [-5, -70, 9]]
    assert rows.keys == [("d1",), ("d1",), ("d2",)]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 0, 6]
    assert rows.time is not None
    assert rows.time.tolist() == [1_704_067_200 * 10**9] * 3
    assert rows.carried is not None
    assert rows.carried[6] == b'{"id":7}'
    assert refused(rows.rejects) == {"malformed": 3, "other": 2}
    assert "data: expected hex digits in pairs, found 'zz' (2 characters)" in [reject.detail for reject in rows.rejects]


def test_a_picture_in_a_member_has_its_time_and_key() -> None:
    picture = base64.b64encode(jpeg(pixels(16, 8))).decode()
    planned = plan("image", "image", payload=("jpeg",), encoding="base64", time=("ts", "unix_ms"), key_fields=("cam",))
    sent = [
        {"jpeg": f"data:image/jpeg;base64,{picture}", "ts": 1_636_000_000_000, "cam": "yard"},
        {"jpeg": "AAAA", "ts": 1, "cam": "x"},
    ]
    rows = make_payload_decoder(planned).decode([json.dumps(one).encode() for one in sent])
    assert len(rows.values) == 1
    assert rows.keys == [("yard",)]
    assert rows.time is not None
    assert rows.time.tolist() == [1_636_000_000 * 10**9]
    assert rows.carried is not None
    assert rows.carried[0] == b'{"width":16,"height":8}'
    assert refused(rows.rejects) == {"malformed": 1}


def test_what_a_pattern_says_around_a_payload() -> None:
    planned = plan(
        "json",
        field("t"),
        field("rssi", path=(Step.ROOT, "rssi")),
        pattern=r"^(?P<dev>\w+) (?P<rssi>-?\d+)dB (?P<at>\d+) (?P<body>\{.*\})",
        payload=("body",),
        key_fields=("dev",),
        time=("at", "unix_s"),
    )
    sent = [b'a -70dB 5 {"t": 1}', b'{"t": 2}', b"b -71dB 6 {}", b'b -72dB 7 {"t": "x"}', b'b -73dB 8 {"t": 3}']
    rows = make_payload_decoder(planned).decode(sent)
    assert rows.values.tolist() == [[1, -70], [3, -73]]
    assert rows.keys == [("a",), ("b",)]
    assert rows.time is not None
    assert rows.time.tolist() == [5 * 10**9, 8 * 10**9]
    assert {r.payload: r.reason for r in rows.rejects} == {1: "other", 2: "other", 3: "not_a_number"}
