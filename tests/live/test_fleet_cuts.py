"""The power goes at each step of what the fleet announced: after it what ran before runs, or what is new, and the next one works.

The daemon is killed at each moment at which something becomes durable, and started again. And a disk that is really full.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_fleet import CONFIG, Device, times
from tests.live.test_fleet_configuration import LOCAL
from tests.live.test_fleet_configuration import WORK as WORK
from tests.live.test_fleet_configuration import Device as Led
from tests.live.test_spool_disk import tmpfs
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, until
from tests.support.fleet import Server, Signer
from tests.support.scale import IS_SOAK, scale

MOMENTS = 44
"""There are some thirty; beyond the last one nothing is cut."""


class Cut:
    """A daemon that ends at the n-th moment."""

    def __init__(self, folder: Path, text: str) -> None:
        self.at = folder / "cut-at"
        self.moments = folder / "cuts"
        environ = {"EDGED_CUT_AT": str(self.at), "EDGED_CUTS": str(self.moments)}
        self.daemon = Daemon(folder, text, module="tests.support.cut_short", environ=environ)

    def start(self, number: int) -> None:
        self.at.write_text(str(number))
        self.moments.unlink(missing_ok=True)
        self.daemon.start()

    def rolls_out(self, announce: Callable[[], object], is_done: Callable[[], object]) -> str:
        """Announces while it runs; at which moment it ended, empty if it did not."""
        announce()
        until(lambda: self.daemon.process.poll() is not None or is_done(), 40, "an end, or the end of the roll-out")
        if self.daemon.process.poll() is None:
            self.daemon.kill()
            return ""
        self.daemon.wait()
        return self.moments.read_text().splitlines()[-1]


def moments() -> list[int]:
    return list(range(1, MOMENTS + 1)) if IS_SOAK else sorted(random.Random().sample(range(1, MOMENTS + 1), scale("fleet cuts")))


def test_a_model(tmp_path: Path, server: Server, signer: Signer, broker: Broker) -> None:
    (tmp_path / "normal.onnx").write_bytes(times(2))
    (tmp_path / "fleet.pub").write_bytes(signer.public)
    cut = Cut(tmp_path, CONFIG.format(port=broker.port, url=server.url, ca=server.ca, guard=""))
    before, seen = 2, []
    with Client(broker.port, "edged/#", "out/#", "fleet/#") as client:
        device = Device(client, server, signer)

        def is_running(version: int) -> bool:
            reports = [one.json for one in client.messages if one.topic == "fleet/presses/report/press7"]
            return bool(reports) and (m := reports[-1]["models"]["normal"])["running"] == str(version) and m["state"] == "running"

        def answer(value: float) -> float:
            start = len(client.messages)
            client.publish("in", json.dumps({"v": value}))
            seen = client.until(lambda: [one for one in client.messages[start:] if one.topic == "out/B"])
            return float(seen[0].json["outputs"]["y"][0])

        for n, number in enumerate(moments()):
            version = n + 10
            cut.start(number)
            client.health(lambda x: x["brokers"]["main"]["state"] == "connected", device="press7")
            seen.append(cut.rolls_out(lambda v=version: device.announce(str(v), times(v)), lambda v=version: is_running(v)))  # type: ignore[misc]
            cut.start(0)
            client.health(lambda x: x["brokers"]["main"]["state"] == "connected", device="press7")
            assert answer(3) in (3 * before, 3 * version), seen[-1]
            until(lambda v=version: is_running(v), what=f"{version} to run after {seen[-1]}")  # type: ignore[misc]
            assert answer(3) == 3 * version
            before = version
            cut.daemon.kill()
    print(seen)


def test_a_configuration(tmp_path: Path, server: Server, signer: Signer, broker: Broker) -> None:
    (tmp_path / "fleet.pub").write_bytes(signer.public)
    text = LOCAL.format(url=server.url, ca=server.ca, guard="500ms") + WORK.format(port=broker.port, name="local")
    cut = Cut(tmp_path, text)
    before, seen = "local", []
    with Client(broker.port, "edged/#", "out/#", "fleet/#") as client:
        device = Led(client, server, signer, cut.daemon)

        def report() -> Any:
            reports = [one.json for one in client.messages if one.topic == "fleet/presses/report/press7"]
            return reports[-1]["configuration"] if reports else {"state": "", "running": "", "wanted": ""}

        def is_over(version: str) -> bool:
            return report()["wanted"] == version and report()["state"] in ("running", "went_back")

        for n, number in enumerate(moments()):
            version = f"v{n}"
            cut.start(number)
            device.ready()
            seen.append(cut.rolls_out(lambda v=version: device.announce(v, device.work(v)), lambda v=version: is_over(v)))  # type: ignore[misc]
            client.forget()
            cut.start(0)
            device.ready()
            until(lambda v=version: is_over(v), 30, f"the end of {version} after {seen[-1]}")  # type: ignore[misc]
            runs = report()["running"]
            assert runs in (before, version), (seen[-1], report())
            device.answers_on(runs)
            before = runs
            cut.daemon.kill()
        cut.start(0)
        device.ready()
        device.announce("last", device.work("last"))
        until(lambda: report()["running"] == "last" and report()["state"] == "running", 30, "the next one")
        device.answers_on("last")
        cut.daemon.kill()
    print(seen)


@pytest.mark.mounts
def test_a_full_disk(tmp_path: Path, server: Server, signer: Signer, broker: Broker) -> None:
    """What ran before runs, the report says why, and once there is room again it goes on by itself."""
    (tmp_path / "normal.onnx").write_bytes(times(2))
    (tmp_path / "fleet.pub").write_bytes(signer.public)
    text = CONFIG.format(port=broker.port, url=server.url, ca=server.ca, guard="")
    text = text.replace("[fleet]\n", '[fleet]\nmax_bytes = "64MiB"\nbandwidth = "64MiB"\n').replace(
        "[health]\n", '[spool]\nmode = "off"\n[health]\n'
    )
    large = times(5) + b"\0" * 100  # what follows the graph makes it no model, but as large as it takes
    topics = ("edged/#", "out/#", "fleet/#")
    with tmpfs(tmp_path / "state", "12m") as state, Client(broker.port, *topics) as client, Daemon(tmp_path, text):
        client.health(lambda x: x["brokers"]["main"]["state"] == "connected", device="press7")
        device = Device(client, server, signer)
        assert device.answer(3) == 6
        device.announce("huge", large + b"\0" * (16 << 20))
        report = device.reported(lambda m: m["state"] == "waiting")
        assert "No space left" in report["reason"]
        assert report["running"] == "local"
        assert device.answer(3) == 6
        filler = state / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4096"], capture_output=True)
        device.announce("5", times(5))
        report = device.reported(lambda m: m["state"] == "waiting" and m["wanted"] == "5")
        assert "No space left" in report["reason"]
        assert device.answer(3) == 6
        filler.unlink()
        device.reported(lambda m: m["state"] == "running" and m["running"] == "5")
        assert device.answer(3) == 15
