from __future__ import annotations

from pathlib import Path

from edged.plan.change import compare
from tests.support.planning import MAIN, planned

TWO = """
[port.imu]
port = "/dev/ttyUSB9"
baudrate = {baudrate}
[source.acc]
type = "serial"
port = "imu"
where = {{ kind = "A" }}
decode = {{ format = "csv", fields = ["kind", "a"] }}
[source.gyro]
type = "serial"
port = "imu"
where = {{ kind = "G" }}
decode = {{ format = "csv", fields = ["kind", {field}] }}
[pipeline.p]
source = "acc"
[pipeline.q]
source = "gyro"
"""


def test_a_port_is_planned_with_those_that_read_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, MAIN + TWO.format(baudrate=9600, field='"g"')).whole
    (port,) = plan.ports.values()
    assert [member.name for member in port.members] == ["acc", "gyro"]
    assert {plan.sources[name].settings.baudrate for name in ("acc", "gyro")} == {9600}  # type: ignore[union-attr]
    assert {plan.sources[name].port for name in ("acc", "gyro")} == {"imu"}


def test_a_reload_sees_what_of_a_port_changed(tmp_path: Path) -> None:
    old = planned(tmp_path, MAIN + TWO.format(baudrate=9600, field='"g"')).whole
    change = compare(old, planned(tmp_path, MAIN + TWO.format(baudrate=19200, field='"g"')).whole)
    assert change.changed == ("port.imu: settings", "source.acc: settings", "source.gyro: settings")
    change = compare(old, planned(tmp_path, MAIN + TWO.format(baudrate=9600, field='"h"')).whole)
    assert "source.gyro: settings" in change.changed
    assert {"port.imu", "source.acc"} <= {*change.kept}


def test_a_bus_that_cannot_carry_what_is_asked_is_refused(tmp_path: Path) -> None:
    text = """
[source.m]
type = "modbus"
port = "/dev/ttyUSB9"
address = [1, 2]
every = "{every}"
decode = {{ fields = [{{ name = "v", register = 0, shape = 40 }}] }}
[pipeline.p]
source = "m"
publish = {{ topic = "m/{{address}}" }}
"""
    assert not planned(tmp_path, MAIN + text.format(every="250ms")).lines
    (line,) = planned(tmp_path, MAIN + text.format(every="100ms")).lines
    assert line.endswith(
        'source.m.every: 40 registers of 2 units at 9600 baud take about 210ms a round, found "100ms"; '
        'write "250ms" or a higher baudrate'
    )
