from __future__ import annotations

from pathlib import Path

import pytest

from edged.plan.records import WindowPlan
from tests.support.planning import MAIN, planned

S, MS = 10**9, 10**6
ON_ARRIVAL = '[source.a]\ntype = "mqtt"\ntopic = "a"\nrate = RATE\ndecode = { format = "json", fields = ["x"] }\n'
STAMPED = ON_ARRIVAL.replace('"x"] }', '"x"], time = { field = "t", format = "unix_ms" } }')


def window(folder: Path, source: str, text: str, more: str = "") -> WindowPlan | None:
    return planned(folder, MAIN + source + f'[pipeline.p]\nsource = "a"\nwindow = {text}\n{more}').whole.pipelines["p"].window


@pytest.mark.parametrize(
    ("source", "rate", "text", "expected"),
    [
        (ON_ARRIVAL, "1000", "{ size = 512 }", WindowPlan(512, 512, S)),
        (ON_ARRIVAL, "1000", '{ size = "500ms", hop = "100ms" }', WindowPlan(500, 100, S)),
        (ON_ARRIVAL, '"6/min"', '{ size = "30min", hop = "1min" }', WindowPlan(180, 6, 30 * S)),
        (STAMPED, "1000", "{ size = 512 }", WindowPlan(512, 512, 3 * MS)),
        (STAMPED, "1", '{ size = "60s", hop = 10, gap = "5s" }', WindowPlan(60, 10, 5 * S)),
        (ON_ARRIVAL, "3", '{ size = "1s", hop = 7 }', WindowPlan(3, 7, S)),
    ],
)
def test_durations_become_samples(tmp_path: Path, source: str, rate: str, text: str, expected: WindowPlan) -> None:
    assert window(tmp_path, source.replace("RATE", rate), text) == expected


def test_without_a_rate_no_silence_is_too_long(tmp_path: Path) -> None:
    assert window(tmp_path, ON_ARRIVAL.replace("rate = RATE\n", ""), "{ size = 5 }") == WindowPlan(5, 5, None)


def test_a_grid_has_a_rate_and_times_of_its_own(tmp_path: Path) -> None:
    found = window(tmp_path, ON_ARRIVAL.replace("RATE", "7"), '{ size = "1s" }', "align = { rate = 50 }\n")
    assert found == WindowPlan(50, 50, 60 * MS)
