"""Runs: a set of numbers that says the same as Python's."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edged.spool.runs import MAX, Runs

spans = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda s: (s[0], s[0] + s[1]))


@given(st.lists(spans, max_size=30), st.integers(0, 70), spans)
def test_like_a_set(some: list[tuple[int, int]], n: int, span: tuple[int, int]) -> None:
    runs, model = Runs(), set[int]()
    for start, stop in some:
        assert runs.add(start, stop) == len(set(range(start, stop)) - model)
        model |= set(range(start, stop))
    assert (n in runs) == (n in model)
    assert runs.next_missing(n) == next(i for i in range(n, 200) if i not in model)
    assert runs.covers(*span) == (set(range(*span)) <= model)
    listed = list(runs)
    assert {i for start, stop in listed for i in range(start, stop)} == model
    assert all(a[1] < b[0] for a, b in pairwise(listed))
    assert list(Runs(listed)) == listed


def test_forgets_below_and_beyond() -> None:
    runs = Runs([(0, 5), (8, 9), (20, 30)])
    runs.forget_below(9)
    assert list(runs) == [(20, 30)]
    many = Runs((2 * i, 2 * i + 1) for i in range(MAX + 10))
    many.forget_below(0)
    assert len(many.starts) == MAX
    assert 0 in many
