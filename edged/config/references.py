"""What must hold between tables that name each other: brokers, streams and models that are there, once, and no circles.

Looks at the plain file, so that a wrong name is reported even where something else in its table is wrong; what has not the
right shape is left to the conversion.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from edged.config.asked import ASK
from edged.config.parsers.paths import is_port_name
from edged.config.ports import OF_PORT
from edged.errors import Problem
from edged.notation.words import counted, found_among, listed

Raw = Mapping[str, Any]

RESERVED = ("status", "health", "event", "model", "source", "cmd")
"""Words that edged's own topics have below `base_topic`. No source may be called so, and no pipeline that publishes below
its own name; a pipeline whose topics are all given does not collide."""


def references(file: Raw, doubtful: Collection[str], line_of: Callable[[str], int]) -> list[Problem]:
    """Names that are not there, and names that are there twice.

    `doubtful` kinds of tables were misspelt: nothing is said of what is missing there. `line_of` tells the line of a key path.
    """
    names = _Names(*(_names(file, kind, doubtful) for kind in ("broker", "source", "model", "pipeline")))
    problems = [*_stream_names(names, line_of)]
    for name, source in _tables(file, "source").items():
        if source.get("type") == "mqtt":
            problems += _broker(f"source.{name}.broker", source, names)
        if isinstance(source.get("rejects"), str | dict):
            rejects = source["rejects"]
            problems += _broker(f"source.{name}.rejects.broker", rejects if isinstance(rejects, dict) else {}, names)
        if source.get("type") in ("serial", "modbus"):
            problems += _port(f"source.{name}", source, tuple(_tables(file, "port")), line_of)
    problems += _one_path(file, line_of)
    for name, pipeline in _tables(file, "pipeline").items():
        problems += _pipeline_references(name, pipeline, names)
    problems += _fallbacks(_tables(file, "model"), names)
    for name, behaviour in _tables(file, "behaviour").items():
        problems += _behaviour_references(name, behaviour, names, file)
    shown = file.get("homeassistant")
    if isinstance(shown, dict) and shown.get("discovery") is True:
        problems += _broker("homeassistant.broker", shown, names)
    health = file.get("health")
    if isinstance(health, dict):
        asked = _several("health.broker", health.get("broker", []))
        for at, one in asked:
            problems += _must_be_known(at, one, "broker", names.brokers)
        for one, count in Counter(one for _, one in asked).items():
            if count > 1:
                problems.append(Problem("health.broker", f'"{one}" is listed {count} times'))
    problems += _circles(_tables(file, "pipeline"))
    if names.sources == () and not _tables(file, "behaviour"):
        problems.append(Problem("source", "expected at least one [source.NAME], found none: there is nothing to read", "table"))
    return problems


def unused(file: Raw) -> list[Problem]:
    """Warnings of what is configured and never used."""
    pipelines, behaviours = _tables(file, "pipeline"), _tables(file, "behaviour")
    read = {name for p in pipelines.values() for name in _read_by(p)}
    heard = {name for b in behaviours.values() for key in ("source", "ask") for _, name in _several("", b.get(key, []))}
    written = {name for b in behaviours.values() for name in _written_by(b)}
    answering = {name for name, s in _tables(file, "source").items() if s.get("reply")}
    run = {model for p in pipelines.values() for _, model in _several("", p.get("model"))}
    run |= {str(m.get("fallback")) for name, m in _tables(file, "model").items() if name in run}
    ports = {s.get("port") for s in _tables(file, "source").values() if isinstance(s.get("port"), str)}
    if not pipelines and not behaviours:
        text = "there is no pipeline, so nothing is computed and nothing published; add [pipeline.NAME] with source and publish"
        return [Problem("pipeline", text, "table", is_warning=True)]
    return [
        *(Problem(f"port.{p}", "no source reads it", is_warning=True) for p in _tables(file, "port") if p not in ports | written),
        *(
            Problem(f"source.{s}", "no pipeline reads it", is_warning=True)
            for s in _tables(file, "source")
            if s not in read | heard | written
        ),
        *(Problem(f"model.{m}", "no pipeline uses it", is_warning=True) for m in _tables(file, "model") if m not in run),
        *(
            Problem(f"pipeline.{name}.publish", "it publishes nothing, and no pipeline reads it", is_warning=True)
            for name, p in pipelines.items()
            if p.get("publish") == []
            and name not in read | heard
            and not answering & {s for _, s in _several("", p.get("source", []))}
        ),
    ]


def _written_by(behaviour: Raw) -> Iterator[str]:
    yield from (name for _, name in _several("", behaviour.get("write", [])))
    ends = behaviour.get("on_end", [])
    yield from (str(one.get("write")) for one in (ends if isinstance(ends, list) else [ends]) if isinstance(one, dict))


class _Names(msgspec.Struct, frozen=True):
    """The names of each kind of table; None where what was meant cannot be told."""

    brokers: tuple[str, ...] | None
    sources: tuple[str, ...] | None
    models: tuple[str, ...] | None
    pipelines: tuple[str, ...] | None

    @property
    def streams(self) -> tuple[str, ...] | None:
        return None if self.sources is None or self.pipelines is None else (*self.sources, *self.pipelines)


def _names(file: Raw, kind: str, doubtful: Collection[str]) -> tuple[str, ...] | None:
    tables = file.get(kind, {})
    if kind in doubtful or not isinstance(tables, dict) or any(not isinstance(one, dict | list) for one in tables.values()):
        return None
    return tuple(tables)


def _tables(file: Raw, kind: str) -> dict[str, dict[str, Any]]:
    tables = file.get(kind)
    return {k: v for k, v in tables.items() if isinstance(v, dict)} if isinstance(tables, dict) else {}


def _several(at: str, raw: Any) -> list[tuple[str, str]]:
    """The names of a `T+` with their paths; what is no text is left to the conversion to report."""
    if isinstance(raw, str):
        return [(at, raw)]
    return [(f"{at}[{i}]", one) for i, one in enumerate(raw) if isinstance(one, str)] if isinstance(raw, list) else []


def _stream_names(names: _Names, line_of: Callable[[str], int]) -> Iterator[Problem]:
    for name in names.sources or ():
        if name in RESERVED:
            yield Problem(f"source.{name}", f'"{name}" is a word of edged\'s own topics; choose another name', "key")
    for name in names.pipelines or ():
        if name in (names.sources or ()):
            first = f"source at line {line_of(f'source.{name}')}"
            text = f'a source and a pipeline are both called "{name}"; streams share one set of names ({first})'
            yield Problem(f"pipeline.{name}", text, "key")


def _broker(path: str, table: Raw, names: _Names) -> list[Problem]:
    given = table.get("broker")
    if isinstance(given, str):
        return _must_be_known(path, given, "broker", names.brokers)
    if given is not None or names.brokers is None or len(names.brokers) == 1:
        return []
    if not names.brokers:
        return [Problem(path, 'there is no broker; add [broker.main] with url = "mqtt://localhost"', "table")]
    return [
        Problem(path, f"required, since there are {counted(len(names.brokers))} brokers: {', '.join(names.brokers)}", "table")
    ]


def _fallbacks(models: Mapping[str, Raw], names: _Names) -> Iterator[Problem]:
    """Who answers for a remote model is one that runs here."""
    for name, model in models.items():
        other = model.get("fallback")
        if not isinstance(other, str):
            continue
        at = f"model.{name}.fallback"
        yield from _must_be_known(at, other, "model", names.models)
        if "url" not in models.get(other, {}):
            continue
        if other == name:
            yield Problem(at, f"{name} falls back to itself; name a model that runs here (path)")
        elif models[other].get("fallback") == name:
            yield Problem(at, f"{name} falls back to {other} and {other} to {name}; one of them must be local")
        else:
            yield Problem(at, f"{other} runs elsewhere, too; name a model that runs here (path)")


def _pipeline_references(name: str, pipeline: Raw, names: _Names) -> Iterator[Problem]:
    at = f"pipeline.{name}"
    if name in RESERVED and _publishes_by_name(pipeline):
        text = f"its results would go to {{base_topic}}/{name}, which is edged's own; choose another name, or set publish.topic"
        yield Problem(at, text, "key")
    streams = names.streams
    sources = [one for one in _several(f"{at}.source", pipeline.get("source", [])) if one[1] != ASK or ASK in (streams or ())]
    for path, source in sources:
        if source == name and source not in (names.sources or ()):
            others = listed(s for s in streams or () if s != name)
            yield Problem(path, f'"{name}" is this pipeline itself; expected one of: {others}')
        else:
            yield from _must_be_known(path, source, "source or pipeline", _readable_by(name, names))
    for source, count in Counter(one for _, one in sources).items():
        if count > 1:
            yield Problem(f"{at}.source", f'"{source}" is listed {count} times')
    gate = _gate_of(pipeline)
    if gate == name and gate not in (names.sources or ()):
        others = listed(s for s in streams or () if s != name)
        yield Problem(f"{at}.gate.source", f'"{name}" is this pipeline itself; expected one of: {others}')
    elif gate is not None:
        yield from _must_be_known(f"{at}.gate.source", gate, "source or pipeline", _readable_by(name, names))
    model = pipeline.get("model")
    if isinstance(model, str):
        yield from _must_be_known(f"{at}.model", model, "model", names.models)
    align = pipeline.get("align")
    to = align.get("to") if isinstance(align, dict) else None
    are_known = streams is None or all(one in streams for _, one in sources)
    if isinstance(to, str) and are_known and to not in [one for _, one in sources]:
        yield Problem(f"{at}.align.to", f"expected a source of this pipeline, {found_among(to, [s for _, s in sources])}")
    entries = pipeline.get("publish", [{}])
    for i, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        if isinstance(entry, dict | str):
            path = f"{at}.publish" + (f"[{i}]" if isinstance(entries, list) and "publish" in pipeline else "")
            yield from _broker(f"{path}.broker", entry if isinstance(entry, dict) else {}, names)


def _behaviour_references(name: str, behaviour: Raw, names: _Names, file: Raw) -> Iterator[Problem]:
    at = f"behaviour.{name}"
    for key, what, known in (("source", "source or pipeline", names.streams), ("ask", "pipeline", names.pipelines)):
        for path, one in _several(f"{at}.{key}", behaviour.get(key, [])):
            yield from _must_be_known(path, one, what, known)
    ends = behaviour.get("on_end", [])
    ends = [one for one in (ends if isinstance(ends, list) else [ends]) if isinstance(one, dict)]
    writes = [(f"{at}.on_end[{i}].write", one["write"]) for i, one in enumerate(ends) if isinstance(one.get("write"), str)]
    ports = _writable(file)
    for path, one in (*_several(f"{at}.write", behaviour.get("write", [])), *writes):
        if one not in ports:
            fix = found_among(one, ports) if ports else f'found "{one}"; there is none: add [port.{one}]'
            yield Problem(path, f"expected a [port.NAME] or a serial source, {fix}")
    if behaviour.get("publish") or any("topic" in one for one in ends):
        yield from _broker(f"{at}.broker", behaviour, names)


def _writable(file: Raw) -> tuple[str, ...]:
    """What a behaviour may write to."""
    sources = (name for name, table in _tables(file, "source").items() if table.get("type") == "serial")
    return (*_tables(file, "port"), *sources)


def _readable_by(pipeline: str, names: _Names) -> Sequence[str] | None:
    """The streams that a pipeline may read: not itself."""
    if names.sources is None or names.pipelines is None:
        return None
    return [*names.sources, *(name for name in names.pipelines if name != pipeline)]


def _gate_of(pipeline: Raw) -> str | None:
    """The stream that is its gate."""
    gate = pipeline.get("gate")
    source = gate.get("source") if isinstance(gate, dict) else None
    return source if isinstance(source, str) else None


def _read_by(pipeline: Raw) -> list[str]:
    """The streams that it needs: those that it runs on, and its gate."""
    gate = _gate_of(pipeline)
    return [*(name for _, name in _several("", pipeline.get("source", []))), *([gate] if gate is not None else [])]


def _publishes_by_name(pipeline: Raw) -> bool:
    entries = pipeline.get("publish", [{}])
    for entry in entries if isinstance(entries, list) else [entries]:
        topic = entry.get("topic") if isinstance(entry, dict) else entry
        if not isinstance(topic, str) or "{pipeline}" in topic:
            return True
    return False


def _port(at: str, source: Raw, ports: Sequence[str], line_of: Callable[[str], int]) -> Iterator[Problem]:
    """A port that is named must be there, and says itself what it is."""
    port = source.get("port")
    if not isinstance(port, str) or not is_port_name(port):
        return
    if re.fullmatch(r"(?i)COM\d+:?", port):
        return  # that is said by itself
    if port not in ports:
        wanted = 'expected a device such as "/dev/ttyUSB0" or the name of a [port.NAME]'
        is_device = port.startswith(("tty", "serial"))
        fix = f'found "{port}"; write "/dev/{port}"' if is_device else found_among(port, ports) if ports else f'found "{port}"'
        yield Problem(f"{at}.port", f"{wanted}, {fix}")
        return
    for key in source:
        if key in OF_PORT:
            text = f"belongs to [port.{port}] (line {line_of(f'port.{port}')}), since {at}.port is its name"
            yield Problem(f"{at}.{key}", text, "key")


def _one_path(file: Raw, line_of: Callable[[str], int]) -> Iterator[Problem]:
    """One device is opened once: several sources of it share a [port.NAME]."""
    first: dict[str, str] = {}
    for kind in ("port", "source"):
        for name, table in _tables(file, kind).items():
            port = table.get("port")
            if kind == "source" and (table.get("type") not in ("serial", "modbus") or (is_port_name(port))):
                continue
            if not isinstance(port, str | dict):
                continue
            before = first.setdefault(str(port), f"{kind}.{name}")
            if before == f"{kind}.{name}":
                continue
            shown = f'"{port}"' if isinstance(port, str) else _inline(port)
            said = port if isinstance(port, str) else f"this device, {shown},"
            line = f"line {line_of(before)}"
            if before.startswith("port."):
                shared = before.partition(".")[2]
                text = f'{said} is [{before}] too ({line}); write port = "{shared}"'
            else:
                text = f"{said} is read by {before} too ({line}); write [port.{_free(file)}] port = {shown} once, with "
                text += f'baudrate, frame, checksum and send, and port = "{_free(file)}" in both'
            yield Problem(f"{kind}.{name}.port", text)


def _inline(table: Raw) -> str:
    return "{ " + ", ".join(f"{k} = {v!r}" if isinstance(v, str) else f"{k} = {v}" for k, v in table.items()) + " }"


def _free(file: Raw) -> str:
    """A name for a port that is none yet."""
    names = _tables(file, "port")
    return next(one for one in ("shared", *(f"shared{i}" for i in range(2, 100))) if one not in names)


def _must_be_known(path: str, name: str, what: str, known: Sequence[str] | None) -> list[Problem]:
    if known is None or name in known:
        return []
    kind = what.partition(" ")[0]
    if not known:
        return [Problem(path, f'expected the name of a {what}, found "{name}"; there is none: add [{kind}.{name}]')]
    return [Problem(path, f"expected the name of a {what}, {found_among(name, known)}")]


def _circles(pipelines: Mapping[str, Raw]) -> Iterator[Problem]:
    """Pipelines that, over others, feed or gate themselves. Each circle is reported once, at its first pipeline."""
    feeds = {name: [s for s in _read_by(p) if s in pipelines and s != name] for name, p in pipelines.items()}
    done: set[str] = set()
    for start in feeds:
        way = _way_back(start, feeds) if start not in done else None
        if way:
            done.update(way)
            is_gate = way[1] not in (name for _, name in _several("", pipelines[start].get("source", [])))
            at = f"pipeline.{start}.{'gate.' if is_gate else ''}source"
            yield Problem(at, f"feeds itself: {' <- '.join([*way, start])}; break the circle")


def _way_back(start: str, feeds: Mapping[str, Sequence[str]]) -> list[str] | None:
    ways = [[start]]
    seen = set()
    while ways:
        way = ways.pop()
        for source in feeds[way[-1]]:
            if source == start:
                return way
            if source not in seen:
                seen.add(source)
                ways.append([*way, source])
    return None
