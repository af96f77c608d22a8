"""What an outage writes to the disk, the file system's own included, for each byte of the results that are kept.

    python -m tests.bench.wear            # or: make wear

The spool works on ext4 in a file behind a loop device, whose counters say what was written. Rates of results by turns, all
at once, each on a device of its own; none, a third or all of their inputs wait for them (MQTT at QoS 1 does, serial ports
and QoS 0 do not). Needs root.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import structlog

from edged.clock.clock import Clock
from edged.notation.units import MIB
from edged.records import NONE, Message, Receipt
from edged.spool.disk import FileDisk
from edged.spool.settings import SpoolSettings
from edged.spool.spool import Spool, boot_id
from edged.telemetry import PublishCounts

SECONDS = 40.0
WARM_S = 4.0
RATES = (10, 50, 150, 1000)
WAITING = {"none": 0, "a third": 3, "all": 1}  # each so-many-th one
IMAGE_BYTES = 64 * MIB
TOPIC = b"plant/line4/press/result"
BODY = b'{"device":"line4","pipeline":"press","run":"0a1b2c3d","seq":%d,"time":"2026-01-01T00:00:00.000000Z","outputs":{"y":'
BODY_BYTES = 300
SECTOR = 512


@contextmanager
def ext4(folder: Path, name: str) -> Iterator[Path]:
    """A file system of its own."""
    image, where = folder / f"{name}.img", folder / name
    with image.open("wb") as f:
        f.truncate(IMAGE_BYTES)
    lazy = "lazy_itable_init=0,lazy_journal_init=0"  # nothing is left to be written later
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", "-E", lazy, str(image)], check=True)
    where.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def written(folder: Path) -> int:
    """Bytes that the device below was given so far."""
    device = os.stat(folder).st_dev
    stat = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    return int(stat.read_text().split()[6]) * SECTOR


def result(number: int, account: PublishCounts, every: int) -> Message:
    body = (BODY % number).ljust(BODY_BYTES, b"5")
    receipt = Receipt(number) if every and number % every == 0 else NONE
    return Message(TOPIC, body, 1, is_json=True, arrival=Clock.now(), account=account, receipt=receipt)


async def outage(folder: Path, rate: int, every: int, seconds: float) -> tuple[float, float]:
    """Bytes written for each byte of topic and body, and MiB an hour."""
    account = PublishCounts("wear")
    settings = SpoolSettings(folder / "spool", IMAGE_BYTES // 2)
    spool = Spool(settings, FileDisk(settings.path), Clock(), structlog.get_logger(), boot_id())
    spool.open()
    loop = asyncio.get_running_loop()
    task = loop.create_task(spool.run())
    backlog = spool.backlog("main")
    before, start, payload = 0, loop.time(), 0
    while (passed := loop.time() - start) < WARM_S + seconds:
        if not before and passed > WARM_S:  # the first file and its folders are there
            before, payload = written(folder), 0
        while account.made < passed * rate:
            message = result(account.made, account, every)
            payload += len(message.topic) + len(message.body)
            account.made += 1
            backlog.store(message)
        await asyncio.sleep(1 / rate if rate < 200 else 0.005)
    await spool.close(task, 5.0)
    await task
    assert account.spooled == account.made
    total = written(folder) - before
    return total / payload, total / MIB / seconds * 3600


async def measure(seconds: float) -> None:
    cases = [(rate, waiting) for rate in RATES for waiting in WAITING]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        disks = [stack.enter_context(ext4(Path(name), f"{rate}-{WAITING[waiting]}")) for rate, waiting in cases]
        outages = (outage(disk, rate, WAITING[waiting], seconds) for disk, (rate, waiting) in zip(disks, cases, strict=True))
        found = await asyncio.gather(*outages)
    print("results/s  inputs that wait  written/kept  MiB an hour")
    for (rate, waiting), (ratio, mib) in zip(cases, found, strict=True):
        print(f"{rate:9}  {waiting:>16}  {ratio:12.2f}  {mib:11.0f}")


def main() -> None:
    asyncio.run(measure(float(sys.argv[1]) if sys.argv[1:] else SECONDS))


if __name__ == "__main__":
    main()
