"""JSON and MessagePack.

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

from edged.decode.looks import is_written, looks
from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.refusals import MAX_ROWS, Refusals
from edged.decode.times import BadTime, ns_of_text
from edged.decode.tree import Rows, Walk
from edged.decode.values import BadPayload, Table, key_text, number_of_text
from edged.notation.field_paths import Path
from edged.records import Reject

if TYPE_CHECKING:
    from edged.config import schema

MAX_DEPTH = 64
"""Arrays and objects within each other."""

_ANY = str | int | float | bool | None
_ANY_JSON = msgspec.json.Decoder(float_hook=float)
_ANY_MSGPACK = msgspec.msgpack.Decoder()

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_BOM = b"\xef\xbb\xbf"
_NOT_FINITE = re.compile(rb"[nN]a[nN]|[iI]nf")
_TOKEN = re.compile(
    rb'("[^"\\]*(?:\\.[^"\\]*)*")|(?<![\w.+-])[+-]?(?:NaN|nan|NAN|Infinity|infinity|Inf|inf)(?![\w.+-])', re.DOTALL
)
_CUT = "truncated"
_AT = re.compile(r"\(byte ([0-9]+)\)")
"""How msgspec says that data end too early, and where they are wrong."""
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")


def _check(payload: bytes) -> None:
    """What msgspec does not look at in members that it skips.

    Raises:
        BadPayload: when it is not UTF-8, or too deep.
    """
    try:
        str(payload, "utf-8")
    except UnicodeDecodeError as error:
        utf16 = ", as UTF-16 begins" if payload[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise BadPayload("not_utf8", f"expected UTF-8, found byte 0x{payload[error.start]:02x} at {error.start}{utf16}") from None
    if payload.count(b"[") + payload.count(b"{") > MAX_DEPTH and _depth(payload) > MAX_DEPTH:
        raise _too_deep()


def _is_usual(payload: bytes) -> bool:
    """Quickly seen: plain text, one object with at most one array in it."""
    return payload.isascii() and payload.find(b"{", 1) < 0 and payload.find(b"[", payload.find(b"[") + 1) < 0


def json_documents(payload: bytes) -> Sequence[Any]:
    """The document of a payload, or one for each line.

    Raises:
        BadPayload: with the reason.
    """
    try:
        return (_ANY_JSON.decode(payload),)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError as error:  # well-formed: a number that nothing can hold
        raise BadPayload("not_finite", str(error)) from None
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        found = _patiently(payload)
        if found is None:
            raise BadPayload("malformed", _why(payload, str(error))) from None
        return found


def msgpack_documents(payload: bytes) -> Sequence[Any]:
    """The same of MessagePack."""
    try:
        return (_ANY_MSGPACK.decode(payload),)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError as error:
        raise BadPayload("not_finite", str(error)) from None
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        if is_written(payload):
            raise BadPayload("malformed", f"expected MessagePack, found {looks(payload)}") from None
        raise BadPayload("malformed", "MessagePack that ends too early" if _CUT in str(error) else str(error)) from None


def _why(payload: bytes, said: str) -> str:
    """What is wrong with a payload that is no JSON, and where."""
    text = payload.removeprefix(_BOM)
    if not text.strip(b" \t\r\n\0"):
        return f"expected JSON, found {looks(text)}"
    if _CUT in said:
        return f"JSON that ends too early, after {len(payload)} bytes"
    found = _AT.search(said)
    at = 0 if found is None else int(found[1])
    if not payload[:at].strip() and payload[at : at + 1] not in b"{[":
        return f"expected JSON, found {looks(payload)}"
    return f"{said}: {payload[max(0, at - 12) : at + 12].decode('utf-8', 'replace')!r}"


def _patiently(payload: bytes) -> list[Any] | None:
    """What publishers write though it is no JSON: a mark before it, a NUL behind it, NaN and Infinity as numbers, a document a
    line. None when it is something else."""
    text = payload.removeprefix(_BOM).rstrip(b"\0")
    if _NOT_FINITE.search(text):
        text = _TOKEN.sub(lambda found: found[1] or b"null", text)
    lines = [line for line in text.split(b"\n") if line.strip()]
    for parts in ([text], lines) if 1 < len(lines) <= MAX_ROWS else ([text],):
        try:
            return [_ANY_JSON.decode(part) for part in parts]
        except (msgspec.DecodeError, ValueError, TypeError, RecursionError):
            continue
    return None


def _too_deep() -> BadPayload:
    return BadPayload("too_deep", f"more than {MAX_DEPTH} arrays and objects within each other")


class Tree(Walk):
    """Messages to a Table. The usual message is read by its type; what does not fit that is walked."""

    def __init__(self, plan: DecodePlan) -> None:
        super().__init__(plan)
        self._is_json = self.keeps_digits = plan.format == "json"
        self.documents = json_documents if self._is_json else msgpack_documents
        keys = [plan.field(name) for name in plan.key_fields]
        decoder: Any = msgspec.json.Decoder if self._is_json else msgspec.msgpack.Decoder
        values = self._values
        self._tensor = values[0].count if len(values) == 1 and len(values[0].shape) == 1 else 0
        wanted = [(field.path, _leaf(field)) for field in values]
        others: list[tuple[Path, Any]] = [(field.path, str | int | float | bool) for field in keys]
        if self._time is not None:
            others.append((self._time.path, msgspec.Raw))
        is_plain = plan.rows is None and all(kind is not None for _, kind in wanted) and bool(wanted)
        self._read_time = _reader(decoder, others[-1:]) if self._time is not None and plan.rows is None else None
        # what is another one may hold anything there: read as it is, and from an odd message not at all
        by_type = [(path, _ANY) for _, path in self._conditions]
        self._read_conditions = _reader(decoder, by_type) if by_type and plan.rows is None else None
        is_plain &= self._read_conditions is not None or not by_type
        self._read = _reader(decoder, wanted + others) if is_plain else None
        self._is_scalar = all(field.values is None and not field.shape for field in values)
        self._has_more = bool(others)
        self._is_numbers_alone = self._read is not None and not self._has_more and not by_type
        self._pack = struct.Struct(f"{plan.width}d").pack  # a message at a time: floats that die young cost half

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        """Each payload is good or refused by itself."""
        rows, read, has_where = Rows(self.plan.width), self._read, self._read_conditions is not None
        for index, payload in enumerate(payloads):
            try:
                if self._is_json and not _is_usual(payload):
                    _check(payload)
                if read is None or (has_where and not self._is_meant(payload)) or not self._take(read, rows, index, payload):
                    self.walk(rows, index, payload, refusals)
            except (BadPayload, BadTime) as bad:
                refusals.add(Reject(bad.reason, bad.detail, payload=index))
        return rows.table(self.plan, len(payloads))

    def usual(self, payloads: Sequence[bytes]) -> NDArray[Any] | None:
        payload = payloads[0]
        if len(payloads) > 1 or self._read is None or not self._is_numbers_alone or (self._is_json and not _is_usual(payload)):
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
        return (
            found[: len(self._values)] if self._is_scalar else _flat(self._values, found[: len(self._values)], self.plan.decimal)
        )

    def _is_meant(self, payload: bytes) -> bool:
        """Whether `where` means a message; False also where the careful way must say it.

        Raises:
            BadPayload: of another one.
        """
        if self._read_conditions is None:
            return True
        try:
            found = self._read_conditions(payload)
        except (msgspec.DecodeError, ValueError, TypeError, RecursionError):
            return False
        for (condition, _), value in zip(self._conditions, found, strict=True):
            if not condition.fits(value):
                raise BadPayload("other", condition.other(value))
        return True

    def _take(self, read: Callable[[bytes], Any], rows: Rows, index: int, payload: bytes) -> bool:
        """The quick way; False when the message does not fit the type."""
        try:
            found = read(payload)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return False
        numbers = self._numbers(found)
        if numbers is None:
            return False
        if self._has_more:
            keys = tuple(map(key_text, found[len(self._values) : len(self._values) + len(self._key_paths)]))
            times = self._times_of(found[-1]) if self._time is not None else []
            if len(times) > 1:
                return False
            rows.times += times
            rows.keys.append(keys)
        rows.numbers += self._pack(*numbers)
        rows.origin.append(index)
        return True

    def times(self, element: Any, root: Any, count: int, payload: bytes) -> list[int]:
        """The text of numbers is kept: a float would round it."""
        if self._read_time is None or self._time is None:
            return super().times(element, root, count, payload)
        try:
            return self.spread_times(self._times_of(self._read_time(payload)[0]), count)
        except msgspec.ValidationError:
            raise BadPayload("missing", f"no time: {self._time.name} is absent") from None
        except (msgspec.DecodeError, UnicodeDecodeError):  # one that is read with more patience, or several in one payload
            return super().times(element, root, count, payload)

    def _times_of(self, raw: msgspec.Raw) -> list[int]:
        """The text of numbers is kept until here: a float would round it."""
        if not self._is_json:
            leaf = msgspec.msgpack.decode(raw)
            return [self.time_of(item) for item in (leaf if isinstance(leaf, list) else [leaf])]
        text = bytes(raw)
        if text.startswith(b"["):
            return [self._time_of_text(bytes(item)) for item in msgspec.json.decode(text, type=list[msgspec.Raw])]
        return [self._time_of_text(text)]

    def _time_of_text(self, raw: bytes) -> int:
        if raw.startswith(b'"'):
            return self.time_of(msgspec.json.decode(raw))
        if raw == b"null":
            return self.time_of(None)
        return ns_of_text(raw.decode(), self.plan.time_format or "")


def _leaf(field: FieldPlan) -> Any:
    """The type of a field in the usual message; None where only the walk will do."""
    if len(field.shape) > 1 or field.is_text:
        return None
    if field.shape:
        return list[float] if field.values is None else None
    return float | bool | str if field.values is not None else float | bool


def _flat(fields: Sequence[FieldPlan], leaves: Sequence[Any], decimal: str) -> list[float] | None:
    """The numbers of scalars, texts and tensors; None when a tensor is not of its size, or a text no number."""
    numbers: list[float] = []
    for field, leaf in zip(fields, leaves, strict=True):
        if field.shape:
            if len(leaf) != field.count:
                return None
            numbers += leaf
        else:
            number = number_of_text(field, leaf, decimal) if isinstance(leaf, str) else leaf
            if number is None:
                return None
            numbers.append(number)
    return numbers


def _reader(decoder: Any, leaves: list[tuple[Path, Any]]) -> Callable[[bytes], tuple[Any, ...]] | None:
    """A function from a message to what lies at the paths, or None where one goes through an array, selects, or meets another."""
    tree: dict[str, Any] = {}
    names: list[str] = []
    kinds: dict[Path, Any] = {}
    for path, kind in leaves:
        if not all(isinstance(part, str) for part in path) or kinds.setdefault(path, kind) != kind:
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


def _attribute(tree: dict[str, Any], path: Path) -> str:
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


def message_bytes(fields: Sequence[schema.FieldSpec]) -> int:
    """About as many as a message with one sample has."""
    return sum(len(f.name) + 4 + 6 * math.prod(f.shape) for f in fields)
