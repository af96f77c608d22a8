"""Which axis counts rows: as the names say that the outputs share, as the manifest says, or the first."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto as T
from onnx import helper as h

from edged.model.axes import as_filed, rows_first
from edged.model.manifest import read_manifest
from edged.model.onnx_file import OnnxFile, read_onnx
from tests.support.models import Axes, save, value


def made(path: Path, given: Axes, *outs: Axes) -> OnnxFile:
    nodes = [h.make_node("Identity", ["x"], [f"y{i}"]) for i in range(len(outs))]
    return read_onnx(save(path, nodes, [value("x", T.FLOAT, given)], [value(f"y{i}", T.FLOAT, o) for i, o in enumerate(outs)]))


@pytest.mark.parametrize(
    ("given", "out", "first", "axes"),
    [
        ([128, "N", 9], ["N", 4], ("N", 128, 9), (1, 0)),
        ([128, "N", 9], [128, "N", 4], ("N", 128, 9), (1, 1)),
        (["seq", "batch", 9], ["batch", 4], ("batch", "seq", 9), (1, 0)),
        (["seq", "batch", 9], ["seq", "batch", 4], ("batch", "seq", 9), (1, 1)),
        ([128, "dyn", 9], ["dyn", 4], ("dyn", 128, 9), (1, 0)),
        (["batch", "seq", 9], ["batch", "seq", 4], ("batch", "seq", 9), (0, 0)),
        (["N", 128, 9], ["N", 4], ("N", 128, 9), (0, 0)),
        ([None, "seq", 9], [None, "seq", 4], (None, "seq", 9), (0, 0)),
        (["batch", "time"], ["other", "time"], ("batch", "time"), (0, 0)),
        ([1, "seq", 9], [1, "seq", 4], (1, "seq", 9), (0, 0)),
        ([3, "height", "width"], [1, "height", "width"], (3, "height", "width"), (0, 0)),
        ([128, "N", 9], ["M", 4], (128, "N", 9), (0, 0)),
    ],
)
def test_the_open_axis_whose_name_the_outputs_share(
    tmp_path: Path, given: Axes, out: Axes, first: tuple[int | str | None, ...], axes: tuple[int, int]
) -> None:
    filed = made(tmp_path / "m.onnx", given, out)
    found = rows_first(filed, None)
    assert found.inputs[0].shape == first
    assert (found.inputs[0].row_axis, found.outputs[0].row_axis) == axes
    assert str(found.inputs[0]) == str(filed.inputs[0])
    assert as_filed(found.inputs[0]) == filed.inputs[0]
    assert rows_first(found, None) == found


def test_the_manifest_says_which_axis_and_what_comes_out_goes_along(tmp_path: Path) -> None:
    made(tmp_path / "model.onnx", [128, None, 9], [None, 4], [128, None, 4])
    (tmp_path / "model.toml").write_text("batch_axis = 1")
    manifest, problems = read_manifest("m", tmp_path)
    assert manifest is not None, problems
    assert manifest.onnx.inputs[0].shape == (None, 128, 9)
    assert [(o.shape, o.row_axis) for o in manifest.onnx.outputs] == [((None, 4), 0), ((None, 128, 4), 1)]
