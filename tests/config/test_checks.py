"""What the checks say is in `cases/errors`; here, that they hold their tongue where nothing is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from edged.config import checks
from edged.config.schema import Decode, FieldSpec, Frame, Health, Input, Output, Publish, Step, When
from edged.results.heads.anomaly import thresholds


@pytest.mark.parametrize(
    ("check", "table", "raw"),
    [
        (checks.frame, Frame(type="length", sync=b"\xaa", length="uint8", offset=1), {}),
        (checks.frame, Frame(type="fixed", size=3, sync=b"\xaa"), {}),
        (checks.length_field, Frame(type="length", length="uint16", endian="big"), {"endian": "big"}),
        (checks.health_nowhere, Health(broker=(), interval=5), {}),
        (checks.byte_order, Decode(format="raw"), {"endian": "big"}),
        (checks.byte_order, Decode(format="raw", dtype="uint8"), {}),
        (checks.overridden, Decode(format="csv", unit="g"), {"unit": "g"}),
        (
            checks.overridden,
            Decode(format="csv", unit="g", fields=(FieldSpec(name="a", unit="m"), FieldSpec(name="b"))),
            {"unit": "g", "fields": [{"name": "a", "unit": "m"}, "b"]},
        ),
        (checks.skipped, Decode(format="csv", fields=(FieldSpec(name="a", unit="m"),)), {"fields": {"name": "a", "unit": "m"}}),
        (checks.decode_fields, Decode(format="raw"), {}),
        (
            checks.decode_fields,
            Decode(format="csv", fields=(FieldSpec(name="_"), FieldSpec(name="_"), FieldSpec(name="a"))),
            {"fields": ["_", "_", "a"]},
        ),
        (checks.normalize, Step(step="normalize", mean=(1.0,), std=(1.0, 2.0)), {}),
        (checks.normalize, Step(step="normalize", min=(0.0, 1.0), max=(2.0,)), {}),
        (checks.normalize, Step(step="detrend"), {}),
        (checks.constant_or_fields, Input(value=3), {"value": 3}),
        (thresholds, Output(type="anomaly", above=0.8, release=0.8), {}),
        (thresholds, Output(type="anomaly", below=0.2, release=0.3), {}),
        (checks.output_names, Output(type="raw", tensor=("a", "b")), {}),
        (checks.conditions, When(above=0.2, below=0.8), {}),
        (checks.intervals, When(min_interval=5, max_interval=5), {}),
        (checks.published_fields, Publish(format="text", fields=("score",)), {}),
        (checks.published_fields, Publish(format="raw"), {}),
    ],
)
def test_says_nothing_of_what_is_right(check: Any, table: Any, raw: dict[str, Any]) -> None:
    assert list(check(table, raw)) == []


def test_a_name_that_is_no_path_is_taken_as_it_is() -> None:
    decode = Decode(format="json", fields=(FieldSpec(name="a..b"), FieldSpec(name="a.b"), FieldSpec(name="c", path=("d",))))
    filled = checks.fill_fields(decode, {"fields": ["a..b", "a.b", {"name": "c", "path": "d"}]})
    assert [spec.path for spec in filled.fields] == [("a..b",), ("a", "b"), ("d",)]


def test_what_a_field_says_itself_stands() -> None:
    decode = Decode(
        format="struct", dtype="int16", scale=0.1, fields=(FieldSpec(name="a", dtype="uint8", scale=1.0), FieldSpec(name="b"))
    )
    a, b = checks.fill_fields(decode, {"fields": [{"name": "a", "dtype": "uint8", "scale": 1}, "b"]}).fields
    assert (a.dtype, a.scale, b.dtype, b.scale) == ("uint8", 1.0, "int16", 0.1)
