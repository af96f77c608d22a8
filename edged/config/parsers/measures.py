"""Durations, sizes, rates: numbers with a unit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from edged.config.parsers.numbers import not_too_many
from edged.config.parsers.value import Surroundings, Value
from edged.notation.units import DURATION_SLIPS, DURATION_UNITS, MIB, RATE_UNITS, SIZE_SLIPS, SIZE_UNITS, D, S
from edged.notation.values import NEVER, Span
from edged.notation.words import shown
from edged.records import Cap

LONGEST = 36500 * D
"""Times of hundreds of years are slips, and do not fit into 64 bits of ns."""
RATES = (1e-8, 1e9)
"""Per second: one in three years, one a ns."""
MAX_CAP = 100_000
"""Each of them is remembered for its period."""
LARGEST_PACKET = 256 * MIB
"""No MQTT packet is longer."""
_ZONE = re.compile(r"[+-](?:0[0-9]|1[0-4]):[0-5][0-9]")
_NUMBER_AND_UNIT = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*([^\W\d_]*)\s*")


def _with_unit(raw: str, units: Mapping[str, int], slips: Mapping[str, str], wanted: str) -> int:
    found = _NUMBER_AND_UNIT.fullmatch(raw)
    if found is None:
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    amount, unit = found.groups()
    if unit == "m" and "min" in units:
        raise ValueError(f'expected {wanted}; "{raw}" could be "{amount}min" or "{amount}ms"')
    if not unit:
        raise ValueError(f"expected {wanted}, found {shown(raw)}, which has no unit ({' '.join(units)})")
    if unit not in units:
        if unit in slips:
            raise ValueError(f'expected {wanted}, found {shown(raw)}; write "{amount}{slips[unit]}"')
        raise ValueError(f"expected {wanted} ({' '.join(units)}), found {shown(raw)}")
    if amount.startswith("-"):
        raise ValueError(f"expected {wanted}, found {shown(raw)}, which is negative")
    return round(float(amount) * units[unit]) if "." in amount else int(amount) * units[unit]


def duration(raw: object, _: Surroundings) -> int:
    """Nanoseconds."""
    wanted = 'a duration such as "5s"'
    if not isinstance(raw, str):
        is_number = isinstance(raw, int | float) and not isinstance(raw, bool) and raw > 0
        raise ValueError(f"expected {wanted}, found {shown(raw)}" + (f'; for so many seconds: "{raw}s"' if is_number else ""))
    return _not_too_long(_with_unit(raw, DURATION_UNITS, DURATION_SLIPS, wanted), raw)


def _not_too_long(length: int, raw: str) -> int:
    if length > LONGEST:
        raise ValueError(f'expected at most "{LONGEST // D}d", a hundred years, found {shown(raw)}')
    return length


def period(raw: object, around: Surroundings) -> int:
    """Nanoseconds, more than none."""
    length = duration(raw, around)
    if length <= 0:
        raise ValueError(f'expected a duration longer than 0s, such as "5s", found {shown(raw)}')
    return length


def seconds_of(text: str) -> float:
    """Of a duration on a command line. Raises ValueError."""
    return period(text, Surroundings(Path(), {})) / 1e9


def silence(raw: object, around: Surroundings) -> int:
    """How long something may say nothing."""
    if raw == "never":
        return NEVER
    try:
        return period(raw, around)
    except ValueError as error:
        raise ValueError(f'{error}; for no limit: "never"') from None


def zone(raw: object, _: Surroundings) -> str:
    if isinstance(raw, str) and (raw in ("local", "utc") or _ZONE.fullmatch(raw)):
        return raw
    fix = '; write "utc"' if raw in ("UTC", "Z", "GMT") else ""
    raise ValueError(f'expected "local", "utc" or such as "+02:00", found {shown(raw)}{fix}')


def keepalive(raw: object, around: Surroundings) -> int:
    """Nanoseconds; MQTT has 16 bits for it, in whole seconds, and 0 would switch it off."""
    length = duration(raw, around)
    if not S <= length <= 65535 * S or length % S:
        raise ValueError(f'expected whole seconds from "1s" to "65535s", found {shown(raw)}')
    return length


def delay(raw: object, around: Surroundings) -> int:
    """Nanoseconds; longer than the stop of the daemon takes would be no wait for a batch."""
    length = duration(raw, around)
    if length > 10 * S:
        raise ValueError(f'expected at most "10s", found {shown(raw)}')
    return length


def expiry(raw: object, around: Surroundings) -> int:
    """Nanoseconds; MQTT counts whole seconds, and half of one must not become a clean session."""
    length = duration(raw, around)
    if length % S:
        raise ValueError(f'expected "0s" (a clean session) or whole seconds, found {shown(raw)}')
    return length


def span(raw: object, _: Surroundings) -> Span:
    wanted = 'samples (a whole number) or a duration such as "60s"'
    if isinstance(raw, int) and not isinstance(raw, bool):
        if raw < 1:
            raise ValueError(f"expected {wanted}, at least one sample, found {raw}")
        return Span(samples=not_too_many(raw))
    if not isinstance(raw, str):
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    if raw.isdigit():
        raise ValueError(f"expected {wanted}, found {shown(raw)}; for samples without quotes: {raw}")
    length = _with_unit(raw, DURATION_UNITS, DURATION_SLIPS, wanted)
    if length <= 0:
        raise ValueError(f"expected {wanted}, longer than 0s, found {shown(raw)}")
    return Span(duration=_not_too_long(length, raw))


def size(raw: object, _: Surroundings) -> int:
    """Bytes."""
    wanted = 'a size such as "8MiB"'
    if isinstance(raw, int) and not isinstance(raw, bool):
        raise ValueError(f'expected {wanted}, found {shown(raw)}; for so many bytes: "{raw}B"')
    if not isinstance(raw, str):
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    count = _with_unit(raw, SIZE_UNITS, SIZE_SLIPS, wanted)
    if count <= 0:
        raise ValueError(f"expected {wanted}, found {shown(raw)}, which is nothing")
    return count


def packet(raw: object, around: Surroundings) -> int:
    """Bytes that one frame or payload may have."""
    count = size(raw, around)
    if count > LARGEST_PACKET:
        raise ValueError(f'expected at most "{LARGEST_PACKET // MIB}MiB", the longest that MQTT can carry, found {shown(raw)}')
    return count


def rate(raw: object, _: Surroundings) -> float:
    """Per second."""
    amount, seconds = _rate(raw)
    return amount / seconds


def cap(raw: object, around: Surroundings) -> Cap:
    """A rate that is never exceeded: so many in a time. What is no whole number is one in the time that one takes."""
    amount, seconds = _rate(raw)
    if amount > MAX_CAP:
        raise ValueError(f"expected at most {MAX_CAP} in a time, each of which is remembered, found {shown(raw)}")
    if amount.is_integer():
        return Cap(int(amount), int(seconds * S))
    return Cap(1, round(seconds * S / amount))


def _rate(raw: object) -> tuple[float, float]:
    """So many in so many seconds."""
    wanted = 'a rate: a number per second, or such as "6/min", "4/h"'
    if isinstance(raw, str):
        amount, slash, unit = raw.replace(" ", "").partition("/")
        if not slash or unit not in RATE_UNITS or not re.fullmatch(r"\d+(\.\d+)?", amount):
            hertz = re.fullmatch(r"(\d+(?:\.\d+)?)(k?)hz", raw.replace(" ", "").lower())
            fix = f"; write {float(hertz[1]) * (1000 if hertz[2] else 1):g}" if hertz else _rate_fix(raw)
            raise ValueError(f"expected {wanted}, found {shown(raw)}{fix}")
        many, seconds = float(amount), RATE_UNITS[unit]
    elif isinstance(raw, int | float) and not isinstance(raw, bool):
        many, seconds = float(raw), 1.0
    else:
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    if not (many > 0 and math.isfinite(many)):
        raise ValueError(f"expected {wanted}, more than 0, found {shown(raw)}")
    if not RATES[0] <= many / seconds <= RATES[1]:
        raise ValueError(f"expected {wanted}, from one in three years to {RATES[1]:.0f} per second, found {shown(raw)}")
    return many, seconds


def _rate_fix(raw: str) -> str:
    """For a number in quotes, and for the time between two samples."""
    found = _NUMBER_AND_UNIT.fullmatch(raw)
    if found is None:
        return ""
    amount, unit = float(found[1]), found[2]
    if not unit:
        return f"; without quotes: {amount:g}"
    apart = amount * DURATION_UNITS.get(unit, 0) / S
    if apart <= 0:
        return ""
    return (
        f"; one in {raw.strip()} is {1 / apart:g} per second: write {1 / apart:g}"
        if apart <= 1
        else f'; write "{60 / apart:g}/min"'
    )


Duration = Annotated[int, Value("duration", duration)]
Period = Annotated[int, Value("duration", period)]
Zone = Annotated[str, Value("`local` `utc` or `+hh:mm`", zone)]
Silence = Annotated[int, Value("duration or `never`", silence)]
Keepalive = Annotated[int, Value("duration", keepalive)]
Delay = Annotated[int, Value("duration", delay)]
Expiry = Annotated[int, Value("duration", expiry)]
Samples = Annotated[Span, Value("samples or duration", span)]
Size = Annotated[int, Value("size", size)]
Packet = Annotated[int, Value("size", packet)]
Rate = Annotated[float, Value("rate", rate)]
CapOf = Annotated[Cap, Value("rate", cap)]
