"""Segments: heads and records survive the way to bytes and back, and damage is never taken for a record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.spool.segment import (
    HEAD_BYTES,
    MARKER,
    VERSION,
    BadHead,
    Head,
    Record,
    find_record,
    read_head,
    read_record,
    write_head,
    write_record,
)

HEAD = Head(bytes(range(16)), 7, 3, 123456789, "main")
numbers = st.integers(0, 2**63 - 1)
texts = (st.binary(max_size=50), st.binary(max_size=200))
records = st.builds(Record, numbers, *texts, st.booleans(), st.just(0), st.just(0), st.booleans(), st.just(0) | numbers)


def test_head() -> None:
    data = write_head(HEAD)
    assert len(data) == HEAD_BYTES
    assert read_head(data + b"more") == HEAD


@pytest.mark.parametrize("size", range(0, HEAD_BYTES, 7))
def test_short_head(size: int) -> None:
    with pytest.raises(BadHead):
        read_head(write_head(HEAD)[:size])


@given(st.integers(0, HEAD_BYTES * 8 - 1))
def test_every_flipped_bit_of_a_head_is_noticed_and_none_makes_it_newer(bit: int) -> None:
    data = bytearray(write_head(HEAD))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadHead) as raised:
        read_head(bytes(data))
    assert raised.value.version == 0


def test_newer_version() -> None:
    data = bytearray(write_head(HEAD))
    data[8] = VERSION + 1
    data[-4:] = b"what"
    with pytest.raises(BadHead, match="newer edged") as raised:
        read_head(bytes(data))
    assert raised.value.version == VERSION + 1


@given(records, st.binary(max_size=20), st.binary(max_size=20))
def test_record(record: Record, before: bytes, after: bytes) -> None:
    data = write_record(record)
    assert read_record(before + data + after, len(before)) == (record, len(before) + len(data))


def test_times_are_kept() -> None:
    record = Record(1, b"t", b"b", True, -5, 1_700_000_000_000_000_000)
    found = read_record(write_record(record), 0)
    assert found is not None
    assert found[0] == record


@given(st.lists(records, min_size=1, max_size=6), st.data())
def test_one_flipped_bit_costs_one_record(some: list[Record], data: st.DataObject) -> None:
    parts = [write_record(r) for r in some]
    whole = bytearray(b"".join(parts))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    found, at = [], 0
    while (one := find_record(bytes(whole), at)) is not None:
        found.append(one[0])
        at = one[1]
    hit = next(i for i in range(len(parts)) if bit // 8 < sum(map(len, parts[: i + 1])))
    assert found == some[:hit] + some[hit + 1 :]


@given(records, st.data())
def test_a_cut_record_is_none(record: Record, data: st.DataObject) -> None:
    whole = write_record(record)
    assert find_record(whole[: data.draw(st.integers(0, len(whole) - 1))], 0) is None


def test_markers_within_a_body_do_no_harm() -> None:
    inner = write_record(Record(9, b"t", b"inner", False, 0, 0))
    outer = Record(1, b"t", MARKER * 3 + inner, False, 0, 0)
    assert find_record(write_record(outer), 0) == (outer, len(write_record(outer)))
