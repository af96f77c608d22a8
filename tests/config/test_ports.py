from __future__ import annotations

from typing import Any

import pytest

from edged.config.ports import is_contradicted, rate_of, settled, shared_port
from edged.config.schema import Decode, FieldSpec, Frame, ModbusDecode, ModbusSource, Port, Send, SerialSource

S = 10**9
DECODE = Decode(format="csv", fields=(FieldSpec(name="a"),))


def serial(**keys: Any) -> SerialSource:
    return SerialSource(**{"port": "/dev/ttyUSB0", "decode": DECODE, **keys})


def asked(*paces: float, **keys: Any) -> tuple[Send, ...]:
    return tuple(Send(data=b"?", every=int(pace * S), **keys) for pace in paces)


def test_a_source_has_what_its_port_says() -> None:
    port = Port(port="/dev/ttyUSB9", baudrate=9600, parity="even", frame=Frame(type="fixed", size=4), send=asked(2.0, 4.0))
    source = settled(serial(port="imu"), {"imu": port})
    assert (source.port, source.baudrate, source.parity, source.frame, source.send) == (
        "/dev/ttyUSB9",
        9600,
        "even",
        port.frame,
        port.send,
    )
    assert source.rate == 0.25  # each source of a port gets at least what the slowest question brings
    meter = ModbusSource(port="bus", every=S, decode=ModbusDecode(fields=(FieldSpec(name="v", register=1),)))
    found = settled(meter, {"bus": Port(port="/dev/ttyUSB8", baudrate=38400, rs485=True)})
    assert (found.port, found.baudrate, found.rs485, found.rate) == ("/dev/ttyUSB8", 38400, True, 1.0)


def test_a_path_is_no_name() -> None:
    assert shared_port(serial()) == ""
    assert shared_port(serial(port="imu")) == "imu"
    assert settled(serial(), {}) == serial()


@pytest.mark.parametrize(
    ("keys", "rate"),
    [
        ({}, None),
        ({"send": (Send(data=b"b"),)}, None),
        ({"send": asked(5.0)}, 0.2),
        ({"send": asked(1.0, 1.0)}, 2.0),
        ({"send": asked(1.0, 2.0), "key": ("unit",)}, 0.5),
    ],
)
def test_the_rate_follows_from_what_is_asked(keys: dict[str, Any], rate: float | None) -> None:
    assert rate_of(serial(**keys)) == rate


def test_a_rate_that_says_something_else_is_contradicted_but_not_that_of_a_stream() -> None:
    assert is_contradicted(serial(rate=10.0, send=asked(1.0)))
    assert not is_contradicted(serial(rate=1.0, send=asked(1.0)))
    assert not is_contradicted(serial(rate=3.0, send=asked(0.333)))
    assert not is_contradicted(serial(rate=0.5, send=asked(200.0, answer=b"\x06")))
    assert not is_contradicted(serial(rate=10.0, send=(Send(data=b"b"),)))
