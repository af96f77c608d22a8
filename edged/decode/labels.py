"""Payloads of lines with a label and a value each: DSMR telegrams and blocks of VE.Direct.

A field's path is a label as it is written, dots and all. What a payload does not hold is absent; one that holds none of the
fields is another kind of message.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.refusals import Refusals
from edged.decode.values import BadPayload, Table, key_of_bytes, number_of_text
from edged.decode.where import refuse_others

_NUMBER = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEX = re.compile(rb"0[xX][0-9a-fA-F]{1,13}")


class Notation(NamedTuple):
    """How a line is written: a regular expression with `label`, `value` and perhaps `unit`. `default` is an ending that a label
    may have or not. `folded` joins what stands on several lines."""

    line: re.Pattern[bytes]
    default: bytes = b""
    folded: tuple[bytes, bytes] = (b"", b"")


OBIS = Notation(
    re.compile(
        rb"^(?P<label>[^(\s]+)(?:\([^()\r\n]*\))*\((?P<value>[^()*\r\n]*)(?:\*(?P<unit>[^()\r\n]*))?\)[ \t]*\r?$", re.MULTILINE
    ),
    default=b"*255",
    folded=(b")\n(", b")("),
)
"""DSMR and IEC 62056-21: `1-0:1.8.1(000004.426*kWh)`, and the last of several values."""
TABS = Notation(re.compile(rb"^(?P<label>[^\t\r\n]+)\t(?P<value>[^\r\n]*)\r?$(?P<unit>(?!))?", re.MULTILINE))
"""VE.Direct: label, tab, value."""

Found = dict[bytes, "tuple[bytes, bytes | None]"]


class Labels:
    """Payloads to a Table."""

    def __init__(self, plan: DecodePlan, notation: Notation) -> None:
        self._plan = plan
        self._notation = notation
        self._labels = {field.name: self._label(".".join(map(str, field.path)).encode()) for field in plan.fields}
        self._why = f"none of {', '.join('.'.join(map(str, field.path)) for field in plan.value_fields)} in it"

    def _label(self, written: bytes) -> bytes:
        return written.removesuffix(self._notation.default)

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        """Each payload is a sample."""
        numbers: list[list[float]] = []
        keys: list[tuple[str, ...]] = []
        origin: list[int] = []
        for index, payload in enumerate(payloads):
            found = self._found(payload)
            if other := self._other(found):
                refuse_others(refusals, [index], [other])
                continue
            try:
                row = [self._number(field, found) for field in self._plan.value_fields]
                keys.append(
                    tuple([key_of_bytes(found.get(self._labels[name], (b"", None))[0]) for name in self._plan.key_fields])
                )
            except BadPayload as bad:
                refusals.add(bad.reject(index))
                continue
            numbers.append(row)
            origin.append(index)
        raw = np.array(numbers, np.float64).reshape(len(origin), self._plan.width)
        is_all = len(origin) == len(payloads)
        where = None if is_all else np.array(origin, np.int32)
        return Table(raw, None, keys if self._plan.key_fields else None, where, np.isnan(raw))

    def _found(self, payload: bytes) -> Found:
        payload = payload.replace(b"\r\n", b"\n")
        many, one = self._notation.folded
        if many and many in payload:
            payload = payload.replace(many, one)
        return {self._label(label): (value, unit) for label, value, unit in self._notation.line.findall(payload)}

    def _other(self, found: Found) -> str:
        """Why it is another kind of message; empty when it is meant."""
        for condition in self._plan.where:
            value = found.get(self._labels[condition.name])
            text = None if value is None else value[0].decode("utf-8", "replace")
            if text is None or not condition.fits_text(text):
                return condition.other(text)
        return "" if any(self._labels[field.name] in found for field in self._plan.value_fields) else self._why

    def _number(self, field: FieldPlan, found: Found) -> float:
        """The number of a field; NaN where it is absent.

        Raises:
            BadPayload: when it is none, or in another unit.
        """
        value, unit = found.get(self._labels[field.name], (b"", None))
        if not value:
            return math.nan
        if unit and field.unit is not None and unit.decode("utf-8", "replace") != field.unit:
            raise BadPayload(
                "malformed", f"{field.name}: expected the unit {field.unit}, found {unit.decode('utf-8', 'replace')}"
            )
        if _NUMBER.fullmatch(value):
            return float(value)
        if _HEX.fullmatch(value):
            return float(int(value, 16))
        return number_of_text(field, value.decode("utf-8", "replace"))
