"""A file that is looked at again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from edged.clock.clock import Clock
from edged.config.load import Draft
from edged.daemon import reload
from edged.daemon.prepare import Prepared, prepare
from tests.support import models

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


class Daemon:
    """What a verdict is told to."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def say_guard(self, name: str, why: str) -> None:
        self.said.append((name, why))

    def say_reload(self, errors: Sequence[str], change: object, why: str, of_file: bool = True) -> None:
        self.said += [(why, error) for error in errors]

    def reloading(self) -> None: ...

    def reloaded(self) -> None: ...


@pytest.mark.parametrize("is_replaced", [True, False])
async def test_a_verdict_on_a_version_is_none_on_the_one_that_replaces_it(
    is_replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given while a newer version is on its way in."""

    def version(out: int) -> Prepared:
        models.linear(tmp_path / "m.onnx", out=out)
        return prepare(tmp_path / "edged.toml", copies_models=True)

    text = TEXT.replace('preprocess = "steps.py:step"', 'model = "m"')
    (tmp_path / "edged.toml").write_text(f'device = {{ state_dir = "{tmp_path}" }}\n{text}[model.m]\npath = "m.onnx"\n')
    judged, newer = version(2), version(3)
    daemon: Any = Daemon()
    reloader = reload.Reloader(judged, daemon, Clock(), structlog.get_logger("test"))
    left: list[str] = []

    async def roll_back(name: str) -> reload.Answer:
        left.append(name)
        return reload.Answer()

    monkeypatch.setattr(reloader, "_roll_back", roll_back)
    with capture_logs() as logs:
        async with reloader._lock:
            verdict = asyncio.create_task(reloader._guard_ended("m", "all of its 20 rows failed"))
            await asyncio.sleep(0)
            reloader._running = newer if is_replaced else judged
        await verdict
    assert left == ([] if is_replaced else ["m"])
    assert daemon.said == ([] if is_replaced else [("m", "all of its 20 rows failed")])
    assert [one["state"] for one in logs if one["event"] == "guard"] == ["replaced" if is_replaced else "went_back"]


async def test_a_file_that_needs_code_which_is_gone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where edged was removed, or replaced by another version, while it runs."""
    path = tmp_path / "edged.toml"
    path.write_text(TEXT.replace('preprocess = "steps.py:step"\n', ""))
    daemon: Any = Daemon()
    daemon.assembly = SimpleNamespace(loaded={})
    reloader = reload.Reloader(prepare(path), daemon, Clock(), structlog.get_logger("test"))
    replayed = 'type = "replay"\npath = "gone.log"\ndecode = { format = "influx", fields = ["a"] }\n'
    path.write_text(f'[source.a]\n{replayed}[pipeline.p]\nsource = "a"\npublish = []\n')
    monkeypatch.setitem(sys.modules, "edged.decode.influx", None)
    answer = await reloader.reload("it changed")
    [line] = answer.errors
    assert line.startswith("edged has no longer what this configuration needs: import of edged.decode.influx halted")
    assert daemon.said == [("it changed", line)]
