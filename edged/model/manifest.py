"""What is known of a model before it is loaded: `model.toml` beside it, and the file's own metadata.

A model is a folder with `model.onnx` and `model.toml`, or a bare `.onnx`. All keys of `model.toml` may be left out:

    name = "vibration"
    version = "3"                          # for people; the file's SHA-256 is what tells versions apart
    description = "..."
    sha256 = "9f86d0..."                   # of model.onnx (with weights in files of their own: of `cat model.onnx a.bin b.bin`,
                                           # these by name); another file is refused
    labels = ["healthy", "imbalance"]      # class names by index
    batch_axis = 0                         # rows are independent, the first axis counts them; 1: the second, as in
                                           # [time, N, fields]; "none": there is no such axis

    [normalize]                            # applied by pipelines that state no preprocess of their own:
    mean = [0.0, 0.1, 9.8]                 #   (x - mean) / std, one number or one a field
    std = [1.0, 1.0, 2.0]                  #   or min and max instead: (x - min) / (max - min)

    [inputs.x]                             # by the input's name in the ONNX file
    fields = ["ax", "ay", "az"]            # taken by name from the source
    units = { ax = "g", ay = "g" }         # compared with the source's units
    layout = "time,field"                  # or "field,time"; of pictures "hwc" or "chw"
    color = "bgr"                          # of pictures: the order of colours; "rgb", "bgr" or "gray"
    shape = [256, 3]                       # one row, where the file leaves axes open

    [inputs.x.seen]                        # what it was trained on, a number a field: edged evaluate compares with it
    mean = [0.0, 0.1, 9.8]
    std = [1.0, 1.0, 2.0]

    [outputs.y]                            # by the output's name in the ONNX file
    shape = [10]                           # one row, where the file leaves axes open

    [made]                                 # where it comes from: any keys, for people

    [state]                                # what it remembers of each key, by output: the next run's input
    h_out = "h"

    [starts.h]                             # what that input begins with, by key ("line1/pump7"); zeros for any other key
    pump7 = [0.1, 0.2]

    [detect]                               # for output = "detect", where the shape alone does not tell
    head = "yolov8"                        # one of `results/heads/detectors/table.py`; also output.head of a pipeline

    [golden]                               # or golden = "golden.npz"; all run at a trial, the first at every load
    file = "golden.npz"                    # arrays named like inputs and outputs, samples along the first axis
    rtol = 1e-3
    atol = 1e-4

Without labels of its own the graph is asked, whose classifiers may name their classes, and then the metadata
(`model/metadata.py`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edged.config.toml.document import SyntaxProblem, parse
from edged.errors import Problem
from edged.model.axes import rows_first
from edged.model.golden import Golden
from edged.model.inputs import CHW, FIELD_TIME, HWC, TIME_FIELD
from edged.model.metadata import label_key, metadata_labels
from edged.model.onnx_file import MAX_WEIGHTS, OnnxFile, read_onnx
from edged.model.recurrent import StatePlan, plan_states
from edged.results.heads.detectors.table import ALIASES, DETECTORS
from edged.system.plain_file import UnfitFile, opened_plain

MAX_AXIS = 7
MAX_MANIFEST = 1 << 20
BLOCK = 1 << 20
SHOWN = 10
HIDDEN = "it is a link to a file elsewhere, and something in that is wrong; put the file itself here to see what"
LAYOUTS = (TIME_FIELD, FIELD_TIME, HWC, CHW)
COLORS = ("rgb", "bgr", "gray")
KEYS = (
    "name", "version", "description", "sha256", "labels", "batch_axis", "normalize", "inputs", "outputs", "state", "starts",
    "detect", "golden", "made",
)  # fmt: skip


class Normalize(msgspec.Struct, frozen=True):
    """`(x - subtract) / divide`, each one number for all fields or one a field."""

    subtract: tuple[float, ...]
    divide: tuple[float, ...]


class InputHints(msgspec.Struct, frozen=True):
    fields: tuple[str, ...] | None = None
    units: dict[str, str] = msgspec.field(default_factory=dict)
    layout: str | None = None
    shape: tuple[int, ...] | None = None
    color: str | None = None
    seen: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Mean and deviation of each field where it was trained."""


class Manifest(msgspec.Struct, frozen=True):
    """`name` is the configuration's. `path` is the .onnx file, `sha256` the hash of it and of its weights' files
    (64 hex digits). `batch_axis` is its place, None
    when the file itself must tell, or -1 when there is none; in `onnx` it comes first already.
    `states` is what `state` comes to, the configuration's in its place
    where that has one. `outputs` are the shapes of rows that it says; `onnx` has them
    already. `origin`: the file that `path` is a copy of."""

    name: str
    path: Path
    sha256: str
    onnx: OnnxFile
    version: str = ""
    description: str = ""
    labels: tuple[str, ...] = ()
    batch_axis: int | None = None
    normalize: Normalize | None = None
    inputs: dict[str, InputHints] = msgspec.field(default_factory=dict)
    golden: Golden | None = None
    boxes: str | None = None
    state: dict[str, str] = msgspec.field(default_factory=dict)
    states: tuple[StatePlan, ...] = ()
    outputs: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    origin: Path | None = None


def read_manifest(name: str, path: Path, sha256: str = "") -> tuple[Manifest | None, list[Problem]]:
    """Reads model `name` from a folder or a bare .onnx: the manifest (None if it cannot be used) and what is wrong. `sha256`: of
    the files that `path` is a copy of, else it is computed."""
    toml = _Toml(f"model.{name}.path", path / "model.toml" if path.is_dir() else None)
    file = path / "model.onnx" if path.is_dir() else path
    onnx, sha256 = toml.onnx(file, sha256)
    table = toml.load()
    if onnx is None:
        return None, toml.problems
    toml.only("", table, KEYS)
    axis, state = toml.batch_axis(table), toml.state(table)
    states, wrong = plan_states(onnx, state, axis)
    for text in wrong:
        toml.wrong("state", text)
    states = toml.starts(table, states)
    onnx = rows_first(onnx, axis, [*state, *state.values()])
    outputs = toml.outputs(table, onnx)
    manifest = Manifest(
        name=name,
        path=file,
        sha256=sha256,
        onnx=onnx,
        version=toml.text(table, "version"),
        description=toml.text(table, "description"),
        labels=toml.texts(table, "labels") or class_labels(onnx) or toml.labels_of(onnx),
        batch_axis=axis,
        normalize=toml.normalize(table),
        inputs=toml.inputs(table, onnx),
        golden=toml.golden(table, file.parent, onnx),
        boxes=toml.boxes(table),
        state=state,
        states=states,
        origin=file,
    )
    manifest = with_outputs(manifest, outputs)
    toml.text(table, "name")
    if text := contradiction(manifest.onnx, manifest.labels):
        toml.wrong("labels", text)
    toml.get(table, "made", "a table", lambda v: isinstance(v, dict))
    wanted = toml.text(table, "sha256").lower()
    if wanted and wanted != sha256:
        toml.wrong("sha256", f"expected {wanted[:16]}..., {file.name} has {sha256[:16]}...: the two files do not belong together")
    return (manifest if all(p.is_warning for p in toml.problems) else None), toml.problems


def with_outputs(manifest: Manifest, shapes: Mapping[str, tuple[int, ...]]) -> Manifest:
    """The same where these are the rows of those outputs, which the file leaves open."""
    onnx = manifest.onnx
    known = tuple(replace(o, shape=(None, *shapes[o.name])) if o.name in shapes else o for o in onnx.outputs)
    return replace(manifest, onnx=dataclasses.replace(onnx, outputs=known), outputs={**manifest.outputs, **shapes})


def class_labels(onnx: OnnxFile) -> tuple[str, ...]:
    """The names that the graph has for its classes. Numbers that only count them are none."""
    classes = onnx.classes
    return () if classes == tuple(range(len(classes))) else tuple(map(str, classes))


def contradiction(onnx: OnnxFile, labels: tuple[str, ...]) -> str:
    """What is wrong with `labels` for a graph that names its classes itself: with two of them swapped, every answer would be the
    opposite. Other words for all of them are a translation. Empty if nothing is wrong."""
    classes = tuple(map(str, onnx.classes))
    if not labels or not classes or labels == classes:
        return ""
    said = f"the graph itself names its classes, by index: {', '.join(classes[:SHOWN])}{', ...' if len(classes) > SHOWN else ''}"
    if len(labels) != len(classes):
        return f"{len(labels)} of them contradict {len(classes)} classes: {said}; remove labels"
    for i, label in enumerate(labels):
        if label != classes[i] and label in classes:
            there = classes.index(label)
            return f'"{label}" is class {i} here and class {there} there: {said}; remove labels, or give them in this order'
    return ""


def hash_file(*paths: Path) -> str:
    """SHA-256 of the files one after the other, as 64 hex digits."""
    digest = hashlib.sha256()
    for path in paths:
        with opened_plain(path, MAX_WEIGHTS) as (fd, _):
            while block := os.read(fd, BLOCK):
                digest.update(block)
    return digest.hexdigest()


class _Toml(msgspec.Struct):
    """Reads `model.toml` strictly and collects what is wrong. `file` is None for a bare .onnx.

    `is_elsewhere`: it is a link to a file outside the model's folder. Whoever put it there may not be allowed to read that one,
    so none of its words is shown.
    """

    path: str
    file: Path | None
    problems: list[Problem] = msgspec.field(default_factory=list)
    is_elsewhere: bool = False

    def wrong(self, key: str, text: str) -> None:
        if self.is_elsewhere:
            if any(HIDDEN in p.text for p in self.problems):
                return  # how much is wrong is not shown either
            key, text = "", HIDDEN
        where = f"{self.file}: {key}" if self.file and key else str(self.file or "")
        self.problems.append(Problem(self.path, f"{where}: {text}" if where else text))

    def onnx(self, file: Path, sha256: str) -> tuple[OnnxFile | None, str]:
        try:
            onnx = read_onnx(file)
            return onnx, sha256 or hash_file(file, *onnx.external_files)
        except FileNotFoundError:
            folder = file.parent
            found = sorted(p.name for p in folder.glob("*.onnx"))[:5] if folder.is_dir() else []
            others = (
                [] if found or file.name != "model.onnx" or not folder.is_dir() else sorted(p.name for p in folder.iterdir())[:5]
            )
            hint = "; expected a folder with model.onnx, or an .onnx file"
            if found:
                hint = f"; there is {', '.join(found)}"
            elif others:
                hint += f"; the folder has {', '.join(others)}"
            self.problems.append(Problem(self.path, f"{file} is not there{hint}"))
        except OSError as e:
            self.problems.append(Problem(self.path, f"{file}: {e.strerror or e}"))
        except ValueError as e:
            self.problems.append(Problem(self.path, f"{file}: {e}"))
        return None, ""

    def load(self) -> dict[str, Any]:
        if self.file is None:
            return {}
        try:
            with opened_plain(self.file, MAX_MANIFEST) as (fd, status), open(fd, "rb", closefd=False) as file:
                really = Path(os.readlink(f"/proc/self/fd/{fd}"))
                self.is_elsewhere = status.st_nlink > 1 or not really.is_relative_to(self.file.parent.resolve())
                return parse(file.read(MAX_MANIFEST).decode()).values
        except FileNotFoundError:
            if self.file.is_symlink():
                self.wrong("", "it is a link to a file that is not there")
        except OSError as e:
            self.wrong("", e.strerror or str(e))
        except UnfitFile as e:
            self.wrong("", str(e))
        except SyntaxProblem as e:
            if self.is_elsewhere:
                self.wrong("", "")
            else:
                self.problems.append(Problem(self.path, f"{self.file}:{e.line}:{e.column}: {e.text}"))
        except ValueError as e:
            self.wrong("", f"TOML: {e}")
        return {}

    def only(self, prefix: str, table: dict[str, Any], keys: tuple[str, ...]) -> None:
        for key in table.keys() - set(keys):
            self.wrong(prefix + key, f"unknown key; known: {', '.join(keys)}")

    def get(self, table: dict[str, Any], key: str, expected: str, is_right: Callable[[Any], bool], prefix: str = "") -> Any:
        value = table.get(key)
        if value is None or is_right(value):
            return value
        self.wrong(prefix + key, f"expected {expected}, found {value!r:.80}")
        return None

    def text(self, table: dict[str, Any], key: str) -> str:
        return str(self.get(table, key, "a string", lambda v: isinstance(v, str)) or "")

    def texts(self, table: dict[str, Any], key: str, prefix: str = "") -> tuple[str, ...]:
        return tuple(self.get(table, key, "a list of strings", lambda v: _is_list(v, str), prefix) or ())

    def labels_of(self, onnx: OnnxFile) -> tuple[str, ...]:
        try:
            return metadata_labels(onnx.metadata)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            key = label_key(onnx.metadata)
            text = f"its metadata {key!r} is not a list of class names; give labels in model.toml or the configuration"
            self.problems.append(Problem(self.path, text, is_warning=True))
            return ()

    def batch_axis(self, table: dict[str, Any]) -> int | None:
        value = self.get(table, "batch_axis", '0 (rows first), 1, 2 or "none"', lambda v: v == "none" or _is_axis(v))
        return None if value is None else -1 if value == "none" else int(value)

    def state(self, table: dict[str, Any]) -> dict[str, str]:
        expected = 'inputs by output, such as h_out = "h"'
        return self.get(table, "state", expected, lambda v: isinstance(v, dict) and _is_list([*v.values()], str)) or {}

    def starts(self, table: dict[str, Any], states: tuple[StatePlan, ...]) -> tuple[StatePlan, ...]:
        part = self.get(table, "starts", "a table for each input of a state", lambda v: isinstance(v, dict)) or {}
        known = {s.input: s for s in states}
        for name, by_key in part.items():
            if name not in known:
                self.wrong(f"starts.{name}", f"no state is the input {name}; there are: {', '.join(known) or 'none'}")
            elif not isinstance(by_key, dict):
                self.wrong(f"starts.{name}", f"expected numbers by key, found {by_key!r:.80}")
            else:
                count = math.prod(known[name].shape)
                rows = tuple((key, self.numbers(by_key, key, f"starts.{name}.")) for key in by_key)
                if any(len(row) != count for _, row in rows):
                    self.wrong(f"starts.{name}", f"expected {count} numbers for each key, as {name} has")
                known[name] = replace(known[name], starts=rows)
        return tuple(known.values())

    def normalize(self, table: dict[str, Any]) -> Normalize | None:
        part = self.get(table, "normalize", "a table", lambda v: isinstance(v, dict))
        if part is None:
            return None
        self.only("normalize.", part, ("mean", "std", "min", "max"))
        given = {k: self.numbers(part, k, "normalize.") for k in ("mean", "std", "min", "max") if k in part}
        if any(not v for v in given.values()):
            return None
        if len({len(v) for v in given.values() if len(v) > 1}) > 1:
            self.wrong("normalize", "its lists must be of one length, one number a field")
            return None
        if given.keys() == {"mean", "std"}:
            subtract, divide = given["mean"], given["std"]
        elif given.keys() == {"min", "max"}:
            low, high = _spread(given["min"], given["max"])
            subtract, divide = low, tuple(b - a for a, b in zip(low, high, strict=True))
        else:
            self.wrong("normalize", f"expected mean and std, or min and max; found {', '.join(given) or 'nothing'}")
            return None
        if any(d <= 0 for d in divide):
            self.wrong("normalize", "std must be above 0, and max above min")
            return None
        return Normalize(*_spread(subtract, divide))

    def numbers(self, table: dict[str, Any], key: str, prefix: str) -> tuple[float, ...]:
        value = self.get(table, key, "a number or a list of numbers", lambda v: _is_number(v) or _is_list(v, float), prefix)
        if value is None:
            return ()
        return tuple(float(v) for v in value) if isinstance(value, list) else (float(value),)

    def inputs(self, table: dict[str, Any], onnx: OnnxFile) -> dict[str, InputHints]:
        part = self.get(table, "inputs", "a table for each input", lambda v: isinstance(v, dict)) or {}
        names = [i.name for i in onnx.inputs]
        hints = {}
        for name, given in part.items():
            if name not in names:
                self.wrong(f"inputs.{name}", f"the model has no such input; it has {', '.join(names)}")
            elif not isinstance(given, dict):
                self.wrong(f"inputs.{name}", f"expected a table, found {given!r:.80}")
            else:
                hints[name] = self.hints(f"inputs.{name}.", given)
        return hints

    def outputs(self, table: dict[str, Any], onnx: OnnxFile) -> dict[str, tuple[int, ...]]:
        part = self.get(table, "outputs", "a table for each output", lambda v: isinstance(v, dict)) or {}
        infos, found = {o.name: o for o in onnx.outputs}, {}
        for name, given in part.items():
            if name not in infos:
                self.wrong(f"outputs.{name}", f"the model has no such output; it has {', '.join(infos)}")
                continue
            if not isinstance(given, dict):
                self.wrong(f"outputs.{name}", f"expected a table, found {given!r:.80}")
                continue
            self.only(f"outputs.{name}.", given, ("shape",))
            shape, axes = self.shape(given, f"outputs.{name}."), infos[name].shape
            if shape is None:
                continue
            row = shape if axes is None else axes[1:]
            if len(row) != len(shape) or any(isinstance(n, int) and n != m for n, m in zip(row, shape, strict=True)):
                self.wrong(f"outputs.{name}.shape", f"{list(shape)} is not a row of {infos[name]}")
            else:
                found[name] = shape
        return found

    def shape(self, given: dict[str, Any], prefix: str) -> tuple[int, ...] | None:
        expected = "a list of whole numbers"
        shape = self.get(given, "shape", expected, lambda v: _is_list(v, int) and all(n > 0 for n in v), prefix)
        return None if shape is None else tuple(shape)

    def hints(self, prefix: str, given: dict[str, Any]) -> InputHints:
        self.only(prefix, given, ("fields", "units", "layout", "color", "shape", "seen"))
        fields = self.texts(given, "fields", prefix) or None
        units = (
            self.get(given, "units", "strings by field", lambda v: isinstance(v, dict) and _is_list([*v.values()], str), prefix)
            or {}
        )
        if fields and (unknown := units.keys() - set(fields)):
            self.wrong(f"{prefix}units", f"{', '.join(sorted(unknown))} is not among its fields: {', '.join(fields)}")
        layout = self.choice(given, "layout", LAYOUTS, prefix)
        color = self.choice(given, "color", COLORS, prefix)
        return InputHints(fields, units, layout, self.shape(given, prefix), color, self.seen(given, prefix))

    def seen(self, given: dict[str, Any], prefix: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        part = self.get(given, "seen", "a table", lambda v: isinstance(v, dict), prefix)
        if part is None:
            return None
        self.only(f"{prefix}seen.", part, ("mean", "std"))
        mean, std = (self.numbers(part, key, f"{prefix}seen.") for key in ("mean", "std"))
        if part.keys() <= {"mean", "std"} and (len(mean) != len(std) or not mean or any(d < 0 for d in std)):
            self.wrong(f"{prefix}seen", "expected mean and std, equally many numbers, none of std below 0")
            return None
        return mean, std

    def boxes(self, table: dict[str, Any]) -> str | None:
        part = self.get(table, "detect", "a table", lambda v: isinstance(v, dict)) or {}
        self.only("detect.", part, ("head",))
        return self.choice(part, "head", (*DETECTORS, *ALIASES), "detect.")

    def choice(self, table: dict[str, Any], key: str, known: tuple[str, ...], prefix: str) -> str | None:
        found: str | None = self.get(table, key, " or ".join(f'"{x}"' for x in known), lambda v: v in known, prefix)
        return found

    def golden(self, table: dict[str, Any], folder: Path, onnx: OnnxFile) -> Golden | None:
        given = table.get("golden")
        if given is None:
            return None
        part = {"file": given} if isinstance(given, str) else given
        if not isinstance(part, dict):
            self.wrong("golden", f'expected "golden.npz" or a table, found {given!r:.80}')
            return None
        self.only("golden.", part, ("file", "rtol", "atol"))
        file = self.get(part, "file", "the name of an .npz file in the model's folder", _is_plain_name, "golden.")
        rtol, atol = (
            self.get(part, k, "a number of at least 0", lambda v: _is_number(v) and v >= 0, "golden.") for k in ("rtol", "atol")
        )
        if file is None:
            if "file" not in part:
                self.wrong("golden.file", "required")
            return None
        golden = Golden(folder / file, 1e-3 if rtol is None else rtol, 1e-4 if atol is None else atol)
        try:
            shapes = golden.shapes()
        except (OSError, ValueError) as e:
            self.wrong("golden", f"{golden.path.name}: {e}")
            return None
        if len({shape[:1] for shape in shapes.values()} - {(0,)}) != 1 or () in shapes.values():
            self.wrong("golden", f"{golden.path.name}: expected the same number of samples, along the first axis, in every array")
            return None
        names, inputs, outputs = shapes.keys(), {i.name for i in onnx.inputs}, {o.name for o in onnx.outputs}
        if not inputs <= names or not names & outputs or names - inputs - outputs:
            expected = (
                f"expected arrays for all inputs ({', '.join(sorted(inputs))}) and some outputs ({', '.join(sorted(outputs))})"
            )
            self.wrong("golden", f"{golden.path.name}: {expected}; found {', '.join(sorted(names))}")
            return None
        return golden


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_axis(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_AXIS


def _is_list(value: Any, kind: type) -> bool:
    """A list, not empty, of texts, whole numbers, or (kind float) any finite numbers."""
    if not isinstance(value, list) or not value:
        return False
    if kind is float:
        return all(map(_is_number, value))
    return all(isinstance(v, kind) and not isinstance(v, bool) for v in value)


def _is_plain_name(value: Any) -> bool:
    return isinstance(value, str) and value == Path(value).name and value not in ("", ".", "..")


def _spread(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Both at one length: a single number stands for one a field."""
    n = max(len(a), len(b))
    return (a * n if len(a) == 1 else a), (b * n if len(b) == 1 else b)
