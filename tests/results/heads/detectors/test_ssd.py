from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edged.model.load import load_session
from edged.results.heads.detect import DetectPlan
from edged.results.heads.detectors.ssd import Chosen, Ssd
from tests.support.models import save, value
from tests.support.planning import MAIN, planned

BOXES = np.array([[10, 20, 30, 40], [1, 2, 3, 4], [5, 6, 7, 8]], np.float32)


def test_torchvision() -> None:
    row: dict[str, Any] = {"boxes": BOXES, "scores": np.array([0.9, 0.2, 0.8], np.float32), "labels": np.array([3, 1, 17])}
    found = Chosen(("boxes", "scores", "labels"), picture=(200, 100)).candidates(row, 0.5)
    assert (found.boxes.tolist(), found.classes.tolist()) == ([[10, 20, 30, 40], [5, 6, 7, 8]], [3, 17])


def test_tensorflow_begins_with_the_top_and_counts_from_one() -> None:
    row: dict[str, Any] = {
        "b": BOXES / 100,
        "s": np.array([0.9, 0.8, 0.7], np.float32),
        "c": np.array([3.0, 1, 17]),
        "n": np.array([2.0]),
    }
    found = Chosen(("b", "s", "c", "n"), picture=(200, 100), begins_with_top=True, first=1).candidates(row, 0.5)
    assert np.allclose(found.boxes, [[40, 10, 80, 30], [4, 1, 8, 3]])
    assert found.classes.tolist() == [2, 0]  # the third is padding


def test_candidates_with_a_background() -> None:
    row: dict[str, Any] = {"b": BOXES / 100, "s": np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)}
    found = Ssd(("b", "s"), 1, picture=(100, 100), has_background=True).candidates(row, 0.5)
    assert np.allclose(found.boxes, [[1, 2, 3, 4]])
    assert found.classes.tolist() == [0]


CONFIG = """
[source.cam]
type = "mqtt"
topic = "cam"
qos = 0
decode = { format = "image" }
[model.m]
path = "m.onnx"
[pipeline.p]
source = "cam"
preprocess = [{ step = "resize", size = [32, 24] }, { step = "normalize", min = 0, max = 255 }]
model = "m"
output = "detect"
"""


@pytest.mark.parametrize("batch", [[], [1]])
def test_as_torchvision_exports_it(tmp_path: Path, batch: list[int]) -> None:
    """No axis counts rows in what comes out, and how many boxes there are depends on the picture: one for each bright pixel."""
    squeeze = [h.make_node("Squeeze", ["image", "first"], ["one"])] if batch else [h.make_node("Identity", ["image"], ["one"])]
    nodes = [
        *squeeze,
        h.make_node("Greater", ["one", "half"], ["bright"]),
        h.make_node("NonZero", ["bright"], ["places"]),
        h.make_node("Cast", ["places"], ["at"], to=T.FLOAT),
        h.make_node("Gather", ["at", "xyxy"], ["corners"]),
        h.make_node("Add", ["corners", "size"], ["sides"]),
        h.make_node("Transpose", ["sides"], ["boxes"]),
        h.make_node("Gather", ["places", "zero"], ["labels"]),
        h.make_node("Gather", ["at", "zero"], ["colours"]),
        h.make_node("Mul", ["colours", "none"], ["nothing"]),
        h.make_node("Add", ["nothing", "score"], ["scores"]),
    ]
    constants = {
        "first": np.array([0], np.int64),
        "half": np.float32(0.5),
        "xyxy": np.array([2, 1, 2, 1], np.int64),
        "size": np.array([[0], [0], [4], [5]], np.float32),
        "zero": np.int64(0),
        "none": np.float32(0),
        "score": np.float32(0.75),
    }
    outs = [value("boxes", T.FLOAT, ["num", 4]), value("labels", T.INT64, ["num"]), value("scores", T.FLOAT, ["num"])]
    weights = [nh.from_array(np.asarray(x), n) for n, x in constants.items()]
    save(tmp_path / "m.onnx", nodes, [value("image", T.FLOAT, [*batch, 3, "height", "width"])], outs, weights)
    found = planned(tmp_path, MAIN + CONFIG).whole
    bound, report = load_session(replace(found.models["m"], providers=("cpu",)))
    assert report.batch_max == 1
    plan = found.pipelines["p"].output
    assert isinstance(plan, DetectPlan)
    for bright in ([], [(0, 3, 7)], [(1, 2, 9), (2, 10, 20)]):
        bound.inputs["image"][:] = 0
        for colour, y, x in bright:
            bound.inputs["image"][0, colour, y, x] = 1
        [body] = plan.make_head().results(bound.run(1), {}, [0])
        assert body is not None
        expected = [{"label": str(c), "score": 0.75, "box": [x, y, x + 4, y + 5]} for c, y, x in bright]
        assert body == {"detections": expected, "count": len(bright), "score": 0.75 if bright else 0.0}
