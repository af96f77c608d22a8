from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from edged.clock.clock import Clock
from edged.config.load import Draft, read
from edged.config.schema import Function
from edged.daemon import last_good
from edged.errors import ConfigError

TEXT = """
[broker.main]
url = "mqtts://h"
ca = "ca.pem"
username = "u"
password = { file = "secret" }
[source.a]
type = "simulate"
signal = "sine"
rate = 1
[pipeline.p]
source = "a"
preprocess = ["steps.py:f"]
"""
NOW = 1_795_977_000 * 10**9


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "edged.toml").write_text(TEXT)
    (folder / "ca.pem").write_text("certificate")
    (folder / "secret").write_text("hunter2\n")
    (folder / "steps.py").write_text("def f(x): return x\n")
    return folder / "edged.toml"


def found(config: Path) -> Draft:
    draft, when = last_good.find(config) or pytest.fail("nothing is kept")
    assert when == "2026-11-29T18:30:00.000000Z"
    return draft


def test_it_holds_whatever_becomes_of_the_files(config: Path) -> None:
    last_good.keep(read(config), NOW)
    for file in config.parent.iterdir():
        file.write_text("spoilt")
    config.unlink()
    draft = found(config)
    at = last_good.folder(config)
    assert (draft.path, draft.copy, draft.content, draft.problems) == (config, at / "edged.toml", TEXT.encode(), ())
    broker = draft.config.broker["main"]
    assert (broker.password, broker.ca) == ("hunter2", at / "files" / "0-ca.pem")
    steps = draft.config.pipeline["p"].preprocess
    assert steps is not None
    assert steps[0].step == Function(at / "files" / "2-steps.py", "f")
    assert (at / "files" / "2-steps.py").read_text() == "def f(x): return x\n"
    assert {p.stat().st_mode & 0o077 for p in at.rglob("*")} == {0}


def test_the_latest_counts_and_an_older_one_leaves_no_file(config: Path) -> None:
    last_good.keep(read(config), NOW - 10**9)
    last_good.find(config)
    config.write_text(TEXT.replace('preprocess = ["steps.py:f"]', ""))
    last_good.keep(read(config), NOW)
    assert found(config).config.pipeline["p"].preprocess is None
    assert sorted(p.name for p in (last_good.folder(config) / "files").iterdir()) == ["0-ca.pem", "1-secret"]


def test_each_configuration_has_its_own(config: Path) -> None:
    last_good.keep(read(config), NOW)
    assert last_good.find(config.with_name("other.toml")) is None


@pytest.mark.parametrize("spoil", ["cut", "flipped", "pipe", "huge"])
def test_one_that_is_damaged_is_set_aside(config: Path, spoil: str) -> None:
    last_good.keep(read(config), NOW)
    path = last_good.folder(config) / "kept"
    data = path.read_bytes()
    path.unlink()
    if spoil == "pipe":
        os.mkfifo(path)
    elif spoil == "huge":
        path.touch()
        os.truncate(path, 300 << 20)
    else:
        path.write_bytes(data[:50] if spoil == "cut" else data[:50] + bytes([data[50] ^ 1]) + data[51:])
    with capture_logs() as logs:
        assert last_good.find(config) is None
    assert [(line["event"], line["path"]) for line in logs] == [("file_moved_aside", f"{path}.aside")]


def test_one_that_does_not_hold_any_more_says_so(config: Path) -> None:
    last_good.keep(replace(read(config), content=b"[broken"), NOW)
    with pytest.raises(ConfigError) as caught:
        last_good.find(config)
    assert caught.value.lines[0].startswith(f"{last_good.folder(config)}/edged.toml:1:8: ")


def test_where_nothing_can_be_written_nothing_is_kept(config: Path, tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with capture_logs() as logs:
        last_good.keep(read(config), NOW)
        assert last_good.find(config) is None
    assert [line["event"] for line in logs] == ["last_good_not_kept"]


async def test_only_what_has_held_is_kept(config: Path) -> None:
    kept: list[bytes] = []
    news = asyncio.Event()
    loop = asyncio.get_running_loop()

    def keep(draft: Draft, _: int) -> None:
        kept.append(draft.content)
        loop.call_soon_threadsafe(news.set)

    draft = read(config)
    keeper = last_good.Keeper(Clock(), 0.05, keep)
    keeper.running(draft)
    later = replace(draft, content=TEXT.encode() + b"\n")
    keeper.running(later)  # in time
    await asyncio.wait_for(news.wait(), 10)
    assert kept == [later.content]
    keeper.running(draft)
    keeper.stop()
    last_good.keep(draft, NOW)
    keeper.running(found(config))  # it is that already
    assert keeper._timer is None
