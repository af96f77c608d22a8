"""From the arrays of one row to what a protocol sends of it: fields by their names, a prompt, a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edged.config.asked import PLACEHOLDER
from edged.model.remote.records import FIELDS, MAX_GIVEN, PICTURE, PREFIX, Array, AskPlan, Wanted
from edged.records import Result

MAX_TEXT = 1024
"""Characters that a value of another pipeline may add to a prompt."""

ToJpeg = Callable[[Array], bytes]


class Composer:
    """Of one pipeline. `names` gives what the parts of a key are called, by the key's id; `keys` their captures. It remembers the
    newest result of each key of the pipelines that its prompt names, for `max_keys`."""

    def __init__(
        self, plan: AskPlan, keys: Sequence[str], names: Callable[[int], tuple[str, ...]] | None, to_jpeg: ToJpeg | None
    ) -> None:
        self.plan = plan
        self._keys = keys
        self._names = names
        self._to_jpeg = to_jpeg
        self._said: dict[tuple[str, int], Mapping[str, Any]] = {}

    def tell(self, pipeline: str, is_keyed: bool, result: Result, now: int) -> None:
        """A pipeline that the prompt names has a result."""
        self._said[pipeline, result.key if is_keyed else 0] = result.body

    def forget(self, key: int) -> None:
        for other in self.plan.others:
            self._said.pop((other, key), None)

    def prompt(self, rows: Mapping[str, Array], key: int, given: Mapping[str, Any]) -> str:
        """The text for one row; nothing in it blocks or is large. `given`: what the question has beside numbers."""
        if not self.plan.prompt:
            return ""
        parts = self._names(key) if self._names is not None else ()
        known: dict[str, Any] = dict(zip(self._keys, parts, strict=False)) | {"key": "/".join(parts)}
        known |= self._fields(rows)
        told = self._told(given)

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name not in self.plan.names:
                return match[0]
            if name in told:
                return shown(told[name], MAX_GIVEN)
            return shown(known[name] if name in known else self._other(name, key))

        return PLACEHOLDER.sub(value, self.plan.prompt)

    def wanted(self, rows: Mapping[str, Array], prompt: str, given: Mapping[str, Any]) -> Wanted:
        """What is sent of one row; a picture takes milliseconds, so not on the loop."""
        inputs = {name.removeprefix(PREFIX): x for name, x in rows.items() if name.startswith(PREFIX)}
        picture = given.get(self.plan.photo, b"")
        if PICTURE in inputs and self._to_jpeg is not None:
            picture = self._to_jpeg(_colours(inputs.pop(PICTURE), self.plan.colours))
        if FIELDS in inputs:
            del inputs[FIELDS]
            inputs |= self._fields(rows) | {name: _whole(x) for name, x in self._told(given).items()}
        return Wanted(inputs, prompt, picture)

    @property
    def has_picture(self) -> bool:
        return self._to_jpeg is not None or self.plan.photo != ""

    def _fields(self, rows: Mapping[str, Array]) -> dict[str, Array]:
        row = rows.get(PREFIX + FIELDS)
        if row is None:
            return {}
        return {name: row[..., start:stop].reshape((*row.shape[:-1], *shape)) for name, start, stop, shape in self.plan.fields}

    def _told(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if name != self.plan.photo}

    def _other(self, name: str, key: int) -> Any:
        pipeline, _, path = name.partition(".")
        found: Any = self._said.get((pipeline, key)) or self._said.get((pipeline, 0))
        for step in path.split("."):
            found = found.get(step) if isinstance(found, dict) else None
        return found


def _whole(value: Any) -> Array:
    """An array that has one value, whatever that is."""
    array = np.empty((), object)
    array[()] = value
    return array


def shown(value: Any, most: int = MAX_TEXT) -> str:
    """A value as a prompt has it: a number, a list of numbers, a text."""
    if isinstance(value, str):
        return value[:most]
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return f"{value:.7g}"
    if value is None:
        return "unknown"
    return json.dumps(value)[:most]


def _colours(picture: Array, colours: tuple[tuple[float, ...], tuple[float, ...]] | None) -> Array:
    """The picture as bytes, whatever steps have made of it for the model that runs here."""
    if colours is not None:
        scale, offset = (np.array(x, np.float32) for x in colours)
        picture = picture * scale + offset
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8) if picture.dtype != np.uint8 else picture
