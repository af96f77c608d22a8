"""Payloads of lines with a label and a value each: DSMR telegrams and blocks of VE.Direct.

A field's path is a label as it is written, dots and all. What a payload does not hold is absent; one that holds none of the
fields is another kind of message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from edged.config.field_paths import flat
from edged.decode.plan import DecodePlan
from edged.decode.tree import Walk
from edged.decode.values import BadPayload

_TIME = "\0time"
"""Where the time stands in a tree: no label is so."""
_HEX = re.compile(r"0[xX][0-9a-fA-F]{1,13}")


class Notation(NamedTuple):
    """How a line is written: a regular expression with `label`, `value` and perhaps `unit`. `default` is an ending that a label
    may have or not. `folded` joins what stands on several lines."""

    line: re.Pattern[str]
    default: str = ""
    folded: tuple[str, str] = ("", "")


OBIS = Notation(
    re.compile(
        r"^(?P<label>[^(\s]+)(?:\([^()\r\n]*\))*\((?P<value>[^()*\r\n]*)(?:\*(?P<unit>[^()\r\n]*))?\)[ \t]*\r?$", re.MULTILINE
    ),
    default="*255",
    folded=(")\n(", ")("),
)
"""DSMR and IEC 62056-21: `1-0:1.8.1(000004.426*kWh)`, and the last of several values."""
TABS = Notation(re.compile(r"^(?P<label>[^\t\r\n]+)\t(?P<value>[^\r\n]*)\r?$(?P<unit>(?!))?", re.MULTILINE))
"""VE.Direct: label, tab, value."""


class Labels(Walk):
    """Payloads to a Table: each is a sample, a tree of one level."""

    def __init__(self, plan: DecodePlan, notation: Notation) -> None:
        self._notation = notation
        labels = {field.name: self._label(flat(field.path)) for field in plan.fields}
        fields = [replace(field, path=(_TIME if field.name == plan.time_field else labels[field.name],)) for field in plan.fields]
        super().__init__(replace(plan, rows=None, fields=tuple(fields)), self._read)
        self._stamp: re.Pattern[str] | None = None
        if plan.time_field is not None:
            label, end = re.escape(labels[plan.time_field]), re.escape(notation.default)
            self._stamp = re.compile(rf"^{label}(?:{end})?\(([0-9]{{10,12}}[A-Za-z]?)\)", re.MULTILINE)

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
        lines = self._notation.line.findall(text)
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
