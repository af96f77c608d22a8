"""u-blox's NAV-PVT by gpsd's names, in SI units and degrees.

Payloads are `class id payload`, as frames of type ubx hand them on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.decode.plan import DecodePlan
from edged.decode.refusals import Refusals
from edged.decode.values import Table
from edged.decode.where import refuse_others
from edged.notation.field_paths import flat
from edged.records import ON_ARRIVAL, Reject

_NAV_PVT = b"\x01\x07"
_MIN_BYTES = 84
"""Of receivers of the seventh generation; later ones send 92."""
_PVT = np.dtype(
    {
        "names": ["date", "hour", "minute", "second", "valid", "nano", "fix", "flags"],
        "formats": ["<u4", "u1", "u1", "u1", "u1", "<i4", "u1", "u1"],
        "offsets": [4, 8, 9, 10, 11, 16, 20, 21],
        "itemsize": _MIN_BYTES,
    }
)
_HAS_DATE_AND_TIME = 3
_IS_GOOD = 1
_NO_DAY = -(10**6)


class Place(NamedTuple):
    """Where a field lies in NAV-PVT. `needs_fix`: it says nothing without one."""

    offset: int
    dtype: str
    scale: float
    needs_fix: bool = True


FIELDS = {
    "lat": Place(28, "<i4", 1e-7),
    "lon": Place(24, "<i4", 1e-7),
    "alt": Place(36, "<i4", 1e-3),
    "speed": Place(60, "<i4", 1e-3),
    "track": Place(64, "<i4", 1e-5),
    "climb": Place(56, "<i4", -1e-3),
    "satellites": Place(23, "u1", 1, needs_fix=False),
    "pdop": Place(76, "<u2", 0.01, needs_fix=False),
    "mode": Place(20, "u1", 1, needs_fix=False),
    "eph": Place(40, "<u4", 1e-3),
    "epv": Place(44, "<u4", 1e-3),
    "eps": Place(68, "<u4", 1e-3),
}
NAMES = tuple(FIELDS)


class Ubx:
    """Payloads to a Table."""

    def __init__(self, plan: DecodePlan) -> None:
        self._plan = plan
        self._is_own: bool | None = None  # the receiver knew the time of the first sample
        self._last = ON_ARRIVAL
        self._places = [FIELDS[flat(field.path)] for field in plan.value_fields]
        self._needs_fix = [place.needs_fix for place in self._places]

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        meant = [i for i, payload in enumerate(payloads) if payload[:2] == _NAV_PVT and len(payload) >= _MIN_BYTES + 2]
        if len(meant) < len(payloads):
            self._refuse(payloads, refusals)
        blob = b"".join([payloads[i][2 : 2 + _MIN_BYTES] for i in meant])
        pvt = np.frombuffer(blob, _PVT)
        raw = np.empty((len(meant), self._plan.width), np.float64)
        for j, place in enumerate(self._places):
            column = np.ndarray((len(meant),), place.dtype, blob, place.offset, (_MIN_BYTES,)) if meant else np.empty(0)
            np.multiply(column, place.scale, out=raw[:, j])
        has_fix = (pvt["flags"] & _IS_GOOD != 0) & (pvt["fix"] >= 1) & (pvt["fix"] <= 4)
        if not has_fix.all():
            raw[np.ix_(~has_fix, self._needs_fix)] = math.nan
        times = self._times(pvt) if self._plan.time_format is not None else None
        return Table(raw, times, None, np.array(meant, np.int32), np.isnan(raw))

    def _refuse(self, payloads: Sequence[bytes], refusals: Refusals) -> None:
        others = [i for i, payload in enumerate(payloads) if payload[:2] != _NAV_PVT]
        refuse_others(refusals, others, [f"class id = {payloads[i][:2].hex(' ')}" for i in others])
        for i, payload in enumerate(payloads):
            if payload[:2] == _NAV_PVT and len(payload) < _MIN_BYTES + 2:
                detail = f"NAV-PVT of {len(payload) - 2} bytes, expected at least {_MIN_BYTES}"
                refusals.add(Reject("short", detail, payload=i))

    def _times(self, pvt: NDArray[Any]) -> NDArray[np.int64]:
        """The receiver's, if it knew it from the first sample on, so that times never mix."""
        times, is_known = _utc(pvt)
        if self._is_own is None and len(times):
            self._is_own = bool(is_known[0])
        if not self._is_own:
            return np.full(len(times), ON_ARRIVAL)
        if not is_known.all():
            with_last = np.concatenate(([self._last], times))
            times = with_last[np.maximum.accumulate(np.arange(len(with_last)) * np.concatenate(([False], is_known)))][1:]
        self._last = int(times[-1]) if len(times) else self._last
        return times


def _utc(pvt: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """ns since 1970, and where the receiver knows them."""
    days = np.array(list(map(_day, pvt["date"].tolist())), np.int64)
    is_known = (pvt["valid"] & _HAS_DATE_AND_TIME == _HAS_DATE_AND_TIME) & (days != _NO_DAY)
    seconds = ((days * 24 + pvt["hour"]) * 60 + pvt["minute"]) * 60 + pvt["second"]
    return seconds * 10**9 + pvt["nano"], is_known


@lru_cache(maxsize=8)
def _day(date: int) -> int:
    """Days since 1970 of a year in two bytes, a month and a day."""
    year, month, day = date & 0xFFFF, date >> 16 & 0xFF, date >> 24
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return _NO_DAY
    return int(np.datetime64((year - 1970) * 12 + month - 1, "M").astype("M8[D]").astype(np.int64)) + day - 1
