"""Times as sensors write them, to whole nanoseconds: UTC, or since the sensor started for `elapsed_*`.

Text is converted exactly, in integers: a float holds a time of today to a quarter of a microsecond only.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGITS = {
    "unix_s": 9,
    "unix_ms": 6,
    "unix_us": 3,
    "unix_ns": 0,
    "elapsed_s": 9,
    "elapsed_ms": 6,
    "elapsed_us": 3,
}
"""Decimal places between the unit and a nanosecond."""

_LIMIT = 2**63
_EXACT = 2.0**53
_SECOND = 1_000_000_000
_DAY = 86_400 * _SECOND
_EPOCH = date(1970, 1, 1).toordinal()
_NUMBER = re.compile(r"\s*([+-]?)([0-9]{1,20})(?:\.([0-9]{0,64}))?\s*")
_DECIMAL = re.compile(r"\s*[+-]?([0-9]{1,64}(\.[0-9]{0,64})?|\.[0-9]{1,64})([eE][+-]?[0-9]{1,3})?\s*")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))",
    re.ASCII,
)
_ISO = re.compile(
    r"([0-9]{4})([-/.]?)([0-9]{2})\2([0-9]{2})[Tt_ ]+([0-9]{2}):?([0-9]{2})(?::?([0-9]{2})(?:[.,]([0-9]+))?)?"
    r" ?(?:([Zz]|UTC|GMT)|([+-])([0-9]{2})(?::?([0-9]{2}))?)?",
    re.ASCII,
)
_DSMR = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})?([WSws])?", re.ASCII)
ISO8601, DSMR = "iso8601", "dsmr"
ZONED = {ISO8601: "local", DSMR: "+01:00"}
"""Formats whose times may not say their zone, and what it then is. The format of a plan is one of these, a blank, and the zone:
`iso8601 local`. Of dsmr it is that of winter."""


def is_text(format: str) -> bool:
    """Whether times in it are texts, which no number can be."""
    return format not in DIGITS


class BadTime(Exception):
    """A text or number that is no time. `reason` is that of the Reject."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def ns_of_text(text: str, format: str) -> int:
    """The time that `text` says.

    Raises:
        BadTime: when it says none, or one that int64 cannot hold.
    """
    if format == "rfc3339":
        return _rfc3339_ns(text)
    if format.startswith(ISO8601):
        return _iso8601_ns(text, format.removeprefix(ISO8601).strip())
    if format.startswith(DSMR):
        return _dsmr_ns(text, format.removeprefix(DSMR).strip())
    digits = DIGITS[format]
    if len(text) < 20 and text.isascii() and text.isdigit():
        return _bounded(int(text) * 10**digits, text, format)
    found = _NUMBER.fullmatch(text)
    if found is not None:
        sign, whole, fraction = found.groups()
        magnitude = int(whole + (fraction or "")[:digits].ljust(digits, "0"))
        return _bounded(-magnitude if sign == "-" else magnitude, text, format)
    if _DECIMAL.fullmatch(text) is None:
        raise BadTime("not_a_number", f"time: expected a number ({format}), found {text[:40]!r}")
    return _bounded(int(Decimal(text.strip()).scaleb(digits)), text, format)


def ns_of_number(number: float, format: str) -> int:
    """The time of a number that has no text, as in MessagePack: exact for integers.

    Raises:
        BadTime: as `ns_of_text`.
    """
    if isinstance(number, float):
        if number != number or number in (float("inf"), float("-inf")):
            raise BadTime("not_finite", f"time: expected a number ({format}), found {number}")
        if not number.is_integer():
            return _bounded(round(number * 10 ** DIGITS[format]), str(number), format)
    return _bounded(int(number) * 10 ** DIGITS[format], str(number), format)


def ns_of_array(numbers: NDArray[Any], format: str) -> NDArray[np.int64] | None:
    """Times of whole numbers, exact; None when one is not whole or too large for that, and each must be looked at."""
    digits = DIGITS[format]
    if numbers.dtype.kind == "f" and not ((np.abs(numbers) < _EXACT) & (np.floor(numbers) == numbers)).all():
        return None
    limit = _LIMIT // 10**digits - 1
    if len(numbers) and not (numbers.max() <= limit and (numbers.dtype.kind == "u" or numbers.min() >= -limit)):
        return None
    return np.asarray(numbers.astype(np.int64) * 10**digits, np.int64)


def _bounded(ns: int, text: str, format: str) -> int:
    if -_LIMIT <= ns < _LIMIT:
        return ns
    said = f"time {text.strip()[:40]} read as {format}"
    if abs(ns) > 10**30:
        raise BadTime("out_of_range", f"{said} is not a time that edged can represent")
    year = round(1970 + ns / (365.2425 * _DAY))
    raise BadTime("future" if ns > 0 else "out_of_range", f"{said} is in the year {year}{_better(ns, format)}")


def _better(ns: int, format: str) -> str:
    for other in ("unix_ms", "unix_us", "unix_ns"):
        year = 1970 + ns / 10 ** (DIGITS.get(format, 0) - DIGITS[other]) / (365.2425 * _DAY)
        if 2000 <= year < 2100:
            return f'; as {other} it is in {int(year)}: decode.time.format = "{other}"'
    return ""


def _rfc3339_ns(text: str) -> int:
    found = _RFC3339.fullmatch(text.strip())
    if found is None:
        fix = '; write decode.time.format = "iso8601"' if _ISO.fullmatch(text.strip()) else ""
        raise BadTime("malformed", f"time: expected a time such as 2026-01-31T12:00:00.5Z, found {text[:40]!r}{fix}")
    day, hour, minute, second, fraction, sign, east_hours, east_minutes = found.groups()
    start = _day_ns(day)
    h, m, s = int(hour), int(minute), int(second)
    away = int(east_hours or 0) * 60 + int(east_minutes or 0)
    if start is None or h > 23 or m > 59 or s > 60 or int(east_hours or 0) > 23 or int(east_minutes or 0) > 59:
        raise BadTime("malformed", f"time: no such date or time of day: {text[:40]!r}")
    if sign == "-":
        away = -away
    seconds = (h * 60 + m - away) * 60 + s  # a leap second, :60, is the first of the next minute
    return _bounded(start + seconds * _SECOND + int((fraction or "0")[:9].ljust(9, "0")), text, "rfc3339")


def _iso8601_ns(text: str, zone: str) -> int:
    found = _ISO.fullmatch(text.strip())
    if found is None:
        raise BadTime("malformed", f"time: expected a time such as 2026-01-31T12:00:00, found {text[:40]!r}")
    year, _, month, day, hour, minute, second, fraction, utc, sign, east_hours, east_minutes = found.groups()
    start = _day_ns(f"{year}-{month}-{day}")
    h, m, s = int(hour), int(minute), int(second or 0)
    if start is None or h > 23 or m > 59 or s > 60 or int(east_hours or 0) > 23 or int(east_minutes or 0) > 59:
        raise BadTime("malformed", f"time: no such date or time of day: {text[:40]!r}")
    if utc or sign:
        away = (int(east_hours or 0) * 60 + int(east_minutes or 0)) * (-60 if sign == "-" else 60)
    else:
        away = _east_seconds(zone, int(year), int(month), int(day), h, m)
    ns = start + ((h * 60 + m) * 60 + s - away) * _SECOND + int((fraction or "0")[:9].ljust(9, "0"))
    return _bounded(ns, text, ISO8601)


def _dsmr_ns(text: str, zone: str) -> int:
    found = _DSMR.fullmatch(text.strip())
    if found is None:
        raise BadTime("malformed", f"time: expected YYMMDDhhmmss with W or S, such as 260131120000W, found {text[:40]!r}")
    year, month, day, hour, minute, second, season = found.groups()
    start = _day_ns(f"20{year}-{month}-{day}")
    h, m, s = int(hour), int(minute), int(second or 0)
    if start is None or h > 23 or m > 59 or s > 60:
        raise BadTime("malformed", f"time: no such date or time of day: {text[:40]!r}")
    is_fixed = zone not in ("utc", "local")
    away = _east_seconds(zone, 2000 + int(year), int(month), int(day), h, m)
    if is_fixed and season in ("S", "s"):
        away += 3600
    return _bounded(start + ((h * 60 + m) * 60 + s - away) * _SECOND, text, DSMR)


@lru_cache(maxsize=64)
def _east_seconds(zone: str, year: int, month: int, day: int, hour: int, minute: int) -> int:
    """Seconds that a clock there is ahead of UTC; of the hour that comes twice a year, the first time."""
    if zone in ("utc", "local"):
        if zone == "utc":
            return 0
        try:
            away = datetime(year, month, day, hour, minute).astimezone().utcoffset()
        except (OverflowError, OSError, ValueError):  # a year that the system's calendar does not have
            return 0
        return 0 if away is None else int(away.total_seconds())
    return (int(zone[1:3]) * 60 + int(zone[4:6])) * (-60 if zone[0] == "-" else 60)


@lru_cache(maxsize=64)
def _day_ns(text: str) -> int | None:
    try:
        return (date.fromisoformat(text).toordinal() - _EPOCH) * _DAY
    except ValueError:
        return None
