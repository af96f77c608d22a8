"""Servers of models as they are: MLServer with a model of scikit-learn, LiteLLM's proxy with answers whole and in parts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.peers.install import environment
from tests.support.broker import Broker, free_port
from tests.support.daemon import Client, Daemon, balanced, until

LIMIT_S = 120.0
BASE = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in/{{pump}}"
max_keys = 4
decode = {{ format = "json", fields = ["a", "b"] }}
"""
MLSERVER = (
    BASE
    + """
[model.far]
url = "http://127.0.0.1:{peer}/v2/models/sum"
protocol = "kserve"
[pipeline.far]
source = "in"
model = "far"
output = {{ type = "regress", fields = ["sum"] }}
publish = {{ topic = "out/{{pump}}" }}
"""
)
LITELLM = (
    BASE
    + """
[model.large]
url = "http://127.0.0.1:{peer}/v1"
protocol = "openai"
name = "anything"
stream = {stream}
[pipeline.words]
source = "in"
model = "large"
inputs = {{ prompt = {{ template = "Pump {{pump}}: a is {{a}}" }} }}
publish = {{ topic = "out/{{pump}}" }}
"""
)
TRAIN = """
import joblib, numpy, sys
from sklearn.linear_model import LinearRegression
x = numpy.random.default_rng(1).normal(size=(50, 2))
joblib.dump(LinearRegression().fit(x, x @ [2.0, -1.0] + 0.5), sys.argv[1])
"""
WORDS = "The bearing of the pump is worn, and should be replaced within a week or so."


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as one:
        yield one


@contextmanager
def running(command: list[str], log: Path, url: str, **environ: str) -> Iterator[None]:
    """A server, until it answers at `url`."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **environ}, cwd=log.parent)
        try:
            until(lambda: process.poll() is not None or _answers(url), LIMIT_S, f"{url}; see {log}")
            assert process.poll() is None, log.read_text()[-4000:]
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    with suppress(URLError, OSError), urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)
    return False


def test_mlserver_with_a_model_of_scikit_learn(tmp_path: Path, broker: Broker) -> None:
    python = str(environment("mlserver", "1.7.1", "mlserver==1.7.1", "mlserver-sklearn==1.7.1"))
    ports = [free_port() for _ in range(3)]
    folder = tmp_path / "models"
    folder.mkdir()
    subprocess.run([python, "-c", TRAIN, str(folder / "sum.joblib")], check=True, timeout=LIMIT_S)
    names = ("http_port", "grpc_port", "metrics_port")
    settings = {"host": "127.0.0.1", **dict(zip(names, ports, strict=True)), "parallel_workers": 0}
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {
        "name": "sum",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./sum.joblib"},
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}],
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    command = [python, "-c", "from mlserver.cli import main; main()", "start", str(folder)]
    ready = f"http://127.0.0.1:{ports[0]}/v2/models/sum/ready"
    with (
        running(command, tmp_path / "mlserver.log", ready),
        Client(broker.port) as client,
        Daemon(tmp_path, MLSERVER.format(port=broker.port, peer=ports[0])),
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish_all("in/p7", ['{"a":3,"b":1.5}', '{"a":-1,"b":0}'])
        results = client.wait("out/p7", 2)
        assert [round(one.json["values"]["sum"], 6) for one in results] == [5.0, -1.5]
        assert {one.json["by"] for one in results} == {"far"}
        assert balanced(client.health(lambda h: h["models"]["far"]["answered"] == 2))


def test_litellm_s_proxy_whole_and_in_parts(tmp_path: Path, broker: Broker) -> None:
    python = str(environment("litellm", "1.108.7", "litellm[proxy]==1.108.7"))
    port = free_port()
    models = [{"model_name": "anything", "litellm_params": {"model": "openai/anything", "mock_response": WORDS}}]
    (tmp_path / "litellm.yaml").write_text(json.dumps({"model_list": models}))
    arguments = ["--config", str(tmp_path / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    command = [python, "-c", "from litellm import run_server; run_server()", *arguments]
    environ = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    ready = f"http://127.0.0.1:{port}/health/liveliness"
    with running(command, tmp_path / "litellm.log", ready, **environ), Client(broker.port) as client:
        for stream, count in (("false", 1), ("true", 2)):
            text = LITELLM.format(port=broker.port, peer=port, stream=stream)
            with Daemon(tmp_path, text):
                client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
                client.publish_all("in/p7", ['{"a":3,"b":1.5}'])
                words = client.wait("out/p7", count)[-1].json
                assert (words["text"], words["by"]) == (WORDS, "large")
