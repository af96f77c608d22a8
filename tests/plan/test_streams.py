from __future__ import annotations

from pathlib import Path

import pytest

from edged.plan.streams import pipeline_stream, source_stream
from tests.support.planning import ACCEL, MAIN, PUMPS, planned

REPLAY = '[source.old]\ntype = "replay"\npath = "run.csv"\nspeed = 0\ndecode = { format = "csv", fields = ["x"] }\n'


@pytest.mark.parametrize(
    ("text", "is_lossless", "is_acknowledged", "can_be_held"),
    [
        (PUMPS, True, True, True),
        (PUMPS.replace("rate = 1", "rate = 1\nqos = 0"), False, False, False),
        (ACCEL, False, False, True),
        (REPLAY, True, False, True),
        (REPLAY.replace("speed = 0", "speed = 1"), False, False, True),
    ],
    ids=["mqtt", "mqtt at QoS 0", "serial", "replay as fast as it goes", "replay as recorded"],
)
def test_what_can_wait(tmp_path: Path, text: str, is_lossless: bool, is_acknowledged: bool, can_be_held: bool) -> None:
    name = text.split("source.")[1].split("]")[0]
    plan = planned(tmp_path, MAIN + text + f'[pipeline.p]\nsource = "{name}"\n').whole
    stream = source_stream(plan.sources[name])
    assert (stream.is_lossless, stream.is_acknowledged, not stream.unheld) == (is_lossless, is_acknowledged, can_be_held)


def test_a_pipeline_is_a_stream_of_its_results(tmp_path: Path) -> None:
    text = MAIN + PUMPS + '[pipeline.p]\nsource = "pumps"\nwindow = { size = 60, hop = 10 }\n'
    plan = planned(tmp_path, text).whole
    stream = pipeline_stream(plan.pipelines["p"], {"pumps": source_stream(plan.sources["pumps"])})
    assert [(f.name, f.start, f.stop, f.shape) for f in stream.fields] == [
        ("outputs.temp", 0, 60, (60,)),
        ("outputs.p_in", 60, 120, (60,)),
        ("outputs.p_out", 120, 180, (60,)),
        ("outputs.rpm", 180, 240, (60,)),
    ]
    assert stream.rate == 0.1
    assert stream.rate_key == "source.pumps.rate"
    assert (stream.key_names, stream.max_keys, stream.key_group) == (("line", "pump"), 250, "pumps")
    assert stream.roots == ("pumps",)
    # The samples of a window are acknowledged when they are in it: no broker keeps the windows.
    assert not stream.is_lossless
    assert "windows of pipeline.p" in stream.unheld
