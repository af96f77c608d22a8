from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edged.commands.service import FIRST, UNIT, closed_to_others, install, program_here, unit_text
from edged.config.load import read
from edged.errors import EX_OK
from tests.support.lacking import lacking


def test_the_unit_is_the_one_that_ships_with_this_program_in_it() -> None:
    text = unit_text(program_here())
    assert f"ExecStart={sys.executable} -m edged run -c /etc/edged/edged.toml --on-invalid last-good\n" in text
    changed = [line for line in text.splitlines() if line not in UNIT.read_text("utf-8").splitlines()]
    assert [line.partition("=")[0] for line in changed] in (["ExecStart"], ["ExecStart", "ProtectHome"])


def test_a_program_in_a_home_can_be_seen_by_the_service() -> None:
    assert "ProtectHome=read-only" in unit_text(["/home/pi/.local/share/uv/tools/edged/bin/python", "-m", "edged"])
    assert "ProtectHome=yes" in unit_text(["/opt/edged/bin/python", "-m", "edged"])


def test_systemd_takes_it(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        lacking("systemd")
    unit = tmp_path / "edged.service"
    unit.write_text(unit_text(["/bin/true"]))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False)
    assert "edged.service" not in done.stderr, done.stderr


def test_into_another_tree_and_never_over_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(tmp_path) == EX_OK
    config = tmp_path / "etc/edged/edged.toml"
    draft = read(config, {})
    assert config.read_text() == FIRST
    assert all(problem.is_warning for problem in draft.problems)
    config.write_text("# mine\n")
    assert install(tmp_path) == EX_OK
    assert config.read_text() == "# mine\n"
    assert "kept as it is" in capsys.readouterr().out
    assert (tmp_path / "etc/systemd/system/edged.service").read_text() == unit_text(program_here())


def test_where_the_service_could_not_go(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "bin").mkdir(parents=True)
    program = closed / "bin" / "python"
    program.write_text("")
    closed.chmod(0o700)
    assert closed_to_others(program) == closed
    assert closed_to_others(Path("/bin/sh")) is None
