"""Bytes that the driver found wrong, taken out of what was read.

With PARMRK a byte with a parity or framing error comes as FF 00 and the byte, a break as FF 00 00, and a byte that is FF as
FF FF. Pure.
"""

from __future__ import annotations

MARK = 0xFF


class Marks:
    """Any chopping of the stream gives the same bytes, and the same places."""

    def __init__(self) -> None:
        self._held = b""

    def take(self, data: bytes) -> tuple[bytes, list[int]]:
        """The good bytes, and where between them a bad one stood: so many good ones came before it."""
        if self._held:
            data = self._held + data
            self._held = b""
        if MARK not in data:
            return data, []
        good = bytearray()
        bad: list[int] = []
        at = 0
        while (mark := data.find(MARK, at)) >= 0:
            good += data[at:mark]
            at = mark + 1
            follows = data[at : at + 2]
            if not follows or (follows[0] == 0 and len(follows) < 2):
                self._held = data[mark:]
                return bytes(good), bad
            if follows[0] == 0:
                bad.append(len(good))
                at += 2
            else:
                good.append(MARK)  # doubled; single where another program has taken PARMRK off
                at += follows[0] == MARK
        good += data[at:]
        return bytes(good), bad
