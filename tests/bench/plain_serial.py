"""What a user writes first for a serial sensor: readline, float(), a deque, the session run when the window is due.

python -m tests.bench.plain_serial MODEL TTY TOPIC_OUT PORT SIZE HOP
"""

from __future__ import annotations

import json
import sys
from collections import deque

import numpy as np
import onnxruntime as ort
import paho.mqtt.client as mqtt
import serial
from paho.mqtt.enums import CallbackAPIVersion


def main(model: str, tty: str, topic_out: str, port: int, size: int, hop: int) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    shape = [1, *session.get_inputs()[0].shape[1:]]
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    window: deque[list[float]] = deque(maxlen=size)
    lines = 0
    with serial.Serial(tty, 921600) as sensor:
        while True:
            window.append([float(v) for v in sensor.readline().split(b",")])
            lines += 1
            if lines >= size and (lines - size) % hop == 0:
                y = session.run(None, {name: np.array(window, np.float32).reshape(shape)})[0]
                client.publish(topic_out, json.dumps({"y": y[0].tolist()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6]))
