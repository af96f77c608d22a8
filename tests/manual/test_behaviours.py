"""The recipes of the page run: each is a configuration, a file of behaviours and a test, and is played as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import edged
from edged.cli import main
from tests.support import models

TEXT = (Path(edged.__file__).parent / "manual" / "behaviours.md").read_text("utf-8")
RECIPES = dict(re.findall(r"(?ms)^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT))


def test_there_are_five() -> None:
    assert len(RECIPES) == 5


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_runs(title: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = dict(re.findall(r"(?ms)^```\w+ (\S+)\n(.*?)^```$", RECIPES[title]))
    assert set(files) == {"edged.toml", "behaviours.py", "edged.test.toml"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for name in re.findall(r'path = "(\w+\.onnx)"', files["edged.toml"]):
        models.linear(tmp_path / name, width=2)
    status = main(["test", "-c", str(tmp_path / "edged.toml")])
    assert status == 0, capsys.readouterr().out
