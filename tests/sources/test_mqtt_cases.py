"""What publishers really send, and the samples that must come of it: each directory of `cases/mqtt` has the messages in their
order, the source that reads them, and expected.jsonl, a sample a line: its fields, and where there is one its `key`, `time` and
`degraded`.

What is refused is written in refused.json, by reason; without it nothing is.
"""

from __future__ import annotations

import base64
import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.clock.clock import Clock
from edged.plan.records import SourcePlan
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.kind import Parts
from edged.sources.mqtt import SourceWiring, build
from edged.sources.router import Router
from edged.stamp import KeyTable, Stamper
from edged.system.hang_recorder import Stages
from edged.telemetry import Drops
from tests.sources.test_mqtt import message
from tests.support.planning import MAIN, planned

CASES = sorted(path.parent for path in (Path(__file__).parents[1] / "cases" / "mqtt").glob("*/expected.jsonl"))


def source_of(case: Path, folder: Path) -> SourcePlan:
    return planned(folder, MAIN + (case / "edged.toml").read_text("utf-8")).whole.sources["s"]


def messages(case: Path) -> list[tuple[str, bytes]]:
    """Topics and payloads."""
    found = []
    for one in json.loads((case / "messages.json").read_text("utf-8")):
        payload = base64.b64decode(one["base64"]) if "base64" in one else one["payload"].encode()
        found.append((one["topic"], payload))
    return found


def played(plan: SourcePlan, sent: list[tuple[str, bytes]]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The samples as a person writes them, and how many messages were refused, by reason."""
    assert plan.decode is not None
    keys = KeyTable(plan.max_keys, None) if plan.key_names else None
    counts, clock = SourceCounts("s"), Clock()
    stamper = Stamper(plan.decode.time_format, plan.rate, keys)
    one = build(plan, Parts(stamper, Flow(), counts, clock, Stages(lambda: 0), keys))
    blocks: list[Any] = []
    one.connect(SourceWiring([blocks.append]))
    router = Router([one], clock, Drops("broker.test"))
    for topic, payload in sent:
        router.on_publishes([message(topic, payload)])
    assert counts.balance() == 0
    samples = []
    for block in blocks:
        for row in range(len(block.values)):
            numbers = block.values[row].tolist()
            sample = {f.name: numbers[f.start : f.stop] if f.shape else numbers[f.start] for f in plan.fields}
            if keys is not None:
                sample["key"] = "/".join(keys.names(int(np.broadcast_to(block.keys, len(block.values))[row])))
            if block.offset == 0 and plan.has_own_time:
                sample["time"] = int(block.time[row])
            if block.degraded is not None and block.degraded[row]:
                sample["degraded"] = True
            samples.append(sample)
    return samples, dict(counts.drops.by_reason)


def alike(found: Any, wanted: Any) -> bool:
    """The same but for the last digits of numbers. A number that is none is written null."""
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(alike, found, wanted))
    if wanted is None:
        return math.isnan(found)
    return bool(found == wanted) if isinstance(wanted, str | bool) else math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-6)


def same(found: dict[str, Any], wanted: dict[str, Any], zone: bool = False) -> bool:
    if "time" in wanted:
        found = dict(found, time=found["time"] // 1000)
        wanted = dict(wanted, time=round(datetime.fromisoformat(wanted["time"]).timestamp() * 1e6))
    else:
        found = {name: value for name, value in found.items() if name != "time"}
    return found.keys() == wanted.keys() and all(alike(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_samples_are_right(case: Path, tmp_path: Path) -> None:
    wanted = [json.loads(line) for line in (case / "expected.jsonl").read_text("utf-8").splitlines()]
    refused = case / "refused.json"
    samples, reasons = played(source_of(case, tmp_path), messages(case))
    assert len(samples) == len(wanted), (samples, reasons)
    assert all(map(same, samples, wanted)), samples
    assert reasons == (json.loads(refused.read_text("utf-8")) if refused.exists() else {})
