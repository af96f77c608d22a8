from itertools import pairwise

from edged.config.schema import Frame
from edged.decode.checksums import FEW, Checksum
from edged.decode.shapes import Pattern, Sized
from edged.notation.markers import OpenMarker


def test_a_pattern_finds_markers_and_their_beginnings() -> None:
    marker = Pattern(b"\xaa\x55")
    assert marker.find(b"xx\xaa\x55", 0) == 2
    assert marker.find(b"xxx\xaa", 0) == 3
    assert marker.find(b"xxxx", 0) == 4
    assert Pattern(OpenMarker(("1100....",))).find(b"\x10\xcf", 0) == 1


def test_where_frames_of_one_length_are_cut_is_a_range() -> None:
    shape = Sized(Frame(type="length", sync=b"\xaa", length="uint8"), None, 300)
    data = b"\xaa\x02ab" * (FEW + 1) + b"\xaa\x01c"
    cuts = shape.follow(data, 0, 1024)
    assert isinstance(cuts, range)
    assert list(pairwise(cuts))[-1] == (4 * FEW, 4 * FEW + 4)
    assert shape.payloads(data, cuts) == [b"ab"] * (FEW + 1)
    assert list(shape.follow(data, cuts[-1], 1024)) == [cuts[-1], len(data)]


def test_why_a_frame_is_none() -> None:
    shape = Sized(Frame(type="fixed", sync=b"\xaa", size=5, tail=b"\x0a"), Checksum("sum8"), 300)
    assert shape.reason(b"\xaa12\x00\x0a") == "checksum"
    assert shape.why_bad(b"\xaa12\x00\x0a", is_first=False) == "sum8 is 0x0d, the frame says 0x00"
    assert shape.reason(b"\xaa12\x00\x0b") == "no_frame"
    assert "end marker 0a" in shape.why_bad(b"\xaa12\x00\x0b", is_first=False)
    assert shape.why_none(b"\xab", 0) == ("no_frame", "expected the start marker aa")
