"""Trees of values to rows: what JSON, MessagePack, CBOR and the formats of records have in common.

A format reads a payload to documents, trees of dicts and lists. Each document is one sample, or n when all its numbers are arrays
of one length n; with `rows`, each element of an array of it is one. What is wrong with an element costs no other one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edged.decode.letters import letters
from edged.decode.paths import ABSENT as NOWHERE
from edged.decode.paths import find, kind_of, members
from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.refusals import MAX_ROWS, TOO_MANY_ROWS, Refusals
from edged.decode.times import BadTime, is_text, ns_of_number, ns_of_text
from edged.decode.values import ABSENT, EMPTY, MAX_WORDS, OF_TEXT, Arrived, BadPayload, Table, key_text, no_number, number_of_text
from edged.notation.field_paths import Step
from edged.records import ON_ARRIVAL, Reject

Documents = Callable[[bytes], Sequence[Any]]
"""The trees of a payload. Raises BadPayload."""
_WHOLE = (Step.SELF,)
SCALAR = (str, int, float, bool, type(None))


class Rows:
    """Rows in the making: float64s one behind the other, and what belongs to each row."""

    __slots__ = ("gaps", "keys", "numbers", "origin", "times", "width", "words")

    def __init__(self, width: int) -> None:
        self.width = width
        self.numbers = bytearray()
        self.gaps: bytearray | None = None  # one for each number, once there is one
        self.words: dict[tuple[int, int], str] | None = None
        self.times: list[int] = []
        self.keys: list[tuple[str, ...]] = []
        self.origin: list[int] = []

    def add(self, index: int, cells: Cells, times: Sequence[int], keys: tuple[str, ...]) -> None:
        """The samples of a document, of payload `index`."""
        if cells.gaps.any():
            if self.gaps is None or self.words is None:
                self.gaps, self.words = bytearray(), {}
            self.gaps += bytes(len(self.origin) * self.width - len(self.gaps)) + cells.gaps.tobytes()
            for (row, column), text in cells.words.items() if len(self.words) < MAX_WORDS else ():
                self.words[len(self.origin) + row, column] = text
        self.numbers += cells.numbers.tobytes()
        self.times += times
        self.keys += [keys] * len(cells.numbers)
        self.origin += [index] * len(cells.numbers)

    def add_one(self, index: int, numbers: bytes, times: Sequence[int], keys: tuple[str, ...]) -> None:
        """A sample that has all its numbers."""
        self.numbers += numbers
        self.times += times
        self.keys.append(keys)
        self.origin.append(index)

    def table(self, plan: DecodePlan, payloads: int) -> Table:
        count = len(self.origin)
        numbers = np.frombuffer(self.numbers).reshape(count, self.width)
        gaps = None
        if self.gaps is not None:
            self.gaps += bytes(count * self.width - len(self.gaps))
            gaps = np.frombuffer(self.gaps, np.uint8).reshape(numbers.shape)
        return Table(
            numbers,
            np.array(self.times, np.int64) if plan.time_format is not None else None,
            self.keys if plan.key_fields else None,
            None if self.origin == list(range(payloads)) else np.array(self.origin, np.int32),
            gaps,
            self.words,
        )


class Cells:
    """The numbers of some samples, `[count, width]`: nothing at first."""

    def __init__(self, count: int, width: int) -> None:
        self.numbers = np.full((count, width), np.nan)
        self.gaps = np.full((count, width), ABSENT, np.uint8)
        self.words: dict[tuple[int, int], str] = {}

    def put(self, field: FieldPlan, leaf: Any, is_many: bool, decimal: str) -> None:
        """The value of a field; `is_many`: an array with one for each sample.

        Raises:
            BadPayload: when an array is not of its size.
        """
        if leaf is NOWHERE:
            return
        count = len(self.numbers)
        shape = (count, *field.shape) if is_many else field.shape
        if leaf is None or (leaf == [] and not shape):
            self.gaps[:, field.start : field.stop] = EMPTY
            return
        flat = [leaf]
        for size in shape:
            nested, flat = flat, []
            for part in nested:
                if not isinstance(part, list):
                    raise BadPayload("malformed", f"{field.name}: expected an array of {size}, found {kind_of(part)}")
                if len(part) != size:
                    kind = "short" if len(part) < size else "long"
                    raise BadPayload(kind, f"{field.name}: expected {size} numbers, found {len(part)}")
                flat += part
        gaps = bytes(len(flat))
        if set(map(type, flat)) != {float}:
            flat, gaps = self._numbers(field, flat, decimal)
        self.numbers[:, field.start : field.stop] = np.array(flat, np.float64).reshape(count, field.count)
        self.gaps[:, field.start : field.stop] = np.frombuffer(gaps, np.uint8).reshape(count, field.count)

    def _numbers(self, field: FieldPlan, leaves: Sequence[Any], decimal: str) -> tuple[list[float], bytes]:
        numbers, gaps = [math.nan] * len(leaves), bytearray(len(leaves))
        for i, leaf in enumerate(leaves):
            number = number_of(field, leaf, decimal)
            if number is not None:
                numbers[i] = number
                continue
            gaps[i] = EMPTY if leaf is None else OF_TEXT
            if leaf is not None and len(self.words) < MAX_WORDS:
                row, column = divmod(i, field.count)
                text = (
                    no_number(field, leaf) if isinstance(leaf, str) else f"{field.name}: expected a number, found {kind_of(leaf)}"
                )
                self.words[row, field.start + column] = text
        return numbers, bytes(gaps)


def number_of(field: FieldPlan, leaf: Any, decimal: str = ".") -> float | None:
    """The number that a value is, or stands for; None when it is none."""
    if isinstance(leaf, float):
        return leaf
    if isinstance(leaf, int):  # true and false too
        try:
            return float(leaf)
        except OverflowError:
            return math.inf
    return number_of_text(field, leaf, decimal) if isinstance(leaf, str) else None


class Walk:
    """Payloads to a Table, by way of their documents."""

    documents: Documents
    """Of a subclass, or given."""
    keeps_digits = False
    """Whether a float was a text, whose digits it stands for."""

    def __init__(self, plan: DecodePlan, documents: Documents | None = None) -> None:
        self.plan = plan
        if documents is not None:
            self.documents = documents
        self._values = plan.value_fields
        self._key_paths = [plan.field(name).path for name in plan.key_fields]
        self._time = plan.field(plan.time_field) if plan.time_field is not None else None
        self._conditions = [(condition, plan.field(condition.name).path) for condition in plan.where]
        self._has_texts = any(field.is_text for field in self._values)
        self._are_omitted = all(isinstance(field.absent, float) for field in self._values)
        self._pack = struct.Struct(f"{plan.width}d").pack
        self._utc = ON_ARRIVAL

    def tell(self, arrived: Arrived) -> None:
        """What is known of the next payloads."""
        self._utc = arrived.utc

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        """Each payload is good or refused by itself."""
        rows = Rows(self.plan.width)
        for index, payload in enumerate(payloads):
            try:
                self.walk(rows, index, payload, refusals)
            except (BadPayload, BadTime) as bad:
                refusals.add(Reject(bad.reason, bad.detail, payload=index))
        return rows.table(self.plan, len(payloads))

    def walk(self, rows: Rows, index: int, payload: bytes, refusals: Refusals) -> None:
        """The samples of one payload.

        Raises:
            BadPayload: of one that is no sample.
            BadTime: the same, of its time.
        """
        elements = self.elements(payload)
        if len(elements) == 1:
            self._sample(rows, index, *elements[0], payload)
            return
        for element, root in elements:
            try:
                self._sample(rows, index, element, root, payload)
            except (BadPayload, BadTime) as bad:
                refusals.add(Reject(bad.reason, bad.detail, payload=index))

    def elements(self, payload: bytes) -> list[tuple[Any, Any]]:
        """What the samples of a payload are made of, each with the document that it is in.

        Raises:
            BadPayload: when there is none, or too many.
        """
        found: list[tuple[Any, Any]] = []
        for document in self.documents(payload):
            if self.plan.rows is None:
                found.append((document, document))
                continue
            part = find(document, self.plan.rows, document)
            if part is not NOWHERE:
                found += [(element, document) for element in (part if isinstance(part, list) else [part])]
        if not found:
            raise BadPayload(
                "other", "no sample in it" if self.plan.rows in (None, _WHOLE) else "nothing where decode.rows leads"
            )
        if len(found) > MAX_ROWS:
            raise BadPayload("too_many_rows", f"an array of {len(found)}: {TOO_MANY_ROWS}")
        return found

    def judge(self, element: Any, root: Any) -> None:
        """Raises BadPayload of what `where` does not mean."""
        for condition, path in self._conditions:
            value = find(element, path, root)
            if not condition.fits(value):
                value = None if value is NOWHERE else value
                raise BadPayload("other", condition.other(value if isinstance(value, SCALAR) else kind_of(value)))

    def keys_of(self, element: Any, root: Any) -> tuple[str, ...]:
        """Raises BadPayload."""
        found = [find(element, path, root) for path in self._key_paths]
        return tuple(map(key_text, found))

    def _sample(self, rows: Rows, index: int, element: Any, root: Any, payload: bytes) -> None:
        self.judge(element, root)
        is_bare = len(self._values) == 1 and not isinstance(element, dict | list)
        leaves = [element if is_bare else find(element, field.path, root) for field in self._values]
        if self._has_texts:
            leaves = [letters(field, leaf) if field.is_text else leaf for field, leaf in zip(self._values, leaves, strict=True)]
        if leaves and all(leaf is NOWHERE for leaf in leaves) and not self._is_of_zeros(element, root):
            raise BadPayload("other", f"none of {self.wanted()} in it: {members(element)}")
        numbers = self._plain(leaves)
        if numbers is not None:
            keys, times = self.keys_of(element, root), self.times(element, root, 1, payload)
            return rows.add_one(index, numbers, times, keys)
        count = _samples(self._values, leaves)
        cells = Cells(count or 1, self.plan.width)
        for field, leaf in zip(self._values, leaves, strict=True):
            cells.put(field, leaf, count > 0, self.plan.decimal)
        keys = self.keys_of(element, root)
        # nothing is refused from here on
        rows.add(index, cells, self.times(element, root, count or 1, payload), keys)

    def _plain(self, leaves: Sequence[Any]) -> bytes | None:
        """The numbers of one sample where each is one, and each array as long as it must be; None for the careful way."""
        flat: list[Any] = []
        for field, leaf in zip(self._values, leaves, strict=True):
            if not field.shape:
                flat.append(leaf)
            elif len(field.shape) == 1 and isinstance(leaf, list) and len(leaf) == field.count:
                flat += leaf
            else:
                return None
        try:
            return self._pack(*flat)
        except (struct.error, OverflowError):
            return None

    def _is_of_zeros(self, element: Any, root: Any) -> bool:
        """Whether all fields are omitted where they are a number, and something is there that would hold one."""
        if not self._are_omitted:
            return False
        return any(find(element, field.path[:-1], root) is not NOWHERE for field in self._values)

    def wanted(self) -> str:
        """The fields, in few words."""
        names = [field.name for field in self._values]
        return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")

    def times(self, element: Any, root: Any, count: int, payload: bytes) -> list[int]:
        """The times of the samples of an element.

        Raises:
            BadPayload: when there is none.
            BadTime: when it is none.
        """
        if self._time is None:
            return []
        leaf = find(element, self._time.path, root)
        return self.spread_times([self.time_of(one) for one in (leaf if isinstance(leaf, list) else [leaf])], count)

    def spread_times(self, times: list[int], count: int) -> list[int]:
        if len(times) == 1:
            return times * count
        if len(times) != count:
            name = self._time.name if self._time is not None else "time"
            raise BadPayload("malformed", f"{name}: {len(times)} times for {count} samples")
        return times

    def time_of(self, leaf: Any) -> int:
        format = self.plan.time_format or ""
        if isinstance(leaf, str):
            return ns_of_text(leaf, format)
        if leaf is None or leaf is NOWHERE:
            raise BadPayload("missing", f"no time: {self._time.name if self._time is not None else 'time'} is absent or null")
        if isinstance(leaf, bool) or not isinstance(leaf, int | float) or is_text(format):
            raise BadPayload("not_a_number", f"time: expected {format.partition(' ')[0]}, found {kind_of(leaf)}")
        if isinstance(leaf, float) and self.keeps_digits:
            return ns_of_text(repr(leaf), format)
        return ns_of_number(leaf, format)


def _rank(leaf: Any) -> int:
    rank = 0
    while isinstance(leaf, list):
        rank += 1
        leaf = leaf[0] if leaf else 0.0
    return rank


def _samples(fields: Sequence[FieldPlan], leaves: Sequence[Any]) -> int:
    """How many samples a document holds: n when every field has one array dimension of n more than its shape; 0: one, plain.

    Raises:
        BadPayload: when the fields do not agree.
    """
    present = [
        (field, leaf)
        for field, leaf in zip(fields, leaves, strict=True)
        if leaf is not NOWHERE and leaf is not None and (leaf != [] or field.shape)
    ]
    arrays = [len(leaf) for field, leaf in present if _rank(leaf) == len(field.shape) + 1]
    if not arrays:
        return 0
    if len(arrays) == len(present) and arrays.count(arrays[0]) == len(arrays) and arrays[0]:
        if arrays[0] > MAX_ROWS:
            raise BadPayload("too_many_rows", f"an array of {arrays[0]}: {TOO_MANY_ROWS}")
        return arrays[0]
    found = ", ".join(
        f"{field.name}: {'an array of ' + str(len(leaf)) if isinstance(leaf, list) else kind_of(leaf)}"
        for field, leaf in present[:6]
    )
    raise BadPayload("malformed", f"expected numbers, or arrays of one length, found {found}")
