"""Numbers, ranges, lists of numbers."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from typing import Annotated, Any

from edged.config.parsers.value import Surroundings, Value
from edged.notation.markers import OpenMarker, line_start, marker, plain_bytes
from edged.notation.words import shown

MAX = 2**31 - 1
"""Checks of anything that is counted: more is a slip, and would not fit into the integers of a table."""
MAX_WORKERS = 64
LONGEST_SIDE = 8192
"""Pixels of what a model sees: more is a slip."""


def not_too_many(count: int) -> int:
    if count > MAX:
        raise ValueError(f"expected at most {MAX}, found {count}")
    return count


def _integer(low: int | None, high: int | None) -> Callable[[Any, Surroundings], int]:
    if low is not None and high is not None:
        wanted = f"a whole number from {low} to {high}"
    elif low is not None:
        wanted = f"a whole number of at least {low}"
    else:
        wanted = "a whole number"

    def parse(raw: object, _: Surroundings) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool):
            fix = f"; without quotes: {int(raw)}" if isinstance(raw, str) and raw.isdecimal() else ""
            if isinstance(raw, float) and raw.is_integer():
                fix = f"; write {int(raw)}"
            raise ValueError(f"expected {wanted}, found {shown(raw)}{fix}")
        if (low is not None and raw < low) or (high is not None and raw > high):
            raise ValueError(f"expected {wanted}, found {raw}")
        return not_too_many(raw)

    return parse


def integer(low: int | None = None, high: int | None = None) -> Value:
    return Value("int", _integer(low, high))


def _number(low: float) -> Callable[[Any, Surroundings], float]:
    wanted = "a number" if low == -math.inf else f"a number of at least {low:g}"

    def parse(raw: object, _: Surroundings) -> float:
        if not isinstance(raw, int | float) or isinstance(raw, bool):
            is_quoted = isinstance(raw, str) and re.fullmatch(r"[+-]?\d+(\.\d+)?", raw)
            raise ValueError(f"expected {wanted}, found {shown(raw)}" + (f"; without quotes: {raw}" if is_quoted else ""))
        if not math.isfinite(raw) or raw < low:
            raise ValueError(f"expected {wanted}, found {raw}")
        return float(raw)

    return parse


def usb_id(raw: object, around: Surroundings) -> int:
    """A vendor or product, which lsusb prints as four hex digits."""
    if isinstance(raw, str) and (digits := re.fullmatch(r"(?:0x)?([0-9A-Fa-f]{4})", raw)):
        raise ValueError(f"expected a number such as 0x0403, found {shown(raw)}; write 0x{digits[1]}")
    return _integer(0, 0xFFFF)(raw, around)


def number(low: float = -math.inf) -> Value:
    return Value("number", _number(low))


def factor(raw: object, around: Surroundings) -> float:
    """A number that values are multiplied by."""
    value = _number(-math.inf)(raw, around)
    if value == 0:
        raise ValueError("expected a number other than 0: value = raw x scale + offset would be the same whatever is measured")
    return value


def positive(raw: object, around: Surroundings) -> float:
    value = _number(0)(raw, around)
    if value == 0:
        raise ValueError("expected a number above 0, found 0")
    return value


LOUDEST = "max"
"""A power of reference that is the largest of each window."""


def power_of_reference(raw: object, around: Surroundings) -> float | str:
    if isinstance(raw, str):
        if raw != LOUDEST:
            raise ValueError(f'expected a number above 0, or "{LOUDEST}", found {shown(raw)}')
        return raw
    return positive(raw, around)


def share(raw: object, around: Surroundings) -> float:
    """From 0 to 1."""
    value = _number(0)(raw, around)
    if value > 1:
        raise ValueError(f"expected a number from 0 to 1, found {value:g}" + (f"; write {value / 100:g}" if value <= 100 else ""))
    return value


def speed(raw: object, around: Surroundings) -> float:
    """How many times as fast as recorded; 0: as fast as it goes."""
    value = _number(0)(raw, around)
    if value and not 0.001 <= value <= 1000:
        fix = "; as fast as it goes: 0" if value > 1 else ""
        raise ValueError(f"expected 0, or a number from 0.001 to 1000, found {value:g}{fix}")
    return value


def stop_bits(raw: object, _: Surroundings) -> float:
    if isinstance(raw, bool) or raw not in (1, 1.5, 2):
        raise ValueError(f"expected one of 1 1.5 2, found {shown(raw)}")
    return float(raw)


def dead_band(raw: object, _: Surroundings) -> float | None:
    """The smallest change that counts: 0.0 for `true` (any), None for `false`."""
    if isinstance(raw, bool):
        return 0.0 if raw else None
    if not isinstance(raw, int | float) or not math.isfinite(raw) or raw < 0:
        raise ValueError(f"expected true, or a number (the smallest change that counts), found {shown(raw)}")
    return float(raw)


def value_range(raw: object, _: Surroundings) -> tuple[float, float]:
    wanted = "a range such as [0, 150]"
    if not isinstance(raw, list):
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    if len(raw) != 2 or any(isinstance(x, bool) or not isinstance(x, int | float) or math.isnan(x) for x in raw):
        raise ValueError(f"expected {wanted} (two numbers), found {raw}")
    if raw[0] > raw[1]:
        raise ValueError(f"expected {wanted}, the lower number first, found {raw}")
    return float(raw[0]), float(raw[1])


def bit_field(raw: object, _: Surroundings) -> tuple[int, int]:
    """The lowest bit, and how many."""
    wanted = "the lowest bit and how many, such as [4, 1]"
    if not isinstance(raw, list) or len(raw) != 2 or any(isinstance(n, bool) or not isinstance(n, int) for n in raw):
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    if raw[0] < 0 or raw[1] < 1 or sum(raw) > 64:
        raise ValueError(f"expected {wanted}, within 64 bits, found {raw}")
    return raw[0], raw[1]


def numbers(raw: object, _: Surroundings) -> tuple[float, ...]:
    given: list[Any] = raw if isinstance(raw, list) else [raw]
    if not given or any(isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x) for x in given):
        raise ValueError(f"expected a number or a list of numbers, one a field, found {shown(raw)}")
    return tuple(map(float, given))


def edges(raw: object, around: Surroundings) -> tuple[float, ...]:
    """Of bands that lie side by side."""
    found = numbers(raw, around)
    if len(found) < 2 or found[0] < 0 or any(low >= high for low, high in itertools.pairwise(found)):
        raise ValueError(
            f"expected two frequencies or more, each above the one before, such as [1, 4, 8, 13], found {shown(raw)}"
        )
    return found


def constant(raw: object, _: Surroundings) -> Any:
    """A number, or lists of numbers as deep as the model's input; lists become tuples."""
    if isinstance(raw, bool | int) or (isinstance(raw, float) and math.isfinite(raw)):
        return raw
    if not isinstance(raw, list) or not raw:
        raise ValueError(f"expected a number or a list of numbers, found {shown(raw)}")
    parts = [constant(one, _) for one in raw]
    lengths = {len(part) if isinstance(part, tuple) else -1 for part in parts}
    if len(lengths) > 1:
        raise ValueError("expected lists of one length at each depth, found lists of different lengths")
    return tuple(parts)


def picture_size(raw: object, _: Surroundings) -> tuple[int, int]:
    """Width and height in pixels."""
    wanted = "a width and a height in pixels, such as [640, 640]"
    if not isinstance(raw, list) or len(raw) != 2 or any(isinstance(n, bool) or not isinstance(n, int) for n in raw):
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    if not all(1 <= n <= LONGEST_SIDE for n in raw):
        raise ValueError(f"expected {wanted}, each from 1 to {LONGEST_SIDE}, found {raw}")
    return raw[0], raw[1]


def workers(raw: object, around: Surroundings) -> int | None:
    """None: as many as there are cores."""
    if raw == "auto":
        return None
    if isinstance(raw, int) and not isinstance(raw, bool) and 1 <= raw <= MAX_WORKERS:
        return raw
    raise ValueError(f'expected "auto" or a whole number from 1 to {MAX_WORKERS}, found {shown(raw)}')


Count = Annotated[int, integer(1)]
Workers = Annotated[int | None, Value("`auto` or int", workers)]
Index = Annotated[int, integer(0)]
UsbId = Annotated[int, Value("int", usb_id)]
Byte = Annotated[int, integer(0, 255)]
Number = Annotated[float, number()]
Factor = Annotated[float, Value("number", factor)]
Positive = Annotated[float, Value("number", positive)]
NotNegative = Annotated[float, number(0)]
Reference = Annotated[float | str, Value(f"number or `{LOUDEST}`", power_of_reference)]
Share = Annotated[float, Value("number", share)]
Speed = Annotated[float, Value("number", speed)]
StopBits = Annotated[float, Value("`1` `1.5` `2`", stop_bits)]
DeadBand = Annotated[float | None, Value("`true` or number", dead_band)]
Range = Annotated[tuple[float, float], Value("range", value_range)]
Marker = Annotated[bytes | OpenMarker, Value("bytes", marker)]
PlainBytes = Annotated[bytes, Value("bytes", plain_bytes)]
LineStart = Annotated[bytes, Value("bytes", line_start)]
Bits = Annotated[tuple[int, int], Value("[low, count]", bit_field)]
Register = Annotated[int, integer(0, 0xFFFF)]
Numbers = Annotated[tuple[float, ...], Value("number+", numbers)]
Edges = Annotated[tuple[float, ...], Value("numbers", edges)]
Constant = Annotated[Any, Value("number, list", constant)]
PictureSize = Annotated[tuple[int, int], Value("ints", picture_size)]
