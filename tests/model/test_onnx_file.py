from __future__ import annotations

import contextlib
import os
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto as T
from onnx import helper as h

from edged.model.onnx_file import MAX_CALL_DEPTH, TensorInfo, read_onnx
from tests.support import models


def test_names_shapes_and_sizes(tmp_path: Path) -> None:
    path = models.linear(tmp_path / "m.onnx", metadata={"labels": '["a"]'})
    found = read_onnx(path)
    assert found.inputs == (TensorInfo("x", "float32", ("n", 3)),)
    assert found.outputs == (TensorInfo("y", "float32", ("n", 2)),)
    assert (found.ir_version, found.opsets) == (9, {"": 17})
    assert found.initializer_bytes == 3 * 2 * 4
    assert found.metadata == {"labels": '["a"]'}
    assert str(found.inputs[0]) == "float32[n,3]"


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (T.FLOAT, "float32"), (T.DOUBLE, "float64"), (T.FLOAT16, "float16"), (T.BOOL, "bool"), (T.INT8, "int8"),
        (T.UINT8, "uint8"), (T.INT16, "int16"), (T.UINT16, "uint16"), (T.INT32, "int32"), (T.UINT32, "uint32"),
        (T.INT64, "int64"), (T.UINT64, "uint64"), (T.STRING, "string"), (T.COMPLEX64, "complex64"),
    ],
)  # fmt: skip
def test_types_that_numpy_has(tmp_path: Path, kind: int, dtype: str) -> None:
    assert read_onnx(models.identity(tmp_path / "m.onnx", kind)).inputs[0].dtype == dtype


def test_types_that_numpy_lacks(tmp_path: Path) -> None:
    info = read_onnx(models.identity(tmp_path / "m.onnx", T.BFLOAT16)).inputs[0]
    assert (info.dtype, info.element, str(info)) == (None, "bfloat16", "bfloat16[n,2]")


def test_initializers_are_no_inputs(tmp_path: Path) -> None:
    path = models.linear(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    model.graph.input.append(models.value("w", T.FLOAT, [3, 2]))
    path.write_bytes(model.SerializeToString())
    assert [i.name for i in read_onnx(path).inputs] == ["x"]


def test_unknown_axes_and_ranks(tmp_path: Path) -> None:
    nodes = [h.make_node("Identity", ["x"], ["y"])]
    path = models.save(
        tmp_path / "m.onnx", nodes, [models.value("x", T.FLOAT, [None, -1, 3])], [models.value("y", T.FLOAT, None)]
    )
    found = read_onnx(path)
    assert found.inputs[0].shape == (None, None, 3)
    assert found.outputs[0].shape is None
    assert str(found.outputs[0]) == "float32[...]"


def test_outputs_that_are_no_tensors(tmp_path: Path) -> None:
    found = read_onnx(models.zip_map(tmp_path / "m.onnx"))
    assert [o.kind for o in found.outputs] == ["tensor", "sequence of maps"]


def test_constants_and_subgraphs_are_weights_too(tmp_path: Path) -> None:
    constant = h.make_node("Constant", [], ["c"], value=h.make_tensor("c", T.FLOAT, [100], [0.0] * 100))
    branch = h.make_graph([constant], "b", [], [models.value("c", T.FLOAT, [100])])
    nodes = [h.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)]
    path = models.save(tmp_path / "m.onnx", nodes, [models.value("x", T.BOOL, [])], [models.value("y", T.FLOAT, [100])])
    assert read_onnx(path).initializer_bytes == 800


def test_weights_beside_the_model(tmp_path: Path) -> None:
    found = read_onnx(models.external(tmp_path / "m.onnx", "m.data"))
    assert found.external_files == (tmp_path / "m.data",)
    assert found.initializer_bytes == 24


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "", "x\0y"])
def test_weights_elsewhere_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(24))
    folder = tmp_path / "m"
    folder.mkdir()
    path = models.external(folder / "m.onnx", "m.data")
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="its weights lie in"):
        read_onnx(path)


def test_weights_behind_a_link_are_refused(tmp_path: Path) -> None:
    path = models.external(tmp_path / "m.onnx", "m.data")
    (tmp_path / "m.data").rename(tmp_path / "other")
    (tmp_path / "m.data").symlink_to(tmp_path / "other")
    with pytest.raises(ValueError, match="symbolic link"):
        read_onnx(path)
    (tmp_path / "m.data").unlink()
    with pytest.raises(ValueError, match="not there"):
        read_onnx(path)


@pytest.mark.parametrize("data", [b"", b"garbage that is no model at all", bytes(100), b"\xff" * 64, b"xxxxORTM0000"])
def test_files_that_are_no_models(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ValueError):  # noqa: PT011 the texts differ
        read_onnx(tmp_path / "m.onnx")


def test_every_truncation_is_an_error_or_a_smaller_model(tmp_path: Path) -> None:
    whole = models.zip_map(tmp_path / "m.onnx").read_bytes()
    path = tmp_path / "t.onnx"
    refused = 0
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        try:
            read_onnx(path)
        except ValueError:
            refused += 1
    assert refused > 0.9 * len(whole)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_files_never_crash_it(tmp_path: Path, places: list[tuple[int, int]]) -> None:
    data = bytearray(models.two_by_two(tmp_path / "m.onnx").read_bytes())
    for at, byte in places:
        data[at % len(data)] = byte
    path = tmp_path / "d.onnx"
    path.write_bytes(data)
    with contextlib.suppress(ValueError):
        read_onnx(path)


def test_nesting_is_bounded(tmp_path: Path) -> None:
    graph = b""
    for _ in range(200):  # GraphProto.node.attribute.g, each within the last
        for tag in (6 << 3 | 2, 5 << 3 | 2, 1 << 3 | 2):
            graph = bytes([tag]) + _varint(len(graph)) + graph
    (tmp_path / "m.onnx").write_bytes(bytes([7 << 3 | 2]) + _varint(len(graph)) + graph)
    with pytest.raises(ValueError, match="nested"):
        read_onnx(tmp_path / "m.onnx")


def test_chains_of_local_functions_are_bounded(tmp_path: Path) -> None:
    count = MAX_CALL_DEPTH + 10
    ops = [h.make_opsetid("", 17), h.make_opsetid("f", 1)]
    functions = [
        h.make_function("f", f"f{i}", ["x"], ["y"], [h.make_node(f"f{i + 1}", ["x"], ["y"], domain="f")], ops)
        for i in range(count)
    ]
    functions.append(h.make_function("f", f"f{count}", ["x"], ["y"], [h.make_node("Relu", ["x"], ["y"])], ops))
    axes = [models.value("x", T.FLOAT, [1])], [models.value("y", T.FLOAT, [1])]
    nodes = [h.make_node("f0", ["x"], ["y"], domain="f")]
    path = models.save(tmp_path / "m.onnx", nodes, *axes, opsets=(("", 17), ("f", 1)), functions=functions)
    with pytest.raises(ValueError, match="local functions"):
        read_onnx(path)


def test_a_large_model_costs_a_few_reads(tmp_path: Path) -> None:
    whole = models.linear(tmp_path / "m.onnx").read_bytes()
    path = tmp_path / "large.onnx"
    raw = 600 << 20
    tensor = bytes([8 << 3 | 2, 1]) + b"v" + bytes([2 << 3, 1, 1 << 3]) + _varint(raw // 4) + bytes([9 << 3 | 2]) + _varint(raw)
    with path.open("wb") as file:
        file.write(whole)
        file.write(bytes([7 << 3 | 2]) + _varint(len(tensor) + raw + 1 + len(_varint(len(tensor) + raw))))
        file.write(bytes([5 << 3 | 2]) + _varint(len(tensor) + raw) + tensor)
        os.truncate(path, file.tell() + raw)
    assert read_onnx(path).initializer_bytes == 24 + raw


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def test_weights_behind_a_hard_link_are_refused(tmp_path: Path) -> None:
    path = models.external(tmp_path / "m.onnx", "m.data")
    os.link(tmp_path / "m.data", tmp_path / "other")
    with pytest.raises(ValueError, match="hard link to a file elsewhere"):
        read_onnx(path)


def test_what_would_never_end_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="expected a plain file, found a pipe"):
        read_onnx(tmp_path / "m.onnx")
