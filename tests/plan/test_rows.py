from __future__ import annotations

import re

import pytest

from edged.plan.records import Stream
from edged.plan.rows import plan_row
from edged.records import Field


def stream(name: str, *fields: str, dtype: str = "float32") -> Stream:
    return Stream(
        name=name,
        roots=(name,),
        fields=tuple(Field(f, i, i + 1) for i, f in enumerate(fields)),
        dtype=dtype,
        rate=1.0,
        rate_key="",
        has_own_time=False,
        on_bad="drop",
        stale_ns=None,
        key_names=(),
        max_keys=1,
        key_group=name,
        is_acknowledged=False,
        is_lossless=False,
        unheld="",
    )


ROW = plan_row([stream("hall", "t", "light"), stream("door", "t", "open", dtype="float64")])


def test_fields_lie_side_by_side() -> None:
    assert [(f.name, f.start, f.stop) for f in ROW.fields] == [
        ("hall.t", 0, 1),
        ("light", 1, 2),
        ("door.t", 2, 3),
        ("open", 3, 4),
    ]
    assert ROW.width == 4
    assert ROW.dtype == "float64"


@pytest.mark.parametrize(("name", "start"), [("light", 1), ("hall.light", 1), ("door.t", 2), ("open", 3), ("door.open", 3)])
def test_fields_are_found_by_name(name: str, start: int) -> None:
    assert ROW.find(name).start == start


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t", '"t" is in hall and in door: write hall.t'),
        ("rain", 'no field "rain"; the fields are hall.t, light, door.t, open'),
        ("lihgt", 'no field "lihgt"; the fields are hall.t, light, door.t, open; did you mean "light"?'),
    ],
)
def test_says_what_is_wrong_with_a_name(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        ROW.find(name)
