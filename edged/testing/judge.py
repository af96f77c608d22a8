"""Compares what came of a test with what was expected, and says what differs in lines for a person."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import msgspec

from edged.telemetry import QUIET
from edged.testing.cases import Case, Expect
from edged.testing.play import Lost, Outcome, Published

SHOWN_CHARS = 400
"""Of a result that differs."""


def judge(case: Case, outcome: Outcome) -> list[str]:
    """What differs from what is expected; empty when the test passes."""
    return [*_of_results(case.expect, outcome.published), *_of_drops(case.dropped or {}, outcome.lost)]


def read_result(one: Published) -> Any:
    """A published result as plain values: a table, or text and hex digits where its format is csv or raw."""
    if one.format == "json":
        try:
            return msgspec.json.decode(one.payload)
        except msgspec.DecodeError:  # of a behaviour, which may publish plain text
            return {"text": one.payload.decode(errors="replace")}
    if one.format == "data":
        return {"data": one.payload.decode(errors="backslashreplace")}
    if one.format == "msgpack":
        return msgspec.msgpack.decode(one.payload)
    if one.format == "cbor":
        import cbor2

        return cbor2.loads(one.payload)
    return {"csv": one.payload.decode()} if one.format == "csv" else {one.format: one.payload.hex()}


def _of_results(expect: Sequence[Expect] | None, published: Sequence[Published]) -> Iterator[str]:
    if expect is None:
        return
    if not expect:
        yield from (f"{one.topic}: nothing was to come, but {_shown(read_result(one))} came" for one in published[:1])
        return
    for topic in dict.fromkeys(one.topic for one in expect):
        wanted = [*chain.from_iterable(repeat(one, one.count) for one in expect if one.topic == topic)]
        found = [one for one in published if one.topic == topic]
        for i, (a, b) in enumerate(zip(wanted, found, strict=False)):
            if a.result is not None:
                result = read_result(b)
                place = f"{topic}, result {i + 1}"
                differs = [*_differences(a.result, result, "", a.tolerance)]
                yield from (f"{place}: {text}" for text in differs)
                if differs:
                    yield f"{place}: the whole of it is {_shown(result)}"
        if len(found) < len(wanted):
            others = Counter(one.topic for one in published if one.topic != topic)
            instead = "; there were " + ", ".join(f"{n} on {t}" for t, n in others.most_common(5)) if others else ""
            yield f"{topic}: {len(wanted)} to be published, {len(found)} were{instead if not found else ''}"
        elif len(found) > len(wanted):
            more = _shown(read_result(found[len(wanted)]))
            yield f"{topic}: {len(wanted)} to be published, {len(found)} were; the next is {more}"


def _differences(wanted: Any, found: Any, path: str, tolerance: float) -> Iterator[str]:
    if isinstance(wanted, dict):
        if not isinstance(found, Mapping):
            yield f"{path or 'the result'}: expected a table, found {_shown(found)}"
            return
        for name, one in wanted.items():
            inner = f"{path}.{name}" if path else name
            if name not in found:
                yield f"{inner}: expected {_shown(one)}, found no such field; there is {', '.join(found)}"
            else:
                yield from _differences(one, found[name], inner, tolerance)
    elif isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            yield f"{path}: expected {len(wanted)} values, found {len(found)}"
        for i, (a, b) in enumerate(zip(wanted, found, strict=False)):
            yield from _differences(a, b, f"{path}[{i}]", tolerance)
    elif not _is_equal(wanted, found, tolerance):
        yield f"{path}: expected {_shown(wanted)}, found {_shown(found)}"


def _is_equal(wanted: Any, found: Any, tolerance: float) -> bool:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (wanted, found))
    if not numbers:
        return type(wanted) is type(found) and bool(wanted == found)
    return math.isclose(wanted, found, rel_tol=tolerance, abs_tol=tolerance) or (math.isnan(wanted) and math.isnan(found))


def _of_drops(wanted: Mapping[str, int], lost: Sequence[Lost]) -> Iterator[str]:
    found: Counter[str] = Counter()
    for one in lost:
        found[one.reason] += one.times
    for reason, times in wanted.items():
        if found[reason] != times:
            yield f"{times} to be dropped as {reason}, {found[reason]} were"
    for one in lost:
        if one.reason not in wanted and one.reason not in QUIET:
            why = f": {one.detail}" if one.detail else ""
            yield f"{one.where}: {one.times} dropped as {one.reason}{why}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and not value else msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "..."
