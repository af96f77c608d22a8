from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from msgspec.structs import replace
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edged.model import opened
from edged.model.fit import fit
from edged.model.load import load_session
from edged.model.manifest import hash_file, read_manifest
from edged.model.onnx import Arrays, BoundSession
from edged.model.opened import ONLY_NAN
from edged.model.records import LoadReport, ModelPlan, ModelRefused, OutputRow, RunFailed, Tried
from tests.support import models
from tests.support.models import value


def load(path: Path, rows: Mapping[str, tuple[int, ...]], **settings: Any) -> tuple[BoundSession, LoadReport]:
    manifest, problems = read_manifest("m", path)
    assert manifest is not None, problems
    return load_session(ModelPlan(manifest, dict(rows), **({"providers": ("cpu",)} | settings)))


def refused(path: Path, rows: Mapping[str, tuple[int, ...]], **settings: Any) -> str:
    with pytest.raises(ModelRefused) as caught:
        load(path, rows, **settings)
    return str(caught.value)


def test_the_report(tmp_path: Path) -> None:
    path = models.linear(tmp_path / "m.onnx")
    bound, report = load(path, {"x": (3,)})
    assert (report.name, report.provider, report.batch_max, report.reasons) == ("m", "cpu", 16, ())
    assert report.sha256 == hash_file(path)
    assert report.outputs == (OutputRow("y", "float32", (2,)),)
    assert report.weight_bytes == 24
    assert report.array_bytes == bound.array_bytes == 16 * 3 * 4 + 16 * 2 * 4
    assert 0 < report.p50_us <= report.max_us


def test_outputs_as_pipelines_see_them(tmp_path: Path) -> None:
    report = load(models.open_axes(tmp_path / "m.onnx"), {"x": (10, 3)})[1]
    assert report.outputs == (OutputRow("y", "float32", (3,)), OutputRow("whole", "float32", None, seen=(10, 3)))
    assert report.batch_max == 16
    report = load(models.non_zero(tmp_path / "m.onnx"), {"x": (4,)})[1]
    assert (report.outputs, report.batch_max) == ((OutputRow("found", "int64", None),), 1)
    report = load(models.text(tmp_path / "m.onnx"), {"i": ()})[1]
    assert report.outputs == (OutputRow("label", "string", ()), OutputRow("score", "float32", ()))


def test_rows_go_together_where_that_saves_time_or_was_asked_for(tmp_path: Path) -> None:
    report = load(models.linear(tmp_path / "m.onnx"), {"x": (3,)})[1]
    assert (report.batch_max, report.batching.partition(":")[0]) == (16, "rows that wait run together")
    heavy, rows = models.slow(tmp_path / "slow.onnx", width=192, layers=20), {"x": (192, 192)}
    bound, report = load(heavy, rows)
    assert (report.batch_max, bound.batch_max) == (1, 1)
    assert report.batching.startswith("one row per run: 16 rows in a run save no time: ")
    report = load(heavy, rows, batch_max=4, run="worker")[1]
    assert report.batch_max == 4  # whether they pay as well, two measurements of a busy machine may say either way
    assert report.batching.partition(":")[0] in (
        "rows that wait run together, as configured, though that saves no time",
        "rows that wait run together",
    )
    assert load(heavy, rows, batch_max=1)[1].batching == ""


def test_rows_that_depend_on_each_other_run_one_by_one(tmp_path: Path) -> None:
    bound, report = load(models.centred(tmp_path / "m.onnx"), {"x": (2,)})
    assert report.batch_max == 1
    assert "rows of one run do not give what each gives alone" in report.reasons[0]
    bound.inputs["x"][0] = [5, 7]
    np.testing.assert_array_equal(bound.run(1)["y"], [[0, 0]])


def test_alike_golden_samples_do_not_pass_for_independent_rows(tmp_path: Path) -> None:
    models.centred(tmp_path / "model.onnx")
    np.savez(tmp_path / "golden.npz", x=np.ones((3, 2)), y=np.zeros((3, 2)))
    (tmp_path / "model.toml").write_text('golden = "golden.npz"')
    assert load(tmp_path, {"x": (2,)})[1].batch_max == 1


def test_the_manifest_may_say_that_rows_are_independent(tmp_path: Path) -> None:
    models.centred(tmp_path / "model.onnx")
    (tmp_path / "model.toml").write_text("batch_axis = 0")
    assert load(tmp_path, {"x": (2,)})[1].batch_max == 16


def test_other_numbers_of_rows_out_than_in_run_one_by_one(tmp_path: Path) -> None:
    bound, report = load(models.selected(tmp_path / "m.onnx"), {"x": (2,)})
    assert (report.batch_max, report.outputs[0].shape) == (1, None)
    assert "the number of rows that come out" in report.reasons[0]
    bound.inputs["x"][0] = [1, 2]
    assert bound.run(1)["kept"].tolist() == [[[1, 2]]]
    bound.inputs["x"][0] = [-1, 2]
    assert bound.run(1)["kept"].shape == (1, 0, 2)


def test_providers_that_are_not_there(tmp_path: Path) -> None:
    path = models.linear(tmp_path / "m.onnx")
    text = refused(path, {"x": (3,)}, providers=("tensorrt",))
    assert text.startswith("model.m.providers: TensorRT is required and did not run: ")
    assert text.endswith('to allow others: ["tensorrt", "cuda"]')


def test_a_provider_not_taken_is_reported(tmp_path: Path) -> None:
    report = load(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, providers=("tensorrt", "cpu"))[1]
    assert report.provider == "cpu"
    assert report.reasons[0].startswith("TensorRT did not run: ")


def test_a_model_that_onnxruntime_refuses(tmp_path: Path) -> None:
    path = models.linear(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes().replace(b"MatMul", b"NatMul"))
    assert refused(path, {"x": (3,)}).startswith("model.m.path: the model does not run: ")


def golden(folder: Path, **arrays: Any) -> Path:
    models.linear(folder / "model.onnx")
    np.savez(folder / "golden.npz", **arrays)
    (folder / "model.toml").write_text('golden = { file = "golden.npz", rtol = 1e-4, atol = 1e-4 }')
    return folder


def test_golden_samples_are_run(tmp_path: Path) -> None:
    x = np.eye(3, dtype=np.float32)
    right = np.array([[1, 2], [2, 3], [3, 4]], np.float32)
    assert load(golden(tmp_path, x=x, y=right), {"x": (3,)})[1].reasons == ()
    right[2, 1] = 5
    text = refused(golden(tmp_path, x=x, y=right), {"x": (3,)})
    assert text == "model.m.path: golden sample 2 of golden.npz: y is [3., 4.], expected [3., 5.]"


def test_golden_samples_that_vanish(tmp_path: Path) -> None:
    manifest, _ = read_manifest("m", golden(tmp_path, x=np.zeros((1, 3)), y=np.zeros((1, 2))))
    assert manifest is not None
    (tmp_path / "golden.npz").unlink()
    with pytest.raises(ModelRefused, match=r"golden\.npz"):
        load_session(ModelPlan(manifest, {"x": (3,)}, providers=("cpu",)))


def test_golden_samples_of_another_shape_are_said_not_to_be_run(tmp_path: Path) -> None:
    models.open_axes(tmp_path / "model.onnx")
    np.savez(tmp_path / "golden.npz", x=np.zeros((1, 4, 3)), y=np.zeros((1, 3)))
    (tmp_path / "model.toml").write_text('golden = "golden.npz"')
    assert "golden samples were not run" in load(tmp_path, {"x": (10, 3)})[1].reasons[0]


def test_a_slow_model_goes_to_the_worker_and_configuration_wins(tmp_path: Path) -> None:
    path = models.slow(tmp_path / "m.onnx")
    report = load(path, {"x": (384, 384)}, batch_max=2)[1]
    assert (report.run, report.batch_max) == ("worker", 2)
    assert report.reasons[0].startswith("runs on a worker thread: 2 rows take up to ")
    assert load(path, {"x": (384, 384)}, batch_max=1, run="inline")[1].run == "inline"
    assert load(models.linear(path), {"x": (3,)}, run="worker")[1].run == "worker"


def test_a_batch_is_cut_to_what_the_loop_can_bear(tmp_path: Path) -> None:
    path = models.slow(tmp_path / "m.onnx", width=64, layers=12)
    report = load(path, {"x": (64, 64)}, batch_max=256)[1]
    if report.run == "inline":  # how much is too much depends on the machine
        assert report.max_us <= 2000
        assert report.batch_max == 256 or "would block the event loop" in report.reasons[0]


def test_a_state_must_come_out_as_it_goes_in(tmp_path: Path) -> None:
    twice = [h.make_node("Concat", ["s", "s"], ["s_out"], axis=1), h.make_node("Add", ["x", "s"], ["y"])]
    ins, outs = [value(n, T.FLOAT, ["n", 2]) for n in ("x", "s")], [value("y", T.FLOAT, ["n", 2]), value("s_out", T.FLOAT, None)]
    models.save(tmp_path / "model.onnx", twice, ins, outs)
    (tmp_path / "model.toml").write_text('state = { s_out = "s" }')
    text = refused(tmp_path, {"x": (2,), "s": (2,)}, batch_max=4)
    assert "s_out came out as [4, 4], s is [4, 2]; the two ends of a state must be alike" in text


def test_an_open_end_of_a_state_is_like_the_other(tmp_path: Path) -> None:
    ins, outs = [value(n, T.FLOAT, ["n", 2]) for n in ("x", "s")], [value("y", T.FLOAT, ["n", 2]), value("s_out", T.FLOAT, None)]
    nodes = [h.make_node("Add", ["x", "s"], ["s_out"]), h.make_node("Identity", ["s_out"], ["y"])]
    models.save(tmp_path / "model.onnx", nodes, ins, outs)
    (tmp_path / "model.toml").write_text('state = { s_out = "s" }')
    report = load(tmp_path, {"x": (2,), "s": (2,)})[1]
    assert report.outputs == (OutputRow("y", "float32", (2,)), OutputRow("s_out", "float32", (2,)))


def elementwise(path: Path, *nodes: Any) -> Path:
    return models.save(
        path,
        list(nodes),
        [models.value("x", T.FLOAT, ["n", 2])],
        [models.value("y", T.FLOAT, ["n", 2])],
        [nh.from_array(np.array(20, np.float32), "c")],
    )


def test_a_model_that_gives_only_nan_is_refused(tmp_path: Path) -> None:
    path = elementwise(tmp_path / "m.onnx", h.make_node("Sub", ["x", "x"], ["z"]), h.make_node("Div", ["z", "z"], ["y"]))
    assert refused(path, {"x": (2,)}) == f"model.m.path: the model does not run: {ONLY_NAN}"


def test_a_model_that_gives_numbers_for_some_values_is_not_refused(tmp_path: Path) -> None:
    """The square root of x - 20: of what is measured that may well be above zero."""
    path = elementwise(tmp_path / "m.onnx", h.make_node("Sub", ["x", "c"], ["z"]), h.make_node("Sqrt", ["z"], ["y"]))
    bound, _ = load(path, {"x": (2,)})
    bound.inputs["x"][0] = [29, 24]
    np.testing.assert_array_equal(bound.run(1)["y"], [[3, 2]])


def test_an_output_without_numbers_is_not_only_nan(tmp_path: Path) -> None:
    """What a detector gives that sees nothing."""
    nodes = [
        h.make_node("Div", ["x", "x"], ["nan"]),
        h.make_node("Greater", ["x", "c"], ["is_large"]),
        h.make_node("NonZero", ["is_large"], ["y"]),
    ]
    path = models.save(
        tmp_path / "m.onnx",
        nodes,
        [models.value("x", T.FLOAT, [1, 2])],
        [models.value("y", T.INT64, [2, "found"])],
        [nh.from_array(np.array(20, np.float32), "c")],
    )
    load(path, {"x": (2,)})


def test_beside_other_work_the_first_golden_samples_are_run(tmp_path: Path) -> None:
    x = np.ones((40, 3), np.float32)
    y = np.array([[6, 9]] * 39 + [[6, 10]], np.float32)
    manifest, _ = read_manifest("m", golden(tmp_path, x=x, y=y))
    assert manifest is not None
    plan = ModelPlan(manifest, {"x": (3,)}, providers=("cpu",))
    assert load_session(plan, all_golden=False)[1].reasons == ()
    with pytest.raises(ModelRefused, match="golden sample 39 of golden"):
        load_session(plan)
    y[0] = 0
    golden(tmp_path, x=x, y=y)
    with pytest.raises(ModelRefused, match="golden sample 0 of golden"):
        load_session(plan, all_golden=False)


def test_rows_along_a_later_axis_give_what_they_give_alone(tmp_path: Path) -> None:
    """PyTorch's recurrent layers take [time, N, fields]; read as 8 rows, one row ran among padding."""
    path = models.sequence(tmp_path / "m.onnx")
    bound, report = load(path, {"x": (8, 3)}, batch_max=4)
    assert (report.batch_max, report.reasons) == (4, ())
    rows = np.random.default_rng(0).standard_normal((4, 8, 3)).astype(np.float32)
    bound.inputs["x"][:] = rows
    found = bound.run(4)["last"].copy()
    session = ort.InferenceSession(str(path))
    alone = [session.run(None, {"x": row[:, None]})[0][0] for row in rows]
    np.testing.assert_allclose(found, alone, rtol=1e-6)
    bound.inputs["x"][0] = rows[2]
    assert np.array_equal(bound.run(1)["last"][0], alone[2])


@pytest.mark.parametrize("build", [models.dynamic, models.by_range])
def test_what_is_quantised_by_the_range_of_a_batch_runs_row_by_row(tmp_path: Path, build: Any) -> None:
    path = build(tmp_path / "m.onnx")
    bound, report = load(path, {"x": (3,)}, batch_max=8)
    assert report.batch_max == 1
    assert report.reasons[0].startswith("one row per run: ")
    row = np.array([[0.01, 0.02, -0.03]], np.float32)
    bound.inputs["x"][:] = row
    assert np.array_equal(bound.run(1)["y"], ort.InferenceSession(str(path)).run(None, {"x": row})[0])
    (tmp_path / "model.toml").write_text("batch_axis = 0")
    build(tmp_path / "model.onnx")
    assert load(tmp_path, {"x": (3,)}, batch_max=8)[1].batch_max == 8


@pytest.mark.parametrize("build", [models.dynamic, models.by_range])
def test_a_fixed_number_of_rows_that_change_each_other_is_refused(tmp_path: Path, build: Any) -> None:
    text = refused(build(tmp_path / "m.onnx", 16), {"x": (3,)})
    assert "x: float32[16,3]: the first axis of 16 was taken for rows" in text
    assert 'say in model.toml: batch_axis = "none" if it is one input of 16 samples (with window = { size = 16 })' in text


def test_an_open_axis_that_takes_one_row_only_is_run_row_by_row(tmp_path: Path) -> None:
    path = models.single(tmp_path / "m.onnx")
    bound, report = load(path, {"x": (4,)})
    assert report.batch_max == 1
    assert report.reasons[0].startswith("one row per run: the file leaves the number of rows open, and 16 at once fail: ")
    bound.inputs["x"][:] = [[1, 2, 3, 4]]
    assert bound.run(1)["y"].tolist() == [[[1, 2], [3, 4]]]


def test_single_numbers_in_and_out(tmp_path: Path) -> None:
    nodes = [h.make_node("Mul", ["x", "two"], ["y"])]
    scalars = [value(n, T.FLOAT, []) for n in ("x", "y")]
    path = models.save(tmp_path / "m.onnx", nodes, scalars[:1], scalars[1:], [nh.from_array(np.float32(2), "two")])
    bound, report = load(path, {"x": ()})
    assert (report.outputs, report.batch_max) == ((OutputRow("y", "float32", ()),), 1)
    bound.inputs["x"][0] = 3.5
    assert bound.run(1)["y"].tolist() == [7.0]


@pytest.mark.parametrize("declared", [[1], [1, 1], [5], ["n", 1]])
def test_outputs_of_another_size_than_the_file_says(tmp_path: Path, declared: Any) -> None:
    """LightGBM's converter says `label: int64[1]` whatever the number of rows."""
    nodes = [h.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0)]
    path = models.save(tmp_path / "m.onnx", nodes, [value("x", T.FLOAT, ["n", 3])], [value("label", T.INT64, declared)])
    bound, report = load(path, {"x": (3,)}, batch_max=4)
    assert report.batch_max == 4
    bound.inputs["x"][:] = np.eye(3, dtype=np.float32)[[2, 0, 1, 1]]
    assert bound.run(4)["label"].reshape(4).tolist() == [2, 0, 1, 1]


def test_an_input_with_a_value_of_its_own_is_overridden(tmp_path: Path) -> None:
    path = models.linear(tmp_path / "m.onnx")
    onnx_model = onnx.load(str(path))
    onnx_model.graph.input.append(value("w", T.FLOAT, [3, 2]))
    path.write_bytes(onnx_model.SerializeToString())
    bound, _ = load(path, {"x": (3,)}, constants={"w": np.full((3, 2), 2, np.float32)})
    bound.inputs["x"][0] = [1, 2, 3]
    assert bound.run(1)["y"].tolist() == [[12, 12]]
    assert load(path, {"x": (3,)})[0].constants == {}


class Slow:
    """A session in whose place time passes: so long for so many rows."""

    def __init__(self, took: dict[int, float]) -> None:
        self.took = took
        self.ran: list[int] = []
        self.now = 0

    def run(self, session: object, names: list[str], feeds: Arrays) -> list[object]:
        count = len(feeds["x"])
        self.ran.append(count)
        if count not in self.took:
            raise RunFailed("too many")
        self.now += int(self.took[count] * 1e9)
        return []


@pytest.mark.parametrize(
    ("took", "ran", "batch_max", "said"),
    [
        (
            {1: 0.5, 2: 1.0},
            [1, 2],
            1,
            "one row per run: 2 rows in a run save no time: a row takes 500000.0 us in a run of 2, 500000.0 us alone",
        ),
        ({1: 0.5, 2: 0.6, 4: 0.8, 8: 1.6}, [1, 2, 4, 8], 4, ""),
        ({1: 0.5, 2: 0.6, 4: 0.8, 8: 1.0, 16: 1.2}, [1, 2, 4, 8, 16], 16, ""),
        ({1: 0.001}, [1], 16, ""),  # a quick one is measured on a whole batch
        ({1: 0.5}, [1, 2], 16, ""),  # why it does not take two is found out later
    ],
)
def test_of_a_slow_model_no_more_rows_are_tried_together_than_pay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: dict[int, float], ran: list[int], batch_max: int, said: str
) -> None:
    manifest, _ = read_manifest("m", models.linear(tmp_path / "m.onnx"))
    assert manifest is not None
    plan = ModelPlan(manifest, {"x": (3,)}, providers=("cpu",))
    fitted, _ = fit(plan)
    assert fitted is not None
    slow = Slow(took)
    monkeypatch.setattr(opened, "run_unbound", slow.run)
    monkeypatch.setattr(opened, "timer", lambda rung, plan: lambda: slow.now)
    found = opened.grow("cpu", slow, plan, fitted, {}, 0)
    assert (slow.ran, found[0].batch_max, found[1]) == (ran, batch_max, said)
    assert opened.grow("cpu", slow, replace(plan, batch_max=8), fitted, {}, 0) == (fitted, "")  # what was asked for is asked for
    assert slow.ran == ran


def test_what_a_trial_found_is_not_looked_for_again(tmp_path: Path) -> None:
    known = Tried(4, ("one reason",), "rows that wait run together")
    bound, report = load(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, tried=known)
    assert (bound.batch_max, report.tried) == (4, known)
    assert report.reasons == ("one reason",)


@pytest.mark.parametrize(
    ("op", "said"),
    [
        ("Dropout", "it answers the same row differently each time, by Dropout"),
        ("BatchNormalization", "its BatchNormalization takes mean and deviation from the rows of each run, not from training"),
    ],
)
def test_a_model_that_was_exported_in_training_is_said_to_be(tmp_path: Path, op: str, said: str) -> None:
    bound, report = load(models.in_training(tmp_path / "m.onnx", op), {"x": (3,)})
    fix = "if that is not intended, export it again in inference mode (PyTorch: model.eval())"
    assert (bound.batch_max, report.reasons[-1]) == (1, f"{said}; {fix}")


def test_an_input_that_is_an_output_too(tmp_path: Path) -> None:
    """onnxruntime leaves an array alone that is bound for it."""
    bound, _ = load(models.passed_on(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=2)
    bound.inputs["x"][:2] = [[1, -2, 3], [-4, 5, -6]]
    found = bound.run(2)
    assert found["x"].tolist() == [[1, -2, 3], [-4, 5, -6]]
    assert found["y"].tolist() == [[1, 0, 3], [0, 5, 0]]


def test_strings_go_in_as_they_are(tmp_path: Path) -> None:
    """With words that the graph knows: an encoder refuses others."""
    encoder = h.make_node("OneHotEncoder", ["city"], ["y"], domain="ai.onnx.ml", cats_strings=["Kyiv", "Lviv"], zeros=0)
    inputs, outputs = [models.value("city", T.STRING, ["N", 1])], [models.value("y", T.FLOAT, ["N", 1, 2])]
    path = models.save(tmp_path / "m.onnx", [encoder], inputs, outputs, opsets=(("", 17), ("ai.onnx.ml", 3)))
    bound, report = load(path, {"city": (1,)}, texts={"city": "<U4"}, batch_max=3)
    bound.inputs["city"][:3, 0] = ["Lviv", "Kyiv", "Lviv"]
    assert (report.batch_max, bound.run(3)["y"].tolist()) == (3, [[[0, 1]], [[1, 0]], [[0, 1]]])
