"""A control group that the kernel really enforces: the daemon lives within it, or says beforehand that it cannot."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.broker import Broker
from tests.support.daemon import EX_CONFIG, Client, Daemon, Sensor, balanced, edged, said, until

MIB = 1 << 20
pytestmark = pytest.mark.limits_memory

TEXT = """
[device]
id = "t"
[health]
interval = "100ms"
[memory]
budget = "{budget}MiB"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.small]
type = "mqtt"
topic = "in/small/{{pump}}"
decode = {{ format = "json", fields = ["v"] }}
[source.large]
type = "mqtt"
topic = "in/large"
max_bytes = "512KiB"
decode = {{ format = "raw", fields = [{{ name = "x", shape = [131072] }}] }}
[source.imu]
type = "serial"
port = "{tty}"
decode = {{ format = "csv", fields = ["v"] }}
[model.same]
path = "{zoo}/score.onnx"
[pipeline.windows]
source = "small"
window = {{ size = 16, hop = 1 }}
publish = {{ topic = "out/windows/{{pump}}" }}
[pipeline.scored]
source = "small"
model = "same"
publish = {{ topic = "out/scored/{{pump}}" }}
[pipeline.tensors]
source = "large"
publish = {{ topic = "out/large", format = "raw", qos = 0 }}
[pipeline.lines]
source = "imu"
publish = {{ topic = "out/imu" }}
"""


class MemoryGroup:
    """A memory control group of its own, with a limit in bytes. Raises OSError where none can be made."""

    def __init__(self, limit: int) -> None:
        name = f"edged-test-{uuid.uuid4().hex[:8]}"
        first = Path("/sys/fs/cgroup/memory")
        self.is_first = first.is_dir()
        self.folder = (first if self.is_first else Path("/sys/fs/cgroup")) / name
        self.limit = limit

    def __enter__(self) -> MemoryGroup:
        self.folder.mkdir()
        try:
            (self.folder / ("memory.limit_in_bytes" if self.is_first else "memory.max")).write_text(str(self.limit))
        except OSError:
            self.folder.rmdir()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        until(lambda: not (self.folder / "cgroup.procs").read_text())
        self.folder.rmdir()

    @property
    def command(self) -> tuple[str, ...]:
        """Runs another command in the group."""
        return ("sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh")

    @property
    def kills(self) -> int:
        """Processes that the kernel ended for want of memory."""
        text = (self.folder / ("memory.oom_control" if self.is_first else "memory.events")).read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])

    @property
    def peak(self) -> int:
        return int((self.folder / ("memory.max_usage_in_bytes" if self.is_first else "memory.peak")).read_text())


def config(folder: Path, zoo: Path, port: int, budget: int) -> str:
    return TEXT.format(budget=budget, port=port, tty=folder / "imu", zoo=zoo)


def test_within_the_group_nothing_is_killed(tmp_path: Path, zoo: Path) -> None:
    """The load of all kinds, the largest inputs that are legal, and a broker that goes away in between."""
    budget = 160
    with (
        Broker(tmp_path) as broker,
        Client(broker.port, "edged/#") as client,
        Sensor(tmp_path / "imu") as sensor,
        MemoryGroup(budget * MIB) as group,
        Daemon(tmp_path, config(tmp_path, zoo, broker.port, budget), within=group.command) as daemon,
    ):
        assert client.health(lambda h: h["brokers"]["main"]["state"] == "connected")["memory"]["cgroup_mib"] == budget
        largest = os.urandom(512 * 1024 - 64)
        for n in range(20):
            client.publish_all(f"in/small/{n}", [json.dumps({"v": i}) for i in range(100)])
            client.publish_all("in/large", [b"\0" * (512 * 1024), largest], qos=0)
            sensor.write("1.5\n" * 500 + "7" * 5000 + "\n")
            if n == 10:
                broker.stop()
                daemon.wait_log("state=lost")
                sensor.write("2.5\n" * 5000)
                broker.start()
                client.wait_subscribed()
        health = client.health(lambda h: h["sources"]["imu"]["rows"] > 14_000 and balanced(h))
        assert health["memory"]["level"] == "ok"
        print(f"limit {budget} MiB, highest {health['memory']['highest_mib']} MiB, group {group.peak / MIB:.1f} MiB")
        assert group.kills == 0
        assert health["memory"]["highest_mib"] <= 0.9 * budget


def test_a_group_that_is_too_small_is_said_before_anything_starts(tmp_path: Path, zoo: Path) -> None:
    path = tmp_path / "edged.toml"
    path.write_text(config(tmp_path, zoo, 1883, 160))
    code, out, errors = said(edged("check", "--json", "-c", str(path)))
    assert code == 0, errors
    planned = json.loads(out)["memory"]["planned_bytes"]
    with MemoryGroup(int(0.8 * planned)) as group:
        daemon = Daemon(tmp_path, path.read_text(), within=group.command)
        daemon.spawn()
        assert daemon.wait() == EX_CONFIG
        assert "the control group of this process allows" in daemon.log
        assert group.kills == 0
