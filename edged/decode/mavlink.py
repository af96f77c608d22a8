"""MAVLink frames, version 1 and 2: a length, a message id, and a CRC that also covers a byte that is never sent.

That byte (CRC_EXTRA) depends on the message, so only messages whose byte is known can be proved. The others are passed over by
their length, if another frame begins right behind them. Version 2 leaves out zeros at the end of a message.

Handed on: system, component, id (three bytes), payload.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Mapping, Sequence

from edged.decode.checksums import KINDS
from edged.decode.crc import MIRRORED
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
        self._v1 = {id: bytes([extra]) for id, extra in extras.items()}
        self._v2 = {id.to_bytes(3, "little"): bytes([extra]) for id, extra in extras.items()}
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
        size = head + buffer[at + 1] + _CRC_BYTES
        if head == _HEADS[_V2] and buffer[at + 2] & _IS_SIGNED:
            size += _SIGNATURE_BYTES
        if held < size or (held > size and buffer[at + size] in _STARTS) or self._extra(buffer, at) is not None:
            return size
        return 0 if held == size else -1

    def follow(self, buffer: bytes, at: int, most: int) -> Sequence[int]:
        return one_by_one(self, buffer, at, most)

    def _extra(self, buffer: bytes, at: int) -> bytes | None:
        return self._v1.get(buffer[at + 5]) if buffer[at] == _V1 else self._v2.get(buffer[at + 7 : at + 10])

    def first_bad(self, buffer: bytes, cuts: Sequence[int]) -> int:
        """The CRC of what it covers and of itself is 0."""
        v1, v2 = self._v1, self._v2
        for i, at in enumerate(cuts[:-1]):
            if buffer[at] == _V1:
                extra, stop = v1.get(buffer[at + 5]), at + 6 + buffer[at + 1]
            else:
                extra, stop = v2.get(buffer[at + 7 : at + 10]), at + 10 + buffer[at + 1]
            if extra is not None:
                proved = buffer[at + 1 : stop] + extra + buffer[stop : stop + 2]
                if crc_hqx(proved.translate(MIRRORED), 0xFFFF):
                    return i
        return len(cuts) - 1

    def payloads(self, buffer: bytes, cuts: Sequence[int]) -> Sequence[bytes | None]:
        v1, v2 = self._v1, self._v2
        found: list[bytes | None] = []
        for at in cuts[:-1]:
            if buffer[at] == _V1:
                payload = buffer[at + 3 : at + 6] + b"\0\0" + buffer[at + 6 : at + 6 + buffer[at + 1]]
                found.append(payload if buffer[at + 5] in v1 else None)
            else:
                found.append(buffer[at + 5 : at + 10 + buffer[at + 1]] if buffer[at + 7 : at + 10] in v2 else None)
        return found

    def reason(self, frame: bytes) -> str:
        return "checksum"

    def why_bad(self, frame: bytes, is_first: bool) -> str:
        extra = self._extra(frame, 0) if len(frame) >= _HEADS[frame[0]] else None
        if extra is None or len(frame) != self.size_at(frame, 0):
            return f"the beginning of a frame, {frame[0]:02x}, and another frame {len(frame)} bytes behind it"
        stop, id = _HEADS[frame[0]] + frame[1], frame[5] if frame[0] == _V1 else int.from_bytes(frame[7:10], "little")
        wanted, found = _CRC.one(frame[1:stop] + extra), int.from_bytes(frame[stop : stop + _CRC_BYTES], "little")
        fix = f"; is crc_extra of message {id} right?" if is_first else ""
        return f"message {id}: the CRC is 0x{wanted:04x}, the frame says 0x{found:04x}{fix}"

    def why_none(self, buffer: bytes, at: int) -> tuple[str, str]:
        return "no_frame", "expected the start of a MAVLink frame, fe or fd"
