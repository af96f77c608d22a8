"""Model files that damage, malice or mistake can put in place of a good one, and what must be said of each.

All take float32[n,3] and give float32[n,2] like `models.linear`, as far as they can, so that only what is wrong with them keeps
them from taking its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from tests import mutants
from tests.support import models
from tests.support.models import save, value

INPUTS = [value("x", T.FLOAT, ["n", 3])]
OUTPUTS = [value("y", T.FLOAT, ["n", 2])]
OPS = [h.make_opsetid("", 17), h.make_opsetid("f", 1)]


def weights() -> onnx.TensorProto:
    return nh.from_array(np.ones((3, 2), np.float32), "w")


def truncated(folder: Path) -> None:
    whole = models.linear(folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(whole[: len(whole) // 2])


def empty(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"")


def function_chain(folder: Path, count: int = 3000) -> None:
    """Each function calls the next: onnxruntime inlines them by recursion, until its stack is gone."""
    functions = [
        h.make_function("f", f"f{i}", ["x"], ["y"], [h.make_node(f"f{i + 1}", ["x"], ["y"], domain="f")], OPS)
        for i in range(count)
    ]
    functions.append(h.make_function("f", f"f{count}", ["x"], ["y"], [h.make_node("Relu", ["x"], ["y"])], OPS))
    nodes = [h.make_node("f0", ["x"], ["h"], domain="f"), h.make_node("MatMul", ["h", "w"], ["y"])]
    opsets = (("", 17), ("f", 1))
    save(folder / "model.onnx", nodes, INPUTS, OUTPUTS, [weights()], opsets=opsets, functions=functions)


def endless_loop(folder: Path) -> None:
    body = h.make_graph(
        [
            h.make_node("Identity", ["more"], ["more_out"]),
            h.make_node("Add", ["h_in", "h_in"], ["h_out"]),
        ],
        "body",
        [value("i", T.INT64, []), value("more", T.BOOL, []), value("h_in", T.FLOAT, ["n", 2])],
        [value("more_out", T.BOOL, []), value("h_out", T.FLOAT, ["n", 2])],
    )
    nodes = [h.make_node("MatMul", ["x", "w"], ["h"]), h.make_node("Loop", ["", "true", "h"], ["y"], body=body)]
    true = nh.from_array(np.array(True), "true")
    save(folder / "model.onnx", nodes, INPUTS, OUTPUTS, [weights(), true])


def much_memory(folder: Path) -> None:
    """64 GiB of ones, from a file of a few hundred bytes."""
    nodes = [
        h.make_node("ConstantOfShape", ["size"], ["much"], value=h.make_tensor("one", T.FLOAT, [1], [1.0])),
        h.make_node("ReduceMax", ["much"], ["most"], keepdims=0),
        h.make_node("MatMul", ["x", "w"], ["h"]),
        h.make_node("Mul", ["h", "most"], ["y"]),
    ]
    size = nh.from_array(np.array([16 << 30], np.int64), "size")
    save(folder / "model.onnx", nodes, INPUTS, OUTPUTS, [weights(), size])


def unknown_operator(folder: Path) -> None:
    nodes = [h.make_node("Frobnicate", ["x", "w"], ["y"], domain="com.acme")]
    save(folder / "model.onnx", nodes, INPUTS, OUTPUTS, [weights()], opsets=(("", 17), ("com.acme", 1)))


def _elsewhere(folder: Path, location: str) -> Path:
    """Its weights in a file outside its folder, which is there, so that nothing but a check keeps it from being read."""
    models.external(folder / "model.onnx", "w.bin")
    model = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    secret = folder.parent / "secret.bin"
    (folder / "w.bin").replace(secret)
    return secret


def parent_folder(folder: Path) -> None:
    _elsewhere(folder, "../secret.bin")


def absolute_path(folder: Path) -> None:
    _elsewhere(folder, str(folder.parent / "secret.bin"))


def symbolic_link(folder: Path) -> None:
    (folder / "w.bin").symlink_to(_elsewhere(folder, "w.bin"))


def hard_link(folder: Path) -> None:
    os.link(_elsewhere(folder, "w.bin"), folder / "w.bin")


def wrong_digest(folder: Path) -> None:
    models.linear(folder / "model.onnx")
    (folder / "model.toml").write_text(f'sha256 = "{"0" * 64}"\n')


def memory_address(folder: Path) -> None:
    """To onnxruntime this name is the memory of its own process."""
    _elsewhere(folder, mutants.MEMORY).replace(_made(folder / mutants.MEMORY))


def hidden_weights(folder: Path) -> None:
    """Their place stands in a field whose number has more bits than onnxruntime 1.23 looks at."""
    models.linear(folder / "model.onnx")
    fields = mutants.tree(onnx.load(str(folder / "model.onnx")))
    tensor = next(m for m in mutants.messages("ModelProto", fields) if m.name == "TensorProto")
    entry = [mutants.Field(1, 2, b"location"), mutants.Field(2, 2, str(_made(folder.parent / "secret.bin")).encode())]
    tensor.fields += [mutants.Field(13, 2, entry, more_bits=1), mutants.Field(14, 0, 1)]
    (folder / "model.onnx").write_bytes(mutants.encoded(fields))


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(24))
    return path


def weights_in_a_pipe(folder: Path) -> None:
    models.external(folder / "model.onnx", "w.bin")
    (folder / "w.bin").unlink()
    os.mkfifo(folder / "w.bin")


def manifest_in_a_pipe(folder: Path) -> None:
    models.linear(folder / "model.onnx")
    os.mkfifo(folder / "model.toml")


def endless_manifest(folder: Path) -> None:
    models.linear(folder / "model.onnx")
    (folder / "model.toml").symlink_to("/dev/zero")


def large_manifest(folder: Path) -> None:
    models.linear(folder / "model.onnx")
    (folder / "model.toml").touch()
    os.truncate(folder / "model.toml", 300 << 20)


def manifest_elsewhere(folder: Path) -> None:
    models.linear(folder / "model.onnx")
    secret = folder.parent / "secret.toml"
    secret.write_text('version = 1\npassword = "hunter2"\n')
    (folder / "model.toml").symlink_to(secret)


def golden_in_a_pipe(folder: Path) -> None:
    models.linear(folder / "model.onnx")
    (folder / "model.toml").write_text('golden = "golden.npz"\n')
    os.mkfifo(folder / "golden.npz")


def damaged_golden(folder: Path) -> None:
    """In its data: nothing is to be seen of it before that is read."""
    models.linear(folder / "model.onnx")
    (folder / "model.toml").write_text('golden = "golden.npz"\n')
    y = np.full((3000, 2), [6, 9], np.float32)
    y[-1] = 7
    np.savez(folder / "golden.npz", x=np.ones((3000, 3), np.float32), y=y)
    data = (folder / "golden.npz").read_bytes()
    (folder / "golden.npz").write_bytes(data.replace(y[-1].tobytes(), y[0].tobytes()))


def only_nan(folder: Path) -> None:
    nodes = [h.make_node("MatMul", ["x", "w"], ["y"])]
    save(folder / "model.onnx", nodes, INPUTS, OUTPUTS, [nh.from_array(np.full((3, 2), np.nan, np.float32), "w")])


ALL: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncated, "not an ONNX model, or a damaged one"),
    "empty": (empty, "the file is empty"),
    "function chain": (function_chain, "local functions call each other 3001 deep; onnxruntime dies of that"),
    "endless loop": (endless_loop, "its first run did not end within"),
    "64 GiB": (much_memory, "it needs more than the"),
    "unknown operator": (unknown_operator, "it uses the operator com.acme:Frobnicate, which onnxruntime"),
    "../": (parent_folder, "its weights lie in '../secret.bin'; only files within the model's own folder are read"),
    "absolute": (absolute_path, "only files within the model's own folder are read"),
    "symbolic link": (symbolic_link, "its weights lie in 'w.bin', which is a symbolic link; put the file itself there"),
    "hard link": (
        hard_link,
        "its weights lie in 'w.bin', which is a hard link to a file elsewhere; put a copy of the file there",
    ),
    "memory address": (memory_address, "its weights lie in '*/_ORT_MEM_ADDR_/*'; only letters, digits, spaces and"),
    "hidden weights": (hidden_weights, "its tag has more than 32 bits"),
    "weights in a pipe": (weights_in_a_pipe, "its weights lie in 'w.bin', which is not a plain file"),
    "manifest in a pipe": (manifest_in_a_pipe, "model.toml: expected a plain file, found a pipe"),
    "endless manifest": (endless_manifest, "model.toml: expected a plain file, found a device"),
    "large manifest": (large_manifest, "model.toml: expected at most 1.0 MiB, found 300.0 MiB"),
    "manifest elsewhere": (manifest_elsewhere, "model.toml: it is a link to a file elsewhere, and something in that is wrong"),
    "golden in a pipe": (golden_in_a_pipe, "golden: golden.npz: expected a plain file, found a pipe"),
    "damaged golden": (damaged_golden, "golden samples in golden.npz: no .npz file: Bad CRC-32 for file 'y.npy'"),
    "only NaN": (only_nan, "the model does not run: all that it gives is not a number (NaN)"),
    "wrong digest": (wrong_digest, "the two files do not belong together"),
}
"""How to make each in a folder (which must be there), and what is said of it."""


def build(name: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    ALL[name][0](folder)
    return folder
