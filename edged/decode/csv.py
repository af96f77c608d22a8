"""Lines of numbers, as an array.

A blob of lines goes through C four times and never becomes Python lines: what is left of it without the characters of
numbers must be exactly the separators of so many lines; then all its numbers are one JSON array. Measured with 6 columns:
0.45 us a line, where splitting and `float` take 1.5. Only a blob in which something is off is looked at line by line, and
there the good lines give what they give on the fast path.
"""

from __future__ import annotations

import difflib
import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.times import BadTime, ns_of_array, ns_of_text
from edged.decode.values import BadPayload, Table, constant_texts, key_of_bytes, number_of_text
from edged.records import Reject

_FEW_LINES = 4
"""So few lines are looked at one by one as soon as something is off."""

_FLOATS = msgspec.json.Decoder(list[float])
_NUMBER = re.compile(rb"[ \t]*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
_NOT_FINITE = re.compile(rb"[ \t]*[+-]?(nan|inf|infinity)[ \t]*", re.IGNORECASE)


class _Layout(NamedTuple):
    """Which column is what. `value_columns[j]` is the column of number j of a row; `is_plain`: they are all, in order."""

    columns: int
    value_columns: tuple[int, ...]
    value_fields: tuple[FieldPlan, ...]
    time_column: int | None
    key_columns: tuple[int, ...]
    is_plain: bool


class Csv:
    """Lines to a Table. With a header it learns the columns from the first line of a stream, or of each payload."""

    def __init__(self, plan: DecodePlan) -> None:
        self._plan = plan
        self._separator = plan.separator.encode()
        self._number_bytes = b"0123456789+-.eE" + (b" " if self._separator != b" " else b"")
        self._other_bytes = bytes(sorted(set(range(256)) - set(self._separator + b"\n")))
        self._time_format = plan.time_format or ""
        self._layout = None if plan.header else self._declared()
        self._wants_header = plan.header
        self._texts = [constant_texts(field) for field in plan.value_fields for _ in range(field.count)]

    def reset(self) -> None:
        """The stream begins anew: its first line may be a header. A sensor that says it only at power-on keeps its old one."""
        self._wants_header = self._plan.header

    def decode(self, payloads: Sequence[bytes]) -> Table:
        """Payloads of one line or several; each bad line is refused by itself."""
        lines: list[bytes] = []
        owners: list[int] = []
        tables: list[Table] = []
        for index, payload in enumerate(payloads):
            body = payload[:-1] if payload.endswith(b"\n") else payload
            if b"\r" in body:
                body = body.replace(b"\r\n", b"\n").removesuffix(b"\r")
            if self._plan.header:
                self._wants_header, self._layout = True, None
                part = body.split(b"\n")
                tables.append(_of_payloads(self.decode_lines(body + b"\n"), part, [index] * len(part)))
            elif b"\n" in body:
                part = body.split(b"\n")
                lines += part
                owners += [index] * len(part)
            else:
                lines.append(body)
                owners.append(index)
        if self._plan.header:
            return _joined(tables, len(self._texts))
        table = self.decode_lines(b"\n".join(lines) + b"\n")
        return table if len(lines) == len(payloads) else _of_payloads(table, lines, owners)

    def decode_lines(self, blob: bytes) -> Table:
        """Complete lines, each ended by one line feed. `origin` and `payload` count lines."""
        count = blob.count(b"\n")
        skipped, rejects = 0, []
        while self._wants_header and skipped < count:
            line, _, blob = blob.partition(b"\n")
            reject = self._read_header(line, skipped)
            if reject is None and self._wants_header:  # no header, but the columns are known from before
                blob = line + b"\n" + blob
                self._wants_header = False
                break
            if reject is not None:
                rejects.append(reject)
            skipped += 1
        if skipped == count or self._layout is None:
            return Table(np.empty((0, len(self._texts))), *self._nothing(), np.empty(0, np.int32), None, rejects)
        table = self._table(blob, self._layout, count - skipped)
        if skipped:
            origin = np.arange(count - skipped, dtype=np.int32) if table.origin is None else table.origin
            table.origin = origin + np.int32(skipped)
            table.rejects = rejects + [reject._replace(payload=reject.payload + skipped) for reject in table.rejects]
        return table

    def _nothing(self) -> tuple[NDArray[np.int64] | None, list[tuple[str, ...]] | None]:
        return (np.empty(0, np.int64) if self._time_format else None), ([] if self._plan.key_fields else None)

    def _table(self, blob: bytes, layout: _Layout, count: int) -> Table:
        """All lines at once if nothing is off; else each half by itself, so that a bad line slows down few others."""
        table = self._numbers(blob, layout, count) or self._columns(blob, layout, count)
        if table is not None:
            return table
        lines = blob[:-1].split(b"\n")
        if count <= _FEW_LINES:
            return self._line_by_line(lines, layout)
        parts = []
        for begin, end in ((0, count // 2), (count // 2, count)):
            part = self._table(b"\n".join(lines[begin:end]) + b"\n", layout, end - begin)
            part.origin = (np.arange(end - begin, dtype=np.int32) if part.origin is None else part.origin) + np.int32(begin)
            part.rejects = [reject._replace(payload=reject.payload + begin) for reject in part.rejects]
            parts.append(part)
        return _joined(parts, len(layout.value_columns))

    def _numbers(self, blob: bytes, layout: _Layout, count: int) -> Table | None:
        """Every column is a number and nothing is off."""
        if (
            layout.key_columns
            or blob.translate(None, self._number_bytes) != (self._separator * (layout.columns - 1) + b"\n") * count
        ):
            return None
        if self._separator != b",":
            blob = blob.replace(self._separator, b",")
        numbers = _parse(blob.replace(b"\n", b",") + b"0")
        if numbers is None:
            return None
        matrix = numbers[:-1].reshape(count, layout.columns)
        times = None
        if layout.time_column is not None:
            times = None if self._time_format == "rfc3339" else ns_of_array(matrix[:, layout.time_column], self._time_format)
            if times is None:
                return None
        return Table(matrix if layout.is_plain else matrix[:, layout.value_columns], times)

    def _columns(self, blob: bytes, layout: _Layout, count: int) -> Table | None:
        """Some columns are texts: each column is converted as a whole, if nothing is off."""
        if blob.translate(None, self._other_bytes) != (self._separator * (layout.columns - 1) + b"\n") * count:
            return None
        cells = blob[:-1].replace(b"\n", self._separator).split(self._separator)
        text = bytearray()
        for j, column in enumerate(layout.value_columns):
            part = cells[column :: layout.columns]
            if layout.value_fields[j].values is not None:
                texts = self._texts[j]
                part = [b"%r" % texts[cell] if cell in texts else cell for cell in part]
            text += b",".join(part)
            text += b","
        if text.translate(None, self._number_bytes) != b"," * (count * len(layout.value_columns)):
            return None
        numbers = _parse(bytes(text) + b"0")
        if numbers is None:
            return None
        try:
            times = self._times(cells[layout.time_column :: layout.columns]) if layout.time_column is not None else None
            keys = [
                tuple(map(key_of_bytes, row))
                for row in zip(*(cells[k :: layout.columns] for k in layout.key_columns), strict=True)
            ]
        except (BadTime, BadPayload, UnicodeDecodeError):
            return None
        matrix = np.ascontiguousarray(numbers[:-1].reshape(len(layout.value_columns), count).T)
        return Table(matrix, times, keys if layout.key_columns else None)

    def _times(self, cells: list[bytes]) -> NDArray[np.int64]:
        return np.array([ns_of_text(cell.decode(), self._time_format) for cell in cells], np.int64)

    def _line_by_line(self, lines: list[bytes], layout: _Layout) -> Table:
        """The careful path: the good lines, and why each of the others is none."""
        rows: list[list[float]] = []
        absent: list[list[bool]] = []
        times: list[int] = []
        keys: list[tuple[str, ...]] = []
        origin: list[int] = []
        rejects: list[Reject] = []
        for index, line in enumerate(lines):
            cells = line.split(self._separator)
            try:
                if len(cells) != layout.columns:
                    kind = "short" if len(cells) < layout.columns else "long"
                    raise BadPayload(kind, f"expected {layout.columns} columns, found {len(cells)}")
                row = [self._number(j, cells[column], layout) for j, column in enumerate(layout.value_columns)]
                key = tuple(key_of_bytes(cells[column]) for column in layout.key_columns)
                if layout.time_column is not None:
                    times.append(ns_of_text(cells[layout.time_column].decode("utf-8", "replace"), self._time_format))
            except (BadPayload, BadTime) as bad:
                rejects.append(Reject(bad.reason, bad.detail, payload=index))
                continue
            rows.append(row)
            absent.append([not cells[column].strip() for column in layout.value_columns])
            keys.append(key)
            origin.append(index)
        return Table(
            np.array(rows, np.float64).reshape(len(rows), len(layout.value_columns)),
            np.array(times, np.int64) if layout.time_column is not None else None,
            keys if layout.key_columns else None,
            np.array(origin, np.int32),
            np.array(absent, np.bool_).reshape(len(rows), len(layout.value_columns)),
            rejects,
        )

    def _number(self, j: int, cell: bytes, layout: _Layout) -> float:
        """The number of one cell; NaN for an empty one.

        Raises:
            BadPayload: when it holds something else.
        """
        stripped = cell.strip(b" \t")
        if stripped in self._texts[j]:
            return self._texts[j][stripped]
        if _NUMBER.fullmatch(cell) is not None:
            return float(cell)
        if not stripped or _NOT_FINITE.fullmatch(cell) is not None:
            return float(stripped or b"nan")
        field = layout.value_fields[j]
        try:
            shown = cell.decode()
        except UnicodeDecodeError:
            raise BadPayload(
                "not_utf8", f"{field.name}: expected a number, found bytes that are no text: {cell[:20]!r}"
            ) from None
        return number_of_text(field, shown)

    def _declared(self) -> _Layout:
        columns: list[FieldPlan] = []
        for field in self._plan.fields:
            columns += [field] * field.count
        return self._layout_of(columns)

    def _layout_of(self, columns: list[FieldPlan | None] | list[FieldPlan]) -> _Layout:
        names = [None if field is None else field.name for field in columns]
        values = [(field.start, at, field) for at, field in enumerate(columns) if field is not None and field.is_value]
        values.sort(key=lambda item: item[:2])
        time = self._plan.time_field
        return _Layout(
            len(columns),
            tuple(at for _, at, _ in values),
            tuple(field for _, _, field in values),
            None if time is None else names.index(time),
            tuple(names.index(name) for name in self._plan.key_fields),
            [at for _, at, _ in values] == list(range(len(columns))),
        )

    def _read_header(self, line: bytes, index: int) -> Reject | None:
        """Take the columns from `line`, if it names every field."""
        text = line.decode("utf-8", "replace").removeprefix("\ufeff")
        found = [cell.strip().removeprefix('"').removesuffix('"').strip() for cell in text.split(self._plan.separator)]
        wanted = {field.name: field for field in self._plan.fields if field.name != "_"}
        missing = [name for name in wanted if name not in found]
        if not missing:
            first = {name: found.index(name) for name in wanted}
            self._layout = self._layout_of([wanted[name] if first.get(name) == at else None for at, name in enumerate(found)])
            self._wants_header = False
        elif self._layout is None:
            near = difflib.get_close_matches(missing[0], found[:64], 1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            return Reject("missing", f'"{missing[0]}" is not in the header: {", ".join(found)[:200]}{hint}', payload=index)
        return None


def _parse(text: bytes) -> NDArray[np.float64] | None:
    """Numbers with commas between them; None when one is none. Only called when no other character is in it."""
    try:
        numbers = _FLOATS.decode(b"[%b]" % text)
    except msgspec.DecodeError:  # JSON knows no "+1", "007", ".5", "5." and no 1e999
        try:
            numbers = list(map(float, text.split(b",")))
        except ValueError:
            return None
    # packing is twice as fast as np.array and np.fromiter
    return np.frombuffer(struct.pack(f"{len(numbers)}d", *numbers), np.float64)


def _of_payloads(table: Table, lines: list[bytes], owners: list[int]) -> Table:
    """The same table, its lines numbered by payload."""
    owner = np.array(owners, np.int32)
    table.origin = owner[: len(table.raw)] if table.origin is None else owner[table.origin]
    starts = [0] * len(lines)
    for index in range(1, len(lines)):
        if owners[index] == owners[index - 1]:
            starts[index] = starts[index - 1] + len(lines[index - 1]) + 1
    table.rejects = [
        reject._replace(payload=owners[reject.payload], data=lines[reject.payload][:64], offset=starts[reject.payload])
        for reject in table.rejects
    ]
    return table


def _joined(tables: list[Table], width: int) -> Table:
    """The tables of several payloads as one."""
    has_absent = any(table.absent is not None for table in tables)
    times = [table.times for table in tables if table.times is not None]
    keys = [table.keys for table in tables if table.keys is not None]
    return Table(
        np.concatenate([np.empty((0, width)), *(table.raw for table in tables)]),
        np.concatenate(times) if times else None,
        [key for part in keys for key in part] if keys else None,
        np.concatenate([np.empty(0, np.int32), *(table.origin for table in tables if table.origin is not None)]),
        np.concatenate([np.zeros(table.raw.shape, np.bool_) if table.absent is None else table.absent for table in tables])
        if has_absent
        else None,
        [reject for table in tables for reject in table.rejects],
    )
