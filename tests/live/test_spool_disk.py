"""A disk that is full, and what an outage costs it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Broker
from tests.live.daemon import Client, Daemon, balanced
from tests.live.test_spool import number, samples, subscribed, there, write

assert there


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]).returncode:
        pytest.skip("needs root and mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_nothing(broker: Broker, there: Broker, tmp_path: Path, zoo: Path, small: Path) -> None:
    """The disk fills while the output's broker is away: inputs wait at their own broker. It gets room again, and they go on."""
    filler = small / "filler"
    filler.write_bytes(bytes(900_000))
    live = '[pipeline.q]\nsource = "in"\nmodel = "m"\npublish = { broker = "here", topic = "out/q" }\n'
    text = write(broker, there, zoo, f'[spool]\npath = "{small}/spool"\nmax_bytes = "64MiB"\n') + live
    with Client(broker.port) as here, Daemon(tmp_path, text) as daemon:
        subscribed(here)
        for start in range(0, 1500, 500):
            here.publish_all("in/x", samples(range(start, start + 500)))
        health = here.health(lambda h: h["spool"]["state"] == "failing" and balanced(h))
        assert "No space left on device" in health["spool"]["reason"]
        assert health["state"] == "degraded"
        stored = health["spool"]["brokers"]["there"]["stored"]
        assert stored > 100
        # The results for the broker that is there went out, as far as inputs came in.
        assert len(here.of("out/q")) > stored
        # What has no room is not settled: its inputs wait at their own broker.
        here.health(lambda h: h["brokers"]["here"]["unacked"] >= 64)
        filler.unlink()
        here.health(lambda h: h["brokers"]["here"]["unacked"] == 0 or h["spool"]["state"] == "failing")
        with there, Client(there.port, "out/p") as client:
            here.publish_all("in/x", samples(range(1500, 1501)))
            client.until(lambda: any(number(m.json) == 1500 for m in client.of("out/p")))
            health = here.health(lambda h: h["spool"]["state"] == "idle" and balanced(h))
        assert sorted(p.name for p in small.iterdir()) == ["spool"]
        assert daemon.process.poll() is None
    assert sum(sum(e["dropped"].values()) for e in health["pipelines"]["p"]["publish"]) == 0
    assert {number(m.json) for m in here.of("out/q")} == set(range(1501))
