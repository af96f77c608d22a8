"""Probes of a GPU are stand-ins; what decides is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from edged.errors import Problem
from edged.model.gpu.engines import Engines
from edged.model.gpu.gpu import Found, Gpu
from edged.model.gpu.ladder import Ladder, ladder_here, pick
from edged.model.load import load_session
from edged.model.manifest import read_manifest
from edged.model.onnx import available
from edged.model.records import ModelPlan, ModelRefused
from edged.model.trial.attempt import Trial
from edged.model.trial.notes import Trials
from tests.support import models

GPU = Gpu("Orin", "L4T 36.4 CUDA 12.6", 8 << 30, 4 << 30, True, "100300")


class Bench:
    """Tries models on a GPU that is not there: what each rung takes for a run in us, or why it does not run."""

    def __init__(self, cpu_us: float, **rungs: float | str) -> None:
        self.cpu_us = cpu_us
        self.rungs = rungs
        self.engines: list[str] = []

    def __call__(self, plan: ModelPlan, engine: str) -> Trial:
        (rung,) = tuple(plan.providers or ())
        found = self.rungs[rung]
        self.engines.append(engine)
        if isinstance(found, str):
            raise ModelRefused([Problem("model.m.providers", found)])
        _, report = load_session(replace(plan, providers=("cpu",)))
        return Trial(replace(report, provider=rung, p50_us=found, cpu_us=self.cpu_us), 0)


@pytest.fixture
def plan(tmp_path: Path) -> ModelPlan:
    manifest, _ = read_manifest("m", models.linear(tmp_path / "m.onnx"))
    assert manifest is not None
    return ModelPlan(manifest, {"x": (3,)})


def ladder(tmp_path: Path, bench: Bench, found: Found | None = None) -> Ladder:
    return Ladder(found or Found(GPU), Engines(tmp_path / "engines"), ("tensorrt", "cuda", "cpu"), bench)


def test_the_fastest_is_taken(tmp_path: Path, plan: ModelPlan) -> None:
    assert ladder(tmp_path / "1", Bench(9000, cuda=500.0)).choose(plan).rungs == ("cuda", "cpu")
    assert ladder(tmp_path / "2", Bench(300, cuda=500.0)).choose(plan).rungs == ("cpu",)
    broken = ladder(tmp_path / "3", Bench(9000, cuda="no kernel image"))
    assert broken.choose(plan).reasons[0] == "CUDA did not run: no kernel image"


def test_an_engine_that_is_not_there_is_to_be_built_and_one_that_is_there_is_tried(tmp_path: Path, plan: ModelPlan) -> None:
    bench = Bench(9000, cuda=500.0, tensorrt=100.0)
    steps = ladder(tmp_path, bench)
    before = pick({"m": plan}, steps)["m"]
    assert (before.choice.rungs, before.choice.builds, before.engine) == (("cuda", "cpu"), True, "")
    folder = steps.engines.keep(steps.engines.begin(steps.engine_id(plan), 0))
    after = pick({"m": plan}, steps)["m"]
    assert (after.choice.rungs[0], after.choice.builds, after.engine) == ("tensorrt", False, str(folder))
    assert bench.engines[-1] == str(folder)
    assert pick({"m": replace(plan, batch_max=4)}, steps)["m"].choice.builds


def test_what_was_tried_once_is_not_tried_again_until_it_is_in_doubt(tmp_path: Path, plan: ModelPlan) -> None:
    first, later = Bench(9000, cuda=500.0, tensorrt="no"), Bench(9000, cuda="it changed", tensorrt="no")
    pick({"m": plan}, ladder(tmp_path, first))
    picked = pick({"m": plan}, ladder(tmp_path, later))["m"]
    assert picked.choice.rungs[0] == "cuda"
    assert later.engines == []
    assert picked.note is not None
    picked.note.doubt()  # the daemon loads it, and is no more
    assert ladder(tmp_path, later).choose(plan).rungs == ("cpu",)
    other = replace(plan, provider_options={"cuda": {"use_tf32": False}})
    assert ladder(tmp_path, first).choose(other).rungs[0] == "cuda"


def test_what_failed_is_tried_again(tmp_path: Path, plan: ModelPlan) -> None:
    assert ladder(tmp_path, Bench(9000, cuda="no", tensorrt="no")).choose(plan).rungs == ("cpu",)
    assert ladder(tmp_path, Bench(9000, cuda=500.0, tensorrt="no")).choose(plan).rungs[0] == "cuda"


def test_what_does_not_load_is_not_tried(tmp_path: Path, plan: ModelPlan) -> None:
    bench = Bench(9000, cuda=500.0)
    broken = Found(None, {"tensorrt": "libnvinfer.so.10: gone", "cuda": "libcublas.so.13: gone"})
    choice = ladder(tmp_path, bench, broken).choose(replace(plan, providers=("tensorrt", "cuda", "cpu")))
    assert choice.rungs == ("cpu",)
    assert choice.reasons == ("TensorRT did not run: libnvinfer.so.10: gone", "CUDA did not run: libcublas.so.13: gone")
    assert bench.engines == []


@pytest.mark.skipif(available() != ["cpu"], reason="this onnxruntime has more than the CPU")
def test_s05_the_package_for_the_cpu_alone_cannot_be_taken_for_a_gpu(tmp_path: Path, plan: ModelPlan) -> None:
    steps = ladder_here(Engines(tmp_path / "engines"))
    [reason] = steps.choose(plan).reasons
    assert reason.startswith("no GPU was tried: this onnxruntime is built for the CPU alone")
    required = replace(plan, providers=("cuda",))
    with pytest.raises(ModelRefused) as caught:
        load_session(required, choice=steps.choose(required))
    [problem] = caught.value.problems
    assert problem.path == "model.m.providers"
    assert problem.text.startswith("CUDA is required and did not run: this onnxruntime has none (package onnxruntime-gpu")
    assert problem.text.endswith('; to allow others: ["cuda", "cpu"]')
    preferred = replace(plan, providers=("tensorrt", "cuda", "cpu"))
    _, report = load_session(preferred, choice=steps.choose(preferred))
    assert report.provider == "cpu"
    assert [r.split(":")[0] for r in report.reasons[:2]] == ["TensorRT did not run", "CUDA did not run"]


def test_what_fails_here_after_all_goes_down_the_ladder(tmp_path: Path, plan: ModelPlan) -> None:
    """As where memory ran out since it was tried; here no GPU ever was."""
    choice = ladder(tmp_path, Bench(9000, cuda=500.0, tensorrt="no")).choose(plan)
    _, report = load_session(plan, choice=choice)
    assert report.provider == "cpu"
    assert any(r.startswith("CUDA did not run: this onnxruntime has none") for r in report.reasons)


def test_a_place_that_the_cpu_cannot_keep(tmp_path: Path, plan: ModelPlan) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\0")
    broken = replace(plan, providers=("tensorrt",), manifest=replace(plan.manifest, path=tmp_path / "broken.onnx"))
    with pytest.raises(
        ModelRefused, match=r"TensorRT has no engine yet, and the CPU cannot keep its place .* edged model prepare m"
    ):
        load_session(broken, choice=ladder(tmp_path, Bench(9000)).choose(broken))


def test_the_place_of_a_required_engine_is_kept(tmp_path: Path, plan: ModelPlan) -> None:
    required = replace(plan, providers=("tensorrt",))
    choice = ladder(tmp_path, Bench(9000)).choose(required)
    _, report = load_session(required, choice=choice)
    assert (report.provider, report.is_held, report.builds, report.reasons) == ("cpu", True, True, ())


def test_other_hardware_takes_the_same_trial_and_what_came_of_it_is_noted(tmp_path: Path, plan: ModelPlan) -> None:
    asked = replace(plan, providers=("openvino", "cpu"))
    bench = Bench(900, openvino=50.0)
    steps = Ladder(Found(), Engines(tmp_path / "engines"), ("cpu", "openvino"), bench, Trials((tmp_path / "trials",)))
    for _ in range(2):
        assert steps.choose(asked).rungs == ("openvino", "cpu")
    assert len(bench.engines) == 1
    assert steps.choose(replace(plan, providers="auto")).rungs == ("cpu",)  # nobody named it


def test_other_hardware_that_is_not_there_is_a_reason(tmp_path: Path, plan: ModelPlan) -> None:
    asked = replace(plan, providers=("qnn", "openvino", "cpu"))
    bench = Bench(900, openvino="its answers are not the CPU's")
    steps = Ladder(Found(), Engines(tmp_path / "engines"), ("cpu", "openvino"), bench, Trials((tmp_path / "trials",)))
    choice = steps.choose(asked)
    assert choice.rungs == ("cpu",)
    assert choice.reasons == (
        "QNN did not run: this onnxruntime has none (package onnxruntime-qnn, in the place of onnxruntime)",
        "OpenVINO did not run: its answers are not the CPU's",
    )
