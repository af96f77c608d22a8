"""The plug is pulled: on what the disk holds at that moment every result is found that was settled by then.

The disk is a file with ext4 in it. At a random moment the daemon is frozen and ext4 shut down where it stands: from then on the
kernel writes nothing more, so that the file does not change while it is copied. A new daemon starts on the copy, without what
was not written yet. Needs root and loop devices.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edged.spool.spool import COMMIT_S
from tests.live.test_spool import samples, subscribed
from tests.support.broker import Broker, free_port
from tests.support.daemon import Client, Daemon, balanced, until
from tests.support.pause import pause
from tests.support.scale import scale

CUTS = scale("power cuts")
SHUTDOWN, NOTHING_MORE = 0x8004587D, (2).to_bytes(4, "little")
"""`EXT4_IOC_SHUTDOWN`, and its kind that does not even write what the journal has in memory."""
LATE_S = 0.5
"""For the way of an input, and for the disk."""
pytestmark = pytest.mark.mounts_files

CONFIG = """
[device]
id = "t"
state_dir = "{state}"
[health]
interval = "100ms"
broker = "here"
[broker.here]
url = "mqtt://127.0.0.1:{here}"
session_expiry = "0s"
[broker.there]
url = "mqtt://127.0.0.1:{there}"
[source.in]
type = "mqtt"
broker = "here"
topic = "in/x"
decode = {{ format = "json", fields = ["a", "b", "c"] }}
[model.m]
path = "{zoo}/linear.onnx"
[pipeline.p]
source = "in"
model = "m"
publish = {{ broker = "there", topic = "out/p" }}
"""


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def cut(daemon: Daemon, state: Path, image: Path, copy: Path) -> None:
    """The power goes: `copy` has what is on the disk at this moment."""
    daemon.signal(signal.SIGSTOP)
    disk = os.open(state, os.O_RDONLY)
    fcntl.ioctl(disk, SHUTDOWN, NOTHING_MORE)
    os.close(disk)
    shutil.copy(image, copy)


@pytest.fixture(scope="module")
def empty_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 64 MiB with ext4 in it."""
    image = tmp_path_factory.mktemp("disk") / "image"
    with image.open("wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", str(image)], check=True)
    return image


@pytest.mark.parametrize("number", range(CUTS))
def test_a_power_cut_loses_nothing_that_was_settled(
    number: int, broker: Broker, tmp_path: Path, zoo: Path, empty_image: Path
) -> None:
    rng = random.Random(number)
    there = Broker(tmp_path, port=free_port())
    image, copy = tmp_path / "image", tmp_path / "copy"
    shutil.copy(empty_image, image)

    def config(state: Path) -> str:
        return CONFIG.format(state=state, here=broker.port, there=there.port, zoo=zoo)

    with Client(broker.port) as here:
        with mounted(image, tmp_path / "before") as state:
            daemon = Daemon(tmp_path, config(state), name="before.toml")
            daemon.start()
            subscribed(here)
            sent = 0
            deadline = time.monotonic() + 1.2 + rng.random() * 2
            while time.monotonic() < deadline:
                here.publish_all("in/x", samples(range(sent, sent + 20)))
                sent += 20
            cut(daemon, state, image, copy)
            settled = acknowledged(broker)
            daemon.kill()
        with mounted(copy, tmp_path / "after") as state:
            again = Daemon(tmp_path, config(state), name="after.toml")
            if number % 4 == 0:  # the power goes again while what is there is being found
                again.spawn()
                until(lambda: again.process.poll() is not None or "ready" in again.log)
                again.kill()
            with again:
                health = here.health(lambda h: "there" in h["spool"]["brokers"] and balanced(h))
                found = health["spool"]["brokers"]["there"]["waiting"]
                assert "broker=there state=connected" not in daemon.log + again.log, "somebody else has a broker on this port"
                with there, Client(there.port, "out/#") as client:
                    del client
                    here.health(lambda h: h["spool"]["state"] == "idle")
            assert found >= settled, f"{settled} inputs were acknowledged, {found} results are there"
    assert settled > 0


def test_s10_a_power_cut_costs_what_nobody_waits_for_one_commit_at_most(
    broker: Broker, tmp_path: Path, zoo: Path, empty_image: Path
) -> None:
    """Inputs at QoS 0, as those of a serial port, come once: the last ones before the cut are gone, not those before them."""
    image, copy = tmp_path / "image", tmp_path / "copy"
    shutil.copy(empty_image, image)

    def config(state: Path) -> str:
        text = CONFIG.format(state=state, here=broker.port, there=free_port(), zoo=zoo)
        return text.replace('topic = "in/x"', 'topic = "in/x"\nqos = 0')

    with Client(broker.port) as here:
        with mounted(image, tmp_path / "before") as state, Daemon(tmp_path, config(state), name="before.toml") as daemon:
            subscribed(here)
            start, sent_at = time.monotonic(), list[float]()
            while (now := time.monotonic()) < start + 2 * COMMIT_S + LATE_S:
                here.publish_all("in/x", samples(range(len(sent_at), len(sent_at) + 5)))
                sent_at += [now] * 5
                pause(now + 0.05 - time.monotonic(), "the next messages are due then")
            daemon.signal(signal.SIGSTOP)
            cut_at = time.monotonic()
            cut(daemon, state, image, copy)
            daemon.kill()
        with mounted(copy, tmp_path / "after") as state, Daemon(tmp_path, config(state), name="after.toml"):
            health = here.health(lambda h: "there" in h["spool"]["brokers"] and balanced(h))
    found = health["spool"]["brokers"]["there"]["waiting"]
    assert found >= sum(at < cut_at - COMMIT_S - LATE_S for at in sent_at) > 0


def acknowledged(broker: Broker) -> int:
    """How many inputs the daemon has acknowledged, as its broker saw it."""
    return sum("Received PUBACK from edged-t-here" in line for line in broker.log.splitlines())
