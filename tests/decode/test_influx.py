from __future__ import annotations

import pytest

from edged.decode import Arrived, make_payload_decoder
from edged.decode.influx import points
from edged.decode.values import BadPayload
from tests.support.decode_plans import plan, reasons


def test_a_point() -> None:
    (point,) = points(b'my\\ m,host=a\\,b,x=y\\=z f=1.5,i=3i,u=4u,t=T,no=false,s="a \\"q\\", b=c",name=7 12\n# a comment\n\n')
    assert point["name"] == "my m"
    assert point["tags.host"] == "a,b"
    assert [point[name] for name in ("f", "fields.i", "u", "t", "no")] == [1.5, 3, 4, True, False]
    assert point["s"] == 'a "q", b=c'
    assert point["fields.name"] == 7
    assert point["time"] == "12"


@pytest.mark.parametrize("line", [b"m", b"m ", b"m f", b"m f=", b"m f=1,", b"m f=x", b'm f="x', b",a=b f=1", b"\xff f=1"])
def test_what_is_no_point(line: bytes) -> None:
    with pytest.raises(BadPayload):
        points(line)


def test_a_point_without_a_time_was_taken_now() -> None:
    decoder = make_payload_decoder(plan("influx", "v"))
    rows = decoder.decode([b"m v=1 5\nm v=2\nm w=3\nm v=4 x"], None, Arrived((), 0, 77))
    assert rows.values.tolist() == [[1], [2]]
    assert rows.time is not None
    assert rows.time.tolist() == [5, 77]
    assert reasons(rows.rejects) == ["other", "not_a_number"]


def test_the_precision_of_its_times() -> None:
    rows = make_payload_decoder(plan("influx", "v", time=("", "unix_ms"))).decode([b"m v=1 1636000000123"])
    assert rows.time is not None
    assert rows.time.tolist() == [1_636_000_000_123 * 10**6]
