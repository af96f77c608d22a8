from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from edged.runtime.alone import Claims
from edged.runtime.control import Control, ask, folders, socket_name

ASKED = {"command": "reload", "wait": True}


async def answer(request: dict[str, Any]) -> dict[str, Any]:
    return {"ok": True, "heard": request}


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return tmp_path


async def test_a_line_in_and_a_line_out(environ: Path) -> None:
    config = environ / "edged.toml"
    async with Control(config, answer):
        assert stat.S_IMODE((environ / socket_name(config)).stat().st_mode) == 0o660
        assert await asyncio.to_thread(ask, config, ASKED) == {"ok": True, "heard": ASKED}
        reader, writer = await asyncio.open_unix_connection(str(environ / socket_name(config)))
        writer.write(b"no json\n")
        assert await reader.readline() == b'{"ok": true, "heard": {}}\n'
        writer.close()
    assert not (environ / socket_name(config)).exists()
    with pytest.raises(FileNotFoundError, match="no edged runs with"):
        ask(config, ASKED)


async def test_who_hangs_up_or_never_ends_a_line_costs_nothing(environ: Path) -> None:
    config = environ / "edged.toml"
    async with Control(config, answer):
        for data in (b"", b"x" * 200_000, b"{"):
            _, writer = await asyncio.open_unix_connection(str(environ / socket_name(config)))
            writer.write(data)
            writer.close()
        assert (await asyncio.to_thread(ask, config, ASKED))["ok"]


async def test_a_second_daemon_leaves_the_first_its_socket(environ: Path) -> None:
    config = environ / "edged.toml"
    async with Control(config, answer):
        async with Control(config, answer):
            pass
        assert (await asyncio.to_thread(ask, config, ASKED))["ok"]


async def test_a_socket_that_a_crash_left_is_replaced(environ: Path) -> None:
    config = environ / "edged.toml"
    (environ / socket_name(config)).touch()
    async with Control(config, answer):
        assert (await asyncio.to_thread(ask, config, ASKED))["ok"]


async def test_found_by_the_path_as_it_was_given_though_it_leads_elsewhere_now(environ: Path) -> None:
    for name in ("1", "2"):
        (environ / name).mkdir()
        (environ / name / "edged.toml").touch()
    (environ / "current").symlink_to("1")
    given = environ / "current" / "edged.toml"
    with Claims(given) as claims:
        claims.configuration()
        async with Control(given, answer):
            assert (await asyncio.to_thread(ask, environ / "1" / "edged.toml", ASKED))["ok"]
            (environ / "new").symlink_to("2")
            (environ / "new").replace(environ / "current")
            assert (await asyncio.to_thread(ask, given, ASKED))["ok"]
            assert (await asyncio.to_thread(ask, environ / "2" / "edged.toml", ASKED))["ok"]
            with pytest.raises(FileNotFoundError):
                ask(environ / "1" / "edged.toml", ASKED)


async def test_a_request_nested_too_deeply_is_none(environ: Path) -> None:
    config = environ / "edged.toml"
    async with Control(config, answer):
        reader, writer = await asyncio.open_unix_connection(str(environ / socket_name(config)))
        writer.write(b"[" * 60_000 + b"\n")
        assert await reader.readline() == b'{"ok": true, "heard": {}}\n'
        writer.close()


def test_where_it_may_be() -> None:
    found = folders({"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/run/user/7"})
    assert list(map(str, found)) == ["/run/a", "/run/edged", "/run/user/7/edged", f"/tmp/edged-{os.getuid()}"]
