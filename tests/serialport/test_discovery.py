from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from edged.config.schema import SerialSource, UsbPort
from edged.errors import Retryable
from edged.serialport import discovery
from edged.serialport.discovery import appeared, find, missing
from edged.serialport.port import SerialPort
from edged.system.inotify import Inotify
from tests.support.ptys import LOOPS, Pty, Run, open_fds, turns, until

DECODE: Any = None  # the transport never looks at it


@pytest.fixture(params=list(LOOPS.values()), ids=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_a_usb_device_is_found_by_its_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        vid, pid, serial_number, device, description = 0x0403, 0x6001, "AB0JQ7XK", "/dev/ttyUSB3", "FT232R"

    monkeypatch.setattr("edged.serialport.discovery.list_ports.comports", lambda: [Found])
    assert find(UsbPort(vid=0x0403, pid=0x6001, serial="AB0JQ7XK")) == "/dev/ttyUSB3"
    assert find(UsbPort(vid=0x0403, pid=0x6001)) == "/dev/ttyUSB3"
    other = UsbPort(vid=0x0403, pid=0x6001, serial="OTHER")
    assert find(other) is None
    reason = missing(other).reason
    assert reason.startswith("USB device 0403:6001 serial number OTHER is not there")
    assert "/dev/ttyUSB3 (FT232R)" in reason
    with pytest.raises(Retryable) as raised:
        async with SerialPort(SerialSource(port=other, decode=DECODE)):
            pass
    assert raised.value.state == "missing"


def test_a_device_that_comes_back_is_noticed_at_once(run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "SEARCH_S", 60.0)  # so that it is inotify that notices
    path = tmp_path / "serial" / "by-id" / "usb-sensor"  # udev takes the folders away with the last device

    async def main() -> None:
        pty = Pty()
        waiting = asyncio.create_task(appeared(str(path)))
        await turns(50)
        assert not waiting.done()
        path.parent.mkdir(parents=True)
        await turns(50)
        path.symlink_to(pty.path)
        await asyncio.wait_for(waiting, 5)
        await appeared(str(path))
        pty.hang_up()

    before = open_fds()
    run(main())
    assert open_fds() == before


def instances() -> int:
    """Of inotify, that this process has."""
    return sum(link.is_symlink() and "inotify" in os.readlink(link) for link in Path("/proc/self/fd").iterdir())


def test_many_that_are_waited_for_leave_instances_to_others(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        waiting = [asyncio.create_task(appeared(str(tmp_path / f"sensor-{i}"))) for i in range(discovery.MAX_TOLD + 8)]
        await turns(50)
        assert instances() == discovery.MAX_TOLD
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    before = open_fds()
    run(main())
    assert open_fds() == before
    assert discovery._Folders.told == 0


def test_without_inotify_it_is_noticed_by_looking(run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "SEARCH_S", 0.01)

    class NoMore(Inotify):
        async def __aenter__(self) -> Inotify:
            raise OSError(errno.EMFILE, "Too many open files")

    looks = 0

    def counted(port: str) -> str | None:
        nonlocal looks
        looks += 1
        return find(port)

    monkeypatch.setattr(discovery, "Inotify", NoMore)
    monkeypatch.setattr(discovery, "find", counted)
    path = tmp_path / "port"

    async def main() -> None:
        looks_before = looks
        waiting = asyncio.create_task(appeared(str(path)))
        await until(lambda: looks >= looks_before + 2)
        assert not waiting.done()
        path.touch()
        await asyncio.wait_for(waiting, 5)

    run(main())
