"""Only a copy that was written anew is ever loaded, by whichever command; and nothing is left of those that a command made."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from tests.support import models
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, edged, said, until

TEXT = """
[device]
id = "t"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in/x"
decode = {{ format = "csv", fields = ["a", "b", "c"] }}
[model.m]
path = "model"
providers = ["cpu"]
[pipeline.p]
source = "in"
model = "m"
publish = {{ topic = "out/p" }}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that onnxruntime does not load as it is: a key of its weights that it does not know, and its copy does not have."""
    path = models.external(tmp_path / "model" / "model.onnx", "w.bin")
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer[0].external_data.add(key="unknown", value="to onnxruntime")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Exception, match="model format error"):
        ort.InferenceSession(str(path))
    return tmp_path


@pytest.mark.parametrize("command", ["check", "inspect", "bench", "bench -c"])
def test_a_command_loads_a_copy_and_leaves_none(folder: Path, command: str) -> None:
    config, scratch = folder / "edged.toml", folder / "scratch"
    config.write_text(TEXT.format(port=1))
    scratch.mkdir()
    arguments = {
        "check": ("check", "-c", str(config)),
        "inspect": ("model", "inspect", str(folder / "model")),
        "bench": ("bench", str(folder / "model"), "--seconds", "2"),
        "bench -c": ("bench", "m", "-c", str(config), "--seconds", "2"),
    }[command]
    environ = {"STATE_DIRECTORY": str(folder / "state"), "TMPDIR": str(scratch)}
    code, out, err = said(edged(*arguments, environ=environ))
    assert (code, err) == (0, "")
    assert str(scratch) not in out
    assert os.listdir(scratch) == []
    assert not (folder / "state" / "models").exists()


def test_the_daemon_loads_a_copy_also_where_it_cannot_keep_one(folder: Path) -> None:
    scratch = folder / "scratch"
    scratch.mkdir()
    with Broker(folder) as broker, Client(broker.port) as client:
        (folder / "state").mkdir()
        (folder / "state" / "models").write_text("in the way")
        with Daemon(folder, TEXT.format(port=broker.port), environ={"TMPDIR": str(scratch)}) as daemon:
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            client.publish("in/x", "1,1,1")
            assert client.wait("out/p", 1)[0].json["outputs"]["y"] == [6, 9]
            assert f"its copy is in {scratch}" in daemon.log
            assert len(os.listdir(scratch)) == 1
            assert daemon.stop() == 0
        assert os.listdir(scratch) == []


def test_what_a_killed_command_left_is_gone_after_the_next_one(folder: Path) -> None:
    """But not what another one is using, nor what only looks alike."""
    scratch, spared, used = folder / "scratch", "edged-notes", f"edged-{1:016x}"
    scratch.mkdir()
    environ = {"STATE_DIRECTORY": str(folder / "state"), "TMPDIR": str(scratch)}
    bench = edged("bench", str(folder / "model"), "--seconds", "60", environ=environ)
    until(lambda: [*scratch.glob("*/*/model.onnx")])
    bench.kill()
    bench.communicate()
    for name in (spared, used):
        (scratch / name).mkdir()
    (scratch / f"edged-{2:016x}").symlink_to(folder / "model")
    fd = os.open(scratch / used, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert said(edged("model", "inspect", str(folder / "model"), environ=environ))[0] == 0
    os.close(fd)
    assert sorted(os.listdir(scratch)) == [used, f"edged-{2:016x}", spared]
    assert (folder / "model" / "model.onnx").exists()
