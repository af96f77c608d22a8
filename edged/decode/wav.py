"""Sound with a header (WAV) to rows: one a frame of samples, a column a channel, full scale is 1 whatever the depth.

Integers of 8 (unsigned), 16, 24 and 32 bits and floats of 32 and 64, also behind the long header (`WAVE_FORMAT_EXTENSIBLE`) and
in the long form (RF64). The length that a header says may be one that nobody means, as programs write it that do not know it yet:
then all that follows is sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.decode.looks import looks
from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.refusals import MAX_ROWS, TOO_MANY_ROWS, Refusals
from edged.decode.values import BadPayload, Table
from edged.errors import Problem

if TYPE_CHECKING:
    from edged.config import schema

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
FORMS = (b"RIFF", b"RF64", b"BW64")
MARK = b"WAVE"
MAX_LENGTH = 1 << 28
"""More than a message can hold: ffmpeg writes all ones into a pipe, sox and arecord nearly 2 GiB, GStreamer 0."""
MAX_CHUNKS = 64
"""Parts of a file before its sound: a list of names, a cue, a peak."""
_NUMBERS = {(PCM, 8): "u1", (PCM, 16): "<i2", (PCM, 24): "V3", (PCM, 32): "<i4", (FLOAT, 32): "<f4", (FLOAT, 64): "<f8"}


class Sound(NamedTuple):
    """What a header says, and the bytes behind it."""

    kind: int
    bits: int
    channels: int
    rate: int
    data: memoryview


def is_wav(payload: bytes) -> bool:
    return payload[:4] in FORMS and payload[8:12] == MARK


class Wav:
    """Payloads to a table, whose rows are frames: a sample of each channel."""

    def __init__(self, plan: DecodePlan) -> None:
        self._channels = sum(field.count for field in plan.fields)
        self._rate = plan.rate
        kept, at = list[int](), 0
        for field in plan.fields:
            kept += range(at, at + field.count) if field.is_value else ()
            at += field.count
        self._kept = None if len(kept) == self._channels else kept

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        parts: list[NDArray[Any]] = [np.empty((0, self._channels), np.float64)]
        counts = []
        for index, payload in enumerate(payloads):
            try:
                parts.append(self._samples(read(payload)))
            except BadPayload as bad:
                refusals.add(bad.reject(index))
                counts.append(0)
            else:
                counts.append(len(parts[-1]))
        raw = np.concatenate(parts)
        if self._kept is not None:
            raw = raw[:, self._kept]
        return Table(raw, None, None, np.repeat(np.arange(len(payloads), dtype=np.int32), counts))

    def _samples(self, sound: Sound) -> NDArray[np.float64]:
        if self._rate is not None and sound.rate != self._rate:
            text = f"its header says {sound.rate} samples per second, and rate is {self._rate:g}: write rate = {sound.rate}"
            raise BadPayload("unsupported", text)
        if sound.channels != self._channels:
            text = f'it has {sound.channels} channels, and decode.fields {self._channels}: name each of them, "_" skips one'
            raise BadPayload("unsupported", text)
        written = _NUMBERS.get((sound.kind, sound.bits))
        if written is None:
            text = f"expected integers of 8 to 32 bits or floats, found {sound.bits} bits of kind {sound.kind:#x}"
            raise BadPayload("unsupported", text)
        size = sound.channels * sound.bits // 8
        count, rest = divmod(len(sound.data), size)
        if rest or not count:
            raise BadPayload("short", f"{len(sound.data)} bytes of sound are no whole number of frames of {size} bytes")
        if count > MAX_ROWS:
            raise BadPayload("too_many_rows", f"it has {count} samples: {TOO_MANY_ROWS}")
        return _full_scale(np.frombuffer(sound.data, written)).reshape(count, sound.channels)


def read(payload: bytes) -> Sound:
    """The header of a file and its sound. Raises BadPayload."""
    if not is_wav(payload):
        raise BadPayload("malformed", f"expected a WAV file, found {looks(payload)}")
    form: bytes | None = None
    at, whole = 12, 0
    for _ in range(MAX_CHUNKS):
        kind, length = payload[at : at + 4], int.from_bytes(payload[at + 4 : at + 8], "little")
        if len(kind) < 4:
            break
        start = at + 8
        if kind == b"data":
            if form is None:
                break
            left = len(payload) - start
            length = whole or length
            if not 0 < length <= MAX_LENGTH:
                length = left
            if length > left:
                raise BadPayload("short", f"its header says {length} bytes of sound, and {left} follow")
            return _sound(form, memoryview(payload)[start : start + length])
        if kind == b"fmt ":
            form = payload[start : start + length]
        elif kind == b"ds64":  # of the long form: the lengths of all, and of the sound
            whole = int.from_bytes(payload[start + 8 : start + 16], "little")
        at = start + length + length % 2
    raise BadPayload("malformed", "a WAV file without its format or its sound")


def _sound(form: bytes, data: memoryview) -> Sound:
    if len(form) < 16:
        raise BadPayload("malformed", f"the format of a WAV file has {len(form)} bytes, expected 16 or more")

    def number(start: int, size: int) -> int:
        return int.from_bytes(form[start : start + size], "little")

    kind = number(0, 2)
    if kind == EXTENSIBLE and len(form) >= 26:
        kind = number(24, 2)
    return Sound(kind, number(14, 2), number(2, 2), number(4, 4), data)


def _full_scale(numbers: NDArray[Any]) -> NDArray[np.float64]:
    if numbers.dtype.kind == "f":
        return numbers.astype(np.float64)
    if numbers.dtype.kind == "u":
        return (numbers.astype(np.float64) - 128.0) / 128.0
    if numbers.dtype.kind == "V":  # 24 bits: the upper three bytes of 32
        wide = np.zeros((len(numbers), 4), np.uint8)
        wide[:, 1:] = numbers.view(np.uint8).reshape(-1, 3)
        numbers = wide.view("<i4").reshape(-1)
    return numbers / float(1 << 8 * numbers.dtype.itemsize - 1)


def misfits(decode: schema.Decode, fields: Sequence[FieldPlan]) -> Iterator[Problem]:
    """What is wrong with settings and fields together: nothing in a WAV file has a name."""
    declared = {spec.name for spec in decode.fields}
    for field in fields:
        if field.name not in declared:
            yield Problem("decode.fields", f'a WAV file holds samples alone, and no "{field.name}"')
