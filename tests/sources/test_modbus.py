"""Buses of Modbus units on real pseudo-terminals, and recordings of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edged.clock.clock import Clock
from edged.decode import make_payload_decoder
from edged.decode.stream import make_stream_decoder
from edged.plan.records import Plan, SourcePlan
from edged.records import Block
from edged.sources.counts import Arrival, SourceCounts
from edged.sources.flow import Flow
from edged.sources.kind import Parts
from edged.sources.modbus import Bus, ModbusSource
from edged.sources.recording import Recorder
from edged.sources.replay import ReplaySource
from edged.stamp import KeyTable, Stamper
from edged.system.hang_recorder import Stages
from tests.support.devices import Device, modbus
from tests.support.planning import MAIN, planned
from tests.support.ptys import until

FIELDS = """
every = "20ms"
timeout = "40ms"
baudrate = 115200
decode = { fields = [
  { name = "force", register = 100, dtype = "int32", endian = "cdab", scale = 0.1, unit = "kN" },
  { name = "running", register = 3, table = "coil" },
  { name = "fault", register = 110, bits = [4, 1] },
  { name = "little", register = 120, dtype = "float32", endian = "little", table = "input" },
  { name = "swapped", register = 122, dtype = "float32", endian = "badc", table = "input" },
] }
"""
PRESS = {
    "holding": {100: 0x04D2, 101: 0x0000, 110: 0x0010},
    "coil": {3: 1},
    "input": {120: 0x3433, 121: 0x6643, 122: 0x6643, 123: 0x3433},
}
VALUES = [pytest.approx(123.4), 1, 1, pytest.approx(230.2), pytest.approx(230.2)]


class Asked:
    """Sources of a configuration that ask on one bus, with what they pushed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.blocks: dict[str, list[Block]] = {name: [] for name in plan.sources}
        self.sources = {name: self._source(one) for name, one in plan.sources.items()}

    def _source(self, plan: SourcePlan) -> ModbusSource:
        clock = Clock()
        keys = KeyTable(plan.max_keys, None) if plan.key_names else None
        self.keys = keys
        parts = Parts(Stamper(None, plan.rate, keys), Flow(), SourceCounts(plan.name), clock, Stages(clock.now))
        return ModbusSource(plan, parts)

    def rows(self, name: str) -> list[list[float]]:
        return [row for block in self.blocks[name] for row in block.values.tolist()]

    def bus(self) -> Bus:
        (port,) = self.plan.ports.values()
        return Bus(port.name, port.settings, list(self.sources.values()), SourceCounts(port.name), Clock())


def plan_of(folder: Path, text: str) -> Plan:
    return planned(folder, MAIN + text).whole


async def test_every_kind_of_register_and_order_of_bytes_is_right(tmp_path: Path) -> None:
    fields = FIELDS.replace("40ms", "10s")
    asked = Asked(plan_of(tmp_path, f'[source.press]\ntype = "modbus"\nport = "{tmp_path}/bus"\n{fields}'))
    source = asked.sources["press"]
    came: list[Arrival] = []
    source.counts.watch.on_raw = (came.append,)
    with Device(tmp_path / "bus", modbus({1: PRESS})):
        task = asyncio.ensure_future(source.run(asked.blocks["press"].append))
        await until(lambda: len(asked.rows("press")) >= 3, 10)
        task.cancel()
        await asyncio.wait([task])
    assert asked.rows("press")[:3] == [VALUES] * 3
    assert source.counts.balance() == 0
    assert source.counts.rejected == 0
    raw = b"".join(one.data for one in came)  # what edged tap --stage raw shows: answers as they came
    assert len(raw) == source.counts.bytes
    assert bytes([1, 3, 4, 0x04, 0xD2, 0x00, 0x00]) in raw


async def test_exceptions_and_silence_are_counted_by_name_and_the_unit_comes_back(tmp_path: Path) -> None:
    asked = Asked(plan_of(tmp_path, f'[source.press]\ntype = "modbus"\nport = "{tmp_path}/bus"\n{FIELDS}'))
    source = asked.sources["press"]
    coils = PRESS["coil"]
    PRESS["coil"] = {}
    with Device(tmp_path / "bus", modbus({1: PRESS})) as bus:
        task = asyncio.ensure_future(source.run(asked.blocks["press"].append))
        await until(lambda: source.counts.drops.by_reason.get("illegal_data_address", 0) >= 2, 10)
        assert source.state == "silent"
        assert "unit 1, coil 3: it has no such register" in source.reason
        PRESS["coil"] = coils
        bus.is_off = True
        await until(lambda: source.counts.drops.by_reason.get("no_answer", 0) >= 1, 10)
        assert "nothing came within 40 ms" in source.reason
        bus.is_off = False
        task.cancel()
        await asyncio.wait([task])
    assert source.counts.balance() == 0


async def test_two_sources_ask_on_one_bus(tmp_path: Path) -> None:
    text = f"""
[port.bus]
port = "{tmp_path}/bus"
baudrate = 115200
[source.press]
type = "modbus"
port = "bus"
{FIELDS.replace("baudrate = 115200", "")}
[source.meters]
type = "modbus"
port = "bus"
address = [7, 8]
every = "20ms"
timeout = "40ms"
decode = {{ fields = [{{ name = "w", register = 0 }}] }}
[pipeline.a]
source = "press"
[pipeline.b]
source = "meters"
"""
    asked = Asked(plan_of(tmp_path, text))
    units: dict[int, Any] = {1: PRESS, 7: {"holding": {0: 700}}, 8: {"holding": {0: 800}}}
    with Device(tmp_path / "bus", modbus(units)):
        pushes = {name: blocks.append for name, blocks in asked.blocks.items()}
        task = asyncio.ensure_future(asked.bus().run(pushes))
        await until(lambda: len(asked.rows("meters")) >= 4 and len(asked.rows("press")) >= 2, 10)
        task.cancel()
        await asyncio.wait([task])
    assert asked.rows("press")[:2] == [VALUES] * 2
    assert sorted({row[0] for row in asked.rows("meters")}) == [700, 800]


async def test_a_recording_of_a_bus_is_played_with_the_same_table(tmp_path: Path) -> None:
    """What `edged record` writes: the samples of two units."""
    path = tmp_path / "bus.rec"
    with Recorder(path, "modbus", "meters", Clock()) as recorder:
        recorder.add(bytes.fromhex("01 43663334 42c80000"))
        recorder.add(bytes.fromhex("02 43663334 42ca0000"))
    text = f"""
[source.meters]
type = "replay"
path = "{path}"
speed = 0
key = "address"
decode = {{ format = "modbus", table = "input", dtype = "float32", fields = [
  {{ name = "volts", register = 0 }}, {{ name = "watts", register = 12 }},
] }}
[pipeline.p]
source = "meters"
publish = {{ topic = "m/{{address}}" }}
"""
    plan = plan_of(tmp_path, text).sources["meters"]
    assert plan.decode is not None
    keys, settings = KeyTable(4, None), plan.settings
    replay = ReplaySource(
        "meters",
        settings,  # type: ignore[arg-type]
        make_stream_decoder(plan.decode),
        make_payload_decoder(plan.decode),
        Stamper(None, None, keys),
        Flow(),
        SourceCounts("meters"),
        Clock(),
    )
    blocks: list[Block] = []
    await replay.run(blocks.append)
    assert [block.values.tolist() for block in blocks] == [[[pytest.approx(230.2), 100]], [[pytest.approx(230.2), 101]]]
    assert [keys.names(i) for i in range(2)] == [("1",), ("2",)]
