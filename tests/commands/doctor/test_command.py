from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edged.cli import main
from edged.commands.doctor.command import line
from edged.commands.doctor.findings import Finding
from tests.support.broker import free_port


def test_a_line_a_finding(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "edged.toml"
    config.write_text(f'[broker.main]\nurl = "mqtt://127.0.0.1:{free_port()}"\n')
    assert main(["doctor", "-c", str(config)]) == 69
    out = capsys.readouterr().out.splitlines()
    assert all(text[:4].strip() in ("ok", "warn", "bad") for text in out)
    (broker,) = (text for text in out if text.split()[1] == "broker")
    assert broker.startswith("bad   broker         main: nothing listens at mqtt://127.0.0.1:")
    assert broker.endswith("  =>  start the broker at this address, or correct url; edged help refused")


def test_without_a_configuration_the_machine_is_looked_at(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "--json", "-c", str(tmp_path / "absent.toml")]) == 69
    found = json.loads(capsys.readouterr().out)
    assert found["worst"] == "bad"
    bad = [f for f in found["findings"] if f["level"] == "bad"]
    assert [f["topic"] for f in bad] == ["configuration"]
    assert bad[0]["text"] == f"{tmp_path}/absent.toml: there is no such file"
    assert bad[0]["fix"] == f"edged check -c {tmp_path}/absent.toml"
    assert found["facts"]["onnx"]["providers"] == ["cpu"]


def test_a_line() -> None:
    assert line(Finding("ok", "clock", "synchronized")) == "ok    clock          synchronized"
    assert line(Finding("bad", "disk", "full", "make room")) == "bad   disk           full  =>  make room"
    held = Finding("bad", "ports", "held by gpsd", "stop it", "busy")
    assert line(held) == "bad   ports          held by gpsd  =>  stop it; edged help busy"
    assert line(Finding("bad", "ports", "held by \x1b[2J\n, pid 7")) == "bad   ports          held by \\x1b[2J\\n, pid 7"


def test_a_broken_onnxruntime_does_not_keep_it_from_looking() -> None:
    code = "import sys; import edged.commands.doctor.command; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
