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


LATE = """
[source.{name}]
type = "mqtt"
topic = "{name}/+"
key = "id"
rate = {rate}
stale_after = "1h"
{lateness}
decode = {{ format = "json", time = {{ field = "t", format = "unix_s" }}, fields = ["{name}", "id"] }}
"""


def late(folder: Path, *sources: tuple[str, float, str], more: str = "") -> tuple[AlignPlan, list[str]]:
    text = "".join(LATE.format(name=n, rate=r, lateness=f'lateness = "{late}"' if late else "") for n, r, late in sources)
    names = ", ".join(f'"{name}"' for name, *_ in sources)
    found = planned(folder, MAIN + text + f'[pipeline.p]\nsource = [{names}]\n{more}\npublish = "out/{{key}}"\n')
    plan = found.whole.pipelines["p"].align
    assert plan is not None
    return plan, found.lines


def test_rows_that_come_late_find_what_was_true_at_their_time(tmp_path: Path) -> None:
    plan, lines = late(tmp_path, ("v", 1, "30s"), ("w", 10, ""))
    assert [s.history for s in plan.sources] == [64, 310]
    assert not lines
    plan, lines = late(tmp_path, ("v", 1, "30s"), ("w", 10, "10s"))
    assert ([s.history for s in plan.sources], lines) == ([64, 210], [])
    plan, lines = late(tmp_path, ("v", 1, "30s"), ("w", 1000, ""))
    assert plan.sources[1].history == 4096
    assert "rows come up to 30 s late (lateness), and 4096 samples of w are kept, 4.1 s of them" in lines[0]


def test_rows_that_come_before_what_they_need_are_told(tmp_path: Path) -> None:
    _, lines = late(tmp_path, ("v", 1, ""), ("w", 10, "30s"))
    assert "samples of w may wait 30s to be put in order (lateness), and rows of v wait for nothing" in lines[0]
    assert 'set source.v.lateness = "30s" too' in lines[0]
    _, lines = late(tmp_path, ("v", 1, ""), ("w", 10, "30s"), more='align = { method = "nearest", tolerance = "1min" }')
    assert not lines
    _, lines = late(tmp_path, ("v", 1, "30s"), ("w", 1, "30s"), more='align = { rate = 1, tolerance = "1min" }')
    assert "the points of the grid wait for nothing" in lines[0]


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
