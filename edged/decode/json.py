"""Trees of values: JSON and MessagePack, one walker for both.

What a plan wants of a message is written down as a msgspec type, so that the usual message goes through C once, unwanted
members are skipped, and what is no number is refused there. A message that does not fit the type (a null, an absent
member, a text, an array of samples beside tensors) is decoded whole and walked, which also gives the reason when it is
refused. Both give the same numbers for what both accept.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edged.decode.plan import DecodePlan, FieldPlan, PathParts
from edged.decode.refusals import MAX_ROWS, TOO_MANY_ROWS, Refusals
from edged.decode.times import BadTime, ns_of_number, ns_of_text
from edged.decode.values import BadPayload, Table, key_text, number_of_text
from edged.decode.where import refuse_others
from edged.records import Reject

if TYPE_CHECKING:
    from edged.config import schema

MAX_DEPTH = 64
"""Arrays and objects within each other."""

_ANY = str | int | float | bool | None
_SCALAR = (str, int, float, bool, type(None))
_ABSENT = None
"""What a path leads to when it leads nowhere: the same as null."""

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")


class _Rows:
    """Rows in the making: float64s one behind the other, and what belongs to each row."""

    def __init__(self) -> None:
        self.numbers = bytearray()
        self.absent = bytearray()  # a flag for each number, once one is absent
        self.times: list[int] = []
        self.keys: list[tuple[str, ...]] = []
        self.origin: list[int] = []

    def absent_to_here(self) -> bytearray:
        """The flags, those of all numbers so far."""
        self.absent += bytes(len(self.numbers) // 8 - len(self.absent))
        return self.absent


def _check(payload: bytes) -> None:
    """What msgspec does not look at in members that it skips.

    Raises:
        BadPayload: when it is not UTF-8, or too deep.
    """
    try:
        str(payload, "utf-8")
    except UnicodeDecodeError as error:
        raise BadPayload("not_utf8", f"expected UTF-8, found byte 0x{payload[error.start]:02x} at {error.start}") from None
    if payload.count(b"[") + payload.count(b"{") > MAX_DEPTH and _depth(payload) > MAX_DEPTH:
        raise BadPayload("too_deep", f"more than {MAX_DEPTH} arrays and objects within each other")


def _is_usual(payload: bytes) -> bool:
    """Quickly seen: plain text, one object with at most one array in it."""
    return payload.isascii() and payload.find(b"{", 1) < 0 and payload.find(b"[", payload.find(b"[") + 1) < 0


class Tree:
    """Messages to a Table. One message is one sample, or n when all its numbers are arrays of one length n."""

    def __init__(self, plan: DecodePlan) -> None:
        self._plan = plan
        self._is_json = plan.format == "json"
        self._values = plan.value_fields
        self._keys = tuple(plan.field(name) for name in plan.key_fields)
        self._time = plan.field(plan.time_field) if plan.time_field is not None else None
        decoder: Any = msgspec.json.Decoder if self._is_json else msgspec.msgpack.Decoder
        self._untyped = msgspec.json.Decoder(float_hook=float) if self._is_json else msgspec.msgpack.Decoder()
        self._tensor = self._values[0].count if len(self._values) == 1 and len(self._values[0].shape) == 1 else 0
        wanted = [(field.path, _leaf(field)) for field in self._values]
        others: list[tuple[PathParts, Any]] = [(field.path, str | int | float | bool) for field in self._keys]
        if self._time is not None:
            others.append((self._time.path, msgspec.Raw))
        self._read = _reader(decoder, wanted + others) if all(kind is not None for _, kind in wanted) else None
        self._read_time = _reader(decoder, others[-1:]) if self._time is not None else None
        self._conditions = [(condition, plan.field(condition.name).path) for condition in plan.where]
        # what is another one may hold anything there: read as it is, and from an odd message not at all
        self._read_conditions = _reader(decoder, [(path, _ANY) for _, path in self._conditions]) if self._conditions else None
        self._is_scalar = all(field.values is None and not field.shape for field in self._values)
        self._has_more = bool(others)
        self._is_numbers_alone = self._read is not None and not self._has_more and not self._conditions
        self._pack = struct.Struct(f"{plan.width}d").pack  # a message at a time: floats that die young cost half

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        """Each payload is good or refused by itself."""
        rows, read = _Rows(), self._read
        for index, payload in enumerate(payloads):
            try:
                if self._is_json and not _is_usual(payload):
                    _check(payload)
                if self._conditions and (reason := self._other(payload)):
                    refuse_others(refusals, [index], [reason])
                    continue
                if read is None or not self._take(read, rows, index, payload):
                    self._walk(rows, index, payload)
            except (BadPayload, BadTime) as bad:
                refusals.add(Reject(bad.reason, bad.detail, payload=index))
        count = len(rows.origin)
        numbers = np.frombuffer(rows.numbers).reshape(count, self._plan.width)
        absent = None
        if rows.absent:
            absent = np.frombuffer(rows.absent_to_here(), np.bool_).reshape(numbers.shape)
        return Table(
            numbers,
            np.array(rows.times, np.int64) if self._time is not None else None,
            rows.keys if self._keys else None,
            None if rows.origin == list(range(len(payloads))) else np.array(rows.origin, np.int32),
            absent,
        )

    def one(self, payload: bytes) -> NDArray[Any] | None:
        if self._read is None or not self._is_numbers_alone or (self._is_json and not _is_usual(payload)):
            return None
        try:
            numbers = self._numbers(self._read(payload))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, BadPayload):
            return None
        return None if numbers is None else np.frombuffer(self._pack(*numbers)).reshape(1, -1)

    def _numbers(self, found: tuple[Any, ...]) -> Sequence[float] | None:
        """The numbers among what was read; None when it does not fit."""
        if self._tensor:
            numbers: Sequence[float] = found[0]
            return numbers if len(numbers) == self._tensor else None
        return found[: len(self._values)] if self._is_scalar else _flat(self._values, found[: len(self._values)])

    def _other(self, payload: bytes) -> str:
        """Why a message is another one; empty when it is meant, or cannot be read, which is for others to say."""
        try:
            if self._read_conditions is not None:
                found = self._read_conditions(payload)
            else:
                tree = self._untyped.decode(payload)
                found = tuple(_find(tree, path) for _, path in self._conditions)
        except msgspec.ValidationError:
            try:
                tree = self._untyped.decode(payload)
            except (msgspec.DecodeError, ValueError, TypeError, RecursionError):
                return ""
            found = tuple(_find(tree, path) for _, path in self._conditions)
        except (msgspec.DecodeError, ValueError, TypeError, RecursionError):
            return ""
        for (condition, _), value in zip(self._conditions, found, strict=True):
            if not condition.fits(value):
                return condition.other(value if isinstance(value, _SCALAR) else _kind(value))
        return ""

    def _take(self, read: Callable[[bytes], Any], rows: _Rows, index: int, payload: bytes) -> bool:
        """The quick way; False when the message does not fit the type."""
        try:
            found = read(payload)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return False
        numbers = self._numbers(found)
        if numbers is None:
            return False
        if self._has_more:
            keys = tuple(map(key_text, found[len(self._values) : len(self._values) + len(self._keys)]))
            times = self._times_of(found[-1]) if self._time is not None else []
            if len(times) > 1:
                return False
            rows.times += times
            rows.keys.append(keys)
        rows.numbers += self._pack(*numbers)
        rows.origin.append(index)
        return True

    def _walk(self, rows: _Rows, index: int, payload: bytes) -> None:
        """The careful way.

        Raises:
            BadPayload: with the reason.
            BadTime: the same, of a time.
        """
        try:
            tree = self._untyped.decode(payload)
        except RecursionError:
            raise BadPayload("too_deep", f"more than {MAX_DEPTH} arrays and objects within each other") from None
        except msgspec.ValidationError as error:  # well-formed: a number that nothing can hold
            raise BadPayload("not_finite", str(error)) from None
        except (msgspec.DecodeError, ValueError, TypeError) as error:
            raise BadPayload("malformed", str(error)) from None
        if not isinstance(tree, dict | list):
            raise BadPayload("malformed", f"expected an object, found {_kind(tree)}")
        leaves = [_find(tree, field.path) for field in self._values]
        count = _samples(self._values, leaves)
        matrix = np.empty((count or 1, self._plan.width))
        absent: NDArray[np.bool_] | None = None
        for field, leaf in zip(self._values, leaves, strict=True):
            numbers = _spread(field, leaf, count)
            if None in numbers:
                absent = np.zeros(matrix.shape, np.bool_) if absent is None else absent
                is_none = np.array([number is None for number in numbers])
                absent[:, field.start : field.stop] = is_none.reshape(len(matrix), field.count)
                numbers = [math.nan if number is None else number for number in numbers]
            matrix[:, field.start : field.stop] = np.array(numbers, np.float64).reshape(len(matrix), field.count)
        keys = tuple(key_text(_find(tree, field.path)) for field in self._keys)
        rows.times += self._walk_times(payload, tree, len(matrix))
        # nothing is refused from here on
        if absent is not None:
            rows.absent = rows.absent_to_here() + absent.tobytes()
        rows.numbers += matrix.tobytes()
        rows.keys += [keys] * len(matrix)
        rows.origin += [index] * len(matrix)

    def _walk_times(self, payload: bytes, tree: Any, count: int) -> list[int]:
        if self._time is None:
            return []
        times: list[int] = []
        if self._read_time is not None:
            try:
                times = self._times_of(self._read_time(payload)[0])
            except msgspec.DecodeError:
                raise BadPayload("missing", f"no time: {self._time.name} is absent") from None
        else:
            leaf = _find(tree, self._time.path)
            times = [self._time_of(item) for item in (leaf if isinstance(leaf, list) else [leaf])]
        if len(times) == 1:
            return times * count
        if len(times) != count:
            raise BadPayload("malformed", f"{self._time.name}: {len(times)} times for {count} samples")
        return times

    def _times_of(self, raw: msgspec.Raw) -> list[int]:
        """The text of numbers is kept until here: a float would round it."""
        if not self._is_json:
            leaf = msgspec.msgpack.decode(raw)
            return [self._time_of(item) for item in (leaf if isinstance(leaf, list) else [leaf])]
        text = bytes(raw)
        if text.startswith(b"["):
            return [self._time_of_text(bytes(item)) for item in msgspec.json.decode(text, type=list[msgspec.Raw])]
        return [self._time_of_text(text)]

    def _time_of_text(self, raw: bytes) -> int:
        if raw.startswith(b'"'):
            return self._time_of(msgspec.json.decode(raw))
        if raw == b"null":
            return self._time_of(None)
        return ns_of_text(raw.decode(), self._plan.time_format or "")

    def _time_of(self, leaf: Any) -> int:
        format = self._plan.time_format or ""
        if isinstance(leaf, str):
            return ns_of_text(leaf, format)
        if leaf is None:
            raise BadPayload("missing", "no time: absent or null")
        if isinstance(leaf, bool) or not isinstance(leaf, int | float) or format == "rfc3339":
            raise BadPayload("not_a_number", f"time: expected {format}, found {_kind(leaf)}")
        return ns_of_number(leaf, format)


def _leaf(field: FieldPlan) -> Any:
    """The type of a field in the usual message; None where only the walk will do."""
    if len(field.shape) > 1:
        return None
    if field.shape:
        return list[float] if field.values is None else None
    return float | bool | str if field.values is not None else float | bool


def _flat(fields: Sequence[FieldPlan], leaves: Sequence[Any]) -> list[float] | None:
    """The numbers of scalars, texts and tensors; None when a tensor is not of its size."""
    numbers: list[float] = []
    for field, leaf in zip(fields, leaves, strict=True):
        if field.shape:
            if len(leaf) != field.count:
                return None
            numbers += leaf
        else:
            numbers.append(number_of_text(field, leaf) if isinstance(leaf, str) else leaf)
    return numbers


def _reader(decoder: Any, leaves: list[tuple[PathParts, Any]]) -> Callable[[bytes], tuple[Any, ...]] | None:
    """A function from a message to what lies at the paths, or None where a path goes through an array or meets another."""
    tree: dict[str, Any] = {}
    names: list[str] = []
    kinds: dict[PathParts, Any] = {}
    for path, kind in leaves:
        if any(isinstance(part, int) for part in path) or kinds.setdefault(path, kind) != kind:
            return None
        node = tree
        for part in path[:-1]:
            node = node.setdefault(str(part), {})
            if not isinstance(node, dict):
                return None
        if isinstance(node.setdefault(str(path[-1]), kind), dict):
            return None
    root = _struct_of(tree)
    for path, _ in leaves:
        names.append(_attribute(tree, path))
    decode = decoder(root).decode
    get = attrgetter(*names)
    if len(names) == 1:
        return lambda payload: (get(decode(payload)),)
    return lambda payload: get(decode(payload))


def _struct_of(tree: dict[str, Any]) -> Any:
    fields = [(f"f{i}", _struct_of(kind) if isinstance(kind, dict) else kind) for i, kind in enumerate(tree.values())]
    return msgspec.defstruct("Message", fields, rename={f"f{i}": name for i, name in enumerate(tree)}, gc=False)


def _attribute(tree: dict[str, Any], path: PathParts) -> str:
    parts = []
    node: Any = tree
    for part in path:
        parts.append(f"f{list(node).index(part)}")
        node = node[part]
    return ".".join(parts)


def _depth(payload: bytes) -> int:
    """How deep arrays and objects lie within each other."""
    brackets = np.frombuffer(_STRING.sub(b"", payload).translate(_AS_SQUARE, _NOT_BRACKETS), np.uint8)
    return int(np.where(brackets == ord("["), 1, -1).cumsum().max(initial=0))


def _find(tree: Any, path: PathParts) -> Any:
    for part in path:
        if isinstance(tree, dict):
            tree = tree.get(str(part), _ABSENT)
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            tree = tree[part]
        else:
            return _ABSENT
    return tree


def _kind(leaf: Any) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "null",
    }
    return names.get(type(leaf), type(leaf).__name__)


def _rank(leaf: Any) -> int:
    rank = 0
    while isinstance(leaf, list):
        rank += 1
        leaf = leaf[0] if leaf else 0.0
    return rank


def _samples(fields: Sequence[FieldPlan], leaves: Sequence[Any]) -> int:
    """How many samples a message holds: n when every field has one array dimension of n more than its shape; 0: one, plain.

    Raises:
        BadPayload: when the fields do not agree.
    """
    present = [(field, leaf) for field, leaf in zip(fields, leaves, strict=True) if leaf is not _ABSENT]
    arrays = [len(leaf) for field, leaf in present if _rank(leaf) == len(field.shape) + 1]
    if not arrays:
        return 0
    if len(arrays) == len(present) and arrays.count(arrays[0]) == len(arrays) and arrays[0]:
        if arrays[0] > MAX_ROWS:
            raise BadPayload("too_many_rows", f"an array of {arrays[0]}: {TOO_MANY_ROWS}")
        return arrays[0]
    found = ", ".join(
        f"{field.name}: {'an array of ' + str(len(leaf)) if isinstance(leaf, list) else _kind(leaf)}"
        for field, leaf in present[:6]
    )
    raise BadPayload("malformed", f"expected numbers, or arrays of one length, found {found}")


def _spread(field: FieldPlan, leaf: Any, count: int) -> list[float | None]:
    """The numbers of a field in all samples of the message, one behind the other; None where there is none."""
    shape = (count, *field.shape) if count else field.shape
    if leaf is _ABSENT:
        return [None] * ((count or 1) * field.count)
    flat = [leaf]
    for size in shape:
        nested, flat = flat, []
        for part in nested:
            if not isinstance(part, list):
                raise BadPayload("malformed", f"{field.name}: expected an array of {size}, found {_kind(part)}")
            if len(part) != size:
                kind = "short" if len(part) < size else "long"
                raise BadPayload(kind, f"{field.name}: expected {size} numbers, found {len(part)}")
            flat += part
    if set(map(type, flat)) == {float}:
        return flat
    return [_number(field, item) for item in flat]


def _number(field: FieldPlan, leaf: Any) -> float | None:
    if isinstance(leaf, float) or leaf is None:
        return leaf
    if isinstance(leaf, int):  # true and false too
        try:
            return float(leaf)
        except OverflowError:
            return math.inf
    if isinstance(leaf, str):
        return number_of_text(field, leaf)
    raise BadPayload("not_a_number", f"{field.name}: expected a number, found {_kind(leaf)}")


def message_bytes(fields: Sequence[schema.FieldSpec]) -> int:
    """About as many as a message with one sample has."""
    return sum(len(f.name) + 4 + 6 * math.prod(f.shape) for f in fields)
