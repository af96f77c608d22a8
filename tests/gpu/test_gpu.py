"""A model on a real GPU: what runs where, that it is right, and what it costs. With `-s` the figures are printed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edged.model.gpu.build import build_engine
from edged.model.gpu.engines import Engines
from edged.model.gpu.ladder import Ladder, ladder_here, pick
from edged.model.load import load_session
from edged.model.manifest import read_manifest
from edged.model.onnx import BoundSession, run_unbound
from edged.model.records import LoadReport, ModelPlan
from edged.model.trial.attempt import attempt_now, limits
from tests.support import models
from tests.support.models import save, value

SIZE = 224
RUNS = 50


def net(path: Path, layers: int = 12, channels: int = 64) -> Path:
    """Convolutions over a picture, then a score for each of ten classes: too much for a CPU, nothing for a GPU."""
    random = np.random.default_rng(1)
    nodes, weights, last = [], [], "x"
    for i in range(layers):
        w = random.normal(0, 0.05, (channels, 3 if i == 0 else channels, 3, 3)).astype(np.float32)
        weights.append(nh.from_array(w, f"w{i}"))
        nodes.append(h.make_node("Conv", [last, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1], strides=[2, 2] if i < 3 else [1, 1]))
        nodes.append(h.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        last = f"r{i}"
    nodes.append(h.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(h.make_node("Flatten", ["pooled"], ["flat"]))
    weights.append(nh.from_array(random.normal(0, 1, (channels, 10)).astype(np.float32), "last"))
    nodes.append(h.make_node("MatMul", ["flat", "last"], ["y"]))
    return save(path, nodes, [value("x", T.FLOAT, ["n", 3, SIZE, SIZE])], [value("y", T.FLOAT, ["n", 10])], weights)


def planned(path: Path, rows: dict[str, tuple[int, ...]], **settings: Any) -> ModelPlan:
    manifest, problems = read_manifest("m", path)
    assert manifest is not None, problems
    return ModelPlan(manifest, rows, **settings)


@pytest.fixture
def large(tmp_path: Path) -> ModelPlan:
    return planned(net(tmp_path / "large.onnx"), {"x": (3, SIZE, SIZE)}, batch_max=8)


@pytest.fixture
def tiny(tmp_path: Path) -> ModelPlan:
    return planned(models.linear(tmp_path / "tiny.onnx"), {"x": (3,)})


@pytest.fixture
def ladder(tmp_path: Path) -> Ladder:
    return ladder_here(Engines(tmp_path / "engines"))


def on(plan: ModelPlan, *rungs: str) -> tuple[BoundSession, LoadReport]:
    return load_session(replace(plan, providers=rungs))


def median_us(run: Callable[[], object]) -> float:
    took = []
    for _ in range(RUNS):
        at = time.perf_counter_ns()
        run()
        took.append(time.perf_counter_ns() - at)
    return sorted(took)[RUNS // 2] / 1e3


@pytest.mark.cuda
def test_s05_what_is_said_to_run_on_the_gpu_does(large: ModelPlan) -> None:
    bound, report = on(large, "cuda")
    assert (report.provider, report.run) == ("cuda", "worker")
    assert bound.session.get_providers()[0] == "CUDAExecutionProvider"
    assert not report.nodes or report.nodes["cuda"] > 0
    trial = attempt_now(replace(large, providers=("cuda",)), limits(large), compares=True)
    assert trial.report.cpu_us > 0


@pytest.mark.cuda
def test_every_run_sees_its_rows(tiny: ModelPlan) -> None:
    """A value of the host that is bound once to an input on the GPU gives the first answer forever."""
    bound, _ = on(tiny, "cuda")
    rows = np.arange(48, dtype=np.float32).reshape(16, 3)
    right = rows @ np.array([[1, 2], [2, 3], [3, 4]], np.float32)
    for count in (16, 1, 3, 8, 16, 2, 1):
        bound.inputs["x"][:count] = rows[-count:]
        np.testing.assert_allclose(bound.run(count)["y"], right[-count:], rtol=1e-2)


@pytest.mark.cuda
def test_a_recorded_run_sees_its_rows(tiny: ModelPlan) -> None:
    bound, _ = on(replace(tiny, provider_options={"cuda": {"enable_cuda_graph": True}}), "cuda")
    assert bound.place is not None
    assert bound.place.has_graph
    for scale in (1, 2, 3, 4):
        for count in (1, 4):
            bound.inputs["x"][:count] = scale
            np.testing.assert_allclose(bound.run(count)["y"], np.tile([6 * scale, 9 * scale], (count, 1)), rtol=1e-2)


@pytest.mark.cuda
def test_the_memory_is_bounded_and_options_are_taken(large: ModelPlan) -> None:
    bound, _ = on(replace(large, gpu_bytes=1 << 30), "cuda")
    options = bound.session.get_provider_options()["CUDAExecutionProvider"]
    assert options["gpu_mem_limit"] == str(1 << 30)
    assert options["arena_extend_strategy"] == "kSameAsRequested"
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"


@pytest.mark.cuda
def test_the_faster_one_is_taken(large: ModelPlan, tiny: ModelPlan, ladder: Ladder) -> None:
    assert ladder.choose(large).rungs[0] in ("cuda", "tensorrt")
    choice = ladder.choose(tiny)
    assert choice.rungs == ("cpu",)
    assert choice.reasons[0].startswith("CUDA ran, and the CPU is fast")
    found = ladder.found.gpu
    assert found is not None
    assert found.free_bytes > 0


@pytest.mark.cuda
def test_what_it_costs(large: ModelPlan) -> None:
    """Throughput through our arrays is at least nine tenths of that of the bare session in this process."""
    cpu, gpu = on(large, "cpu")[0], on(large, "cuda")[0]
    for count in (1, 2, 4, 8):
        times = [median_us(partial(session.run, count)) for session in (cpu, gpu)]
        print(f"{count} rows: CPU {times[0]:.0f} us, CUDA {times[1]:.0f} us")
    rows = gpu.inputs["x"].copy()
    bare = median_us(lambda: run_unbound(gpu.session, ["y"], {"x": rows}))
    ours = median_us(lambda: gpu.run(8))
    print(f"8 rows: bare {bare:.0f} us, bound {ours:.0f} us")
    assert ours <= bare / 0.9


@pytest.mark.tensorrt
async def test_s06_an_engine_is_built_once(large: ModelPlan, ladder: Ladder) -> None:
    asked = replace(large, providers=("tensorrt", "cuda"), provider_options={"tensorrt": {"trt_fp16_enable": True}})
    before = pick({"m": asked}, ladder)["m"].choice
    assert (before.rungs, before.builds) == (("cuda",), True)
    await build_engine(asked, ladder)
    picked = pick({"m": asked}, ladder)["m"]
    assert (picked.choice.rungs[0], picked.choice.builds) == ("tensorrt", False)
    started = time.monotonic()
    bound, report = load_session(asked, choice=picked.choice, engine=picked.engine)
    print(f"with its engine loaded in {time.monotonic() - started:.1f} s, {report.p50_us:.0f} us for {report.batch_max} rows")
    assert report.provider == "tensorrt"
    assert time.monotonic() - started < 5 + report.batch_max
    for count in (1, 8, 3):
        assert bound.run(count)["y"].shape == (count, 10)
