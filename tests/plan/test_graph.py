from __future__ import annotations

import json
from pathlib import Path

from edged.plan.graph import graph_json, graph_text
from tests.support import models
from tests.support.planning import MAIN, planned

TEXT = """
[source.in]
type = "mqtt"
topic = "in/{pump}"
decode = { format = "json", fields = ["v"] }
[source.temp]
type = "mqtt"
topic = "temp"
decode = { format = "json", fields = ["t"] }
[model.small]
path = "m.onnx"
[model.large]
path = "m.onnx"
[pipeline.detail]
source = "in"
gate = { source = "anomaly", of = "anomaly", hold = "5s" }
model = "large"
publish = [{ topic = "out/{pump}" }, { topic = "log/{pump}", qos = 0 }]
[pipeline.anomaly]
source = "in"
model = "small"
output = { type = "anomaly", above = 0.5 }
publish = []
[pipeline.trend]
source = ["anomaly", "temp"]
align = { tolerance = "1min" }
gate = { source = "temp", of = "t", above = 10, below = 30 }
"""


def test_who_feeds_whom(tmp_path: Path) -> None:
    models.linear(tmp_path / "m.onnx", width=1, out=1)
    plan = planned(tmp_path, MAIN + TEXT).whole
    assert graph_text(plan) == [
        "source.in",
        "  --> pipeline.detail, only while pipeline.anomaly says anomaly, and 5s longer --> model.large "
        "--> main: out/{pump}, main: log/{pump}",
        "  --> pipeline.anomaly --> model.small",
        "      --> pipeline.trend + source.temp, only while source.temp says t above 10 and t below 30 "
        "--> main: edged/pi4/trend/{key}",
        "source.temp",
    ]
    facts = json.loads(json.dumps(graph_json(plan)))
    gate = {"from": "pipeline.anomaly", "to": "pipeline.detail", "kind": "gate", "while": "anomaly, and 5s longer"}
    assert gate in facts["edges"]
    assert {"from": "pipeline.anomaly", "to": "pipeline.trend", "kind": "samples"} in facts["edges"]
    assert {"from": "pipeline.detail", "to": "model.large", "kind": "model"} in facts["edges"]
    assert {"from": "pipeline.detail", "to": "main: log/{pump}", "kind": "publish"} in facts["edges"]
    assert facts["nodes"][:2] == ["source.in", "source.temp"]
    ends = {end for edge in facts["edges"] for end in (edge["from"], edge["to"])}
    assert ends <= {*facts["nodes"]}
