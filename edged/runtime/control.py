"""The daemon's unix socket: a line of JSON in, a line of JSON out. `edged reload` and its like speak to it.

It lies in the runtime directory under a name that follows from the path of the configuration as it was given: what a link on
that path leads to may change while the daemon runs. So several daemons can run side by side, and a command finds the one of its
file, also when that file cannot be read just now. The lock beside it has the path in it, for commands that go another way.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

from edged.plain_file import read_plain

MOST_BYTES = 64 * 1024
MOST_CLIENTS = 8
MODE = 0o660
SOCKET, LOCK = ".sock", ".lock"
MOST_LOCKS = 256
LOCK_BYTES = 8192
ANSWER_S = 120.0
"""For an answer: a model may take that long to load and to be tried."""

log: Any = structlog.get_logger("edged")


def folders(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Where the socket may be, best first: what systemd made for the unit, its usual place, the user's own."""
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    own = environ.get("XDG_RUNTIME_DIR")
    found = [Path(given)] if given else []
    return [*found, Path("/run/edged"), *([Path(own) / "edged"] if own else []), Path(f"/tmp/edged-{os.getuid()}")]


def socket_name(config: Path) -> str:
    return f"control-{identity(config)}{SOCKET}"


def identity(config: Path) -> str:
    """What tells the daemon of one configuration from that of another: its path, absolute, links and all."""
    return hashlib.sha256(os.fsencode(config.absolute())).hexdigest()[:12]


def find_sockets(config: Path, environ: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Where the daemon of a configuration may listen, best first: under the path as it is given, then under any other that leads
    to the same file now."""
    yield from (folder / socket_name(config) for folder in folders(environ))
    yield from (lock.with_suffix(SOCKET) for lock in find_locks(config, environ))


def find_locks(config: Path, environ: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """The locks of daemons whose path leads to this file now, and of those that a crash left."""
    real = os.path.realpath(config)
    for folder in folders(environ):
        for lock in sorted(folder.glob(f"control-*{LOCK}"))[:MOST_LOCKS]:
            with contextlib.suppress(OSError, ValueError):
                _, path, _ = read_plain(lock, LOCK_BYTES).decode().split("\n")
                if os.path.realpath(path) == real:
                    yield lock


def socket_path(config: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Where this daemon listens."""
    return own_folder(environ) / socket_name(config)


def own_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The first folder that is there and may be written, else one of its own. Raises OSError."""
    for folder in folders(environ)[:-1]:
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    folder = folders(environ)[-1]
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder


class Control:
    """`async with Control(path of the configuration, answer)`. A daemon that cannot listen goes on, and says so."""

    def __init__(self, config: Path, answer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
        self._config = config
        self._answer = answer
        self._path: Path | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Control:
        try:
            path = socket_path(self._config)
            if _is_served(path):
                raise OSError(f"another edged runs with {self._config}")
            path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, path, limit=MOST_BYTES)
            path.chmod(MODE)
            self._path = path
        except OSError as error:
            log.warning("control", reason=f"no socket for edged reload: {error}; SIGHUP does the same")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) > MOST_CLIENTS:
                answer: dict[str, Any] = {"ok": False, "errors": [f"{MOST_CLIENTS} others wait for an answer already"]}
            else:
                answer = await self._answer(_request(await reader.readline()))
            writer.write(json.dumps(answer).encode() + b"\n")
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.CancelledError):  # ValueError: a line without an end
            pass
        finally:
            self._clients.discard(task)
            writer.close()


def _request(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        return one.connect_ex(str(path)) == 0


def ask(config: Path, request: dict[str, Any], environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Asks the daemon that runs with `config`. Raises OSError when there is none, or it does not answer."""
    denied: OSError | None = None
    for path in find_sockets(config, environ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.settimeout(ANSWER_S)
            try:
                one.connect(str(path))
            except PermissionError as error:
                denied = error
                continue
            except OSError:
                continue
            one.sendall(json.dumps(request).encode() + b"\n")
            with one.makefile("rb") as file:
                line = file.readline()
            if not line:
                raise ConnectionResetError("the daemon ended before it answered")
            answer = json.loads(line)
            assert isinstance(answer, dict)
            return answer
    if denied is not None:
        raise denied
    raise FileNotFoundError(f"no edged runs with {config}")
