from __future__ import annotations

from edged.sources.counts import Arrival
from edged.sources.recent import OVERHEAD, Recent


class Source:
    """Decodes one row a byte, after what came was taken."""

    def __init__(self, max_bytes: int = 1 << 20) -> None:
        self.rows = 0
        self.recent = Recent(max_bytes, lambda: self.rows)

    def came(self, time: int, data: bytes, key: str = "") -> None:
        self.recent.take(Arrival(data, time, f"in/{key}".encode(), (key,)))
        self.rows += len(data)

    def clip(self, rows: int, until: int, key: str | None = "") -> list[bytes] | None:
        found = self.recent.clip(rows, until, None if key is None else [(0, key)] if key else [])
        return None if found is None else [one.data for one in found]


def test_of_one_sensor_the_reads_that_hold_the_newest_samples() -> None:
    source = Source()
    for time, data in enumerate((b"abc", b"de", b"fgh", b"i")):
        source.came(time, data)
    assert source.clip(1, 3) == [b"i"]
    assert source.clip(2, 3) == [b"fgh", b"i"]
    assert source.clip(4, 3) == [b"fgh", b"i"]
    assert source.clip(5, 3) == [b"de", b"fgh", b"i"]
    assert source.clip(3, 2) == [b"de", b"fgh"], "they may end with f; what came after the result is none of its inputs"
    assert source.clip(9, 3) == [b"abc", b"de", b"fgh", b"i"]
    assert source.clip(10, 3) is None, "it was not all here when it began"


def test_a_line_that_began_in_an_earlier_read() -> None:
    lines = 0
    recent = Recent(1 << 20, lambda: lines)
    for time, data in enumerate((b"1\n2\n3", b"4", b"5\n6\n", b"7\n")):
        recent.take(Arrival(data, time))
        lines += data.count(b"\n")
    found = [b"".join(one.data for one in recent.clip(rows, 3, []) or []) for rows in (1, 2, 3, 5)]
    assert found == [b"5\n6\n7\n", b"5\n6\n7\n", b"1\n2\n345\n6\n7\n", b"1\n2\n345\n6\n7\n"]
    assert recent.clip(6, 3, []) is None


def test_samples_that_end_within_a_read_of_many() -> None:
    lines = 0
    recent = Recent(1 << 20, lambda: lines)
    for time, data in enumerate((b"1\n2\n", b"3\n4\n5\n", b"6\n7\n8\n9\n")):
        recent.take(Arrival(data, time))
        lines += data.count(b"\n")
    assert [one.data for one in recent.clip(4, 2, []) or []] == [b"1\n2\n", b"3\n4\n5\n", b"6\n7\n8\n9\n"], "3 to 6"
    assert len(recent.clip(9, 2, []) or []) == 3
    assert recent.clip(10, 2, []) is None


def test_of_many_sensors_the_messages_of_one() -> None:
    source = Source()
    for time, key in enumerate("ababb"):
        source.came(time, f"{key}{time}".encode(), key)
    assert source.clip(1, 4, "b") == [b"b4"]
    assert source.clip(2, 4, "a") == [b"a0", b"a2"]
    assert source.clip(2, 3, "b") == [b"b1", b"b3"]
    assert source.clip(3, 4, "a") is None
    assert source.clip(1, 4, None) == [b"a0", b"b1", b"a2", b"b3", b"b4"], "only the data tell whose they are"


def test_messages_of_one_read_stay_together() -> None:
    source = Source()
    for time, data in ((1, b"x"), (5, b"y"), (5, b"z")):
        source.came(time, data, "k")
    assert source.clip(1, 5, "k") == [b"y", b"z"]


def test_is_bounded_in_bytes() -> None:
    source = Source(max_bytes=3 * (OVERHEAD + 10))
    for time in range(100):
        source.came(time, b"0123456789")
    assert source.recent.bytes == 3 * (OVERHEAD + 10)
    assert source.clip(21, 99) == [b"0123456789"] * 3
    assert source.clip(22, 99) is None
    source.came(100, b"x" * 10_000)
    assert source.recent.bytes == 0
    assert source.clip(1, 100) is None
