"""The session alone: the model run in a loop on arrays bound once, nothing read and nothing written.

What is measured here is in every contestant's figure, and nobody can save it (but by larger batches).

    python -m tests.bench.alone MODEL ROWS SECONDS      prints a JSON object
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import onnxruntime as ort


def main(model: str, rows: int, seconds: float) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for bind, port in (
        (binding.bind_ortvalue_input, session.get_inputs()[0]),
        (binding.bind_ortvalue_output, session.get_outputs()[0]),
    ):
        array = np.zeros([rows, *port.shape[1:]], np.float32)
        bind(port.name, ort.OrtValue.ortvalue_from_numpy(array))
    for _ in range(20):
        session.run_with_iobinding(binding)
    runs, began, end = 0, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(20):
            session.run_with_iobinding(binding)
        runs += 20
    print(json.dumps({"row_us": (time.process_time() - began) / runs / rows * 1e6}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
