"""Gathers all facts of this machine: what its files say, and what takes a process, a socket or the kernel to know."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec.structs import replace

import edged
from edged.clock.clock import Clock
from edged.commands.doctor import look
from edged.commands.doctor.facts import Broker, Daemon, Facts, Onnx, Port, Process, Queue, User
from edged.commands.doctor.look import Disk, Login
from edged.commands.doctor.wanted import Wanted
from edged.config.schema import UsbPort
from edged.daemon.control import find_sockets
from edged.errors import Retryable
from edged.mqtt.connect import Connector
from edged.mqtt.settings import LinkSettings
from edged.mqtt.websocket import WebSocket
from edged.serialport.discovery import find
from edged.system import process
from edged.system.process_memory import machine_bytes

PROBE_S = 60.0
CONNECT_S = 5.0
OWN_MACHINE = ("localhost", "127.0.0.1", "::1")
PEER = struct.Struct("3i")


class Live(msgspec.Struct, frozen=True):
    """What no file tells."""

    login: Login
    architecture: str
    bits: int
    cores: int
    memory_bytes: int
    python: str
    onnx: Onnx
    brokers: tuple[Broker, ...]
    utc: float
    is_clock_synced: bool
    throttled: int | None
    process: Process
    daemon: Daemon
    disk: Disk = look.disk_usage
    find: Callable[[str | UsbPort], str | None] = find


def gather(root: Path, wanted: Wanted, live: Live) -> Facts:
    """All that can be said of the machine whose files lie below `root`."""
    service = look.unit(root)
    who = look.user(root, live.login, service)
    kept = look.queued_at_most(root)
    listens = look.mosquitto_listens(root)
    brokers = tuple(replace(b, is_mosquitto=b.is_local and b.where in listens) for b in live.brokers)
    near = {b.name for b in brokers if b.is_mosquitto}
    throttled = look.throttled(root)
    return Facts(
        system=look.system(root),
        architecture=live.architecture,
        bits=live.bits,
        cores=live.cores,
        memory_bytes=live.memory_bytes,
        python=live.python,
        board=look.board(root),
        l4t=look.l4t(root),
        has_nvidia=look.has_nvidia(root),
        has_dot_product=look.has_dot_product(root),
        onnx=live.onnx,
        user=who,
        known_groups=frozenset(look.groups(root)),
        ports=tuple(_ports(root, wanted, live, who)),
        probers=look.probers(root),
        configuration=wanted.configuration,
        brokers=brokers,
        queues=tuple(Queue(name, rate, kept if name in near else None) for name, rate in wanted.rates.items()),
        utc=live.utc,
        is_clock_synced=live.is_clock_synced,
        cgroup=look.cgroup(root),
        throttled=live.throttled if throttled is None else throttled,
        zones=tuple(look.zones(root)),
        folders=tuple(look.folder(root, what, path, who, live.disk) for what, path in wanted.folders.items()),
        flash=tuple(look.flash(root)),
        damaged=look.damaged(root),
        swaps=tuple(look.swaps(root)),
        process=live.process,
        daemon=live.daemon,
        has_unit=service.is_there,
    )


def _ports(root: Path, wanted: Wanted, live: Live, who: User) -> Iterable[Port]:
    """Those that the configuration names; without any, all that are here."""
    for opener, port in wanted.ports.items():
        path = port if isinstance(port, str) else live.find(port)
        yield look.port(root, path or "", who, opener)
    if not wanted.ports:
        yield from (look.port(root, path, who) for path in look.ports_here(root))


def live(wanted: Wanted, config: Path) -> Live:
    """Of this machine, now. Takes seconds: onnxruntime is imported elsewhere, brokers are connected to."""
    uid = os.geteuid()
    name = os.uname()
    return Live(
        login=Login(_user_name(uid), uid, frozenset({os.getegid(), *os.getgroups()})),
        architecture=name.machine,
        bits=64 if sys.maxsize > 1 << 32 else 32,
        cores=os.cpu_count() or 1,
        memory_bytes=machine_bytes(),
        python=".".join(map(str, sys.version_info[:3])),
        onnx=probe(),
        brokers=asyncio.run(look_at_all(wanted.links)),
        utc=time.time(),
        is_clock_synced=Clock().is_synced(),
        throttled=ask_pi(),
        process=_process(),
        daemon=daemon(config),
    )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _process() -> Process:
    is_set = process.set_up()
    environ = os.environ
    return Process(is_set, environ.get("OPENBLAS_NUM_THREADS", ""), environ.get("ORT_DISABLE_TELEMETRY") == "1")


def probe() -> Onnx:
    """onnxruntime, as another process sees it."""
    found = look.packages(sys.path)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edged.commands.doctor.probe"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_S,
            cwd=Path(edged.__file__).parents[1],
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Onnx(found, error=f"it was not imported within {PROBE_S:g} s")
    except OSError as error:
        return Onnx(found, error=f"it could not be asked: no process can be started: {error.strerror}")
    if done.returncode < 0:
        return Onnx(found, error=f"it crashes when it is imported (signal {-done.returncode})")
    try:
        said = msgspec.json.decode(done.stdout.strip().rpartition(b"\n")[2])
    except msgspec.DecodeError:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return Onnx(found, error=f"it cannot be imported: {last or f'exit status {done.returncode}'}")
    return msgspec.convert({**said, "packages": found}, Onnx)


async def look_at_all(links: Iterable[LinkSettings]) -> tuple[Broker, ...]:
    return tuple(await asyncio.gather(*(look_at(link) for link in links)))


async def look_at(link: LinkSettings) -> Broker:
    """Connects, shakes hands where there is TLS, and leaves: no MQTT is spoken, so nobody is thrown out."""
    url = link.url
    is_local = url.scheme == "unix" or url.host in OWN_MACHINE
    where = url.path if url.scheme == "unix" else str(url.port)
    began = time.monotonic()
    try:
        one = await Connector(link).open(CONNECT_S)
    except Retryable as error:
        return Broker(link.name, str(url), is_local, error.state, error.reason, where=where)
    took_ms = (time.monotonic() - began) * 1000
    with one.sock if isinstance(one, WebSocket) else one as sock:
        certificate = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"])) if certificate else None
    return Broker(link.name, str(url), is_local, took_ms=took_ms, certificate_ends=ends, where=where)


def daemon(config: Path) -> Daemon:
    """The one that runs with this configuration, by whom its control socket belongs to."""
    is_closed = False
    for path in find_sockets(config):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            try:
                one.connect(str(path))
            except PermissionError:
                is_closed = True
            except OSError:
                continue
            else:
                return Daemon(PEER.unpack(one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))[0])
    return Daemon(is_closed=is_closed)


def ask_pi() -> int | None:
    """The Pi's own command, where the kernel does not show its flags."""
    program = shutil.which("vcgencmd")
    if program is None:
        return None
    try:
        said = subprocess.run([program, "get_throttled"], capture_output=True, text=True, timeout=5.0, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"0x([0-9a-fA-F]+)", said)
    return int(found[1], 16) if found else None
