"""Broken files, as `edged check` sees them: each directory of `cases/errors` has an edged.toml and the exact lines that a
person gets for it, in error.txt, or in warnings.txt where it can be run all the same.

Besides its own files a case finds the models of `cases.MODELS` in `models/`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edged.config.load import read
from edged.daemon.prepare import plan_draft
from edged.errors import ConfigError
from edged.plan.records import Machine
from tests.support.case_models import build

CASES = sorted(path.parent for path in (Path(__file__).parent / "cases" / "errors").glob("*/edged.toml"))
PORT_AWAY = "is not there (retrying)"
"""No port of a case is on the machine that runs the tests."""
MIB = 1 << 20
MACHINE = Machine("pi4", memory=4096 * MIB, base=64 * MIB, state_dir=Path("/nowhere/edged"), disk_free=2048 * MIB)
ENVIRON = {"SECRET_ONE": "hunter2/#", "SECRET_TWO": "hunter2"}
SECRETS = ("hunter2", "-----BEGIN")
"""Stand in files and variables of the cases, and in no message."""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("case_models"))


@pytest.fixture
def lines(case: Path, models: Path, tmp_path: Path) -> list[str]:
    """What is said of a case, with paths relative to its directory."""
    folder = tmp_path / "case"
    shutil.copytree(case, folder)
    (folder / "models").symlink_to(models)
    try:
        found = list(plan_draft(read(folder / "edged.toml", ENVIRON), MACHINE, None).warnings)
    except ConfigError as error:
        found = error.lines
    return [line.replace(f"{folder}{os.sep}", "") for line in found if PORT_AWAY not in line or "source.port" in line]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_says_what_is_wrong_and_where(case: Path, lines: list[str]) -> None:
    expected = case / ("error.txt" if (case / "error.txt").exists() else "warnings.txt")
    assert lines == expected.read_text("utf-8").splitlines()
    source = (case / "edged.toml").read_text("utf-8").split("\n")
    for line in lines:
        name, row, column, rest = line.split(":", 3)
        assert name == "edged.toml"
        assert 1 <= int(row) <= len(source)
        assert 1 <= int(column) <= len(source[int(row) - 1]) + 1
        assert rest.strip()
        assert "PRIVATE KEY-----)" in line or not any(secret in line for secret in SECRETS)


def test_there_are_a_hundred_and_several_have_many_errors() -> None:
    assert len(CASES) >= 100
    counts = [len((case / "error.txt").read_text("utf-8").splitlines()) for case in CASES if (case / "error.txt").exists()]
    assert sum(count >= 5 for count in counts) >= 10
