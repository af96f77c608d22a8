"""What the machine does to the daemon: it is stopped for a while, has no descriptors left, or has to share its cores."""

from __future__ import annotations

import itertools
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Sensor, balanced, until
from tests.support.oracle import SOURCE, Witness
from tests.support.pause import pause
from tests.support.scale import scale

HEAD = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
keepalive = "1s"
"""
SERIAL = """
[source.imu]
type = "serial"
port = "{tty}"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.q]
source = "imu"
publish = {{ topic = "out/q" }}
"""


def config(broker: Broker, zoo: Path) -> str:
    return HEAD.format(port=broker.port) + SOURCE.replace("ZOO", str(zoo))


def test_it_was_asleep(tmp_path: Path, zoo: Path) -> None:
    """For longer than its broker waits for a word; inputs came meanwhile."""
    with (
        Broker(tmp_path, "max_queued_messages 0") as broker,
        Client(broker.port, "edged/#") as client,
        Daemon(tmp_path, config(broker, zoo), watchdog_s=60.0) as daemon,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        with Witness(broker.port, 100.0) as witness:
            client.health(lambda h: h["sources"]["in"]["rows"] > 0)
            with daemon.paused():
                until(lambda: "edged-t has exceeded timeout" in broker.log, what="the broker to give it up")
            woken = time.monotonic()
            client.health(lambda h: h["brokers"]["main"]["connects"] == 2 and h["brokers"]["main"]["unacked"] < 64)
            assert time.monotonic() - woken < 10
            report = witness.report()
        assert balanced(client.health(lambda h: h["brokers"]["main"]["unacked"] == 0))
    assert (report.lost, report.wrong) == (0, 0)
    assert report.duplicates <= 64  # the receive maximum


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """Broker and cable go while every descriptor is taken: both are tried again, nothing spins, and both come back."""
    with Broker(tmp_path) as broker, Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor:
        text = HEAD.format(port=broker.port) + SERIAL.format(tty=tmp_path / "imu")
        with Daemon(tmp_path, text) as daemon:
            sensor.write("1\n")
            client.wait("out/q", 1)
            before, usual = daemon.fds, resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (3, usual[1]))
            sensor.unplug()
            broker.stop()
            daemon.wait_log("state=lost")
            until(lambda: "imu state=unplugged" in daemon.log or "imu state=missing" in daemon.log, what="the port to be missed")
            broker.start()
            sensor.plug()
            client.wait_subscribed()
            daemon.wait_log("Too many open files")
            used = daemon.cpu_s
            pause(1.0, "processor time is measured over it")
            assert daemon.cpu_s - used < 0.5  # of a second
            resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, usual)
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            client.health(lambda h: h["sources"]["imu"]["state"] in ("running", "silent"))
            sensor.write("2\n")
            client.until(lambda: any(m.json["outputs"]["v"] == 2 for m in client.of("out/q")) or None)
            until(lambda: daemon.fds <= before, what=f"{before} descriptors again, not {daemon.fds}")


@contextmanager
def hogs(count: int) -> Iterator[None]:
    """Processes that want all of every core."""
    found = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in found:
            one.kill()
            one.wait()


@contextmanager
def throttled(daemon: Daemon) -> Iterator[None]:
    """It runs for 50 ms of each 500 ms, as under a quota of the processor."""
    over = threading.Event()

    def halt() -> None:
        while not over.is_set():
            with daemon.paused():
                pause(0.45, "the kernel throttles the daemon")
            pause(0.05, "and lets it run")

    halting = threading.Thread(target=halt)
    halting.start()
    try:
        yield
    finally:
        over.set()
        halting.join()


def test_a_tenth_of_a_core(tmp_path: Path, zoo: Path) -> None:
    """Later, but nothing lost, no connection, and the watchdog is fed."""
    seconds = scale("throttled seconds")
    with (
        Broker(tmp_path, "max_queued_messages 0") as broker,
        Client(broker.port) as client,
        Sensor(tmp_path / "imu") as sensor,
        Daemon(tmp_path, config(broker, zoo) + SERIAL.format(tty=tmp_path / "imu"), watchdog_s=5.0) as daemon,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected" and h["sources"]["imu"]["state"] != "connecting")
        with throttled(daemon), Witness(broker.port, 25.0) as witness:
            client.health(lambda h: h["sources"]["in"]["rows"] > 0)
            fed, start, sent = [daemon.notices.count("WATCHDOG=1")], time.monotonic(), 0
            fed_at = [start]

            def feed() -> bool:
                nonlocal sent
                passed = time.monotonic() - start
                while sent < passed * 25:
                    sensor.write(f"{sent}\n")
                    sent += 1
                if (count := daemon.notices.count("WATCHDOG=1")) > fed[-1]:
                    fed.append(count)
                    fed_at.append(time.monotonic())
                return passed > seconds and len(fed) > 1

            until(feed, seconds + 20.0)
            client.wait("out/q", sent)
            report = witness.report()
        health = client.health(lambda h: h["brokers"]["main"]["unacked"] == 0)
        assert balanced(health)
        assert (health["pipelines"]["p"]["dropped"], health["pipelines"]["q"]["dropped"]) == ({}, {})
        assert health["brokers"]["main"]["connects"] == 1
        assert [int(m.json["outputs"]["v"]) for m in client.of("out/q")] == list(range(sent))
    assert (report.lost, report.wrong, report.duplicates) == (0, 0, 0)
    assert max(b - a for a, b in itertools.pairwise(fed_at)) < 5.0  # the watchdog's patience


def test_others_take_the_cores(tmp_path: Path, zoo: Path) -> None:
    """Later, but nothing lost, and the watchdog is fed."""
    with (
        Broker(tmp_path, "max_queued_messages 0") as broker,
        Client(broker.port, "edged/#") as client,
        Daemon(tmp_path, config(broker, zoo), watchdog_s=5.0) as daemon,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        with hogs(4), Witness(broker.port, 100.0) as witness:
            client.health(lambda h: h["sources"]["in"]["rows"] > 200)
            fed = daemon.notices.count("WATCHDOG=1")
            until(lambda: daemon.notices.count("WATCHDOG=1") > fed, what="the watchdog to be fed")
            report = witness.report()
        health = client.health(lambda h: h["brokers"]["main"]["unacked"] == 0)
        assert balanced(health)
        assert health["pipelines"]["p"]["dropped"] == {}
    assert report.sent > 200
    assert (report.lost, report.wrong, report.duplicates) == (0, 0, 0)
