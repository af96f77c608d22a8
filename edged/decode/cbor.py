"""CBOR, by the library cbor2, which is an extra: it is imported with the first source that needs it."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import count
from typing import Any

from edged.decode.looks import is_written, looks
from edged.decode.paths import kind_of
from edged.decode.plan import DecodePlan
from edged.decode.tree import Walk
from edged.decode.values import BadPayload

MAX_DEPTH = 64
"""Arrays and maps within each other, as in JSON."""


class Decoder:
    """As msgspec's: what reads a payload. The type that is wanted of it has no effect."""

    def __init__(self, type: Any = Any) -> None:
        self._load = importlib.import_module("cbor2").load

    def decode(self, payload: bytes) -> Any:
        """The tree of a payload, as JSON would have it. Raises ValueError."""
        file = io.BytesIO(payload)
        try:
            tree = self._load(file)
        except Exception as error:  # whatever a library says of bytes that are none
            raise ValueError(str(error) or type(error).__name__) from error
        if file.tell() < len(payload):
            raise ValueError(f"{len(payload) - file.tell()} bytes behind the value")
        try:
            return _plain(tree, 0, count(len(payload), -1))
        except (ArithmeticError, RecursionError) as error:  # a number that no float holds
            raise ValueError(str(error) or type(error).__name__) from error


class Cbor(Walk):
    """Payloads to a Table."""

    def __init__(self, plan: DecodePlan) -> None:
        self._decoder = Decoder()
        super().__init__(plan, self._documents)

    def _documents(self, payload: bytes) -> Sequence[Any]:
        try:
            return (self._decoder.decode(payload),)
        except ValueError as error:
            raise _no_cbor(payload, str(error)) from None


def documents(payload: bytes) -> Sequence[Any]:
    """The tree of a payload. Raises BadPayload."""
    try:
        return (Decoder().decode(payload),)
    except ValueError as error:
        raise _no_cbor(payload, str(error)) from None


def _no_cbor(payload: bytes, said: str) -> BadPayload:
    if is_written(payload):
        return BadPayload("malformed", f"expected CBOR, found {looks(payload)}")
    said = "CBOR that ends too early" if "premature end" in said else said
    return BadPayload("too_deep" if "depth" in said else "malformed", said)


def _plain(tree: Any, depth: int, left: Iterator[int]) -> Any:
    """Maps with names, lists, and scalars. What has no such form becomes a text that says what it is. `left` counts how many
    values may still come: there are no more than bytes, unless parts are shared, and then there may be any number."""
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} levels of depth")
    if next(left) < 0:
        raise ValueError("more values than bytes")
    if isinstance(tree, dict) or type(tree).__name__ in ("frozendict", "FrozenDict"):
        return {name if isinstance(name, str) else str(name): _plain(value, depth + 1, left) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(one, depth + 1, left) for one in tree]
    if tree is None or isinstance(tree, str | bool | int | float):
        return tree
    if isinstance(tree, Decimal | Fraction):
        return float(tree)
    if isinstance(tree, datetime):
        return tree.isoformat()
    if isinstance(tree, bytes):
        return tree
    return None if type(tree).__name__ in ("undefined_type", "UndefinedType") else kind_of(tree)
