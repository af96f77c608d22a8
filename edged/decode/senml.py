"""SenML (RFC 8428): packs of records with base values, resolved. In JSON, or in CBOR, whose labels are numbers.

A record has the members `n` (without the base name, which is `bn`), `v` (a number, `vs` or `vb`), `u`, `s` and its time. Records
of one time make one sample of the fields that `n` names; with `key = "n"` each record is one by itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from edged.decode import cbor
from edged.decode.json import json_documents
from edged.decode.looks import is_written
from edged.decode.named import Named
from edged.decode.paths import kind_of
from edged.decode.plan import DecodePlan
from edged.decode.times import ns_of_text
from edged.decode.tree import Walk
from edged.decode.values import BadPayload
from edged.records import ON_ARRIVAL

RECORD_NAME = "n"
_LABELS: dict[int, str] = {-1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs"} | dict(
    enumerate(("n", "u", "v", "vs", "vb", "s", "t", "ut", "vd"))
)
_IS_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*[\[{]")
_VERSION = 10
_ABSOLUTE = 1 << 28
"""Times below it are relative to now (4.5.3)."""
_SECOND = 10**9


class _Times(Walk):
    """The times of records."""

    def times(self, element: Any, root: Any, count: int, payload: bytes) -> list[int]:
        if self.plan.time_format is None:
            return []
        seconds = element["t"]
        if abs(seconds) >= _ABSOLUTE:
            return [ns_of_text(repr(seconds), "unix_s")]
        if self._utc == ON_ARRIVAL and seconds:
            raise BadPayload(
                "missing", f"a time {seconds:g} s from now, and nothing says when this was sent; a port needs absolute times"
            )
        return [self._utc + round(seconds * _SECOND)]


class Records(_Times):
    """Each record by itself."""

    def __init__(self, plan: DecodePlan) -> None:
        super().__init__(plan, records)


class Packs(_Times, Named):
    """The records of one time together."""

    def __init__(self, plan: DecodePlan) -> None:
        super().__init__(plan, records)

    def pair(self, index: int, element: Any, root: Any) -> tuple[str, Any]:
        return element[RECORD_NAME], element["v"]


def make(plan: DecodePlan) -> Records | Packs:
    return Records(plan) if RECORD_NAME in plan.key_fields else Packs(plan)


def records(payload: bytes) -> Sequence[Any]:
    """The records of a pack, resolved.

    Raises:
        BadPayload: when it is none.
    """
    (pack, *more) = json_documents(payload) if _IS_JSON.match(payload) or is_written(payload) else cbor.documents(payload)
    if more or not isinstance(pack, list):
        raise BadPayload("malformed", f"expected a SenML pack, an array of records, found {kind_of(pack)}")
    base: dict[str, Any] = {}
    found = []
    for raw in pack:
        if not isinstance(raw, dict):
            raise BadPayload("malformed", f"expected a record, found {kind_of(raw)}")
        record = {_label(name): one for name, one in raw.items()}
        _understood(record)
        base.update((name, one) for name, one in record.items() if name in ("bn", "bt", "bu", "bv", "bs"))
        if not record.keys() & {"v", "vs", "vb", "vd", "s"} and "bv" not in base:
            continue  # of base values alone
        value = next((record[name] for name in ("v", "vb", "vs", "vd") if name in record), None)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = value + _number(base, "bv")
        elif value is None and "bv" in base and not record.keys() & {"s"}:
            value = _number(base, "bv")
        time = _number(base, "bt") + _number(record, "t")
        resolved = {"n": str(record.get("n", "")), "v": value, "t": time, "u": record.get("u", base.get("bu"))}
        found.append(record | resolved | {"bn": base.get("bn", "")})
    return found


def _label(name: str) -> str:
    return _LABELS.get(int(name), name) if name.lstrip("-").isdecimal() and name.isascii() else name


def _understood(record: dict[str, Any]) -> None:
    """Raises BadPayload of what a reader must not read."""
    if int(_number(record, "bver")) > _VERSION:
        raise BadPayload("unsupported", f"SenML of version {record['bver']:g}; expected at most {_VERSION}")
    for name in record:
        if name.endswith("_"):
            raise BadPayload("unsupported", f"SenML with {name[:40]!r}, which must be understood")


def _number(record: dict[str, Any], name: str) -> float:
    value = record.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadPayload("not_a_number", f"{name}: expected a number, found {kind_of(value)}")
    return value
