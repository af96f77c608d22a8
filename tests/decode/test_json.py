import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.decode import make_payload_decoder
from tests.support.decode_plans import field, plan, reasons

INVALID = [
    # numbers
    *(b"01 -01 1. .5 5.e1 - -- --1 +1 ++1 1e 1e+ 1e- 1eE2 1.0e 0x10 0b1 1_000 1,5 -.5 2.e+3 -2. 0.3e 1+2 0e 1e1.5 -x 1a".split()),
    *(b"nAn infinite xNaN NaN1 undefined None True False TRUE tru nul nulll".split()),
    "１".encode(),  # a full-width digit
    # strings
    b'"', b'"a', b'"\\"', b'"\\x00"', b'"\\u12"', b'"\\u 123"', b'"\\ud800"', b'"\\udc00"', b'"\\ud800\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\ud800\\u0041"', b'"\\a"', b'"\\"a', b'"a\nb"', b'"a\tb"', b'"a\x00b"', b'"a\x1fb"', b"'a'", b"`a`", b"a",
    # UTF-8
    b'"\xff"', b'"\xc0\x80"', b'"\xe2\x82"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\x80"', b'"\xc3"', b"\xff",
    # structure
    b"[1,]", b"[,1]", b"[1,,2]", b"[1 2]", b"[1", b"]", b"[1}", b"[", b"{", b"}", b'{"a"}', b'{"a":}', b'{"a" 1}',
    b'{"a":1,}', b'{,"a":1}',
    b'{a:1}', b"{1:1}", b'{"a":1 "b":2}', b'{"a":1', b'{"a":1]', b'{"a"::1}', b"1 2", b"1,", b":1",
    b"", b"/*c*/1", b"1//c", b"#", b"\x0c1", b"\xa01",
    b"*", b"<null>", b"@", b"\\u0031", b"\x00",
]  # fmt: skip
WHOLE = [
    b"", b" ", b"\n", b"\xef\xbb\xbf", b'{"x":1}{', b'{"x":1}}', b'{"x":1},',
    b'{"x":1} 1', b'{"x":1}//',
    b'{"x":1', b'"x":1', b"{", b"[", b"[1", b'{"x":1,"\xff":2}', b'{"\\ud800":1,"x":1}',
    '{"x":1}'.encode("utf-16"), '{"x":1}'.encode("utf-32-le"),
    b"[" * 100_000, b'{"x":' * 20_000, b"[" * 70 + b"]" * 70, b'{"x":1,"y":' + b"[" * 64 + b"]" * 64 + b"}",
    b'{"x":1,"y":"' + b'\\"' * 30_000 + b"[" * 100,
    b'{"x":1,"y":' + b'{"a":' * 65 + b"1" + b"}" * 66, b"{" * 100_000, b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
]  # fmt: skip


def refusal(payload: bytes, *fields: Any, **keys: Any) -> str:
    """The reason why it was refused, between two good ones that were not."""
    good = b'{"x":1}'
    rows = make_payload_decoder(plan("json", *(fields or ("x",)), max_bytes=10**6, **keys)).decode([good, payload, good])
    assert len(rows.rejects) == 1, rows.values
    assert rows.values.tolist() == [[1], [1]]
    assert rows.rejects[0].payload == 1
    assert rows.rejects[0].data == payload[:4096]
    assert rows.rejects[0].detail
    return rows.rejects[0].reason


@pytest.mark.parametrize("text", INVALID, ids=ascii)
def test_invalid_json_is_refused_wherever_it_stands(text: bytes) -> None:
    members = [b'{"x":%b}', b'{"x":1,"y":%b}', b'{"x":1,"y":[%b]}', b'{"y":{"z":%b},"x":1}', b'{"x":null,"y":%b}']
    for member in members:
        if member == b'{"x":1,"y":[%b]}' and text in (b"", b"1,5"):
            continue  # that is valid
        assert refusal(member % text) in ("malformed", "not_utf8")


@pytest.mark.parametrize("payload", WHOLE, ids=lambda payload: ascii(payload[:20]))
def test_broken_payloads(payload: bytes) -> None:
    assert refusal(payload) in ("malformed", "not_utf8", "too_deep")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"[" * 70 + b"]" * 70, "too_deep"),
        (b'{"x":1,"y":' + b'{"a":' * 64 + b"1" + b"}" * 65, "too_deep"),
        (b'{"x":1e999}', "not_finite"),
        (b'{"x":-1e999}', "not_finite"),
        (b'{"x":1e39}', "not_finite"),
        (b'{"x":' + b"9" * 5000 + b"}", "not_finite"),
        (b'{"x":null}', "missing"),
        (b"null", "missing"),
        (b'{"y":1}', "other"),
        (b"{}", "other"),
        (b'{"x":"1_0"}', "not_a_number"),
        (b'"x"', "not_a_number"),
        (b'{"x":{}}', "not_a_number"),
        (b'{"x":[]}', "missing"),
        (b'{"x":[[1]]}', "malformed"),
        (b'{"x":["b"]}', "not_a_number"),
        (b'{"x":"\xc3\x28"}', "not_utf8"),
    ],
    ids=lambda value: ascii(value[:20]),
)
def test_reasons(payload: bytes, reason: str) -> None:
    assert refusal(payload) == reason if payload != b'{"x":[[1]]}' else refusal(payload) in ("malformed", "not_a_number")


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        (b'{"x":1}', 1),
        (b' \t\r\n{ "x" : -1.5e1 }\n', -15),
        (b'{"x":0.' + b"3" * 5000 + b"}", np.float32(1 / 3)),
        (b'{"x":1e-999}', 0),
        (b'{"x":true}', 1),
        (b'{"x":" -1.5e1 "}', -15),
        (b'"2.5"', 2.5),
        (b"2.5", 2.5),
        (b'\xef\xbb\xbf{"x":1}\x00\x00', 1),
        (b'{"y": NaN, "z": "NaN", "x": 3, "w": [-Infinity, nan]}', 3),
        (b'{"x":false}', 0),
        (b'{"x":1,"x":2}', 2),
        (b'{"\\u0078":5}', 5),
        (b'{"x":1,"y":"\\ud83d\\ude00 \xf0\x9f\x98\x80"}', 1),
        (b'{"x":1,"y":' + b"[" * 63 + b"]" * 63 + b"}", 1),
        (b'{"x":1,"y":"' + b"[" * 1000 + b'"}', 1),
        (b'{"x":1,"y":[' + b"[]," * 1000 + b"[]]}", 1),
        (b'{"x":1,"y":' + b"9" * 5000 + b"}", 1),
        (b'{"x":1,"y":1e999}', 1),
    ],
    ids=lambda value: ascii(value[:30]) if isinstance(value, bytes) else None,
)
def test_valid(payload: bytes, number: float) -> None:
    rows = make_payload_decoder(plan("json", "x")).decode([payload])
    assert rows.values.tolist() == [[number]], rows.rejects


def test_paths() -> None:
    planned = plan(
        "json", field("p", path=("pressure", "in")), field("v", path=("rows", 0, "v")), field("w", path=("rows", 1, "v"))
    )
    decoder = make_payload_decoder(planned)
    rows = decoder.decode([b'{"pressure":{"in":1,"out":9},"rows":[{"v":2},{"v":3}]}', b'{"pressure":5,"rows":[{"v":2}]}', b"[]"])
    assert rows.values.tolist() == [[1, 2, 3]]
    assert reasons(rows.rejects) == ["other", "missing"]
    same = plan(
        "json", field("a", path=("x",)), field("b", path=("x",), scale=2), field("c", path=("y", "z")), field("d", path=("y",))
    )
    assert make_payload_decoder(same).decode([b'{"x":1,"y":{"z":3}}']).rejects[0].reason == "not_a_number"
    digits = plan("json", field("a", path=(0,)), field("b", path=("x", 1)))
    assert make_payload_decoder(digits).decode([b'{"0":7,"x":[1,2]}']).values.tolist() == [[7, 2]]


def test_texts() -> None:
    planned = plan("json", field("gear", values={"P": 0, "R": -1, "D": 1}), "rpm")
    rows = make_payload_decoder(planned).decode(
        [b'{"gear":"R","rpm":1}', b'{"gear":"X","rpm":1}', b'{"gear":3,"rpm":1}', b'{"gear":true,"rpm":1}']
    )
    assert rows.values.tolist() == [[-1, 1], [3, 1], [1, 1]]
    assert [(reject.reason, reject.payload) for reject in rows.rejects] == [("not_a_number", 1)]


def test_tensors() -> None:
    planned = plan("json", field("x", shape=(2, 2)), "y")
    payloads = [
        b'{"x":[[1,2],[3,4]],"y":5}',
        b'{"x":[[1,2],[3]],"y":5}',
        b'{"x":[[1,2],[3,4,5]],"y":5}',
        b'{"x":[1,2,3,4],"y":5}',
    ]
    rows = make_payload_decoder(planned).decode(payloads)
    assert rows.values.tolist() == [[1, 2, 3, 4, 5]]
    assert reasons(rows.rejects) == ["short", "long", "long"]
    vector = make_payload_decoder(plan("json", field("x", shape=(3,))))
    rows = vector.decode(
        [b'{"x":[1,2,3]}', b'{"x":[1,2]}', b'{"x":[1,2,3,4]}', b'{"x":[1,null,3]}', b'{"x":1}', b'{"x":[[4,5,6],[7,8,9]]}']
    )
    assert rows.values.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 5, 5]
    assert reasons(rows.rejects) == ["short", "long", "malformed", "missing"]


def test_arrays_of_one_length_are_samples() -> None:
    planned = plan("json", "ax", "ay", time=("t", "unix_ms"), key_fields=("k",))
    decoder = make_payload_decoder(planned)
    rows = decoder.decode(
        [
            b'{"ax":[1,2,3],"ay":[4,5,6],"t":[1,2,3],"k":"a"}',
            b'{"ax":[7,8],"ay":[9,null],"t":4,"k":7}',
            b'{"ax":1,"ay":2,"t":5,"k":"b"}',
        ]
    )
    assert rows.values.tolist() == [[1, 4], [2, 5], [3, 6], [7, 9], [1, 2]]
    assert rows.time is not None
    assert rows.time.tolist() == [n * 1_000_000 for n in (1, 2, 3, 4, 5)]
    assert rows.keys == [("a",), ("a",), ("a",), ("7",), ("b",)]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 0, 0, 1, 2]
    assert reasons(rows.rejects) == ["missing"]
    bad = [
        b'{"ax":[1,2],"ay":[1],"t":1,"k":1}',
        b'{"ax":[1,2],"ay":1,"t":1,"k":1}',
        b'{"ax":[1,2],"ay":[1,2],"t":[1],"k":1}',
        b'{"ax":[1,2],"ay":[1,2],"t":[1,2,3],"k":1}',
    ]
    rows = decoder.decode(bad)
    assert reasons(rows.rejects) == ["malformed", "malformed", "malformed"]
    assert len(rows.values) == 2


def test_times_keep_the_digits_of_the_text() -> None:
    planned = plan("json", "x", time=("meta.ts", "unix_s"))
    payloads = [b'{"x":%b,"meta":{"ts":1795214931.123456789}}' % x for x in (b"1", b"true", b"[1]", b"[1,2]")]
    rows = make_payload_decoder(planned).decode(payloads)
    assert rows.time is not None
    assert rows.time.tolist() == [1795214931123456789] * 5


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"x":1}', "missing"),
        (b'{"x":1,"t":null}', "missing"),
        (b'{"x":1,"t":true}', "not_a_number"),
        (b'{"x":1,"t":{}}', "not_a_number"),
        (b'{"x":1,"t":"soon"}', "not_a_number"),
        (b'{"x":1,"t":1795214931000000}', "future"),
        (b'{"x":1,"t":1e400}', "not_a_number"),
    ],
)
def test_bad_times(payload: bytes, reason: str) -> None:
    rows = make_payload_decoder(plan("json", "x", time=("t", "unix_s"))).decode([payload])
    assert len(rows.values) == 0
    assert rows.time is not None
    assert reasons(rows.rejects) in ([reason], ["out_of_range"])


def test_rfc3339() -> None:
    decoder = make_payload_decoder(plan("json", "x", time=("t", "rfc3339")))
    rows = decoder.decode(
        [b'{"x":1,"t":"1970-01-01T00:00:01.000000001Z"}', b'{"x":1,"t":5}', b'{"x":1,"t":"\\u0031970-01-01T00:00:02Z"}']
    )
    assert rows.time is not None
    assert rows.time.tolist() == [1_000_000_001, 2_000_000_000]
    assert len(rows.rejects) == 1


@pytest.mark.parametrize(
    "text",
    [*("a/b", "+", "#", "a\0", "", "x" * 65, "/", "$SYS/#"), *("a\x01b", "\n", "\x7f", "\x9f", "\ufdd0", "\uffff", "\U0001fffe")],
)
def test_keys_that_could_change_a_topic(text: str) -> None:
    rows = make_payload_decoder(plan("json", "x", key_fields=("k",))).decode([msgspec.json.encode({"x": 1, "k": text})])
    assert reasons(rows.rejects) == ["bad_key"]


def test_keys_have_one_text_on_both_ways() -> None:
    texts = [b'"pump 7"', b"7", b"7.0", b"7.50", b"1e3", b"true", '"ключ🔑"'.encode()]
    decoder = make_payload_decoder(plan("json", "x", key_fields=("k",), on_bad="pass"))
    quick = decoder.decode([b'{"x":1,"k":%b}' % text for text in texts])
    careful = decoder.decode([b'{"x":null,"k":%b}' % text for text in texts])
    assert quick.keys == careful.keys == [("pump 7",), ("7",), ("7.0",), ("7.5",), ("1000.0",), ("true",), ("ключ🔑",)]
    for bad in (b"null", b"[1]", b"{}", b"1" * 5000):
        assert reasons(decoder.decode([b'{"x":1,"k":%b}' % bad]).rejects)[0] in ("bad_key", "not_finite")
    assert reasons(decoder.decode([b'{"x":1}']).rejects) == ["bad_key"]


TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), st.binary(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("xyzw"), inner, max_size=3)),
    max_leaves=10,
)


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_any_tree_gives_finite_rows_or_rejects(format: str) -> None:
    planned = plan(format, "x", field("y", path=("y", "z")), field("w", shape=(2,)), on_bad="hold")
    decoder = make_payload_decoder(planned)
    encode = msgspec.json.encode if format == "json" else msgspec.msgpack.encode

    @given(TREES)
    def check(tree: Any) -> None:
        try:
            payload = encode(tree)
        except (OverflowError, msgspec.MsgspecError):
            return
        rows = decoder.decode([payload])
        assert np.isfinite(rows.values).all()
        assert len(rows.values) or rows.rejects

    check()


@given(st.binary(max_size=200))
def test_any_bytes(payload: bytes) -> None:
    for format in ("json", "msgpack"):
        rows = make_payload_decoder(plan(format, "x")).decode([payload])
        assert np.isfinite(rows.values).all()
        assert len(rows.values) or rows.rejects


@given(
    st.dictionaries(
        st.sampled_from(["x", "y", "u"]),
        st.one_of(st.none(), st.booleans(), st.floats(-1e30, 1e30), st.integers(-99, 99), st.text("abc", max_size=3)),
        max_size=3,
    )
)
def test_quick_and_careful_way_agree(tree: dict[str, Any]) -> None:
    payload = msgspec.json.encode(tree)
    wanted = [tree.get("x"), tree.get("y")]
    is_good = all(isinstance(number, bool | float | int) for number in wanted)
    rows = make_payload_decoder(plan("json", "x", "y", dtype=np.float64)).decode([payload])
    assert rows.values.tolist() == ([wanted] if is_good else [])


def test_msgpack() -> None:
    planned = plan("msgpack", "x", field("v", shape=(2,)), time=("t", "unix_s"), key_fields=("k",))
    good = {"x": 1, "v": [2.5, True], "t": 1795214931.5, "k": "a", "unwanted": {"deep": [b"\xff", None]}}
    payloads = [
        msgspec.msgpack.encode(good),
        msgspec.msgpack.encode({**good, "x": math.nan}),
        msgspec.msgpack.encode({**good, "x": None}),
        msgspec.msgpack.encode({**good, "v": [1]}),
        msgspec.msgpack.encode(good)[:-1],
        msgspec.msgpack.encode(good) + b"\0",
        b"\x91" * 100_000,
        b"",
        b"\xc1",
        msgspec.msgpack.encode({**good, "t": None}),
        msgspec.msgpack.encode({**good, "k": b"a"}),
        msgspec.msgpack.encode([good]),
    ]
    rows = make_payload_decoder(
        plan("msgpack", "x", field("v", shape=(2,)), time=("t", "unix_s"), key_fields=("k",), max_bytes=10**6)
    ).decode(payloads)
    assert rows.values.tolist() == [[1, 2.5, 1]]
    assert rows.time is not None
    assert rows.time.tolist() == [1795214931_500_000_000]
    assert rows.keys == [("a",)]
    assert sorted(reject.payload for reject in rows.rejects) == list(range(1, len(payloads)))
    found = {reject.payload: reject.reason for reject in rows.rejects}
    assert [found[i] for i in (1, 2, 3, 6, 9, 10)] == ["not_finite", "missing", "short", "too_deep", "missing", "bad_key"]
    assert planned.width == 3
