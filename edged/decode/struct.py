"""Packed binary records: `struct`, a type for each field, and `raw`, rows of one type. n whole records are n samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.refusals import MAX_ROWS, TOO_MANY_ROWS, Refusals
from edged.decode.times import BadTime, ns_of_array, ns_of_number
from edged.decode.values import BadPayload, Table, key_text
from edged.decode.where import refuse_others
from edged.decode.wire import size_of
from edged.errors import Problem
from edged.records import Reject

if TYPE_CHECKING:
    from edged.config import schema

_FLOATS = {2: np.float32, 4: np.float32, 8: np.float64}
"""What a float on the wire becomes: 16 bits do not hold the bounds that values are compared with."""


class Records:
    """Payloads to a Table. All payloads of a call are one array: the cost is that of one copy."""

    def __init__(self, plan: DecodePlan) -> None:
        self._plan = plan
        self._dtype = np.dtype([(f"f{i}", _wire(field), field.shape) for i, field in enumerate(plan.fields)])
        wire = {_wire(field) for field in plan.fields}
        is_uniform = len(wire) == 1 and all(field.is_value and field.wire is None for field in plan.fields)
        self._is_bool = [field.dtype is not None and field.dtype.kind == "b" for field in plan.fields]
        self._uniform = wire.pop() if is_uniform and not self._is_bool[0] else None
        self._is_native = self._uniform in (np.float32, np.float64)

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        """Each payload must be a whole number of records, and at least one; or one and a rest that is skipped."""
        size = self._dtype.itemsize
        if self._plan.rest == "skip":
            payloads = [payload[:size] for payload in payloads]
        if set(map(len, payloads)) == {size}:
            return self._table(b"".join(payloads), None, refusals)
        good, counts = [], []
        for index, payload in enumerate(payloads):
            count, rest = divmod(len(payload), size)
            if rest or not 0 < count <= MAX_ROWS:
                kind, text = ("long" if count else "short"), f"is not a whole number of {self._unit()}"
                if not rest and count:
                    kind, text = "too_many_rows", f"has {count} samples: {TOO_MANY_ROWS}"
                refusals.add(Reject(kind, f"a payload of {len(payload)} bytes {text}", payload=index))
                count = 0
            else:
                good.append(payload)
            counts.append(count)
        return self._table(b"".join(good), np.repeat(np.arange(len(payloads), dtype=np.int32), counts), refusals)

    def one(self, payload: bytes) -> NDArray[Any] | None:
        if self._uniform is None or len(payload) != self._dtype.itemsize:
            return None
        numbers = np.frombuffer(payload, self._uniform)
        return (numbers if self._is_native else _as_float(numbers)).reshape(1, -1)

    def _unit(self) -> str:
        dtypes = [field.dtype for field in self._plan.fields if field.dtype is not None]
        if self._plan.format == "raw":
            items = self._dtype.itemsize // dtypes[0].itemsize
            return f"{dtypes[0].name}" if items == 1 else f"rows of {items} {dtypes[0].name} ({self._dtype.itemsize} bytes)"
        return f"records of {self._dtype.itemsize} bytes"

    def _table(self, data: bytes, origin: NDArray[np.int32] | None, refusals: Refusals) -> Table:
        plan = self._plan
        if self._uniform is not None:
            return Table(_as_float(np.frombuffer(data, self._uniform)).reshape(-1, plan.width), None, None, origin)
        records = np.frombuffer(data, self._dtype)
        if plan.where:
            records, origin = self._meant(records, origin, refusals)
        # float64 where it is needed: integers of 32 bits and more, and float64 itself
        wide = any(
            field.dtype is not None and field.is_value and field.dtype.itemsize > _float_bytes(field) for field in plan.fields
        )
        raw = np.empty((len(records), plan.width), np.float64 if wide else np.float32)
        for i, field in enumerate(plan.fields):
            if field.is_value:
                column = self._column(records, i).reshape(len(records), field.count)
                raw[:, field.start : field.stop] = column != 0 if self._is_bool[i] else column
        table = Table(raw, None, None, origin)
        return self._stamped(table, records, refusals) if plan.time_field is not None or plan.key_fields else table

    def _meant(
        self, records: NDArray[Any], origin: NDArray[np.int32] | None, refusals: Refusals
    ) -> tuple[NDArray[Any], NDArray[np.int32] | None]:
        """The records that `where` means; the others are refused."""
        names = [field.name for field in self._plan.fields]
        others: dict[int, str] = {}
        for condition in self._plan.where:
            column = self._column(records, names.index(condition.name))
            for value in np.unique(column).tolist():
                if not condition.fits(value):
                    for row in np.flatnonzero(column == value).tolist():
                        others.setdefault(row, condition.other(value))
        if not others:
            return records, origin
        rows = sorted(others)
        refuse_others(refusals, rows if origin is None else origin[rows].tolist(), [others[row] for row in rows])
        kept = np.setdiff1d(np.arange(len(records), dtype=np.int32), rows)
        return records[kept], kept if origin is None else origin[kept]

    def _column(self, records: NDArray[Any], i: int) -> NDArray[Any]:
        column, wire = records[f"f{i}"], self._plan.fields[i].wire
        return column if wire is None else wire.numbers(column)

    def _stamped(self, table: Table, records: NDArray[Any], refusals: Refusals) -> Table:
        """The table with its times and keys, without the records whose own are no good."""
        names = [field.name for field in self._plan.fields]
        format = self._plan.time_format
        columns = [self._column(records, names.index(name)) for name in self._plan.key_fields]
        stamps = self._column(records, names.index(self._plan.time_field)) if self._plan.time_field is not None else None
        times = ns_of_array(stamps, format) if stamps is not None and format is not None else None
        kept, ns, keys = [], [], []
        for row in range(len(records)):
            try:
                if stamps is not None and times is None and format is not None:
                    ns.append(ns_of_number(stamps[row].item(), format))
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


def _wire(field: FieldPlan) -> np.dtype[Any]:
    assert field.dtype is not None
    return np.dtype(np.uint8) if field.dtype.kind == "b" else field.dtype


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
    return sum(math.prod(f.shape) * size_of(str(f.dtype)) for f in fields)
