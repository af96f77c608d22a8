from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper as h

from edged.model.onnx_file import read_onnx
from edged.model.recurrent import StatePlan, as_rows, as_tensor, plan_states
from tests.support.models import Axes, save, value


def planned(folder: Path, x: Axes, given: Axes, out: Axes, kind: int = T.FLOAT, axis: int | None = None) -> StatePlan | str:
    nodes = [h.make_node("Identity", ["h"], ["h_out"]), h.make_node("Identity", ["x"], ["y"])]
    ins = [value("x", T.FLOAT, x), value("h", kind, given)]
    path = save(folder / "m.onnx", nodes, ins, [value("y", T.FLOAT, x), value("h_out", T.FLOAT, out)])
    plans, problems = plan_states(read_onnx(path), {"h_out": "h"}, axis)
    assert len(plans) + len(problems) == 1
    return plans[0] if plans else problems[0]


@pytest.mark.parametrize(
    ("x", "h", "shape", "axis", "batch"),
    [
        (["N", 5], ["N", 64], (64,), 0, 0),
        (["N", 5], [2, "N", 64], (2, 64), 1, 0),  # as recurrent networks have it
        (["N", 5], [2, "batch", 64], (2, 64), 1, 0),  # the only open one
        ([1, 512], [2, 1, 128], (2, 1, 128), None, 0),  # one row: nobody needs to know where it is
        ([4, 512], [2, 4, 128], (2, 128), 1, 4),
        ([1, 512], [2, "N", 128], (2, 128), 1, 0),
        ([5], [64], (64,), None, 0),
        (["N", 5], [], (), None, 0),
    ],
)
def test_where_its_rows_are(tmp_path: Path, x: Axes, h: Axes, shape: tuple[int, ...], axis: int | None, batch: int) -> None:
    found = planned(tmp_path, x, h, h)
    assert found == StatePlan("h", "h_out", shape, "float32", axis, batch)


def test_the_manifest_may_say_that_nothing_counts_rows(tmp_path: Path) -> None:
    assert planned(tmp_path, [4, 5], [4, 64], [4, 64], axis=-1) == StatePlan("h", "h_out", (4, 64), "float32", None)


def test_an_end_may_leave_its_size_open(tmp_path: Path) -> None:
    found = planned(tmp_path, ["N", 5], [2, "N", 64], [None, None, None])
    assert isinstance(found, StatePlan)
    assert found.tensor == (2, -1, 64)


@pytest.mark.parametrize(
    ("h", "out", "kind", "text"),
    [
        (
            [2, "N", 128],
            [2, "N", 64],
            T.FLOAT,
            "h_out is float32[2,N,64], h is float32[2,N,128]; the two ends of a state must be alike",
        ),
        (["N", 4], ["N", 4, 1], T.FLOAT, "the two ends of a state must be alike"),
        (["N", 4], ["N", 4], T.DOUBLE, "h_out is float32[N,4], h is float64[N,4]; the two ends"),
        ([2, "N", "hidden"], [2, "N", "hidden"], T.FLOAT, "the size of a state must be known"),
        (["N", 4], ["N", 4], T.STRING, "h is string[N,4]: a state must be a tensor of numbers of a known size"),
    ],
)
def test_ends_that_do_not_fit(tmp_path: Path, h: Axes, out: Axes, kind: int, text: str) -> None:
    assert text in str(planned(tmp_path, ["N", 5], h, out, kind))


def test_names_that_are_not_there(tmp_path: Path) -> None:
    nodes = [h.make_node("Add", ["x", "h"], ["h_out"]), h.make_node("Identity", ["x"], ["y"])]
    ins = [value(n, T.FLOAT, ["N", 5]) for n in ("x", "h")]
    onnx = read_onnx(save(tmp_path / "m.onnx", nodes, ins, [value(n, T.FLOAT, ["N", 5]) for n in ("y", "h_out")]))
    assert plan_states(onnx, {}, None) == ((), [])
    assert plan_states(onnx, {"hout": "hh"}, None)[1] == [
        'the model has no output "hout"; it has y, h_out; did you mean "h_out"?',
        'the model has no input "hh"; it has x, h; did you mean "h"?',
    ]
    [swapped] = plan_states(onnx, {"h": "h_out"}, None)[1]
    assert swapped.endswith('it is written output = "input": h_out = "h"')
    [twice] = plan_states(onnx, {"h_out": "h", "y": "h"}, None)[1]
    assert twice == "h is filled from h_out and from y; one output fills it"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rows_and_tensors(axis: int) -> None:
    rows = np.arange(24.0).reshape(3, 2, 4)
    tensor = as_tensor(rows, axis)
    assert tensor.shape == [(3, 2, 4), (2, 3, 4), (2, 4, 3)][axis]
    assert tensor.flags.c_contiguous
    assert as_rows(tensor, axis).tolist() == rows.tolist()
    assert as_rows(as_tensor(rows[:1], None), None).tolist() == rows[:1].tolist()


def test_one_layer_is_no_other_order() -> None:
    assert not StatePlan("h", "o", (1, 64), "float32", 1).is_turned
    assert StatePlan("h", "o", (2, 64), "float32", 1).is_turned
    assert not StatePlan("h", "o", (64,), "float32", 0).is_turned
