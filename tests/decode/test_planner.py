import pytest

from edged.config import schema
from edged.decode import DecodePlan, plan_decode
from edged.errors import Problem
from tests.support.decode_plans import field, plan


def test_columns_of_values_and_of_what_is_none() -> None:
    planned = plan("csv", "t", "ax", "_", field("x", shape=(2, 3)), "who", "az", time=("t", "elapsed_ms"), key_fields=("who",))
    places = [(one.name, one.start, one.stop) for one in planned.fields]
    assert places == [("t", -1, -1), ("ax", 0, 1), ("_", -1, -1), ("x", 1, 7), ("who", -1, -1), ("az", 7, 8)]
    assert planned.width == 8


def test_a_tree_finds_times_and_keys_that_no_field_declares() -> None:
    planned = plan("json", "ax", time=("meta.ts", "unix_ms"), key_fields=("who",))
    assert planned.field("meta.ts").path == ("meta", "ts")
    assert planned.field("who").path == ("who",)
    assert planned.width == 1


@pytest.mark.parametrize(
    ("decode", "path", "text"),
    [
        (
            schema.Decode(format="csv", fields=(field("t"),), time=schema.Time(field="t", format="unix_s")),
            "decode.fields",
            "no field",
        ),
        (schema.Decode(format="struct", fields=(field("a"),)), "decode.fields[0]", "dtype"),
        (schema.Decode(format="raw", fields=(field("a", dtype="int8"), field("b", dtype="int16"))), "decode.fields", "struct"),
        (schema.Decode(format="csv", header=True, fields=(field("a", shape=(2,)),)), "decode.fields[0].shape", "single columns"),
        (schema.Decode(format="csv", separator="1", fields=(field("a"),)), "decode.separator", "no number has"),
        (schema.Decode(format="csv", separator=";;", fields=(field("a"),)), "decode.separator", "one character"),
    ],
)
def test_what_only_shows_together(decode: schema.Decode, path: str, text: str) -> None:
    problems = plan_decode(decode)
    assert not isinstance(problems, DecodePlan)
    assert [problem.path for problem in problems] == [path]
    assert all(isinstance(problem, Problem) and text in problem.text for problem in problems)
