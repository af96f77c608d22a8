"""Messages that name the field whose value they carry: one value a topic, or one a record.

The name is what the topic has in the place of `{field}`, or the member `named_by`. A record gives a row with this one value;
those of one payload, time and key give one row together. What a row does not have is held by the Screen, as for any format.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from edged.decode.paths import ABSENT as NOWHERE
from edged.decode.paths import find, kind_of
from edged.decode.plan import DecodePlan
from edged.decode.refusals import Refusals
from edged.decode.times import BadTime
from edged.decode.tree import Cells, Documents, Rows, Walk
from edged.decode.values import Arrived, BadPayload
from edged.notation.field_paths import flat
from edged.records import Reject

_FIRST_NUMBER = re.compile(r"(?<![\w.,])[+-]?(?:[0-9]+(?:[.,][0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class Named(Walk):
    """Payloads to a Table."""

    keeps_digits = True

    def __init__(self, plan: DecodePlan, documents: Documents) -> None:
        super().__init__(plan, documents)
        self._fields = {flat(field.path): field for field in plan.value_fields}
        self._names: Sequence[str] = ()

    def tell(self, arrived: Arrived) -> None:
        super().tell(arrived)
        self._names = arrived.names

    def walk(self, rows: Rows, index: int, payload: bytes, refusals: Refusals) -> None:
        elements = self.elements(payload)
        made: dict[Any, Cells] = {}
        for element, root in elements:
            try:
                self._put(made, index, element, root, payload)
            except (BadPayload, BadTime) as bad:
                if len(elements) == 1:
                    raise
                refusals.add(Reject(bad.reason, bad.detail, payload=index))
        for (keys, times), cells in sorted(made.items(), key=lambda item: item[0][1]):
            rows.add(index, cells, times, keys)

    def _put(self, made: dict[Any, Cells], index: int, element: Any, root: Any, payload: bytes) -> None:
        self.judge(element, root)
        name, leaf = self.pair(index, element, root)
        field = self._fields.get(name)
        if field is None:
            raise BadPayload("other", f"it is of {name[:60]}, and none of {self.wanted()}")
        if leaf is NOWHERE:
            raise BadPayload("other", f"no value of {name[:60]} in it")
        if isinstance(leaf, str) and field.base == 16:
            leaf = _hex(leaf)
        group = self.keys_of(element, root), tuple(self.times(element, root, 1, payload))
        cells = Cells(1, self.plan.width)
        cells.put(field, leaf, False, self.plan.decimal)
        if group not in made:
            made[group] = cells
            return
        columns = slice(field.start, field.stop)
        made[group].numbers[:, columns], made[group].gaps[:, columns] = cells.numbers[:, columns], cells.gaps[:, columns]
        made[group].words.update(cells.words)

    def pair(self, index: int, element: Any, root: Any) -> tuple[str, Any]:
        """The name and the value of a record."""
        path = self.plan.payload
        leaf = element if path is None or not isinstance(element, dict | list) else find(element, path, root)
        if self.plan.named_by is None:
            return self._names[index] if index < len(self._names) else "", leaf
        name = find(element, self.plan.named_by, root)
        if not isinstance(name, str):
            shown = flat(self.plan.named_by)
            raise BadPayload("other", f"{shown} is absent" if name is NOWHERE else f"{shown} is {kind_of(name)}")
        return name, leaf


def cell(payload: bytes) -> Sequence[Any]:
    """A payload of csv: one cell.

    Raises:
        BadPayload: when it is no text.
    """
    try:
        text = payload.decode().removeprefix("\ufeff").rstrip("\0").strip()
    except UnicodeDecodeError as error:
        raise BadPayload("not_utf8", f"expected UTF-8, found byte 0x{payload[error.start]:02x} at {error.start}") from None
    return (text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text or None,)


def first_number(payload: bytes) -> Sequence[Any]:
    """A payload of text: its first number, with whatever unit stands behind it; else the whole."""
    (text,) = cell(payload)
    found = _FIRST_NUMBER.search(text) if text else None
    return (found[0] if found else text,)


def _hex(text: str) -> Any:
    try:
        return int(text, 16) if "_" not in text else text
    except ValueError:
        return text
