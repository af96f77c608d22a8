"""CRCs, of one frame or of many at once.

A CRC is linear: the CRC of some bytes is the exclusive-or of what each byte contributes at its place, once the state from
before is exclusive-ored into the first of them. With a table of contributions for each of 256 places, a frame of any length
is a few chunks.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
_CHUNK_BYTES = 256
"""Places in the table of contributions of a CRC: 128 KiB of it."""
_PLACES = np.arange(0, 256 * _CHUNK_BYTES, 256, dtype=np.int32)
"""Where in it each place begins."""
_FOLDED = 32, 3000
"""So many bytes are folded faster than by the loop and by numpy, where the polynomial has few terms."""
_FOLDS = [(1 << k, 15 << k, (1 << (15 << k)) - 1) for k in range(11, -1, -1)]
_LONG_BYTES = 128
"""From here on the table of contributions is faster than the loop, for a single frame too."""


class Crc(NamedTuple):
    """A CRC as the catalogue of CRCs says it. `reflect`: least significant bit first, as modbus and kermit have it."""

    width: int
    poly: int
    init: int = 0
    xor: int = 0
    reflect: bool = False


MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _mirrored16(value: int) -> int:
    return MIRRORED[value & 0xFF] << 8 | MIRRORED[value >> 8]


def _crc_table(crc: Crc) -> tuple[int, ...]:
    return _table_of(crc.width, crc.poly, crc.reflect)


@lru_cache(maxsize=8)
def _table_of(width: int, poly: int, reflect: bool) -> tuple[int, ...]:
    mask, top = (1 << width) - 1, 1 << (width - 1)
    mirrored = int(f"{poly:0{width}b}"[::-1], 2)
    entries = []
    for byte in range(256):
        value = byte if reflect else byte << (width - 8)
        for _ in range(8):
            if reflect:
                value = (value >> 1) ^ (mirrored if value & 1 else 0)
            else:
                value = ((value << 1) & mask) ^ (poly if value & top else 0)
        entries.append(value)
    return tuple(entries)


@lru_cache(maxsize=8)
def _contributions(crc: Crc) -> NDArray[np.uint16]:
    """`[256, 256]`: what a byte at each place adds to the CRC, the last place last."""
    table = np.array(_crc_table(crc), np.uint16)
    places = np.empty((_CHUNK_BYTES, 256), np.uint16)
    places[-1] = table
    for place in range(_CHUNK_BYTES - 2, -1, -1):  # one more zero byte behind it
        after = places[place + 1]
        if crc.width == 8:
            places[place] = table[after]
        elif crc.reflect:
            places[place] = table[after & 0xFF] ^ (after >> 8)
        else:
            places[place] = table[after >> 8] ^ (after << np.uint16(8))
    return places


def crc_of(crc: Crc, covered: bytes) -> int:
    if crc.poly == 0x8005 and crc.width == 16 and _FOLDED[0] <= len(covered) <= _FOLDED[1]:
        return _crc_8005(crc, covered)
    if len(covered) > _LONG_BYTES:
        return int(crcs_of(crc, np.frombuffer(covered, np.uint8)[None])[0])
    table, value, shift = _crc_table(crc), crc.init, crc.width - 8
    if crc.reflect:
        for byte in covered:
            value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    else:
        mask = (1 << crc.width) - 1
        for byte in covered:
            value = table[(value >> shift) ^ byte] ^ ((value << 8) & mask)
    return value ^ crc.xor


def _crc_8005(crc: Crc, covered: bytes) -> int:
    """The bytes as one polynomial, folded until the rest is left: 0x8005 is x + 1 times x^15 + x + 1, by which x^(15k) is
    x^k + 1 where k is a power of two. What is left by x + 1 is whether the bits are even in number."""
    if crc.reflect:
        covered = covered.translate(MIRRORED)
    rest = (int.from_bytes(covered, "big") << 16) ^ (crc.init << 8 * len(covered))
    is_odd, size = rest.bit_count() & 1, rest.bit_length()
    for k, width, mask in _FOLDS:
        if size > width:
            while high := rest >> width:
                rest = (rest & mask) ^ high ^ (high << k)
    if rest.bit_count() & 1 != is_odd:
        rest ^= 0x8003
    return (_mirrored16(rest) if crc.reflect else rest) ^ crc.xor


def crcs_of(crc: Crc, rows: Bytes) -> Any:
    """All chunks of all rows at once, then those of each row one after the other: the CRC so far is two bytes more in front
    of the next chunk. Zeros before the first chunk make it as long as the others, and add nothing."""
    size, (count, length) = crc.width // 8, rows.shape
    if length < size:  # there is no room for the state
        return np.array([crc_of(crc, row.tobytes()) for row in rows], np.uint32)
    width = min(length, _CHUNK_BYTES)
    padded = np.zeros((count, -(-length // width) * width), np.uint8)
    padded[:, -length:] = rows
    begin = padded.shape[1] - length
    padded[:, begin : begin + size] ^= np.frombuffer(crc.init.to_bytes(size, "little" if crc.reflect else "big"), np.uint8)
    added, chunks, places = _contributions(crc).ravel(), padded.reshape(-1, width), _PLACES[_CHUNK_BYTES - width :]
    if len(chunks) < width:
        states = np.bitwise_xor.reduce(added.take(chunks + places), axis=1)
    else:
        states = np.bitwise_xor.reduce(added.take(chunks.T + places[:, None]), axis=0)
    if len(chunks) > count:
        states = np.array([_in_turn(crc, row) for row in states.reshape(count, -1).tolist()], np.uint16)
    return states.astype(np.uint32) ^ np.uint32(crc.xor)


def _in_turn(crc: Crc, states: Sequence[int]) -> int:
    """The state after whole chunks, of which each would leave one of these by itself."""
    first, second = _before_a_chunk(crc)
    if crc.width == 8:
        return reduce(lambda state, chunk: first[state] ^ chunk, states)
    low, high = (first, second) if crc.reflect else (second, first)
    return reduce(lambda state, chunk: low[state & 0xFF] ^ high[state >> 8] ^ chunk, states)


@lru_cache(maxsize=8)
def _before_a_chunk(crc: Crc) -> tuple[list[int], list[int]]:
    """What its first two bytes add."""
    first, second = _contributions(crc)[:2].tolist()
    return first, second


def crc_1021(crc: Crc, covered: bytes) -> int:
    """The same with the polynomial 0x1021, which the standard library has in C, highest bit first."""
    if not crc.reflect:
        return binascii.crc_hqx(covered, crc.init) ^ crc.xor
    return _mirrored16(binascii.crc_hqx(covered.translate(MIRRORED), _mirrored16(crc.init))) ^ crc.xor
