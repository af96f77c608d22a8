"""Packed binary records: `struct`, a type for each field, and `raw`, rows of one type.

A payload of `struct` is one record and one sample. With `rows` it is record after record, or each element of a repeated group is
a sample, with what stands outside of the group in all of them. A payload of `raw` is row after row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.refusals import MAX_ROWS, TOO_MANY_ROWS, Refusals
from edged.decode.times import BadTime, ns_of_array, ns_of_number, ns_of_text
from edged.decode.values import ABSENT, BadPayload, Table, key_text, number_of_text
from edged.decode.wav import MARK, is_wav
from edged.decode.where import Condition, refuse_others
from edged.decode.wire import size_of
from edged.errors import Problem
from edged.notation.field_paths import Step
from edged.notation.widths import is_packed, width_of
from edged.records import Reject

if TYPE_CHECKING:
    from edged.config import schema

_FLOATS = {2: np.float32, 4: np.float32, 8: np.float64}
"""What a float on the wire becomes: 16 bits do not hold the bounds that values are compared with."""


WAV_AS_RAW = 'a WAV file, whose header is not sound: write decode.format = "wav"'


class Records:
    """Payloads to a Table. All payloads of a call are one array: the cost is that of one copy."""

    def __init__(self, plan: DecodePlan) -> None:
        self._plan = plan
        self._wire = _wire_dtype(plan.fields)
        self._dtype = np.dtype([(f"f{i}", _wire(field), field.wire_shape) for i, field in enumerate(plan.fields)])
        self._size = self._dtype.itemsize
        self._is_grouped = any(field.group for field in plan.fields)
        self._times = max((field.repeat for field in plan.fields if field.is_split), default=1)
        wire = {_wire(field) for field in plan.fields}
        is_plain = all(field.is_value and field.wire is None and not field.group for field in plan.fields)
        self._uniform = wire.pop() if len(wire) == 1 and is_plain else None
        self._is_bool = [field.dtype is not None and field.dtype.kind == "b" for field in plan.fields]
        is_typed = plan.fields[0].dtype is not None and not self._is_bool[0]
        self._is_of_numbers = self._uniform is not None and self._uniform.kind != "S" and is_typed
        self._is_many = plan.format == "raw" or plan.rows == (Step.SELF,)
        self._is_cut = plan.frame is not None and plan.frame.type == "mavlink"  # zeros at its end are not sent
        self._is_native = self._uniform in (np.float32, np.float64)
        if self._is_native and self._uniform is not None:
            self._uniform = np.dtype(self._uniform.type)  # the same object everywhere
        self._cuts = _cuts(plan.fields)

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        """Each payload must be a record, or a whole number of them; a rest may be skipped."""
        size = self._wire.itemsize
        if self._is_cut:
            payloads = [payload.ljust(size, b"\0") for payload in payloads]
        if self._plan.rest == "skip":
            payloads = [payload[: max(len(payload) // size, 1) * size if self._is_many else size] for payload in payloads]
        if self._cuts and not set(map(len, payloads)) <= {size}:
            return self._of_cut(payloads, refusals)
        return self._whole(payloads, refusals)

    def _of_cut(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        """Of payloads some of which lack fields at their end."""
        cuts = [self._cuts.get(len(payload)) for payload in payloads]
        size = self._wire.itemsize
        padded = [payload if cut is None else payload.ljust(size, b"\0") for payload, cut in zip(payloads, cuts, strict=True)]
        table = self._whole(padded, refusals)
        gaps = np.zeros(table.raw.shape, np.uint8)
        for row, payload in enumerate(range(len(payloads)) if table.origin is None else table.origin.tolist()):
            columns = cuts[payload]
            if columns:
                gaps[row, columns] = ABSENT
        table.raw = np.where(gaps, np.nan, table.raw)
        table.gaps = gaps
        return table

    def _whole(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        size = self._wire.itemsize
        has_wav = self._plan.format == "raw" and any(map(is_wav, payloads))
        if set(map(len, payloads)) == {size} and not has_wav:
            return self._table(b"".join(payloads), None, refusals)
        good, counts = [], []
        for index, payload in enumerate(payloads):
            count, rest = divmod(len(payload), size)
            if has_wav and is_wav(payload):
                refusals.add(Reject("malformed", WAV_AS_RAW, payload=index))
                count = 0
            elif wrong := self._wrong(len(payload), count, rest):
                if other := self._other(payload):
                    refuse_others(refusals, [index], [other])
                else:
                    refusals.add(Reject(*wrong, payload=index))
                count = 0
            else:
                good.append(payload)
            counts.append(count)
        return self._table(b"".join(good), np.repeat(np.arange(len(payloads), dtype=np.int32), counts), refusals)

    def usual(self, payloads: Sequence[bytes]) -> NDArray[Any] | None:
        count, size = len(payloads), self._size
        data = payloads[0] if count == 1 else b"".join(payloads)
        # Perhaps a file of sound. (`in` would first try the mark as a number, and raise and catch for it.)
        if not self._is_of_numbers or len(data) != count * size or data.find(MARK) >= 0:
            return None
        if count > 1 and set(map(len, payloads)) != {size}:
            return None
        numbers: NDArray[Any] = np.ndarray((count, self._plan.width), self._uniform, data)
        return numbers if self._is_native else _as_float(numbers)

    def _wrong(self, length: int, count: int, rest: int) -> tuple[str, str] | None:
        """Why a payload is refused, if it is."""
        said = f"a payload of {length} bytes"
        if not self._is_many and (rest or count != 1):
            more = '; record after record is rows = "."' if count > 1 and not rest else ""
            return "long" if count else "short", f"{said} is not one of the {self._unit()}{more}"
        if rest or not count:
            return "long" if count else "short", f"{said} is not a whole number of {self._unit()}"
        return ("too_many_rows", f"{said} has {count} samples: {TOO_MANY_ROWS}") if count > MAX_ROWS else None

    def _other(self, payload: bytes) -> str:
        """Why a payload of the wrong size is another kind of message; empty when it is meant, or nobody knows."""
        for condition in self._plan.where:
            at = next(i for i, field in enumerate(self._plan.fields) if field.name == condition.name)
            place = self._wire.fields.get(f"f{at}") if self._wire.fields else None
            if place is None or place[1] + place[0].itemsize > len(payload):
                continue
            alone = np.frombuffer(payload, np.dtype({"names": [f"f{at}"], "formats": [place[0]], "offsets": [place[1]]}), 1)
            value = self._column(alone, at).tolist()[0]
            if not self._fits(condition, at, value):
                return condition.other(value)
        return ""

    def _fits(self, condition: Condition, at: int, value: Any) -> bool:
        return condition.fits_text(value, self._plan.fields[at].base) if isinstance(value, str) else condition.fits(value)

    def _unit(self) -> str:
        dtypes = [field.dtype for field in self._plan.fields if field.dtype is not None]
        if self._plan.format == "raw":
            items = self._dtype.itemsize // dtypes[0].itemsize
            return f"{dtypes[0].name}" if items == 1 else f"rows of {items} {dtypes[0].name} ({self._dtype.itemsize} bytes)"
        return f"records of {self._wire.itemsize} bytes"

    def _table(self, data: bytes, origin: NDArray[np.int32] | None, refusals: Refusals) -> Table:
        plan = self._plan
        if self._is_of_numbers:
            return Table(_as_float(np.frombuffer(data, self._uniform)).reshape(-1, plan.width), None, None, origin)
        records = self._flat(np.frombuffer(data, self._wire))
        if self._times > 1:
            numbers = np.arange(len(records) // self._times, dtype=np.int32) if origin is None else origin
            origin = np.repeat(numbers, self._times)
        if plan.where:
            records, origin = self._meant(records, origin, refusals)
        # float64 where it is needed: integers of 32 bits and more, and float64 itself
        wide = any(
            field.dtype is not None and field.is_value and field.dtype.itemsize > _float_bytes(field) for field in plan.fields
        )
        raw = np.empty((len(records), plan.width), np.float64 if wide else np.float32)
        for i, field in enumerate(plan.fields):
            if field.is_value:
                column = self._numbers(records, i).reshape(len(records), field.count)
                raw[:, field.start : field.stop] = column != 0 if self._is_bool[i] else column
        table = Table(raw, None, None, origin)
        return self._stamped(table, records, refusals) if plan.time_field is not None or plan.key_fields else table

    def _flat(self, records: NDArray[Any]) -> NDArray[Any]:
        """Records without groups: a group's field is a tensor, or each of its elements a record."""
        if not self._is_grouped:
            return records
        times = self._times
        flat = np.empty(len(records) * times, self._dtype)
        for i, field in enumerate(self._plan.fields):
            column = records[field.group][f"f{i}"] if field.group else records[f"f{i}"]
            shape = (len(flat), *field.wire_shape)
            flat[f"f{i}"] = column.reshape(shape) if field.is_split else np.repeat(column, times, axis=0)
        return flat

    def _meant(
        self, records: NDArray[Any], origin: NDArray[np.int32] | None, refusals: Refusals
    ) -> tuple[NDArray[Any], NDArray[np.int32] | None]:
        """The records that `where` means; the others are refused."""
        names = [field.name for field in self._plan.fields]
        others: dict[int, str] = {}
        for condition in self._plan.where:
            at = names.index(condition.name)
            column = self._column(records, at)
            for value in np.unique(column).tolist():
                if not self._fits(condition, at, value):
                    for row in np.flatnonzero(column == value).tolist():
                        others.setdefault(row, condition.other(value))
        if not others:
            return records, origin
        rows = sorted(others)
        refuse_others(refusals, rows if origin is None else origin[rows].tolist(), [others[row] for row in rows])
        kept = np.setdiff1d(np.arange(len(records), dtype=np.int32), rows)
        return records[kept], kept if origin is None else origin[kept]

    def _column(self, records: NDArray[Any], i: int) -> NDArray[Any]:
        """The column of a field as it was sent: numbers, or texts."""
        column, wire = records[f"f{i}"], self._plan.fields[i].wire
        if column.dtype.kind == "S":
            return np.char.strip(np.char.decode(column, "ascii", "replace"), " \t\r\n\0")
        return column if wire is None else wire.numbers(column)

    def _numbers(self, records: NDArray[Any], i: int) -> NDArray[Any]:
        """The same as numbers: NaN for a text that is none."""
        column = self._column(records, i)
        if column.dtype.kind != "U":
            return column
        texts, places = np.unique(column, return_inverse=True)
        field = self._plan.fields[i]
        return np.array([_number(field, text) for text in texts.tolist()])[places].reshape(column.shape)

    def _stamped(self, table: Table, records: NDArray[Any], refusals: Refusals) -> Table:
        """The table with its times and keys, without the records whose own are no good."""
        names = [field.name for field in self._plan.fields]
        format = self._plan.time_format
        columns = [self._column(records, names.index(name)) for name in self._plan.key_fields]
        stamps = self._column(records, names.index(self._plan.time_field)) if self._plan.time_field is not None else None
        is_text = stamps is not None and stamps.dtype.kind == "U"
        times = ns_of_array(stamps, format) if stamps is not None and format is not None and not is_text else None
        kept, ns, keys = [], [], []
        for row in range(len(records)):
            try:
                if stamps is not None and times is None and format is not None:
                    stamp = stamps[row].item()
                    ns.append(ns_of_text(stamp, format) if is_text else ns_of_number(stamp, format))
                keys.append(tuple(key_text(column[row].item()) for column in columns))
                kept.append(row)
            except (BadPayload, BadTime) as bad:
                del ns[len(kept) :]
                payload = row if table.origin is None else int(table.origin[row])
                refusals.add(Reject(bad.reason, bad.detail, payload=payload))
        if times is None and stamps is not None:
            times = np.array(ns, np.int64)
        elif times is not None:
            times = times[kept]
        origin = table.origin
        if len(kept) < len(records):
            origin = np.array(kept, np.int32) if origin is None else origin[kept]
        return Table(table.raw[kept], times, keys if columns else None, origin)


def _number(field: FieldPlan, text: str) -> float:
    number = None if field.base == 16 and text not in (field.values or ()) else number_of_text(field, text)
    if number is not None:
        return number
    try:
        return float(int(text, 16)) if field.base == 16 else float(text) if "_" not in text else math.nan
    except ValueError:
        return math.nan


def _wire_dtype(fields: Sequence[FieldPlan]) -> np.dtype[Any]:
    """A record as it is sent, with each group as an array of records of its own."""
    parts: list[tuple[Any, ...]] = []
    numbered = list(enumerate(fields))
    for group, of_group in groupby(numbered, lambda one: one[1].group):
        members = [(f"f{i}", _wire(f), f.shape[1:] if group and not f.is_split else f.wire_shape) for i, f in of_group]
        if not group:
            parts += members
            continue
        parts.append((group, members, (next(field.repeat for field in fields if field.group == group),)))
    return np.dtype(parts)


def _wire(field: FieldPlan) -> np.dtype[Any]:
    assert field.dtype is not None
    return np.dtype(np.uint8) if field.dtype.kind == "b" else field.dtype


def _cuts(fields: Sequence[FieldPlan]) -> dict[int, list[int]]:
    """How long a record may be that lacks fields at its end, which all say what stands for them, and which columns those are."""
    sizes = [field.wire_bytes for field in fields]
    cuts: dict[int, list[int]] = {}
    columns: list[int] = []
    for at in range(len(fields) - 1, 0, -1):
        field = fields[at]
        if field.group or (field.name != "_" and (not field.is_value or field.absent is None)):
            break
        columns = [*range(field.start, field.stop), *columns] if field.is_value else columns
        if columns:
            cuts[sum(sizes[:at])] = columns
    return cuts


def _float_bytes(field: FieldPlan) -> int:
    assert field.dtype is not None
    return 4 if field.dtype.kind == "f" else 2


def _as_float(numbers: NDArray[Any]) -> NDArray[Any]:
    if numbers.dtype.kind == "f":
        return numbers.astype(_FLOATS[numbers.dtype.itemsize], copy=False)
    return numbers.astype(np.float32 if numbers.dtype.itemsize <= 2 else np.float64)


def misfits(decode: schema.Decode, fields: Sequence[FieldPlan]) -> Iterator[Problem]:
    """What is wrong with settings and fields together."""
    for i, field in enumerate(fields):
        if field.dtype is None:
            yield Problem(f"decode.fields[{i}]", f'"{field.name}" needs its place on the wire and a dtype: add it to fields')


def raw_misfits(decode: schema.Decode, fields: Sequence[FieldPlan]) -> Iterator[Problem]:
    yield from misfits(decode, fields)
    if len({field.dtype for field in fields}) > 1:
        yield Problem("decode.fields", 'raw is rows of one type; for fields of several types: format = "struct"')


def record_bytes(fields: Sequence[schema.FieldSpec]) -> int:
    return sum((f.repeat or 1) * sum(map(_spec_bytes, f.fields)) if f.fields else _spec_bytes(f) for f in fields)


def _spec_bytes(spec: schema.Element) -> int:
    if spec.dtype is not None and is_packed(spec.dtype):
        return math.prod(spec.shape) * width_of(spec.dtype) // 8
    return math.prod(spec.shape) * (spec.size or 0 if spec.dtype == "text" else size_of(str(spec.dtype)))
