"""MAVLink frames, version 1 and 2: a length, a message id, and a CRC that also covers a byte that is never sent.

That byte (CRC_EXTRA) depends on the message, so only messages whose byte is known can be proved. The others are passed over by
their length, if another frame begins right behind them. Version 2 leaves out zeros at the end of a message.

Handed on: system, component, id (three bytes), payload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from edged.decode.checksums import KINDS, values_of
from edged.decode.shapes import Pattern, one_by_one

_V1, _V2 = 0xFE, 0xFD
_STARTS = (_V1, _V2)
_HEADS = {_V1: 6, _V2: 10}
"""Bytes before the payload."""
_CRC_BYTES = 2
_SIGNATURE_BYTES = 13
_IS_SIGNED = 1
_CRC = KINDS["crc16-mcrf4xx"]
HEAD_BYTES = 5
"""Of what is handed on, before the payload."""


class Mavlink:
    """A shape. `extras` are the CRC_EXTRA of the messages that are wanted."""

    is_proving = True

    def __init__(self, extras: Mapping[int, int]) -> None:
        self._extras = {id: bytes([extra]) for id, extra in extras.items()}
        self._starts = Pattern(bytes([_V1])), Pattern(bytes([_V2]))

    def find(self, buffer: bytes, at: int) -> int:
        return min(one.find(buffer, at) for one in self._starts)

    def size_at(self, buffer: bytes, at: int) -> int:
        """A message that cannot be proved counts as one when the next frame begins behind it."""
        held = len(buffer) - at
        if not held:
            return 0
        head = _HEADS.get(buffer[at], 0)
        if not head:
            return -1
        if held < head:
            return 0
        signature = _SIGNATURE_BYTES if head == _HEADS[_V2] and buffer[at + 2] & _IS_SIGNED else 0
        size = head + buffer[at + 1] + _CRC_BYTES + signature
        if self._id(buffer, at) in self._extras or held < size:
            return size
        if held == size:
            return 0
        return size if buffer[at + size] in _STARTS else -1

    def _id(self, buffer: bytes, at: int) -> int:
        if buffer[at] == _V1:
            return buffer[at + 5]
        return int.from_bytes(buffer[at + 7 : at + 10], "little")

    def follow(self, buffer: bytes, at: int, most: int) -> Sequence[int]:
        return one_by_one(self, buffer, at, most)

    def first_bad(self, buffer: bytes, cuts: Sequence[int]) -> int:
        known = [(i, at, self._extras[id]) for i, at in enumerate(cuts[:-1]) if (id := self._id(buffer, at)) in self._extras]
        wanted = values_of(_CRC, [_covered(buffer, at) + extra for _, at, extra in known])
        return next((i for (i, at, _), one in zip(known, wanted, strict=True) if one != _said(buffer, at)), len(cuts) - 1)

    def payloads(self, buffer: bytes, cuts: Sequence[int]) -> Sequence[bytes | None]:
        return [self._payload(buffer, start) for start, _ in pairwise(cuts)]

    def _payload(self, buffer: bytes, at: int) -> bytes | None:
        id, head = self._id(buffer, at), _HEADS[buffer[at]]
        if id not in self._extras:
            return None
        sender = at + (3 if buffer[at] == _V1 else 5)
        payload = buffer[at + head : at + head + buffer[at + 1]]
        return buffer[sender : sender + 2] + id.to_bytes(3, "little") + payload

    def reason(self, frame: bytes) -> str:
        return "checksum"

    def why_bad(self, frame: bytes, is_first: bool) -> str:
        if len(frame) < _HEADS[frame[0]] or len(frame) != self.size_at(frame, 0) or self._id(frame, 0) not in self._extras:
            return f"the beginning of a frame, {frame[0]:02x}, and another frame {len(frame)} bytes behind it"
        id = self._id(frame, 0)
        wanted, found = _CRC.one(_covered(frame, 0) + self._extras[id]), _said(frame, 0)
        fix = f"; is crc_extra of message {id} right?" if is_first else ""
        return f"message {id}: the CRC is 0x{wanted:04x}, the frame says 0x{found:04x}{fix}"

    def why_none(self, buffer: bytes, at: int) -> tuple[str, str]:
        return "no_frame", "expected the start of a MAVLink frame, fe or fd"


def _covered(buffer: bytes, at: int) -> bytes:
    """The bytes of a frame that its CRC covers."""
    return buffer[at + 1 : at + _HEADS[buffer[at]] + buffer[at + 1]]


def _said(buffer: bytes, at: int) -> int:
    """What a frame says its CRC is."""
    stop = at + _HEADS[buffer[at]] + buffer[at + 1]
    return int.from_bytes(buffer[stop : stop + _CRC_BYTES], "little")
