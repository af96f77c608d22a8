from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from edged.commands.doctor.facts import Daemon
from edged.commands.doctor.gather import ask_pi, daemon, gather, live, look_at, probe
from edged.commands.doctor.wanted import wanted
from edged.config.external import broker_url
from edged.config.parsers.value import Surroundings
from edged.daemon.control import Control, ask
from edged.mqtt.settings import LinkSettings
from tests.support.broker import Broker, free_port
from tests.support.mqtt_peer import make_certificates

TLS = "listener {port} 127.0.0.1\ncafile {dir}/ca.pem\ncertfile {dir}/server.pem\nkeyfile {dir}/server.key"


def link(url: str, folder: Path, ca: Path | None = None) -> LinkSettings:
    return LinkSettings("main", broker_url(url, Surroundings(folder, {})), "", ca=ca)


def test_onnxruntime_is_asked_in_a_process_of_its_own() -> None:
    found = probe()
    assert found.error == ""
    assert found.version == found.packages["onnxruntime"]
    assert found.providers == ("cpu",)
    assert found.broken == {}


def test_an_onnxruntime_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libonnxruntime.so.1: wrong ELF class')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert probe().error == "ImportError: libonnxruntime.so.1: wrong ELF class"
    (tmp_path / "onnxruntime.py").write_text("import os; os.kill(os.getpid(), 4)\n")
    assert probe().error == "it crashes when it is imported (signal 4)"
    (tmp_path / "onnxruntime.py").write_text("import os; os._exit(3)\n")
    assert probe().error == "it cannot be imported: exit status 3"


def test_the_flags_of_a_pi_that_only_its_own_command_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "vcgencmd"
    program.write_text("#!/bin/sh\necho throttled=0x50005\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert ask_pi() == 0x50005
    program.write_text("#!/bin/sh\necho VCHI initialization failed >&2; exit 255\n")
    assert ask_pi() is None
    program.unlink()
    assert ask_pi() is None


async def test_a_broker_that_answers(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        found = await look_at(link(f"mqtt://localhost:{broker.port}", tmp_path))
    assert (found.failure, found.is_local, found.certificate_ends) == ("", True, None)
    assert found.took_ms > 0


async def test_a_broker_with_a_certificate(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    with Broker(tmp_path, listener=TLS) as broker:
        url = f"mqtts://localhost:{broker.port}"
        found = await look_at(link(url, tmp_path, tmp_path / "ca.pem"))
        assert found.failure == ""
        assert found.certificate_ends == pytest.approx(time.time() + 2 * 86400, abs=3600)
        stranger = await look_at(link(url, tmp_path))
    assert stranger.state == "tls"
    assert "set broker.main.ca to that authority's certificate" in stranger.failure


async def test_nothing_listens(tmp_path: Path) -> None:
    found = await look_at(link(f"mqtt://127.0.0.1:{free_port()}", tmp_path))
    assert found.state == "refused"
    assert "is the broker running?" in found.failure


async def test_a_daemon_is_known_by_its_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    config = tmp_path / "edged.toml"
    assert daemon(config) == Daemon()

    async def answer(request: dict[str, object]) -> dict[str, object]:
        return {}

    async with Control(config, answer):
        assert await asyncio.to_thread(daemon, config) == Daemon(os.getpid())
        assert await asyncio.to_thread(ask, config, {}) == {}  # to say nothing did it no harm


def test_all_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "edged.toml"
    path.write_text(f'[device]\nstate_dir = "state"\n[broker.main]\nurl = "mqtt://127.0.0.1:{free_port()}"\n')
    named = wanted(path, True, False)
    facts = gather(Path("/"), named, live(named, path))
    assert facts.onnx.error == ""
    assert facts.folders[0].may_write
    assert facts.folders[0].free_bytes > 0
    assert [b.state for b in facts.brokers] == ["refused"]
    assert facts.process.is_telemetry_off
