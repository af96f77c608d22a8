"""Pipelines assembled from a plan and fed by hand: those that read what another said, and one with a fault."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from edged.clock.clock import Clock
from edged.daemon.assembly import Assembly
from edged.daemon.build import assemble
from edged.daemon.connect import connect
from edged.model.load_all import load_models
from edged.mqtt.receipts import Ledger
from edged.records import Block, Receipt
from tests.support.models import cells
from tests.support.pictures import RED, pixels, png
from tests.support.planning import ACCEL, MAIN, planned
from tests.support.wiring import follow

CHAIN = """
[pipeline.first]
source = "accel"
publish = []
[pipeline.second]
source = "first"
window = { size = 2 }
publish = []
"""


def assembled(folder: Path, text: str) -> Assembly:
    assembly = assemble(planned(folder, MAIN + ACCEL + text).whole, {}, Clock(), structlog.get_logger())
    connect(assembly)
    return assembly


def feed(assembly: Assembly, block: Block) -> None:
    for name in assembly.readers:
        for push in assembly.consumers[name]:
            push(block)


async def test_results_are_the_samples_of_the_next_pipeline(tmp_path: Path) -> None:
    assembly = assembled(tmp_path, CHAIN)
    got: list[Block] = []
    follow(assembly.pipelines["second"], got.append)
    now = Clock().now()
    receipts = [Receipt(1), Receipt(2)]
    values = np.array([[1, 2, 3], [4, 5, 6]], np.float64)
    feed(assembly, Block(values, np.array([now, now + 1]), 10**18, now, 0, receipts, np.array([False, True])))
    [block] = got
    assert block.values.tolist() == [[1, 4, 2, 5, 3, 6]]  # a window of each field
    assert block.time.tolist() == [10**18 + now + 1]
    assert block.degraded is not None
    assert block.degraded.tolist() == [True]
    assert [r.owed for r in receipts] == [1, 1]  # the router's own; a window keeps none
    assert assembly.pipelines["first"].counts.due == 2
    assert assembly.pipelines["second"].counts.due == 1


async def test_a_key_that_begins_anew_does_so_all_along(tmp_path: Path) -> None:
    assembly = assembled(tmp_path, CHAIN)
    got: list[Block] = []
    follow(assembly.pipelines["second"], got.append)
    now = Clock().now()
    rows = np.ones((1, 3))
    feed(assembly, Block(rows, np.array([now]), 0, now))
    feed(assembly, Block(rows, np.array([now + 1]), 0, now, restarts=(0,)))
    assert got == []  # the two samples are not of one window
    feed(assembly, Block(rows, np.array([now + 2]), 0, now))
    assert len(got) == 1


async def test_an_input_that_shows_a_fault_is_acknowledged_once_and_its_neighbours_are_answered(tmp_path: Path) -> None:
    text = """
[source.in]
type = "mqtt"
topic = "in/x"
decode = { format = "csv", fields = ["v"] }
[pipeline.p]
source = "in"
publish = { topic = "out/p", qos = 1 }
"""
    assembly = assembled(tmp_path, text)
    pipeline, ledger, tries = assembly.pipelines["p"], Ledger(), 0
    head: Any = pipeline.head
    healthy = head.results

    def results(outputs: Any, *more: Any) -> Any:
        nonlocal tries
        if 13 in outputs["v"]:
            tries += 1
            raise ZeroDivisionError("13")
        return healthy(outputs, *more)

    head.results = results
    link = assembly.links["main"]
    link.outbox.hand_over = None
    assembly.routers["main"].on_publishes([(b"in/x", b"%d" % n, 1, False, (), ledger.add(n), b"") for n in range(11, 16)])
    sent = [link.outbox.take(link.outbox.qos1) for _ in range(len(link.outbox))]
    assert [b'"v":%d' % n in m.body for n, m in zip((11, 12, 14, 15), sent, strict=True)] == [True] * 4
    assert (tries, pipeline.counts.drops.by_reason, pipeline.counts.balance(0)) == (2, {"internal_error": 1}, 0)
    assert ledger.take_settled() == []
    for message in sent:
        message.let_go()
    assert ledger.take_settled() == [11, 12, 13, 14, 15]


async def test_pictures_that_wait_to_be_decoded_are_seen_as_the_new_file_says(tmp_path: Path) -> None:
    cells(tmp_path / "m.onnx")
    text = """
[source.cam]
type = "mqtt"
topic = "cam/{camera}"
max_keys = 2
max_bytes = "64KiB"
decode = { format = "image" }
[model.m]
path = "m.onnx"
[pipeline.p]
source = "cam"
model = "m"
preprocess = { step = "resize", size = [64, 64], fit = "FIT" }
output = { type = "detect", above = 0.6 }
publish = { topic = "out/{camera}" }
"""
    clock, log, ledger = Clock(), structlog.get_logger(), Ledger()
    plans = [planned(tmp_path, MAIN + text.replace("FIT", fit)).whole for fit in ("stretch", "letterbox")]
    loaded = load_models(plans[0].models)
    before = assemble(plans[0], loaded, clock, log)
    connect(before)
    link = before.links["main"]
    link.outbox.hand_over = None
    picture = png(pixels(128, 64, (0, 0, 16, 16, RED)))
    receipts = [ledger.add(n) for n in range(1, 5)]
    before.routers["main"].on_publishes([(b"cam/a", picture, 1, False, (), receipt, b"") for receipt in receipts])
    after = assemble(plans[1], loaded, clock, log, before)
    connect(after, before)
    assert after.sources["cam"] is not before.sources["cam"]
    counts = after.sources["cam"].counts

    async def all_answered() -> None:
        while len(link.outbox) < len(receipts):  # noqa: ASYNC110 (threads and the loop's own callbacks do the work)
            await asyncio.sleep(0)

    await asyncio.wait_for(all_answered(), 10)
    boxes = [json.loads(link.outbox.take(link.outbox.qos1).body + b"}")["detections"][0]["box"] for _ in receipts]
    assert boxes == [[0, 0, 16, 16]] * 4  # stretched, it would be two boxes of 16 x 8
    assert (counts.read, counts.rows, counts.balance()) == (4, 4, 0)
    after.close()
