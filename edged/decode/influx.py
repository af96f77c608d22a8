"""Influx line protocol: `cpu,host=pi usage_idle=97.5,count=3i 1636000000000000000`, a point a line.

A point has the members `name`, `tags.X`, `fields.X` and X for `fields.X`, as Telegraf's JSON names them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from edged.decode.plan import DecodePlan
from edged.decode.times import ns_of_text
from edged.decode.tree import Walk
from edged.decode.values import BadPayload

_PART = r"(?:[^\\,= ]|\\.)"
_SERIES = re.compile(rf"((?:[^\\, ]|\\.)+)((?:,{_PART}+={_PART}*)*) +")
_PAIR = re.compile(rf"({_PART}+)=({_PART}*)(?:,|$)")
_FIELD = re.compile(rf'({_PART}+)=(?:"((?:[^"\\]|\\.)*)"|([^", ]+))(,|(?= |$))', re.DOTALL)
_ESCAPED = re.compile(r'\\([,= "\\])')
_TRUTHS = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), False),
}
TIME = "time"


class Influx(Walk):
    """Payloads to a Table. A point without a time was taken now."""

    keeps_digits = True

    def __init__(self, plan: DecodePlan) -> None:
        super().__init__(plan, points)

    def times(self, element: Any, root: Any, count: int, payload: bytes) -> list[int]:
        if self.plan.time_format is None:
            return []
        if self._time is not None and self._time.name != TIME:
            return super().times(element, root, count, payload)
        written = element[TIME]
        return [ns_of_text(written, self.plan.time_format) if written is not None else self._utc]


def points(payload: bytes) -> Sequence[Any]:
    """The points of a payload.

    Raises:
        BadPayload: when a line is none.
    """
    try:
        text = payload.decode().rstrip("\0")
    except UnicodeDecodeError as error:
        raise BadPayload("not_utf8", f"expected UTF-8, found byte 0x{payload[error.start]:02x} at {error.start}") from None
    return [_point(line) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _point(line: str) -> dict[str, Any]:
    series = _SERIES.match(line)
    if series is None:
        raise BadPayload("malformed", f"expected a line such as cpu,host=pi idle=97.5, found {line[:60]!r}")
    point: dict[str, Any] = {"name": _plain(series[1])}
    for name, value in _PAIR.findall(series[2][1:]):
        point[f"tags.{_plain(name)}"] = _plain(value)
    at, has_more = series.end(), True
    while has_more:
        field = _FIELD.match(line, at)
        if field is None:
            raise BadPayload("malformed", f"expected a field such as idle=97.5, found {line[at : at + 40]!r}")
        name, value = _plain(field[1]), _value(field[2], field[3])
        point[f"fields.{name}"] = value
        point.setdefault(name, value)
        at, has_more = field.end(), field[4] == ","
    point[TIME] = line[at:].strip() or None
    return point


def _value(text: str | None, plain: str | None) -> Any:
    if plain is None:
        return re.sub(r'\\(["\\])', r"\1", text or "")
    if plain in _TRUTHS:
        return _TRUTHS[plain]
    number = plain[:-1] if plain[-1] in "iu" else plain
    try:
        return int(number) if plain[-1] in "iu" else float(number)
    except ValueError:
        raise BadPayload("malformed", f"expected a value such as 97.5, 3i, true or a quoted text, found {plain[:40]!r}") from None


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text
