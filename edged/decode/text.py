"""Lines in which a label stands before each value, or that a pattern describes.

Each line gives the cells of a line of csv, and what csv does with cells is done with these. Cells are found in many lines by
one call into C where each line has exactly one match; else line by line. Lines of plain numbers that differ in nothing but
their digits need no search at all: what stands between the numbers of one line is looked for in all of them (`_Form`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edged.decode.csv import Csv, LineBlock, parse_numbers
from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.refusals import Refusals
from edged.decode.values import Table
from edged.decode.where import refuse_others
from edged.notation.markers import BLOCKS
from edged.notation.patterns import groups_of, stays_in_line

_CELL = b"\x1f"
_MARKS = [bytes([byte]) for byte in range(1, 32) if byte not in b"\t\n\r\x1f"]
"""What stands for the literals of a form: as many numbers may be in its lines."""
_HEX = rb"[+-]?(?:0[xX])?[0-9a-fA-F]+(?!\w)"
_NOISE = rb"[\x00-\x08\x0e-\x1f\x7f-\xaf\xb1\xb4\xb6-\xb9\xbb-\xc1\xc3-\xcd\xcf-\xde\xe0\xe1\xe3-\xf7\xf9-\xff]"
"""Bytes with which no unit begins, so that the number before them is damaged: all above ASCII, but for those of degrees, micro,
powers and ohm in Latin-1, UTF-8 and the sets of displays."""
_OF_NUMBERS = b"0123456789+-."
_DECIMAL = rb"[+-]?[ \t]*(?:[0-9]+(?:%(point)b[0-9]*)?|%(point)b[0-9]+)(?:[eE][+-]?[0-9]+)?(?!%(point)b?(?:[0-9]|%(noise)b))"
_RUN = re.compile(rb"(?<![\w.,+-])[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?![0-9.])")

_GROUP = re.compile(r"\(\?P<(\w+)>([^()|]*)\)")
_DIGITS_AND_SIGNS = re.compile(r"(?:(?:\\d|\\\.|\[(?:[-+.0-9]|\\d|\\\.)+\]|[-0-9])(?:[+*?]|\{\d+(?:,\d*)?\})?)+")
_LITERAL = re.compile(r"(?:[^\\.^$*+?{}\[\]|()0-9-]|\\[^\w.+-])*")
_SOME = re.compile(rb"\[?((?:\\d|[+.]|\\\.|-(?=[\]\\+.])|(?<=\[)-|-(?=\]))+)\]?\+")
_ESCAPED = re.compile(r"\\(.)")

Rows = list["tuple[bytes, ...] | None"]


class Text(Csv):
    """Lines to a Table."""

    def __init__(self, plan: DecodePlan) -> None:
        super().__init__(replace(plan, separator=_CELL.decode(), header=False))
        self._searches: list[_Search]
        self._is_of_blocks = plan.frame is not None and plan.frame.type in BLOCKS
        if plan.pattern is None:
            self._searches = [_Search(_after(plan, field), [1], label=field.after.encode()) for field in plan.fields]
            self._why = f"none of {', '.join(field.after for field in plan.value_fields)} in it"
        else:
            groups = groups_of(plan.pattern)
            flags = re.MULTILINE if self._is_of_blocks else 0
            compiled = re.compile(plan.pattern.encode(), flags)
            columns = [compiled.groupindex[field.name] for field in plan.fields if field.name in groups]
            self._searches = [_Search(plan.pattern.encode(), columns, stays_in_line(plan.pattern), flags=flags)]
            self._why = "decode.pattern does not match"
        is_plain = all(field.is_value and field.base == 10 and field.values is None for field in plan.fields)
        self._learns = is_plain and plan.decimal == "." and (plan.pattern is None or _are_numbers(plan.pattern))
        self._form: _Form | None = None

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        """Payloads of lines, each a sample; a block of lines is one."""
        if not self._is_of_blocks:
            return super().decode(payloads, refusals)
        found = [one.one_by_one(list(payloads)) for one in self._searches]
        rows = found[0] if len(found) == 1 else list(map(_joined, *found))
        kept = [i for i, row in enumerate(rows) if row is not None]
        others = [i for i, row in enumerate(rows) if row is None]
        refuse_others(refusals, others, [self._why] * len(others))
        if not kept:
            return self._empty()
        lines = [_CELL.join(row).replace(b"\n", b" ") for row in rows if row is not None]
        return super()._decode(LineBlock(b"\n".join(lines) + b"\n", refusals, lines, kept))

    def _decode(self, text: LineBlock) -> Table:
        if self._form is not None:
            values = self._form.read(text.blob, text.count)
            if values is not None:
                return Table(values, origin=None if text.owners is None else np.array(text.owners, np.int32))
        blob = text.blob.replace(_CELL, b"\0") if _CELL in text.blob else text.blob
        rows = self._rows(blob, text.count)
        if self._learns and rows and rows[-1] is not None:
            self._form = _Form.of(blob[blob.rfind(b"\n", 0, -1) + 1 : -1], self._searches)
        kept = [i for i, row in enumerate(rows) if row is not None]
        if len(kept) < len(rows):
            others = [i for i, row in enumerate(rows) if row is None]
            refuse_others(text.refusals, text.payloads(others), [self._why] * len(others))
        elif self._layout is not None and not self._layout.conditions:
            table = self._of_cells([cell for row in rows for cell in row or ()], self._layout, text.count)
            if table is not None:
                table.origin = None if text.owners is None else np.array(text.owners, np.int32)
                return table
        if not kept:
            return self._empty()
        return super()._decode(text.renewed([_CELL.join(row) for row in rows if row is not None], kept))

    def _simple(self, blob: bytes) -> bytes:
        return blob

    def _rows(self, blob: bytes, count: int) -> Rows:
        """The cells of each line; None where it holds none."""
        found: list[Rows] = []
        for search in self._searches:
            cells = search.at_once(blob, count)
            if cells is None:
                lines = blob[:-1].split(b"\n")
                found = [one.one_by_one(lines) for one in self._searches]
                break
            found.append(cells)
        return found[0] if len(found) == 1 else list(map(_joined, *found))


class _Search:
    """One regular expression over lines; `groups` are those whose texts are wanted, in order."""

    def __init__(self, pattern: bytes, groups: list[int], stays_in_line: bool = True, label: bytes = b"", flags: int = 0) -> None:
        self.is_label = label != b""
        self.label, self.parts = label, []
        if not self.is_label and _are_numbers(pattern.decode()):
            texts = _GROUP.split(pattern.decode().removeprefix("^"))
            self.label = _ESCAPED.sub(r"\1", texts[0]).encode()
            if len(groups) * 3 + 1 == len(texts):
                self.parts = [texts[3 * group - 1].encode() for group in groups]
        self.find = re.compile(pattern, flags).search
        self.groups = groups
        self._all: re.Pattern[bytes] | None = None
        if stays_in_line:
            with suppress(re.error):  # flags cannot stand within
                self._all = re.compile(rb"(?:%b)[^\n]*\n" % pattern, re.MULTILINE)  # no line has two

    def at_once(self, blob: bytes, count: int) -> Rows | None:
        """The texts of each line; None when a line has none, and each must be looked at."""
        if self._all is None:
            return None
        found = self._all.findall(blob)
        if len(found) != count:
            return None
        if self._all.groups == 1:
            return [(text,) for text in found]
        if self.groups == list(range(1, self._all.groups + 1)):
            return found
        places = [group - 1 for group in self.groups]
        return [tuple([row[place] for place in places]) for row in found]

    def one_by_one(self, lines: list[bytes]) -> Rows:
        groups = self.groups
        return [None if (one := self.find(line)) is None else tuple([one[g] or b"" for g in groups]) for line in lines]


class _Group:
    """What a group of a pattern wants its numbers to be."""

    def __init__(self, source: bytes) -> None:
        some = _SOME.fullmatch(source.replace(b"0-9", rb"\d"))
        self._all = re.compile(rb"(?:%b,)*" % source)
        self._characters = None if some is None else some[1].replace(rb"\d", b"0123456789").replace(b"\\", b"")

    def fits(self, cells: list[bytes]) -> bool:
        """Whether all of these do."""
        if self._characters is not None:
            return not b"".join(cells).translate(None, self._characters)
        return self._all.fullmatch(b",".join([*cells, b""])) is not None


class _Form:
    """What stands around the numbers of a line, where that is the same in all lines: line `literals[0]` number `literals[1]`
    number ... `literals[-1]`. `columns[j]` is which of the numbers is value j."""

    def __init__(self, literals: list[bytes], columns: list[int]) -> None:
        self._width = len(literals) - 1
        self._columns = columns
        self._is_plain = columns == list(range(self._width))
        self._first, self._last = literals[0], literals[-1] + b"\n"
        self._marks = _MARKS[: self._width]
        self._between = list(zip([*literals[1:-1], self._last + self._first], self._marks, strict=False))
        self._inner = b"".join([mark for _, mark in self._between[:-1]])
        self._groups: list[_Group] = []
        self._to_commas = bytes.maketrans(b"".join(self._marks), b"," * self._width)

    @classmethod
    def of(cls, line: bytes, searches: list[_Search]) -> _Form | None:
        """That of one good line; None unless each line of this form is read like this one, number for number."""
        found = [search.find(line) for search in searches]
        if None in found:
            return None
        spans = [
            one.span(group) for one, search in zip(found, searches, strict=True) for group in search.groups if one is not None
        ]
        runs = [run.span() for run in _RUN.finditer(line)]
        if not set(spans) <= set(runs) or len(runs) > len(_MARKS) or len(set(spans)) < len(spans):
            return None
        edges = [0, *(edge for run in runs for edge in run), len(line)]
        literals = [line[start:stop] for start, stop in zip(edges[::2], edges[1::2], strict=True)]
        around = [*literals[1:-1], literals[-1] + b"\n" + literals[0]]
        # a number ends where these begin, and begins where they end
        if any(not one or one[:1] in _OF_NUMBERS or one[-1:] in _OF_NUMBERS for one in around) or literals[0][-1:] in _OF_NUMBERS:
            return None
        text = b"\n".join(literals)
        for search in searches:
            at = text.find(search.label)
            if text.count(search.label) != 1 or (search.is_label and not search.label.isalpha()):
                return None
            if not search.is_label and not search.parts:
                return None
            if search.is_label and at and text[at - 1 : at] == b"\n":
                return None
        form = cls(literals, [runs.index(span) for span in spans])
        form._groups = [_Group(part) for search in searches for part in search.parts]
        return form

    def read(self, blob: bytes, count: int) -> NDArray[np.float64] | None:
        """The values of lines that are all of this form; None when one is not."""
        if not (blob.startswith(self._first) and blob.endswith(self._last)) or any(mark in blob for mark in self._marks):
            return None
        body = blob[len(self._first) : len(blob) - len(self._last)]
        for literal, mark in self._between:
            body = body.replace(literal, mark)
        line = self._inner + self._marks[-1]
        if body.translate(None, _OF_NUMBERS) != (line * count)[:-1]:
            return None
        text = body.translate(self._to_commas)
        if self._groups:
            cells = text.split(b",")
            for group, column in zip(self._groups, self._columns, strict=True):
                if not group.fits(cells[column :: self._width]):
                    return None
        numbers = parse_numbers(text)
        if numbers is None or len(numbers) != count * self._width:  # none at all is a list, too
            return None
        matrix = numbers.reshape(count, self._width)
        return matrix if self._is_plain else matrix[:, self._columns]


def _are_numbers(pattern: str) -> bool:
    """Whether a pattern is numbers with literals before and between them, in which no number stands: then a line that differs in
    nothing but its numbers from one that it matches is matched as well, if each number is what its group says."""
    first, *rest = _GROUP.split(pattern.removeprefix("^"))
    literals, groups = [first, *rest[2::3]], rest[1::3]
    return (
        first != ""
        and bool(groups)
        and all(literals[1:-1])
        and all(map(_LITERAL.fullmatch, literals))
        and all(map(_DIGITS_AND_SIGNS.fullmatch, groups))
    )


def _joined(*parts: tuple[bytes, ...] | None) -> tuple[bytes, ...] | None:
    """The cells of one line, empty where a label is not in it; None when none is."""
    if all(part is None for part in parts):
        return None
    return tuple([b"" if part is None else part[0] for part in parts])


def _after(plan: DecodePlan, field: FieldPlan) -> bytes:
    """The regular expression of a field behind its label: a number, a text that stands for one, or what is there instead.

    Of a time or key the next word. A comma belongs to a number only where it is the decimal point.
    """
    label = field.after.encode()
    begin = (rb"(?<!\w)" if label[:1].isalnum() or not label else b"") + re.escape(label)
    if not field.is_value:
        return begin + (rb"[ \t]*[:= \t][ \t]*" if label else b"") + rb"([^\s,;]+)"
    number = _HEX if field.base == 16 else _DECIMAL % {b"point": re.escape(plan.decimal.encode()), b"noise": _NOISE}
    texts = sorted((re.escape(text.encode()) + rb"(?!\w)" for text in field.values or ()), key=len, reverse=True)
    if not label:
        return rb"(?<![\w.,])(?<!%b)(" % _NOISE + b"|".join([number, *texts]) + b")"
    between = [rb"[ \t:=]+(?=%b)" % number, rb"[ \t]*[:=][ \t]*"]
    if field.base == 10:  # "T21.5"; in "CO2: 412" the 2 belongs to the label
        between.insert(0, rb"(?=%b(?![ \t]*[:=]))" % number)
    if texts:
        between.append(rb"[ \t:=]+(?=%b)" % b"|".join(texts))
    return begin + rb"(?:%b)(%b|[^\s,;]*)" % (b"|".join(between), b"|".join([number, *texts]))
