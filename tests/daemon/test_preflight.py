from __future__ import annotations

import os
from pathlib import Path

import pytest

from edged.config.load import read
from edged.daemon.preflight import free_bytes, look_at_rights, look_outside, state_dir
from edged.errors import Problem

REPLAY = """
[source.accel]
type = "replay"
path = "run.csv"
DECODE
[pipeline.p]
source = "accel"
publish = []
"""
TIME = 'time = { field = "t", format = "unix_s" }'
NAMED = f'decode = {{ format = "csv", header = true, separator = ";", fields = ["ax", "_", "ay"], {TIME} }}'


def look(folder: Path, text: str) -> list[Problem]:
    (folder / "edged.toml").write_text(text)
    return look_outside(read(folder / "edged.toml", {}).config)


def test_a_port_that_is_not_there_may_come(tmp_path: Path) -> None:
    text = '[source.a]\ntype = "serial"\nport = "/dev/no-such-port"\ndecode = { format = "csv", fields = ["x"] }\n'
    [problem] = look(tmp_path, text)
    assert problem.is_warning
    assert problem.path == "source.a.port"
    assert problem.text.startswith("/dev/no-such-port is not there (retrying); ")
    assert problem.text.count("retrying") == 1


def test_the_ports_of_this_machine_are_named(tmp_path: Path) -> None:
    ports = ["/dev/serial/by-id/usb-Arduino_Nano-if00"]
    for port, why in {
        "/dev/no-such-port": "is not there (retrying)",
        "/dev": "is a folder, not a serial port",
    }.items():
        text = f'[source.a]\ntype = "serial"\nport = "{port}"\ndecode = {{ format = "csv", fields = ["x"] }}\n'
        (tmp_path / "edged.toml").write_text(text)
        [problem] = look_outside(read(tmp_path / "edged.toml", {}).config, lambda: ports)
        assert problem.text == f"{port} {why}; on this machine: {ports[0]}"
        assert problem.is_warning


def test_a_recording_that_is_not_there_may_come(tmp_path: Path) -> None:
    [problem] = look(tmp_path, REPLAY.replace("DECODE", NAMED))
    assert problem == Problem("source.accel.path", f"{tmp_path}/run.csv is not there (retrying)", is_warning=True)


def test_the_header_must_have_the_fields(tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text("\ufefft; ax;ay\r\n1;2;3\r\n", "utf-8")
    assert look(tmp_path, REPLAY.replace("DECODE", NAMED)) == []
    (tmp_path / "run.csv").write_text("t;ax;az\n1;2;3\n")
    [problem] = look(tmp_path, REPLAY.replace("DECODE", NAMED))
    assert problem.path == "source.accel.decode.fields[2]"
    assert problem.text.startswith(f'"ay" is not in the header of {tmp_path}/run.csv: t, ax, az')
    # Without a header the columns go by their order.
    assert look(tmp_path, REPLAY.replace("DECODE", 'decode = { format = "csv", fields = ["x", "y", "z"] }')) == []


def test_a_damaged_recording_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_bytes(b"edged recording 1\n{nonsense\n")
    [problem] = look(tmp_path, REPLAY.replace("DECODE", NAMED))
    assert not problem.is_warning
    assert "the header of the recording is damaged" in problem.text


def test_results_for_a_broker_that_is_gone(tmp_path: Path) -> None:
    for name in ("main", "old", "empty"):
        (tmp_path / "kept" / name).mkdir(parents=True)
    for file in ("main/1-1.log", "old/1-1.log", "old/2-1.log", "old/done", "empty/done"):
        (tmp_path / "kept" / file).write_bytes(b"")
    [problem] = look(tmp_path, '[broker.main]\nurl = "mqtt://localhost"\n[spool]\npath = "kept"\n')
    assert problem.is_warning
    assert problem.path.startswith("spool")
    assert f"2 files of results wait in {tmp_path}/kept/old, and no broker is called old" in problem.text


def test_where_state_is_kept(tmp_path: Path) -> None:
    (tmp_path / "edged.toml").write_text("")
    config = read(tmp_path / "edged.toml", {}).config
    assert state_dir(config, {"STATE_DIRECTORY": "/var/lib/edged:/var/lib/other"}) == Path("/var/lib/edged")
    assert state_dir(config, {}) == Path.home() / ".local/state/edged"
    (tmp_path / "edged.toml").write_text('[device]\nstate_dir = "here"\n')
    config = read(tmp_path / "edged.toml", {}).config
    assert state_dir(config, {"STATE_DIRECTORY": "/var/lib/edged"}) == tmp_path / "here"


def test_free_room_where_a_folder_would_be_made(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.01)
    assert free_bytes(tmp_path) > 0


STEPS = """
[source.a]
type = "simulate"
signal = "sine"
rate = 10
[model.m]
path = "m.onnx"
[pipeline.p]
source = "a"
model = "m"
preprocess = ["detrend", "steps.py:one"]
postprocess = "more/steps.py:two"
publish = []
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_what_others_may_write_is_told_to_a_daemon_of_root(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    path = tmp_path / "edged.toml"
    path.write_text(STEPS)
    for place in ("steps.py", "more/steps.py"):
        (tmp_path / place).write_text("def one(x): return x\ndef two(outputs): return outputs\n")
    config = read(path, {}).config
    assert look_at_rights(path, config, uid=0) == []
    (tmp_path / "steps.py").chmod(0o666)
    (tmp_path / "more").chmod(0o777)
    os.chown(path, 65534, 0)
    assert look_at_rights(path, config, uid=1000) == []
    problems = look_at_rights(path, config, uid=0)
    assert all(p.is_warning for p in problems)
    assert [(p.path, p.text.partition(":")[0]) for p in problems] == [
        ("", f"edged runs as root, and {path} belongs to {path.owner()}"),
        ("pipeline.p.preprocess[1]", f"edged runs as root, and everybody may write to {tmp_path / 'steps.py'}"),
        ("pipeline.p.postprocess[0]", f"edged runs as root, and everybody may write to {tmp_path / 'more'}"),
    ]
