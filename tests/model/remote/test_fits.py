from __future__ import annotations

from typing import Any

import pytest

from edged.model.remote.fits import misfit

SCHEMA = {
    "type": "object",
    "required": ["label", "boxes"],
    "additionalProperties": False,
    "properties": {
        "label": {"type": "string", "enum": ["cat", "dog"]},
        "boxes": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}},
        "sure": {"type": ["boolean", "null"]},
    },
}
GOOD = {"label": "cat", "boxes": [0, 0.5], "sure": None}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (GOOD, ""),
        (["cat"], "the answer: expected object, found list"),
        ({"label": "cat"}, "the answer: boxes is missing"),
        (GOOD | {"label": "cow"}, "label: expected one of ['cat', 'dog']"),
        (GOOD | {"boxes": [0, 2]}, "boxes[1]: expected 0 to 1, found 2"),
        (GOOD | {"boxes": [True]}, "boxes[0]: expected number, found bool"),
        (GOOD | {"sure": 1}, "sure: expected boolean or null, found int"),
        (GOOD | {"more": 1}, "the answer: more is not in the schema"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(value: Any, said: str) -> None:
    assert misfit(value, SCHEMA) == said
