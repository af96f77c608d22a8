"""A step of a recurrent network: `session.run` with the state handed over as arrays, against what edged does with it.

In turns, processor time, the best round of each: the machine's noise is in none of them.

    python -m tests.bench.remember [HIDDEN]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edged.model.load import load_session
from edged.model.manifest import read_manifest
from edged.model.records import ModelPlan
from edged.pipeline.recurrent import States
from edged.records import NONE, Slot
from tests.support.models import save, value

WIDTH, BATCH = 16, 16
ROUNDS, STEPS = 60, 320


def gru(path: Path, hidden: int) -> Path:
    """y[N, 4] of x[N, 16] and h[1, N, hidden]."""
    rng = np.random.default_rng(0)
    shapes = {"W": (1, 3 * hidden, WIDTH), "R": (1, 3 * hidden, hidden), "B": (1, 6 * hidden), "O": (hidden, 4)}
    weights = [nh.from_array((rng.standard_normal(s) / 10).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        h.make_node("Unsqueeze", ["x", "first"], ["step"]),
        h.make_node("GRU", ["step", "W", "R", "B", "", "h"], ["", "h_out"], hidden_size=hidden),
        h.make_node("Squeeze", ["h_out", "first"], ["last"]),
        h.make_node("MatMul", ["last", "O"], ["y"]),
    ]
    ins = [value("x", T.FLOAT, ["N", WIDTH]), value("h", T.FLOAT, [1, "N", hidden])]
    outs = [value("y", T.FLOAT, ["N", 4]), value("h_out", T.FLOAT, [1, "N", hidden])]
    return save(path, nodes, ins, outs, [*weights, nh.from_array(np.array([0], np.int64), "first")])


def kept(folder: Path, keys: int, batch: int) -> tuple[object, Callable[[], None]]:
    """The session, and a step of `batch` keys."""
    manifest = read_manifest("m", folder)[0]
    assert manifest is not None
    [state] = manifest.states
    plan = ModelPlan(manifest, {"x": (WIDTH,), "h": state.shape}, providers=("cpu",), batch_max=batch)
    bound = load_session(plan)[0]
    states = States([(state.input, state.output, state.shape, state.dtype)], keys)
    states.be_alone(True)
    slots = [Slot(0, key, 0, 0, NONE, False) for key in range(batch)]
    x = np.ones((batch, WIDTH), np.float32)

    def step() -> None:
        bound.inputs["x"][:] = x
        states.gather(slots, bound.inputs, 0)
        states.keep(slots, bound.run(batch))

    return bound.session, step


def main(hidden: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        gru(Path(name) / "model.onnx", hidden)
        (Path(name) / "model.toml").write_text('state = { h_out = "h" }')
        session, alone = kept(Path(name), 1, 1)
        _, single = kept(Path(name), 256, 1)
        _, together = kept(Path(name), 256, BATCH)
    x, state = np.ones((1, WIDTH), np.float32), [np.zeros((1, 1, hidden), np.float32)]

    def by_hand() -> None:
        state[0] = session.run(None, {"x": x, "h": state[0]})[1]  # type: ignore[attr-defined]

    ways = {
        "session.run, state as an array": (by_hand, 1),
        "edged, one key in all": (alone, 1),
        "edged, a run of one of 256 keys": (single, 1),
        f"edged, a run of {BATCH} of 256 keys": (together, BATCH),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for way, (step, rows) in ways.items():
            began = time.thread_time_ns()
            for _ in range(STEPS // rows):
                step()
            best[way] = min(best[way], (time.thread_time_ns() - began) / STEPS / 1e3)
    for way, step_us in best.items():
        print(f"{way:34} {step_us:6.2f} us a step  {step_us / best['session.run, state as an array']:5.0%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 128)
