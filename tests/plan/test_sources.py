from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.schema import Pipeline
from edged.plan.sources import key_groups, mqtt_settings, stale_ns
from tests.support.planning import ACCEL, MAIN, PUMPS, planned

S = 10**9


def test_captures_are_the_key(tmp_path: Path) -> None:
    source = planned(tmp_path, MAIN + PUMPS + '[pipeline.p]\nsource = "pumps"\n').whole.sources["pumps"]
    assert source.key_names == ("line", "pump")
    assert source.key_parts == (("capture", 0), ("capture", 1))
    assert source.max_keys == 250
    assert [topic.mqtt for _, topic in source.filters] == ["plant/+/+/telemetry"]
    assert [f.name for f in source.fields] == ["temp", "p_in", "p_out", "rpm"]
    assert mqtt_settings(source).qos == 1


def test_a_key_may_be_made_of_captures_and_fields(tmp_path: Path) -> None:
    text = PUMPS.replace("max_keys = 250", 'key = ["pump", "sensor"]').replace('"rpm"', '"rpm", "sensor"')
    source = planned(tmp_path, MAIN + text + '[pipeline.p]\nsource = "pumps"\n').whole.sources["pumps"]
    assert source.key_parts == (("capture", 1), ("field", 0))
    assert source.max_keys == 256
    assert "sensor" not in [f.name for f in source.fields]


def test_an_empty_key_means_none(tmp_path: Path) -> None:
    text = PUMPS.replace("max_keys = 250", "key = []").replace("{line}", "+")
    source = planned(tmp_path, MAIN + text + '[pipeline.p]\nsource = "pumps"\n').whole.sources["pumps"]
    assert (source.key_names, source.max_keys) == ((), 1)


def test_joined_sources_share_room_for_keys(tmp_path: Path) -> None:
    more = PUMPS.replace("source.pumps", "source.more").replace("telemetry", "more").replace("250", "600").replace("temp", "t2")
    text = MAIN + PUMPS + more.replace('"p_in", "p_out", "rpm"', '"x"')
    pipelines = '[pipeline.p]\nsource = ["pumps", "more"]\n[pipeline.q]\nsource = "pumps"\nwindow = { size = 10 }\n'
    plan = planned(tmp_path, text + pipelines).whole
    assert {s.max_keys for s in plan.sources.values()} == {600}
    assert {s.key_group for s in plan.sources.values()} == {"more"}
    assert plan.pipelines["q"].max_keys == 600  # key ids of the group come here too


def test_groups_reach_over_chains() -> None:
    pipelines = {
        "one": Pipeline(source=("a",)),
        "two": Pipeline(source=("one", "b")),
        "three": Pipeline(source=("b", "c")),
        "four": Pipeline(source=("d",)),
    }
    groups = key_groups(pipelines)
    assert {groups[s] for s in ("a", "b", "c")} == {"a"}
    assert groups.get("d", "d") == "d"


@pytest.mark.parametrize(
    ("rate", "expected"), [(None, None), (1000.0, 2 * S), (1.0, 3 * S), (0.1, 30 * S)], ids=["none", "fast", "1 Hz", "slow"]
)
def test_three_periods_are_stale(rate: float | None, expected: int | None) -> None:
    assert stale_ns(rate) == expected


def test_sources_without_a_model_stay_exact(tmp_path: Path) -> None:
    plan = planned(tmp_path, MAIN + ACCEL + '[pipeline.p]\nsource = "accel"\n').whole
    assert plan.sources["accel"].dtype == "float64"
    assert plan.sources["accel"].decode is not None
    assert plan.sources["accel"].decode.dtype == "float64"
    assert plan.pipelines["p"].dtype == "float64"


def test_a_fast_line_is_not_warned_of(tmp_path: Path) -> None:
    text = MAIN + ACCEL + '[pipeline.p]\nsource = "accel"\n'
    assert planned(tmp_path, text).lines == []
    assert "115200 baud carries 11 bytes a line" in planned(tmp_path, text.replace("921600", "115200")).lines[0]
    # Nobody knows how many sensors speak on a keyed line.
    keyed = text.replace("921600", "115200").replace("rate = 1000", 'rate = 1000\nkey = "ax"')
    assert planned(tmp_path, keyed).lines == []
