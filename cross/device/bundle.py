"""A bundle on its way to a release: what is missing of it is received, all of it verified, then its own `install` runs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from cross.device.commands import run
from cross.device.files import write
from cross.device.places import CACHE, MIB, MIN_FREE_BYTES, PREFIX, VERIFY, WORK
from cross.device.words import Refused, say, tell


def receive(files: list[dict[str, Any]], stream: Any) -> None:
    """Says what is missing, and takes it in that order."""
    CACHE.mkdir(parents=True, exist_ok=True)
    need: dict[str, int] = {}
    sizes = {one["sha256"]: one["size"] for one in files}
    for sha, size in sizes.items():
        if not (CACHE / sha).is_file():
            part = CACHE / f"{sha}.part"
            there = part.stat().st_size if part.is_file() else 0
            need[sha] = there if there <= size else 0
    missing = sum(sizes[sha] - offset for sha, offset in need.items())
    free = shutil.disk_usage(CACHE).free
    if missing + MIN_FREE_BYTES > free:
        text = f"{missing // MIB} MiB are to come and {free // MIB} MiB are free in {PREFIX}"
        raise Refused(f"{text}: sudo apt clean; du -xh / | sort -h | tail")
    tell(need=need)
    for sha, offset in need.items():
        _take(CACHE / f"{sha}.part", CACHE / sha, offset, sizes[sha], stream)


def _take(part: Path, whole: Path, offset: int, size: int, stream: Any) -> None:
    with part.open("r+b" if offset else "w+b") as file:
        digest = hashlib.sha256()
        while data := file.read(min(MIB, max(0, offset - file.tell()))):
            digest.update(data)
        file.truncate()
        while left := size - file.tell():
            data = stream.read1(min(left, 256 * 1024))
            if not data:
                raise EOFError
            digest.update(data)
            file.write(data)
            file.flush()  # what came over a bad link is kept, whatever happens next
        if digest.hexdigest() != whole.name:
            part.unlink()
            raise Refused("a file was damaged on its way, or changed while it was sent: try again")
        os.fsync(file.fileno())
    part.rename(whole)


def is_place(path: str) -> bool:
    """Whether a path of a bundle stays inside of it."""
    parts = path.split("/")
    return bool(path) and not path.startswith("/") and ".." not in parts and "" not in parts and "\0" not in path


def put_together(name: str, files: list[dict[str, Any]]) -> Path:
    """The bundle as a folder again, of links into the cache."""
    folder = WORK / "bundle" / name
    shutil.rmtree(WORK / "bundle", ignore_errors=True)
    for one in files:
        if not is_place(one["path"]):
            raise Refused(f"{one['path']}: no such place can be in a bundle")
        place = folder / one["path"]
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(CACHE / one["sha256"], place)
    return folder


def verify(folder: Path, program: str) -> None:
    """Before anything of it runs. `program` is the verifier for a device that has none yet: it comes from whoever deploys, like
    this file, and not from the bundle."""
    if not VERIFY.exists():
        write(VERIFY, program, 0o755)
    done = run("sh", str(VERIFY), str(folder))
    if done.returncode:
        shutil.rmtree(WORK / "bundle", ignore_errors=True)
        raise Refused(f"nothing of the bundle was run: {done.stderr.strip() or f'status {done.returncode}'}")


def install(folder: Path, child: list[subprocess.Popen[str]]) -> str:
    """The release's id. `child` holds the process while it runs, for whoever has to end it."""
    done = subprocess.Popen(
        ["sh", str(folder / "install"), "--prefix", str(PREFIX)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    child.append(done)
    assert done.stderr is not None
    assert done.stdout is not None
    for line in done.stderr:
        say(line.rstrip().removeprefix("install: "))
    out = done.stdout.read().strip()
    code = done.wait()
    child.clear()
    shutil.rmtree(WORK / "bundle", ignore_errors=True)
    if code:
        raise Refused(f"the bundle's install ended with status {code}, see above")
    return Path(out.splitlines()[-1]).name
