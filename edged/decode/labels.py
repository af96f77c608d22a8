"""Payloads of lines with a label and a value each: DSMR telegrams and blocks of VE.Direct.

A field's path is a label as it is written, dots and all. What a payload does not hold is absent; one that holds none of the
fields is another kind of message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from edged.decode.csv import parse_numbers
from edged.decode.plan import DecodePlan
from edged.decode.refusals import Refusals
from edged.decode.tree import Walk
from edged.decode.values import BadPayload, Table
from edged.notation.field_paths import flat

_TIME = "\0time"
"""Where the time stands in a tree: no label is so."""
_HEX = re.compile(r"0[xX][0-9a-fA-F]{1,13}")


class Notation(NamedTuple):
    """How a line is written: regular expressions of its `label`, and of what stands `behind` it with the groups value and unit.
    `default` is an ending that a label may have or not. `folded` joins what stands on several lines."""

    label: str
    behind: str
    default: str = ""
    folded: tuple[str, str] = ("", "")

    def line(self, label: str, before: str = "^") -> str:
        return rf"(?m){before}({label}){self.behind}[ \t]*\r?$"


OBIS = Notation(
    label=r"[^(\s]+",
    behind=r"(?:\([^()\r\n]*\))*\(([^()*\r\n]*)(?:\*([^()\r\n]*))?\)",
    default="*255",
    folded=(")\n(", ")("),
)
"""DSMR and IEC 62056-21: `1-0:1.8.1(000004.426*kWh)`, and the last of several values."""
TABS = Notation(label=r"[^\t\r\n]+", behind=r"\t((?:[^\r\n]*[^ \t\r\n])?)()")
"""VE.Direct: label, tab, value."""
_MAX_ORDERS = 64


class Labels(Walk):
    """Payloads to a Table: each is a sample, a tree of one level. Where each of many has a plain number behind each label, in any
    order, only those lines are looked at, and all numbers are read together."""

    def __init__(self, plan: DecodePlan, notation: Notation) -> None:
        self._notation = notation
        labels = {field.name: self._label(flat(field.path)) for field in plan.fields}
        fields = [replace(field, path=(_TIME if field.name == plan.time_field else labels[field.name],)) for field in plan.fields]
        super().__init__(replace(plan, rows=None, fields=tuple(fields)), self._read)
        self._line = re.compile(notation.line(notation.label))
        wanted = "|".join(re.escape(labels[field.name]) for field in plan.fields)
        ending = f"(?:{re.escape(notation.default)})?" if notation.default else ""
        line = notation.line(f"(?:{wanted}){ending}", "\n")  # quicker to look for than a beginning
        self._wanted = re.compile(f"{line}({re.escape(notation.folded[0].removeprefix(')'))})?".encode())
        others = plan.where or plan.key_fields or plan.time_field is not None
        self._is_plain = not others and all(field.values is None for field in plan.value_fields)
        self._orders: dict[tuple[tuple[bytes, bytes, bytes], ...], list[int] | None] = {}
        self._stamp: re.Pattern[str] | None = None
        if plan.time_field is not None:
            label, end = re.escape(labels[plan.time_field]), re.escape(notation.default)
            self._stamp = re.compile(rf"^{label}(?:{end})?\(([0-9]{{10,12}}[A-Za-z]?)\)", re.MULTILINE)

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        table = self._at_once(payloads) if self._is_plain else None
        return super().decode(payloads, refusals) if table is None else table

    def _at_once(self, payloads: Sequence[bytes]) -> Table | None:
        """None where something is off, and each must be looked at."""
        texts: list[bytes] = []
        for payload in payloads:
            lines = self._wanted.findall(b"\n" + payload)
            order = self._order(tuple([(label, unit, after) for label, _, unit, after in lines]))
            if order is None:
                return None
            texts += [lines[at][1] for at in order]
        text = b",".join(texts)
        if text.translate(None, b"0123456789.-+") != b"," * (len(texts) - 1):
            return None
        numbers = parse_numbers(text)
        if numbers is None or len(numbers) != len(texts):  # none at all is a list, too
            return None
        return Table(numbers.reshape(len(payloads), self.plan.width))

    def _order(self, found: tuple[tuple[bytes, bytes, bytes], ...]) -> list[int] | None:
        """Which of these labels and units is that of each field; None unless each has one, in its unit, with its value on the
        same line. Remembered, since devices send their lines in one order or few."""
        if found not in self._orders:
            if len(self._orders) >= _MAX_ORDERS:
                self._orders.clear()
            labels = [self._label(label.decode("utf-8", "replace")) for label, _, _ in found]
            units = [unit.decode("utf-8", "replace") for _, unit, _ in found]
            wanted = [str(field.path[0]) for field in self._values]
            is_each = sorted(labels) == sorted(wanted) and not any(after for _, _, after in found)
            order = [labels.index(label) for label in wanted] if is_each else []
            is_good = is_each and all(
                field.unit in (None, units[at]) or not units[at] for field, at in zip(self._values, order, strict=True)
            )
            self._orders[found] = order if is_good else None
        return self._orders[found]

    def _label(self, written: str) -> str:
        return written.removesuffix(self._notation.default)

    def _read(self, payload: bytes) -> Sequence[Any]:
        """What stands behind each label, as a text.

        Raises:
            BadPayload: when a value is in another unit than its field.
        """
        text = payload.decode("utf-8", "replace").replace("\r\n", "\n")
        many, one = self._notation.folded
        if many and many in text:
            text = text.replace(many, one)
        lines = self._line.findall(text)
        found: dict[str, Any] = {self._label(label): value for label, value, _ in lines}
        if self._stamp is not None:
            stamp = self._stamp.search(text)  # of a gas meter it stands before the value
            found[_TIME] = None if stamp is None else stamp[1]
        units = {self._label(label): unit for label, _, unit in lines if unit}
        for field in self._values:
            (label,) = field.path
            value, unit = found.get(str(label)), units.get(str(label))
            if unit and field.unit is not None and unit != field.unit:
                raise BadPayload("malformed", f"{field.name}: expected the unit {field.unit}, found {unit}")
            if value is not None:
                found[str(label)] = int(value, 16) if _HEX.fullmatch(value) else value or None
        return (found,)


def of_obis(plan: DecodePlan) -> Labels:
    return Labels(plan, OBIS)


def of_tabs(plan: DecodePlan) -> Labels:
    return Labels(plan, TABS)
