"""What an ONNX file says about itself, read from its protobuf bytes without onnx or onnxruntime.

Only names, types, shapes and sizes are read: weights are skipped by seeking, so that a model of 500 MB costs a few
reads. The file is never mapped (truncating a mapped file kills the process). Nothing in the file is trusted: every length is
checked against its surroundings, nesting is bounded, and `ValueError` says what is wrong.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec

from edged.model.foreign import HEAD, foreign
from edged.model.protobuf import Wire
from edged.model.sketch import Sketch, read_constant, read_node
from edged.system.plain_file import opened_plain

MAX_DEPTH = 24  # subgraphs within subgraphs; real models need four
MAX_MESSAGES = 1_000_000
MAX_CALL_DEPTH = 500  # onnxruntime inlines local functions by recursion and dies of a few thousand
MAX_OPS = 4096  # different operators that are remembered
MAX_FILE = (2 << 30) - 1  # protobuf's own limit
MAX_WEIGHTS = 16 << 30  # one file beside it: a file with holes could seem to have any size
NAME = re.compile(r"[\w .,:+=@()\[\]#%&~-]+")  # a part of the name of such a file
OUTSIDE = 1  # TensorProto.DataLocation.EXTERNAL
OVERRIDABLE = 4  # IR version from which an input with an initializer is a default; before it, all weights were listed as inputs
COMPILED = "EPContext"  # an operator that holds what a compiler made, or the path of a file with it

NUMPY_TYPES = {  # TensorProto.DataType -> numpy's name, for the types that numpy has
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128",
}  # fmt: skip
OTHER_TYPES = {
    16: "bfloat16", 17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz",
    21: "uint4", 22: "int4", 23: "float4e2m1",
}  # fmt: skip
BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 8: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128,
    16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4,
}  # fmt: skip

Shape = tuple[int | str | None, ...]


class TensorInfo(msgspec.Struct, frozen=True):
    """One input or output. `dtype` is numpy's name, "string", or None for what numpy cannot hold (`element` names it).

    `shape` has an int for a fixed axis, a name for a symbolic one, None for an unknown one; it is None itself when even the
    number of axes is unknown. `kind` is "tensor", or says what else it is ("sequence of maps"); then `dtype` is None.

    `row_axis` counts rows in the file, where that is not the first axis; `shape` has it first nevertheless.
    """

    name: str
    dtype: str | None
    shape: Shape | None
    kind: str = "tensor"
    element: str = ""
    row_axis: int = 0

    @property
    def filed(self) -> Shape | None:
        """The shape as it stands in the file."""
        if self.shape is None or not self.row_axis:
            return self.shape
        first, rest = self.shape[0], self.shape[1:]
        return (*rest[: self.row_axis], first, *rest[self.row_axis :])

    def __str__(self) -> str:
        if self.kind != "tensor":
            return self.kind
        axes = "..." if self.filed is None else ",".join("?" if a is None else str(a) for a in self.filed)
        return f"{self.dtype or self.element or 'unknown'}[{axes}]"


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """`initializer_bytes` is what the weights need in memory, Constant nodes and external files included.

    `external` has the files of weights by the names that the model has for them. They lie in its own folder: others are refused
    by `read_onnx`. `defaults` are the inputs that have a value of their own, which may be overridden. `sketch`: what its
    nodes say.
    """

    ir_version: int
    opsets: dict[str, int]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    initializer_bytes: int
    external: Mapping[str, Path]
    metadata: dict[str, str]
    defaults: tuple[TensorInfo, ...] = ()
    sketch: Sketch = field(default_factory=Sketch, compare=False)

    @property
    def classes(self) -> tuple[str, ...] | tuple[int, ...]:
        """What the graph calls its classes, by index; empty where it does not."""
        return self.sketch.class_names([o.name for o in self.outputs])

    @property
    def external_files(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(self.external.values()))


def read_onnx(path: Path) -> OnnxFile:
    """Raises `OSError` if the file cannot be read, `ValueError` if it is not an ONNX model or names files outside its folder."""
    with opened_plain(path, MAX_WEIGHTS) as (fd, status):
        size = status.st_size
        if size > MAX_FILE:
            raise ValueError(f"{size >> 20} MiB; an ONNX file has at most 2048 MiB, larger weights lie in files beside it")
        if size == 0:
            raise ValueError("the file is empty; copy or download it again")
        if words := foreign(os.pread(fd, HEAD, 0)):
            raise ValueError(words)
        scan = _Scan(Wire(fd, size))
        try:
            scan.model(0, size)
        except ValueError as e:
            raise ValueError(f"not an ONNX model, or a damaged one: {e}") from None
    if scan.graphs == 0:
        raise ValueError(f"not an ONNX model: {size} bytes without a graph")
    if scan.is_compiled:
        raise ValueError(f"it holds what an accelerator's compiler made (the operator {COMPILED}); export the model itself")
    if (calls := _call_depth(scan.functions)) > MAX_CALL_DEPTH:
        raise ValueError(
            f"local functions call each other {calls} deep; onnxruntime dies of that, so {MAX_CALL_DEPTH} is the most"
        )
    return OnnxFile(
        ir_version=scan.ir_version,
        opsets=scan.opsets,
        inputs=tuple(i for i in scan.inputs if i.name not in scan.initializers),
        outputs=tuple(scan.outputs),
        initializer_bytes=scan.weight_bits // 8,
        external={name: _inside(path, name) for name in sorted(scan.external)},
        metadata=scan.metadata,
        defaults=tuple(i for i in scan.inputs if i.name in scan.initializers and scan.ir_version >= OVERRIDABLE),
        sketch=scan.sketch,
    )


def _inside(model: Path, location: str) -> Path:
    """The external data file, if it is a plain file within the model's own folder and nowhere else."""
    relative = PurePosixPath(location)
    said = f"its weights lie in {location!r}"
    if not relative.parts or "\0" in location or relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"{said}; only files within the model's own folder are read")
    if not all(NAME.fullmatch(part) for part in relative.parts):  # onnxruntime has names that are no files: */_ORT_MEM_ADDR_/*
        raise ValueError(f"{said}; only letters, digits, spaces and _ . , : + = @ - ( ) [ ] # % & ~ are taken in its name")
    path = model.parent
    try:
        for part in relative.parts:
            path = path / part
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                raise ValueError(f"{said}, which is a symbolic link; put the file itself there")
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{said}, which is not there; copy that file beside {model.name}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{said}, which is not a plain file; put the file itself there")
    if status.st_size > MAX_WEIGHTS:
        raise ValueError(f"{said}, which has {status.st_size >> 20} MiB; {MAX_WEIGHTS >> 20} is the most")
    if status.st_nlink > 1:
        raise ValueError(f"{said}, which is a hard link to a file elsewhere; put a copy of the file there")
    return path


def _call_depth(functions: dict[str, set[str]]) -> int:
    """The longest chain of local functions, without recursion; a cycle counts as endless."""
    depth: dict[str, int] = {}
    for root in functions:
        stack = [(root, False)]
        open_names: set[str] = set()
        while stack:
            name, is_done = stack.pop()
            calls = functions[name] & functions.keys()
            if is_done:
                open_names.discard(name)
                depth[name] = 1 + max((depth[c] for c in calls), default=0)
            elif name not in depth:
                if name in open_names:
                    return MAX_CALL_DEPTH * 1000
                open_names.add(name)
                stack.append((name, True))
                if calls & open_names:
                    return MAX_CALL_DEPTH * 1000
                stack.extend((c, False) for c in calls if c not in depth)
    return max(depth.values(), default=0)


class _Scan(msgspec.Struct):
    """Walks ModelProto and collects; numbers are the field numbers of onnx.proto."""

    wire: Wire
    ir_version: int = 0
    opsets: dict[str, int] = msgspec.field(default_factory=dict)
    inputs: list[TensorInfo] = msgspec.field(default_factory=list)
    outputs: list[TensorInfo] = msgspec.field(default_factory=list)
    initializers: set[str] = msgspec.field(default_factory=set)
    weight_bits: int = 0
    external: set[str] = msgspec.field(default_factory=set)
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    functions: dict[str, set[str]] = msgspec.field(default_factory=dict)
    graphs: int = 0
    messages: int = 0
    is_compiled: bool = False
    sketch: Sketch = msgspec.field(default_factory=Sketch)

    def model(self, start: int, end: int) -> None:
        for number, wire, a, b in self.wire.fields(start, end):
            match number, wire:
                case 1, 0:
                    self.ir_version = a
                case 7, 2:
                    self.graph(a, b, 0)
                case 8, 2:
                    domain, version = self._opset(a, b)
                    self.opsets[domain] = version
                case 14, 2:
                    key, value = self._entry(a, b)
                    self.metadata[key] = value
                case 20, 2:
                    self._training(a, b)
                case 25, 2:
                    self.function(a, b)

    def _training(self, start: int, end: int) -> None:
        for number, wire, a, b in self.wire.fields(start, end):
            if number in (1, 2) and wire == 2:
                self.graph(a, b, 1)

    def graph(self, start: int, end: int, depth: int) -> None:
        self._count(depth)
        self.graphs += 1
        is_main = depth == 0
        for number, wire, a, b in self.wire.fields(start, end):
            match number, wire:
                case 1, 2:
                    self.node(a, b, depth, None)
                    if is_main:
                        self.sketch.keep(read_node(self.wire, a, b))
                case 5, 2:
                    name = self.tensor(a, b)
                    if is_main:
                        self.initializers.add(name)
                        self._constant(a, b)
                case 15, 2:
                    self._sparse(a, b)
                case 11, 2 if is_main:
                    self.inputs.append(self._value(a, b))
                case 12, 2 if is_main:
                    self.outputs.append(self._value(a, b))

    def function(self, start: int, end: int) -> None:
        name = domain = ""
        calls: set[str] = set()
        for number, wire, a, b in self.wire.fields(start, end):
            match number, wire:
                case 1, 2:
                    name = self.wire.text(a, b)
                case 10, 2:
                    domain = self.wire.text(a, b)
                case 7, 2:
                    self.node(a, b, 1, calls)
                case 11, 2:
                    self._attribute(a, b, 1)
        self.functions[f"{domain}:{name}"] = calls

    def node(self, start: int, end: int, depth: int, calls: set[str] | None) -> None:
        self._count(depth)
        op = domain = ""
        for number, wire, a, b in self.wire.fields(start, end):
            match number, wire:
                case 5, 2:
                    self._attribute(a, b, depth)
                case 4, 2:
                    op = self.wire.text(a, b)
                case 7, 2 if calls is not None:
                    domain = self.wire.text(a, b)
        self.is_compiled = self.is_compiled or op == COMPILED
        if len(self.sketch.ops) < MAX_OPS:
            self.sketch.ops.add(op)
        if calls is not None:
            calls.add(f"{domain}:{op}")

    def _attribute(self, start: int, end: int, depth: int) -> None:
        for number, wire, a, b in self.wire.fields(start, end):
            match number, wire:
                case ((5 | 10), 2):
                    self.tensor(a, b)
                case ((6 | 11), 2):
                    self.graph(a, b, depth + 1)
                case ((22 | 23), 2):
                    self._sparse(a, b)

    def _constant(self, start: int, end: int) -> None:
        name, value = read_constant(self.wire, start, end)
        if value is not None:
            self.sketch.keep_constant(name, value)

    def tensor(self, start: int, end: int) -> str:
        """Counts a TensorProto and notes where its data lies; returns its name."""
        self._count(0)
        name, kind, count, where = "", 0, 1, 0
        external: dict[str, str] = {}
        for number, wire, a, b in self.wire.fields(start, end):
            match number, wire:
                case 1, 0:
                    count *= a
                case 1, 2:
                    count *= self._product(a, b)
                case 2, 0:
                    kind = a
                case 8, 2:
                    name = self.wire.text(a, b)
                case 13, 2:
                    key, value = self._entry(a, b)
                    external[key] = value
                case 14, 0:
                    where = a
        if count >= 1 << 48:
            raise ValueError(f"weights {name!r} claim {count} elements")
        self.weight_bits += count * BITS.get(kind, 32)
        if where == OUTSIDE:
            self.external.add(external.get("location", ""))
        return name

    def _product(self, start: int, end: int) -> int:
        if end - start > 640:
            raise ValueError(f"a tensor with {end - start} bytes of dimensions")
        product, at = 1, start
        while at < end:
            value, at = self.wire.varint(at, end)
            product *= value
        return product

    def _sparse(self, start: int, end: int) -> None:
        for number, wire, a, b in self.wire.fields(start, end):
            if number in (1, 2) and wire == 2:
                self.tensor(a, b)

    def _value(self, start: int, end: int) -> TensorInfo:
        name, info = "", TensorInfo("", None, None)
        for number, wire, a, b in self.wire.fields(start, end):
            match number, wire:
                case 1, 2:
                    name = self.wire.text(a, b)
                case 2, 2:
                    info = self._type(a, b, 0)
        return TensorInfo(name, info.dtype, info.shape, info.kind, info.element)

    def _type(self, start: int, end: int, depth: int) -> TensorInfo:
        self._count(depth)
        info = TensorInfo("", None, None)
        for number, wire, a, b in self.wire.fields(start, end):
            match number, wire:
                case 1, 2:
                    info = self._tensor_type(a, b)
                case 4, 2:
                    info = TensorInfo("", None, None, f"sequence of {self._inner(a, b, depth)}s")
                case 5, 2:
                    info = TensorInfo("", None, None, "map")
                case 8, 2:
                    info = TensorInfo("", None, None, "sparse tensor")
                case 9, 2:
                    info = TensorInfo("", None, None, f"optional {self._inner(a, b, depth)}")
        return info

    def _inner(self, start: int, end: int, depth: int) -> str:
        for number, wire, a, b in self.wire.fields(start, end):
            if number == 1 and wire == 2:
                return self._type(a, b, depth + 1).kind
        return "value"

    def _tensor_type(self, start: int, end: int) -> TensorInfo:
        kind, shape = 0, None
        for number, wire, a, b in self.wire.fields(start, end):
            match number, wire:
                case 1, 0:
                    kind = a
                case 2, 2:
                    shape = tuple(self._axis(c, d) for n, w, c, d in self.wire.fields(a, b) if n == 1 and w == 2)
        return TensorInfo("", NUMPY_TYPES.get(kind), shape, "tensor", OTHER_TYPES.get(kind, ""))

    def _axis(self, start: int, end: int) -> int | str | None:
        axis: int | str | None = None
        for number, wire, a, b in self.wire.fields(start, end):
            match number, wire:
                case 1, 0:
                    axis = a if a < 1 << 63 else None  # some exporters write -1 for an open axis
                case 2, 2:
                    axis = self.wire.text(a, b) or None
        return axis

    def _opset(self, start: int, end: int) -> tuple[str, int]:
        domain, version = "", 0
        for number, wire, a, b in self.wire.fields(start, end):
            match number, wire:
                case 1, 2:
                    domain = self.wire.text(a, b)
                case 2, 0:
                    version = a
        return domain, version

    def _entry(self, start: int, end: int) -> tuple[str, str]:
        """StringStringEntryProto."""
        key = value = ""
        for number, wire, a, b in self.wire.fields(start, end):
            match number, wire:
                case 1, 2:
                    key = self.wire.text(a, b)
                case 2, 2:
                    value = self.wire.text(a, b)
        return key, value

    def _count(self, depth: int) -> None:
        self.messages += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"graphs nested more than {MAX_DEPTH} deep")
        if self.messages > MAX_MESSAGES:
            raise ValueError(f"more than {MAX_MESSAGES} parts")
