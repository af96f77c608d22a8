from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from edged.daemon.claims import Claims
from edged.daemon.control import MAX_CLIENTS, MAX_SILENT, Control, ask, folders, listen, socket_name, socket_path

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
        reader, writer = await asyncio.open_unix_connection(str(environ / socket_name(config)))
        writer.write(b"[" * 60_000 + b"\n")
        assert await reader.readline() == b'{"ok": true, "heard": {}}\n'
        writer.close()
    assert not (environ / socket_name(config)).exists()
    with pytest.raises(FileNotFoundError, match="no edged runs with"):
        ask(config, ASKED)


async def test_a_stream_goes_on_until_nobody_takes_it(environ: Path) -> None:
    config, ended = environ / "edged.toml", asyncio.Event()

    async def lines() -> AsyncGenerator[dict[str, Any], None]:
        try:
            while True:
                yield {"line": "x" * 10_000}
                await asyncio.sleep(0)
        finally:
            ended.set()

    async def stream(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        return lines()

    async with Control(config, stream):
        reader, writer = await asyncio.open_unix_connection(str(environ / socket_name(config)))
        writer.write(b"{}\n")
        assert await reader.readline() == await reader.readline() == b'{"line": "' + b"x" * 10_000 + b'"}\n'
        assert not ended.is_set()
        writer.transport.abort()  # while the daemon waits for it to take more
        await asyncio.wait_for(ended.wait(), 10.0)
        found = asyncio.to_thread(lambda: next(listen(config, ASKED)))
        assert (await found)["line"] == "x" * 10_000


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


async def test_whoever_asks_gets_an_answer_however_many_say_nothing(environ: Path) -> None:
    config = environ / "edged.toml"
    path = str(environ / socket_name(config))
    async with Control(config, answer):
        silent = [await asyncio.open_unix_connection(path) for _ in range(MAX_SILENT + 30)]
        assert (await asyncio.to_thread(ask, config, ASKED))["ok"]
        ends = await asyncio.gather(*(reader.read() for reader, _ in silent[:30]), return_exceptions=True)
        assert all(end == b"" or isinstance(end, ConnectionError) for end in ends)  # sent away, the oldest first
        rest = await asyncio.gather(*(reader.read() for reader, _ in silent[30:]), return_exceptions=True)
        assert all(end == b"" or isinstance(end, ConnectionError) for end in rest)  # their time was over
        for _, writer in silent:
            writer.close()


async def test_who_does_not_take_the_answer_keeps_nobody_out_and_is_sent_away(environ: Path) -> None:
    config = environ / "edged.toml"

    async def long(request: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, "said": "x" * 8_000_000 if request.get("command") == "status" else ""}

    async with Control(config, long):
        deaf = []
        for _ in range(MAX_CLIENTS + 2):
            one = socket.socket(socket.AF_UNIX)
            one.connect(str(environ / socket_name(config)))
            one.sendall(b'{"command": "status"}\n')
            deaf.append(one)
        assert (await asyncio.to_thread(ask, config, ASKED))["ok"]
        for one in deaf:
            assert len(await asyncio.to_thread(received, one)) < 8_000_000
            one.close()


def received(one: socket.socket) -> bytes:
    """What had come when the other side hung up."""
    hangup = select.poll()
    hangup.register(one, select.POLLHUP)
    assert hangup.poll(30_000)
    with one.makefile("rb") as file:
        return file.read()


async def test_of_those_whose_answer_takes_long_there_are_eight(environ: Path) -> None:
    config = environ / "edged.toml"
    go_on = asyncio.Event()
    asked = 0

    async def slow(request: dict[str, Any]) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        await go_on.wait()
        return {"ok": True}

    async with Control(config, slow):
        clients = [await asyncio.open_unix_connection(str(environ / socket_name(config))) for _ in range(MAX_CLIENTS + 1)]
        for _, writer in clients:
            writer.write(b'{"command": "reload"}\n')
        done, _ = await asyncio.wait(
            [asyncio.ensure_future(reader.readline()) for reader, _ in clients], return_when=asyncio.FIRST_COMPLETED
        )
        assert [json.loads(one.result())["errors"] for one in done] == [["8 other clients wait for an answer already"]]
        assert asked == MAX_CLIENTS
        go_on.set()
        for _, writer in clients:
            writer.close()


NOBODY = 65534
LISTEN = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
os.setuid(65534)
s.bind(sys.argv[1])
s.listen()
print(flush=True)
s.accept()
"""


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder like those in /tmp: anybody may have made it. Pytest's own folders are closed to others."""
    with TemporaryDirectory() as name:
        above = Path(name)
        above.chmod(0o1777)
        folder = above / "edged-0"
        folder.mkdir(mode=0o700)
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(folder))
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        yield folder


@pytest.fixture
def imposter(shared: Path) -> Iterator[Path]:
    """A process of another user listens where the daemon would."""
    path = shared / socket_name(shared / "edged.toml")
    shared.chmod(0o777)
    command = [sys.executable, "-c", LISTEN, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        shared.chmod(0o700)
        yield path
        process.kill()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@needs_root
def test_a_folder_that_another_user_made_is_not_believed(shared: Path, imposter: Path) -> None:
    os.chown(shared, NOBODY, NOBODY)
    with pytest.raises(OSError, match=r"edged-0 belongs to another user \(uid 65534\), whom edged does not trust"):
        ask(shared / "edged.toml", ASKED)


@needs_root
def test_a_folder_to_which_everybody_may_write_is_not_believed(shared: Path, imposter: Path) -> None:
    shared.chmod(0o777)
    with pytest.raises(OSError, match="everybody may write to"):
        ask(shared / "edged.toml", ASKED)


@needs_root
def test_a_socket_of_another_user_is_not_believed(shared: Path, imposter: Path) -> None:
    with pytest.raises(OSError, match=r"not a socket of a daemon that edged trusts \(uid 65534\)"):
        ask(shared / "edged.toml", ASKED)


@needs_root
def test_nor_is_a_link_to_it_or_a_process_of_another_user_behind_our_own(shared: Path, imposter: Path) -> None:
    os.chown(imposter, 0, 0)
    with pytest.raises(OSError, match=r"a process of another user \(uid 65534\), whom edged does not trust"):
        ask(shared / "edged.toml", ASKED)
    moved = imposter.rename(imposter.with_name("moved"))
    imposter.symlink_to(moved)
    with pytest.raises(OSError, match="not a socket of a daemon that edged trusts"):
        ask(shared / "edged.toml", ASKED)


@needs_root
async def test_the_user_to_whom_root_gave_the_folder_is_believed(environ: Path) -> None:
    """As systemd makes /run/edged for the user edged, and root asks."""
    config = environ / "edged.toml"
    async with Control(config, answer):
        os.chown(environ, NOBODY, NOBODY)
        os.chown(environ / socket_name(config), NOBODY, NOBODY)
        assert (await asyncio.to_thread(ask, config, ASKED))["ok"]


@needs_root
def test_a_daemon_does_not_listen_in_a_folder_of_another_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = folders({})[-1]
    monkeypatch.setattr("edged.daemon.control.folders", lambda _: [tmp_path / "absent", tmp_path / own.name])
    (tmp_path / own.name).symlink_to("/")
    with pytest.raises(OSError, match="is not a folder"):
        socket_path(tmp_path / "edged.toml", {})
