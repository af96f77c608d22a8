from __future__ import annotations

import json
from pathlib import Path

import pytest

from edged.cli import main
from edged.errors import EX_CONFIG, EX_OK

GOOD = """[broker.main]
url = "mqtt://localhost"
password = "hunter2"
[source.a]
type = "simulate"
signal = "sine"
rate = 10
[pipeline.p]
source = "a"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "edged.toml"
    path.write_text(GOOD)
    return Path("edged.toml")


def test_errors_as_data(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD.replace('"sine"', '"sinus"'))
    assert main(["check", "--json"]) == EX_CONFIG
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert said.err == ""
    assert (facts["schema_version"], facts["ok"], facts["warnings"]) == (1, False, [])
    [error] = facts["errors"]
    assert (error["path"], error["line"], error["column"], error["key"]) == ("edged.toml", 6, 10, "source.a.signal")
    assert error["message"].startswith('expected one of "vibration" "sine"')
    assert error["fix"] == 'did you mean "sine"?'


def test_what_cannot_be_read_as_data(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.unlink()
    assert main(["check", "--json", "-c", "edged.toml"]) == EX_CONFIG
    [error] = json.loads(capsys.readouterr().out)["errors"]
    assert error == {
        "path": "edged.toml",
        "line": None,
        "column": None,
        "key": None,
        "message": "there is no such file",
        "fix": None,
    }


def test_warnings_as_data_and_never_a_secret(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json"]) == EX_OK
    facts = json.loads(capsys.readouterr().out)
    assert (facts["schema_version"], facts["ok"], facts["errors"]) == (1, True, [])
    assert [one["key"] for one in facts["warnings"]] == ["broker.main.password"]
    assert facts["memory"]
    assert main(["check"]) == EX_OK
    said = capsys.readouterr()
    assert said.err.startswith("warning: edged.toml:3:12: broker.main.password: ")
    assert "hunter2" not in said.err + said.out


def test_the_line_with_a_caret(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD.replace("rate = 10", 'rate = "10"'))
    assert main(["check"]) == EX_CONFIG
    assert capsys.readouterr().err.splitlines()[-2:] == ['  7 | rate = "10"', "    |        ^^^^"]
