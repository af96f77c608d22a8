from __future__ import annotations

from pathlib import Path

from edged.pipeline.align import AlignPlan
from tests.support.planning import ACCEL, MAIN, PUMPS, planned

S = 10**9
TEMPERATURE = '[source.room]\ntype = "mqtt"\ntopic = "room"\nrate = "6/min"\ndecode = { format = "json", fields = ["t"] }\n'
DOOR = '[source.door]\ntype = "mqtt"\ntopic = "door"\ndecode = { format = "json", fields = ["open"] }\n'


def align(folder: Path, more: str) -> AlignPlan | None:
    return planned(folder, MAIN + ACCEL + TEMPERATURE + DOOR + PUMPS + f"[pipeline.p]\n{more}\n").whole.pipelines["p"].align


def joined(folder: Path, more: str) -> AlignPlan:
    plan = align(folder, more)
    assert plan is not None
    return plan


def test_one_source_needs_no_join(tmp_path: Path) -> None:
    assert align(tmp_path, 'source = "accel"') is None


def test_the_first_source_sets_the_pace(tmp_path: Path) -> None:
    plan = joined(tmp_path, 'source = ["accel", "room"]')
    assert (plan.to, plan.period_ns, plan.method, plan.max_keys) == (0, None, "previous", 1)
    assert [(s.name, s.tolerance_ns, s.is_keyed) for s in plan.sources] == [("accel", None, False), ("room", 30 * S, False)]


def test_another_source_may_set_it(tmp_path: Path) -> None:
    plan = joined(tmp_path, 'source = ["accel", "room"]\nalign = { to = "room" }')
    assert plan.to == 1
    assert [s.tolerance_ns for s in plan.sources] == [2 * S, None]


def test_a_grid_joins_all_of_them(tmp_path: Path) -> None:
    plan = joined(tmp_path, 'source = ["room", "door"]\nalign = { rate = "6/min", tolerance = "1h" }')
    assert (plan.to, plan.period_ns) == (None, 10 * S)
    assert [s.tolerance_ns for s in plan.sources] == [3600 * S, 3600 * S]
    single = joined(tmp_path, 'source = "door"\nalign = { rate = 1, tolerance = "1h" }')
    assert (single.to, single.period_ns, len(single.sources)) == (None, S, 1)


def test_values_are_fresh_as_long_as_their_source_is(tmp_path: Path) -> None:
    door = DOOR.replace("decode", 'stale_after = "1d"\ndecode')
    text = MAIN + ACCEL + door + PUMPS + '[pipeline.p]\nsource = ["accel", "door"]\n'
    plan = planned(tmp_path, text).whole
    align = plan.pipelines["p"].align
    assert align is not None
    assert [s.tolerance_ns for s in align.sources] == [None, 86400 * S]
    found = planned(tmp_path, MAIN + ACCEL + DOOR + '[pipeline.p]\nsource = ["accel", "door"]\n')
    assert "how old may a value of door be" in found.lines[0]


def test_a_second_of_a_fast_stream_is_kept(tmp_path: Path) -> None:
    plan = joined(tmp_path, 'source = ["room", "accel"]')
    assert [s.history for s in plan.sources] == [64, 1000]


def test_there_is_room_for_rows_that_wait(tmp_path: Path) -> None:
    short = joined(tmp_path, 'source = ["accel", "room"]\nalign = { method = "linear", tolerance = "200ms" }')
    assert short.max_waiting == 1024
    long = joined(tmp_path, 'source = ["accel", "room"]\nalign = { method = "nearest", tolerance = "20s" }')
    assert long.max_waiting == 20000


def test_keyed_streams_join_with_unkeyed_ones(tmp_path: Path) -> None:
    plan = joined(tmp_path, 'source = ["pumps", "room"]')
    assert (plan.max_keys, [s.is_keyed for s in plan.sources]) == (250, [True, False])
    plan = joined(tmp_path, 'source = ["room", "pumps"]')
    assert (plan.max_keys, [s.is_keyed for s in plan.sources]) == (250, [False, True])
