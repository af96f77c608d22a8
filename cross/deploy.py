"""`make deploy`, `rollback`, `status`, `logs`, `undeploy`: the laptop's side, over plain ssh.

It looks at the device, builds the bundle for it, sends what is missing there, and shows what the device says. All that changes
the device is in the folder `device/`, which runs there; what is decided from a look is in `facts.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import hashlib
import io
import json
import shlex
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cross import bundle, facts
from cross import target as targets
from cross.target import Refused
from edged.errors import Fatal
from edged.system.process import complain, say
from edged.system.readable import readable

HERE = Path(__file__).parent
ALIVE = ("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3", "-o", "ConnectTimeout=15")
MIB = 1024 * 1024
ENDING_S = 5.0
LAST_WORDS_S = 1.0
CHUNK = 64 * 1024
MIN_TRIES = 5
"""Connections that brought nothing further before it is given up; every one that did starts the count again."""
BOOT = (
    "import os,runpy,sys;path='/proc/self/fd/%d'%os.memfd_create('device.pyz');size=int(sys.argv[1]);"
    "file=open(path,'wb');file.write(sys.stdin.buffer.read(size));file.close();"
    "sys.argv=[path];runpy.run_path(path,run_name='__main__')"
)
"""Runs `device.pyz`, which comes first on standard input, from memory; so it needs no place on the device."""
SSH_FAILED = 255


class Cut(Exception):
    """The connection ended before the device had said its last word."""


@dataclass(frozen=True, slots=True)
class Device:
    host: str
    options: tuple[str, ...]
    password: str | None = None
    """sudo's, if it asks for one; None: root, or it does not."""
    is_root: bool = True

    def ssh(self, command: str) -> list[str]:
        return ["ssh", *self.options, *ALIVE, self.host, command]

    def as_root(self, *words: str) -> str:
        command = shlex.join(words)
        if self.is_root:
            return command
        return f"sudo -n {command}" if self.password is None else f"sudo -k -S -p '' {command}"

    @property
    def first_words(self) -> bytes:
        return b"" if self.password is None else f"{self.password}\n".encode()


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a bundle."""

    path: str
    sha256: str
    size: int


def parts_of(folder: Path) -> list[Part]:
    """What a bundle is made of, small files first. Raises Refused when it is none."""
    try:
        lines = (folder / "manifest").read_text("utf-8").splitlines()
    except OSError:
        raise Refused(f"{folder} is not a bundle: it has no manifest; make bundle makes one") from None
    names = [line[66:] for line in lines] + [name for name in ("manifest", "manifest.sig") if (folder / name).is_file()]
    found = [Part(name, _sha256(folder / name), (folder / name).stat().st_size) for name in names]
    return sorted(found, key=lambda part: (part.size, part.path))


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        digest = hashlib.sha256()
        while data := opened.read(MIB):
            digest.update(data)
    return digest.hexdigest()


def look(host: str, options: tuple[str, ...]) -> dict[str, str]:
    """What the device is. Raises Refused."""
    script = (HERE / "look.sh").read_bytes()
    done = subprocess.run(Device(host, options).ssh("sh -s"), input=script, capture_output=True, check=False)
    if done.stderr:
        complain(_text(done.stderr))
    if done.returncode == SSH_FAILED:
        raise Refused(f"no connection to {host}, see above: does `ssh {host}` work?")
    try:
        return facts.parse(done.stdout.decode("utf-8", "replace"))
    except facts.Unread as error:
        raise Refused(f"{host}: {error}") from None


def connect(host: str, options: tuple[str, ...], found: dict[str, str]) -> Device:
    """With sudo's password, if it wants one."""
    if found["uid"] == "0":
        return Device(host, options)
    if found["sudo"] != "password":
        return Device(host, options, is_root=False)
    if not sys.stdin.isatty():
        raise Refused(f"sudo asks {found['user']} for a password there, and nobody is here to give it: run it in a terminal")
    asked = getpass.getpass(readable(f"sudo's password of {found['user']} on {host}: "))
    return verified(Device(host, options, asked, is_root=False))


def verified(device: Device) -> Device:
    """The same, once its password was accepted: else sudo would take the program that is sent for the next tries."""
    command = device.ssh(device.as_root("true"))
    done = subprocess.run(command, input=device.first_words, stderr=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise Refused(f"sudo does not let us on {device.host}: wrong password, or this user may not")
    return device


def order(device: Device, request: dict[str, Any], folder: Path | None = None) -> int:
    """Has the device do something, sends what it needs for that, shows what it says. A deploy that is cut goes on where it was.

    Gives back 0. Raises Refused when the device said that it failed, or when there is no connection any more."""
    tries = MIN_TRIES
    while True:
        progress = _Progress()
        try:
            return _converse(device, request, folder, progress)
        except Cut as cut:
            if request["ask"] != "deploy":  # done twice, a rollback would be undone
                raise Refused(f"the connection to {device.host} is lost: {cut}; make status says what became of it") from None
            tries = MIN_TRIES if progress.sent else tries - 1
            if not tries:
                raise Refused(f"the connection to {device.host} is lost: {cut}; run it again, it goes on where it was") from None
            show(f"the connection was lost ({cut}), trying again")
            time.sleep(2.0 ** (MIN_TRIES - tries))


def pack() -> bytes:
    """The folder `device/` as one file that a device's Python runs: a zip of what it imports, and `__main__.py`."""
    program = io.BytesIO()
    with zipfile.ZipFile(program, "w") as file:  # stored, not deflated: a device's Python may lack zlib
        file.writestr("cross/__init__.py", "")
        file.writestr("__main__.py", "from cross.device.__main__ import main\n\nmain()\n")
        for module in sorted((HERE / "device").glob("*.py")):
            file.write(module, f"cross/device/{module.name}")
    return program.getvalue()


def _converse(device: Device, request: dict[str, Any], folder: Path | None, progress: _Progress) -> int:
    program = pack()
    with _ssh(device, device.as_root("python3", "-I", "-c", BOOT, str(len(program)))) as (process, tell, told):
        with contextlib.suppress(BrokenPipeError):  # what it said last stands in its output
            tell.write(device.first_words + program + json.dumps(request).encode() + b"\n")
            tell.flush()
        for line in told:
            what = _said(line)
            if "need" in what:
                assert folder is not None
                with contextlib.suppress(BrokenPipeError):
                    _send(tell, folder, request["files"], what["need"], progress)
            elif what.get("end"):
                raise Refused(what["say"])
            elif what.get("say"):
                show(what["say"])
            if "end" in what:
                return 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDING_S)
    raise Cut(f"ssh ended with status {process.returncode}")


def _said(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"say": _text(line)}


def _text(said: bytes) -> str:
    return said.decode("utf-8", "replace").rstrip()


@contextlib.contextmanager
def _ssh(device: Device, command: str) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
    """An ssh that runs a command, where one writes to it, and what it says; what it complains of is shown meanwhile."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(device.ssh(command), stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    relay = threading.Thread(target=_relay, args=(process.stderr,), daemon=True)
    relay.start()
    try:
        yield process, process.stdin, process.stdout
    finally:
        process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        process.wait()
        relay.join(LAST_WORDS_S)  # a connection that ssh keeps for later may hold it open


def _relay(errors: IO[bytes]) -> None:
    """Passes on what ssh and the device say on standard error, as a terminal may be shown it."""
    with errors:
        for line in errors:
            complain(_text(line))


class _Progress:
    """What was sent in one connection, and the line that shows it."""

    def __init__(self) -> None:
        self.sent = 0
        self._shown = -1

    def add(self, size: int, total: int) -> None:
        self.sent += size
        tenth = 10 * self.sent // max(total, 10 * MIB) if self.sent < total else 10
        if sys.stderr.isatty():
            sys.stderr.write(f"\r  sent {self.sent / MIB:.1f} of {total / MIB:.1f} MiB" + ("\n" if self.sent == total else ""))
            sys.stderr.flush()
        elif tenth != self._shown and total >= MIB:
            self._shown = tenth
            show(f"sent {self.sent / MIB:.1f} of {total / MIB:.1f} MiB")


def _send(stream: Any, folder: Path, files: list[dict[str, Any]], need: dict[str, int], progress: _Progress) -> None:
    """In the device's order: the rest of each file that it has not."""
    by_hash = {one["sha256"]: one for one in files}
    total = sum(by_hash[sha]["size"] - offset for sha, offset in need.items())
    have = sum(one["size"] for one in by_hash.values()) - total
    show(f"{total / MIB:.1f} MiB to send, {have / MIB:.1f} MiB are there already")
    for sha, offset in need.items():
        for data in _rest(folder / by_hash[sha]["path"], offset):
            stream.write(data)
            stream.flush()
            progress.add(len(data), total)


def _rest(file: Path, offset: int) -> Iterator[bytes]:
    with file.open("rb") as opened:
        opened.seek(offset)
        while data := opened.read(CHUNK):
            yield data


def show(text: str) -> None:
    for line in text.splitlines():
        say(f"  {line}")


# ---- the commands ----


def deploy(asked: argparse.Namespace, options: tuple[str, ...]) -> int:
    found = look(asked.host, options)
    say(f"{asked.host}: {facts.described(found)}")
    now = time.time()
    problems = facts.refusals(found, now)
    choice = facts.choose(found, asked.target, map(targets.read, targets.names())) if not problems else ""
    if isinstance(choice, str):
        problems += [choice] if choice else []
    if problems:
        raise Refused("\n".join(problems))
    assert not isinstance(choice, str)
    for line in facts.warnings(found, choice.target, now):
        show(f"warning: {line}")
    folder = Path(asked.bundle) if asked.bundle else _build(choice, asked)
    device = connect(asked.host, options, found)
    files = [{"path": part.path, "sha256": part.sha256, "size": part.size} for part in parts_of(folder)]
    show(f"bundle {folder.name}")
    request = {
        "ask": "deploy",
        "name": folder.name,
        "files": files,
        "verify": (HERE / "verify").read_text(),
        "watch_s": asked.watch,
        "ready_s": asked.ready,
    }
    return order(device, request, folder)


def _build(choice: facts.Choice, asked: argparse.Namespace) -> Path:
    target = targets.read(choice.target)
    config = Path(asked.config) if asked.config else None
    made = bundle.build(target, target.system(choice.system), bundle.BUILD / "bundles", config, asked.wheels, asked.sign)
    return made.with_suffix("") if made.suffix == ".tar" else made


def simple(asked: argparse.Namespace, options: tuple[str, ...]) -> int:
    found = look(asked.host, options)
    device = connect(asked.host, options, found)
    request = {"ask": asked.command, "config": asked.config, "purge": asked.purge, "watch_s": asked.watch, "ready_s": asked.ready}
    return order(device, request)


def logs(asked: argparse.Namespace, options: tuple[str, ...]) -> int:
    device = connect(asked.host, options, look(asked.host, options))
    words = [
        "journalctl",
        "--unit=edged.service",
        f"--lines={asked.lines}",
        "--no-pager",
        *(["--follow"] if asked.follow else []),
    ]
    with _ssh(device, device.as_root(*words)) as (process, tell, told):
        try:
            tell.write(device.first_words)
            tell.flush()
            for line in told:
                say(_text(line))
            return process.wait()
        except (KeyboardInterrupt, BrokenPipeError):  # whoever reads it has seen enough
            return 0


SWITCHES = ("deploy", "rollback")
COMMANDS = {"deploy": deploy, "rollback": simple, "status": simple, "undeploy": simple, "logs": logs}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="cross.deploy", description="edged on a device, over ssh.")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("host", metavar="HOST", help="as ssh takes it: user@device")
    parser.add_argument("--ssh", default="", metavar="OPTIONS", help="options for ssh")
    parser.add_argument("--target", default="", help="; ".join(targets.names()))
    parser.add_argument("--config", default="", metavar="FILE", help="the configuration to bring; rollback: `before`")
    parser.add_argument("--bundle", default="", metavar="FOLDER", help="a bundle that was built before")
    parser.add_argument("--wheels", default="", metavar="FOLDER|INDEX", help="where the GPU's wheel is")
    parser.add_argument("--sign", default="", metavar="KEY", help="an ssh key that signs the bundle")
    parser.add_argument("--watch", type=float, default=25, metavar="SECONDS", help="how long a release must do well")
    parser.add_argument("--ready", type=float, default=60, metavar="SECONDS", help="how long it may take to start")
    parser.add_argument("--lines", type=int, default=100, help="of the log")
    parser.add_argument("--follow", action="store_true", help="the log as it goes on")
    parser.add_argument("--purge", action="store_true", help="undeploy: configuration and state as well")
    asked = parser.parse_args(argv)
    if not asked.host or asked.host.startswith("-"):
        complain(f"{asked.command}: which device? HOST=user@device")
        return 64
    try:
        return COMMANDS[asked.command](asked, tuple(shlex.split(asked.ssh)))
    except Refused as refused:
        for line in str(refused).splitlines():
            complain(f"{asked.command}: {line}")
        return 1
    except Fatal as fatal:
        complain(f"{asked.command}: {fatal}")
        return fatal.code
    except KeyboardInterrupt:
        if asked.command in SWITCHES:
            complain(
                f"{asked.command}: interrupted; a switch that has begun goes on there, and make status says what became of it"
            )
        return 1
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
