"""The tests of a configuration as they stand in `NAME.test.toml` beside `NAME.toml`: what goes in, and what must come out.

[[test]]
name = "a good line"
source = "vibration"
input = ["0.1,0.2\\n", "0.3,0.4\\n"]
expect = { topic = "plant/vibration", result = { score = 0.5 } }
dropped = { malformed = 1 }
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edged.config.convert import Conversion, Rule, Wrong
from edged.config.load import content_of, parsed, report_of
from edged.config.parsers.measures import Duration
from edged.config.parsers.names import Name, Text
from edged.config.parsers.numbers import Number, integer
from edged.config.parsers.paths import FilePath
from edged.config.parsers.value import Surroundings, Value
from edged.config.schema import Key, Several, Table
from edged.config.toml.positions import Positions
from edged.errors import EX_CONFIG, ConfigError, Fatal
from edged.notation.units import S
from edged.notation.words import shown
from edged.topics import unfit

SUFFIX = ".test.toml"
WAIT_NS = 1 * S
TOLERANCE = 1e-6


def _data(raw: object, _: Surroundings) -> bytes:
    """What is sent: a string (its UTF-8), or a list of bytes. Unlike markers it may be empty, and look like hex."""
    if isinstance(raw, str):
        return raw.encode()
    if not isinstance(raw, list) or not all(
        isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= 255 for one in raw
    ):
        raise ValueError(f"expected a string, or a list of bytes such as [0xAA, 0x55], found {shown(raw)}")
    return bytes(raw)


def _topic(raw: object, _: Surroundings) -> str:
    """A topic of one message: no filter, and no template."""
    if not isinstance(raw, str) or not raw:
        raise ValueError(f"expected a topic, found {shown(raw)}")
    if wrong := unfit(raw):
        raise ValueError(f"expected the topic of one message, found {shown(raw)}: {wrong}")
    return raw


def _result(raw: object, _: Surroundings) -> Any:
    if not isinstance(raw, dict) or not raw:
        raise ValueError(f"expected a part of the result, such as {{ score = 0.5 }}, found {shown(raw)}")
    return raw


def _counts(raw: object, _: Surroundings) -> dict[str, int]:
    if not isinstance(raw, dict):
        raise ValueError(f"expected how many by reason, such as {{ checksum = 1 }}, found {shown(raw)}")
    for reason, count in raw.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ValueError(f"expected a whole number of at least 0 for {reason}, found {shown(count)}")
    return dict(raw)


Topic = Annotated[str, Value("topic", _topic)]


class Input(Table, frozen=True, kw_only=True):
    """One input: what a port reads at once, or one message."""

    FIRST = "data"

    data: Annotated[Annotated[bytes, Value("bytes", _data)] | None, Key("what comes in; a line may lack its end")] = None
    file: Annotated[FilePath | None, Key("a file that holds it: all bytes of a port, or the payload of one message")] = None
    recording: Annotated[FilePath | None, Key("what `edged record` wrote, with its times and topics")] = None
    topic: Annotated[Topic | None, Key("of this message", default="the test's")] = None
    source: Annotated[Name | None, Key("the source that gets it", default="the test's")] = None
    at: Annotated[Duration | None, Key("when, from the start of the test", default="after the one before, by `every`")] = None


class Expect(Table, frozen=True, kw_only=True):
    """What must be published. The results on a topic are compared one by one, in their order."""

    topic: Annotated[Topic, Key("where")]
    result: Annotated[Annotated[dict[str, Any], Value("table", _result)] | None, Key("a part of the result")] = None
    tolerance: Annotated[Number, Key("by how much a number may differ, relative to it, or to 1 where it is smaller")] = TOLERANCE
    count: Annotated[Annotated[int, integer(0)], Key("so many in a row; 0: none on this topic")] = 1


class Case(Table, frozen=True, kw_only=True):
    """One test. It begins with everything as after a start."""

    name: Annotated[Text, Key("what is tested")]
    source: Annotated[Name, Key("the source that gets the input")]
    topic: Annotated[Topic | None, Key("of inputs that do not say theirs; required for mqtt")] = None
    input: Annotated[Annotated[tuple[Input, ...], Several()], Key("what comes in")] = ()
    every: Annotated[Duration, Key("time between two inputs")] = 0
    wait: Annotated[Duration, Key("how long the test goes on after the last input")] = WAIT_NS
    expect: Annotated[
        Annotated[tuple[Expect, ...], Several()] | None,
        Key("what must come out, and nothing else on these topics; an empty list: nothing at all", default="anything may"),
    ] = None
    dropped: Annotated[
        Annotated[dict[str, int] | None, Value("int by reason", _counts)],
        Key("what must be dropped; any other drop fails the test", default="nothing, but `other` and `partial`"),
    ] = None


class File(Table, frozen=True, kw_only=True):
    """The file of tests."""

    test: Annotated[Annotated[tuple[Case, ...], Several(1)], Key("the tests")]


def _one_of_three(found: Input, raw: Mapping[str, Any]) -> Wrong:
    given = [key for key in ("data", "file", "recording") if key in raw]
    if len(given) != 1:
        yield given[-1] if given else "data", "expected one of data, file and recording, found " + (" and ".join(given) or "none")


def _no_topic_with_recording(found: Input, raw: Mapping[str, Any]) -> Wrong:
    if "recording" in raw and "topic" in raw:
        yield "topic", "has no effect with recording, which has the topic of each message", "key"


RULES: dict[type[Table], tuple[Rule, ...]] = {Input: (Rule((), _one_of_three), Rule((), _no_topic_with_recording))}


class Tests(msgspec.Struct, frozen=True):
    """A file of tests that was read. `line(i)` is where test `i` begins."""

    path: Path
    cases: tuple[Case, ...]
    text: str
    positions: Positions

    def line(self, index: int) -> int:
        return self.positions.locate(("test", index))[0]

    def input_line(self, index: int, number: int) -> int:
        """Where one of its inputs stands."""
        return self.positions.locate(("test", index, "input", number))[0]


def beside(config: Path) -> Path:
    """Where the tests of a configuration stand."""
    return config.with_name(config.name.removesuffix(".toml") + SUFFIX)


def read_cases(path: Path) -> Tests:
    """The tests of a file. Raises ConfigError with everything that is wrong with it, Fatal where there is none."""
    if not path.exists():
        raise Fatal(f"{path}: there are no tests yet; a first one, to be written there:\n\n{EXAMPLE}", EX_CONFIG)
    content = content_of(path)
    document = parsed(path, content)
    conversion = Conversion(Surroundings(path.absolute().parent, os.environ), document.positions, RULES, {})
    found = conversion.table(File, document.values, ())
    if conversion.problems:
        raise ConfigError(report_of(path, document.positions, conversion.problems))
    return Tests(path, found.test, content.decode("utf-8-sig"), document.positions)


EXAMPLE = """[[test]]
name = "a good line"
source = "vibration"
input = ["0.1,0.2,9.8"]
# `edged test --accept` writes what comes out as what is expected
"""
