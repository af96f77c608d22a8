"""What the metadata of a model stand in for."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto as T

from edged.decode.resize import View
from tests.support.deployments import net
from tests.support.planning import MAIN, Planned, planned

CAMERA = '[source.cam]\ntype = "mqtt"\ntopic = "cam"\nqos = 0\ndecode = { format = "image" }\n'
PIPELINE = '[model.m]\npath = "m.onnx"\n[pipeline.p]\nsource = "cam"\nmodel = "m"\n'


def plan(folder: Path, task: str = "detect", more: str = "") -> Planned:
    metadata = {
        "author": "Ultralytics",
        "task": task,
        "imgsz": "[48, 64]",
        "stride": "16",
        "names": "{0: 'cat', 1: 'dog', 2: 'cow'}",
    }
    outputs: dict[str, list[int | str | None]] = {"output0": ["N", 7, 63]} if task == "detect" else {"output0": ["N", 3]}
    net(folder / "m.onnx", {"images": (T.FLOAT, ["N", 3, "h", "w"])}, outputs, metadata)
    return planned(folder, MAIN + CAMERA + PIPELINE + more)


def test_the_task_is_the_output_and_the_size_that_of_pictures(tmp_path: Path) -> None:
    p = plan(tmp_path).whole.pipelines["p"]
    assert (p.output.type, p.output.labels, p.view) == ("detect", ("cat", "dog", "cow"), View((64, 48), "letterbox", "rgb"))
    p = plan(tmp_path, "classify").whole.pipelines["p"]
    assert (p.output.type, p.view) == ("classify", View((64, 48), "crop", "rgb"))


def test_what_is_said_wins(tmp_path: Path) -> None:
    p = plan(
        tmp_path, more='output = "raw"\npreprocess = { step = "resize", size = [32, 32], fit = "stretch" }\n'
    ).whole.pipelines["p"]
    assert (p.output.type, p.view) == ("raw", View((32, 32), "stretch", "rgb"))
