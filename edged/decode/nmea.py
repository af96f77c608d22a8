"""NMEA 0183: the sentences of one epoch make one sample, by gpsd's names, in SI units and degrees.

A sentence is known by the last three letters of its kind, whoever talks. An epoch is what carries the same time of day, and what
stands between; a sentence without a time that says the same thing again begins the next one. Its sample is complete as soon as
every field was said, and comes then; what was not said by its end is absent. Sentences that say none of the fields are `other`.

The time of a sample is the receiver's, if it had said the date when the first sample was complete; else that of arrival.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from edged.decode.checksums import nmea_bodies
from edged.decode.plan import DecodePlan
from edged.decode.refusals import Refusals
from edged.decode.values import Table
from edged.decode.where import refuse_others
from edged.notation.field_paths import flat
from edged.records import ON_ARRIVAL, Reject

_KNOT = 1852 / 3600
_FOOT, _FATHOM = 0.3048, 1.8288
_DAY_S = 86400
_EPOCH = date(1970, 1, 1).toordinal()
_MAX_CLIMB_S = 10.0
"""Between two altitudes that give a speed of climb."""

Said = dict[str, float]
Read = Callable[[list[str]], float]


def _number(cell: str) -> float:
    try:
        return float(cell) if "_" not in cell else math.nan
    except ValueError:
        return math.nan


@lru_cache(maxsize=8)
def _degrees(cell: str, side: str) -> float:
    """ddmm.mmmm and its hemisphere. Several sentences of an epoch say the same."""
    value = _number(cell)
    whole = math.floor(value / 100) if math.isfinite(value) else 0
    degrees = whole + (value - 100 * whole) / 60
    return {"N": degrees, "E": degrees, "S": -degrees, "W": -degrees}.get(side, math.nan)


def _at(cell: int) -> Read:
    return lambda c: _number(c[cell])


def _degrees_at(cell: int) -> Read:
    return lambda c: _degrees(c[cell], c[cell + 1])


def _place_at(cell: int) -> dict[str, Read]:
    return {"lat": _degrees_at(cell), "lon": _degrees_at(cell + 2)}


def _speed(c: list[str]) -> float:
    speed = _number(c[5]) * _KNOT
    return _number(c[7]) / 3.6 if math.isnan(speed) else speed


def _depth(c: list[str]) -> float:
    depths = _number(c[3]), _number(c[1]) * _FOOT, _number(c[5]) * _FATHOM
    return next(filter(math.isfinite, depths), math.nan)


def _xdr(c: list[str]) -> Said:
    """Type, value, unit and name of each transducer."""
    said: Said = {}
    for value, name in zip(c[2::4], c[4::4], strict=False):
        said[f"xdr.{name}"] = _number(value)
        if name.upper() in _ATTITUDE:
            said[_ATTITUDE[name.upper()]] = _number(value)
    return said


_ATTITUDE = {"PTCH": "pitch", "PITCH": "pitch", "ROLL": "roll"}
_ALWAYS = ("satellites", "hdop")
"""What is said without a fix, too."""


class Sentence(NamedTuple):
    """What a kind of sentence says: what reads each of its fields, how many cells it has at least, its kind among them, in which
    of them its time of day stands (0: it has none), and whether it has a fix."""

    fields: Mapping[str, Read]
    cells: int
    time: int = 0
    has_fix: Callable[[list[str]], bool] = lambda _: True

    def read(self, cells: list[str]) -> Said:
        if self.has_fix(cells):
            return {name: read(cells) for name, read in self.fields.items()}
        return {name: read(cells) if name in _ALWAYS else math.nan for name, read in self.fields.items()}


_FIX: dict[str, Read] = {**_place_at(2), "alt": _at(9), "satellites": _at(7), "hdop": _at(8)}
SENTENCES: Mapping[str, Sentence] = {
    "GGA": Sentence(_FIX, 10, 1, lambda c: c[6] != "0"),
    "GNS": Sentence(_FIX, 10, 1, lambda c: c[6].strip("N") != ""),
    "RMC": Sentence({**_place_at(3), "speed": lambda c: _number(c[7]) * _KNOT, "track": _at(8)}, 10, 1, lambda c: c[2] == "A"),
    "GLL": Sentence(_place_at(1), 6, 5, lambda c: len(c) < 7 or c[6] == "A"),
    "VTG": Sentence({"speed": _speed, "track": _at(1)}, 8, has_fix=lambda c: len(c) < 10 or c[9] != "N"),
    "DPT": Sentence({"depth": _at(1)}, 2),
    "DBT": Sentence({"depth": _depth}, 7),
    "HDT": Sentence({"heading": _at(1)}, 2),
    "HDG": Sentence({"mheading": _at(1)}, 2),
    "HDM": Sentence({"mheading": _at(1)}, 2),
    "ROT": Sentence({"rot": _at(1)}, 2),
    "MTW": Sentence({"temp": _at(1)}, 2),
    "XDR": Sentence({}, 5),
}
NAMES = (*dict.fromkeys(name for one in SENTENCES.values() for name in one.fields), "pitch", "roll", "climb", "xdr.")
"""A sentence XDR says its own names, behind the last."""
_OF_DATE = (b"RMC", b"ZDA")


@lru_cache(maxsize=64)
def _kind(start: bytes) -> bytes:
    """Of the sentence that begins so; empty where it is none, or one of a maker's own."""
    return start[3:6] if start[6:] == b"," and start[1:2] != b"P" else b""


class Nmea:
    """Lines to a Table."""

    def __init__(self, plan: DecodePlan) -> None:
        self._plan = plan
        self._names = [flat(field.path) for field in plan.value_fields]
        self._is_climb = "climb" in self._names
        self._needed = {"alt" if name == "climb" else name for name in self._names}
        fields = {kind: {n: read for n, read in one.fields.items() if n in self._needed} for kind, one in SENTENCES.items()}
        self._wanted = {kind: SENTENCES[kind]._replace(fields=of_kind) for kind, of_kind in fields.items() if of_kind}
        if any(name in _ATTITUDE.values() or name.startswith("xdr.") for name in self._names):
            self._wanted["XDR"] = SENTENCES["XDR"]
        self._kinds = {kind.encode() for kind in self._wanted}
        self._epoch = _Epoch(self._needed)
        self._clock = _Clock()
        self._last_alt: tuple[float, float] | None = None

    def reset(self) -> None:
        """The stream begins again."""
        self._epoch.begin()
        self._clock = _Clock()
        self._last_alt = None

    def decode_lines(self, blob: bytes, refusals: Refusals) -> Table:
        return self._decode(blob[:-1].split(b"\n"), refusals)

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        """Each payload is some sentences. Nothing is known from the one before, but where they are frames of one stream."""
        lines: list[bytes] = []
        owners: list[int] = []
        for index, payload in enumerate(payloads):
            part = [line for line in payload.splitlines() if line.strip()]
            lines += part
            owners += [index] * len(part)
        inner = Refusals()
        table = self._decode(lines, inner)
        for reject in inner.records:
            refusals.add(reject._replace(payload=owners[reject.payload]))
        assert table.origin is not None
        table.origin = np.array(owners, np.int32)[table.origin]
        if self._plan.frame is None:
            self.reset()
        return table

    def _decode(self, lines: list[bytes], refusals: Refusals) -> Table:
        rows: list[list[float]] = []
        times: list[int] = []
        origin: list[int] = []
        meant = self._meant(lines, refusals)
        for index, body in zip(meant, nmea_bodies([lines[i] for i in meant]), strict=True):
            if body is None and lines[index][3:6] not in self._kinds:
                continue  # it would have said the date
            if body is None:
                refusals.add(
                    Reject("checksum", "expected * and two hex digits, the exclusive-or of what is before", payload=index)
                )
                continue
            cells = body.decode("ascii", "replace").split(",")
            kind = cells[0][2:]
            if kind in ("RMC", "ZDA"):
                self._clock.date(kind, cells)
            sentence = self._wanted.get(kind)
            if sentence is None:
                continue
            if len(cells) < sentence.cells:
                refusals.add(Reject("short", f"{kind}: expected {sentence.cells} cells, found {len(cells)}", payload=index))
                continue
            time = cells[sentence.time] if sentence.time else ""
            if time and self._epoch.is_done(time):
                continue
            said = sentence.read(cells) if kind != "XDR" else {n: v for n, v in _xdr(cells).items() if n in self._needed}
            for sample in self._epoch.take(kind, time, said):
                rows.append(self._row(*sample))
                times.append(self._clock.time(sample[1]))
                origin.append(index)
        raw = np.array(rows, np.float64).reshape(len(rows), self._plan.width)
        own = np.array(times, np.int64) if self._plan.time_format is not None else None
        return Table(raw, own, None, np.array(origin, np.int32), np.isnan(raw))

    def _meant(self, lines: list[bytes], refusals: Refusals) -> list[int]:
        """The lines that may say a field or the date; the others are refused, unread."""
        meant, others, reasons = [], [], []
        for index, line in enumerate(lines):
            start = line.rfind(b"$")
            kind = _kind(line[start : start + 7]) if start >= 0 else b""
            if kind in self._kinds or kind in _OF_DATE:
                lines[index] = line[start:].rstrip()
                meant.append(index)
            if kind in self._kinds:
                continue
            if start < 0 and line[:1] != b"!" and line.strip():
                refusals.add(Reject("malformed", "expected a sentence that begins with $", payload=index))
            else:
                others.append(index)
                reasons.append(f"kind = {line[start + 1 : start + 6].decode('ascii', 'replace')!r}")
        if others:
            refuse_others(refusals, others, reasons)
        return meant

    def _row(self, said: Said, time: str) -> list[float]:
        if self._is_climb:
            said["climb"] = self._climb(said.get("alt", math.nan), time)
        return [said.get(name, math.nan) for name in self._names]

    def _climb(self, alt: float, time: str) -> float:
        before, now = self._last_alt, _seconds(time)
        if math.isfinite(alt) and now is not None:
            self._last_alt = alt, now
        if before is None or now is None or not 0 < now - before[1] <= _MAX_CLIMB_S:
            return math.nan
        return (alt - before[0]) / (now - before[1])


class _Epoch:
    """What the sentences of one epoch have said."""

    def __init__(self, wanted: set[str]) -> None:
        self._wanted = wanted
        self.begin()

    def begin(self) -> None:
        self._said: Said = {}
        self._missing = {*self._wanted}
        self._by: set[tuple[str, str]] = set()  # which fields sentences without a time have said
        self._time = ""

    def is_done(self, time: str) -> bool:
        """Whether a sentence of this time changes nothing."""
        return not self._missing and time == self._time

    def take(self, kind: str, time: str, said: Said) -> list[tuple[Said, str]]:
        """The samples that this sentence completes: that of the epoch before it, and its own."""
        done = []
        if time:
            is_next = self._time not in ("", time)
        else:
            named = [(kind, name) for name in said]
            is_next = not self._by.isdisjoint(named)
        if is_next:
            if self._said and self._missing:
                done.append((self._said, self._time))
            self.begin()
        if time:
            self._time = time
        else:
            self._by.update(named)
        if not self._missing:
            return done
        if not math.isfinite(sum(said.values())):
            for name in said:
                self._said.setdefault(name, said[name])
            said = {name: value for name, value in said.items() if math.isfinite(value)}
        self._said.update(said)
        self._missing.difference_update(said)
        if not self._missing:
            done.append((self._said, self._time))
        return done


class _Clock:
    """The receiver's time, once it has said a date that it is sure of."""

    def __init__(self) -> None:
        self._day: int | None = None  # since 1970
        self._last_s = 0.0  # time of day with that date
        self._is_own: bool | None = None  # decided by the first sample
        self._last = ON_ARRIVAL

    def date(self, kind: str, cells: list[str]) -> None:
        day = None
        if kind == "RMC" and len(cells) > 9 and cells[2] == "A" and len(cells[9]) == 6:
            day = _day(cells[9])
        elif kind == "ZDA" and len(cells) > 4:
            day = _day("-".join(reversed(cells[2:5])))
        if day is not None:
            self._day, self._last_s = day, _seconds(cells[1]) or 0.0

    def time(self, text: str) -> int:
        """Of a sample: ns since 1970."""
        seconds = _seconds(text)
        if self._is_own is None:
            self._is_own = self._day is not None and seconds is not None
        if not self._is_own or self._day is None or seconds is None:
            return self._last if self._is_own else ON_ARRIVAL
        midnights = 1 if seconds < self._last_s - _DAY_S / 2 else -1 if seconds > self._last_s + _DAY_S / 2 else 0
        self._last = (self._day + midnights) * _DAY_S * 10**9 + round(seconds * 1000) * 10**6
        return self._last


@lru_cache(maxsize=8)
def _day(text: str) -> int | None:
    """Days since 1970, of ddmmyy or of a date in ISO 8601."""
    if len(text) == 6:
        text = f"{'19' if text[4:] >= '80' else '20'}{text[4:]}-{text[2:4]}-{text[:2]}"
    try:
        return date.fromisoformat(text).toordinal() - _EPOCH
    except ValueError:
        return None


@lru_cache(maxsize=8)
def _seconds(text: str) -> float | None:
    """hhmmss.ss as seconds of the day."""
    value = _number(text)
    if not math.isfinite(value) or not 0 <= value < 240000:
        return None
    whole = int(value)
    return whole // 10000 * 3600 + whole // 100 % 100 * 60 + whole % 100 + (value - whole)
