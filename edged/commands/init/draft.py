"""The text of a first configuration: sources as they were heard, a model as it fits them, and why each line is there. What
fits is not reckoned here: each candidate is planned as `edged check` plans it, and the first without an error is taken. Opens
no port and no connection.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from edged.commands.inspect import plan_alone
from edged.config.load import Draft, understand
from edged.config.parsers.value import Surroundings
from edged.daemon.prepare import plan_draft
from edged.decode.propose import Reading, counting
from edged.decode.stream import make_stream_decoder
from edged.errors import ConfigError
from edged.model.manifest import Manifest
from edged.plan.records import Machine
from edged.plan.sources import plan_sources

SCHEMA = "edged.schema.json"
GOOD_SHARE = 0.8
"""Of the lines heard that a reading must take."""
MAX_TRIES = 32
BROKER = "mqtt://localhost"


class Found(msgspec.Struct, frozen=True):
    """A source: `keys` say where it is, `reading` what it sends; `samples` are some of those heard, `remarks` become comments."""

    name: str
    keys: Mapping[str, Any]
    reading: Reading
    samples: tuple[tuple[float, ...], ...] = ()
    remarks: tuple[str, ...] = ()


class Use(msgspec.Struct, frozen=True):
    """How a model is run on a source."""

    source: Found
    model: Path | None = None
    window: int | None = None
    output: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the pipeline, among those of the sources."""
        name = model_name(self.model) if self.model is not None else f"{self.source.name}_samples"
        return name if name != self.source.name else f"{name}_results"


def toml(value: Any) -> str:
    """A value as it is written in TOML, tables inline."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def text(uses: Sequence[Use], broker: str, folder: Path) -> str:
    """The file, to lie in `folder`."""
    models = {use.model: model_name(use.model) for use in uses if use.model is not None}
    lines = [
        f"#:schema {SCHEMA}",
        "# Made by edged init. `edged check` explains it, `edged run` runs it, `edged tap` shows what passes,",
        "# `edged help KEY` explains a key.",
        "",
        "[broker.main]",
        "# Where results go. With a user: mqtts://NAME@HOST and password = { file = ... }",
        f"url = {toml(broker)}",
    ]
    for use in uses:
        source = use.source
        lines += ["", f"[source.{source.name}]", *(f"# {remark}" for remark in source.remarks)]
        lines += [f"{key} = {toml(value)}" for key, value in {**source.keys, **source.reading.keys}.items()]
    for path, name in models.items():
        lines += ["", f"[model.{name}]", f"path = {toml(_place(path, folder))}"]
    for use in uses:
        lines += ["", f"[pipeline.{use.name}]", *(f"# {remark}" for remark in use.remarks)]
        lines += [f"source = {toml(use.source.name)}"]
        if use.window is not None:
            lines += [f"window = {toml({'size': use.window, 'hop': max(1, use.window // 2)})}"]
        if use.model is not None:
            lines += [f"model = {toml(models[use.model])}", f"output = {toml(use.output)}"]
        else:
            lines += [f"# No model yet: results are the samples. edged learn {use.source.name} makes a model of what is normal."]
        lines += ["# Results go to edged/DEVICE/PIPELINE, as JSON; publish = { topic = ..., qos = 1 } changes that."]
    return "\n".join([*lines, ""])


def model_name(path: Path) -> str:
    """What a model is called in the file: as its folder, or its file."""
    absolute = path.absolute()
    stem = absolute.name if absolute.is_dir() else absolute.parent.name if absolute.name == "model.onnx" else absolute.stem
    return name_of(stem, "model")


def name_of(said: str, otherwise: str) -> str:
    """A name for a table."""
    name = re.sub(r"[^a-z0-9]+", "_", said.lower()).strip("_")[:24].strip("_")
    return name if re.fullmatch(r"[a-z]\w*", name) else otherwise


def _place(path: Path, folder: Path) -> str:
    """Relative where it lies below the folder of the file."""
    absolute, base = Path(os.path.abspath(path)), folder.absolute()
    return str(absolute.relative_to(base)) if absolute.is_relative_to(base) else str(absolute)


def understood(content: str, path: Path) -> Draft:
    """Raises ConfigError where it is no configuration."""
    return understand(path, content.encode(), Surroundings(path.absolute().parent, os.environ))


def samples_of(keys: Mapping[str, Any], reading: Reading, data: bytes) -> tuple[tuple[float, ...], ...]:
    """What a source with this reading makes of bytes, if it takes most of them; else nothing."""
    source = {**keys, **reading.keys}
    content = "[source.heard]\n" + "\n".join(f"{key} = {toml(value)}" for key, value in source.items()) + "\n"
    draft = understood(content, Path("edged.toml"))
    plan = plan_sources(draft.config, {"device": "init", "base_topic": "edged/init"}, frozenset(), []).get("heard")
    if plan is None or plan.decode is None:
        return ()
    decoder = make_stream_decoder(plan.decode)
    decoder.reset(True)
    rows = decoder.feed(data)
    if rows is None or not len(rows.values):
        return ()
    refused = sum(reject.times for reject in rows.rejects if reject.reason not in ("partial", "other"))
    if len(rows.values) < GOOD_SHARE * (len(rows.values) + refused):
        return ()
    return tuple(map(tuple, np.asarray(rows.values, np.float64).tolist()))


def uses_of(source: Found, model: Path, manifest: Manifest) -> Iterator[Use]:
    """How the model may be run on the source, the most likely first."""
    rows = plan_alone(manifest).rows
    states = {state.input for state in manifest.states}
    shapes = [(name, shape) for name, shape in rows.items() if name not in states]
    for name, shape in shapes[:1]:
        hints = manifest.inputs.get(name)
        wanted = hints.fields if hints is not None and hints.fields is not None else None
        for chosen, remarks in _columns(source, shape, wanted):
            width = len(chosen.reading.fields)
            sizes = dict.fromkeys(n for n in (math.prod(shape) // max(1, width), *shape) if n > 1)
            for window in (None, *sizes) if width == math.prod(shape) else (*sizes, None):
                for output in _outputs(manifest):
                    yield Use(chosen, model, window, output, remarks)


def _columns(source: Found, shape: Sequence[int], wanted: Sequence[str] | None) -> Iterator[tuple[Found, tuple[str, ...]]]:
    """The source with the fields that a model with this input may mean."""
    reading, fields = source.reading, source.reading.fields
    if wanted is not None and set(wanted) <= set(fields):
        yield replace(source, reading=reading.only(wanted)), ()
        return
    ups = {fields[i] for i in counting(source.samples) if i < len(fields)}
    steady = [name for name in fields if name not in ups]
    if wanted is not None and reading.keys["decode"]["format"] == "csv":
        for names in (fields, steady):
            if len(names) == len(wanted):
                note = f"The model names its inputs, in this order: {', '.join(wanted)}. Check that the columns are these."
                renamed = replace(source, reading=_renamed(reading.only(names), dict(zip(names, wanted, strict=True))))
                yield replace(renamed, remarks=(*renamed.remarks, note)), ()
                return
    for names in (fields, steady):
        if names:
            left = [name for name in fields if name not in names]
            counts = (f"Without {', '.join(left)}, which only counts up.",) if left else ()
            yield replace(source, reading=reading.only(names), remarks=(*source.remarks, *counts)), ()
    for count in sorted({n for n in (math.prod(shape), *shape) if 0 < n < len(steady)}, reverse=True):
        note = f"Of {len(fields)} fields the model takes {count}; these are the first ones: check them."
        yield replace(source, reading=reading.only(steady[:count]), remarks=(*source.remarks, note)), ()


def _renamed(reading: Reading, names: Mapping[str, str]) -> Reading:
    decode = reading.keys["decode"]
    fields = [names.get(one, one) for one in decode["fields"]]
    return reading._replace(keys={**reading.keys, "decode": {**decode, "fields": fields}})


def _outputs(manifest: Manifest) -> list[str]:
    """What its numbers may mean."""
    has_labels = bool(manifest.labels or manifest.onnx.classes)
    return ["classify", "raw"] if has_labels else ["raw"]


def planned(uses: Sequence[Use], broker: str, path: Path) -> list[str]:
    """What is wrong with a configuration of these; empty if nothing is."""
    content = text(uses, broker, path.absolute().parent)
    try:
        draft = understood(content, path)
        plan_draft(draft, Machine("init", 64 << 30, 0), None)
    except ConfigError as error:
        return [str(one) for one in error.found]
    return []


def fitted(source: Found, model: Path, manifest: Manifest, broker: str, path: Path) -> tuple[Use | None, list[str]]:
    """How the model is run on the source; None, and what spoke against the most likely way, where no way is right."""
    why: list[str] = []
    for _, use in zip(range(MAX_TRIES), uses_of(source, model, manifest), strict=False):
        if not (wrong := planned([use], broker, path)):
            return use, []
        why = why or wrong
    return None, why
