"""An arm64 Debian with its own Python, under qemu: the bundle is installed there without a network, and does its work.

The processor is the oldest among the targets, a Cortex-A53 (Pi Zero 2): a wheel that needs a younger one ends here.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cross import bundle, target
from edged.sources.simulation import Machine
from tests.devices.debian import debian, inside
from tests.support.broker import Broker
from tests.support.daemon import ROOT, Client, Daemon, Systemd, balanced, until

WINDOWS, SIZE, HOP = 24, 512, 256
LIMIT_S = 120.0
ENVIRON = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "QEMU_CPU": "cortex-a53"}
RTOL, ATOL = 1e-4, 1e-5

CONFIG = """
[device]
id = "t"
state_dir = "state"
[health]
interval = "500ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.recorded]
type = "replay"
path = "run.csv"
speed = 0
decode = {{ format = "csv", unit = "m/s2", fields = ["ax", "ay", "az"] }}
[source.live]
type = "mqtt"
topic = "in/live"
decode = {{ format = "json", unit = "m/s2", fields = ["ax", "ay", "az"] }}
[model.vibration]
path = "models/vibration"
[pipeline.motor]
source = "recorded"
window = {{ size = 512, hop = 256 }}
preprocess = "steps.py:noted"
model = "vibration"
output = {{ type = "classify" }}
[pipeline.asked]
source = "live"
window = {{ size = 512, hop = 512 }}
model = "vibration"
output = {{ type = "classify" }}
"""

STEPS = '''
"""Notes what memory is its own: under an emulator, the rest of the process is the emulator's."""
from pathlib import Path

NOTE = Path(__file__).with_name("maps")


def noted(window):
    NOTE.write_text(Path("/proc/self/maps").read_text())
    return window
'''


def samples(windows: int, condition: str) -> list[list[float]]:
    taken: list[list[float]] = (
        Machine(np.random.default_rng(7), 1000.0, speed_hz=24.0).take(SIZE + (windows - 1) * HOP, condition).tolist()
    )
    return [[round(x, 3) for x in row] for row in taken]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration without its broker's port, and what belongs to it, as one would write them on a laptop."""
    made = tmp_path / "laptop"
    shutil.copytree(ROOT / "models" / "vibration", made / "models" / "vibration")
    (made / "run.csv").write_text("".join(f"{x},{y},{z}\n" for x, y, z in samples(WINDOWS, "imbalance")))
    (made / "steps.py").write_text(STEPS)
    return made


def answers(client: Client, pipeline: str, count: int) -> list[Any]:
    """By their numbers: what a slow machine computed before its broker was connected was spooled, and follows."""
    return sorted((seen.json for seen in client.wait(f"edged/t/{pipeline}", count, LIMIT_S)), key=lambda result: result["seq"])


def ask(client: Client) -> list[Any]:
    """A window over MQTT, and its result."""
    rows = samples(1, "bearing")
    client.publish_all("in/live", [f'{{"ax": {x}, "ay": {y}, "az": {z}}}' for x, y, z in rows])
    return answers(client, "asked", 1)


@contextmanager
def daemon_in(device: Path, release: str) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """The release's own daemon with the release's own configuration, and the seconds to READY."""
    systemd = Systemd()
    log = device / "tmp" / "edged.system.log"
    command = inside(device, f"{release}/venv/bin/edged", "run", "-c", f"{release}/config/edged.toml", network=True)
    begun = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env={**ENVIRON, "NOTIFY_SOCKET": systemd.name}, stdout=out, stderr=out, start_new_session=True
        )
    try:
        until(lambda: "READY=1" in systemd.notices or process.poll() is not None, LIMIT_S, "READY")
        assert process.poll() is None
        yield process, time.monotonic() - begun
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
        assert "Traceback" not in log.read_text()
    except BaseException:
        sys.stderr.write(f"\n--- {log}\n{log.read_text()[-8000:]}\n")
        raise
    finally:
        process.kill()
        process.wait()
        systemd.close()


def resident_mib(process: subprocess.Popen[bytes], maps: str) -> float:
    """Of the emulated program alone: of the kernel's account of the process what lies where the program has its memory."""
    own = [(int(a, 16), int(b, 16)) for a, b in re.findall(r"^(\w+)-(\w+) ", maps, re.MULTILINE)]
    kib, is_own = 0, False
    for line in Path(f"/proc/{process.pid}/smaps").read_text().splitlines():
        if span := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            is_own = any(a < int(span[2], 16) and int(span[1], 16) < b for a, b in own)
        elif is_own and line.startswith("Rss:"):
            kib += int(line.split()[1])
    return kib / 1024


def size_mib(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_blocks for file in files) / 2048


def installed(device: Path, packed: Path) -> str:
    """What a user types on the device, there without a network; the release's folder."""
    shutil.rmtree(device / "opt" / "edged", ignore_errors=True)
    shutil.rmtree(device / "tmp" / packed.stem, ignore_errors=True)
    subprocess.run(["tar", "-xf", str(packed), "-C", str(device / "tmp")], check=True)
    command = inside(device, f"/tmp/{packed.stem}/install")
    releases = []
    for said in ("complete", "there already"):
        done = subprocess.run(command, env=ENVIRON, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert said in done.stderr
        releases.append(done.stdout.strip())
    assert releases[0] == releases[1]
    return releases[0]


def test_installed_without_network_it_does_the_same_as_on_this_machine(folder: Path, tmp_path: Path) -> None:
    device = debian("arm64")
    with Broker(tmp_path) as broker:
        text = CONFIG.format(port=broker.port)
        (folder / "edged.toml").write_text(text)
        one = target.read("debian-arm64")
        packed = bundle.build(one, one.system("bookworm"), tmp_path / "bundles", folder / "edged.toml")
        release = installed(device, packed)
        there = device / release.lstrip("/")

        with Client(broker.port) as client, Daemon(folder, text):
            ours = [*answers(client, "motor", WINDOWS), *ask(client)]
        with Client(broker.port) as client, daemon_in(device, release) as (process, ready_s):
            theirs = [*answers(client, "motor", WINDOWS), *ask(client)]
            assert balanced(client.health(lambda h: h["pipelines"]["asked"]["published"] == 1, limit_s=LIMIT_S))
            rss = resident_mib(process, (there / "config" / "maps").read_text())

    assert {r["label"] for r in ours[2:WINDOWS]} == {"imbalance"}
    assert [(r["label"], r["seq"], r["model"]) for r in theirs] == [(r["label"], r["seq"], r["model"]) for r in ours]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose([*b["scores"].values()], [*a["scores"].values()], RTOL, ATOL)
    facts = dict(line.split("=") for line in (there / "about").read_text().splitlines())
    size, reckoned = size_mib(there), int(facts["needs_mib"])
    assert size < reckoned < 1.3 * size
    print(
        f"\ndebian-arm64: bundle {size_mib(packed):.0f} MiB, installed {size:.0f} MiB (reckoned with: {reckoned}), "
        f"resident {rss:.0f} MiB, READY after {ready_s:.1f} s under qemu"
    )
