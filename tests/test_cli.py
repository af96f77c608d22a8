from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged import __version__
from edged.cli import main
from edged.errors import EX_CONFIG, EX_OK, EX_SOFTWARE, EX_USAGE


@pytest.mark.parametrize("arguments", [["run", "--fast"], ["record"], ["model"]])
def test_a_wrong_command_line_has_its_own_status(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == EX_USAGE
    assert "usage: edged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["chek"], 'edged: "chek" is not a command; did you mean "edged check"?'),
        (["model", "inspct", "x"], 'edged model: "inspct" is not a command; did you mean "edged model inspect"?'),
        (["servise"], 'edged: "servise" is not a command; did you mean "edged service"?'),
    ],
)
def test_a_slip_in_a_command(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == EX_USAGE
    assert capsys.readouterr().err == f"{line}\n"


def test_what_is_near_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zzz"]) == EX_USAGE
    assert "there are: demo, init, check, run" in capsys.readouterr().err


def test_what_shows_the_help_imports_nothing_heavy() -> None:
    heavy = "{'numpy', 'asyncio', 'onnxruntime', 'paho'}"
    code = f"import sys; from edged.cli import main; main([]); sys.exit(str({heavy} & {{*sys.modules}}))"
    assert run_bare(["-c", code], {}, "") == (1, "set()\n")


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


WRITERS = [["check"], ["doctor"], ["check", "--json"], ["--version"], ["--help"], ["check", "--help"]]
ALONE = [["schema"], ["help"], ["help", "rate"], ["completions", "bash"], ["service", "unit"]]
"""Those that read no configuration."""
UNBUFFERED = [{}, {"PYTHONUNBUFFERED": "1"}]
"""As on a bare machine, and as build machines have it: one hides what is left in a buffer, the other what was never in one."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "edged.toml"
    path.write_text(
        '[broker.main]\nurl = "mqtt://localhost"\n'
        '[source.a]\ntype = "simulate"\nsignal = "sine"\nrate = 10\n[pipeline.p]\nsource = "a"\n'
    )
    return path


def run_bare(words: list[str], environ: dict[str, str], redirection: str, stdout: int = subprocess.DEVNULL) -> tuple[int, str]:
    """Exit status and standard error of a Python in a shell, without what this environment would bring along."""
    done = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", sys.executable, *words],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environ},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def edged(command: list[str], config: Path) -> list[str]:
    return ["-m", "edged.cli", *command, *([] if command[0].startswith("-") or command in ALONE else ["-c", str(config)])]


@pytest.fixture
def left_pipe() -> Iterator[int]:
    """As in `edged check | head` when head has left."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.mark.parametrize("environ", UNBUFFERED, ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", [*WRITERS, *ALONE], ids=" ".join)
def test_what_cannot_be_written_is_said_in_one_line(
    config: Path, command: list[str], environ: dict[str, str], left_pipe: int
) -> None:
    words = edged(command, config)
    full, closed = (f"edged: cannot write to standard output: {why}\n" for why in ("No space left on device", "it is closed"))
    assert run_bare(words, environ, ">/dev/full") == (EX_SOFTWARE, full)
    assert run_bare(words, environ, ">&-") == (EX_SOFTWARE, closed)
    assert run_bare(words, environ, "", left_pipe) == (EX_OK, "")


def test_where_errors_cannot_be_written_the_status_tells(tmp_path: Path, left_pipe: int) -> None:
    words = edged(["check"], tmp_path / "absent.toml")
    for redirection in ("2>/dev/full", "2>&-", "2>&1"):
        assert run_bare(words, {}, redirection, left_pipe) == (EX_CONFIG, "")


def test_what_a_step_printed_and_nobody_took_ends_in_one_line_too(left_pipe: int) -> None:
    program = (
        "from edged import cli; import edged.commands.check as s; s.check = lambda *_: print('x' * 20) or 0; "
        "raise SystemExit(cli.main(['check']))"
    )
    full = (EX_SOFTWARE, "edged: cannot write to standard output: No space left on device\n")
    assert run_bare(["-c", program], {}, ">/dev/full") == full
    assert run_bare(["-c", program], {}, "", left_pipe) == (EX_OK, "")


def test_what_a_file_or_a_daemon_says_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edged.toml"
    path.write_text('[health]\ninterval = "\\u001b]0;owned\\u0007\\u009b2J"\n')
    assert main(["check", "-c", str(path)]) == EX_CONFIG
    said = capsys.readouterr().err
    assert "\\x1b]0;owned\\x07\\x9b2J" in said
    assert all(c.isprintable() or c == "\n" for c in said)
