"""A port that several sources share, on a real pseudo-terminal."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edged.clock.clock import Clock
from edged.plan.records import PortPlan
from edged.records import Block
from edged.sources import reading
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.kind import Parts
from edged.sources.kinds import kind_of
from edged.sources.shared import Member, SharedPort
from edged.stamp import KeyTable, Stamper
from edged.system.hang_recorder import Stages
from tests.support.planning import MAIN, planned
from tests.support.ptys import Pty, until

CASES = Path(__file__).parents[1] / "cases" / "serial"
NMEA = """
[port.gps]
port = "{tty}"
checksum = "nmea"
[source.position]
type = "serial"
port = "gps"
where = {{ kind = ["GPGGA", "GNGGA"] }}
decode = {{ format = "csv", fields = [
  "kind", "_", "lat", "_", "lon", "_", "_", "satellites", "_", "_", "_", "_", "_", "_", "_",
] }}
[source.speed]
type = "serial"
port = "gps"
where = {{ kind = "GPVTG" }}
decode = {{ format = "csv", fields = ["kind", "_", "_", "_", "_", "_", "_", "kmh", "_", "_"] }}
[pipeline.a]
source = "position"
[pipeline.b]
source = "speed"
"""
SLCAN = """
[port.can]
port = "{tty}"
frame = {{ type = "line", end = "\\r" }}
[source.engine]
type = "serial"
port = "can"
where = {{ id = 0x123 }}
decode = {{ format = "text", base = 16, pattern = '^t(?P<id>[0-9A-F]{{3}})8(?P<rpm>[0-9A-F]{{4}})' }}
[source.brake]
type = "serial"
port = "can"
where = {{ id = 0x200 }}
decode = {{ format = "text", base = 16, pattern = '^t(?P<id>[0-9A-F]{{3}})8(?P<force>[0-9A-F]{{2}})' }}
[pipeline.a]
source = "engine"
[pipeline.b]
source = "brake"
"""


def line(body: str) -> bytes:
    proof = 0
    for byte in body.encode():
        proof ^= byte
    return f"${body}*{proof:02X}\r\n".encode()


class Shared:
    """The port of a configuration, with what its sources pushed."""

    def __init__(self, plan: PortPlan) -> None:
        clock = Clock()
        self.members: dict[str, Member] = {}
        self.rows: dict[str, list[list[float]]] = {}
        for one in plan.members:
            keys = KeyTable(one.max_keys, None) if one.key_names else None
            parts = Parts(Stamper(None, one.rate, keys), Flow(), SourceCounts(one.name), clock, Stages(clock.now))
            self.members[one.name] = kind_of(one.settings).build(one, parts)
            self.rows[one.name] = []
        self.counts = SourceCounts(plan.name, kind="port")
        self.into = {name: self._into(name) for name in self.members}
        self.port = SharedPort(plan.name, plan.settings, list(self.members.values()), self.counts, clock)

    def _into(self, name: str) -> Any:
        def push(block: Block) -> None:
            self.rows[name] += block.values.tolist()

        return push

    @asynccontextmanager
    async def running(self) -> Any:
        task = asyncio.ensure_future(self.port.run(self.into))
        try:
            await until(lambda: self.port.state == "running", 10)
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


def shared(folder: Path, text: str) -> Shared:
    (port,) = planned(folder, MAIN + text).whole.ports.values()
    return Shared(port)


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_sentences_go_to_who_means_them_however_they_come(size: int, tmp_path: Path) -> None:
    gga = line("GPGGA,101112.00,4807.0380,N,01131.0000,E,1,08,0.9,545.4,M,46.9,M,,")
    vtg = line("GPVTG,084.4,T,077.8,M,022.4,N,041.5,K")
    gsv = line("GPGSV,1,1,00")
    data = gga + gsv + vtg + gsv + vtg[:12] + b"x" + vtg[13:]
    pty = Pty()
    found = shared(tmp_path, NMEA.format(tty=pty.path).replace('"kmh", "_", "_"]', '"kmh", "_"]'))
    async with found.running():
        for at in range(0, len(data), size):
            await pty.send(data[at : at + size])
        await until(lambda: found.counts.read == 5, 10)
    pty.hang_up()
    assert found.rows == {"position": [[4807.038, 1131.0, 8]], "speed": [[41.5]]}
    assert (found.counts.rows, found.counts.rejected, found.counts.balance()) == (2, 3, 0)
    assert found.counts.drops.by_reason == {"other": 2, "checksum": 1}
    assert [member.counts.read for member in found.members.values()] == [1, 1]
    assert [member.counts.balance() for member in found.members.values()] == [0, 0]


async def test_frames_of_a_bus_of_cars_are_told_apart_by_their_id(tmp_path: Path) -> None:
    pty = Pty()
    found = shared(tmp_path, SLCAN.format(tty=pty.path))
    async with found.running():
        pty.write(b"t12381AF8000000000000\rt2008FF00000000000000\rt12381B00000000000000\rt3008000000000000000\r")
        await until(lambda: found.counts.read == 4, 10)
    pty.hang_up()
    assert found.rows == {"engine": [[0x1AF8], [0x1B00]], "brake": [[0xFF]]}
    assert found.counts.drops.by_reason == {"other": 1}


async def test_one_that_waits_holds_the_port_back_and_a_bad_value_is_its_own(tmp_path: Path) -> None:
    pty = Pty()
    found = shared(tmp_path, SLCAN.format(tty=pty.path).replace("engine]", "engine]\nrate = 10"))
    async with found.running():
        found.members["engine"].flow.hold()
        pty.write(b"t12381AF8000000000000\r")
        await until(lambda: found.rows["engine"], 10)  # what was read is handed on, and then no more is read
        pty.write(b"t12381B00000000000000\r")
        pty.write(b"t2008FF00000000000000\r")
        assert found.rows["engine"] == [[0x1AF8]]
        found.members["engine"].flow.release()
        await until(lambda: found.rows["brake"], 10)
    pty.hang_up()
    assert found.rows == {"engine": [[0x1AF8], [0x1B00]], "brake": [[0xFF]]}


async def test_who_hears_nothing_that_is_meant_is_silent_while_the_others_run(tmp_path: Path) -> None:
    pty = Pty()
    text = SLCAN.format(tty=pty.path).replace("[source.brake]\n", '[source.brake]\nstale_after = "20ms"\n')
    found = shared(tmp_path, text.replace("[source.engine]\n", '[source.engine]\nstale_after = "1h"\n'))
    async with found.running():
        pty.write(b"t12381AF8000000000000\r")
        await until(lambda: found.members["brake"].state == "silent", 10)
        assert "no frame for a source has come in for" in found.members["brake"].reason
        assert found.members["engine"].state == "running"
        pty.hang_up()
        await until(lambda: found.members["engine"].state == "unplugged", 10)
        assert found.members["brake"].state == "unplugged"


IMU = """
[port.imu]
port = "{tty}"
frame = {{ type = "fixed", sync = [0x55], size = 5 }}
checksum = "sum8"
[source.angle]
type = "serial"
port = "imu"
rate = 100
where = {{ tag = 0x53 }}
decode = {{ format = "struct", dtype = "uint8", fields = ["tag", "_", "roll"] }}
[source.acc]
type = "serial"
port = "imu"
rate = 100
where = {{ tag = 0x51 }}
decode = {{ format = "struct", dtype = "uint8", fields = ["tag", "_", "ax"] }}
[pipeline.a]
source = ["angle", "acc"]
align = {{ to = "angle", tolerance = "5ms" }}
"""


async def test_rounds_of_one_read_come_one_after_the_other(tmp_path: Path) -> None:
    def frame(tag: int, value: int) -> bytes:
        return bytes((0x55, tag, 0, value, (0x55 + tag + value) & 255))

    pty = Pty()
    found = shared(tmp_path, IMU.format(tty=pty.path))
    pushed: list[tuple[str, list[float], int]] = []
    for name in found.members:
        found.into[name] = lambda block, name=name: pushed.append((name, block.values[:, -1].tolist(), int(block.time[-1])))
    async with found.running():
        pty.write(b"".join(frame(0x51, i) + frame(0x53, i) for i in (1, 2)) + frame(0x51, 3) + frame(0x51, 4) + frame(0x53, 4))
        await until(lambda: found.counts.read == 7, 10)
    pty.hang_up()
    assert [(name, values) for name, values, _ in pushed] == [
        ("acc", [1]),
        ("angle", [1]),
        ("acc", [2]),
        ("angle", [2]),
        ("acc", [3, 4]),
        ("angle", [4]),
    ]
    times = [time for *_, time in pushed]
    assert times[0] == times[1] < times[2] == times[3] < times[4] == times[5]


BOTH = """
[port.gps]
port = "{tty}"
[source.fix]
type = "serial"
port = "gps"
decode = {{ format = "nmea", fields = ["lat", "track"] }}
[source.speed]
type = "serial"
port = "gps"
where = {{ kind = "$GPVTG" }}
decode = {{ format = "csv", fields = ["kind", "_", "_", "_", "_", "_", "_", "kmh", "_"] }}
[pipeline.a]
source = "fix"
[pipeline.b]
source = "speed"
"""


@pytest.mark.parametrize("size", [1, 4096])
async def test_an_epoch_of_a_receiver_may_come_in_several_reads(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_patience_ns", lambda baudrate: 1e9)  # a busy machine writes its bytes as slowly as that
    data = line("GPGGA,101112.00,4807.0380,N,01131.0000,E,1,08,0.9,545.4,M,46.9,M,,")
    data += line("GPVTG,084.4,T,077.8,M,022.4,N,041.5,K")
    pty = Pty()
    found = shared(tmp_path, BOTH.format(tty=pty.path))
    async with found.running():
        for at in range(0, len(data), size):
            await pty.send(data[at : at + size])
        await until(lambda: found.counts.read == 2, 10)
    pty.hang_up()
    assert found.rows == {"fix": [pytest.approx([48.1173, 84.4])], "speed": [[41.5]]}


def test_what_an_epoch_has_said_waits_for_the_next_read_and_ends_with_the_port(tmp_path: Path) -> None:
    first, second = (line(f"GPGGA,10111{at}.00,4807.0380,N,01131.0000,E,1,08,0.9,545.4,M,46.9,M,,") for at in (2, 3))
    vtg = line("GPVTG,084.4,T,077.8,M,022.4,N,041.5,K")
    found = shared(tmp_path, BOTH.format(tty=tmp_path / "gps"))
    for data in (first, vtg, second):
        found.port.take_in(data, 10**9, found.into)
    assert found.rows["fix"] == [pytest.approx([48.1173, 84.4])]
    found.port._decoder.reset()  # as when the port is opened again
    found.port.take_in(vtg, 2 * 10**9, found.into)
    assert len(found.rows["fix"]) == 1
