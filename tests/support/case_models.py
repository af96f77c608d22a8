"""The models that the cases in `cases/errors` find in their folder `models/`."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto as T
from onnx import helper as h

from tests.support.deployments import autoencoder, folder_model, net
from tests.support.models import Axes, centred, named, save, sequence, text, total, value, zip_map

MOTOR = 'labels = ["healthy", "imbalance", "bearing", "looseness"]\n'
NAMED = '[inputs.x]\nfields = ["temp", "p_in", "p_out", "rpm", "vibration"]\n'
UNITS = '[inputs.x]\nfields = ["ax", "ay", "az"]\nunits = { ax = "g", ay = "g", az = "g" }\n'
NORMALIZED = "[normalize]\nmean = [1, 2, 3]\nstd = [1, 1, 0.5]\n"
SHAPED = "[inputs.x]\nshape = [512, 3]\n"


def argmax(path: Path) -> Path:
    """label[N]: the number of the largest of three."""
    node = h.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0)
    return save(path, [node], [value("x", T.FLOAT, ["N", 3])], [value("label", T.INT64, ["N"])])


def unlike(path: Path) -> Path:
    """h_out[2, N, 64] does not fit into h[2, N, 128]."""
    nodes = [h.make_node("Identity", ["h"], ["h_out"]), h.make_node("Identity", ["audio"], ["scores"])]
    ins = [value("audio", T.FLOAT, ["N", 3]), value("h", T.FLOAT, [2, "N", 128])]
    return save(path, nodes, ins, [value("scores", T.FLOAT, ["N", 3]), value("h_out", T.FLOAT, [2, "N", 64])])


def build(folder: Path) -> Path:
    """Puts them into `folder`."""
    scores: dict[str, list[int | str | None]] = {"scores": ["N", 4]}
    for name, toml in {"motor": MOTOR, "normalized": NORMALIZED, "units": UNITS}.items():
        folder_model(folder / name, toml, net, {"x": (T.FLOAT, ["N", 1024, 3])}, scores)
    folder_model(folder / "shaped", SHAPED, net, {"x": (T.FLOAT, ["N", "t", 3])}, scores)
    folder_model(folder / "five", NAMED, net, {"x": (T.FLOAT, ["N", 60, 5])}, {"score": ["N", 1]})
    folder_model(folder / "wrong_hash", f'sha256 = "{"0" * 64}"\n', autoencoder, ["N", 60, 4])
    folder_model(folder / "wrong_toml", "lables = []\n", autoencoder, ["N", 60, 4])
    net(folder / "five.onnx", {"x": (T.FLOAT, ["N", 60, 5])}, {"score": ["N", 1]})
    net(folder / "square.onnx", {"x": (T.FLOAT, ["N", 4, 4])}, {"score": ["N", 1]})
    net(folder / "labelled.onnx", {"x": (T.FLOAT, ["N", 3])}, {"scores": ["N", 4]}, {"labels": "a,b,c"})
    net(folder / "row.onnx", {"x": (T.FLOAT, ["N", 3])}, {"scores": ["N", 4]})
    net(folder / "hours.onnx", {"x": (T.FLOAT, ["N", 3])}, {"hours": ["N", 2]})
    net(folder / "two_outputs.onnx", {"x": (T.FLOAT, ["N", 3])}, {"scores": ["N", 4], "embedding": ["N", 8]})
    net(folder / "open.onnx", {"x": (T.FLOAT, ["N", 3])}, {"scores": ["N", "classes"]})
    net(folder / "pump.onnx", {"x": (T.FLOAT, ["N", 60, 4])}, {"y": ["N", 60, 3]})
    net(folder / "mono.onnx", {"audio": (T.FLOAT, ["N", 576]), "sr": (T.INT64, [1])}, scores)
    net(folder / "twins.onnx", {"a": (T.FLOAT, ["N", 3]), "b": (T.FLOAT, ["N", 1])}, {"y": ["N", 3]})
    net(folder / "whole.onnx", {"x": (T.INT64, ["N", 3])}, {"y": ["N", 3]})
    net(folder / "yolo.onnx", {"images": (T.FLOAT, ["N", 640, 640, 3])}, {"boxes": ["N", 84]})
    three = 'labels = ["cat", "dog", "bird"]\n[normalize]\nmin = 0\nmax = 255\n'
    folder_model(folder / "detector", three, net, {"images": (T.FLOAT, ["N", 3, 48, 64])}, {"boxes": ["N", 7, 63]})
    net(folder / "any_picture.onnx", {"x": (T.FLOAT, ["N", "a", "b", "c"])}, {"boxes": ["N", "n", 6]}, {"author": "Ultralytics"})
    named(folder / "named.onnx")
    pictures: dict[str, tuple[int, Axes]] = {"x": (T.FLOAT, ["N", 3, "h", "w"])}
    net(folder / "unsaid.onnx", pictures, {"score": ["N", 1]})
    net(
        folder / "made_for_320.onnx",
        pictures,
        {"score": ["N", 1]},
        {"author": "Ultralytics", "imgsz": "[320, 320]", "stride": "32"},
    )
    sequence(folder / "torch.onnx", (8, None, 3), (None, 4))
    net(folder / "nine.onnx", {"x": (T.FLOAT, [None, 9])}, scores)
    vad: dict[str, tuple[int, Axes]] = {
        "input": (T.FLOAT, [None, None]),
        "state": (T.FLOAT, [2, None, 128]),
        "sr": (T.INT64, [1]),
    }
    net(folder / "vad.onnx", vad, {"output": [None, 1], "stateN": [None, None, None]})
    argmax(folder / "class.onnx")
    unlike(folder / "unlike.onnx")
    total(folder / "total.onnx", width=3)
    net(folder / "any.onnx", {"x": (T.FLOAT, ["N", "t", 3])}, scores)
    zip_map(folder / "forest.onnx")
    text(folder / "text.onnx")
    centred(folder / "centred.onnx")
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "notes.onnx").write_text("this is no model\n")
    (folder / "labels.txt").write_text("healthy\nimbalance\nbearing\n")
    return folder
