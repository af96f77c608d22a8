from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.daemon import checkpoint
from edged.daemon.assembly import Assembly
from edged.daemon.checkpoint import NAME, STALE_NS
from edged.records import Block
from edged.system.durable import ASIDE
from tests.support.models import total
from tests.support.wiring import follow

TEXT = """
[source.in]
type = "mqtt"
topic = "in/{pump}"
decode = { format = "json", fields = ["v"] }
[pipeline.p]
source = "in"
window = { size = 4, hop = 2, gap = "10s" }
publish = []
"""


def push(a: Assembly, names: str, *values: float, now: int = 10**12) -> None:
    key = a.keys["in"].id((names,), 1)
    assert key is not None
    count = len(values)
    a.pipelines["p"].push(0, Block(np.array(values, np.float32)[:, None], np.full(count, now), 10**18, now, key))


def windows(a: Assembly) -> list[Any]:
    got: list[Any] = []
    follow(a.pipelines["p"], lambda block: got.extend(block.values.tolist()))
    return got


async def test_windows_and_numbers_go_on(make: Any, tmp_path: Path, clock: Any) -> None:
    a = make(TEXT)
    push(a, "x", 1, 2, 3)
    push(a, "y", 10, 11, 12, 13, 14)
    assert a.pipelines["p"].counts.next_seq == 2
    checkpoint.save(a, tmp_path / "state", clock)
    found = checkpoint.load(tmp_path / "state", "t", clock.utc())
    assert found is not None
    assert not list((tmp_path / "state").iterdir())  # once
    b = make(TEXT)
    got = windows(b)
    checkpoint.restore(b, *found, clock)
    assert b.pipelines["p"].counts.next_seq == 2
    push(b, "y", 15)
    push(b, "x", 4)
    assert got == [[12, 13, 14, 15], [1, 2, 3, 4]]


async def test_the_time_away_is_a_silence(make: Any, tmp_path: Path, clock: Any) -> None:
    a = make(TEXT)
    push(a, "x", 1, 2, 3)
    checkpoint.save(a, tmp_path, clock)
    clock.pass_s(11)
    found = checkpoint.load(tmp_path, "t", clock.utc())
    assert found is not None
    b = make(TEXT)
    got = windows(b)
    checkpoint.restore(b, *found, clock)
    push(b, "x", 4, now=clock.now())
    assert not got


async def test_windows_that_are_made_in_another_way_start_over(make: Any, tmp_path: Path, clock: Any) -> None:
    a = make(TEXT)
    push(a, "x", 1, 2, 3)
    checkpoint.save(a, tmp_path, clock)
    found = checkpoint.load(tmp_path, "t", clock.utc())
    assert found is not None
    b = make(TEXT.replace("size = 4", "size = 5"))
    got = windows(b)
    checkpoint.restore(b, *found, clock)
    push(b, "x", 4, 5)
    assert not got


@pytest.mark.parametrize("spoil", ["device", "old", "future", "cut", "flip", "empty", "text"])
async def test_what_cannot_be_used_is_set_aside(make: Any, tmp_path: Path, clock: Any, spoil: str) -> None:
    a = make(TEXT)
    push(a, "x", 1, 2, 3)
    checkpoint.save(a, tmp_path, clock)
    data = bytearray((tmp_path / NAME).read_bytes())
    now, device = clock.utc(), "t"
    match spoil:
        case "device":
            device = "other"
        case "old":
            now += STALE_NS + 1
        case "future":
            now -= STALE_NS
        case "cut":
            del data[-3:]
        case "flip":
            data[len(data) // 2] ^= 1
        case "empty":
            data.clear()
        case "text":
            data[:] = b"what is this?"
    (tmp_path / NAME).write_bytes(data)
    assert checkpoint.load(tmp_path, device, now) is None
    assert (tmp_path / f"{NAME}{ASIDE}").read_bytes() == data
    assert checkpoint.load(tmp_path, device, now) is None


async def test_every_cut_is_noticed(make: Any, tmp_path: Path, clock: Any) -> None:
    a = make(TEXT)
    push(a, "x", 1, 2, 3)
    checkpoint.save(a, tmp_path, clock)
    data = (tmp_path / NAME).read_bytes()
    for length in range(len(data)):
        (tmp_path / NAME).write_bytes(data[:length])
        assert checkpoint.load(tmp_path, "t", clock.utc()) is None


async def test_a_folder_that_cannot_be_written_loses_only_that(make: Any, tmp_path: Path, clock: Any) -> None:
    a = make(TEXT)
    (tmp_path / "file").touch()
    checkpoint.save(a, tmp_path / "file", clock)
    assert checkpoint.load(tmp_path / "file", "t", clock.utc()) is None


MODEL = """
[source.in]
type = "mqtt"
topic = "in/{pump}"
rate = 1
decode = { format = "raw", fields = ["v"] }
[model.m]
path = "m"
state = { sum_out = "sum" }
[pipeline.p]
source = "in"
model = "m"
WINDOW
publish = []
"""


@pytest.mark.parametrize("window", ["", 'window = { size = 1, gap = "3s" }'])
async def test_what_a_model_remembers_goes_on(make: Any, tmp_path: Path, clock: Any, window: str) -> None:
    total(tmp_path / "m" / "model.onnx")
    text = MODEL.replace("WINDOW", window)

    async def run(a: Assembly, *values: float) -> list[float]:
        got: list[Any] = []
        follow(a.pipelines["p"], lambda block: got.extend(block.values[:, 0].tolist()))
        for value in values:
            push(a, "x", value, now=clock.now())
        while a.pipelines["p"].is_busy:  # noqa: ASYNC110 (turns of the loop)
            await asyncio.sleep(0)
        return got

    async def again(seconds: int) -> Assembly:
        checkpoint.save(a, tmp_path / "state", clock)
        clock.pass_s(seconds)
        found = checkpoint.load(tmp_path / "state", "t", clock.utc())
        assert found is not None
        b: Assembly = make(text)
        checkpoint.restore(b, *found, clock)
        return b

    a = make(text)
    assert await run(a, 1, 2) == [1, 3]
    a = await again(2)
    assert await run(a, 3) == [6]
    a = await again(4)  # too long a silence
    assert await run(a, 3) == [3]
    total(tmp_path / "m" / "model.onnx", metadata={"version": "2"})
    a = await again(1)  # another model
    assert await run(a, 5) == [5]
