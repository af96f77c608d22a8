from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto as T

from edged.plan.records import PipelinePlan
from edged.plan.steps import make_preprocess
from tests.support.deployments import folder_model, net
from tests.support.planning import ACCEL, MAIN, PUMPS, Planned, planned

ROW = {"x": (T.FLOAT, ["N", 3])}
REPLAY = ACCEL.replace("serial", "replay").replace('port = "/dev/ttyACM9"', 'path = "run.csv"').replace("baudrate = 921600", "")


def plan(folder: Path, source: str, more: str, model: str = "") -> Planned:
    text = f'[model.m]\npath = "m"\n{model}[pipeline.p]\nmodel = "m"\n{more}\n'
    return planned(folder, MAIN + source + text)


def pipeline(found: Planned) -> PipelinePlan:
    return found.whole.pipelines["p"]


@pytest.mark.parametrize(
    ("axes", "source", "batch", "slots"),
    [
        (["N", 3], ACCEL, "", 256),  # small rows: as many as the most
        (["N", 1024, 3], ACCEL, "", 85),  # what fits in 1 MiB
        (["N", 16384, 3], ACCEL, "", 32),  # twice the batch
        (["N", 16384, 3], ACCEL, "batch = { max = 40 }\n", 80),
        ([1, 16384, 3], ACCEL, "", 5),  # a batch of 1 is the model's own
        (["N", 3], PUMPS.replace('"rpm"', "").replace("250", "600"), "", 600),  # one a key
    ],
)
def test_default_slots(tmp_path: Path, axes: list[int | str | None], source: str, batch: str, slots: int) -> None:
    folder_model(tmp_path / "m", "", net, {"x": (T.FLOAT, axes)}, {"y": [axes[0], 1]})
    name = source.split("source.")[1].split("]")[0]
    window = f"window = {{ size = {axes[1]} }}\n" if len(axes) == 3 else ""
    found = plan(tmp_path, source, f'source = "{name}"\n{window}', batch)
    assert pipeline(found).slots == slots
    assert pipeline(plan(tmp_path, source, f'source = "{name}"\n{window}slots = 7\n', batch)).slots == 7


@pytest.mark.parametrize(
    ("source", "overflow"),
    [
        (ACCEL, "drop_oldest"),
        (REPLAY, "drop_oldest"),
        (REPLAY + "speed = 0\n", "block"),
        (PUMPS.replace('"rpm"', ""), "block"),
        (PUMPS.replace('"rpm"', "") + "qos = 0\n", "drop_oldest"),
    ],
    ids=["serial", "replay", "replay as fast as it goes", "mqtt", "mqtt at QoS 0"],
)
def test_default_overflow(tmp_path: Path, source: str, overflow: str) -> None:
    folder_model(tmp_path / "m", "", net, ROW, {"y": ["N", 1]})
    name = source.split("source.")[1].split("]")[0]
    assert pipeline(plan(tmp_path, source, f'source = "{name}"')).overflow == overflow


def test_a_chain_of_windows_is_not_held_back(tmp_path: Path) -> None:
    folder_model(tmp_path / "m", "", net, {"x": (T.FLOAT, ["N", 4])}, {"y": ["N", 4]})
    first = '[pipeline.first]\nsource = "pumps"\nmodel = "m"\npublish = []\nWINDOW'
    text = PUMPS + first + '[model.n]\npath = "m"\n[pipeline.second]\nsource = "first"\nmodel = "n"\n'
    rows = planned(tmp_path, MAIN + '[model.m]\npath = "m"\n' + text.replace("WINDOW", "")).whole
    assert rows.pipelines["second"].overflow == "block"
    assert rows.pipelines["second"].roots == ("pumps",)
    assert rows.pipelines["second"].keys == ("line", "pump")
    folder_model(tmp_path / "m", "", net, {"x": (T.FLOAT, ["N", 4])}, {"y": ["N", 4]})
    windows = text.replace('model = "m"', "").replace("WINDOW", "window = { size = 1 }\n")
    found = planned(tmp_path, MAIN + windows)
    assert found.whole.pipelines["second"].overflow == "drop_oldest"
    [line] = planned(tmp_path, MAIN + windows + 'overflow = "block"\n').lines
    assert '"block" cannot hold back the windows of pipeline.first' in line


def test_the_manifests_normalization_goes_by_the_names_of_fields(tmp_path: Path) -> None:
    toml = '[inputs.x]\nfields = ["az", "ax"]\n[normalize]\nmean = [9, 1]\nstd = [2, 4]\n'
    folder_model(tmp_path / "m", toml, net, {"x": (T.FLOAT, ["N", 2])}, {"y": ["N", 1]})
    p = pipeline(plan(tmp_path, ACCEL, 'source = "accel"'))
    steps = make_preprocess(p.steps, p.window_shape, p.dtype)
    row = steps(np.array([[5, 7, 13]], np.float32))[0]
    assert row.tolist() == [1, 7, 2]  # ay, which the model does not take, stays as it is
    assert p.inputs[0].columns == (2, 0)


def test_the_manifests_normalization_by_one_number(tmp_path: Path) -> None:
    folder_model(tmp_path / "m", "[normalize]\nmin = 0\nmax = 10\n", net, ROW, {"y": ["N", 1]})
    [step] = pipeline(plan(tmp_path, ACCEL, 'source = "accel"')).steps
    assert (step.mean, step.std) == ((0.0,), (10.0,))
    assert pipeline(plan(tmp_path, ACCEL, 'source = "accel"\npreprocess = []')).steps == ()


def test_several_inputs_are_normalised_by_preprocess_only(tmp_path: Path) -> None:
    inputs = {"a": (T.FLOAT, ["N", 3]), "b": (T.FLOAT, ["N", 3])}
    folder_model(tmp_path / "m", "[normalize]\nmean = [1, 2, 3]\nstd = 1\n", net, inputs, {"y": ["N", 1]})
    [line] = plan(tmp_path, ACCEL, 'source = "accel"').lines
    assert "model.toml normalizes by field, and the model has several inputs" in line


def test_a_wait_for_a_batch_uses_up_the_deadline(tmp_path: Path) -> None:
    folder_model(tmp_path / "m", "", net, ROW, {"y": ["N", 1]})
    [line] = plan(tmp_path, ACCEL, 'source = "accel"\ndeadline = "1s"', 'batch = { delay = "1s" }\n').lines
    assert "pipeline.p.deadline: expires while model.m.batch.delay waits for more windows" in line
    assert plan(tmp_path, ACCEL, 'source = "accel"\ndeadline = "2s"', 'batch = { delay = "1s" }\n').lines == []


def test_what_results_to_expect(tmp_path: Path) -> None:
    folder_model(tmp_path / "m", "", net, {"x": (T.FLOAT, ["N", 8, 3])}, {"y": ["N", 1]})
    assert pipeline(plan(tmp_path, ACCEL, 'source = "accel"\nwindow = { size = 8, hop = 4 }')).rate == 250


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ('deadline = "1s"', []),
        ('deadline = "1s"\npublish = { when = { min_interval = "1min" } }', ["pipeline.p.publish.when.min_interval"]),
        ('deadline = "1s"\nalign = { method = "linear", tolerance = "500ms" }', []),
        ('deadline = "1s"\nalign = { method = "linear" }', ["pipeline.p.deadline"]),
    ],
)
def test_a_wait_that_uses_up_the_deadline_is_warned_of(tmp_path: Path, more: str, where: list[str]) -> None:
    slow = ACCEL.replace("accel", "slow").replace("ACM9", "ACM8").replace("rate = 1000", "rate = 1")
    found = planned(tmp_path, MAIN + ACCEL + slow + f'[pipeline.p]\nsource = ["accel", "slow"]\n{more}\n')
    assert found.whole.pipelines["p"].deadline_ns == 10**9
    assert [line.split(" ")[1].rstrip(":") for line in found.lines if "deadline" in line] == where, found.lines


def test_a_spectrum_has_the_rate_of_its_source_and_its_memory_in_the_plan(tmp_path: Path) -> None:
    folder_model(tmp_path / "m", "", net, {"x": (T.FLOAT, ["N", 3, 20, 17])}, {"y": ["N", 1]})
    step = 'preprocess = { step = "log_mel", n_fft = 256, hop_length = 64, n_mels = 20 }\n'
    found = pipeline(plan(tmp_path, ACCEL, f'source = "accel"\nwindow = {{ size = 1024 }}\n{step}'))
    assert [s.sr for s in found.steps] == [1000.0]
    assert found.step_bytes > 8 * 17 * 256  # the frames of a window
