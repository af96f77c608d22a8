"""What a user writes first for MQTT: paho's own loop, the session run in its callback, json.

python -m tests.bench.plain_mqtt MODEL TOPIC_IN TOPIC_OUT PORT QOS raw|json
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import onnxruntime as ort
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


def main(model: str, topic_in: str, topic_out: str, port: int, qos: int, form: str) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    shape = [1, *session.get_inputs()[0].shape[1:]]

    def on_connect(client: mqtt.Client, *_: Any) -> None:
        client.subscribe(topic_in, qos)

    def on_message(client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        if form == "raw":
            x = np.frombuffer(message.payload, np.float32)
        else:
            x = np.array(json.loads(message.payload)["x"], np.float32)
        y = session.run(None, {name: x.reshape(shape)})[0]
        client.publish(topic_out, json.dumps({"y": y[0].tolist()}), qos)

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = on_connect
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_forever()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
