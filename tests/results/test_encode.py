from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import cbor2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.records import Result
from edged.results.encode import Envelope, encode_error, envelope_fields, make_encoder, rfc3339
from edged.results.heads.anomaly import AnomalyPlan
from edged.results.heads.classify import ClassifyPlan
from edged.results.heads.raw import RawPlan
from edged.results.heads.regress import RegressPlan, ValueField

TIME = 1_769_860_800_123_456_789  # 2026-01-31T12:00:00.123456789Z
CLASSIFY = ClassifyPlan(("y",), 2, labels=("healthy", "bearing")).result_fields()
REGRESS = RegressPlan(("y",), 2, fields=(ValueField("remaining"), ValueField("wear"))).result_fields()
RAW = RawPlan(("y",)).result_fields()
BODY = {"label": "bearing", "score": 0.75, "scores": {"bearing": 0.75, "healthy": 0.25}}


def envelope(keyed: bool = False, model: str | None = "vibration@1a2b3c4d") -> Envelope:
    table = [("A", "17"), ("B", "zwei")]
    return Envelope("edged-pi4", 'mo"tor', model, "0a1b2c3d", table.__getitem__ if keyed else None)


def result(body: dict[str, Any] = BODY, key: int = 0, time: int = TIME, degraded: bool = False) -> Result:
    return Result(body, key, 42, time, 1_000_000, degraded)


def whole(given: Envelope, r: Result, now: int) -> dict[str, Any]:
    """The record as the design says it, by rote."""
    record: dict[str, Any] = {"device": given.device, "pipeline": given.pipeline}
    if given.names is not None:
        record["key"] = "/".join(given.names(r.key))
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=r.time // 1000)
    record |= {"run": given.run, "seq": r.seq, "time": moment.replace(tzinfo=None).isoformat("T", "microseconds") + "Z"}
    if given.model is not None:
        record["model"] = given.model
    record |= r.body
    if r.degraded:
        record["degraded"] = True
    if given.clock_unsynced:
        record["clock"] = "unsynced"
    return record | {"age_ms": round((now - r.arrival) / 1e6, 3)}


def closed(text: bytes, is_open: bool) -> dict[str, Any]:
    """What the link makes of an open record of age 1.5 ms."""
    record: dict[str, Any] = json.loads(text + b',"age_ms":1.5}' if is_open else text)
    return record


def test_the_whole_record_in_order() -> None:
    given = envelope(keyed=True)
    text, is_open = make_encoder(given, CLASSIFY)(result(), 2_500_000)
    assert is_open
    assert text == (
        b'{"device":"edged-pi4","pipeline":"mo\\"tor","key":"A/17","run":"0a1b2c3d","seq":42,'
        b'"time":"2026-01-31T12:00:00.123456Z","model":"vibration@1a2b3c4d",'
        b'"label":"bearing","score":0.75,"scores":{"bearing":0.75,"healthy":0.25}'
    )
    record = closed(text, is_open)
    assert record == whole(given, result(), 2_500_000)
    assert list(record) == list(whole(given, result(), 2_500_000))


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.text(max_size=6), st.floats(allow_nan=False, allow_infinity=False) | st.text(), min_size=1),
            st.integers(0, 1),
            st.integers(-(10**18), 9 * 10**18),
            st.booleans(),
            st.booleans(),
            st.sampled_from([None, "a@00000000", "b\u00e9@11111111"]),
        ),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_the_quick_way_says_what_the_slow_way_says(steps: list[Any], keyed: bool) -> None:
    given = envelope(keyed)
    encoder = make_encoder(given, CLASSIFY)
    for values, key, time, degraded, unsynced, model in steps:
        given.clock_unsynced, given.model = unsynced, model
        r = result({"values": values}, key, time, degraded)
        text, is_open = encoder(r, 2_500_000)
        record = whole(given, r, 2_500_000)
        assert text + b',"age_ms":1.5}' == msgspec.json.encode(record)
        assert is_open


def test_an_id_may_come_to_mean_another_key() -> None:
    names = [("a",)]
    given = Envelope("d", "p", None, "r", lambda key: names[key])
    encoder = make_encoder(given, CLASSIFY)
    encoder(result(), 0)
    names[0] = ("b",)
    assert closed(*encoder(result(), 0))["key"] == "b"


class TestFields:
    def test_chosen_ones_at_their_places(self) -> None:
        encoder = make_encoder(envelope(), CLASSIFY, fields=("score", "time", "scores.healthy"))
        assert encoder(result(), 0) == (b'{"score":0.75,"time":"2026-01-31T12:00:00.123456Z","scores":{"healthy":0.25}}', False)

    def test_the_age_is_left_to_be_added(self) -> None:
        encoder = make_encoder(envelope(), CLASSIFY, fields=("age_ms", "label"))
        assert encoder(result(), 0) == (b'{"label":"bearing"', True)

    def test_the_age_alone_is_whole(self) -> None:
        assert make_encoder(envelope(), CLASSIFY, fields=("age_ms",))(result(), 2_500_000) == (b'{"age_ms":1.5}', False)

    def test_what_is_absent_stays_out(self) -> None:
        encoder = make_encoder(envelope(), CLASSIFY, fields=("label", "key", "degraded", "clock", "scores.healthy"))
        assert encoder(result({"label": "a", "scores": {}}), 0)[0] == b'{"label":"a"}'
        assert closed(*encoder(result(degraded=True), 0))["degraded"] is True

    def test_an_unknown_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match='found "labl"'):
            make_encoder(envelope(), CLASSIFY, fields=("labl",))

    def test_of_the_envelope_for_conditions(self) -> None:
        fields = envelope_fields(envelope())(result(), 2_500_000)
        assert (fields["seq"], fields["age_ms"], fields["device"]) == (42, 1.5, "edged-pi4")


@pytest.mark.parametrize(("format", "decode"), [("msgpack", msgspec.msgpack.decode), ("cbor", cbor2.loads)])
@pytest.mark.parametrize("keyed", [False, True])
def test_packed_formats_hold_the_same_record(format: str, decode: Any, keyed: bool) -> None:
    given = envelope(keyed)
    given.clock_unsynced = True
    r = result(degraded=True)
    text, is_open = make_encoder(given, CLASSIFY, format)(r, 2_500_000)
    assert not is_open
    assert decode(text) == whole(given, r, 2_500_000)
    assert list(decode(text)) == list(whole(given, r, 2_500_000))
    assert decode(make_encoder(given, CLASSIFY, format, ("label",))(r, 0)[0]) == {"label": "bearing"}


def test_cbor_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cbor2", None)
    with pytest.raises(ValueError, match=r'pip install "edged\[cbor\]"'):
        make_encoder(envelope(), CLASSIFY, "cbor")


@pytest.mark.parametrize(
    ("field", "text"),
    [("label", b"bearing"), ("score", b"0.75"), ("seq", b"42"), ("time", b"2026-01-31T12:00:00.123456Z"), ("scores.x", b"null")],
)
def test_text_is_the_bare_value(field: str, text: bytes) -> None:
    known = (*CLASSIFY, *(f._replace(name="scores.x", path=("scores", "x")) for f in CLASSIFY if f.name == "scores.healthy"))
    assert make_encoder(envelope(), known, "text", (field,))(result(), 0) == (text, False)


def test_text_of_a_truth() -> None:
    fields = AnomalyPlan(("y",), above=1).result_fields()
    encoder = make_encoder(envelope(), fields, "text", ("anomaly",))
    assert [encoder(result({"score": 1, "anomaly": a}), 0)[0] for a in (True, False)] == [b"true", b"false"]


def test_text_needs_to_know_which_field() -> None:
    with pytest.raises(ValueError, match='format "text" sends one field, found 4: set fields to one of: label, score'):
        make_encoder(envelope(), CLASSIFY, "text")


class TestRaw:
    def test_elements_little_endian(self) -> None:
        encoder = make_encoder(envelope(), RAW, "raw", dtype="float32")
        text, is_open = encoder(result({"outputs": {"y": [[1.5, None], [2.5, 0.1]]}}), 0)
        assert np.frombuffer(text, "<f4").tolist() == pytest.approx([1.5, np.nan, 2.5, 0.1], nan_ok=True)
        assert not is_open

    def test_of_an_array(self) -> None:
        array = np.array([[1, 2], [3, 4]], ">i2")
        text, _ = make_encoder(envelope(), RAW, "raw")(result({"outputs": {"y": array}}), 0)
        assert text == bytes([1, 0, 2, 0, 3, 0, 4, 0])

    def test_of_named_values_in_their_order(self) -> None:
        encoder = make_encoder(envelope(), REGRESS, "raw", ("values",))
        assert encoder(result({"values": {"remaining": 1.0, "wear": 2.0}}), 0)[0] == np.array([1, 2], "<f4").tobytes()

    def test_a_tensor_has_its_own_type_beside_other_formats_as_well(self) -> None:
        known = RawPlan(("y", "label"), dtypes=("float16", "int64")).result_fields()
        body = {"outputs": {"y": [1.5, None], "label": 2**60 + 1}}
        assert make_encoder(envelope(), known, "raw", ("outputs.label",))(result(body), 0)[0] == (2**60 + 1).to_bytes(8, "little")
        y = np.frombuffer(make_encoder(envelope(), known, "raw", ("outputs.y",))(result(body), 0)[0], "<f2")
        assert y.tolist() == pytest.approx([1.5, np.nan], nan_ok=True)

    @pytest.mark.parametrize("field", ["time", "label", "scores"])
    def test_what_is_no_row_of_numbers_is_refused(self, field: str) -> None:
        with pytest.raises(ValueError, match=r'format "raw" sends the numbers of one field; "[a-z]+" .*: use "json", or set'):
            make_encoder(envelope(), CLASSIFY, "raw", (field,))

    def test_several_tensors_and_texts_of_a_model_are_refused(self) -> None:
        known = RawPlan(("y", "label"), dtypes=("float32", "string")).result_fields()
        for field in ("outputs", "outputs.label"):
            with pytest.raises(ValueError, match=r"set fields to one of: outputs\.y$"):
                make_encoder(envelope(), known, "raw", (field,))

    def test_texts_are_refused(self) -> None:
        with pytest.raises(ValueError, match="is for numbers"):
            make_encoder(envelope(), RAW, "raw", dtype="str")


@settings(max_examples=50)
@given(st.integers(-(2**62), 2**63 - 1))
def test_times(time: int) -> None:
    moment = datetime.strptime(rfc3339(time), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1) == time // 1000


def test_an_error_in_the_place_of_a_result() -> None:
    assert msgspec.json.decode(encode_error("busy", 'a "reason"')) == {"error": {"code": "busy", "message": 'a "reason"'}}
