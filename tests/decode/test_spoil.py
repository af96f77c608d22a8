"""A byte that came damaged costs the frame that it belongs to, and no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edged.config.schema import Checksum, Decode, FieldSpec, Frame
from edged.decode import DecodePlan, plan_decode
from edged.decode.stream import StreamDecoder, make_stream_decoder

CSV = Decode(format="csv", fields=(FieldSpec(name="a"), FieldSpec(name="b")))
WORDS = Decode(format="struct", dtype="uint8", fields=(FieldSpec(name="a", dtype="uint8"), FieldSpec(name="b", dtype="uint8")))


def decoder(decode: Decode, **keys: Any) -> StreamDecoder:
    plan = plan_decode(decode, **keys)
    assert isinstance(plan, DecodePlan), plan
    return make_stream_decoder(plan)


def rows(stream: StreamDecoder, *pieces: bytes | None) -> list[list[float]]:
    """The rows of some pieces; None stands for a damaged byte."""
    found: list[list[float]] = []
    for piece in pieces:
        if piece is None:
            stream.spoil()
            continue
        got = stream.feed(piece)
        assert got is None or not got.rejects, got
        found += np.asarray(got.values).tolist() if got is not None else []
    return found


@pytest.mark.parametrize("cut", range(5))
def test_a_line_is_lost_wherever_its_byte_was_damaged(cut: int) -> None:
    line = b"3,41"
    assert rows(decoder(CSV), b"1,2\n" + line[:cut], None, line[cut + 1 :] + b"\n5,6\n") == [[1, 2], [5, 6]]


@pytest.mark.parametrize("cut", range(3))
@pytest.mark.parametrize("sync", [None, b"\xaa"])
def test_frames_of_one_size_stay_in_step(cut: int, sync: bytes | None) -> None:
    frame = Frame(type="fixed", size=2 + len(sync or b""), sync=sync)
    start = sync or b""
    damaged = start + b"\xaa\xaa"  # looks like the start of a frame
    if cut >= len(damaged) or (sync and cut == 0):
        return
    stream = decoder(WORDS, frame=frame)
    found = rows(stream, start + b"\x01\x02" + damaged[:cut], None, damaged[cut + 1 :] + start + b"\x05\x06")
    assert found == [[1, 2], [5, 6]]


def test_a_frame_with_a_length_is_passed_over_by_it() -> None:
    frame = Frame(type="length", sync=b"\xaa", length="uint8")
    stream = decoder(WORDS, frame=frame, checksum=Checksum(type="sum8", start=1))
    good = bytes.fromhex("aa 02 01 02 05")
    assert rows(stream, good + b"\xaa\x02\xaa", None, b"\x05" + good) == [[1, 2], [1, 2]]


def test_a_header_is_not_looked_for_again() -> None:
    stream = decoder(Decode(format="csv", header=True, fields=(FieldSpec(name="b"),)))
    assert rows(stream, b"a,b\n1,2\n3", None, b"4\n5,6\n") == [[2], [6]]
