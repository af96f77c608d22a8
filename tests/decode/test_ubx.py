import struct
from typing import Any

import numpy as np
import pytest

from edged.config.schema import Frame
from edged.decode.checksums import KINDS
from edged.decode.stream import make_stream_decoder
from edged.records import ON_ARRIVAL, Rows
from tests.support.decode_plans import field, plan, refused


def ubx(kind: bytes, payload: bytes) -> bytes:
    body = kind + struct.pack("<H", len(payload)) + payload
    return b"\xb5b" + body + struct.pack("<H", KINDS["fletcher8"].one(body))


def pvt(fix: int = 3, flags: int = 1, valid: int = 7, size: int = 92) -> bytes:
    payload = bytearray(size)
    struct.pack_into("<IHBBBBBB", payload, 0, 1000, 2026, 1, 31, 12, 0, 5, valid)
    struct.pack_into("<iBB", payload, 16, 500_000_000, fix, flags)
    payload[23] = 12
    struct.pack_into("<iiii", payload, 24, 115_166_667, 481_173_000, 600_000, 545_400)
    struct.pack_into("<iii", payload, 56, -250, 11_520, 8_440_000)
    struct.pack_into("<H", payload, 76, 150)
    return ubx(b"\x01\x07", bytes(payload))


def fed(names: list[str], *frames: bytes, **keys: Any) -> Rows:
    planned = plan("ubx", *(field(name) for name in names), frame=Frame(type="ubx"), dtype=np.float64, **keys)
    rows = make_stream_decoder(planned).feed(b"".join(frames))
    assert rows is not None
    return rows


def test_names_and_units() -> None:
    names = ["lat", "lon", "alt", "speed", "track", "climb", "satellites", "pdop", "mode"]
    rows = fed(names, pvt(), ubx(b"\x01\x03", bytes(16)), pvt(size=84))
    sample = pytest.approx([48.1173, 11.5166667, 545.4, 11.52, 84.4, 0.25, 12, 1.5, 3])
    assert rows.values.tolist() == [sample, sample]
    assert refused(rows.rejects) == {"other": 1}
    assert rows.time is not None
    assert str(np.datetime64(rows.time.tolist()[0], "ns")) == "2026-01-31T12:00:05.500000000"


def test_without_a_fix_or_a_time() -> None:
    rows = fed(["lat", "satellites"], pvt(fix=0), pvt(flags=0), pvt(fix=5), pvt())
    assert rows.values.tolist() == [[pytest.approx(48.1173), 12]]
    assert refused(rows.rejects) == {"missing": 3}
    early = fed(["satellites"], pvt(valid=0), pvt())
    assert early.time is not None
    assert early.time.tolist() == [ON_ARRIVAL] * 2


def test_damage_and_short_messages_are_refused() -> None:
    bad = bytearray(pvt())
    bad[40] ^= 1
    rows = fed(["lat"], bytes(bad), ubx(b"\x01\x07", bytes(20)), pvt())
    assert len(rows.values) == 1
    assert refused(rows.rejects) == {"checksum": 1, "short": 1}
