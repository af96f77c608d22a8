from __future__ import annotations

from pathlib import Path

import pytest

from edged.commands.arguments.configuration import configuration


def test_which_file_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert configuration(None, {}) == Path("/etc/edged/edged.toml")
    assert configuration(None, {"EDGED_CONFIG": "/srv/e.toml"}) == Path("/srv/e.toml")
    (tmp_path / "edged.toml").write_text("")
    assert configuration(None, {}) == Path("edged.toml")
    assert configuration(None, {"EDGED_CONFIG": "/srv/e.toml"}) == Path("/srv/e.toml")
    assert configuration(Path("other.toml"), {"EDGED_CONFIG": "/srv/e.toml"}) == Path("other.toml")
