from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edged.commands.arguments.reference import SHELLS
from edged.commands.arguments.table import make_parser
from edged.commands.completions import commands_of
from tests.support.lacking import lacking

COMMANDS = list(commands_of(make_parser()))


def completed(line: str, tmp_path: Path) -> set[str]:
    """What bash offers for the last word of a line."""
    file = tmp_path / "edged"
    file.write_text(SHELLS["bash"].get()(COMMANDS))
    words = line.split(" ")
    program = (
        f"source {file}; COMP_WORDS=({' '.join(repr(w) for w in words)}); COMP_CWORD={len(words) - 1}; _edged; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("")
    assert completed("edged che", tmp_path) == {"check"}
    assert {"run", "check", "demo", "help"} <= completed("edged ", tmp_path)
    assert completed("edged check --j", tmp_path) == {"--json"}
    assert completed("edged check -c m", tmp_path) == {"my.toml"}
    assert completed("edged run --on-invalid ", tmp_path) == {"last-good", "exit"}
    assert completed("edged model ins", tmp_path) == {"inspect"}
    assert completed("edged model rollback --con", tmp_path) == {"--config"}
    assert completed("edged completions f", tmp_path) == {"fish"}


def test_every_command_is_in_each() -> None:
    for shell in SHELLS.values():
        text = shell.get()(COMMANDS)
        assert all(command.words[-1] in text for command in COMMANDS if command.words)


@pytest.mark.parametrize("shell", ["zsh", "fish", "bash"])
def test_the_shell_itself_can_read_it(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        lacking(shell)
    file = tmp_path / "edged"
    file.write_text(SHELLS[shell].get()(COMMANDS))
    done = subprocess.run([shell, "-n", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
