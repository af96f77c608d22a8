"""The laptop's side of a deploy, as far as it needs no device; the rest is in tests/devices."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cross import deploy
from cross.bundle import ROOT
from cross.deploy import BOOT, Device, main, parts_of
from cross.target import Refused


def test_small_files_are_sent_first(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a.whl").write_bytes(b"x" * 5000)
    (tmp_path / "about").write_bytes(b"version=1\n")
    names = ("about", "wheels/a.whl")
    lines = [f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (tmp_path / "manifest").write_text("".join(lines))
    parts = parts_of(tmp_path)
    assert [part.path for part in parts] == ["about", "manifest", "wheels/a.whl"]
    assert parts[0].sha256 == lines[0][:64]


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is not a bundle"):
        parts_of(tmp_path)


def test_how_root_is_asked_for() -> None:
    words = ("python3", "-c", "print('it is')")
    assert Device("h", ()).as_root(*words) == """python3 -c 'print('"'"'it is'"'"')'"""
    assert Device("h", (), is_root=False).as_root("id") == "sudo -n id"
    asked = Device("h", (), "secret", is_root=False)
    assert asked.as_root("id") == "sudo -k -S -p '' id"
    assert asked.first_words == b"secret\n"
    assert "secret" not in " ".join(asked.ssh(asked.as_root("id")))  # the process list is for everybody


def test_the_program_is_sent_before_its_input() -> None:
    source = b"import sys\nprint(len(open(sys.argv[0], 'rb').read()), sys.stdin.buffer.readline())\n"
    command = shlex.split(Device("h", ()).as_root(sys.executable, "-I", "-c", BOOT, str(len(source))))
    done = subprocess.run(command, input=source + b"the rest\n", capture_output=True, check=True)
    assert done.stdout == f"{len(source)} b'the rest\\n'\n".encode()


@pytest.mark.parametrize("host", ["", "-oProxyCommand=true"])
def test_no_device(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--", host]) == 64
    assert "which device? HOST=user@device" in capsys.readouterr().err


def test_a_device_that_does_not_answer(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "nobody@127.0.0.1", "--ssh", "-p 1 -F /dev/null"]) == 1
    assert "no connection to nobody@127.0.0.1, see above: does `ssh nobody@127.0.0.1` work?" in capfd.readouterr().err


SWITCHING = """#!/bin/sh
for command; do :; done
case $command in
    'sh -s') sh ;;
    *) echo '{"say": "switching"}'; exec sleep 60 ;;
esac
"""


def test_an_interrupt_says_that_the_switch_goes_on(tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text(SWITCHING)
    (tmp_path / "ssh").chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "cross.deploy", "rollback", "device"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environ, cwd=ROOT, text=True) as rollback:
        assert rollback.stdout is not None
        assert rollback.stdout.readline() == "  switching\n"
        rollback.send_signal(signal.SIGINT)
        _, said = rollback.communicate(timeout=60)
    assert rollback.returncode == 1
    assert said == "rollback: interrupted; a switch that has begun goes on there, and make status says what became of it\n"


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m"
SSH = """#!/bin/sh
printf 'Warning: {0}\\n' >&2
for command; do :; done
case $command in
    'sh -s') sed 's/^say os .*/say os "{0}"/' | sh ;;
    *journalctl*) printf 'a line {0}\\n' ;;
    *) printf 'no JSON {0}\\n'; printf '%s\\n' '{1}' ;;
esac
"""


@pytest.fixture
def hostile_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ssh to a device that would like to have our terminal."""
    last = json.dumps({"say": f"service {HOSTILE}"}) + "\n" + json.dumps({"end": 1, "say": f"ended {HOSTILE}"})
    (tmp_path / "ssh").write_text(SSH.format(HOSTILE, last))
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.usefixtures("hostile_device")
@pytest.mark.parametrize(
    ("command", "wanted"),
    [("status", ["no JSON", "service", "ended", "Warning:"]), ("logs", ["a line", "Warning:"]), ("deploy", ["Warning:"])],
)
def test_a_device_cannot_steer_the_terminal(command: str, wanted: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    main([command, "device", "--bundle", "/nowhere"])
    found = capfd.readouterr()
    said = found.out + found.err
    for word in wanted:
        assert f"{word} \\x1b]0;owned\\x07\\x1b[2J\\x9b31m" in said
    assert all(c.isprintable() or c == "\n" for c in said)


@pytest.mark.usefixtures("hostile_device")
def test_where_nobody_reads_the_log_it_ends(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "cross.deploy", "logs", "device"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=ROOT, timeout=60, check=False)
    os.close(write)
    assert done.returncode == 0
    assert not [line for line in done.stderr.splitlines() if not line.startswith(b"Warning: ")]


KEPT_OPEN = """#!/bin/sh
for command; do :; done
case $command in
    'sh -s') exec sh ;;
    *) sleep 3 >&- & echo 'Warning: a line' >&2; echo 'a line' ;;
esac
"""


def test_a_connection_that_ssh_keeps_open_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ssh").write_text(KEPT_OPEN)
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(deploy, "LAST_WORDS_S", 0.2)
    assert main(["logs", "device"]) == 0
    relay = next(thread for thread in threading.enumerate() if thread.daemon and "relay" in thread.name)
    relay.join(60)
    assert not relay.is_alive()
    said = capfd.readouterr()
    assert said.out == "a line\n"
    assert said.err == "Warning: a line\n"
