"""OpenVINO's build of ONNX Runtime on this CPU: the same trial, comparison and answers, and never where nobody named it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from tests.bench.nets import CNN_INPUT, write_cnn
from tests.peers.install import instead_of_onnxruntime
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, edged

PACKAGE = ("onnxruntime-openvino", "1.24.1")
LIMIT_S = 120.0
CONFIG = """
[device]
id = "t"
[memory]
budget = "1GiB"
[health]
interval = "1s"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in"
max_bytes = "64KiB"
decode = {{ format = "json", fields = [{{ name = "x", shape = [128, 6] }}] }}
[model.m]
path = "m.onnx"
providers = {providers}
{more}
[pipeline.p]
source = "in"
model = "m"
publish = {{ topic = "out" }}
"""


@pytest.fixture(scope="module")
def python() -> str:
    return str(instead_of_onnxruntime(*PACKAGE))


class _Daemon(Daemon):
    """One that has a model tried by OpenVINO before it is ready."""

    def start(self, limit_s: float = LIMIT_S) -> None:
        super().start(limit_s)


def asked(python: str, *arguments: str, folder: Path) -> tuple[int, str, str]:
    environ = {"XDG_CACHE_HOME": str(folder / "cache"), "STATE_DIRECTORY": str(folder / "state")}
    process = edged(*arguments, environ=environ, python=python)
    out, err = process.communicate(timeout=LIMIT_S)
    return process.returncode, out.decode(), err.decode()


def configured(folder: Path, providers: str, more: str = "", port: int = 1) -> str:
    text = CONFIG.format(port=port, providers=providers, more=more)
    (folder / "edged.toml").write_text(text)
    return str(folder / "edged.toml")


def test_the_same_answers_through_the_real_daemon(tmp_path: Path, python: str) -> None:
    path = write_cnn(tmp_path / "m.onnx")
    rows = np.random.default_rng(7).normal(size=(8, *CNN_INPUT)).astype(np.float32)
    wanted = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": rows})[0]
    with Broker(tmp_path) as broker, Client(broker.port, "out", "edged/t/model/m", "edged/t/health") as client:
        configured(tmp_path, '["openvino"]', port=broker.port)
        with _Daemon(tmp_path, (tmp_path / "edged.toml").read_text(), python=python):
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected", limit_s=LIMIT_S)
            for row in rows:
                client.publish("in", json.dumps({"x": row.tolist()}))
            found = [seen.json["outputs"]["y"] for seen in client.wait("out", len(rows), LIMIT_S)]
            said: Any = client.wait("edged/t/model/m", 1, LIMIT_S)[-1].json
    assert said["provider"] == "openvino"
    assert np.allclose(found, wanted, rtol=1e-3, atol=1e-5)


def test_it_runs_only_where_it_is_named(tmp_path: Path, python: str) -> None:
    write_cnn(tmp_path / "m.onnx")
    code, out, err = asked(python, "check", "-c", configured(tmp_path, '"auto"'), folder=tmp_path)
    assert code == 0, err
    assert "model.m: runs on cpu" in out
    code, out, err = asked(python, "check", "-c", configured(tmp_path, '["openvino", "cpu"]'), folder=tmp_path)
    assert code == 0, err
    assert "model.m: runs on openvino" in out


def test_hardware_that_is_not_there_is_a_reason(tmp_path: Path, python: str) -> None:
    """The CPU takes its place where that is allowed, and says why; else nothing does."""
    write_cnn(tmp_path / "m.onnx")
    more = 'provider_options = { openvino = { device_type = "NPU" } }'
    code, out, err = asked(python, "check", "-c", configured(tmp_path, '["openvino", "cpu"]', more), folder=tmp_path)
    assert code == 0, err
    assert "model.m: runs on cpu" in out
    assert "OpenVINO did not run:" in out
    code, out, err = asked(python, "check", "-c", configured(tmp_path, '["openvino"]', more), folder=tmp_path)
    assert code == 78
    assert "OpenVINO is required and did not run:" in err
    assert 'to allow others: ["openvino", "cpu"]' in err


def test_bench_measures_it_beside_the_cpu(tmp_path: Path, python: str) -> None:
    write_cnn(tmp_path / "m.onnx")
    code, out, err = asked(python, "bench", "--seconds", "3", "--json", str(tmp_path / "m.onnx"), folder=tmp_path)
    assert code == 0, err
    found = json.loads(out)
    assert found["ways"][0]["provider"] == "cpu"  # auto does not take it
    assert {"cpu", "openvino"} == {way["provider"] for way in found["ways"]}, found["failed"]


def test_the_usual_package_says_where_to_get_it(tmp_path: Path) -> None:
    write_cnn(tmp_path / "m.onnx")
    code, _, err = asked(sys.executable, "check", "-c", configured(tmp_path, '["openvino"]'), folder=tmp_path)
    assert code == 78
    assert "this onnxruntime has none (package onnxruntime-openvino, in the place of onnxruntime)" in err
