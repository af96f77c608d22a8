"""A wrong edit and a reboot, files that are no files, releases that are gone over to, and a second daemon."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from edged.daemon.last_good import folder
from tests.support.daemon import EX_CONFIG, Daemon, edged, said, until

SOON = """
import sys
from edged.daemon import last_good
last_good.HELD_S = 0.3
from edged.cli import main
sys.exit(main(sys.argv[4:]))
"""
"""The daemon keeps what has run for a minute; here for 0.3 s."""

TEXT = """
[device]
id = "t"
[source.a]
type = "simulate"
signal = "sine"
rate = 10
[model.m]
path = "{zoo}/linear.onnx"
[pipeline.p]
source = "a"
model = "m"
preprocess = ["steps.py:f"]
publish = []
[health]
broker = []
"""
STEPS = "def f(x):\n    return x\n"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))


def make(tmp_path: Path, zoo: Path, *more: str, name: str = "edged.toml") -> Daemon:
    (tmp_path / "steps.py").write_text(STEPS)
    daemon = Daemon(tmp_path, TEXT.format(zoo=zoo), name=name, within=(sys.executable, "-c", SOON))
    daemon.more = ("--on-invalid", "last-good", *more)
    return daemon


def status(config: Path) -> Any:
    code, out, err = said(edged("status", "--json", "-c", str(config)))
    assert code == 0, err
    return json.loads(out)


def ran_well(daemon: Daemon) -> None:
    """It ran until it was kept, and then the power failed."""
    daemon.start()
    until(lambda: (folder(daemon.config) / "kept").exists(), what="the last good configuration")
    daemon.kill()


@pytest.mark.parametrize("spoil", ["text", "nothing", "pipe", "zero", "huge", "steps"])
def test_a_wrong_edit_and_a_reboot(tmp_path: Path, zoo: Path, spoil: str) -> None:
    model = tmp_path / "linear.onnx"
    model.write_bytes((zoo / "linear.onnx").read_bytes())
    daemon = make(tmp_path, tmp_path)
    text = daemon.config.read_text()
    ran_well(daemon)
    expected = {
        "text": ":9:1: TOML: expected key = value",
        "nothing": ": there is no such file",
        "pipe": ": expected a plain file, found a pipe",
        "zero": ": expected a plain file, found a device",
        "huge": ": expected at most 1.0 MiB, found 300.0 MiB",
        "steps": "SyntaxError",
    }[spoil]
    if spoil in ("nothing", "pipe", "zero", "huge"):
        daemon.config.unlink()
    if spoil == "nothing":
        model.unlink()  # the private copy runs
    elif spoil == "text":
        daemon.config.write_text(text.replace("rate = 10", "rate = 10\nrat = 10\n= 3"))
    elif spoil == "pipe":
        os.mkfifo(daemon.config)
    elif spoil == "zero":
        daemon.config.symlink_to("/dev/zero")
    elif spoil == "huge":
        daemon.config.touch()
        os.truncate(daemon.config, 300 << 20)
    elif spoil == "steps":
        (tmp_path / "steps.py").write_text("def f(:\n")
    with daemon:
        facts = status(daemon.config)
        assert facts["state"] == "degraded"
        assert expected in facts["config_errors"][0]
        assert facts["config_last_good"].startswith("20")
        assert expected in daemon.log
        assert any("last good" in notice for notice in daemon.notices)
        until(lambda: status(daemon.config)["pipelines"]["p"]["published"] or True)
        before = facts["pipelines"]["p"]["due"]
        until(lambda: status(daemon.config)["pipelines"]["p"]["due"] > before, what="results")
        code, out, _ = said(edged("status", "-c", str(daemon.config)))
        assert (code, "until the file has no errors" in out) == (0, True)
        # Mended, it is applied as it runs.
        (tmp_path / "steps.py").write_text(STEPS)
        model.write_bytes((zoo / "linear.onnx").read_bytes())
        new = tmp_path / "new.toml"
        new.write_text(text.replace("rate = 10", "rate = 20"))
        new.replace(daemon.config)
        until(lambda: "config_errors" not in status(daemon.config), what="the corrected file")
        facts = status(daemon.config)
        assert (facts["state"], "config_last_good" in facts) == ("healthy", False)
        assert "configuration_right_again" in daemon.log


def test_exit_is_the_default_and_last_good_needs_one(tmp_path: Path, zoo: Path) -> None:
    daemon = make(tmp_path, zoo)
    daemon.config.write_text("[broken")
    code, _, err = said(edged("run", "-c", str(daemon.config), "--on-invalid", "last-good"))
    assert code == EX_CONFIG
    assert "none has run for a minute yet" in err
    daemon.config.write_text(TEXT.format(zoo=zoo))
    ran_well(daemon)
    daemon.config.write_text("[broken")
    code, _, err = said(edged("run", "-c", str(daemon.config)))
    assert (code, err.splitlines()[1:]) == (EX_CONFIG, ["  1 | [broken", "    |        ^"])


def test_a_file_that_becomes_none_while_it_is_watched(tmp_path: Path, zoo: Path) -> None:
    with make(tmp_path, zoo) as daemon:
        text = daemon.config.read_text()
        for spoil, reason in (("pipe", "found a pipe"), ("zero", "found a device"), ("huge", "found 300.0 MiB")):
            new = tmp_path / "new"
            if spoil == "pipe":
                os.mkfifo(new)
            elif spoil == "zero":
                new.symlink_to("/dev/zero")
            else:
                new.touch()
                os.truncate(new, 300 << 20)
            new.replace(daemon.config)
            daemon.wait_log(reason)
            daemon.signal(signal.SIGHUP)
            code, _, err = said(edged("reload", "--wait", "-c", str(daemon.config)))
            assert (code, reason in err) == (EX_CONFIG, True)
            new.write_text(text)
            new.replace(daemon.config)
            until(lambda: "config_errors" not in status(daemon.config), what="the file as it was")


def test_a_release_is_gone_over_to_and_commands_still_find_it(tmp_path: Path, zoo: Path) -> None:
    for name, rate in (("1", 10), ("2", 20)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "edged.toml").write_text(TEXT.format(zoo=zoo).replace("rate = 10", f"rate = {rate}"))
    (tmp_path / "current").symlink_to("1")
    (tmp_path / "edged.toml").symlink_to("current/edged.toml")
    with make(tmp_path, zoo) as daemon:
        before = status(daemon.config)["config"]
        (tmp_path / "new").symlink_to("2")
        (tmp_path / "new").replace(tmp_path / "current")
        until(lambda: status(daemon.config)["config"] != before, what="the other release")
        daemon.wait_log("reloaded")
        assert said(edged("reload", "--wait", "-c", str(daemon.config)))[0] == 0
        assert status(tmp_path / "2" / "edged.toml")["config"] != before


def test_a_second_daemon_is_refused(tmp_path: Path, zoo: Path) -> None:
    with make(tmp_path, zoo) as daemon:
        pid = daemon.process.pid
        code, _, err = said(edged("run", "-c", str(daemon.config)))
        assert (code, err) == (69, f"edged: another edged (process {pid}) runs with {daemon.config}: stop it first\n")
        other = tmp_path / "other.toml"
        other.write_text(daemon.config.read_text())
        code, _, err = said(edged("run", "-c", str(other)))
        state = tmp_path / "state"
        fix = "stop it, or give each daemon its own device.state_dir"
        assert (code, err) == (69, f"edged: another edged (process {pid}) keeps its state in {state}: {fix}\n")
        assert status(daemon.config)["state"] == "healthy"
        daemon.kill()
        daemon.start()  # a lock that a crash left is in nobody's way


def test_a_stage_file_that_is_cut_short_costs_nothing_else(tmp_path: Path, zoo: Path) -> None:
    with make(tmp_path, zoo) as daemon:
        os.truncate(tmp_path / "state" / "stage", 0)
        before = status(daemon.config)["pipelines"]["p"]["due"]
        until(lambda: status(daemon.config)["pipelines"]["p"]["due"] > before + 5, what="results")
        daemon.kill()
        (tmp_path / "state" / "stage").write_bytes(b"\1" + bytes(63) + b"\x90\x1f\0\0" + b"[" * 8080)
        daemon.start()
        daemon.wait_log("file_moved_aside")
