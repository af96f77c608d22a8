"""One track alone; what becomes of whole joins is in test_aligner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edged.pipeline.align import AlignSource
from edged.pipeline.align.track import Found, Track

METHODS = {"previous": [1.0, 1.0, 2.0], "nearest": [1.0, 2.0, 2.0], "linear": [1.25, 1.75, 2.0]}
"""What is found at 2, 6 and 8 where 1 came at 0 and 2 at 8."""


def track(method: str = "previous", on_bad: str = "drop", history: int = 4) -> Track:
    return Track(AlignSource("t", 1, 10, on_bad, False, history), slice(0, 1), 1, np.float64, method)


def add(to: Track, *samples: tuple[int, float]) -> None:
    to.append(0, np.array([[v] for _, v in samples]), np.array([t for t, _ in samples], np.int64), None)


def ask(of: Track, *times: int) -> tuple[list[float], Found]:
    out = np.zeros((len(times), 1))
    found = of.fill(out, 0, np.array(times, np.int64))
    return out[:, 0].tolist(), found


def marked(mask: Any) -> list[bool]:
    return [] if mask is None else mask.tolist()


@pytest.mark.parametrize(("method", "values"), METHODS.items())
def test_the_value_at_a_time(method: str, values: list[float]) -> None:
    subject = track(method)
    add(subject, (0, 1.0), (8, 2.0))
    found, _ = ask(subject, 2, 6, 8)
    assert found == values


def test_what_is_too_old_is_stale_and_what_is_before_the_first_is_missing() -> None:
    subject = track()
    add(subject, (5, 1.0))
    _, found = ask(subject, 4, 15, 16)
    assert marked(found.is_missing) == [True, False, False]
    assert marked(found.is_stale) == [False, False, True]
    assert (subject.lag.fresh, subject.lag.stale) == (1, 2)


def test_a_stale_value_is_held_or_passed_as_nan_and_marks_the_row() -> None:
    for on_bad, value in (("hold", 1.0), ("pass", np.nan)):
        subject = track(on_bad=on_bad)
        add(subject, (0, 1.0))
        values, found = ask(subject, 100)
        np.testing.assert_equal(values, [value])
        assert marked(found.is_degraded) == [True]
        assert found.is_stale is None


def test_the_newest_samples_are_kept() -> None:
    subject = track("nearest", history=2)
    before = subject.nbytes
    for time in range(20):
        add(subject, (time, float(time)))
    assert ask(subject, 18, 19)[0] == [18.0, 19.0]
    assert subject.nbytes == before


def test_a_clock_that_was_set_moves_all_and_a_cleared_key_knows_nothing() -> None:
    subject = track()
    add(subject, (0, 1.0))
    subject.move(1000)
    assert ask(subject, 1001)[0] == [1.0]
    subject.clear(0)
    assert not subject.known().any()
