from __future__ import annotations

from pathlib import Path

import pytest

from edged.commands.prepare_model import prepare_model
from edged.errors import EX_OK, ConfigError
from edged.model.onnx import available
from tests.support import models

TEXT = """
[device]
state_dir = "state"
[broker.main]
url = "mqtt://localhost"
[source.in]
type = "mqtt"
topic = "in"
decode = {{ format = "csv", fields = ["a", "b", "c"] }}
[model.m]
path = "m.onnx"
providers = {providers}
[pipeline.p]
source = "in"
model = "m"
"""
ONLY_CPU = pytest.mark.skipif(available() != ["cpu"], reason="this onnxruntime has more than the CPU")


def config(folder: Path, providers: str) -> Path:
    models.linear(folder / "m.onnx")
    (folder / "edged.toml").write_text(TEXT.format(providers=providers))
    return folder / "edged.toml"


def test_nothing_to_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare_model(config(tmp_path, '["cpu"]'), "m") == EX_OK
    assert capsys.readouterr().out == "model.m: nothing to build: its providers do not name tensorrt\n"


@ONLY_CPU
def test_where_it_cannot_be_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare_model(config(tmp_path, '"auto"'), "m") == EX_OK
    assert capsys.readouterr().out.startswith("model.m: nothing to build: this onnxruntime has none")
    for providers, text in {
        '["tensorrt"]': "TensorRT is required and did not run: ",
        '["tensorrt", "cpu"]': "TensorRT did not run: ",
    }.items():
        with pytest.raises(ConfigError) as caught:
            prepare_model(config(tmp_path, providers), "m")
        assert f"edged.toml:12:13: model.m.providers: {text}this onnxruntime has none" in caught.value.lines[0]


def test_a_name_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='found "n"; there are: m'):
        prepare_model(config(tmp_path, '["cpu"]'), "n")
