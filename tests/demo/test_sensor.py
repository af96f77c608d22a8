from __future__ import annotations

import os
import queue
import select
import tty
from pathlib import Path

from edged.demo.sensor import Sensor


def read_lines(fd: int, count: int) -> list[bytes]:
    data = b""
    while data.count(b"\n") < count:
        assert select.select([fd], [], [], 10)[0], "the sensor is silent"
        data += os.read(fd, 65536)
    return data.split(b"\n")[:count]


def test_it_speaks_csv_from_when_the_port_is_opened(tmp_path: Path) -> None:
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    path = tmp_path / "accel"
    with Sensor(path, said.put):
        assert said.empty()
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        try:
            tty.setraw(fd)
            lines = read_lines(fd, 100)
        finally:
            os.close(fd)
        assert said.get(timeout=10) == "healthy"
    assert all(len([float(x) for x in line.split(b",")]) == 3 for line in lines)
    assert not path.is_symlink()


def test_it_ends_although_nobody_listens(tmp_path: Path) -> None:
    with Sensor(tmp_path / "accel", lambda _: None) as sensor:
        assert sensor.path.is_symlink()
    assert not sensor.path.is_symlink()
