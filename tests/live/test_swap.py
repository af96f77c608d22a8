"""Model files are replaced while the daemon runs: good ones are swapped in, bad ones leave the old one serving."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from tests.support import hostile
from tests.support.broker import Broker
from tests.support.daemon import DEADLINE_S, Client, Daemon, balanced, edged, said
from tests.support.models import save, value
from tests.support.pause import pause
from tests.support.scale import scale

TEXT = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in/x"
decode = {{ format = "csv", fields = ["a", "b", "c"] }}
[model.m]
path = "model"
[pipeline.p]
source = "in"
model = "m"
publish = {{ topic = "out/p" }}
"""


def times(path: Path, factor: float) -> Path:
    """y = factor * (x0 + x1 + x2), twice."""
    w = np.full((3, 2), factor, np.float32)
    node = h.make_node("MatMul", ["x", "w"], ["y"])
    return save(path, [node], [value("x", T.FLOAT, ["n", 3])], [value("y", T.FLOAT, ["n", 2])], [nh.from_array(w, "w")])


class Stage:
    def __init__(self, folder: Path, daemon: Daemon, client: Client) -> None:
        self.folder = folder
        self.daemon = daemon
        self.client = client

    def put(self, factor: float) -> None:
        """As `cp` to another name and `mv` do."""
        times(self.folder / "new.onnx", factor).replace(self.folder / "model" / "model.onnx")

    def answer(self) -> tuple[float, str]:
        """What the model that runs makes of 1, 1, 1, and the name of that model."""
        count = len(self.client.of("out/p"))
        self.client.publish("in/x", "1,1,1")
        result = self.client.wait("out/p", count + 1)[count].json
        return result["outputs"]["y"][0], result["model"]

    def events(self, **facts: Any) -> list[Any]:
        found = [m.json for m in self.client.of("edged/t/event") if m.json["event"] == "reload"]
        return [e for e in found if facts.items() <= e.items()]

    def wait_event(self, count: int, **facts: Any) -> Any:
        return self.client.until(lambda: found[-1] if len(found := self.events(**facts)) >= count else None, what=f"{facts}")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "model").mkdir()
    times(tmp_path / "model" / "model.onnx", 1)
    with (
        Broker(tmp_path, "max_queued_messages 0") as broker,
        Client(broker.port) as client,
        Daemon(tmp_path, TEXT.format(port=broker.port)) as daemon,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        yield Stage(tmp_path, daemon, client)
        assert balanced(client.health())


def test_s07_a_model_is_replaced_and_back(stage: Stage) -> None:
    first, name = stage.answer()
    assert first == 3
    stage.put(2)
    assert stage.wait_event(1, ok=True)["changed"] == ["model.m: file or settings"]
    second, other = stage.answer()
    assert (second, other != name) == (6, True)
    begun = time.monotonic()
    code, _, errors = said(edged("model", "rollback", "m", "-c", str(stage.daemon.config)))
    assert (code, errors) == (0, "")
    print(f"rolled back within {time.monotonic() - begun:.2f} s, the start of the command included")
    assert stage.answer() == (3, name)
    # It stays so, also across a restart, until the file changes.
    stage.daemon.stop()
    stage.daemon.start()
    stage.client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
    assert "the version that a rollback left" in stage.daemon.log
    assert stage.answer() == (3, name)
    stage.put(4)
    stage.wait_event(3, ok=True)
    assert stage.answer()[0] == 12
    code, _, errors = said(edged("model", "rollback", "nobody", "-c", str(stage.daemon.config)))
    assert code == 78
    assert "no model 'nobody' runs; there is m" in errors


@pytest.mark.parametrize("name", hostile.ALL)
def test_s07_a_bad_file_leaves_the_old_one_serving(stage: Stage, name: str) -> None:
    before, pid = stage.answer(), stage.daemon.process.pid
    shutil.rmtree(stage.folder / "model")
    hostile.build(name, stage.folder / "model")
    [place] = stage.wait_event(1, ok=False)["errors"]
    error = next(line for line in stage.daemon.log.splitlines() if f"{place}: " in line)
    assert hostile.ALL[name][1] in error.replace('\\"', '"')
    assert stage.answer() == before
    assert stage.daemon.process.pid == pid
    assert stage.daemon.process.poll() is None
    assert len(stage.events(ok=False)) == 1
    shutil.rmtree(stage.folder / "model", ignore_errors=True)
    (stage.folder / "model").mkdir()
    stage.put(5)
    stage.wait_event(1, ok=True)
    assert stage.answer()[0] == 15


@pytest.mark.parametrize("name", ["damaged golden", "only NaN", "unknown operator", "manifest in a pipe", "64 GiB"])
def test_a_start_goes_back_to_the_version_that_ran_before(stage: Stage, name: str) -> None:
    before = stage.answer()
    stage.daemon.stop()
    shutil.rmtree(stage.folder / "model")
    hostile.build(name, stage.folder / "model")
    stage.daemon.start()
    stage.client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
    assert stage.answer() == before
    assert hostile.ALL[name][1] in stage.daemon.log
    assert "edged uses the version that ran before" in stage.daemon.log
    shutil.rmtree(stage.folder / "model")
    (stage.folder / "model").mkdir()
    stage.put(5)
    stage.wait_event(1, ok=True)
    assert stage.answer()[0] == 15


def test_a_start_without_a_version_from_before_says_what_is_wrong(tmp_path: Path) -> None:
    hostile.build("damaged golden", tmp_path / "model")
    (tmp_path / "edged.toml").write_text(TEXT.format(port=1))
    for command in ("run", "check"):
        code, _, errors = said(
            edged(command, "-c", "edged.toml", cwd=tmp_path, environ={"STATE_DIRECTORY": str(tmp_path / "state")})
        )
        assert code == 78
        assert f"edged.toml:13:8: model.m.path: {hostile.ALL['damaged golden'][1]}" in errors
        assert "Traceback" not in errors


def test_s07_a_slow_copy_is_taken_when_it_is_whole(stage: Stage) -> None:
    data = times(stage.folder / "new.onnx", 7).read_bytes()
    target = stage.folder / "model" / "model.onnx"
    third = len(data) // 3
    with target.open("wb") as file:
        for piece in (data[:third], data[third : 2 * third], data[2 * third :]):
            file.write(piece)
            file.flush()
            pause(0.7, "whoever writes the file takes its time")
    stage.wait_event(1, ok=True)
    assert stage.answer()[0] == 21
    assert not stage.events(ok=False)


def test_swaps_under_load(stage: Stage) -> None:
    """Nothing is lost, every result is that of the model it names, and memory is as it was."""
    swaps, sent = scale("swaps"), 0
    factors, memory = dict[str, float](), list[int]()
    for n in range(swaps):
        factor = float(n % 2 + 11)
        stage.put(factor)
        digest = hashlib.sha256((stage.folder / "model" / "model.onnx").read_bytes()).hexdigest()
        factors[f"m@{digest[:8]}"] = factor
        deadline = time.monotonic() + DEADLINE_S
        while len(stage.events(ok=True)) <= n:
            assert time.monotonic() < deadline, stage.daemon.log[-2000:]
            stage.client.publish_all("in/x", [f"{i},0,0" for i in range(sent + 1, sent + 51)])
            sent += 50
            stage.client.wait("out/p", sent)  # a broker that is outrun sends more than was agreed, and is left for that
        memory.append(stage.daemon.resident_kib)
    results = [m.json for m in stage.client.wait("out/p", sent)]
    inputs = [r["outputs"]["y"][0] / factors.get(r["model"], 1.0) for r in results]
    assert inputs == list(range(1, sent + 1))  # each once, in order
    assert [r["seq"] for r in results] == list(range(1, sent + 1))
    assert len({r["model"] for r in results}) == 3
    health = stage.client.health()
    grown = (memory[-1] - memory[min(9, swaps // 2)]) / 1024
    print(f"{swaps} swaps, {sent} inputs, memory {grown:+.1f} MiB, loop lag {health['loop_lag']}")
    assert grown < 5
    assert health["brokers"]["main"]["connects"] == 1


def test_the_answers_are_those_of_the_model_that_is_named(stage: Stage) -> None:
    assert json.loads(stage.client.wait("edged/t/model/m")[0].payload)["sha256"].startswith(stage.answer()[1].split("@")[1])
