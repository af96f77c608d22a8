"""What `connect` tells the parts, seen on a running loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from edged.clock.clock import Clock
from edged.daemon.build import assemble
from edged.daemon.connect import connect
from edged.model.load_all import load_models
from edged.plan.records import Plan
from tests.support import models
from tests.support.planning import MAIN, planned

SOURCE = '[source.in]\ntype = "mqtt"\ntopic = "in"\ndecode = { format = "csv", fields = ["v"] }\n'


def plan_of(folder: Path, runs: dict[str, str], priorities: dict[str, int], workers: int = 3) -> Plan:
    text = MAIN + f"[device]\nworkers = {workers}\n" + SOURCE
    for name, run in runs.items():
        text += f'[model.{name}]\npath = "m.onnx"\nrun = "{run}"\nproviders = ["cpu"]\n'
    for name, priority in priorities.items():
        text += f'[pipeline.{name}]\nsource = "in"\nmodel = "{name[0]}"\npriority = {priority}\npublish = []\n'
    return planned(folder, text).whole


@pytest.mark.parametrize(
    ("runs", "priorities", "lowest"),
    [
        ({"a": "worker", "b": "worker"}, {"a": 0, "b": 0}, None),
        ({"a": "worker", "b": "worker"}, {"a": 1, "b": 7}, 1),
        ({"a": "worker", "b": "worker"}, {"a": 1, "a2": 7, "b": 7}, None),  # a model's is the highest of its pipelines
        ({"a": "worker", "b": "inline"}, {"a": 0, "b": 7}, None),  # the loop runs it: no thread need be free
    ],
)
async def test_a_thread_stays_free_where_models_that_share_the_threads_differ(
    tmp_path: Path, runs: dict[str, str], priorities: dict[str, int], lowest: int | None
) -> None:
    models.linear(tmp_path / "m.onnx", width=1, out=1)
    plan = plan_of(tmp_path, runs, priorities)
    assembly = assemble(plan, load_models(plan.models), Clock(), structlog.get_logger())
    connect(assembly)
    assert assembly.workers.threads == 3
    assert assembly.workers.lowest == lowest
    assembly.close()


async def test_a_reload_changes_how_many_threads_there_are(tmp_path: Path) -> None:
    models.linear(tmp_path / "m.onnx", width=1, out=1)
    runs, same = {"a": "worker", "b": "worker"}, {"a": 0, "b": 0}
    plan = plan_of(tmp_path, runs, same)
    loaded = load_models(plan.models)
    before = assemble(plan, loaded, Clock(), structlog.get_logger())
    connect(before)
    plan = plan_of(tmp_path, runs, {"a": 0, "b": 3}, workers=2)
    after = assemble(plan, loaded, Clock(), structlog.get_logger(), before)
    connect(after, before)
    assert (after.workers.threads, after.workers.lowest) == (2, 0)
    after.close()
