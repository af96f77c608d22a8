"""What every format does with numbers once it has them: scale, range, and what is bad.

A format yields a `Table` of raw numbers; `Screen` turns it into `Rows`. A value that is absent, not finite or out of
`valid` is bad: its row is dropped, or the last good value of its sensor is held, or it passes as it is. What a message does not
have at all is as `absent` of its field says, where it says anything.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edged.decode.by_key import ByKey
from edged.decode.paths import kind_of
from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.refusals import Refusals
from edged.records import EXCERPT, ON_ARRIVAL, Flags, Reject, Rows, Times
from edged.topics import unfit

KEY_CHARACTERS = 64
"""The longest key that a payload may give."""

ABSENT, EMPTY, OF_TEXT = 1, 2, 3
"""Why a number is none: the message does not have it; it is null, or an empty cell; it is a text that is no number."""
Gaps = NDArray[np.uint8]
MAX_WORDS = 64
"""Texts that are no numbers, as they are shown, of one call."""

_REASONS = ("missing", "incomplete", "not_a_number", "not_finite", "out_of_range")
_MISSING, _INCOMPLETE, _NOT_A_NUMBER, _NOT_FINITE, _OUT_OF_RANGE = range(5)
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)
_POINTS = str.maketrans(",.", ".,")
"""Of numbers with a decimal comma. A point becomes a comma, which no number has then."""
_FORBIDDEN = frozenset("/+#")
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_FLOAT64_MAX = float(np.finfo(np.float64).max)


class Arrived(NamedTuple):
    """What is known of payloads beside their bytes: the fields that their topics name, where topics do; when they came, on the
    monotonic clock and in UTC (ns), which nobody says of what comes on a stream: whoever stamps it knows."""

    names: Sequence[str] = ()
    now: int = 0
    utc: int = ON_ARRIVAL


UNTOLD = Arrived()


class Table(msgspec.Struct):
    """Raw numbers `[k, width]` of some payloads (or lines), before scale and range.

    `raw` is float32 or float64. `origin[i]` is the index of the payload of row i (None: row i came from payload i).
    `gaps[i, j]` says why `raw` is NaN there; 0: it is what was sent. `words[i, j]` is what stands there instead of a number.
    """

    raw: NDArray[Any]
    times: Times | None = None
    keys: list[tuple[str, ...]] | None = None
    origin: NDArray[np.int32] | None = None
    gaps: Gaps | None = None
    words: Mapping[tuple[int, int], str] | None = None


class BadPayload(Exception):
    """A payload or line that is refused whole."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def reject(self, index: int) -> Reject:
        return Reject(self.reason, self.detail, payload=index)


def key_text(value: Any) -> str:
    """A key of a payload as text, fit for a level of a topic.

    Raises:
        BadPayload: `bad_key` for what could change the topic, or is no text and no number.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        value = str(value) if -(10**40) < value < 10**40 else ""
    elif isinstance(value, float):
        value = repr(value)
    if not isinstance(value, str):
        raise BadPayload("bad_key", f"key: expected text or a number, found {kind_of(value)}")
    if not 0 < len(value) <= KEY_CHARACTERS or not _FORBIDDEN.isdisjoint(value):
        raise BadPayload("bad_key", f"key: expected 1 to {KEY_CHARACTERS} characters without / + and #, found {value[:40]!r}")
    if found := unfit(value):
        raise BadPayload("bad_key", f"key: {found} in {value!r} cannot stand in a topic: brokers end the connection over it")
    return value


def key_of_bytes(text: bytes) -> str:
    """The same for a column of csv: spaces around it are not part of it."""
    if len(text) > 8 * KEY_CHARACTERS:
        raise BadPayload("bad_key", f"key: expected at most {KEY_CHARACTERS} characters, found {len(text)} bytes")
    return _key_of_bytes(text)


@lru_cache(maxsize=1024)
def _key_of_bytes(text: bytes) -> str:
    try:
        return key_text(text.decode().strip())
    except UnicodeDecodeError:
        raise BadPayload("not_utf8", f"key: expected UTF-8, found {text[:40]!r}") from None


def number_of_text(field: FieldPlan, text: str, decimal: str = ".") -> float | None:
    """The number that a text stands for: by `values`, else as it is written, else true and false; None when it is none."""
    if field.values is not None and text in field.values:
        return field.values[text]
    written = text.translate(_POINTS) if decimal == "," else text
    if _NUMBER.fullmatch(written) is not None:
        return float(written)
    return {"true": 1.0, "false": 0.0}.get(text)


def no_number(field: FieldPlan, text: str) -> str:
    """What is wrong with a text that stands for no number."""
    known = "" if field.values is None else f" or one of {' '.join(list(field.values)[:8])}"
    return f"{field.name}: expected a number{known}, found {text[:40]!r}"


FEW, RARE = 100, 4
"""At most `FEW` numbers are judged by the highest byte of each, which takes less time than a sum of squares. That works where at
most `RARE` values of this byte leave it open whether the number is within its limits."""


class Range:
    """Low and high of each column, `[width]`, in one float type."""

    def __init__(self, low: NDArray[Any], high: NDArray[Any]) -> None:
        self._low, self._high = low, high
        self._highest_bytes = slice(low.itemsize - 1 if sys.byteorder == "little" else 0, None, low.itemsize)
        self._unsafe = unsafe if len(unsafe := _unsafe_bytes(low, high)) <= RARE else b""
        self._is_uniform = len(low) > 0 and bool((low == low[0]).all() and (high == high[0]).all())
        # Compared with half the limit, so that no rounding of the sum matters; of the largest float64 the square is too large.
        half = float(high[0]) / 2 if self._is_uniform and low[0] == -high[0] else 0.0
        self._safe_sum = min(half * half, float(np.finfo(low.dtype).max)) if half > 0 else 0.0

    def holds(self, values: NDArray[Any]) -> Flags:
        good: Flags = (values >= self._low) & (values <= self._high)
        return good

    def holds_all(self, values: NDArray[Any]) -> bool:
        if self._unsafe and values.size <= FEW:
            highest = values.tobytes()[self._highest_bytes]
            for byte in self._unsafe:
                if byte in highest:
                    break
            else:
                return True
        # No number is larger than the root of the sum of squares: one call for the usual case. A NaN makes the sum one.
        elif np.vdot(values, values) < self._safe_sum:
            return True
        if values.size and self._is_uniform:  # two passes without a temporary; a NaN makes both comparisons false
            return bool(
                np.minimum.reduce(values, axis=None) >= self._low[0] and np.maximum.reduce(values, axis=None) <= self._high[0]
            )
        return bool(self.holds(values).all())


def _unsafe_bytes(low: NDArray[Any], high: NDArray[Any]) -> bytes:
    """The highest bytes (sign and most of the exponent) with which a number may be outside of these limits, or be none."""
    kind = np.dtype(f"u{low.itemsize}")
    smallest = np.arange(256, dtype=kind) << kind.type(8 * (low.itemsize - 1))
    ends = np.stack([smallest, smallest | kind.type((1 << 8 * (low.itemsize - 1)) - 1)]).view(low.dtype)
    with np.errstate(invalid="ignore"):
        is_safe = ((ends >= low.max(initial=-np.inf)) & (ends <= high.min(initial=np.inf))).all(axis=0)
    return bytes(np.flatnonzero(~is_safe).tolist())


class Screen:
    """Raw numbers to values. Remembers the last good values of at most `max_keys` sensors where bad ones, or those that a message
    does not have, are to be held."""

    def __init__(self, plan: DecodePlan) -> None:
        fields = plan.value_fields
        largest = _FLOAT32_MAX if plan.dtype.itemsize == 4 else _FLOAT64_MAX
        low, high, scale, offset = (np.empty(plan.width) for _ in range(4))
        for one in fields:
            columns = slice(one.start, one.stop)
            low[columns] = max(one.valid[0], -largest) if one.valid is not None else -largest
            high[columns] = min(one.valid[1], largest) if one.valid is not None else largest
            scale[columns] = one.scale
            offset[columns] = one.offset
        self._fields = fields
        self._has_range = np.repeat([one.valid is not None for one in fields], [one.count for one in fields])
        self._dtype = plan.dtype
        # compared in the type of the values: 0.1 on the wire as float32 is within a range that ends at 0.1
        narrow = [np.clip(bound, -_FLOAT32_MAX, _FLOAT32_MAX).astype(np.float32) for bound in (low, high)]
        self._ranges = {4: Range(*narrow), 8: Range(low, high)}
        self._scale = None if (scale == 1).all() else scale
        self._offset = None if (offset == 0).all() else offset
        self._is_as_sent = self._scale is None and self._offset is None
        self._on_bad = plan.on_bad
        self._absent = _Absent(fields)
        self._holds = plan.on_bad == "hold" or bool(self._absent.is_held.any())
        self._stale_ns = plan.stale_ns
        self._max_keys = plan.max_keys
        self._last: dict[Hashable, NDArray[np.float64]] = {}
        self._seen: dict[Hashable, NDArray[np.int64]] = {}  # where held values grow too old
        self._by_key = None if plan.by_key is None else ByKey(plan.by_key, (scale, offset, low, high), largest)
        for cell in () if plan.by_key is None else plan.by_key.cells:
            self._has_range[cell.start : cell.stop] |= cell.what.startswith("valid")

    def rows(self, table: Table, refusals: Refusals, sensors: Sequence[Hashable] | None = None, now: int = 0) -> Rows:
        """The rows of `table`. `sensors[p]` says whose payload p is; None: all are of one sensor (but for the payload's keys).
        `now` (monotonic ns) tells how old held values are."""
        if self._by_key is not None:
            own = self._by_key.apply(table.raw, table.keys, table.origin, sensors)
            values, is_good, bad = own.values, bool(own.is_good.all()), ~own.is_good
        else:
            values = table.raw if self._is_as_sent else self._scaled(table.raw)
            allowed = self._ranges[values.dtype.itemsize]
            is_good = allowed.holds_all(values)
        if is_good and not self._holds:
            return Rows(values.astype(self._dtype, copy=False), table.times, table.keys, table.origin)
        if self._by_key is None:
            bad = np.zeros(values.shape, np.bool_) if is_good else ~allowed.holds(values)
        with np.errstate(over="ignore", invalid="ignore"):  # what passes as it is may not fit
            return self._treat(table, np.array(values, np.float64), bad, refusals, sensors, now)

    def good(self, raw: NDArray[Any], sensors: Sequence[Hashable] | None = None) -> NDArray[Any] | None:
        """The values of rows that are all good and leave nothing to remember; None where it takes `rows` to tell."""
        if self._holds:
            return None
        if self._by_key is not None:
            own = self._by_key.one(raw, sensors) if len(raw) == 1 else None
            return None if own is None else own.astype(self._dtype, copy=False)
        values = raw if self._is_as_sent else self._scaled(raw)
        dtype = values.dtype
        if not self._ranges[dtype.itemsize].holds_all(values):
            return None
        return values if dtype is self._dtype else values.astype(self._dtype, copy=False)

    def _scaled(self, raw: NDArray[Any]) -> NDArray[Any]:
        values = raw
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not finite, and bad
            if self._scale is not None:
                values = np.multiply(values, self._scale, dtype=np.float64)
            if self._offset is not None:
                values = np.add(values, self._offset, dtype=np.float64)
        return values

    def _treat(
        self,
        table: Table,
        values: NDArray[np.float64],
        bad: Flags,
        refusals: Refusals,
        sensors: Sequence[Hashable] | None,
        now: int,
    ) -> Rows:
        fatal = bad if self._on_bad == "drop" else np.zeros_like(bad)
        taken = bad if self._on_bad == "hold" else np.zeros_like(bad)
        awaited = np.zeros_like(bad)
        if table.gaps is not None and self._absent.is_any:
            is_absent = table.gaps == ABSENT
            filled, awaited = is_absent & self._absent.is_filled, is_absent & self._absent.is_held
            values = np.where(filled, self._absent.fill, values)
            bad = bad & ~filled & ~awaited
            fatal = (fatal & bad) | (is_absent & self._absent.is_dropped)
            taken = (taken & bad) | awaited
        degraded = np.asarray(bad.any(axis=1), np.bool_)
        if self._holds:
            for sensor, rows in self._by_sensor(table, sensors).items():
                held = self._held(sensor, values[rows], (bad | awaited)[rows], now)
                lost = taken[rows] & np.isnan(held)
                values[rows] = np.where(taken[rows] & ~lost, held, values[rows])
                fatal[rows] |= lost
        drop = np.asarray(fatal.any(axis=1), np.bool_)
        degraded &= ~drop
        marks = degraded if degraded.any() else None
        if not drop.any():
            return Rows(values.astype(self._dtype), table.times, table.keys, table.origin, marks)
        self._refuse(table, values, fatal, awaited, np.flatnonzero(drop), refusals)
        kept = np.flatnonzero(~drop)
        origin = kept.astype(np.int32) if table.origin is None else table.origin[kept]
        return Rows(
            values[kept].astype(self._dtype),
            None if table.times is None else table.times[kept],
            None if table.keys is None else [table.keys[row] for row in kept.tolist()],
            origin,
            None if marks is None else marks[kept],
        )

    def _held(self, sensor: Hashable, values: NDArray[np.float64], bad: Flags, now: int) -> NDArray[np.float64]:
        """Rows of one sensor with each bad value replaced by the last good one, NaN where there is none. The good ones are
        remembered either way."""
        last = self._last.pop(sensor, None)
        if last is None:
            last = np.full(values.shape[1], np.nan)
            if len(self._last) >= self._max_keys:
                oldest = next(iter(self._last))
                del self._last[oldest]
                self._seen.pop(oldest, None)
        if self._stale_ns is not None:
            seen = self._seen.pop(sensor, None)
            seen = np.full(values.shape[1], now) if seen is None else seen
            last[now - seen > self._stale_ns] = np.nan
            seen[~bad.all(axis=0)] = now
            self._seen[sensor] = seen
        with_last = np.concatenate((last[None], values))
        good = np.arange(1, len(with_last))[:, None] * ~bad  # the row there that a value comes from; 0: from before
        held = np.take_along_axis(with_last, np.maximum.accumulate(good, axis=0), axis=0)
        self._last[sensor] = held[-1].copy()  # the one heard longest ago comes first
        return held

    @staticmethod
    def _by_sensor(table: Table, sensors: Sequence[Hashable] | None) -> Mapping[Hashable, Any]:
        """The rows of each sensor, the one heard last at the end."""
        if sensors is None and table.keys is None:
            return {None: slice(None)} if len(table.raw) else {}
        found: dict[Hashable, list[int]] = {}
        for row in range(len(table.raw)):
            keys = None if table.keys is None else table.keys[row]
            whose = keys if sensors is None else (sensors[row if table.origin is None else int(table.origin[row])], keys)
            rows = found.pop(whose, [])
            rows.append(row)
            found[whose] = rows
        return found

    def _refuse(
        self,
        table: Table,
        values: NDArray[np.float64],
        fatal: Flags,
        awaited: Flags,
        rows: NDArray[np.intp],
        refusals: Refusals,
    ) -> None:
        """Says of each row what its first bad value is."""
        columns = fatal[rows].argmax(axis=1)
        found = values[rows, columns]
        gaps = np.zeros(len(rows), np.uint8) if table.gaps is None else table.gaps[rows, columns]
        is_out = np.isfinite(found) & self._has_range[columns]
        codes = np.where(is_out, _OUT_OF_RANGE, _NOT_FINITE).astype(np.uint8)
        codes[(gaps == ABSENT) | (gaps == EMPTY)] = _MISSING
        codes[gaps == OF_TEXT] = _NOT_A_NUMBER
        codes[awaited[rows, columns]] = _INCOMPLETE
        payloads = rows if table.origin is None else table.origin[rows]
        for code, reason in enumerate(_REASONS):
            at = np.flatnonzero(codes == code)

            def words(i: int, reason: str = reason, at: NDArray[np.intp] = at) -> Reject:
                one = at.item(i)
                row, column = rows.item(one), columns.item(one)
                text = None if table.words is None else table.words.get((row, column))
                detail = text or self._detail(reason, found.item(one), row, column, int(gaps[one]))
                return Reject(reason, detail, payload=payloads.item(one))

            refusals.add_all(payloads[at], words)

    def _detail(self, reason: str, value: float, row: int, column: int, gap: int) -> str:
        one = next(field for field in self._fields if field.start <= column < field.stop)
        name = one.name if not one.shape else f"{one.name}[{column - one.start}]"
        match reason:
            case "missing":
                return f"{name}: {'absent' if gap == ABSENT else 'empty or null'}"
            case "incomplete":
                return f"{name}: no value yet{'' if self._stale_ns is None else ', or none within stale_after'}"
            case "not_a_number":
                return f"{name}: expected a number"
            case "not_finite":
                return f"{name}: expected a finite number, found {value:g}"
        low, high = self._range_of(row, column, one)
        return f"{name}: {value:g} is outside {low:g} to {high:g}"

    def _range_of(self, row: int, column: int, field: FieldPlan) -> tuple[float, float]:
        if self._by_key is not None:
            return self._by_key.range_of(row, column)
        return field.valid or (-math.inf, math.inf)


class _Absent:
    """What stands for each column where a message does not have it."""

    def __init__(self, fields: Sequence[FieldPlan]) -> None:
        said = [field.absent for field in fields for _ in range(field.count)]
        self.is_held = np.array([one == "hold" for one in said], np.bool_)
        self.is_dropped = np.array([one == "drop" for one in said], np.bool_)
        self.is_filled = np.array([isinstance(one, float) for one in said], np.bool_)
        self.fill = np.array([one if isinstance(one, float) else math.nan for one in said], np.float64)
        self.is_any = any(one is not None for one in said)


def excerpts(rejects: Sequence[Reject], pieces: Sequence[bytes], starts: Sequence[int] | None = None) -> list[Reject]:
    """The same rejects with the bytes that they are about, and where in the stream those began."""
    shown = []
    for reject in rejects:
        if not reject.data and reject.payload < len(pieces):
            at = reject.offset if starts is None else starts[reject.payload]
            reject = reject._replace(data=bytes(pieces[reject.payload][:EXCERPT]), offset=at)
        shown.append(reject)
    return shown


def constant_texts(field: FieldPlan) -> Mapping[bytes, float]:
    """The texts that stand for numbers in a column of csv."""
    texts = {"true": 1.0, "false": 0.0, **(field.values or {})}
    return {text.encode(): float(number) for text, number in texts.items()}
