"""Writes the copy of an ONNX file that is loaded, from the fields that are understood, and nothing else.

    every field of the table below, in its canonical form      what onnxruntime will see
    unknown fields, fields of another wire type                dropped, as its parser would
    weights in other files                                     place and length, of files that were looked at
    all that has two readings (64-bit tags, long numbers)      refused

So whatever onnxruntime's parser makes of odd bytes, and whatever names have a meaning of their own to it, it meets neither. A
file that a well-behaved exporter wrote comes out byte for byte as it was. Only the structure is held in memory; weights are
copied by their places.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from edged.model.protobuf import BYTES, FIXED32, FIXED64, VARINT, Wire, tag, varint

MAX_NESTED = 100  # messages within messages, as protobuf has it
MAX_MESSAGES = 3_000_000
MAX_STRUCTURE = 64 << 20  # of names, shapes and small constants
SMALL = 1 << 10  # bytes that are rather kept than looked up again
BLOCK = 1 << 20
NUMBER = re.compile(rb"[0-9]{1,18}")

INT, DATA, FLOAT = (VARINT,), (BYTES,), (FIXED32,)
INTS, FLOATS, DOUBLES = (VARINT, BYTES), (FIXED32, BYTES), (FIXED64, BYTES)  # one by one, or packed
Kind = tuple[int, ...] | str | range
"""The wire types that a field may have, or the name of its message, or the numbers of an enumeration."""

ENTRY = "StringStringEntry"
MESSAGES: dict[str, dict[int, Kind]] = {  # onnx.proto
    "Model": {
        1: INT, 2: DATA, 3: DATA, 4: DATA, 5: INT, 6: DATA, 7: "Graph", 8: "OperatorSet", 14: ENTRY, 20: "TrainingInfo",
        25: "Function", 26: "DeviceConfiguration",
    },
    "Graph": {
        1: "Node", 2: DATA, 5: "Tensor", 10: DATA, 11: "ValueInfo", 12: "ValueInfo", 13: "ValueInfo", 14: "Annotation",
        15: "SparseTensor", 16: ENTRY,
    },
    "Node": {
        1: DATA, 2: DATA, 3: DATA, 4: DATA, 5: "Attribute", 6: DATA, 7: DATA, 8: DATA, 9: ENTRY, 10: "NodeDevice",
    },
    "Attribute": {
        1: DATA, 2: FLOAT, 3: INT, 4: DATA, 5: "Tensor", 6: "Graph", 7: FLOATS, 8: INTS, 9: DATA, 10: "Tensor", 11: "Graph",
        13: DATA, 14: "Type", 15: "Type", 20: range(15), 21: DATA, 22: "SparseTensor", 23: "SparseTensor",
    },
    "Function": {
        1: DATA, 2: INT, 4: DATA, 5: DATA, 6: DATA, 7: "Node", 8: DATA, 9: "OperatorSet", 10: DATA, 11: "Attribute",
        12: "ValueInfo", 13: DATA, 14: ENTRY,
    },
    "Tensor": {
        1: INTS, 2: INT, 3: "Segment", 4: FLOATS, 5: INTS, 6: DATA, 7: INTS, 8: DATA, 9: DATA, 10: DOUBLES, 11: INTS, 12: DATA,
        14: range(2), 16: ENTRY,
    },
    "Segment": {1: INT, 2: INT},
    "SparseTensor": {1: "Tensor", 2: "Tensor", 3: INTS},
    "ValueInfo": {1: DATA, 2: "Type", 3: DATA, 4: ENTRY},
    "Type": {
        1: "TensorType", 4: "ElementType", 5: "MapType", 6: DATA, 7: "OpaqueType", 8: "TensorType", 9: "ElementType",
    },
    "TensorType": {1: INT, 2: "Shape"},
    "ElementType": {1: "Type"},
    "MapType": {1: INT, 2: "Type"},
    "OpaqueType": {1: DATA, 2: DATA},
    "Shape": {1: "Dimension"},
    "Dimension": {1: INT, 2: DATA, 3: DATA},
    "OperatorSet": {1: DATA, 2: INT},
    ENTRY: {1: DATA, 2: DATA},
    "Annotation": {1: DATA, 2: ENTRY},
    "TrainingInfo": {1: "Graph", 2: "Graph", 3: ENTRY, 4: ENTRY},
    "DeviceConfiguration": {1: DATA, 2: INT, 3: DATA},
    "NodeDevice": {1: DATA, 2: "Sharding", 3: INT},
    "Sharding": {1: DATA, 2: INTS, 3: "IntIntList", 4: "ShardedDimension"},
    "IntIntList": {1: INT, 2: INTS},
    "ShardedDimension": {1: INT, 2: "SimpleSharding"},
    "SimpleSharding": {1: INT, 2: DATA, 3: INT},
}  # fmt: skip
TENSOR_DATA = frozenset({3, 4, 5, 6, 7, 9, 10, 11})
EXTERNAL, LOCATION = 13, 14  # fields of a tensor: where its data lies, and whether that counts
IN_FILE, OUTSIDE = 0, 1


class Weights(NamedTuple):
    """A file of weights: how it is called in the copy, and its bytes."""

    name: str
    size: int


class _Parts(msgspec.Struct):
    """What is to be written: bytes as they will be, or the place of some in the original. `size`: all of it."""

    parts: list[bytearray | tuple[int, int]] = msgspec.field(default_factory=list)
    size: int = 0

    def add(self, data: bytes | bytearray) -> None:
        self.size += len(data)
        if self.parts and isinstance(last := self.parts[-1], bytearray):
            last += data
        else:
            self.parts.append(bytearray(data))

    def add_place(self, start: int, end: int) -> None:
        self.size += end - start
        self.parts.append((start, end))

    def add_all(self, other: _Parts) -> None:
        for part in other.parts:
            if isinstance(part, tuple):
                self.add_place(*part)
            else:
                self.add(part)


def written(fd: int, size: int, weights: Mapping[str, Weights]) -> Iterator[bytes]:
    """The copy of the ONNX file at `fd`, in blocks. `weights`: the files that it may name, by the names that it has for them.

    Raises `ValueError`, all of it before the first block, but for a file that becomes shorter.
    """
    return _blocks(fd, _Writer(Wire(fd, size), weights).message("Model", 0, size, 0))


def _blocks(fd: int, whole: _Parts) -> Iterator[bytes]:
    for part in whole.parts:
        if not isinstance(part, tuple):
            yield bytes(part)
            continue
        at, end = part
        while at < end:
            block = os.pread(fd, min(BLOCK, end - at), at)
            if not block:
                raise ValueError("it became shorter while it was read")
            yield block
            at += len(block)


class _Writer(msgspec.Struct):
    wire: Wire
    weights: Mapping[str, Weights]
    messages: int = 0
    structure_bytes: int = 0

    def message(self, name: str, start: int, end: int, depth: int) -> _Parts:
        self.messages += 1
        if self.messages > MAX_MESSAGES:
            raise ValueError(f"more than {MAX_MESSAGES} parts")
        if depth > MAX_NESTED:
            raise ValueError(f"parts nested more than {MAX_NESTED} deep")
        if name == "Tensor":
            return self._tensor(start, end, depth)
        return self._fields(name, start, end, depth)

    def _fields(self, name: str, start: int, end: int, depth: int, without: frozenset[int] = frozenset()) -> _Parts:
        known, out = MESSAGES[name], _Parts()
        for number, wire, a, b in self.wire.fields(start, end):
            kind = known.get(number)
            if kind is None or number in without:
                continue
            if isinstance(kind, str):
                if wire == BYTES:
                    inner = self.message(kind, a, b, depth + 1)
                    out.add(tag(number, BYTES) + varint(inner.size))
                    out.add_all(inner)
            elif a in kind and wire == VARINT if isinstance(kind, range) else wire in kind:
                self._value(out, number, wire, a, b)
        return out

    def _value(self, out: _Parts, number: int, wire: int, a: int, b: int) -> None:
        if wire == VARINT:
            data = tag(number, wire) + varint(a)
        elif wire != BYTES:
            data = tag(number, wire) + self.wire.read(a, b)
        elif b - a <= SMALL:
            data = tag(number, wire) + varint(b - a) + self.wire.read(a, b)
        else:
            data = tag(number, wire) + varint(b - a)
            out.add(data)
            out.add_place(a, b)
            data = b""
        out.add(data)
        self.structure_bytes += len(data)
        if self.structure_bytes > MAX_STRUCTURE:
            raise ValueError(f"more than {MAX_STRUCTURE >> 20} MiB of names, shapes and small constants")

    def _tensor(self, start: int, end: int, depth: int) -> _Parts:
        where = IN_FILE
        entries: dict[bytes, bytes] = {}
        for number, wire, a, b in self.wire.fields(start, end):
            if number == LOCATION and wire == VARINT:
                where = a
                if where not in (IN_FILE, OUTSIDE):
                    raise ValueError(f"a tensor whose data lies in a place of kind {where}")
            elif number == EXTERNAL and wire == BYTES:
                key, value = self._entry(a, b)
                entries[key] = value
        if where == IN_FILE:
            return self._fields("Tensor", start, end, depth)
        out = self._fields("Tensor", start, end, depth, without=TENSOR_DATA | {LOCATION})
        for key, value in self._place(entries).items():
            entry = b"".join(tag(n, BYTES) + varint(len(x)) + x for n, x in ((1, key), (2, value)))
            out.add(tag(EXTERNAL, BYTES) + varint(len(entry)) + entry)
        out.add(tag(LOCATION, VARINT) + varint(OUTSIDE))
        return out

    def _entry(self, start: int, end: int) -> tuple[bytes, bytes]:
        found = {1: b"", 2: b""}
        for number, wire, a, b in self.wire.fields(start, end):
            if number in found and wire == BYTES:
                if b - a > SMALL:
                    raise ValueError(f"a text of {b - a} bytes at byte {a}")
                found[number] = self.wire.read(a, b)
        return found[1], found[2]

    def _place(self, entries: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Where the data of a tensor lies, in our words."""
        location = entries.get(b"location", b"").decode("utf-8", "replace")
        file = self.weights.get(location)
        if file is None:
            raise ValueError(f"its weights lie in {location!r}, which is not one of its files")
        place = {b"location": file.name.encode()}
        for key in (b"offset", b"length"):
            if key in entries:
                if not NUMBER.fullmatch(entries[key]):
                    raise ValueError(f"{key.decode()} of weights in {location!r} is not a number")
                place[key] = b"%d" % int(entries[key])
        reach = int(place.get(b"offset", b"0")) + int(place.get(b"length", b"0"))
        if reach > file.size:
            raise ValueError(f"its weights reach to byte {reach} of {location!r}, which has {file.size}")
        return place
