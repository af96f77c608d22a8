"""A file that is looked at again."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.load import Draft
from edged.daemon import reload
from edged.daemon.prepare import prepare

TEXT = """
[source.a]
type = "simulate"
signal = "sine"
rate = 10
[pipeline.p]
source = "a"
preprocess = "steps.py:step"
publish = []
"""


class Parsed(Exception):
    """The file was parsed."""


def parsed(path: Path, at_start: bool) -> Draft:
    raise Parsed


@pytest.mark.parametrize(
    ("name", "text"), [("edged.toml", TEXT + "# a remark\n"), ("steps.py", "def step(x):\n    return x * 2\n")]
)
def test_only_a_file_that_differs_is_parsed_again(name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "read_led", parsed)
    (tmp_path / "edged.toml").write_text(TEXT)
    (tmp_path / "steps.py").write_text("def step(x):\n    return x\n")
    before = prepare(tmp_path / "edged.toml")
    assert reload._plan(before, rereads=True, is_asked=False, forgets=False) == (None, ())
    with pytest.raises(Parsed):
        reload._plan(before, rereads=True, is_asked=True, forgets=False)
    (tmp_path / name).write_text(text)
    with pytest.raises(Parsed):
        reload._plan(before, rereads=True, is_asked=False, forgets=False)
