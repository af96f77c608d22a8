from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto as T

from edged.model import onnx as session_file
from edged.model.load import load_session
from edged.model.manifest import read_manifest
from edged.model.onnx import BoundSession, plain, session_options
from edged.model.records import ModelPlan, RunFailed
from tests.support import models


def bind(path: Path, rows: dict[str, tuple[int, ...]], **settings: Any) -> BoundSession:
    manifest, problems = read_manifest("m", path)
    assert manifest is not None, problems
    return load_session(ModelPlan(manifest, rows, **({"providers": ("cpu",)} | settings)))[0]


def test_option_names_are_spelt_as_the_library_spells_them() -> None:
    library = b"".join(p.read_bytes() for p in (Path(onnxruntime.__file__).parent / "capi").glob("*.so*"))
    tells_nodes = hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info")  # older ones do not
    for key in (*session_file.CONFIG_ENTRIES, *([session_file.TELL_NODES] if tells_nodes else ())):
        assert key.encode() + b"\0" in library


def test_options() -> None:
    options = session_options(3)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_any_number_of_rows_gives_what_each_gives_alone(tmp_path: Path) -> None:
    bound = bind(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=20)
    rows = np.arange(60, dtype=np.float32).reshape(20, 3)
    right = rows @ np.array([[1, 2], [2, 3], [3, 4]], np.float32)
    for count in range(1, 21):
        bound.inputs["x"][:count] = rows[-count:]
        y = bound.run(count)["y"]
        assert y.shape == (count, 2)
        np.testing.assert_allclose(y, right[-count:])


def test_an_answer_kept_by_copy_is_not_changed_by_the_next(tmp_path: Path) -> None:
    bound = bind(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=4)
    bound.inputs["x"][:2] = [[1, 0, 0], [0, 1, 0]]
    first = bound.run(2)["y"].copy()
    bound.inputs["x"][:2] = [[9, 9, 9], [8, 8, 8]]
    second = bound.run(2)["y"]
    np.testing.assert_array_equal(first, [[1, 2], [2, 3]])
    np.testing.assert_array_equal(second, [[54, 81], [48, 72]])


def test_arrays_outlive_everything_else(tmp_path: Path) -> None:
    bound = bind(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=2)
    gc.collect()
    filler = [np.full((2, 3), 7, np.float32) for _ in range(1000)]
    bound.inputs["x"][:] = 1
    np.testing.assert_array_equal(bound.run(2)["y"], [[6, 9], [6, 9]])
    assert len(filler) == 1000


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (T.FLOAT, "float32"), (T.DOUBLE, "float64"), (T.FLOAT16, "float16"), (T.BOOL, "bool"), (T.INT8, "int8"),
        (T.UINT8, "uint8"), (T.INT16, "int16"), (T.UINT16, "uint16"), (T.INT32, "int32"), (T.UINT32, "uint32"),
        (T.INT64, "int64"), (T.UINT64, "uint64"),
    ],
)  # fmt: skip
def test_every_type_that_numpy_has(tmp_path: Path, kind: int, dtype: str) -> None:
    bound = bind(models.identity(tmp_path / "m.onnx", kind), {"x": (2,)})
    largest: Any = True if dtype == "bool" else np.finfo(dtype).max if "float" in dtype else np.iinfo(dtype).max
    bound.inputs["x"][:2] = [[0, 1], [1, largest]]
    y = bound.run(2)["y"]
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.array([[0, 1], [1, largest]], dtype))


def test_two_inputs_and_two_outputs(tmp_path: Path) -> None:
    bound = bind(models.two_by_two(tmp_path / "m.onnx"), {"a": (2,), "b": (2,)})
    bound.inputs["a"][0], bound.inputs["b"][0] = [1.5, 2], [2, 3]
    y = bound.run(1)
    np.testing.assert_array_equal(y["sum"], [[3.5, 5]])
    np.testing.assert_array_equal(y["product"], [[3, 6]])
    assert bind(models.two_by_two(tmp_path / "m.onnx"), {"a": (2,), "b": (2,)}, outputs=("sum",)).run(1).keys() == {"sum"}


def test_a_constant_without_batch_axis(tmp_path: Path) -> None:
    bound = bind(models.scaled(tmp_path / "m.onnx"), {"x": (2,)}, constants={"gain": np.array(3.0)})
    assert bound.inputs.keys() == {"x"}
    bound.inputs["x"][:3] = [[1, 2], [3, 4], [5, 6]]
    np.testing.assert_array_equal(bound.run(3)["y"], [[3, 6], [9, 12], [15, 18]])


def test_a_fixed_batch_is_padded(tmp_path: Path) -> None:
    bound = bind(models.linear(tmp_path / "m.onnx", batch=4), {"x": (3,)})
    assert bound.batch_max == 4
    bound.inputs["x"][:2] = [[1, 0, 0], [0, 1, 0]]
    np.testing.assert_array_equal(bound.run(2)["y"], [[1, 2], [2, 3]])


def test_no_batch_axis(tmp_path: Path) -> None:
    bound = bind(models.no_batch(tmp_path / "m.onnx"), {"x": (5,)})
    assert bound.inputs["x"].shape == (1, 5)
    bound.inputs["x"][0] = [-1, 0, 1, 2, 3]
    np.testing.assert_array_equal(bound.run(1)["y"], [[0, 0, 1, 2, 3]])


def test_text_comes_out_as_text(tmp_path: Path) -> None:
    bound = bind(models.text(tmp_path / "m.onnx"), {"i": ()})
    for order in ([0, 1, 2], [2, 1, 0], [1, 1, 1]):
        bound.inputs["i"][:3] = order
        answer = bound.run(3)
        assert answer["label"].tolist() == ["abc"[i] for i in order]
        assert answer["score"].tolist() == order


def test_a_shape_that_depends_on_the_data(tmp_path: Path) -> None:
    bound = bind(models.non_zero(tmp_path / "m.onnx"), {"x": (4,)})
    for row, places in (([1, 0, 1, 0], [0, 2]), ([1, 1, 1, 1], [0, 1, 2, 3]), ([0, 0, 0, 0], [])):
        bound.inputs["x"][0] = row
        assert bound.run(1)["found"].tolist() == [[places]]


def test_open_axes_take_the_rows_shape(tmp_path: Path) -> None:
    bound = bind(models.open_axes(tmp_path / "m.onnx"), {"x": (10, 3)}, batch_max=4)
    bound.inputs["x"][:2] = [np.full((10, 3), 2), np.full((10, 3), 4)]
    answer = bound.run(2)
    np.testing.assert_array_equal(answer["y"], [[2, 2, 2], [4, 4, 4]])
    assert answer["whole"].shape == (2, 10, 3)


def test_weights_beside_the_model_are_read(tmp_path: Path) -> None:
    bound = bind(models.external(tmp_path / "m.onnx", "m.data"), {"x": (3,)})
    bound.inputs["x"][0] = 1
    np.testing.assert_array_equal(bound.run(1)["y"], [[6, 9]])


def test_a_failed_run_is_typed_and_the_next_is_right(tmp_path: Path) -> None:
    bound = bind(models.picky(tmp_path / "m.onnx"), {"i": (1,)})
    bound.inputs["i"][0] = 99
    with pytest.raises(RunFailed, match=r"(?s)^(?!\[ONNX).*out of data bounds"):
        bound.run(1)
    bound.inputs["i"][0] = 2
    assert bound.run(1)["y"].tolist() == [[12.0]]


def test_nothing_grows_with_the_number_of_runs(tmp_path: Path) -> None:
    bound = bind(models.linear(tmp_path / "m.onnx"), {"x": (3,)})
    for count in (1, 3, 12):
        bound.run(count)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(200):
            bound.run(3)
        before = tracemalloc.take_snapshot()
        for _ in range(5000):
            bound.run(3)
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    grown = [s for s in after.compare_to(before, "filename") if s.size_diff > 0 and "tracemalloc" not in s.traceback[0].filename]
    assert sum(s.size_diff for s in grown) < 5000, grown  # less than a byte a run


def test_messages_are_made_plain() -> None:
    text = "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code returned while running Gather node.\nmore"
    assert plain(Exception(text)) == "Non-zero status code returned while running Gather node."
    assert plain(ValueError()) == "ValueError"


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_what_it_remembers_is_rows_like_all_others(tmp_path: Path, layers: int) -> None:
    """Whatever axis counts them: each row finds its own, in batches of any size."""
    models.total(tmp_path / "model.onnx", layers=layers, width=3)
    (tmp_path / "model.toml").write_text('state = { sum_out = "sum" }')
    row = (layers, 3) if layers else (3,)
    bound = bind(tmp_path, {"x": (3,), "sum": row}, batch_max=11)
    assert (bound.batch_max, bound.inputs["sum"].shape) == (11, (11, *row))
    x, before = np.arange(33, dtype=np.float32).reshape(11, 3), np.arange(11 * 3 * max(layers, 1), dtype=np.float32)
    sums = before.reshape(11, *row)
    added = x[:, None, :] * np.arange(1, layers + 1)[:, None] if layers else x
    for count in (1, 2, 5, 9, 11, 2):
        bound.inputs["x"][:count], bound.inputs["sum"][:count] = x[-count:], sums[-count:]
        found = bound.run(count)
        wanted = sums[-count:] + added[-count:]
        np.testing.assert_array_equal(found["sum_out"], wanted)
        np.testing.assert_array_equal(found["y"], wanted.sum(axis=1) if layers else wanted)


def test_a_state_without_rows_goes_in_alone(tmp_path: Path) -> None:
    models.total(tmp_path / "model.onnx", layers=2, batch=1)
    (tmp_path / "model.toml").write_text('state = { sum_out = "sum" }')
    bound = bind(tmp_path, {"x": (1,), "sum": (2, 1, 1)})
    assert (bound.batch_max, bound.inputs["sum"].shape) == (1, (1, 2, 1, 1))
    bound.inputs["x"][0], bound.inputs["sum"][0] = 5, [[[1]], [[2]]]
    assert [y.tolist() for y in bound.run(1).values()] == [[[18]], [[[[6]], [[12]]]]]


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_the_memory_of_one_row_is_left_where_the_next_run_reads_it(tmp_path: Path, layers: int) -> None:
    models.total(tmp_path / "model.onnx", layers=layers)
    (tmp_path / "model.toml").write_text('state = { sum_out = "sum" }')
    bound = bind(tmp_path, {"x": (1,), "sum": (layers, 1) if layers else (1,)}, batch_max=1)
    bound.inputs["sum"][:] = 0
    found = []
    for number in (1, 2, 3, 4):
        bound.inputs["x"][0] = number
        made = bound.run(1)
        assert bound.inputs["sum"] is made["sum_out"]
        found.append(float(made["y"][0, 0]))
    times = layers * (layers + 1) // 2 or 1
    assert found == [times * total for total in (1, 3, 6, 10)]


def test_a_zip_map_of_doubles_names_its_fix() -> None:
    said = (
        "Type Error: Type 'tensor(double)' of input parameter (probabilities) of operator (ZipMap) in node (ZipMap) is invalid."
    )
    error = RuntimeError(f"[ONNXRuntimeError] : 10 : INVALID_GRAPH : This is an invalid model. {said}")
    assert plain(error) == 'its ZipMap takes no float64; export it with options={id(model): {"zipmap": False}}'


def test_sizes_that_do_not_fit_are_told_in_one_line(tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(str(models.linear(tmp_path / "m.onnx", batch=4)))
    with pytest.raises(Exception, match="invalid dimensions") as caught:
        session.run(None, {"x": np.zeros((2, 5), np.float32)})
    assert plain(caught.value) == "Got invalid dimensions for input: x: axis 0 is 2, expected 4, axis 1 is 5, expected 3"
