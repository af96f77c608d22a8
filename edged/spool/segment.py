"""The bytes of a segment: one file of a log.

    head      magic, version, boot id, first sequence number, that of the file before, creation time, broker, CRC-32 of these
    record    marker, CRC-32 of what follows, size, sequence number, arrival on two clocks, flags, [not before], topic, body
    record    ...
    zeros     room for more

A record is whole or it is not there. After damage the search goes on at the next marker, and the sequence numbers tell
how many records are missing. Little-endian throughout.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

VERSION = 1
MAGIC = b"edgedlog"
MARKER = b"\xf5\x9e\xed\x9d"
_HEAD = struct.Struct("<8sH16sQQq64sI")
_RECORD = struct.Struct("<4sIIQqqBH")
HEAD_BYTES = _HEAD.size
RECORD_BYTES = _RECORD.size
"""Bytes of a record around topic and body."""
_CHECKED = 8  # the CRC covers a record from here on
_IS_JSON, _HAS_ARRIVAL, _IS_RETAINED, _IS_HELD = 1, 2, 4, 8
_DUE = struct.Struct("<q")


class BadHead(Exception):
    """A file that cannot be read as a segment. `version` is that of a newer edged, 0 if it is none of ours."""

    def __init__(self, reason: str, version: int = 0) -> None:
        super().__init__(reason)
        self.version = version


class Head(NamedTuple):
    """`first`: sequence number of the first record; `previous`: the `first` of the file before it, 0 for none; `created`:
    UTC ns; `boot`: the kernel's boot id, 16 bytes."""

    boot: bytes
    first: int
    previous: int
    created: int
    broker: str


class Record(NamedTuple):
    """One message. `arrival` is monotonic ns of its boot and `arrival_utc` the same moment in UTC, both 0 if unknown.
    `is_json`: the body lacks its last brace (see `records.Message`). `not_before`: UTC ns before which it is not sent, 0: now."""

    seq: int
    topic: bytes
    body: bytes
    is_json: bool
    arrival: int
    arrival_utc: int
    retain: bool = False
    not_before: int = 0

    @property
    def size(self) -> int:
        """Its bytes in a file."""
        return RECORD_BYTES + _DUE.size * (self.not_before != 0) + len(self.topic) + len(self.body)


def write_head(head: Head) -> bytes:
    data = _HEAD.pack(MAGIC, VERSION, head.boot, head.first, head.previous, head.created, head.broker.encode(), 0)[:-4]
    return data + crc32(data).to_bytes(4, "little")


def read_head(data: bytes) -> Head:
    """The head that `data` begins with. Raises BadHead."""
    if len(data) < HEAD_BYTES or not data.startswith(MAGIC):
        raise BadHead("not a segment of the spool")
    _, version, boot, first, previous, created, broker, _ = _HEAD.unpack_from(data)
    head = Head(boot, first, previous, created, broker.rstrip(b"\0").decode(errors="replace"))
    if write_head(head) == data[:HEAD_BYTES]:
        return head
    if version > VERSION and write_head(head)[-4:] != data[HEAD_BYTES - 4 : HEAD_BYTES]:  # else the version's own bits flipped
        raise BadHead(f"written by a newer edged (format {version}, this one reads {VERSION})", version)
    raise BadHead("its head is damaged")


def write_record(record: Record) -> bytes:
    is_held = record.not_before != 0
    flags = _IS_JSON * record.is_json | _HAS_ARRIVAL * (record.arrival != 0) | _IS_RETAINED * record.retain | _IS_HELD * is_held
    head = _RECORD.pack(MARKER, 0, record.size, record.seq, record.arrival, record.arrival_utc, flags, len(record.topic))
    due = _DUE.pack(record.not_before) if is_held else b""
    checked = head[_CHECKED:] + due + record.topic + record.body
    return MARKER + crc32(checked).to_bytes(4, "little") + checked


def read_record(data: bytes, at: int) -> tuple[Record, int] | None:
    """The record that begins at `at`, and where it ends; None unless it is whole."""
    if len(data) - at < RECORD_BYTES:
        return None
    marker, crc, size, seq, arrival, arrival_utc, flags, topic_size = _RECORD.unpack_from(data, at)
    stop = at + size
    is_held = bool(flags & _IS_HELD)
    begin = at + RECORD_BYTES + _DUE.size * is_held
    if marker != MARKER or stop > len(data) or begin + topic_size > stop:
        return None
    if crc != crc32(memoryview(data)[at + _CHECKED : stop]):
        return None
    body = begin + topic_size
    has_arrival = bool(flags & _HAS_ARRIVAL)
    arrival, arrival_utc = (arrival, arrival_utc) if has_arrival else (0, 0)
    not_before = _DUE.unpack_from(data, at + RECORD_BYTES)[0] if is_held else 0
    is_json, retain = bool(flags & _IS_JSON), bool(flags & _IS_RETAINED)
    return Record(seq, data[begin:body], data[body:stop], is_json, arrival, arrival_utc, retain, not_before), stop


def find_record(data: bytes, at: int) -> tuple[Record, int] | None:
    """The first whole record at or after `at`, and where it ends; None when there is none."""
    while (at := data.find(MARKER, at)) >= 0:
        found = read_record(data, at)
        if found is not None:
            return found
        at += 1
    return None
