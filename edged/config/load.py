"""From a file to a Config, and every problem of the file as lines for a person.

`read` goes as far as it can: a table with a problem is left out, so that the plan can still look at the others. `report`
gives problems, the file's and the plan's, their places in the file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from edged.config.asked import with_questions
from edged.config.checks import FINISH, RULES
from edged.config.convert import Conversion
from edged.config.lines import shown_line
from edged.config.parsers.value import Surroundings
from edged.config.ports import shared_port
from edged.config.references import references, unused
from edged.config.schema import Broker, Config, MqttSource, Pipeline
from edged.config.toml.document import Document, SyntaxProblem, not_utf8, parse
from edged.config.toml.positions import KeyPath, Positions, parse_path, written
from edged.errors import ConfigError, Finding, Problem
from edged.notation.files import MAX_BYTES
from edged.notation.words import without_user
from edged.system.plain_file import UnfitFile, read_plain


class Draft(msgspec.Struct, frozen=True):
    """A file that was read: the tables that can be used, and what is wrong with the others."""

    path: Path
    config: Config
    positions: Positions
    problems: tuple[Problem, ...]
    content: bytes = b""
    files: Mapping[Path, bytes] = {}
    """What the small files hold that it names: labels, certificates, secrets, steps."""
    copy: Path | None = None
    """Where that lies which was read in the place of the file: an earlier state of it, or what the fleet announced."""
    is_last_good: bool = False
    """It is an earlier state of the file, to be run with the models that ran with it."""
    beside: bytes = b""
    """What the file itself holds, where something else was read in its place."""

    def __repr__(self) -> str:
        return f"Draft({self.path})"  # what files hold is for nobody's log

    @property
    def digest(self) -> str:
        """8 hex digits of the SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()[:8]


def read(path: Path, environ: Mapping[str, str] = os.environ) -> Draft:
    """What a file says, as far as it can be used. Raises ConfigError when it cannot be read or is no TOML."""
    return understand(path, content_of(path), Surroundings(path.absolute().parent, environ))


def understand(path: Path, content: bytes, around: Surroundings, copy: Path | None = None) -> Draft:
    """The same of what a file holds, or held. Raises ConfigError."""
    document = parsed(copy or path, content)
    conversion = Conversion(around, document.positions, RULES, FINISH)
    config, unasked = with_questions(conversion.file(document.values))

    positions = document.positions
    problems = [
        *references(document.values, conversion.meant, lambda key: line_of(positions, key)),
        *conversion.problems,
        *unasked,
    ]
    if all(p.is_warning for p in problems):
        problems += unused(document.values)
    return Draft(path, _sound(config), positions, tuple(_once(problems)), content, around.files, copy)


def _sound(config: Config) -> Config:
    """Without sources and pipelines that name a table which is not there, or each other in a circle: that is said already."""
    sources = {
        n: s
        for n, s in config.source.items()
        if (not isinstance(s, MqttSource) or _is_there(s.broker, config.broker))
        and (not shared_port(s) or shared_port(s) in config.port)
    }
    sound: dict[str, Pipeline] = {}
    left = {
        name: p
        for name, p in config.pipeline.items()
        if name not in config.source
        and (p.model is None or (p.model in config.model and _has_fallback(config, p.model)))
        and all(_is_there(entry.broker, config.broker) for entry in p.publish)
    }
    while ready := {name: p for name, p in left.items() if {*sources, *sound} >= set(p.source)}:
        sound |= ready
        left = {name: p for name, p in left.items() if name not in ready}
    in_order = {name: p for name, p in config.pipeline.items() if name in sound}
    streams, ports = {*sources, *sound}, {*config.port, *sources}
    behaviours = {
        name: b
        for name, b in config.behaviour.items()
        if streams >= set(b.source)
        and {*sound} >= set(b.ask)
        and ports >= {*b.write, *(one.write for one in b.on_end if one.write)}
        and (_is_there(b.broker, config.broker) or not (b.publish or any(one.topic for one in b.on_end)))
    }
    return msgspec.structs.replace(config, source=sources, pipeline=in_order, behaviour=behaviours)


def _has_fallback(config: Config, model: str) -> bool:
    fallback = config.model[model].fallback
    return fallback is None or (fallback in config.model and config.model[fallback].url is None)


def _is_there(broker: str | None, brokers: Mapping[str, Broker]) -> bool:
    return broker in brokers if broker is not None else len(brokers) == 1


def line_of(positions: Positions, key: str) -> int:
    """The line of a key path, or of the table in which it would stand."""
    return positions.locate(_as_in_file(parse_path(key), positions))[0]


def report(draft: Draft, problems: Iterable[Problem]) -> list[Finding]:
    """The problems with their places, in the order of the file."""
    return report_of(draft.copy or draft.path, draft.positions, problems)


def report_of(file: Path, positions: Positions, problems: Iterable[Problem]) -> list[Finding]:
    """The same of any file of TOML."""
    found = []
    for problem in problems:
        path = _as_in_file(parse_path(problem.path), positions)
        line, column = positions.locate(path, problem.at)
        source = shown_line(positions.text, line, str(path[0]) if path else "")
        text = without_user(problem.text)
        found.append(Finding(str(file), text, line, column, written(path), source, problem.is_warning))
    return sorted(found, key=lambda one: (one.line, one.column))


def place_of(line: str) -> str:
    """The `file:line:column` of a line that `report` made; whole where there is none, since then nothing in a file is meant."""
    found = re.match(r"(.*?:\d+:\d+): ", line, re.DOTALL)
    return found[1] if found else line


def _as_in_file(path: KeyPath, positions: Positions) -> KeyPath:
    """`publish[0].topic` as `publish.topic` where a single value stands for a list of one."""
    found: KeyPath = ()
    for part in path:
        if part == 0 and (*found, part) not in positions.places and found in positions.places:
            continue
        found = (*found, part)
    return found


def _once(problems: Iterable[Problem]) -> Iterable[Problem]:
    """Without the second of two problems of one key: the first is the more exact one."""
    seen: set[tuple[Any, ...]] = set()
    for problem in problems:
        mark = (problem.path, problem.is_warning)
        if mark not in seen:
            seen.add(mark)
            yield problem


def content_of(path: Path) -> bytes:
    """What a file of settings holds. Raises ConfigError when it cannot be read."""
    try:
        return read_plain(path, MAX_BYTES)
    except FileNotFoundError:
        said = "there is no such file"
    except PermissionError:
        said = "may not be read by this user; chown or chmod it"
    except UnfitFile as error:
        said = f"expected a file, found a folder; did you mean {path / 'edged.toml'}?" if path.is_dir() else str(error)
    except OSError as error:
        said = f"cannot be read: {(error.strerror or 'unknown error').lower()}"
    raise ConfigError([Finding(str(path), said)])


def parsed(path: Path, content: bytes) -> Document:
    """Its values and where they stand. Raises ConfigError when it is no TOML."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = len(content[: error.start].rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        raise ConfigError([Finding(str(path), not_utf8(content, error.start), line, column)]) from None
    try:
        return parse(text)
    except SyntaxProblem as problem:
        line = problem.line
        raise ConfigError([Finding(str(path), problem.text, line, problem.column, "", shown_line(text, line))]) from None
