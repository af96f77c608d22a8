"""What real devices send, and the rows that must come out: each directory of `cases/serial` has the configuration, the bytes,
what is expected, and where it is from.

The bytes come whole, one at a time, behind garbage, and late; and through a replay source.
"""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from edged.clock.clock import Clock
from edged.config.load import read
from edged.config.schema import ReplaySource
from edged.decode import DecodePlan, make_payload_decoder
from edged.decode.stream import make_stream_decoder
from edged.errors import Problem
from edged.plan.records import SourcePlan
from edged.plan.sources import plan_sources
from edged.records import Rows
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.replay import ReplaySource as Replay
from edged.stamp import KeyTable, Stamper

CASES = sorted(path.parent for path in (Path(__file__).parent / "cases" / "serial").glob("*/expected.txt"))
GARBAGE = bytes.fromhex("00 13 f5 9c 07") + b"~?x"


def planned(case: Path) -> tuple[SourcePlan, DecodePlan]:
    draft = read(case / "edged.toml", {})
    problems: list[Problem] = [problem for problem in draft.problems if not problem.is_warning]
    plans = plan_sources(draft.config, {"device": "t", "base_topic": "edged/t"}, frozenset({"s"}), problems)
    assert not problems, problems
    decode = plans["s"].decode
    assert decode is not None
    return plans["s"], decode


def samples(decode: DecodePlan, parts: list[Rows]) -> list[dict[str, Any]]:
    """Rows as a person writes them."""
    found: list[dict[str, Any]] = []
    for rows in parts:
        for i, row in enumerate(rows.values.tolist()):
            one: dict[str, Any] = {} if rows.keys is None else {"key": "/".join(rows.keys[i])}
            for field in decode.value_fields:
                numbers = row[field.start : field.stop]
                one[field.name] = numbers if field.shape else numbers[0]
            found.append(one)
    return found


def played(decode: DecodePlan, chunks: list[bytes]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    decoder = make_stream_decoder(decode)
    parts = [rows for chunk in chunks if (rows := decoder.feed(chunk)) is not None]
    reasons: dict[str, int] = {}
    for reject in [reject for rows in parts for reject in rows.rejects]:
        reasons[reject.reason] = reasons.get(reject.reason, 0) + reject.times
    return samples(decode, parts), reasons


def expected(case: Path) -> list[dict[str, Any]]:
    lines = (case / "expected.txt").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if not line.startswith("#")]


def alike(found: Any, wanted: Any) -> bool:
    """The same but for the last digits of numbers."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(alike(found[name], wanted[name]) for name in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(alike, found, wanted))
    return found == wanted if isinstance(wanted, str) else math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_and_byte_at_a_time(case: Path) -> None:
    _, decode = planned(case)
    data = (case / "input.bin").read_bytes()
    found, reasons = played(decode, [data])
    assert alike(found, expected(case))
    said = case / "refused.json"
    assert reasons == (json.loads(said.read_text()) if said.exists() else {})
    again, reasons_again = played(decode, [data[i : i + 1] for i in range(len(data))])
    assert alike(again, expected(case))
    assert reasons_again == reasons


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_behind_garbage_and_late(case: Path) -> None:
    """The first sample may be lost, and none may come that was not sent."""
    _, decode = planned(case)
    data, wanted = (case / "input.bin").read_bytes(), expected(case)
    for late in (GARBAGE + data, *(data[start:] for start in range(1, min(12, len(data) // max(1, len(wanted)))))):
        found, _ = played(decode, [late])
        assert len(found) >= len(wanted) - 1
        assert alike(found, wanted[len(wanted) - len(found) :])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_replayed(case: Path) -> None:
    plan, decode = planned(case)
    settings: Any = plan.settings
    keys = ("frame", "checksum", "max_bytes", "decode", "key", "on_bad", "rate")
    replay = ReplaySource(path=case / "input.bin", speed=0.0, **{key: getattr(settings, key) for key in keys})
    pushed: list[Any] = []
    clock, flow = Clock(), Flow()
    source = Replay(
        "s",
        replay,
        make_stream_decoder(decode),
        make_payload_decoder(decode),
        Stamper(decode.time_format, replay.rate, KeyTable(256, None) if plan.key_names else None),
        flow,
        SourceCounts("s"),
        clock,
    )
    asyncio.run(source.run(pushed.append))
    assert sum(len(block) for block in pushed) == len(expected(case))
