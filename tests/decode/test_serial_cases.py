"""What devices really send, and the rows that must come of it: each directory of `cases/serial` has input.bin, edged.toml and
expected.jsonl, a sample a line with its fields and, where there is one, its `key`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.clock.clock import Clock
from edged.config.schema import ReplaySource as ReplaySettings
from edged.decode import DecodePlan, make_payload_decoder
from edged.decode.stream import StreamDecoder, make_stream_decoder
from edged.plan.records import SourcePlan
from edged.records import Rows
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.replay import ReplaySource
from edged.stamp import KeyTable, Stamper
from tests.support.decode_plans import refused
from tests.support.planning import MAIN, planned

CASES = sorted(path.parent for path in (Path(__file__).parents[1] / "cases" / "serial").glob("*/expected.jsonl"))
PORT = 'type = "serial"\nport = "/dev/ttyUSB0"\n'

ENDS = {"cobs": b"\0", "slip": b"\xc0"}
"""Of frames whose end is known by their type."""
REFUSED = {"other", "checksum", "missing", "long", "short", "no_frame", "out_of_range", "not_a_number"}

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def source(case: Path, folder: Path, kind: str = PORT) -> SourcePlan:
    text = (case / "edged.toml").read_text("utf-8")
    assert PORT in text
    return planned(folder, MAIN + text.replace(PORT, kind)).whole.sources["s"]


def plan_of(case: Path, folder: Path) -> DecodePlan:
    decode = source(case, folder).decode
    assert decode is not None
    return decode


def samples(plan: DecodePlan, parts: Sequence[Rows | None]) -> list[dict[str, Any]]:
    """The samples by name. A tensor is a list."""
    found = []
    for rows in parts:
        for i, row in enumerate(rows.values.tolist() if rows is not None else []):
            sample = {f.name: row[f.start : f.stop] if f.shape else row[f.start] for f in plan.value_fields}
            if rows is not None and rows.keys is not None:
                sample["key"] = "/".join(rows.keys[i])
            found.append(sample)
    return found


def expected(case: Path) -> list[Any]:
    return [json.loads(line) for line in (case / "expected.jsonl").read_text("utf-8").splitlines()]


def close(sample: dict[str, Any]) -> dict[str, Any]:
    return {name: value if isinstance(value, str) else pytest.approx(value, rel=1e-6) for name, value in sample.items()}


def fed(decoder: StreamDecoder, data: bytes, size: int) -> list[Rows | None]:
    return [decoder.feed(data[at : at + size]) for at in range(0, len(data), size)]


@every_case
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_the_rows_are_right_however_the_bytes_come(case: Path, size: int, tmp_path: Path) -> None:
    plan = plan_of(case, tmp_path)
    parts = fed(make_stream_decoder(plan), (case / "input.bin").read_bytes(), size)
    assert samples(plan, parts) == [close(sample) for sample in expected(case)]
    assert {*refused([r for rows in parts if rows is not None for r in rows.rejects])} <= REFUSED


@every_case
def test_garbage_before_the_first_line_costs_no_row(case: Path, tmp_path: Path) -> None:
    plan = plan_of(case, tmp_path)
    frame = plan.frame
    end = b"\n" if frame is None else ENDS.get(frame.type) or frame.end or b"\n"
    data = b"\xfe\x00\x80~ \x07" + end + (case / "input.bin").read_bytes()
    assert samples(plan, fed(make_stream_decoder(plan), data, 64)) == [close(sample) for sample in expected(case)]


@every_case
def test_a_port_that_is_opened_in_the_middle_gives_no_row_that_was_not_sent(case: Path, tmp_path: Path) -> None:
    plan = plan_of(case, tmp_path)
    data, wanted = (case / "input.bin").read_bytes(), expected(case)
    for cut in range(1, min(len(data), 200)):
        decoder = make_stream_decoder(plan)
        decoder.reset(is_midway=True)
        found = samples(plan, [decoder.feed(data[cut:])])
        assert found == [close(sample) for sample in wanted[len(wanted) - len(found) :]], cut


@every_case
async def test_a_recording_gives_the_same(case: Path, tmp_path: Path) -> None:
    kind = f'type = "replay"\npath = "{case / "input.bin"}"\nspeed = 0\n'
    planned_source = source(case, tmp_path, kind)
    plan, settings = planned_source.decode, planned_source.settings
    assert plan is not None
    assert isinstance(settings, ReplaySettings)
    counts, clock = SourceCounts("s"), Clock()
    stamper = Stamper(plan.time_format, None, KeyTable(64, None) if plan.key_fields else None)
    stream, payloads = make_stream_decoder(plan), make_payload_decoder(plan)
    replay = ReplaySource("s", settings, stream, payloads, stamper, Flow(), counts, clock)
    values: list[list[float]] = []
    await asyncio.wait_for(replay.run(lambda block: values.extend(block.values.tolist())), 10)
    names = [field.name for field in plan.value_fields]
    assert values == [pytest.approx(np.hstack([sample[name] for name in names]).tolist(), rel=1e-6) for sample in expected(case)]
    assert counts.balance() == 0
