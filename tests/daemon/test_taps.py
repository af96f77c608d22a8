from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from edged.daemon.taps import MAX_BYTES, shown_bytes, shown_numbers


@pytest.mark.parametrize(
    ("row", "shape", "shown"),
    [
        (np.array([1.5], np.float32), (), 1.5),
        (np.array([np.nan], np.float32), (), None),
        (np.array([1, 2], np.int64), (2,), [1, 2]),
        (np.array(["a", "b"], object), (2,), ["a", "b"]),
        (
            np.arange(100, dtype=np.float32),
            (10, 10),
            {"shape": [10, 10], "first": [0, 1, 2, 3, 4, 5, 6, 7], "min": 0.0, "mean": 49.5, "max": 99.0},
        ),
    ],
)
def test_numbers_of_one_row(row: Any, shape: tuple[int, ...], shown: Any) -> None:
    assert shown_numbers(row, shape) == shown


def test_of_many_what_is_not_finite_is_counted() -> None:
    row = np.ones(100)
    row[:3] = np.nan
    shown = shown_numbers(row, (100,))
    assert (shown["mean"], shown["not_finite"], shown["first"][:4]) == (1.0, 3, [None, None, None, 1.0])


def test_bytes_are_cut() -> None:
    shown = shown_bytes(b"x" * 5000)
    assert shown["bytes"] == 5000
    assert base64.b64decode(shown["data"]) == b"x" * MAX_BYTES
