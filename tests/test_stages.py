from __future__ import annotations

from pathlib import Path

import pytest

from edged.stages import MOST, SLOW_NS, Stages


class Hands:
    def __init__(self) -> None:
        self.time = 10**12

    def __call__(self) -> int:
        return self.time


def test_the_next_start_knows_where_it_ended(tmp_path: Path) -> None:
    stages = Stages(Hands())
    assert stages.keep_in(tmp_path / "state" / "stage") == []
    seen: list[list[str]] = []

    def inner() -> None:
        seen.append(Stages(Hands()).keep_in(tmp_path / "copy"))

    def outer() -> None:
        (tmp_path / "copy").write_bytes((tmp_path / "state" / "stage").read_bytes())
        stages.wrap("pipeline.q", lambda: (tmp_path / "inner").write_bytes((tmp_path / "state" / "stage").read_bytes()))()
        inner()

    with stages.on_worker("model.m"):
        stages.wrap("broker.main", outer)()
    assert seen == [["broker.main", "model.m"]]
    assert Stages(Hands()).keep_in(tmp_path / "inner") == ["pipeline.q", "model.m"]
    assert Stages(Hands()).keep_in(tmp_path / "state" / "stage") == []


def test_an_end_in_good_order_leaves_nothing(tmp_path: Path) -> None:
    stages = Stages(Hands())
    stages.keep_in(tmp_path / "stage")
    stages.wrap("a", stages.close)()
    assert Stages(Hands()).keep_in(tmp_path / "stage") == []


def test_who_holds_the_loop_is_named_once() -> None:
    now, told = Hands(), list[tuple[str, int]]()
    stages = Stages(now, lambda name, ns: told.append((name, ns)))

    def take(ns: int) -> None:
        now.time += ns

    stages.wrap("quick", take)(SLOW_NS)
    assert not told
    inner = stages.wrap("inner", take)
    stages.wrap("outer", lambda: (take(10**6), inner(SLOW_NS + 1), take(10**6)))()
    assert told == [("inner", SLOW_NS + 1)]
    with pytest.raises(ZeroDivisionError):
        stages.wrap("broken", lambda: (take(SLOW_NS + 1), 1 / 0))()
    assert told[1:] == [("broken", SLOW_NS + 1)]


def test_a_file_that_is_none_of_ours(tmp_path: Path) -> None:
    for data in (b"", b"\xff" * 100, b"\x01" + bytes(63) + b"\x05\0\0\0[1,2", b"x" * 100_000):
        (tmp_path / "stage").write_bytes(data)
        assert Stages(Hands()).keep_in(tmp_path / "stage") == []


def test_more_stages_than_numbers() -> None:
    stages = Stages(Hands())
    for i in range(2 * MOST):
        assert stages.wrap(f"stage-{i}" * 10, lambda: i)() == i  # noqa: B023
