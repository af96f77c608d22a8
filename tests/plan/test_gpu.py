from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace
from onnx import TensorProto as T

from edged.model.gpu.gpu import Gpu
from edged.plan.gpu import CONTEXT, WORK
from tests.support.deployments import net
from tests.support.planning import ACCEL, MACHINE, MAIN, MIB, Planned, planned

ORIN = Gpu("Orin", "L4T 36.4 CUDA 12.6", 8192 * MIB, 4096 * MIB, is_shared=True)
CARD = replace(ORIN, name="RTX", is_shared=False)


def plan(folder: Path, gpu: Gpu | None, memory: str = "", *providers: str) -> Planned:
    """A model for each list of providers."""
    text = f"[memory]\n{memory}\n" + MAIN + ACCEL
    for i, given in enumerate(providers or ('"auto"',)):
        net(folder / f"m{i}.onnx", {"x": (T.FLOAT, ["N", 3])}, {"y": ["N", 4]})
        text += f'[model.m{i}]\npath = "m{i}.onnx"\nproviders = {given}\n[pipeline.p{i}]\nsource = "accel"\nmodel = "m{i}"\n'
    return planned(folder, text, replace(MACHINE, gpu=gpu))


def test_each_model_may_take_what_it_needs_and_its_part_of_the_rest(tmp_path: Path) -> None:
    found = plan(tmp_path, CARD, "", '"auto"', '["cpu"]', '["cuda", "cpu"]').whole
    assert found.gpu is not None
    assert (found.gpu.name, found.gpu.budget) == ("RTX", 2048 * MIB)
    assert [line.what for line in found.gpu.lines] == [
        "CUDA and its libraries",
        *(f"model.m{i}: {part}" for i in (0, 2) for part in ("weights", "activations", "arrays")),
    ]
    assert found.gpu.planned_bytes > CONTEXT + 2 * WORK
    limits = [found.models[name].gpu_bytes for name in ("m0", "m1", "m2")]
    assert limits[1] == 0
    assert limits[0] == limits[2] == (2048 * MIB - CONTEXT) // 2
    assert found.gpu.lines[3].how == "31 rows, in batches of 1, 2, 4, 8, 16"


def test_a_budget_that_is_set(tmp_path: Path) -> None:
    assert plan(tmp_path, CARD, 'gpu_budget = "1GiB"').whole.gpu.budget == 1024 * MIB  # type: ignore[union-attr]
    [line] = plan(tmp_path, CARD, 'gpu_budget = "400MiB"').lines
    assert line == (
        "2:14: memory.gpu_budget: the models need 464 MiB of the GPU's memory, the GPU's budget is 400 MiB; "
        'set gpu_budget, or providers = ["cpu"] for some of them'
    )


def test_a_small_gpu_is_said_and_left_to_the_trial(tmp_path: Path) -> None:
    found = plan(tmp_path, replace(CARD, free_bytes=512 * MIB))
    assert "half of what is free on RTX is 256 MiB" in found.lines[0]
    assert found.whole.gpu is not None


def test_a_budget_without_a_gpu_has_no_effect(tmp_path: Path) -> None:
    assert plan(tmp_path, None, 'gpu_budget = "1GiB"').lines == [
        "2:1: memory.gpu_budget: has no effect: there is no GPU here that CUDA knows"
    ]
    only = plan(tmp_path, CARD, 'gpu_budget = "1GiB"', '["cpu"]')
    assert only.lines == ["2:1: memory.gpu_budget: has no effect: no model may use a GPU"]
    assert plan(tmp_path, None).whole.gpu is None


def test_where_both_are_one_memory_they_must_fit_into_it_together(tmp_path: Path) -> None:
    assert plan(tmp_path, ORIN, 'budget = "1GiB"').lines == []
    [line] = plan(tmp_path, ORIN, 'budget = "7GiB"').lines
    assert "budget and gpu_budget are 9216 MiB together, and Orin has 8192 MiB for both" in line
