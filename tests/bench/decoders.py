"""What a row costs, of each kind of device, beside a row of csv: `python -m tests.bench.decoders`.

Processor time of a warm decoder that is fed reads of 4 KiB. All kinds take turns, so that what else the machine does falls on all
alike; of many rounds the median counts. Rows of more bytes cost more by themselves, so the bytes of a row stand beside it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from statistics import median
from time import process_time_ns

from edged.config.schema import Checksum, Element, Frame
from edged.decode import DecodePlan
from edged.decode.checksums import KINDS
from edged.decode.stream import StreamDecoder, make_stream_decoder
from tests.support.decode_plans import field, plan

ROUNDS = 15
READ_BYTES = 4096
Kind = tuple[DecodePlan, Callable[[int], bytes]]
_CRC = KINDS["crc16-mcrf4xx"].one


def numbers(i: int) -> tuple[float, int, float]:
    return i % 50 + i % 10 / 10, i % 4000, -i % 1000 - 0.5


def record(i: int) -> bytes:
    return struct.pack("<3h", i % 1000, i % 4000, -i % 1000)


def summed(i: int) -> bytes:
    return b"U" + record(i) + bytes([sum(b"U" + record(i)) & 0xFF])


def cobs(i: int) -> bytes:
    coded = bytearray()
    for part in record(i).split(b"\0"):
        coded += bytes([len(part) + 1]) + part
    return bytes(coded) + b"\0"


def slip(i: int) -> bytes:
    return record(i).replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"


def ubx(i: int) -> bytes:
    body = b"\x01\x07" + struct.pack("<H", 92) + bytes(20) + b"\x03\x01" + struct.pack("<H", i % 999) + bytes(68)
    return b"\xb5b" + body + struct.pack("<H", KINDS["fletcher8"].one(body))


def mavlink(i: int) -> bytes:
    covered = bytes([28, i & 255, 1, 1, 30]) + struct.pack("<I6f", i, *[0.1] * 6)
    return b"\xfe" + covered + struct.pack("<H", _CRC(covered + b"\x27"))


def sentence(body: bytes) -> bytes:
    return b"$%b*%02X\r\n" % (body, KINDS["xor8"].one(body))


def epoch(i: int) -> bytes:
    time = b"%02d%02d%02d.00" % (i // 3600 % 24, i // 60 % 60, i % 60)
    return sentence(b"GPGGA,%b,4807.0380,N,01131.0000,E,1,08,0.9,545.4,M,46.9,M,," % time) + sentence(
        b"GPRMC,%b,A,4807.0380,N,01131.0000,E,022.4,084.4,230394,003.1,W" % time
    )


def telegram(i: int) -> bytes:
    lines = b"".join(b"1-0:%d.8.%d(%010.3f*kWh)\r\n" % (at, at % 3, i / 7) for at in range(1, 39))
    covered = b"/ISk5\\2MT382\r\n\r\n1-0:1.7.0(%06.3f*kW)\r\n%b!" % (i % 25, lines)
    return covered + b"%04X\r\n" % KINDS["crc16-arc"].one(covered)


def vedirect(i: int) -> bytes:
    lines = b"".join(b"\r\nH%d\t%d" % (at, i + at) for at in range(1, 15))
    block = b"\r\nV\t%d\r\nI\t-%d\r\nPPV\t15%b\r\nChecksum\t" % (12000 + i % 999, i % 999, lines)
    return block + bytes([-sum(block) & 0xFF])


def kinds() -> Iterator[tuple[str, Kind]]:
    three = [field(name, dtype="int16") for name in "abc"]
    points = field("points", repeat=12, fields=(Element(name="d", dtype="uint16"), Element(name="i", dtype="uint8")))
    yield "csv", (plan("csv", "a", "b", "c"), lambda i: b"%.1f,%d,%.1f\n" % numbers(i))
    yield "csv, quoted cells", (plan("csv", "a", "b", "c"), lambda i: b'"%.1f","%d","%.1f"\n' % numbers(i))
    yield (
        "csv, hexadecimal",
        (plan("csv", *(field(name, base=16) for name in "abc")), lambda i: b"%X,%X,%X\n" % (i, i * 3, i * 7)),
    )
    yield "text, labels", (plan("text", "T", "H", "P"), lambda i: b"T:%.1f H:%d P:%.1f\n" % numbers(i))
    pattern = r"T:(?P<t>[\d.]+) H:(?P<h>\d+) P:(?P<p>[-\d.]+)"
    yield (
        "text, a pattern of numbers",
        (plan("text", "t", "h", "p", pattern=pattern), lambda i: b"T:%.1f H:%d P:%.1f\n" % numbers(i)),
    )
    other = r"(?P<t>[\d.]+).*H:(?P<h>\d+)\s+P:(?P<p>[-\d.]+)"
    yield "text, another pattern", (plan("text", "t", "h", "p", pattern=other), lambda i: b"T:%.1f H:%d P:%.1f\n" % numbers(i))
    fixed = Frame(type="fixed", sync=b"U", size=8)
    yield "fixed frames, sum8", (plan("struct", *three, frame=fixed, checksum=Checksum(type="sum8")), summed)
    yield "slip", (plan("struct", *three, frame=Frame(type="slip")), slip)
    yield "cobs", (plan("struct", *three, frame=Frame(type="cobs")), cobs)
    yield (
        "dle",
        (
            plan("struct", *three, frame=Frame(type="dle")),
            lambda i: b"\x10\x02" + record(i).replace(b"\x10", b"\x10\x10") + b"\x10\x03",
        ),
    )
    yield (
        "12 points of a frame as tensors",
        (
            plan("struct", field("_", dtype="uint16"), points, frame=Frame(type="fixed", size=38)),
            lambda i: bytes(38),
        ),
    )
    yield (
        "mavlink",
        (
            plan(
                "struct",
                field("_", dtype="uint8", shape=(9,)),
                field("a", dtype="float32", shape=(6,)),
                frame=Frame(type="mavlink", crc_extra={"30": 39}),
            ),
            mavlink,
        ),
    )
    yield "ubx", (plan("ubx", "lat", "lon", "speed", frame=Frame(type="ubx")), ubx)
    yield "nmea, an epoch of two sentences", (plan("nmea", "lat", "lon", "speed"), epoch)
    yield "vedirect, a block of 18 lines", (plan("vedirect", "V", "I", "PPV", frame=Frame(type="vedirect")), vedirect)
    yield (
        "dsmr, a telegram of 42 lines",
        (
            plan("dsmr", field("p", path=("1-0:1", 7, 0)), frame=Frame(type="dsmr")),
            telegram,
        ),
    )


def main() -> None:
    jobs: list[tuple[str, float, int, StreamDecoder, bytes, list[int]]] = []
    for name, (planned, sends) in kinds():
        count = 2000 if len(sends(1)) < 60 else 200
        data = b"".join(map(sends, range(count)))
        jobs.append((name, len(data) / count, count, make_stream_decoder(planned), data, []))
    for _ in range(ROUNDS + 1):
        for _, _, _, decoder, data, spent in jobs:
            begin = process_time_ns()
            for at in range(0, len(data), READ_BYTES):
                decoder.feed(data[at : at + READ_BYTES])
            spent.append(process_time_ns() - begin)
    base = 0.0
    print("| kind | bytes a row | us a row | times csv | times csv, a byte |\n|---|---|---|---|---|")
    for name, size, count, _, _, spent in jobs:
        cost = median(spent[1:]) / count / 1000
        base = base or cost / size
        first = base * jobs[0][1]
        print(f"| {name} | {size:.0f} | {cost:.2f} | {cost / first:.1f} | {cost / size / base:.1f} |")


if __name__ == "__main__":
    main()
