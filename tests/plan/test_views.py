from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto as T

from edged.decode.resize import View
from edged.plan.memory import memory_table
from edged.plan.records import PipelinePlan
from tests.support.deployments import net
from tests.support.planning import MACHINE, MAIN, MIB, Planned, planned

CAMERAS = """
[source.cameras]
type = "mqtt"
topic = "cam/{camera}"
qos = 0
max_keys = 4
rate = 1
decode = { format = "image", max_pixels = 1000000 }
"""
PIPELINE = """
[model.m]
path = "m"
[pipeline.p]
source = "cameras"
model = "m"
"""
RESIZE = 'preprocess = { step = "resize", size = [64, 48] }\n'


def model(
    folder: Path, axes: list[int | str], kind: int = T.FLOAT, toml: str = "", outputs: dict[str, Any] | None = None, **more: str
) -> None:
    net(folder / "m" / "model.onnx", {"x": (kind, axes)}, outputs or {"score": ["N", 1]}, more or {"author": "Ultralytics"})
    (folder / "m" / "model.toml").write_text(toml)


def plan(folder: Path, text: str = RESIZE) -> Planned:
    return planned(folder, MAIN + CAMERAS + PIPELINE + text)


def pipeline(folder: Path, text: str = RESIZE) -> PipelinePlan:
    return plan(folder, text).whole.pipelines["p"]


@pytest.mark.parametrize(
    ("axes", "shape", "layout", "color"),
    [
        (["N", 3, 48, 64], (3, 48, 64), "chw", "rgb"),
        (["N", 48, 64, 3], (48, 64, 3), "hwc", "rgb"),
        (["N", 3, "h", "w"], (3, 48, 64), "chw", "rgb"),
        (["N", "h", "w", 3], (48, 64, 3), "hwc", "rgb"),
        (["N", 1, 48, 64], (1, 48, 64), "hwc", "gray"),
        (["N", 48, 64], (48, 64), "hwc", "gray"),
        ([1, 3, 48, 64], (3, 48, 64), "chw", "rgb"),
        ([3, 48, 64], (3, 48, 64), "chw", "rgb"),
    ],
)
def test_the_order_that_fits(tmp_path: Path, axes: list[int | str], shape: tuple[int, ...], layout: str, color: str) -> None:
    model(tmp_path, axes)
    p = pipeline(tmp_path)
    [i] = p.inputs
    assert (i.shape, i.layout, i.picture_size) == (shape, layout, (64, 48))
    assert p.view == View((64, 48), "letterbox", color)
    assert p.dtype == "uint8"
    assert p.columns == (0, p.view.nbytes)
    assert [s.step for s in p.steps] == ["normalize"]


def test_windows_of_pictures(tmp_path: Path) -> None:
    model(tmp_path, ["N", 2, 3, 48, 64])
    text = RESIZE + "window = { size = 4, hop = 1 }\n"
    p = pipeline(tmp_path, text + "inputs = { x = { size = 2 } }\n")
    assert (p.inputs[0].shape, p.inputs[0].layout, p.inputs[0].rows) == ((2, 3, 48, 64), "chw", 2)
    [problem] = [p for p in plan(tmp_path, text).problems if not p.is_warning]
    assert "x: float32[N,2,3,48,64]; it gets 4 pictures of 64 x 48 pixels, 3 colors" in problem.text


def test_open_axes_do_not_tell_the_order(tmp_path: Path) -> None:
    model(tmp_path, ["N", "a", "b", "c"])
    [problem] = [p for p in plan(tmp_path).problems if not p.is_warning]
    assert 'with colors first or last; say which: inputs = { x = { layout = "chw" } }' in problem.text
    assert pipeline(tmp_path, RESIZE + 'inputs = { x = { layout = "chw" } }\n').inputs[0].shape == (3, 48, 64)
    model(tmp_path, ["N", "a", "b", "c"], toml='[inputs.x]\nlayout = "hwc"\n')
    assert pipeline(tmp_path).inputs[0].shape == (48, 64, 3)


def test_bytes_go_in_as_they_are_and_floats_are_scaled(tmp_path: Path) -> None:
    model(tmp_path, ["N", 3, 48, 64], T.UINT8)
    planned_bytes = plan(tmp_path)
    assert planned_bytes.whole.pipelines["p"].steps == ()
    assert planned_bytes.problems == []
    model(tmp_path, ["N", 3, 48, 64], author="somebody")
    [problem] = plan(tmp_path).problems
    assert problem.text == (
        "nothing says how model.m wants colors in x: float32[N,3,48,64]; choose "
        'preprocess = [{ step = "resize", size = [64, 48] }, { step = "normalize", min = 0, max = 255 }] for 0 to 1, or '
        'preprocess = [{ step = "resize", size = [64, 48] }, { step = "normalize", mean = 0, std = 1 }] for 0 to 255 '
        "(in model.toml: [normalize], with the same keys)"
    )
    for text in ("min = 0, max = 255", "mean = 0, std = 1"):
        chosen = f'preprocess = [{{ step = "resize", size = [64, 48] }}, {{ step = "normalize", {text} }}]\n'
        assert plan(tmp_path, chosen).problems == []
    model(tmp_path, ["N", 3, 48, 64], T.INT8)
    assert '{ step = "normalize", mean = 128, std = 1 }] for -128 to 127' in plan(tmp_path).problems[0].text
    for toml in ("[normalize]\nmin = 0\nmax = 255\n", "[normalize]\nmean = [123, 116, 103]\nstd = [58, 57, 57]\n"):
        model(tmp_path, ["N", 3, 48, 64], toml=toml, author="somebody")
        assert plan(tmp_path).problems == []
    [step] = pipeline(tmp_path).steps
    assert (step.mean, step.std) == ((123, 116, 103), (58, 57, 57))
    model(tmp_path, ["N", 3, 48, 64], author="Ultralytics")
    assert plan(tmp_path).problems == []
    [step] = pipeline(tmp_path).steps
    assert (step.min, step.max) == ((0,), (255,))


def test_the_model_says_its_colours_and_the_configuration_wins(tmp_path: Path) -> None:
    model(tmp_path, ["N", 3, 48, 64], toml='[inputs.x]\ncolor = "bgr"\n')
    view = pipeline(tmp_path).view
    assert view is not None
    assert view.color == "bgr"
    text = (MAIN + CAMERAS + PIPELINE + RESIZE).replace("max_pixels", 'color = "rgb", max_pixels')
    found = planned(tmp_path, text)
    view = found.whole.pipelines["p"].view
    assert view is not None
    assert view.color == "rgb"
    assert any('decode.color wins over model.toml, which says "bgr"' in p.text for p in found.problems)


def test_each_view_is_made_once(tmp_path: Path) -> None:
    model(tmp_path, ["N", 3, 48, 64], T.UINT8)
    more = "".join(
        f'[pipeline.{name}]\nsource = "cameras"\nmodel = "m"\n'
        f'preprocess = {{ step = "resize", size = [64, 48], fit = "{fit}" }}\n'
        for name, fit in (("m2", "letterbox"), ("m3", "crop"))
    )
    found = plan(tmp_path, RESIZE + more).whole
    decode = found.sources["cameras"].decode
    assert decode is not None
    assert [v.fit for v in decode.views] == ["letterbox", "crop"]
    size = 64 * 48 * 3
    assert [p.columns for p in found.pipelines.values()] == [(0, size), (0, size), (size, 2 * size)]
    assert (decode.width, found.sources["cameras"].dtype, decode.max_bytes) == (2 * size, "uint8", 4 * MIB)


def test_the_plan_counts_a_picture_and_what_waits(tmp_path: Path) -> None:
    model(tmp_path, ["N", 3, 48, 64], T.UINT8)
    found = plan(tmp_path).whole
    lines = {line.what: line for line in memory_table(MACHINE, found.links, found.sources, found.models, found.pipelines)}
    assert lines["source.cameras: read and decode"].bytes > 4 * 4 * MIB + 10 * 1000000
    assert lines["Pillow"].bytes > 0
    slots = found.pipelines["p"].slots
    assert lines["pipeline.p: slots"].bytes == slots * (64 * 48 * 3 + 200)
    at_qos_1 = planned(tmp_path, (MAIN + "receive_maximum = 8\n" + CAMERAS + PIPELINE + RESIZE).replace("qos = 0\n", "")).whole
    assert next(line for line in at_qos_1.memory if "unacknowledged" in line.what).bytes > 8 * 4 * MIB


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 'begin with preprocess = { step = "resize", size = [64, 48] }'),
        ('preprocess = ["detrend"]\n', "pictures come in any size, and the model takes one"),
        ('preprocess = [{ step = "resize", size = [64, 48] }, { step = "resize", size = [8, 8] }]\n', "resized once"),
        (RESIZE + "align = { rate = 1 }\n", "has no effect on pictures"),
        (RESIZE + 'inputs = { x = { layout = "time,field" } }\n', 'expected "hwc" or "chw"'),
        ('preprocess = { step = "resize", size = [32, 32] }\n', "gets a picture of 32 x 32 pixels, 3 colors; resize them"),
        (RESIZE + "preprocess2 = 1\n", "unknown key"),
    ],
)
def test_what_is_wrong_with_a_pipeline_of_pictures(tmp_path: Path, text: str, words: str) -> None:
    model(tmp_path, ["N", 3, 48, 64])
    assert any(words in line for line in plan(tmp_path, text).lines)


def test_pictures_are_not_joined_nor_results_by_themselves(tmp_path: Path) -> None:
    model(tmp_path, ["N", 3, 48, 64])
    other = '[source.door]\ntype = "mqtt"\ntopic = "door"\ndecode = { format = "json", fields = ["v"] }\n'
    text = MAIN + other + CAMERAS + PIPELINE.replace('"cameras"\n', '["cameras", "door"]\n') + RESIZE
    assert any(
        "the pictures of source.cameras cannot be joined with other streams" in line for line in planned(tmp_path, text).lines
    )
    text = MAIN + CAMERAS + '[pipeline.p]\nsource = "cameras"\n' + RESIZE
    assert any("are no result by themselves: give a model" in line for line in planned(tmp_path, text).lines)
    text = MAIN + other + '[pipeline.p]\nsource = "door"\n' + RESIZE
    assert any("is for pictures" in line for line in planned(tmp_path, text).lines)


DETECT = RESIZE + 'output = { type = "detect" }\n'


@pytest.mark.parametrize(
    ("axes", "toml", "head"),
    [
        (["N", 7, 63], "", "yolov8"),
        (["N", 189, 8], "", "yolov5"),
        (["N", 20, 6], "", "end-to-end"),
        (["N", 20, 6], '[detect]\nhead = "yolov5"\n', "yolov5"),
        (["N", 7, 63], 'labels = ["a", "b", "c"]\n', "yolov8"),
        (["N", 20, 6], 'labels = ["a", "b", "c"]\n', "end-to-end"),
        (["N", 20, 6], '[detect]\nhead = "nms"\n', "end-to-end"),
    ],
)
def test_the_head_that_fits(tmp_path: Path, axes: list[int | str], toml: str, head: str) -> None:
    model(tmp_path, ["N", 3, 48, 64], T.UINT8, toml, {"boxes": axes})
    output: Any = pipeline(tmp_path, DETECT).output
    assert (output.head, output.picture, output.tensors) == (head, (64, 48), ("boxes",))
    assert output.view == pipeline(tmp_path, DETECT).view


@pytest.mark.parametrize(
    ("axes", "toml", "words"),
    [
        (
            ["N", 7, 63],
            'labels = ["a", "b"]\n',
            "expected boxes of 2 labels as [N,6,boxes], [N,boxes,7], with NMS",
        ),
        (["N", 4], "", "expected boxes as [N,4 + classes,boxes]"),
        (["N", "boxes", 6], "", 'which may be yolov5 or end-to-end; say which: output = { type = "detect", head = "yolov5" }'),
        (["N", 7, 63], 'labels = ["a", "b"]\n[detect]\nhead = "yolov8"\n', "2 labels (a, b) for 3 classes"),
    ],
)
def test_heads_that_do_not_fit(tmp_path: Path, axes: list[int | str], toml: str, words: str) -> None:
    model(tmp_path, ["N", 3, 48, 64], T.UINT8, toml, {"boxes": axes})
    assert any(words in line for line in plan(tmp_path, DETECT).lines)


def test_labels_that_are_wanted(tmp_path: Path) -> None:
    model(tmp_path, ["N", 3, 48, 64], T.UINT8, 'labels = ["cat", "dog", "bird"]\n', {"boxes": ["N", 7, 63]})
    text = RESIZE + 'output = { type = "detect", label = ["bird", "cat"] }\n'
    wanted: Any = pipeline(tmp_path, text).output
    assert wanted.classes == (2, 0)
    lines = plan(tmp_path, text.replace("bird", "brid")).lines
    assert any('there is no label "brid"; the model has cat, dog, bird; did you mean "bird"?' in line for line in lines)


def test_boxes_of_a_model_that_sees_no_picture(tmp_path: Path) -> None:
    net(tmp_path / "n.onnx", {"x": (T.FLOAT, ["N", 3])}, {"boxes": ["N", 7, 63]})
    text = '[source.s]\ntype = "mqtt"\ntopic = "s"\ndecode = { format = "json", fields = ["a", "b", "c"] }\n'
    text += '[model.n]\npath = "n.onnx"\n[pipeline.p]\nsource = "s"\nmodel = "n"\noutput = "detect"\n'
    assert any('"detect" needs a model that takes a picture' in line for line in planned(tmp_path, MAIN + text).lines)


def test_results_of_detections_are_numbers_for_the_next_pipeline(tmp_path: Path) -> None:
    model(tmp_path, ["N", 3, 48, 64], T.UINT8, "", {"boxes": ["N", 7, 63]})
    text = DETECT + 'publish = { topic = "out/{camera}", when = { change = true } }\n'
    text += '[pipeline.busy]\nsource = "p"\nwindow = { size = 10 }\n'
    found = plan(tmp_path, text).whole
    assert [f.name for f, _ in found.pipelines["p"].results] == ["count", "score"]
    assert found.pipelines["p"].publishes[0].when is not None
