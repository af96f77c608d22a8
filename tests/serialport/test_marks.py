from __future__ import annotations

import random

from edged.serialport.marks import Marks


def marked(data: bytes, bad: dict[int, int]) -> bytes:
    """As a driver with PARMRK hands it over; `bad` are damaged bytes by the number of good ones before them."""
    out = b""
    for i in range(len(data) + 1):
        if i in bad:
            out += bytes((0xFF, 0, bad[i]))
        if i < len(data):
            out += bytes((data[i], 0xFF)) if data[i] == 0xFF else data[i : i + 1]
    return out


def test_good_bytes_come_as_they_are_and_bad_ones_are_told_apart_however_they_are_cut() -> None:
    rng = random.Random(1)
    data = bytes(rng.choice(b"\x00\xff\x01a") for _ in range(300))
    bad = {at: rng.randrange(256) for at in (0, 17, 18, 150, 300)}
    stream = marked(data, bad)
    for size in (1, 2, 3, 7, len(stream)):
        marks, good, places = Marks(), b"", []
        for at in range(0, len(stream), size):
            piece, found = marks.take(stream[at : at + size])
            places += [len(good) + place for place in found]
            good += piece
        assert good == data
        assert places == sorted(bad)


def test_what_has_no_mark_is_not_touched() -> None:
    data = bytes(range(255))
    assert Marks().take(data) == (data, [])
