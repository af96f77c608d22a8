"""Lines of numbers, as an array.

A blob of lines goes through C four times and never becomes Python lines: what is left of it without the characters of
numbers must be exactly the separators of so many lines; then all its numbers are one JSON array. Measured with 6 columns:
0.3 us a line, where splitting and `float` take 1.5. Only a blob in which something is off is looked at line by line, and
there the good lines give what they give on the fast path.
"""

from __future__ import annotations

import difflib
import math
import re
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edged.decode.cells import HELD, closed_signs, one_blank, unquoted
from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.refusals import MAX_ROWS, TOO_MANY_ROWS, Refusals
from edged.decode.times import BadTime, is_text, ns_of_array, ns_of_text
from edged.decode.values import ABSENT, MAX_WORDS, OF_TEXT, BadPayload, Gaps, Table, constant_texts, key_of_bytes, no_number
from edged.decode.where import Condition, refuse_others
from edged.errors import Problem
from edged.records import EXCERPT, Reject

if TYPE_CHECKING:
    from edged.config import schema

_FEW_LINES = 32
"""So few lines are looked at one by one as soon as something is off."""

_FLOATS = msgspec.json.Decoder(list[float])
_NUMBER = re.compile(rb"[ \t]*([+-][ \t]*)?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
_HEX = re.compile(rb"[ \t]*[+-]?(0[xX])?[0-9a-fA-F]+[ \t]*")
_HEX_DIGITS = b"0123456789abcdefABCDEF"
_HEX_VALUES = np.full(256, 16, np.uint8)
_HEX_VALUES[list(_HEX_DIGITS)] = [int(chr(digit), 16) for digit in _HEX_DIGITS]
_MAX_HEX_DIGITS = 13
_POINTS = bytes.maketrans(b",.", b".,")
"""Of numbers with a decimal comma. A point becomes a comma, which no number has then."""
_MAX_JUDGED = 1024
_NUMBER_BYTES = b"0123456789+-.eE "
_BOM = b"\xef\xbb\xbf"
_NOT_FINITE = re.compile(rb"[ \t]*[+-]?(nan|inf|infinity)[ \t]*", re.IGNORECASE)


class _Layout(NamedTuple):
    """Which column is what. `value_columns[j]` is the column of number j of a row; `is_plain`: they are all, in order.

    `conditions`: what `where` wants, the base of its numbers, and what finds its cell in each line, `""` where there is none.
    """

    columns: int
    value_columns: tuple[int, ...]
    value_fields: tuple[FieldPlan, ...]
    time_column: int | None
    key_columns: tuple[int, ...]
    conditions: tuple[tuple[Condition, int, re.Pattern[bytes]], ...]
    is_plain: bool


class Csv:
    """Lines to a Table. With a header it learns the columns from the first line of a stream, or of each payload."""

    def __init__(self, plan: DecodePlan) -> None:
        self._plan = plan
        self._separator = plan.separator.encode()
        self._has_commas = plan.decimal == ","
        self._number_bytes = b"0123456789+-eE" + plan.decimal.encode() + (b" " if self._separator != b" " else b"")
        self._other_bytes = bytes(sorted(set(range(256)) - set(self._separator + b"\n")))
        self._time_format = plan.time_format or ""
        self._wanted = {field.name: field for field in plan.fields if field.name != "_"}
        self._layout = None if plan.header else self._declared()
        self._wants_header = plan.header
        self._named = [name.encode() for name in self._wanted]
        self._is_any_hex = any(field.base == 16 for field in plan.value_fields)
        self._judged: dict[tuple[int, bytes], str] = {}
        self._takes_texts = False
        self._texts = [constant_texts(field) for field in plan.value_fields for _ in range(field.count)]

    def reset(self) -> None:
        """The stream starts again: its first line may be a header. A sensor that says it only at power-on keeps its old one."""
        self._wants_header = self._plan.header

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        """Payloads of one line or several; each bad line is refused by itself. A text in the place of a number is noise on a
        line, and in a message a bad value: `unavailable`, say."""
        self._takes_texts = self._plan.on_bad != "drop"
        lines: list[bytes] = []
        owners: list[int] = []
        tables: list[Table] = []
        for index, payload in enumerate(payloads):
            if payload.endswith(b"\0") or payload.startswith(_BOM):
                payload = payload.rstrip(b"\0").removeprefix(_BOM)
            body = payload[:-1] if payload.endswith(b"\n") else payload
            if b"\r" in body:
                body = body.replace(b"\r\n", b"\n").removesuffix(b"\r")
            part = body.split(b"\n")
            if len(part) > MAX_ROWS:
                refusals.add(Reject("too_many_rows", f"{len(part)} lines: {TOO_MANY_ROWS}", payload=index))
            elif self._plan.header:
                self._wants_header, self._layout = True, None
                tables.append(self._decode(LineBlock(body + b"\n", refusals, part, [index] * len(part))))
            else:
                lines += part
                owners += [index] * len(part)
        if self._plan.header:
            return _joined(tables, len(self._texts))
        if not lines:
            return self._empty()
        is_one_each = owners == list(range(len(payloads)))
        return self._decode(LineBlock(b"\n".join(lines) + b"\n", refusals, lines, None if is_one_each else owners))

    def decode_lines(self, blob: bytes, refusals: Refusals) -> Table:
        """Complete lines, each ended by one line feed. `origin` and `payload` count lines."""
        layout = self._layout
        if layout is not None and not (self._wants_header or layout.conditions):  # most often nothing is off
            table = self._numbers(blob, layout)
            if table is not None:
                return table
        return self._decode(LineBlock(blob, refusals))

    def _decode(self, text: LineBlock) -> Table:
        text.simplify(self._simple(text.blob))
        begin = self._skip_header(text) if self._wants_header else 0
        if self._layout is not None and self._layout.conditions and begin < text.count:
            text, begin = self._meant(text, self._layout, begin)
        if self._layout is None or begin == text.count:
            return self._empty()
        table = self._table(text, self._layout, begin)
        if text.owners is not None:
            origin = np.arange(text.count) if table.origin is None else table.origin
            table.origin = np.array(text.owners, np.int32)[origin]
        return table

    def _simple(self, blob: bytes) -> bytes:
        """The same lines with plain cells."""
        blob = unquoted(blob, self._separator)
        return one_blank(blob) if self._separator == b" " else blob

    def _meant(self, text: LineBlock, layout: _Layout, begin: int) -> tuple[LineBlock, int]:
        """The lines that `where` means, and where they begin; the others are refused."""
        blob = text.blob if not begin else b"".join(line + b"\n" for line in text.lines[begin:])
        others: dict[int, str] = {}
        for at, (condition, base, finder) in enumerate(layout.conditions):
            cells = finder.findall(blob)
            reasons = {cell: self._judge(at, condition, base, cell) for cell in set(cells)}
            if any(reasons.values()):
                for i, cell in enumerate(cells):
                    if reasons[cell]:
                        others.setdefault(i + begin, reasons[cell])
        if not others:
            return text, begin
        which = sorted(others)
        refuse_others(text.refusals, text.payloads(which), [others[i] for i in which])
        return text.only([i for i in range(begin, text.count) if i not in others]), 0

    def _judge(self, at: int, condition: Condition, base: int, cell: bytes) -> str:
        """Why a line with this cell is another one; empty when it is meant. Remembered, since a port has few kinds of lines."""
        reason = self._judged.get((at, cell))
        if reason is None:
            if len(self._judged) >= _MAX_JUDGED:
                self._judged.clear()
            found = cell.replace(HELD, self._separator).decode("utf-8", "replace").strip()
            reason = "" if condition.fits_text(found, base) else condition.other(found)
            self._judged[at, cell] = reason
        return reason

    def _empty(self) -> Table:
        times = np.empty(0, np.int64) if self._time_format else None
        return Table(np.empty((0, len(self._texts))), times, [] if self._plan.key_fields else None, np.empty(0, np.int32))

    def _table(self, text: LineBlock, layout: _Layout, begin: int) -> Table:
        """All lines at once if nothing is off. Else without those of the wrong number of columns, and the others in runs: a bad
        line slows down few others, and after it the runs grow again."""
        blob = text.blob if not begin else b"".join(line + b"\n" for line in text.lines[begin:])
        table = self._at_once(blob, layout)
        if table is not None:
            table.origin = np.arange(begin, text.count, dtype=np.int32) if begin else None
            return table
        which, tables, careful = self._of_the_right_width(text, layout, begin), [self._empty()], list[int]()
        at, size = 0, _FEW_LINES
        while at < len(which):
            run = which[at : at + size]
            table = self._at_once(b"".join([text.lines[i] + b"\n" for i in run]), layout)
            if table is None and size > _FEW_LINES:
                size = _FEW_LINES
                continue
            if table is None:
                careful += run
            else:
                table.origin = np.array(run, np.int32)
                tables.append(table)
                size *= 2
            at += len(run)
        if careful:
            tables.append(self._line_by_line(text, layout, careful))
        return _joined(tables, len(layout.value_columns))

    def _of_the_right_width(self, text: LineBlock, layout: _Layout, begin: int) -> list[int]:
        """The lines that have as many columns as they must; refuses the others."""
        lines, separator, wanted = text.lines, self._separator, layout.columns - 1
        found = [line.count(separator) for line in lines]
        for kind, wrong in (
            ("short", [i for i in range(begin, text.count) if found[i] < wanted]),
            ("long", [i for i in range(begin, text.count) if found[i] > wanted]),
        ):

            def words(i: int, kind: str = kind, wrong: list[int] = wrong) -> Reject:
                return text.reject(kind, f"expected {layout.columns} columns, found {found[wrong[i]] + 1}", wrong[i])

            text.refusals.add_all(text.payloads(wrong), words)
        return [i for i in range(begin, text.count) if found[i] == wanted]

    def _at_once(self, blob: bytes, layout: _Layout) -> Table | None:
        return self._numbers(blob, layout) or self._columns(blob, layout)

    def _count(self, blob: bytes, layout: _Layout, cells: bytes) -> int | None:
        """How many lines there are; None where what is left of them without the characters of cells is more than separators."""
        left = blob.translate(None, cells)
        count = len(left) // layout.columns
        return count if left == (self._separator * (layout.columns - 1) + b"\n") * count else None

    def _numbers(self, blob: bytes, layout: _Layout) -> Table | None:
        """Every column is a number and nothing is off."""
        if self._is_any_hex:
            return self._hex_numbers(blob, layout)
        count = None if layout.key_columns else self._count(blob, layout, self._number_bytes)
        if count is None:
            return None
        if self._has_commas:
            blob = blob.translate(_POINTS)
        if self._separator != b",":
            blob = blob.replace(self._separator, b",")
        blob = blob.replace(b"\n", b",")
        if b" " in blob:  # not before: behind a sign that stands alone a separator may be a blank
            blob = closed_signs(blob)
        numbers = parse_numbers(blob + b"0")
        if numbers is None:
            return None
        matrix = numbers[:-1].reshape(count, layout.columns)
        times = None
        if layout.time_column is not None:
            times = None if is_text(self._time_format) else ns_of_array(matrix[:, layout.time_column], self._time_format)
            if times is None:
                return None
        return Table(matrix if layout.is_plain else matrix[:, layout.value_columns], times)

    def _hex_numbers(self, blob: bytes, layout: _Layout) -> Table | None:
        """The same of hexadecimal ones."""
        if layout.key_columns or layout.time_column is not None or any(f.base != 16 or f.values for f in layout.value_fields):
            return None
        count = self._count(blob, layout, self._other_bytes)
        if count is None:
            return None
        numbers = _hexes(blob[:-1].replace(b"\n", b",").replace(self._separator, b","))
        if numbers is None:
            return None
        matrix = numbers.reshape(count, layout.columns)
        return Table(matrix if layout.is_plain else matrix[:, layout.value_columns])

    def _columns(self, blob: bytes, layout: _Layout) -> Table | None:
        """Some columns are texts: each column is converted as a whole, if nothing is off."""
        count = self._count(blob, layout, self._other_bytes)
        if count is None:
            return None
        return self._of_cells(blob[:-1].replace(b"\n", self._separator).split(self._separator), layout, count)

    def _of_cells(self, cells: list[bytes], layout: _Layout, count: int) -> Table | None:
        text = bytearray()
        hexes: dict[int, NDArray[np.float64]] = {}
        for j, column in enumerate(layout.value_columns):
            part = cells[column :: layout.columns]
            field = layout.value_fields[j]
            if field.base == 16:
                found = _hexes(b",".join(part))
                if found is None:
                    return None
                hexes[j] = found
                part = [b"0"] * count
            elif field.values is not None:
                texts = self._texts[j]
                part = [b"%r" % texts[cell] if cell in texts else self._with_point(cell) for cell in part]
            elif self._has_commas:
                part = b"\n".join(part).translate(_POINTS).split(b"\n")
            text += b",".join(part)
            text += b","
        if text.translate(None, _NUMBER_BYTES) != b"," * (count * len(layout.value_columns)):
            return None
        numbers = parse_numbers(closed_signs(bytes(text)) + b"0")
        if numbers is None:
            return None
        try:
            times = self._times(cells[layout.time_column :: layout.columns]) if layout.time_column is not None else None
            keys = [
                tuple(map(self._key, row)) for row in zip(*(cells[k :: layout.columns] for k in layout.key_columns), strict=True)
            ]
        except (BadTime, BadPayload, UnicodeDecodeError):
            return None
        matrix = np.array(numbers[:-1].reshape(len(layout.value_columns), count).T, order="C")
        for j, column_of_hex in hexes.items():
            matrix[:, j] = column_of_hex
        return Table(matrix, times, keys if layout.key_columns else None)

    def _times(self, cells: list[bytes]) -> NDArray[np.int64]:
        return np.array([self._time(cell) for cell in cells], np.int64)

    def _time(self, cell: bytes) -> int:
        if self._has_commas and not is_text(self._time_format):
            cell = cell.translate(_POINTS)
        return ns_of_text(cell.replace(HELD, self._separator).decode(), self._time_format)

    def _key(self, cell: bytes) -> str:
        return key_of_bytes(cell.replace(HELD, self._separator) if HELD in cell else cell)

    def _with_point(self, cell: bytes) -> bytes:
        return cell.translate(_POINTS) if self._has_commas else cell

    def _line_by_line(self, text: LineBlock, layout: _Layout, which: list[int]) -> Table:
        """The careful path: the good ones of these lines, and why each of the others is none."""
        numbers: list[float] = []
        gaps: list[int] = []
        words: dict[tuple[int, int], str] = {}
        times: list[int] = []
        keys: list[tuple[str, ...]] = []
        origin: list[int] = []
        columns, key_columns, time_column = tuple(enumerate(layout.value_columns)), layout.key_columns, layout.time_column
        for index in which:
            cells = text.lines[index].split(self._separator)
            texts: dict[int, str] = {}
            try:
                try:
                    row = [self._number(j, cells[column], layout) for j, column in columns]
                except _NoNumber:
                    if not self._takes_texts:
                        raise
                    row, texts = self._with_texts(cells, layout)
                key = tuple([self._key(cells[column]) for column in key_columns]) if key_columns else ()
                if time_column is not None:
                    times.append(self._time(cells[time_column].decode("utf-8", "replace").encode()))
            except (BadPayload, BadTime) as bad:
                text.refusals.add(text.reject(bad.reason, bad.detail, index))
                continue
            numbers += row
            gaps += [0 if cells[column].strip() else ABSENT for column in layout.value_columns]
            for j in texts:
                gaps[j - len(columns)] = OF_TEXT
            for j, shown in texts.items() if len(words) < MAX_WORDS else ():
                words[len(origin), j] = shown
            keys.append(key)
            origin.append(index)
        return Table(
            np.array(numbers, np.float64).reshape(len(origin), len(columns)),
            np.array(times, np.int64) if time_column is not None else None,
            keys if key_columns else None,
            np.array(origin, np.int32),
            np.array(gaps, np.uint8).reshape(len(origin), len(columns)),
            words or None,
        )

    def _with_texts(self, cells: list[bytes], layout: _Layout) -> tuple[list[float], dict[int, str]]:
        """The numbers of a line, NaN where a text stands, and what is wrong with that."""
        row: list[float] = []
        texts: dict[int, str] = {}
        for j, column in enumerate(layout.value_columns):
            try:
                row.append(self._number(j, cells[column], layout))
            except _NoNumber as bad:
                row.append(math.nan)
                texts[j] = bad.detail
        return row, texts

    def _number(self, j: int, cell: bytes, layout: _Layout) -> float:
        """The number of one cell; NaN for an empty one.

        Raises:
            BadPayload: when it holds something else.
        """
        if not cell:
            return math.nan
        stripped = cell.strip(b" \t")
        if stripped in self._texts[j]:
            return self._texts[j][stripped]
        field = layout.value_fields[j]
        if field.base == 16 and _HEX.fullmatch(cell) is not None:
            return _float_of(int(cell, 16))
        number = self._with_point(cell)
        if field.base == 10 and _NUMBER.fullmatch(number) is not None:
            return float(number.translate(None, b" \t"))
        if not stripped or _NOT_FINITE.fullmatch(cell) is not None:
            return float(stripped or b"nan")
        try:
            shown = cell.decode()
        except UnicodeDecodeError:
            raise BadPayload(
                "not_utf8", f"{field.name}: expected a number, found bytes that are no text: {cell[:20]!r}"
            ) from None
        raise _NoNumber("not_a_number", no_number(field, shown))

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
            tuple(
                (one, self._wanted[one.name].base, _finder(self._separator, names.index(one.name))) for one in self._plan.where
            ),
            [at for _, at, _ in values] == list(range(len(columns))),
        )

    def _skip_header(self, text: LineBlock) -> int:
        """Takes the columns from the first line that names every field; the number of lines up to there. Before any was seen, the
        others are refused; the columns may be known from before, and then the first line may be none."""
        index = 0
        for index, line in enumerate(text.lines):
            if all(name in line for name in self._named):
                found = self._names(line)
                first = {name: found.index(name) for name in self._wanted if name in found}
                if len(first) == len(self._wanted):
                    columns = [self._wanted[name] if first.get(name) == at else None for at, name in enumerate(found)]
                    self._layout = self._layout_of(columns)
                    self._wants_header = False
                    break
            if self._layout is not None:
                self._wants_header = False
                return index
        else:
            index = text.count

        def words(i: int) -> Reject:
            return text.reject("missing", self._not_in_header(self._names(text.lines[i])), i)

        text.refusals.add_all(text.payloads(list(range(index))), words)
        return min(index + 1, text.count)

    def _names(self, line: bytes) -> list[str]:
        text = line.decode("utf-8", "replace").removeprefix("\ufeff")
        return [cell.strip().removeprefix('"').removesuffix('"').strip() for cell in text.split(self._plan.separator)]

    def _not_in_header(self, found: list[str]) -> str:
        name = next(name for name in self._wanted if name not in found)
        near = difflib.get_close_matches(name, found[:64], 1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        return f'"{name}" is not in the header: {", ".join(found)[:200]}{hint}'


class _NoNumber(BadPayload):
    """A cell with a text that stands for no number."""


class LineBlock:
    """Lines: together, each ended by a line feed, and one by one once that is asked for. `owners[i]` is the payload of line i;
    None: each is one."""

    def __init__(
        self, blob: bytes, refusals: Refusals, lines: list[bytes] | None = None, owners: list[int] | None = None
    ) -> None:
        self.blob = blob
        self.refusals = refusals
        self.owners = owners
        self.count = blob.count(b"\n") if lines is None else len(lines)
        self._lines = lines
        self._shown = lines

    def simplify(self, blob: bytes) -> None:
        """The same lines in another form; what is refused is shown as it came."""
        if blob is not self.blob:
            self.blob, self._lines = blob, None

    def renewed(self, lines: list[bytes], which: list[int]) -> LineBlock:
        """New lines made of those numbered `which`; what is refused is shown as it came."""
        some = LineBlock(b"\n".join(lines) + b"\n", self.refusals, lines, self.payloads(which))
        some._shown = None if self._shown is None else [self._shown[i] for i in which]
        return some

    def only(self, which: list[int]) -> LineBlock:
        """These lines by themselves."""
        return self.renewed([self.lines[i] for i in which], which)

    @property
    def lines(self) -> list[bytes]:
        if self._lines is None:
            self._lines = self.blob[:-1].split(b"\n")
        return self._lines

    def payloads(self, which: list[int]) -> list[int]:
        return which if self.owners is None else [self.owners[i] for i in which]

    def reject(self, reason: str, detail: str, index: int) -> Reject:
        """Where there are owners with the line, and its place in its payload."""
        owner = index if self.owners is None else self.owners[index]
        if self.owners is None or self._shown is None or self.refusals.is_one or not self.refusals.says(reason, owner):
            return Reject(reason, detail, payload=owner)
        start = sum(len(line) + 1 for line in self._shown[bisect_left(self.owners, owner) : index])
        return Reject(reason, detail, self._shown[index][:EXCERPT], start, owner)


def _finder(separator: bytes, column: int) -> re.Pattern[bytes]:
    """Finds in each line its cell of one column."""
    other = re.escape(separator)
    return re.compile(rb"(?:(?:[^\n%b]*%b){%d}([^\n%b]*))?[^\n]*\n" % (other, other, column, other))


def _hexes(cells: bytes) -> NDArray[np.float64] | None:
    """Numbers in hexadecimal with commas between them; None when one is none, or has a sign, blanks or more digits than a float
    can be sure of."""
    text = b",%b," % cells
    if b"x" in text or b"X" in text:
        text = text.replace(b",0x", b",").replace(b",0X", b",")
    if text.translate(None, _HEX_DIGITS + b","):
        return None
    places = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(places == ord(","))
    sizes = np.diff(ends) - 1
    if sizes.min() < 1 or sizes.max() > _MAX_HEX_DIGITS:
        return None
    values, numbers = _HEX_VALUES[places], np.zeros(len(sizes))
    for digit in range(int(sizes.max())):
        numbers += np.where(sizes > digit, values[ends[1:] - 1 - digit], 0) * 16.0**digit
    return numbers


def _float_of(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def parse_numbers(text: bytes) -> NDArray[np.float64] | None:
    """Numbers with commas between them; None when one is none. Only called when no other character is in it."""
    if b"+" in text and b"+-" not in text and b"++" not in text:
        text = text.removeprefix(b"+").replace(b",+", b",")
    try:
        numbers = _FLOATS.decode(b"[%b]" % text)
    except msgspec.DecodeError:  # JSON knows no "007", ".5", "5." and no 1e999
        try:
            numbers = list(map(float, text.split(b",")))
        except ValueError:
            return None
    # packing is twice as fast as np.array and np.fromiter
    return np.frombuffer(struct.pack(f"{len(numbers)}d", *numbers), np.float64)


def _joined(tables: list[Table], width: int) -> Table:
    """Parts of a table, or those of several payloads, in the order of their lines."""
    times = [table.times for table in tables if table.times is not None]
    keys = [key for table in tables for key in table.keys or ()]
    origin = np.concatenate([np.empty(0, np.int32), *(table.origin for table in tables if table.origin is not None)])
    order = np.argsort(origin, kind="stable")
    gaps: list[Gaps] = [np.zeros(table.raw.shape, np.uint8) if table.gaps is None else table.gaps for table in tables]
    place = np.argsort(order)
    words, start = {}, 0
    for table in tables:
        for (row, column), text in (table.words or {}).items():
            words[place.item(start + row), column] = text
        start += len(table.raw)
    return Table(
        np.concatenate([np.empty((0, width)), *(table.raw for table in tables)])[order],
        np.concatenate(times)[order] if times else None,
        [keys[i] for i in order.tolist()] if any(table.keys is not None for table in tables) else None,
        origin[order],
        np.concatenate(gaps)[order] if any(table.gaps is not None for table in tables) else None,
        words or None,
    )


def misfits(decode: schema.Decode, fields: Sequence[FieldPlan]) -> Iterator[Problem]:
    """What is wrong with settings and fields together."""
    for i, field in enumerate(fields):
        if decode.header and field.shape:
            yield Problem(f"decode.fields[{i}].shape", "a header names single columns: name each as a field of its own")
    separator = decode.separator
    if len(separator) != 1 or not separator.isascii() or separator.isalnum() or separator in "+-._\r\n\0":
        text = f'expected one character that no number has, such as "," ";" or "\\t", found {separator!r}'
        yield Problem("decode.separator", text)


def line_bytes(fields: Sequence[schema.FieldSpec]) -> int:
    """About as many as a line with one sample has, without its end."""
    return sum(6 * math.prod(f.shape) for f in fields)
