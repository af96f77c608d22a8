"""The eleven deployments with models that fit them, for whoever wants to check, plan or run one.

`written(name, folder)` puts the configuration, its models and the files beside it into a folder; `ENVIRON` is what it
expects around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from tests.support.models import Axes, lstm, save, value

CASES = Path(__file__).parents[1] / "cases" / "deployments"
NAMES = sorted(path.stem for path in CASES.glob("*.toml"))
KEY = "-----BEGIN PRIVATE KEY-----\nnot one\n-----END PRIVATE KEY-----\n"
BESIDE = {
    "plant-ca.pem": "",
    "cloud-ca.pem": "",
    "gateway-12.pem": "",
    "mqtt.secret": "hunter2\n",
    "mqtt": "hunter2",
    "cloud-key": KEY,
    "recordings/run7.csv": "time,ax,ay,az\n2026-01-31T12:00:00Z,0.1,0.2,9.8\n",
}


def environ(folder: Path) -> dict[str, str]:
    return {"EDGED_ID": "scorer-2", "CREDENTIALS_DIRECTORY": str(folder)}


def written(name: str, folder: Path) -> Path:
    """The configuration of a deployment (`02-pumps`, or only `pumps`) in `folder`, with all that it names but the sensors."""
    source = next(CASES / f"{one}.toml" for one in NAMES if one.endswith(name))
    for file, text in BESIDE.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text)
    MODELS[source.stem](folder / "models")
    target = folder / "edged.toml"
    target.write_text(source.read_text("utf-8"), "utf-8")
    return target


def net(
    path: Path, inputs: Mapping[str, tuple[int, Axes]], outputs: Mapping[str, Axes], metadata: dict[str, str] | None = None
) -> Path:
    """A model of any shape: every output is the mean of all inputs of a row, times 1, 2, 3, ... `inputs`: type and axes."""
    nodes, means, weights = [], [], []
    for name, (kind, axes) in inputs.items():
        flat = name if kind == T.FLOAT else f"{name}_f"
        if kind != T.FLOAT:
            nodes.append(h.make_node("Cast", [name], [flat], to=T.FLOAT))
        if isinstance(axes[0], int) and len(axes) == 1:
            nodes.append(h.make_node("ReduceMean", [flat], [f"{name}_m"], keepdims=1))
        else:
            nodes.append(h.make_node("Flatten", [flat], [f"{name}_r"], axis=1))
            nodes.append(h.make_node("ReduceMean", [f"{name}_r"], [f"{name}_m"], axes=[1], keepdims=1))
        means.append(f"{name}_m")
    while len(means) > 1:
        nodes.append(h.make_node("Add", means[:2], [f"{means[0]}_{means[1]}"]))
        means = [f"{means[0]}_{means[1]}", *means[2:]]
    for name, axes in outputs.items():
        shape = [a for a in axes[1:] if isinstance(a, int)]
        weights.append(nh.from_array(np.arange(1, math.prod(shape) + 1, dtype=np.float32)[None], f"{name}_w"))
        weights.append(nh.from_array(np.array([-1, *shape], np.int64), f"{name}_s"))
        nodes.append(h.make_node("MatMul", [means[0], f"{name}_w"], [f"{name}_p"]))
        nodes.append(h.make_node("Reshape", [f"{name}_p", f"{name}_s"], [name]))
    ins = [value(n, kind, axes) for n, (kind, axes) in inputs.items()]
    outs = [value(n, T.FLOAT, axes) for n, axes in outputs.items()]
    return save(path, nodes, ins, outs, weights, metadata=metadata)


def autoencoder(path: Path, axes: Axes) -> Path:
    """y = 0.9 x."""
    ins, outs = [value("x", T.FLOAT, axes)], [value("y", T.FLOAT, axes)]
    return save(path, [h.make_node("Mul", ["x", "k"], ["y"])], ins, outs, [nh.from_array(np.array(0.9, np.float32), "k")])


def folder_model(folder: Path, toml: str, build: Callable[..., Path], *args: Any) -> None:
    build(folder / "model.onnx", *args)
    (folder / "model.toml").write_text(toml)


MOTOR = """
version = "7"
labels = ["healthy", "imbalance", "bearing", "looseness"]
[normalize]
mean = 0.0
std = 2.5
"""
MOTION = """
[normalize]
min = 0
max = 255
"""
DRIVER = """
labels = ["calm", "brisk", "harsh"]
[inputs.x]
fields = ["speed", "rpm", "brake", "throttle", "gear", "hdop", "track"]
layout = "time,field"
[normalize]
mean = [10, 2000, 0, 0, 0, 1, 180]
std = [10, 1000, 1, 1, 1, 1, 90]
"""


def _motor(models: Path) -> None:
    folder_model(models / "motor", MOTOR, net, {"x": (T.FLOAT, ["N", 1024, 3])}, {"scores": ["N", 4]})


def _pumps(models: Path) -> None:
    folder_model(models / "pump", 'version = "2"\n', autoencoder, ["N", 60, 4])


def _rs485(models: Path) -> None:
    net(models / "tool_wear.onnx", {"x": (T.FLOAT, ["N", 6, 400])}, {"hours": ["N", 1]})


def _home(models: Path) -> None:
    net(models / "occupancy.onnx", {"x": (T.FLOAT, ["N", 180, 5])}, {"scores": ["N", 2]})


def _keyword(models: Path) -> None:
    lstm(models / "keyword.onnx")


def _cameras(models: Path) -> None:
    folder_model(models / "motion", MOTION, net, {"frames": (T.FLOAT, ["N", 2, 96, 96, 3])}, {"score": ["N", 1]})
    names = {i: "person" if i == 0 else f"thing {i}" for i in range(80)}
    metadata = {"author": "Ultralytics", "names": repr(names)}
    net(models / "yolo11n.onnx", {"images": (T.FLOAT, ["N", 3, 640, 640])}, {"output0": ["N", 84, 8400]}, metadata)


def _press(models: Path) -> None:
    inputs: dict[str, tuple[int, Axes]] = {"vibration": (T.FLOAT, ["N", 3, 4096]), "temperature": (T.FLOAT, ["N", 1])}
    net(models / "bearing.onnx", inputs, {"score": ["N", 1]})


def _driver(models: Path) -> None:
    folder_model(models / "driver", DRIVER, net, {"x": (T.FLOAT, ["N", 300, 7])}, {"scores": ["N", 3]})


def _scorers(models: Path) -> None:
    net(models / "scorer.onnx", {"features": (T.FLOAT, ["N", 64])}, {"score": ["N", 1]})


def _gateway(models: Path) -> None:
    folder_model(models / "pump", "", net, {"x": (T.FLOAT, ["N", 60, 2])}, {"score": ["N", 1]})


MODELS: dict[str, Callable[[Path], None]] = {
    "01-motor": _motor,
    "02-pumps": _pumps,
    "03-rs485": _rs485,
    "04-home": _home,
    "05-keyword": _keyword,
    "06-cameras": _cameras,
    "07-press": _press,
    "08-driver": _driver,
    "09-scorers": _scorers,
    "10-lab": _motor,
    "11-gateway": _gateway,
}
