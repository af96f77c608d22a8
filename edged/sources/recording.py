"""Recordings: what a source sent, byte for byte, with the times at which it came. Written by `edged record`, and by the daemon
for inputs that are worth a look (`samples` of a pipeline).

The file, all numbers little-endian:

    magic     the 18 bytes "edged recording 1\\n"
    header    one line of JSON: "kind" ("serial", "mqtt" or "modbus"), "source" (its name), "monotonic_ns" and "utc_ns" (both
              clocks at the start), and of what was kept for one result "sample" (what that was, and its label); readers
              ignore keys that they do not know
    records   uint64 ns since the start, uint32 length, then so many bytes:
              serial: one read of the port, cut wherever the reads fell
              mqtt:   uint16 length of the topic, the topic, the payload
              modbus: a sample of a unit: its address, then the registers of each field, of a bit 0 or 1

A file ends wherever its writer was stopped: a record that is not whole is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from edged.clock.clock import Clock

MAGIC = b"edged recording 1\n"
MAX_BYTES = 1 << 62
"""A recording may be as long as a disk: it is never in memory whole."""
RECORD_BYTES = 64 * 1024 * 1024
"""No record is longer; a length above is damage."""

_HEADER_BYTES = 64 * 1024
_RECORD = struct.Struct("<QI")
_TOPIC = struct.Struct("<H")


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of a recording that was kept for one result: `why` (`unsure` or `audit`), the `key`, the time of that result (UTC ns), the
    result as it was published, and what it should have been, once somebody has said so."""

    pipeline: str
    why: str
    time_ns: int
    result: msgspec.Raw
    key: str = ""
    label: str = ""


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was recorded, and what the two clocks said when it began."""

    kind: str
    source: str
    monotonic_ns: int
    utc_ns: int
    sample: Sample | None = None


class Record(NamedTuple):
    """What came in `since_ns` after the start. `topic` is empty in a recording of a serial port."""

    since_ns: int
    topic: bytes
    data: bytes


class Recorder:
    """`with Recorder(path, "serial", "accel", clock) as recorder: recorder.add(data)`. Overwrites the file.

    `count` and `size` tell how many records and bytes are in it. Raises OSError where the file cannot be written.
    """

    def __init__(self, path: Path, kind: str, source: str, clock: Clock) -> None:
        self.count = 0
        self.size = 0
        self._path = path
        self._kind = kind
        self._source = source
        self._clock = clock

    def __enter__(self) -> Recorder:
        self._start = self._clock.now()
        header = Header(self._kind, self._source, self._start, self._clock.utc())
        self._file: BinaryIO = self._path.open("wb")
        self._file.write(head_of(header))
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, data: bytes, topic: bytes = b"") -> None:
        """One read of a port, or one message with its topic; came in just now."""
        record = record_of(self._kind, Record(self._clock.now() - self._start, topic, data))
        self._file.write(record)
        self.count += 1
        self.size += len(record) - _RECORD.size

    def flush(self) -> None:
        """Hands everything to the system, so that a kill loses nothing of it."""
        self._file.flush()


def head_of(header: Header) -> bytes:
    """What a recording begins with."""
    return MAGIC + msgspec.json.encode(header) + b"\n"


def record_of(kind: str, record: Record) -> bytes:
    """One record of it."""
    topic = _TOPIC.pack(len(record.topic)) + record.topic if kind == "mqtt" else b""
    return _RECORD.pack(record.since_ns, len(topic) + len(record.data)) + topic + record.data


def read_header(file: BinaryIO) -> Header | None:
    """The header of a recording, leaving `file` at its first record; None, and `file` at its start, for any other file.

    Raises ValueError when it begins as a recording but its header is damaged.
    """
    if file.read(len(MAGIC)) != MAGIC:
        file.seek(0)
        return None
    try:
        return msgspec.json.decode(file.readline(_HEADER_BYTES), type=Header)
    except (msgspec.DecodeError, RecursionError) as e:
        raise ValueError(f"the header of the recording is damaged: {e}") from e


def read_records(file: BinaryIO, kind: str) -> Iterator[Record]:
    """The records from where `file` stands, as long as they are whole."""
    while len(head := file.read(_RECORD.size)) == _RECORD.size:
        since_ns, length = _RECORD.unpack(head)
        if length > RECORD_BYTES:
            return
        data = file.read(length)
        if len(data) < length:
            return
        if kind != "mqtt":
            yield Record(since_ns, b"", data)
        elif length >= _TOPIC.size and (end := _TOPIC.size + _TOPIC.unpack_from(data)[0]) <= length:
            yield Record(since_ns, data[_TOPIC.size : end], data[end:])
