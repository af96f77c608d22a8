"""Devices that once were read wrong, each by a small stream: what it sends, a frame or line at a time, and the samples of each.

The stream comes whole, one byte at a time, late and behind garbage; then with one frame damaged.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from edged.decode import DecodePlan
from edged.decode.checksums import KINDS
from edged.decode.crc import Crc, crc_of
from edged.decode.stream import make_stream_decoder
from edged.records import ON_ARRIVAL, Rows
from tests.support.decode_plans import refused
from tests.support.planning import MAIN, planned

Samples = list[dict[str, Any]]


class Device(NamedTuple):
    """`damage`: which frame, and what in it becomes what; then this frame alone is lost, refused for `reason`. `garbage` is what
    may stand in front, and costs none."""

    source: str
    frames: list[bytes]
    samples: list[Samples]
    damage: tuple[int, bytes, bytes] | None = None
    reason: str = "checksum"
    garbage: bytes = b"\xfe\x00\x80~ \x07\n"


def xor(data: bytes) -> int:
    return KINDS["xor8"].one(data)


def gill(body: bytes) -> bytes:
    return b"\x02%b\x03%02X\r\n" % (body, xor(body))


def card(number: bytes) -> bytes:
    return b"\x02%b%02X" % (number.hex().upper().encode(), xor(number))


def modbus_ascii(data: bytes) -> bytes:
    return b":%b%02X\r\n" % (data.hex().upper().encode(), -sum(data) & 0xFF)


def readout(energy: bytes) -> bytes:
    covered = b"F.F(00)\r\n1.8.0(%b*kWh)\r\n32.7(231.5*V)\r\n!\r\n\x03" % energy
    return b"/LGZ4ZMF100AC.M23\r\n\x02%b%c" % (covered, xor(covered))


def telegram(power: bytes) -> bytes:
    covered = b"/ISk5\\2MT382\r\n\r\n0-0:1.0.0(101209113020W)\r\n1-0:1.7.0(%b*kW)\r\n!" % power
    return covered + b"%04X\r\n" % KINDS["crc16-arc"].one(covered)


def sentence(body: bytes) -> bytes:
    return b"$%b*%02X\r\n" % (body, xor(body))


def crsf(kind: int, payload: bytes) -> bytes:
    body = bytes([kind]) + payload
    return b"\xc8" + bytes([len(body) + 1]) + body + bytes([crc_of(Crc(8, 0xD5), body)])


def channels(numbers: list[int]) -> bytes:
    return sum(number << 11 * i for i, number in enumerate(numbers)).to_bytes(22, "little")


def roomba(data: bytes) -> bytes:
    body = b"\x13" + bytes([len(data)]) + data
    return body + bytes([-sum(body) & 0xFF])


def counted(payload: bytes) -> bytes:
    return b"\xaa" + bytes([len(payload)]) + payload


STICKS = [[172 + 100 * i for i in range(16)], [992] * 16, [1811 - i for i in range(16)]]

DEVICES = {
    "a label within a label": Device(
        'decode = { format = "text", fields = ["CO", "PM"] }',
        [b"CO2: 412 ppm, CO: 3 ppm, PM2.5: 8, PM: 9\n", b"PM: 10 CO2=413 CO=4\n"],
        [[{"CO": 3, "PM": 9}], [{"CO": 4, "PM": 10}]],
    ),
    "a number before a byte that begins no unit": Device(
        'decode = { format = "text", fields = [{ name = "t", after = "T" }, { name = "h", after = "H" }] }',
        [b"T: 21.5\xb0C H=40%\n", b"T: 21.6\xc2\xb0C H=41%\n", b"T: 21.7\xdfC H=42%\n", b"T: 21.8C H=43%\n"],
        [[{"t": 21.5, "h": 40}], [{"t": 21.6, "h": 41}], [{"t": 21.7, "h": 42}], [{"t": 21.8, "h": 43}]],
        damage=(1, b"21.6", b"21\xfe6"),
        reason="not_utf8",
    ),
    "the first number of a line, damaged": Device(
        'frame = { type = "line", end = "\\u0003", sync = "\\u0002" }\n'
        'decode = { format = "text", fields = [{ name = "w", after = "" }] }',
        [b"\x02  1234.5G\x03", b"\x02- 0012.5N\x03", b"\x02     7.5G\x03"],
        [[{"w": 1234.5}], [{"w": -12.5}], [{"w": 7.5}]],
        damage=(1, b"0012", b"0\xfe12"),
        reason="other",
    ),
    "a label without its number": Device(
        'decode = { format = "text", fields = ["d"] }',
        [b"d:5\n", b"d:6\n", b"d:7\n"],
        [[{"d": 5}], [{"d": 6}], [{"d": 7}]],
        damage=(1, b"d:6", b"d:"),
        reason="missing",
    ),
    "Gill WindSonic: the ETX is not covered": Device(
        'frame = { type = "line", sync = "\\u0002" }\nchecksum = { type = "xor8", encoding = "hex", stop = 1 }\n'
        'decode = { format = "csv", fields = ["_", "dir", "speed", "_", "_", "_"] }',
        [gill(b"Q,229,002.74,M,00,"), gill(b"Q,001,000.74,M,00,"), gill(b"Q,002,000.75,M,00,")],
        [[{"dir": 229, "speed": 2.74}], [{"dir": 1, "speed": 0.74}], [{"dir": 2, "speed": 0.75}]],
        damage=(1, b"0.74", b"0.75"),
    ),
    "RDM6300: a sum of what hex digits say": Device(
        'frame = { type = "fixed", sync = [2], tail = [3], size = 14 }\n'
        'checksum = { type = "xor8", start = 1, encoding = "all-hex" }\n'
        'decode = { format = "struct", endian = "big", encoding = "hex", fields = [{ name = "_", dtype = "uint8" }, '
        '{ name = "card", dtype = "uint32" }] }',
        [card(bytes.fromhex(one)) + b"\x03" for one in ("0a00123456", "0a00123457", "0a00123458")],
        [[{"card": 0x123456}], [{"card": 0x123457}], [{"card": 0x123458}]],
        damage=(1, b"3457", b"3477"),
    ),
    "ID-12: the same as a line": Device(
        'frame = { type = "line", sync = "\\u0002", end = "\\r\\n\\u0003" }\nchecksum = { type = "xor8", encoding = "all-hex" }\n'
        'decode = { format = "struct", endian = "big", encoding = "hex", fields = [{ name = "_", dtype = "uint8" }, '
        '{ name = "card", dtype = "uint32" }] }',
        [card(bytes.fromhex(one)) + b"\r\n\x03" for one in ("0a00123456", "0a00123457", "0a00123458")],
        [[{"card": 0x123456}], [{"card": 0x123457}], [{"card": 0x123458}]],
        damage=(1, b"3457", b"345G"),
    ),
    "Modbus ASCII": Device(
        'frame = { type = "line", sync = ":" }\nchecksum = { type = "neg8", encoding = "all-hex" }\n'
        'decode = { format = "struct", endian = "big", dtype = "int16", encoding = "hex", fields = ['
        '{ name = "_", dtype = "uint8", shape = 3 }, "a", "b"] }',
        [modbus_ascii(bytes.fromhex("010304") + struct.pack(">2h", i, -i)) for i in (10, 11, 12)],
        [[{"a": i, "b": -i}] for i in (10, 11, 12)],
        damage=(1, b"000B", b"000F"),
    ),
    "IEC 62056-21: a check without a line end, and the next readout behind it": Device(
        'decode = { format = "dsmr", fields = [{ name = "e", path = "1.8.0" }, { name = "u", path = "32.7" }] }',
        [readout(b"0012345.6"), readout(b"0012345.7"), readout(b"0012345.8")],
        [[{"e": 12345.6, "u": 231.5}], [{"e": 12345.7, "u": 231.5}], [{"e": 12345.8, "u": 231.5}]],
        damage=(1, b"345.7", b"745.7"),
    ),
    "Voltronic: a CRC of bytes that end no line": Device(
        'frame = { type = "line", end = "\\r" }\nchecksum = { type = "crc16-xmodem", encoding = "line-safe" }\n'
        'decode = { format = "csv", separator = " ", fields = ["_", "v"] }',
        [b"(1 342.0\x0e\x0e\r", b"(1 236.2\x0b\xf3\r", b"(1 256.0\x0e\x29\r"],  # 0d0d, 0af3, 0d28
        [[{"v": 342.0}], [{"v": 236.2}], [{"v": 256.0}]],
        damage=(1, b"236", b"237"),
    ),
    "a telegram behind garbage": Device(
        'decode = { format = "dsmr", fields = [{ name = "p", path = "1-0:1.7.0", unit = "kW" }] }',
        [telegram(b"00.244"), telegram(b"00.245"), telegram(b"00.246")],
        [[{"p": 0.244}], [{"p": 0.245}], [{"p": 0.246}]],
        damage=(1, b"00.245", b"08.245"),
        garbage=b"\x13\xf5~?x",
    ),
    "a sentence behind garbage": Device(
        'where = { k = "VNYMR" }\nchecksum = "nmea"\ndecode = { format = "csv", fields = ["k", "yaw"] }',
        [sentence(b"VNYMR,+006.271"), sentence(b"VNYMR,+007.271"), sentence(b"VNYMR,-008.271")],
        [[{"yaw": 6.271}], [{"yaw": 7.271}], [{"yaw": -8.271}]],
        damage=(1, b"7.271", b"9.271"),
        garbage=b"\x13\xf5~$VNYMR,+00",
    ),
    "lines that end in CR, behind a line feed": Device(
        'frame = { type = "line", end = "\\r" }\ndecode = { format = "csv", fields = ["ec", "tds"] }',
        [b"1413,763\r", b"1414,764\r", b"1415,765\r"],
        [[{"ec": 1413, "tds": 763}], [{"ec": 1414, "tds": 764}], [{"ec": 1415, "tds": 765}]],
        damage=(1, b"1414", b"14\xfe4"),
        reason="not_utf8",
    ),
    "lines that end in NUL, behind a line feed": Device(
        'frame = { type = "line", end = "\\u0000" }\ndecode = { format = "csv", fields = ["a", "b"] }',
        [b"1,2\0", b"3,4\0", b"5,6\0"],
        [[{"a": 1, "b": 2}], [{"a": 3, "b": 4}], [{"a": 5, "b": 6}]],
    ),
    "SLCAN behind a line feed": Device(
        'frame = { type = "line", end = "\\r" }\nwhere = { id = 0x123 }\n'
        "decode = { format = \"text\", base = 16, pattern = '^t(?P<id>[0-9A-F]{3})2(?P<rpm>[0-9A-F]{4})' }",
        [b"t12320011\r", b"t12420011\r", b"t1232FF11\r"],
        [[{"rpm": 17}], [], [{"rpm": 65297}]],
    ),
    "CRSF: sixteen channels of eleven bits": Device(
        'frame = { type = "length", sync = [0xC8], length = "uint8", counts = "rest" }\n'
        'checksum = { type = "crc8", poly = 0xD5, start = 2 }\nwhere = { type = 0x16 }\n'
        'decode = { format = "struct", fields = [{ name = "type", dtype = "uint8" }, '
        '{ name = "ch", dtype = "uint11", shape = 16 }] }',
        [
            crsf(0x16, channels(STICKS[0])),
            crsf(0x14, bytes(10)),
            crsf(0x16, channels(STICKS[1])),
            crsf(0x16, channels(STICKS[2])),
        ],
        [[{"ch": STICKS[0]}], [], [{"ch": STICKS[1]}], [{"ch": STICKS[2]}]],
        damage=(2, channels(STICKS[1])[:4], b"\0\0\0\0"),
    ),
    "SBUS": Device(
        'frame = { type = "fixed", sync = [0x0F], size = 25, tail = [0] }\n'
        'decode = { format = "struct", fields = ['
        '{ name = "ch", dtype = "uint11", shape = 16 }, { name = "flags", dtype = "uint8" }] }',
        [b"\x0f" + channels(one) + b"\x03\0" for one in STICKS],
        [[{"ch": one, "flags": 3}] for one in STICKS],
    ),
    "CMS50D: every byte is a marker": Device(
        'frame = { type = "fixed", sync = ["1.......", "0.......", "0.......", "0.......", "0......."], size = 5 }\n'
        'decode = { format = "struct", dtype = "uint8", fields = ["_", "pleth", "_", "bpm", "spo2"] }',
        [bytes([0x86, 50, 5, 72, 97]), bytes([0x86, 51, 5, 72, 98]), bytes([0x86, 52, 5, 73, 98])],
        [[{"pleth": 50, "bpm": 72, "spo2": 97}], [{"pleth": 51, "bpm": 72, "spo2": 98}], [{"pleth": 52, "bpm": 73, "spo2": 98}]],
        damage=(1, b"\x86", b"\x06"),
        reason="no_frame",
        garbage=b"\x13\x05~?x",
    ),
    "Roomba: garbage that holds the marker and a length": Device(
        'frame = { type = "length", sync = [0x13], length = "uint8" }\nchecksum = "neg8"\n'
        'decode = { format = "struct", endian = "big", fields = ['
        '{ name = "_", dtype = "uint8" }, { name = "cliff", dtype = "uint16" }] }',
        [roomba(b"\x1d\x02\x25"), roomba(b"\x1d\x02\x26"), roomba(b"\x1d\x13\x05")],
        [[{"cliff": 549}], [{"cliff": 550}], [{"cliff": 0x1305}]],
        damage=(1, b"\x26", b"\x27"),
        garbage=b"\x00\x13\xf5\x9c\x07~?x",
    ),
    "a record without its last fields": Device(
        'frame = { type = "length", sync = [0xAA], length = "uint8" }\n'
        'decode = { format = "struct", dtype = "uint16", fields = ['
        '"a", "b", { name = "c", absent = "hold" }, { name = "d", absent = -1 }] }',
        [counted(struct.pack("<4H", 1, 2, 3, 4)), counted(struct.pack("<3H", 5, 6, 7)), counted(struct.pack("<2H", 8, 9))],
        [[{"a": 1, "b": 2, "c": 3, "d": 4}], [{"a": 5, "b": 6, "c": 7, "d": -1}], [{"a": 8, "b": 9, "c": 7, "d": -1}]],
        garbage=b"",
    ),
    "patterns of numbers, of one form and of others": Device(
        "decode = { format = \"text\", pattern = 'T:(?P<t>[\\d.]+) H:(?P<h>\\d+)' }",
        [b"x T:21.5 H:40 C\n", b"x T:21.6 H:41 C\n", b"x T:-1.5 H:42 C\n", b"x T:21.8 H:4x3 C\n", b"y T:7 H:44\n"],
        [[{"t": 21.5, "h": 40}], [{"t": 21.6, "h": 41}], [], [{"t": 21.8, "h": 4}], [{"t": 7, "h": 44}]],
        damage=(1, b"H:41", b"H:-1"),
        reason="other",
    ),
}

every_device = pytest.mark.parametrize("device", DEVICES.values(), ids=list(DEVICES))


def plan_of(source: str, folder: Path) -> DecodePlan:
    keyed = f'[source.s]\ntype = "serial"\nport = "/dev/ttyUSB0"\n{source}\n[pipeline.p]\nsource = "s"\npublish = "p"\n'
    decode = planned(folder, MAIN + keyed).whole.sources["s"].decode
    assert decode is not None
    return decode


def played(plan: DecodePlan, chunks: list[bytes], is_midway: bool = False) -> tuple[Samples, dict[str, int]]:
    """The samples, and what was refused for which reason; the stream then is silent."""
    decoder = make_stream_decoder(plan)
    decoder.reset(is_midway)
    parts: list[Rows] = [rows for chunk in chunks if (rows := decoder.feed(chunk)) is not None]
    if (rows := decoder.quiet()) is not None:
        parts.append(rows)
    found: Samples = []
    for rows in parts:
        for row in rows.values.tolist():
            numbers = {f.name: row[f.start : f.stop] if f.shape else row[f.start] for f in plan.value_fields}
            found.append({name: pytest.approx(number, rel=1e-6) for name, number in numbers.items()})
    return found, dict(refused([reject for rows in parts for reject in rows.rejects]))


def flat(samples: list[Samples]) -> Samples:
    return [sample for of_frame in samples for sample in of_frame]


@every_device
def test_whole_and_a_byte_at_a_time(device: Device, tmp_path: Path) -> None:
    plan, data = plan_of(device.source, tmp_path), b"".join(device.frames)
    whole, reasons = played(plan, [data])
    assert whole == flat(device.samples)
    assert played(plan, [bytes([byte]) for byte in data]) == (flat(device.samples), reasons)


@every_device
def test_opened_late(device: Device, tmp_path: Path) -> None:
    plan = plan_of(device.source, tmp_path)
    for cut in range(1, len(device.frames[0])):
        found, _ = played(plan, [b"".join(device.frames)[cut:]], is_midway=True)
        wanted = flat(device.samples)
        assert found == wanted[len(wanted) - len(found) :]
        assert len(found) >= len(flat(device.samples[2:]))


@every_device
def test_behind_garbage(device: Device, tmp_path: Path) -> None:
    plan = plan_of(device.source, tmp_path)
    assert played(plan, [device.garbage + b"".join(device.frames)])[0] == flat(device.samples)


@every_device
def test_a_damaged_frame_is_refused_alone(device: Device, tmp_path: Path) -> None:
    if device.damage is None:
        return
    plan, (at, good, bad) = plan_of(device.source, tmp_path), device.damage
    frame = device.frames[at].replace(good, bad)
    assert frame != device.frames[at]
    _, before = played(plan, device.frames)
    found, after = played(plan, [b"".join([*device.frames[:at], frame, *device.frames[at + 1 :]])])
    assert found == flat(device.samples[:at] + device.samples[at + 1 :])
    assert {reason: times - before.get(reason, 0) for reason, times in after.items() if times > before.get(reason, 0)} == {
        device.reason: 1
    }


@pytest.mark.parametrize(
    ("time", "utc"),
    [
        ('"dsmr"', "2010-12-09T10:30:20"),
        ('{ format = "dsmr", zone = "+02:00" }', "2010-12-09T09:30:20"),
        ('{ format = "dsmr", zone = "utc" }', "2010-12-09T11:30:20"),
        ('{ format = "dsmr", field = "0-1:24.2.1" }', "2011-07-09T09:00:00"),
    ],
)
def test_times_of_a_telegram(time: str, utc: str, tmp_path: Path) -> None:
    fields = '{ name = "p", path = "1-0:1.7.0" }, { name = "gas", path = "0-1:24.2.1" }'
    plan = plan_of(f'decode = {{ format = "dsmr", time = {time}, fields = [{fields}] }}', tmp_path)
    lines = b"0-0:1.0.0(101209113020W)\n1-0:1.7.0(00.244*kW)\n0-1:24.2.1(110709110000S)(12785.123*m3)\n"
    rows = make_stream_decoder(plan).feed(b"/ISk5\n\n" + lines + b"!\n")
    assert rows is not None
    assert rows.time is not None
    assert rows.values.tolist() == [pytest.approx([0.244, 12785.123])]
    assert rows.time[0] == np.datetime64(utc, "ns").astype(np.int64)


@pytest.mark.parametrize(
    "source",
    [
        'decode = { format = "influx", fields = ["t"] }\n#room t=21.5\n',
        'decode = { format = "senml", fields = ["t"] }\n#[{"n":"t","v":21.5}]\n',
    ],
)
def test_a_line_without_a_time_is_of_its_arrival(source: str, tmp_path: Path) -> None:
    settings, line = source.split("#")
    rows = make_stream_decoder(plan_of(settings, tmp_path)).feed(line.encode())
    assert rows is not None
    assert rows.time is not None
    assert (rows.values.tolist(), rows.time.tolist()) == ([[21.5]], [ON_ARRIVAL])


def test_a_time_from_now_needs_a_now(tmp_path: Path) -> None:
    rows = make_stream_decoder(plan_of('decode = { format = "senml", fields = ["t"] }', tmp_path)).feed(
        b'[{"n":"t","t":-5,"v":21.5}]\n'
    )
    assert rows is not None
    assert [reject.reason for reject in rows.rejects] == ["missing"]
