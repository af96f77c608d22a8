"""Writes what came of the tests into their file, as what is expected. All else in the file stays as it is, comments too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from edged.config.toml.document import SyntaxProblem, parse
from edged.results.fields import OF_THE_RUN
from edged.telemetry import QUIET
from edged.testing.cases import Tests
from edged.testing.judge import read_result
from edged.testing.play import Outcome

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Unwritten(Exception):
    """The file cannot be changed safely; `block` is what to write there by hand, for test `index`."""

    def __init__(self, index: int, block: str) -> None:
        super().__init__(block)
        self.index = index
        self.block = block


def accepted(tests: Tests, outcomes: Mapping[int, Outcome]) -> str:
    """The text of the file with what came as what is expected, for each of these tests. Raises Unwritten."""
    text = tests.text
    for index in sorted(outcomes, reverse=True):  # from behind, so that places stay
        block = _block(outcomes[index])
        changed = _changed(tests, text, index, block)
        try:
            is_safe = _without(changed, index) == _without(text, index)
        except SyntaxProblem:
            is_safe = False
        if not is_safe:
            raise Unwritten(index, block)
        text = changed
    return text


def _changed(tests: Tests, text: str, index: int, block: str) -> str:
    """`text` is the one that `tests` was read from, up to the end of test `index`."""
    places = tests.positions.places
    begin = places["test", index].value
    end = places["test", index + 1].value if ("test", index + 1) in places else len(text)
    body = text[begin:end]
    for key in ("expect", "dropped"):
        body = _without_key(body, key)
    tail = re.search(r"(?:\n[ \t]*(?:#[^\n]*)?)*\Z", body)  # lines of comments before the next test are that one's
    cut = tail.start() if tail is not None else len(body)
    return f"{text[:begin]}{body[:cut]}\n{block}{body[cut:].removeprefix(chr(10))}{text[end:]}"


def _without_key(body: str, key: str) -> str:
    """A block without a key, up to the bracket that closes its value, or without the tables of that name."""
    body = re.sub(rf"(?ms)^\[+test\.{key}\]+.*?(?=^\[|\Z)", "", body)
    found = re.search(rf"(?m)^{key}\s*=\s*", body)
    if found is None:
        return body
    for end in (m.end() for m in re.finditer(r"[^\n]*(\n|\Z)", body[found.end() :])):
        try:
            parse("x = " + body[found.end() : found.end() + end])
        except SyntaxProblem:
            continue
        return body[: found.start()] + body[found.end() + end :]
    return body


def _without(text: str, index: int) -> Any:
    values = parse(text).values
    for key in ("expect", "dropped"):
        values["test"][index].pop(key, None)
    return values


def _block(outcome: Outcome) -> str:
    lines = ["expect = ["]
    for one in outcome.published:
        result = read_result(one)
        if isinstance(result, dict):
            result = {name: value for name, value in result.items() if name not in OF_THE_RUN}
        lines.append(f"  {{ topic = {_value(one.topic)}, result = {_value(result)} }},")
    lines[-1:] = ["expect = []"] if len(lines) == 1 else [lines[-1], "]"]
    counts: dict[str, int] = {}
    for lost in outcome.lost:
        if lost.reason not in QUIET:
            counts[lost.reason] = counts.get(lost.reason, 0) + lost.times
    if counts:
        lines.append(f"dropped = {_value(counts)}")
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """A value as TOML writes it; what is null is left out of a table."""
    if isinstance(value, dict):
        return "{ " + ", ".join(_members(value)) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, float):
        return repr(value)  # inf and nan are written alike
    return msgspec.json.encode(value).decode()


def _members(table: Mapping[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        if value is not None:
            key = name if _BARE.fullmatch(name) else msgspec.json.encode(name).decode()
            yield f"{key} = {_value(value)}"
