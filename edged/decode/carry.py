"""Fields of a payload that go into its results as they are: an input's id, say.

What is carried is the JSON text of an object of scalars: small, bounded, and ready for the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import msgspec

from edged.notation.field_paths import path_of_name

MAX_BYTES = 256
"""Largest text that is carried for one payload."""

MIN_INT, MAX_INT = -(2**63), 2**64 - 1
"""Integers that every format of a result can say; beyond them they are carried as text."""
Scalar = str | int | float | bool | None


def make_carry(decoder: Any, names: Sequence[str]) -> Callable[[bytes], bytes | None]:
    """A function from a payload to the fields `names` of it as JSON: None if it has none of them, or cannot be read, which the
    decoder will say. What is no text, number, true, false or null is left out; an integer beyond 64 bits becomes text. `decoder`
    is msgspec's of the format."""
    paths = [(name, tuple(map(str, path_of_name(name)))) for name in names]
    read, read_any = decoder(_type_of([path for _, path in paths])).decode, decoder().decode
    encode = msgspec.json.Encoder().encode

    def carry(payload: bytes) -> bytes | None:
        try:
            tree = read(payload)
        except (msgspec.DecodeError, ValueError, RecursionError):  # a field that is no scalar, or no message at all
            try:
                tree = read_any(payload)
            except (msgspec.DecodeError, ValueError, RecursionError):
                return None
        found = {name: _sayable(value) for name, path in paths if isinstance(value := _find(tree, path), Scalar | float)}
        return encode(found) if found else None

    return carry


def _sayable(value: Scalar) -> Scalar:
    return str(value) if isinstance(value, int) and not MIN_INT <= value <= MAX_INT else value


class _Nothing:
    pass


def _find(tree: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        if not isinstance(tree, dict) or part not in tree:
            return _Nothing
        tree = tree[part]
    return tree


def _type_of(paths: Sequence[tuple[str, ...]]) -> Any:
    """Members at these paths and no others, which makes reading quick; any, where one path lies within another."""
    if any(a != b and a == b[: len(a)] for a in paths for b in paths):
        return Any
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = Scalar
    return _dict_of(tree)


def _dict_of(tree: dict[str, Any]) -> Any:
    make: Any = TypedDict
    return make("Carried", {k: _dict_of(v) if isinstance(v, dict) else v for k, v in tree.items()}, total=False)
