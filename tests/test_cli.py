from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edged import __version__
from edged.cli import main
from edged.errors import EX_CONFIG, EX_SOFTWARE, EX_USAGE


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "--fast"], ["record"]])
def test_a_wrong_command_line_has_its_own_status(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == EX_USAGE
    assert "usage: edged" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"edged {__version__}\n"


@pytest.mark.parametrize("command", [["run"], ["check"], ["record", "a", "-o", "out"]])
def test_a_configuration_that_is_not_there_is_said_in_one_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "absent.toml"
    assert main([*command, "-c", str(path)]) == EX_CONFIG
    assert capsys.readouterr().err == f"{path}: there is no such file\n"


def test_a_recording_takes_some_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "a", "-o", str(tmp_path / "out"), "--seconds", "0"]) == EX_USAGE
    assert capsys.readouterr().err == "edged record: --seconds must be above 0\n"


@pytest.mark.parametrize("command", [["check"], ["doctor"], ["check", "--json"]])
def test_what_cannot_be_written_is_said_in_one_line(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "edged.toml"
    path.write_text(
        '[broker.main]\nurl = "mqtt://localhost"\n'
        '[source.a]\ntype = "simulate"\nsignal = "sine"\nrate = 10\n[pipeline.p]\nsource = "a"\n'
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edged.cli", *command, "-c", str(path)],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.returncode == EX_SOFTWARE
    assert done.stderr.decode().splitlines()[0] == "edged: cannot write to standard output: No space left on device"
