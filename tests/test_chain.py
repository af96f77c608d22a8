"""Pipelines that read what another pipeline said, assembled from a plan and fed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import structlog

from edged.assemble import Assembly, assemble, connect
from edged.clock import Clock
from edged.records import Block, Receipt
from tests.plan.planning import ACCEL, MAIN, planned

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
    assembly.pipelines["second"].followers.append(got.append)
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
    assembly.pipelines["second"].followers.append(got.append)
    now = Clock().now()
    rows = np.ones((1, 3))
    feed(assembly, Block(rows, np.array([now]), 0, now))
    feed(assembly, Block(rows, np.array([now + 1]), 0, now, restarts=(0,)))
    assert got == []  # the two samples are not of one window
    feed(assembly, Block(rows, np.array([now + 2]), 0, now))
    assert len(got) == 1
