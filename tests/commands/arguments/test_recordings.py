from __future__ import annotations

from pathlib import Path

import pytest

from edged.cli import main
from edged.errors import EX_USAGE


def test_a_recording_takes_some_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "a", "-o", str(tmp_path / "out"), "--seconds", "0"]) == EX_USAGE
    assert capsys.readouterr().err == "edged record: --seconds must be above 0\n"
