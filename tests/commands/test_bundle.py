from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from edged.cli import main

CONFIG = """
[device]
id = "t"
state_dir = "state"
[broker.main]
url = "mqtt://127.0.0.1:1"
username = "eve"
password = "hunter2"
[source.s]
type = "simulate"
signal = "sine"
rate = 10
[model.tiny]
path = "MODELS/tiny"
[pipeline.p]
source = "s"
window = { size = 8 }
model = "tiny"
inputs = { x = { fields = ["ax"] } }
"""


def bundled(config: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, bytes]:
    path = config.with_name("b.tar.gz")
    assert main(["bundle", "-c", str(config), "-o", str(path)]) == 0
    assert "left out:\n  - secrets" in capsys.readouterr().out
    with tarfile.open(path) as archive:
        return {name.partition("/")[2]: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]


def test_what_a_bug_report_needs_and_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "edged.toml"
    config.write_text(CONFIG.replace("MODELS", str(Path(__file__).parents[2] / "models")))
    inside = bundled(config, capsys)
    assert {"README.txt", "versions.json", "doctor.json", "edged.toml", "plan.json", "models.json"} < inside.keys()
    assert b"no edged runs with" in inside["status.json.failed.txt"]
    assert b'username = "eve"\n# a line that may hold a secret is left out here\n[source.s]' in inside["edged.toml"]
    assert not any(b"hunter2" in content for content in inside.values())
    assert len(json.loads(inside["models.json"])["tiny"]["sha256"]) == 64
    assert json.loads(inside["plan.json"])["device"] == "t"


def test_a_configuration_that_is_wrong_is_bundled_with_its_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "edged.toml"
    config.write_text(CONFIG.replace("signal", "sinal"))
    inside = bundled(config, capsys)
    assert b'did you mean "signal"' in inside["plan.json.failed.txt"]
    assert b"sinal" in inside["edged.toml"]


def test_what_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.tar.gz").write_text("mine")
    assert main(["bundle", "-c", str(tmp_path / "edged.toml"), "-o", str(tmp_path / "b.tar.gz")]) == 70
    assert "b.tar.gz: cannot be written: File exists" in capsys.readouterr().err
