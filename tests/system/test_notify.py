import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edged.system.notify import Notifier


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "notify"))
        s.settimeout(5)
        yield s


def test_words_arrive_one_datagram_each(systemd: socket.socket) -> None:
    with closing(Notifier({"NOTIFY_SOCKET": systemd.getsockname()})) as notifier:
        notifier.ready("3 results")
        notifier.status("4 results")
        notifier.watchdog()
        notifier.stopping("bye")
    found = [systemd.recv(1000) for _ in range(4)]
    assert found == [b"READY=1\nSTATUS=3 results", b"STATUS=4 results", b"WATCHDOG=1", b"STOPPING=1\nSTATUS=bye"]


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        name = f"edged-test-{os.getpid()}"
        s.bind("\0" + name)
        s.settimeout(5)
        with closing(Notifier({"NOTIFY_SOCKET": "@" + name})) as notifier:
            notifier.watchdog()
        assert s.recv(100) == b"WATCHDOG=1"


def test_nobody_listens() -> None:
    Notifier({}).ready("x")
    with closing(Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"})) as notifier:
        notifier.ready("x")


def test_a_full_socket_does_not_block(systemd: socket.socket) -> None:
    with closing(Notifier({"NOTIFY_SOCKET": systemd.getsockname()})) as notifier:
        for _ in range(10_000):
            notifier.watchdog()


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": ""}, None),
    ],
)
def test_the_watchdog_is_ours_or_there_is_none(environ: dict[str, str], watchdog_s: float | None) -> None:
    assert Notifier(environ).watchdog_s == watchdog_s
