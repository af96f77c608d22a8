from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from edged.model.gpu.engines import MODEL_DIGITS, Engines, NoRoom, engine_id
from edged.model.gpu.gpu import Gpu
from edged.model.manifest import read_manifest
from edged.model.records import ModelPlan
from tests.support import models

GPU = Gpu("Orin", "L4T 36.4 CUDA 12.6", 8 << 30, 4 << 30, True, "100300")
SHAPES: dict[str, tuple[int, ...]] = {"x": (-1, 3)}
BUCKETS = (1, 2, 4, 8, 16)


@pytest.fixture
def plan(tmp_path: Path) -> ModelPlan:
    manifest, _ = read_manifest("m", models.linear(tmp_path / "m.onnx"))
    assert manifest is not None
    return ModelPlan(manifest, {"x": (3,)})


def test_an_engine_is_for_one_model_its_options_shapes_versions_and_gpu(plan: ModelPlan) -> None:
    first = engine_id(plan, SHAPES, BUCKETS, GPU, "1.31")
    assert first.startswith(plan.manifest.sha256[:MODEL_DIGITS])
    others = {
        engine_id(replace(plan, provider_options={"tensorrt": {"trt_fp16_enable": True}}), SHAPES, BUCKETS, GPU, "1.31"),
        engine_id(plan, {"x": (-1, 4)}, BUCKETS, GPU, "1.31"),
        engine_id(plan, SHAPES, (1, 2, 4, 8), GPU, "1.31"),
        engine_id(plan, SHAPES, BUCKETS, GPU, "1.32"),
        engine_id(plan, SHAPES, BUCKETS, replace(GPU, name="x"), "1.31"),
        engine_id(plan, SHAPES, BUCKETS, replace(GPU, driver="x"), "1.31"),
        engine_id(plan, SHAPES, BUCKETS, replace(GPU, tensorrt="x"), "1.31"),
    }
    assert len(others | {first}) == 8
    assert engine_id(replace(plan, gpu_bytes=5), SHAPES, BUCKETS, replace(GPU, free_bytes=1), "1.31") == first


def test_one_is_there_when_it_is_whole(tmp_path: Path) -> None:
    engines = Engines(tmp_path / "engines")
    assert engines.find("m-1") is None
    new = engines.begin("m-1", 100)
    (new / "a.engine").write_bytes(b"half")
    assert engines.find("m-1") is None
    folder = engines.keep(new)
    assert engines.find("m-1") == folder
    assert (folder / "a.engine").read_bytes() == b"half"
    assert not new.exists()
    engines.drop(engines.begin("m-1", 100))
    assert engines.find("m-1") == folder


def test_without_room_none_is_begun(tmp_path: Path) -> None:
    with pytest.raises(NoRoom, match=r"no room for an engine in .*: it needs \d+ MiB, \d+ MiB are free"):
        Engines(tmp_path).begin("m-1", 1 << 60)


def test_what_is_swept(tmp_path: Path, dead: Callable[[], int]) -> None:
    engines = Engines(tmp_path / "engines")
    engines.sweep(())
    model, other = "a" * MODEL_DIGITS, "b" * MODEL_DIGITS
    names = (f"{other}-1", f"{'c' * MODEL_DIGITS}-1", f"{other}-2", f"{model}-1", f"{model}-2", f"{model}-3")
    for age, name in enumerate(names):
        folder = engines.keep(engines.begin(name, 0))
        os.utime(folder, ns=(age, age))
    notes = [f"{model}-2.cuda.json", "gpu.json"]
    for note in (*notes, f"{other}-2.cuda.json"):
        (tmp_path / "engines" / note).write_text("{}")
    mine = engines.begin(f"{other}-9", 0)
    (tmp_path / "engines" / f"{other}-8.{dead()}.new").mkdir()
    engines.sweep({model + "more"})
    assert {f.name for f in (tmp_path / "engines").iterdir()} == {*names[1:3], *names[4:], mine.name, *notes}


@pytest.fixture
def dead() -> Callable[[], int]:
    """The number of a process that has ended."""

    def number() -> int:
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        return pid

    return number
