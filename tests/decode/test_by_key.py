"""Rows of a block that are corrected together, each by its key."""

from __future__ import annotations

import numpy as np

from edged.decode.by_key import ByKey
from edged.decode.plan import Correction, Corrections

USUAL = (np.array([2.0, 1.0]), np.array([0.0, 1.0]), np.array([-9.0, -9.0]), np.array([9.0, 9.0]))


def by_key(*parts: tuple[str, int]) -> ByKey:
    cells = (
        Correction(0, "scale", 0, 1, 10.0),
        Correction(0, "valid.high", 0, 1, 100.0),
        Correction(1, "offset", 0, 2, -1.0),
        Correction(1, "valid.low", 1, 2, 0.5),
    )
    return ByKey(Corrections(("a/x", "b/x"), cells, parts), USUAL, 1e9)


def test_each_row_by_its_key_and_the_others_as_usual() -> None:
    raw = np.array([[2, 2], [2, 2], [2, 2], [11, 1]], np.float64)
    keys = [("x",)] * 4
    origin = np.array([0, 1, 2, 0], np.int32)
    found = by_key(("capture", 0), ("field", 0)).apply(raw, keys, origin, [("a",), ("b",), ("c",)])
    assert found.values.tolist() == [[20, 3], [3, 1], [4, 3], [110, 2]]
    assert found.is_good.tolist() == [[True, True], [True, True], [True, True], [False, True]]
    assert found.low[1].tolist() == [-9, 0.5]
    assert found.high[3].tolist() == [100, 9]


def test_parts_of_a_key_in_their_order_and_rows_without_a_topic() -> None:
    raw = np.array([[1.0, 1.0]])
    assert by_key(("field", 1), ("field", 0)).apply(raw, [("x", "a")], None, None).values.tolist() == [[10, 2]]
    assert by_key(("capture", 0), ("capture", 1)).apply(raw, None, None, [("b", "x")]).values.tolist() == [[1, 0]]


def test_a_number_of_the_wire_is_within_a_range_that_ends_at_it() -> None:
    table = ByKey(
        Corrections(("k",), (Correction(0, "valid.high", 0, 1, 0.1),), (("field", 0),)),
        (np.ones(1), np.zeros(1), np.array([-9.0]), np.array([9.0])),
        1e9,
    )
    found = table.apply(np.array([[0.1], [0.11], [np.nan]], np.float32), [("k",)] * 3, None, None)
    assert found.is_good.tolist() == [[True], [False], [False]]
