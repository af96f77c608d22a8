from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edged.stamp import UNFIT, KeyTable


class TestKeyTable:
    def test_gives_each_key_a_small_id(self) -> None:
        table = KeyTable(3, None)
        assert [table.id((n,), 0) for n in "abab"] == [0, 1, 0, 1]
        assert table.names(1) == ("b",)
        assert len(table) == 2

    def test_refuses_a_new_key_while_none_is_stale(self) -> None:
        table = KeyTable(2, 10)
        assert [table.id(("a",), 0), table.id(("b",), 5), table.id(("c",), 9)] == [0, 1, None]
        assert table.recycled == []

    def test_what_cannot_stand_in_a_topic_is_no_key_and_takes_no_place(self) -> None:
        table = KeyTable(1, None)
        assert [table.id(names, 0) for names in (("a\x01",), ("a", "\x9f"), ("\ufdd0",))] == [UNFIT] * 3
        assert len(table) == 0
        assert table.id(("a",), 0) == 0

    def test_the_key_silent_longest_gives_way(self) -> None:
        table = KeyTable(2, 10)
        for name, now in (("a", 0), ("b", 5), ("a", 8)):
            table.id((name,), now)
        assert table.id(("c",), 14) is None
        assert table.id(("c",), 15) == 1
        assert table.names(1) == ("c",)
        assert table.recycled == [1]
        assert table.id(("b",), 17) is None

    def test_without_a_stale_time_no_key_gives_way(self) -> None:
        table = KeyTable(1, None)
        table.id(("a",), 0)
        assert table.id(("b",), 10**18) is None

    @settings(max_examples=60)
    @given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), max_size=80))
    def test_like_a_plain_table(self, steps: list[tuple[int, int]]) -> None:
        table, seen, now = KeyTable(3, 10), dict[Any, Any](), 0
        for name, pause in steps:
            now += pause
            key = table.id((str(name),), now)
            if name not in seen and len(seen) == 3:
                oldest = min(seen.values())
                if now - oldest < 10:
                    assert key is None
                    continue
                [gone] = [n for n, when in seen.items() if when == oldest and (str(n),) not in map(table.names, range(3))]
                del seen[gone]
            assert key is not None
            assert table.names(key) == (str(name),)
            seen[name] = now
        assert {table.names(i) for i in range(len(table))} == {(str(n),) for n in seen}
