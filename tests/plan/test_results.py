"""How large results are, and the room that is planned for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto as T

from tests.support.deployments import net
from tests.support.planning import MAIN, MIB, PUMPS, planned

RAW = '[model.m]\npath = "m.onnx"\n[pipeline.p]\nsource = "pumps"\nmodel = "m"\n'
NUMBERS = 84 * 525
"""Those of a small detector, as they come out of the model."""


@pytest.mark.parametrize(
    ("publish", "outbox", "largest"),
    [
        ("", 2 * (1024 + NUMBERS * 25 + 9), 1024 + NUMBERS * 25 + 9),
        ('publish = { format = "raw" }\n', MIB, 1024 + NUMBERS * 8 + 9),
        ('publish = { fields = ["time"] }\n', MIB, 1024),
        ('publish = [{}, { topic = "twice/{key}" }]\n', 4 * (1024 + NUMBERS * 25 + 9), 1024 + NUMBERS * 25 + 9),
    ],
    ids=["json", "raw", "without the numbers", "two entries"],
)
def test_the_outbox_has_room_for_a_result_of_each_entry(tmp_path: Path, publish: str, outbox: int, largest: int) -> None:
    net(tmp_path / "m.onnx", {"x": (T.FLOAT, ["N", 4])}, {"y": ["N", 84, 525]})
    plan = planned(tmp_path, MAIN + PUMPS + RAW + publish).whole
    assert plan.links["main"].outbox_bytes == outbox
    lines = {line.what: line for line in plan.memory}
    assert lines["broker.main: buffers"].bytes == outbox + 256 * 1024 + 2 * MIB
    has_large = largest >= 256 * 1024
    assert lines["spool"].bytes == 3 * MIB + has_large * 3 * largest
    if publish == "":
        # Rows wait for room (QoS 1 all the way), so that no more than one result is made at a time.
        assert lines["pipeline.p: results"].bytes == NUMBERS * 32 + 3 * largest
        assert lines["pipeline.p: results"].how == f"1 at a time, {largest // 1024} KiB each"


def test_where_nothing_waits_a_whole_batch_of_results_is_made_at_once(tmp_path: Path) -> None:
    net(tmp_path / "m.onnx", {"x": (T.FLOAT, ["N", 4])}, {"y": ["N", 84, 525]})
    plan = planned(tmp_path, MAIN + PUMPS + RAW + 'overflow = "drop_oldest"\n').whole
    lines = {line.what: line for line in plan.memory}
    assert lines["pipeline.p: results"].bytes == 16 * NUMBERS * 32 + 3 * (1024 + NUMBERS * 25 + 9)


def test_small_results_have_no_line(tmp_path: Path) -> None:
    net(tmp_path / "m.onnx", {"x": (T.FLOAT, ["N", 4])}, {"y": ["N", 8]})
    plan = planned(tmp_path, MAIN + PUMPS + RAW).whole
    assert plan.links["main"].outbox_bytes == MIB
    assert "pipeline.p: results" not in {line.what for line in plan.memory}


def test_a_spool_that_no_result_fits_into(tmp_path: Path) -> None:
    net(tmp_path / "m.onnx", {"x": (T.FLOAT, ["N", 4])}, {"y": ["N", 84, 525]})
    text = '[spool]\nmax_bytes = "1MiB"\n' + MAIN + PUMPS + RAW
    lines = planned(tmp_path, text).lines
    assert any("spool.max_bytes: 1024 KiB, and a result may have 1077 KiB: such a one is not kept" in line for line in lines), (
        lines
    )
