from __future__ import annotations

import numpy as np
import pytest

from edged.model.trial.arithmetic import Timing, agree, batching, probe_rows, split_buckets


@pytest.mark.parametrize(
    ("batch_max", "fixed", "buckets"),
    [
        (1, 0, [1]),
        (5, 0, [1, 2, 3, 4, 5]),
        (8, 0, [1, 2, 3, 4, 5, 6, 7, 8]),
        (9, 0, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (16, 0, [1, 2, 3, 4, 5, 6, 7, 8, 16]),
        (40, 0, [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 40]),
        (2, 4, [4]),
    ],
)
def test_buckets(batch_max: int, fixed: int, buckets: list[int]) -> None:
    assert split_buckets(batch_max, fixed) == buckets


def test_rows_are_of_the_type_and_always_the_same() -> None:
    shapes, types = {"a": (-1, 3), "b": (2,), "c": (-1,)}, {"a": "float16", "b": "int64", "c": "bool"}
    rows = probe_rows(shapes, types, 4, 1)
    assert {n: (x.shape, x.dtype.name) for n, x in rows.items()} == {
        "a": ((4, 3), "float16"),
        "b": ((1, 2), "int64"),
        "c": ((4,), "bool"),
    }
    assert all(np.array_equal(x, probe_rows(shapes, types, 4, 1)[n]) for n, x in rows.items())
    assert not any(x.any() for x in probe_rows(shapes, types, 4, 0).values())


@pytest.mark.parametrize(
    ("alone_us", "together_us", "pays"),
    [
        (5, 6, True),
        (5, 80, True),  # the session saves nothing, but there is one run instead of 16
        (1000, 16_000, False),
        (1000, 8_000, True),
        (1000, 15_500, False),  # so little is not worth it that the first row waits for the last
        (100, 4_000, False),
    ],
)
def test_whether_rows_together_are_worth_it(alone_us: int, together_us: int, pays: bool) -> None:
    alone, together = (Timing(us * 1000, us * 1000) for us in (alone_us, together_us))
    assert batching(alone, together, 16) == (
        pays,
        f"a row takes {together_us / 16:.1f} us in a run of 16, {alone_us:.1f} us alone",
    )


def test_agreement() -> None:
    one = np.array([1.0, np.nan, np.inf, 1e-9], np.float32)
    assert agree(one, one)
    assert agree(one, one + np.float32(1e-5))
    assert not agree(one, one * np.float32(1.1))
    assert not agree(one, one[:2])
    assert agree(np.array([1, 2]), np.array([1, 2], np.int8))
    assert not agree(np.array([1, 2]), np.array([1, 3]))
    assert agree(np.array([1.0], np.float16), np.array([1.01], np.float16))
    assert agree(np.array(["a"], object), np.array(["a"]))
    assert not agree(np.array(["a"], object), np.array(["b"]))
    assert agree(np.array([1.0]), np.array([1.2]), rtol=0, atol=0.3)
