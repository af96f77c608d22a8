"""An engine is built while something else serves, and promoted between two runs: the daemon's own parts in this process, on a
real broker, with a stand-in for the one thing that takes a GPU: the building."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog
from msgspec.structs import replace

from edged.clock.clock import Clock
from edged.daemon.build import assemble
from edged.daemon.connect import connect
from edged.daemon.lifecycle import Lifecycle
from edged.daemon.prepare import load, prepare
from edged.daemon.relief import Relief
from edged.daemon.reload import Reloader
from edged.errors import EX_CONFIG, EX_OK, Problem
from edged.health.schedule import Health
from edged.model.gpu.ladder import Ladder
from edged.model.onnx import available
from edged.model.records import ModelPlan, ModelRefused
from edged.model.trial.attempt import Trial
from edged.system.notify import Notifier
from tests.support import models
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced, edged, said, until
from tests.support.pause import pause_on_loop

TEXT = """
[device]
id = "t"
state_dir = "state"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in/x"
decode = {{ format = "csv", fields = ["a", "b", "c"] }}
[model.m]
path = "m.onnx"
providers = {providers}
[pipeline.p]
source = "in"
model = "m"
slots = 4096
publish = {{ topic = "out/p" }}
"""


class Stage(NamedTuple):
    client: Client
    lifecycle: Lifecycle
    reloader: Reloader
    serving: asyncio.Task[int]
    ended: asyncio.Event
    fails: list[str]

    async def until(self, what: Callable[[], Any]) -> Any:
        async def look() -> Any:
            while not (found := what()):
                await pause_on_loop(0.01, "between two looks")
            return found

        return await asyncio.wait_for(look(), 20)

    def model(self) -> Any:
        """What the model's topic said last."""
        said = self.client.of("edged/t/model/m")
        return said[-1].json if said else {}

    def results(self) -> list[int]:
        return [m.json["seq"] for m in self.client.of("out/p")]

    async def send(self, count: int) -> None:
        for _ in range(count):
            self.client.publish("in/x", "1,1,1", qos=0)
        await asyncio.sleep(0)


async def on_stage(tmp_path: Path, providers: str, is_held: bool, act: Callable[[Stage], Awaitable[None]]) -> int:
    """Serves until `act` is over; the model that runs is one that waits for an engine."""
    models.linear(tmp_path / "m.onnx")
    with Broker(tmp_path, "max_queued_messages 0") as broker, Client(broker.port) as client, closing(Notifier({})) as notifier:
        (tmp_path / "edged.toml").write_text(TEXT.format(port=broker.port, providers='["cpu"]'))
        prepared = prepare(tmp_path / "edged.toml", copies_models=True)
        plan, loaded = load(prepared)
        one = replace(plan.models["m"], providers=providers)
        prepared = replace(prepared, plan=(plan := replace(plan, models={"m": one})))
        clock, log = Clock(), structlog.get_logger("edged")
        assembly = assemble(plan, loaded, clock, log)
        connect(assembly)
        assembly.amend("m", replace(assembly.reports["m"], builds=True, is_held=is_held))
        ended, fails = asyncio.Event(), list[str]()

        async def build(plan: ModelPlan, ladder: Ladder) -> Trial:
            await ended.wait()
            if fails:
                raise ModelRefused([Problem("model.m.providers", fails[0])])
            return Trial(replace(assembly.reports["m"], p50_us=0.1), 0)

        relief = Relief(assembly)
        health = Health(assembly, relief, clock, "")
        lifecycle = Lifecycle(assembly, health, relief, notifier, clock)
        reloader = Reloader(prepared, lifecycle, clock, log, build=build)
        health.building = reloader.builds.elapsed_s
        serving = asyncio.create_task(lifecycle.serve(reloader.run()))
        stage = Stage(client, lifecycle, reloader, serving, ended, fails)
        try:
            await stage.until(lambda: any(h.json["brokers"]["main"]["state"] == "connected" for h in client.of("edged/t/health")))
            await act(stage)
        finally:
            if not serving.done():
                lifecycle.leave("the test is over", EX_OK)
        code = await serving
        assert balanced(client.of("edged/t/health")[-1].json)
        return code


async def test_s06_what_is_built_is_promoted_and_nothing_is_lost(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.until(lambda: stage.model().get("engine", {}).get("building") == "tensorrt")
        assert stage.model()["engine"]["elapsed_s"] >= 0
        before = stage.lifecycle.assembly.loaded["m"].session
        sent = 0
        while stage.lifecycle.assembly.loaded["m"].session is before:
            await stage.send(20)
            sent += 20
            await stage.until(lambda: len(stage.results()) >= sent - 40)
            stage.ended.set()
        await stage.send(20)
        sent += 20
        await stage.until(lambda: len(stage.results()) >= sent)
        assert stage.results() == list(range(1, sent + 1))
        last = await stage.until(lambda: m if (m := stage.model()) and "engine" not in m else None)
        assert (
            any("TensorRT did not run: this onnxruntime has none" in why for why in last["why"]) or last["provider"] == "tensorrt"
        )
        events = [m.json for m in stage.client.of("edged/t/event") if m.json["event"] == "engine"]
        assert [e["what"] for e in events][-1:] == [f"runs on {last['provider']}"]

    assert await on_stage(tmp_path, "auto", False, act) == EX_OK


async def test_s06_what_cannot_be_built_leaves_what_serves(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        stage.fails.append("no such layer")
        stage.ended.set()
        last = await stage.until(
            lambda: m if "TensorRT did not run: no such layer" in (m := stage.model()).get("why", ()) else None
        )
        assert "engine" not in last
        await stage.send(3)
        await stage.until(lambda: len(stage.results()) == 3)

    assert await on_stage(tmp_path, "auto", False, act) == EX_OK


async def test_a_provider_that_is_required_gives_nothing_until_it_is_there(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.send(3)
        health = await stage.until(lambda: found if (found := held(stage)) else None)
        assert (health["pipelines"]["p"]["state"], health["pipelines"]["p"]["waiting"]) == ("waiting", 3)
        assert "builds its engine" in health["pipelines"]["p"]["reason"]
        assert not stage.results()
        stage.fails.append("no such layer")
        stage.ended.set()
        await stage.serving

    def held(stage: Stage) -> Any:
        said = [m.json for m in stage.client.of("edged/t/health")]
        return next((h for h in said if h["models"]["m"]["state"] == "building" and h["pipelines"]["p"]["waiting"] == 3), None)

    assert await on_stage(tmp_path, ("tensorrt",), True, act) == EX_CONFIG  # type: ignore[arg-type]


@pytest.mark.parametrize("providers", ["auto"])
async def test_an_unfinished_build_does_not_hold_the_stop_up(tmp_path: Path, providers: str) -> None:
    async def act(stage: Stage) -> None:
        await stage.until(lambda: stage.reloader.builds.elapsed_s())

    assert await on_stage(tmp_path, providers, False, act) == EX_OK


DAEMON = TEXT.replace("[health]", '[spool]\nmode = "off"\n[health]').replace('state_dir = "state"\n', "")


@pytest.mark.skipif(available() != ["cpu"], reason="this onnxruntime has more than the CPU")
def test_s05_a_gpu_that_is_required_and_not_there_ends_the_start_with_one_line(tmp_path: Path) -> None:
    models.linear(tmp_path / "m.onnx")
    (tmp_path / "edged.toml").write_text(DAEMON.format(port=1, providers='["tensorrt", "cuda"]'))
    code, out, errors = said(edged("run", "-c", str(tmp_path / "edged.toml"), environ={"STATE_DIRECTORY": str(tmp_path)}))
    assert (code, out) == (EX_CONFIG, "")
    [line] = [text for text in errors.splitlines() if "model.m.providers" in text]
    assert "CUDA is required and did not run: this onnxruntime has none (package onnxruntime-gpu" in line
    assert line.endswith('to allow others: ["tensorrt", "cuda", "cpu"]')


@pytest.mark.skipif(available() != ["cpu"], reason="this onnxruntime has more than the CPU")
def test_s05_a_gpu_that_is_preferred_and_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    models.linear(tmp_path / "m.onnx")
    with Broker(tmp_path) as broker, Client(broker.port) as client:
        text = DAEMON.format(port=broker.port, providers='["tensorrt", "cuda", "cpu"]')
        with Daemon(tmp_path, text) as daemon:
            about = client.wait("edged/t/model/m")[0].json
            health = client.health()
            assert "CUDA did not run: this onnxruntime has none" in daemon.log
    assert (about["requested"], about["provider"]) == (["tensorrt", "cuda", "cpu"], "cpu")
    assert [why.split(":")[0] for why in about["why"][:2]] == ["TensorRT did not run", "CUDA did not run"]
    assert health["models"]["m"]["provider_fallback"] == 1


FAKES = str(Path(__file__).parents[1] / "fakes" / "gpu")
"""An onnxruntime that says it has a GPU; what it does for one is done by the CPU."""


def on_fake_gpu(folder: Path, port: int, build_s: float, providers: str = '["tensorrt", "cuda"]', breaks: str = "") -> Daemon:
    environ = {"PYTHONPATH": FAKES, "CUDA_FAKE_BUILD_S": str(build_s), "CUDA_FAKE_BREAKS": breaks}
    return Daemon(folder, DAEMON.format(port=port, providers=providers), environ=environ)


def about(client: Client, **wanted: Any) -> Any:
    """What the model's topic says, once it says this."""

    def look() -> Any:
        said = client.of("edged/t/model/m")
        return said[-1].json if said and wanted.items() <= said[-1].json.items() else None

    return client.until(look, what=str(wanted))


def ask_for(client: Client, count: int) -> None:
    before = len(client.of("out/p"))
    client.publish_all("in/x", ["1,1,1"] * count)
    client.wait("out/p", before + count)


@pytest.mark.skipif(available() != ["cpu"], reason="there is a real one: see tests/gpu")
def test_s06_the_first_start_serves_while_it_builds_and_the_second_has_the_engine(tmp_path: Path) -> None:
    models.linear(tmp_path / "m.onnx")
    with Broker(tmp_path, "max_queued_messages 0") as broker, Client(broker.port) as client:
        with on_fake_gpu(tmp_path, broker.port, build_s=1.5):
            assert about(client, provider="cuda")["engine"]["building"] == "tensorrt"
            while client.of("edged/t/model/m")[-1].json["provider"] == "cuda":
                ask_for(client, 10)
            ask_for(client, 10)
            final = about(client, provider="tensorrt")
            assert "engine" not in final
            if "nodes" in final:  # older versions of onnxruntime do not tell
                assert final["nodes"] == {"tensorrt": 1}
            health = client.health(
                lambda h: h["pipelines"]["p"]["waiting"] == 0 and h["pipelines"]["p"]["due"] == len(client.of("out/p"))
            )
            assert balanced(health)
            assert health["memory"]["gpu"] == {
                "name": "Fake", "is_shared": False, "budget_mib": 3072, "planned_mib": 464, "used_mib": 2048
            }  # fmt: skip
            seen = [m.json for m in client.of("out/p")]
            assert [m["seq"] for m in seen] == list(range(1, len(seen) + 1))
            assert all(m["outputs"]["y"] == [6, 9] for m in seen)
        client.forget()
        with on_fake_gpu(tmp_path, broker.port, build_s=60):
            assert "engine" not in about(client, provider="tensorrt")
            ask_for(client, 1)


@pytest.mark.skipif(available() != ["cpu"], reason="there is a real one: see tests/gpu")
def test_s06_killed_while_it_builds(tmp_path: Path) -> None:
    models.linear(tmp_path / "m.onnx")
    engines = tmp_path / "state" / "engines"
    with Broker(tmp_path) as broker, Client(broker.port) as client:
        with on_fake_gpu(tmp_path, broker.port, build_s=60) as daemon:
            until(lambda: list(engines.glob("*.new/model.engine")), what="half an engine")
            daemon.kill()
        assert [f.suffix for f in engines.iterdir() if f.is_dir()] == [".new"]
        client.forget()
        with on_fake_gpu(tmp_path, broker.port, build_s=0):
            about(client, provider="tensorrt")
        assert [f.suffix for f in engines.iterdir() if f.is_dir()] == [""]


@pytest.mark.skipif(available() != ["cpu"], reason="there is a real one: see tests/gpu")
def test_s05_a_gpu_that_is_there_and_does_not_run(tmp_path: Path) -> None:
    """As where the libraries have no code for this GPU: all of it loads, and the first run fails."""
    models.linear(tmp_path / "m.onnx")
    with Broker(tmp_path) as broker, Client(broker.port) as client:
        both = "TensorrtExecutionProvider CUDAExecutionProvider"
        with on_fake_gpu(tmp_path, broker.port, 0, '["cuda", "cpu"]', both):
            assert about(client, provider="cpu")["why"][0].startswith("CUDA did not run: CUDA error 209: no kernel image")
