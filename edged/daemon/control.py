"""The daemon's unix socket: a line of JSON in, a line of JSON out. `edged reload` and its like speak to it. An answer may also
be a stream: lines for as long as who asked stays; whoever takes them slowly is told what was left out, and holds nobody up.

It lies in the runtime directory under a name that follows from the path of the configuration as it was given: what a link on
that path leads to may change while the daemon runs. So several daemons can run side by side, and a command finds the one of its
file, also when that file cannot be read just now. The lock beside it has the path in it, for commands that go another way.

A command believes only a daemon of root, of its own user, or of the user to whom root gave the runtime directory. Whoever
connects and says nothing, or does not take its answer, costs a place for a moment and keeps nobody out.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import stat
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

from edged.system.plain_file import read_plain

MAX_BYTES = 64 * 1024
MAX_CLIENTS = 8
"""Who waits for an answer at a time."""
MAX_SILENT = 32
"""Who has not asked yet at a time; of more, the least recently heard one goes. Room for many that come in one turn of the
loop, whose requests are still on their way."""
SILENT_S = 2.0
"""For a request to come, and for an answer to be taken."""
MAX_ANSWER = 16 * 1024 * 1024
MODE = 0o660
SOCKET, LOCK = ".sock", ".lock"
MAX_LOCKS = 256
LOCK_BYTES = 8192
ANSWER_S = 120.0
"""For an answer: a model may take that long to load and to be tried."""

Answer = dict[str, Any]
Stream = AsyncGenerator[Answer, None]
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
        for lock in sorted(folder.glob(f"control-*{LOCK}"))[:MAX_LOCKS]:
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
    trusted_uids(folder)
    return folder


def trusted_uids(folder: Path) -> set[int]:
    """Users whose socket may lie there. Raises OSError where others can put theirs."""
    facts, above = folder.lstat(), folder.parent.stat()
    trusted = {0, os.getuid()}
    if above.st_uid == 0 and not above.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        trusted.add(facts.st_uid)  # root made it, as systemd makes /run/edged, and gave it to the daemon's user
    if not stat.S_ISDIR(facts.st_mode):
        raise OSError(f"{folder} is not a folder, so somebody else made it: remove it")
    if facts.st_uid not in trusted:
        raise OSError(f"{folder} belongs to another user (uid {facts.st_uid}), whom edged does not trust; remove it")
    if facts.st_mode & stat.S_IWOTH:
        raise OSError(f"everybody may write to {folder}: chmod o-w {folder}")
    return trusted


class Control:
    """`async with Control(path of the configuration, answer)`. A daemon that cannot listen goes on, and says so."""

    def __init__(self, config: Path, answer: Callable[[dict[str, Any]], Awaitable[Answer | Stream]]) -> None:
        self._config = config
        self._answer = answer
        self._path: Path | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.Task[None], None] = {}
        self._answering = 0

    async def __aenter__(self) -> Control:
        try:
            path = socket_path(self._config)
            if _is_served(path):
                raise OSError(f"another edged runs with {self._config}")
            path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, path, limit=MAX_BYTES)
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
            answer = await self._answer_to(await self._heard(reader, task))
            writer.transport.set_write_buffer_limits(0)  # what is drained is taken
            if isinstance(answer, dict):
                writer.write(json.dumps(answer).encode() + b"\n")
                await asyncio.wait_for(writer.drain(), SILENT_S)
            else:
                await _stream(answer, reader, writer)
        except (ConnectionError, ValueError, asyncio.TimeoutError, asyncio.CancelledError):  # ValueError: a line without an end
            writer.transport.abort()
        finally:
            self._clients.discard(task)
            writer.close()

    async def _heard(self, reader: asyncio.StreamReader, task: asyncio.Task[None]) -> bytes:
        """The request of a client, if it comes soon."""
        if len(self._silent) >= MAX_SILENT:
            longest = next(iter(self._silent))
            del self._silent[longest]
            longest.cancel()
        self._silent[task] = None
        try:
            return await asyncio.wait_for(reader.readline(), SILENT_S)
        finally:
            self._silent.pop(task, None)

    async def _answer_to(self, line: bytes) -> Answer | Stream:
        if self._answering >= MAX_CLIENTS:
            return {"ok": False, "errors": [f"{MAX_CLIENTS} other clients wait for an answer already"]}
        self._answering += 1
        try:
            return await self._answer(_request(line))
        finally:
            self._answering -= 1


async def _stream(lines: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until there are no more, or nobody takes them."""

    async def write() -> None:
        async with contextlib.aclosing(lines):
            async for line in lines:
                writer.write(json.dumps(line).encode() + b"\n")
                await writer.drain()

    gone = asyncio.ensure_future(reader.read(1))
    writing = asyncio.ensure_future(write())
    try:
        await asyncio.wait((gone, writing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (gone, writing):
            task.cancel()
        await asyncio.gather(gone, writing, return_exceptions=True)


def _request(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):  # of brackets without end
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        return one.connect_ex(str(path)) == 0


def ask(config: Path, request: dict[str, Any], environ: Mapping[str, str] = os.environ) -> Answer:
    """Asks the daemon that runs with `config`. Raises OSError when there is none that can be trusted, or it does not answer."""
    with _daemon(config, environ) as one:
        one.sendall(json.dumps(request).encode() + b"\n")
        with one.makefile("rb") as file:
            line = file.readline(MAX_ANSWER)
        if not line:
            raise ConnectionResetError("the daemon ended before it answered")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer


def listen(config: Path, request: dict[str, Any], environ: Mapping[str, str] = os.environ) -> Iterator[Answer]:
    """Asks for a stream: its lines until the daemon ends it. Raises OSError as `ask` does."""
    with _daemon(config, environ) as one, one.makefile("rb") as file:
        one.sendall(json.dumps(request).encode() + b"\n")
        while line := file.readline(MAX_ANSWER):
            one.settimeout(None)  # it answers; when something comes is not its business
            yield json.loads(line)


@contextlib.contextmanager
def _daemon(config: Path, environ: Mapping[str, str]) -> Iterator[socket.socket]:
    """A connection to the daemon of a configuration. Raises OSError when there is none that can be trusted."""
    denied: OSError | None = None
    for path in find_sockets(config, environ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.settimeout(ANSWER_S)
            try:
                _connect(one, path)
            except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
                continue
            except OSError as error:
                denied = denied or error
                continue
            yield one
            return
    if denied is not None:
        raise denied
    raise FileNotFoundError(f"no edged runs with {config}")


def _connect(one: socket.socket, path: Path) -> None:
    """Raises OSError, also when what listens there may be somebody else's."""
    found = path.lstat()
    trusted = trusted_uids(path.parent)
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in trusted:
        raise OSError(f"{path} is not a socket of a daemon that edged trusts (uid {found.st_uid}); remove it")
    one.connect(str(path))
    _, uid, _ = struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if uid not in trusted:
        raise OSError(f"what listens at {path} is a process of another user (uid {uid}), whom edged does not trust")
