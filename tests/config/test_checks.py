"""What the checks say is in `cases/errors`; here, that they hold their tongue where nothing is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from edged.config.checks import broker, decode, model, result, source
from edged.config.schema import Decode, FieldSpec, Frame, Health, Input, MqttSource, Output, Publish, Step, When
from edged.results.heads.anomaly import thresholds


@pytest.mark.parametrize(
    ("check", "table", "raw"),
    [
        (source.frame, Frame(type="length", sync=b"\xaa", length="uint8", offset=1), {}),
        (source.frame, Frame(type="fixed", size=3, sync=b"\xaa"), {}),
        (source.length_field, Frame(type="length", length="uint16", endian="big"), {"endian": "big"}),
        (
            source.decimals,
            MqttSource(
                type="mqtt", topic=("in/{field}",), decode=Decode(format="csv", decimal=",", fields=(FieldSpec(name="v"),))
            ),
            {},
        ),
        (broker.health_nowhere, Health(broker=(), interval=5), {}),
        (decode.byte_order, Decode(format="raw"), {"endian": "big"}),
        (decode.byte_order, Decode(format="raw", dtype="uint8"), {}),
        (decode.overridden, Decode(format="csv", unit="g"), {"unit": "g"}),
        (
            decode.overridden,
            Decode(format="csv", unit="g", fields=(FieldSpec(name="a", unit="m"), FieldSpec(name="b"))),
            {"unit": "g", "fields": [{"name": "a", "unit": "m"}, "b"]},
        ),
        (decode.skipped, Decode(format="csv", fields=(FieldSpec(name="a", unit="m"),)), {"fields": {"name": "a", "unit": "m"}}),
        (decode.decode_fields, Decode(format="raw"), {}),
        (
            decode.decode_fields,
            Decode(format="csv", fields=(FieldSpec(name="_"), FieldSpec(name="_"), FieldSpec(name="a"))),
            {"fields": ["_", "_", "a"]},
        ),
        (model.normalize, Step(step="normalize", mean=(1.0,), std=(1.0, 2.0)), {}),
        (model.normalize, Step(step="normalize", min=(0.0, 1.0), max=(2.0,)), {}),
        (model.normalize, Step(step="detrend"), {}),
        (model.constant_or_fields, Input(value=3), {"value": 3}),
        (thresholds, Output(type="anomaly", above=0.8, release=0.8), {}),
        (thresholds, Output(type="anomaly", below=0.2, release=0.3), {}),
        (result.output_names, Output(type="raw", tensor=("a", "b")), {}),
        (result.conditions, When(above=0.2, below=0.8), {}),
        (result.intervals, When(min_interval=5, max_interval=5), {}),
        (result.published_fields, Publish(format="text", fields=("score",)), {}),
        (result.published_fields, Publish(format="raw"), {}),
    ],
)
def test_says_nothing_of_what_is_right(check: Any, table: Any, raw: dict[str, Any]) -> None:
    assert list(check(table, raw)) == []


def test_a_name_that_is_no_path_is_taken_as_it_is() -> None:
    table = Decode(format="json", fields=(FieldSpec(name="a..b"), FieldSpec(name="a.b"), FieldSpec(name="c", path=("d",))))
    filled = decode.fill_fields(table, {"fields": ["a..b", "a.b", {"name": "c", "path": "d"}]})
    assert [spec.path for spec in filled.fields] == [("a..b",), ("a", "b"), ("d",)]


def test_what_a_field_says_itself_stands() -> None:
    table = Decode(
        format="struct", dtype="int16", scale=0.1, fields=(FieldSpec(name="a", dtype="uint8", scale=1.0), FieldSpec(name="b"))
    )
    a, b = decode.fill_fields(table, {"fields": [{"name": "a", "dtype": "uint8", "scale": 1}, "b"]}).fields
    assert (a.dtype, a.scale, b.dtype, b.scale) == ("uint8", 1.0, "int16", 0.1)
