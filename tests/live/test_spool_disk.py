"""A disk that is full, becomes read-only, or fails to sync; and what an outage writes to it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.live.test_spool import back, number, samples, subscribed, there, write
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced, until
from tests.support.pause import pause
from tests.support.scale import scale

assert there
LIVE = """
[source.other]
type = "mqtt"
broker = "here"
topic = "in/y"
qos = 0
decode = { format = "json", fields = ["a", "b", "c"] }
[pipeline.live]
source = "other"
model = "m"
publish = { broker = "here", topic = "out/live" }
"""
OTHER = """
[source.other]
type = "mqtt"
broker = "here"
topic = "in/y"
qos = 0
decode = { format = "json", fields = ["a", "b", "c"] }
[pipeline.of_other]
source = "other"
model = "m"
publish = { broker = "there", topic = "out/p" }
"""


def mount(*arguments: object) -> bool:
    """Whether it could be done: it takes root, and not everywhere is root allowed to."""
    if os.geteuid() != 0:
        return False
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode == 0


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    assert mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def ext4(image: Path, size: int, folder: Path, *options: str) -> Iterator[Path]:
    folder.mkdir()
    with image.open("wb") as f:
        f.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", "-m", "0", *options, str(image)], check=True)
    assert mount("-o", "loop", image, folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(
    params=[pytest.param("tmpfs", marks=pytest.mark.mounts), pytest.param("ext4", marks=pytest.mark.mounts_files)],
)
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk with room for 1 MiB."""
    if request.param == "tmpfs":
        disk = tmpfs(tmp_path / "small", "1m")
    else:
        disk = ext4(tmp_path / "image", 8 << 20, tmp_path / "small")
    with disk as folder:
        found = os.statvfs(folder)
        (folder / "ballast").write_bytes(bytes(max(0, found.f_bavail * found.f_frsize - (1 << 20))))
        yield folder


def test_a_full_disk_stops_nothing(there: Broker, tmp_path: Path, zoo: Path, small: Path) -> None:
    """The disk fills while the output's broker is away: inputs wait at their own broker. It gets room again, and they go on."""
    filler = small / "filler"
    filler.write_bytes(bytes(900_000))
    live = '[pipeline.q]\nsource = "in"\nmodel = "m"\npublish = { broker = "here", topic = "out/q" }\n'
    spool = f'[spool]\npath = "{small}/spool"\nmax_bytes = "64MiB"\n'
    with (
        Broker(tmp_path, "max_queued_messages 0") as broker,
        Client(broker.port) as here,
        Daemon(tmp_path, write(broker, there, zoo, spool) + live) as daemon,
    ):
        subscribed(here)
        for start in range(0, 1500, 500):
            here.publish_all("in/x", samples(range(start, start + 500)))
        health = here.health(lambda h: h["spool"]["state"] == "failing" and balanced(h))
        assert "No space left on device" in health["spool"]["reason"]
        assert health["state"] == "degraded"
        stored = health["spool"]["brokers"]["there"]["stored"]
        assert stored > 100
        # The results for the broker that is there went out, as far as inputs came in.
        here.wait("out/q", stored + 1)
        # What has no room is not settled: its inputs wait at their own broker.
        here.health(lambda h: h["brokers"]["here"]["unacked"] >= 64)
        filler.unlink()
        here.health(lambda h: h["brokers"]["here"]["unacked"] == 0 or h["spool"]["state"] == "failing")
        with there, Client(there.port, "out/p") as client:
            here.publish_all("in/x", samples(range(1500, 1501)))
            client.until(lambda: any(number(m.json) == 1500 for m in client.of("out/p")))
            health = here.health(lambda h: h["spool"]["state"] == "idle" and balanced(h))
        assert {p.name for p in small.iterdir()} - {"lost+found", "ballast"} == {"spool"}
        assert daemon.process.poll() is None
    assert sum(sum(e["dropped"].values()) for e in health["pipelines"]["p"]["publish"]) == 0
    assert {number(m.json) for m in here.of("out/q")} == set(range(1501))


class Fragile(NamedTuple):
    """A folder on a disk that can be broken and mended."""

    folder: Path
    fail: Callable[[], object]
    mend: Callable[[], object]
    reasons: tuple[str, ...]


@contextmanager
def read_only(folder: Path) -> Iterator[Fragile]:
    """Mounted anew as the kernel does after errors. Without the rights to: a file stands where the folder was."""
    folder.mkdir()
    kept = folder / "spool" / "there"
    away = folder / "away"

    def remount(how: str) -> None:
        until(lambda: mount("-o", f"remount,{how}", folder), what=f"remounting {how}, while nothing writes")

    def swap() -> None:
        kept.rename(away)
        kept.write_bytes(b"")

    def swap_back() -> None:
        kept.unlink()
        away.rename(kept)

    if mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", folder):
        try:
            yield Fragile(folder, lambda: remount("ro"), lambda: remount("rw"), ("Read-only file system",))
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    else:
        yield Fragile(folder, swap, swap_back, ("Not a directory", "File exists"))


@contextmanager
def unsynced(folder: Path) -> Iterator[Fragile]:
    """The file behind the file system gets no room any more: writing goes well, syncing fails, and what was written is lost."""
    behind = folder.with_name("behind")
    image, filler = behind / "image", behind / "filler"

    def fail() -> None:
        os.sync()
        subprocess.run(["fallocate", "--dig-holes", str(image)], check=True)  # zeros take room from now on when written over
        found = os.statvfs(behind)
        filler.write_bytes(bytes(found.f_bavail * found.f_frsize))

    with tmpfs(behind, "16m"), ext4(image, 64 << 20, folder, "-O", "^has_journal"):
        yield Fragile(folder, fail, filler.unlink, ("No space left on device", "Input/output error"))


@pytest.mark.parametrize("breaking", [read_only, pytest.param(unsynced, marks=pytest.mark.mounts_files)])
def test_a_disk_that_fails(
    breaking: Callable[[Path], AbstractContextManager[Fragile]], broker: Broker, there: Broker, tmp_path: Path, zoo: Path
) -> None:
    """It is said; live results go on; inputs whose results could not be kept stay with their broker; nothing is lost."""
    with breaking(tmp_path / "disk") as disk, Client(broker.port) as here:
        text = write(broker, there, zoo, f'[spool]\npath = "{disk.folder}/spool"\nmax_bytes = "4MiB"\n') + LIVE
        with Daemon(tmp_path, text) as daemon:
            subscribed(here)
            here.publish_all("in/x", samples(range(200)))
            here.health(lambda h: h["spool"]["brokers"]["there"]["stored"] == 200)
            before = logs(disk.folder)
            disk.fail()
            here.publish_all("in/x", samples(range(200, 300)))
            health = here.health(lambda h: h["spool"]["state"] == "failing" and is_held(h))
            assert any(reason in health["spool"]["reason"] for reason in disk.reasons), health["spool"]
            assert health["state"] == "degraded"
            assert "level=error event=spool" in daemon.log
            here.publish_all("in/y", samples(range(50)))
            here.wait("out/live", 50)
            disk.mend()
            here.health(lambda h: h["brokers"]["here"]["unacked"] == 0 and h["spool"]["state"] == "storing" and balanced(h))
            if breaking == unsynced:  # nobody knows what is in the file whose sync failed: it is written to no more
                assert len(logs(disk.folder) - before) == 1
            with back(daemon, there) as client:
                here.health(lambda h: h["spool"]["state"] == "idle" and balanced(h))
                results = [number(m.json) for m in client.wait("out/p", 300)]
            until(lambda: logs(disk.folder) == set(), what="the spool to be empty")
    assert results == list(range(300))


def is_held(health: Any) -> bool:
    """Whether inputs whose results are not on disk are not acknowledged: all of them, or as many as their broker sends."""
    left = 300 - int(health["spool"]["brokers"]["there"]["stored"])
    return 0 < min(left, 64) <= int(health["brokers"]["here"]["unacked"]) <= left


def logs(folder: Path) -> set[str]:
    return {file.name for file in (folder / "spool").rglob("*.log")}


@pytest.mark.mounts_files
def test_what_an_outage_writes(broker: Broker, there: Broker, tmp_path: Path, zoo: Path) -> None:
    """At most three times what it keeps, the journal and all else that the file system adds included. A third of the inputs
    wait for the disk."""
    seconds, rate, first = float(scale("outage seconds")), 150, 50
    with ext4(tmp_path / "image", 64 << 20, tmp_path / "disk") as disk, Client(broker.port) as here:
        text = write(broker, there, zoo, f'[spool]\npath = "{disk}/spool"\nmax_bytes = "32MiB"\n') + OTHER
        with Daemon(tmp_path, text) as daemon:
            subscribed(here)
            here.publish_all("in/x", samples(range(first)))
            here.health(lambda h: h["spool"]["brokers"]["there"]["stored"] == first)
            before, sent, start = written(disk), first, time.monotonic()
            while (passed := time.monotonic() - start) < seconds:
                while sent < first + passed * rate:
                    here.publish_all("in/x", samples(range(sent, sent + 5)))
                    here.publish_all("in/y", samples(range(sent + 5, sent + 15)), qos=0)
                    sent += 15
                pause(start + passed + 0.05 - time.monotonic(), "the next messages are due then")
            here.health(lambda h: h["spool"]["brokers"]["there"]["stored"] == sent and balanced(h))
            total = written(disk) - before
            with back(daemon, there) as client:
                kept = sum(len(m.topic) + len(m.payload) for m in client.wait("out/p", sent)[first:])
    print(f"{total / kept:.2f} times {kept} bytes, {sent} results")
    assert total <= 3 * kept


def written(disk: Path) -> int:
    """Bytes that the device was given, when all that waited for it is there."""
    subprocess.run(["sync", "-f", str(disk)], check=True)
    device = os.stat(disk).st_dev
    stat = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    return int(stat.read_text().split()[6]) * 512
