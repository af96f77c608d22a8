"""A configuration that the fleet announced, in the place of the local file: what it may not say, and what stays as it is here.

Who signs may lead the work of a device, and no more: it gets at no secret, file or port that the local file does not give away.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edged.config.load import Draft, parsed, understand
from edged.config.parsers.value import Surroundings
from edged.config.schema import Config
from edged.config.toml.positions import written
from edged.errors import Problem
from edged.notation.values import Function, Secret

OURS = ("device", "fleet", "http", "spool")
"""Tables of who this device is, who leads it, and where its doors and files are."""
EXTERNAL = ("credential", "env", "file")
KeyPath = tuple[str | int, ...]


def lead(local: Draft, content: bytes, copy: Path, environ: Mapping[str, str] = os.environ) -> Draft:
    """What is to be run in the place of `local`; what it may not say is among its problems. Raises ConfigError."""
    draft = understand(local.path, content, Surroundings(local.path.absolute().parent, environ), copy)
    values, ours = parsed(copy, content).values, parsed(local.path, local.content).values
    found = [*_tables(values), *_external(values, ours), *_secrets(draft.config, local.config), *_others(draft, local)]
    found += _led_by(draft.config, local.config)
    kept = {name: getattr(local.config, name) for name in OURS}
    # What else is wrong may tell what is in a file that is not theirs.
    problems = tuple(Problem(path, text) for path, text in found) or draft.problems
    config = msgspec.structs.replace(draft.config, **kept)
    return replace(draft, config=config, problems=problems, beside=local.content)


def _tables(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in OURS:
        if name in values:
            yield name, "belongs to the local file alone; remove it from the fleet's configuration"


def _external(values: Any, ours: Any, at: KeyPath = ()) -> Iterator[tuple[str, str]]:
    """What is read from outside, but for what the local file reads for the same key."""
    if isinstance(values, dict):
        if len(values) == 1 and isinstance(values.get(word := next(iter(values))), str) and word in EXTERNAL and values != ours:
            yield written(at), f"{word} {values[word]!r} is not what the local file names for this key"
        for name, value in values.items():
            yield from _external(value, ours.get(name) if isinstance(ours, dict) else None, (*at, name))
    elif isinstance(values, list):
        for i, value in enumerate(values):
            yield from _external(value, ours[i] if isinstance(ours, list) and i < len(ours) else None, (*at, i))


def _secrets(config: Config, local: Config) -> Iterator[tuple[str, str]]:
    """A secret is the local file's, for the same key, and goes to the same address."""
    ours = {path: value.reveal() for path, value in _values(local) if isinstance(value, Secret)}
    for path, value in _values(config):
        if not isinstance(value, Secret):
            continue
        if ours.get(path) != value.reveal():
            yield written(path), "is a secret that the local file does not name for this key"
        elif path[0] in ("broker", "model") and _url(config, path) != _url(local, path):
            yield written((*path[:2], "url")), "is another address than that of the local file, and would get its secret"


def _others(draft: Draft, local: Draft) -> Iterator[tuple[str, str]]:
    """Files and ports that the local file does not name; the paths of models are free, since models are nothing but numbers."""
    paths = {value for _, value in _values(local.config) if isinstance(value, Path)} | {*local.files}
    code = {value.path for _, value in _values(local.config) if isinstance(value, Function)}
    ports = {value for path, value in _values(local.config) if _is_port(path)}
    for path, value in _values(draft.config):
        if path[0] in OURS:
            continue
        if isinstance(value, Function) and value.path not in code:
            yield written(path), f"{value.path.name} is a Python file that the local file does not name"
        elif isinstance(value, Path) and value not in paths and not (path[0] == "model" and path[2:] == ("path",)):
            yield written(path), f"{value} is a file that the local file does not name"
        elif (
            _is_port(path)
            and value is not None
            and value not in ports
            and not (isinstance(value, str) and value in draft.config.port)
        ):
            yield written(path), f"{value} is a port that the local file does not name"
    for file in sorted({*draft.files} - paths - code):
        yield "", f"{file} is a file that the local file does not name"


def _led_by(config: Config, local: Config) -> Iterator[tuple[str, str]]:
    """The way by which the device is led stays open."""
    name = (local.fleet.broker if local.fleet is not None else None) or next(iter(local.broker), "")
    if config.broker.get(name) != local.broker.get(name):
        yield f"broker.{name}", "is that by which the fleet leads this device; it must be as in the local file"


def _is_port(path: KeyPath) -> bool:
    return len(path) == 3 and path[0] in ("source", "port") and path[2] == "port"


def _url(config: Config, path: KeyPath) -> Any:
    return getattr(getattr(config, str(path[0])).get(path[1]), "url", None)


def _values(value: Any, at: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """All that is in a table, with its place."""
    if at:
        yield at, value
    if isinstance(value, msgspec.Struct) and not isinstance(value, Function):
        for field in value.__struct_fields__:
            yield from _values(getattr(value, field), (*at, field))
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _values(one, (*at, name))
    elif isinstance(value, tuple):
        for i, one in enumerate(value):
            yield from _values(one, (*at, i))
