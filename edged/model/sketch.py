"""What the nodes of a graph say about the numbers that go in and come out, without running it.

Names of classes stand in classifiers of the ONNX-ML operators; how pixels are scaled stands in the first operations; whether the
rows of a batch change each other's answers stands in the kind of quantisation. Only small constants and the nodes of a few
operators are kept, so that a hostile file costs no more than a good one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edged.model.protobuf import BYTES, FIXED32, VARINT, Wire

MAX_NODES = 512
"""Nodes of the operators below that are kept, the first."""
MAX_CONSTANTS = 4096
MAX_NUMBERS = 64
"""Numbers of a constant that is kept: one for each colour, or one for all."""
MAX_CLASSES = 65536
PASSING = frozenset(
    {"Cast", "Transpose", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Resize", "Pad", "Clip", "Split", "Concat"}
)
"""Operators that leave the scale of their first input as it is."""
SCALING = frozenset({"Mul", "Div", "Add", "Sub", "BatchNormalization", "QuantizeLinear"})
SELECTING = frozenset({"ArrayFeatureExtractor", "Gather"})
RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"}
)
"""Operators that draw lots: Dropout, where it is in training mode."""
CHOOSING = {"ArgMax": True, "TopK": True, "ArgMin": False}
"""Operators that pick a class by its score, and whether the largest is it."""
DYNAMIC = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
"""Operators that measure the range of all that goes in together."""
MAX_WORDS = 64
"""Words of a vocabulary that are kept, the first."""
VOCABULARIES = ("cats_strings", "keys_strings", "keys_tensor", "vocabulary", "pool_strings")
LABELS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
WHOLE = 255.0
"""The largest colour of a model that takes pixels as they are."""

Array = NDArray[Any]
Classes = tuple[str, ...] | tuple[int, ...]


class Node(msgspec.Struct, frozen=True):
    """One node of the main graph; `classes` are the names that it has for what it tells apart."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    classes: Classes = ()
    value: Array | None = None
    is_training: bool = False
    words: tuple[str, ...] = ()


class Sketch(msgspec.Struct):
    """`ops` are all operators, those of subgraphs and functions among them. `constants` are the small ones by name: numbers, or
    texts as an array of objects. `trained`: operators that work as they do while a model is trained."""

    nodes: list[Node] = msgspec.field(default_factory=list)
    constants: dict[str, Array] = msgspec.field(default_factory=dict)
    ops: set[str] = msgspec.field(default_factory=set)
    trained: set[str] = msgspec.field(default_factory=set)
    vocabularies: list[tuple[str, ...]] = msgspec.field(default_factory=list)
    """The first texts that each operator knows which takes texts, in the order of the file."""

    def keep(self, node: Node) -> None:
        """Notes a node of the main graph, in the order of the file."""
        if node.is_training and node.op == "BatchNormalization":
            self.trained.add(node.op)
        if node.words and len(self.vocabularies) < MAX_NODES:
            self.vocabularies.append(node.words)
        if node.op == "Constant":
            if node.value is not None and node.outputs and len(self.constants) < MAX_CONSTANTS:
                self.constants[node.outputs[0]] = node.value
        elif len(self.nodes) < MAX_NODES and (node.op in PASSING | SCALING | SELECTING or node.op in CHOOSING or node.classes):
            self.nodes.append(node)

    def keep_constant(self, name: str, value: Array) -> None:
        if len(self.constants) < MAX_CONSTANTS:
            self.constants[name] = value

    @property
    def quantises_by_batch(self) -> bool:
        """Whether a row is rounded otherwise when others are in its batch."""
        return bool(self.ops & DYNAMIC)

    @property
    def draws(self) -> list[str]:
        """Operators that may draw lots."""
        return sorted(self.ops & RANDOM)

    def is_of_largest(self, output: str) -> bool | None:
        """Whether an output that names a class is the one whose score is the largest; None where the graph does not show it."""
        made = {name: node for node in self.nodes for name in node.outputs}
        name = output
        while (node := made.pop(name, None)) is not None:
            if node.op in CHOOSING:
                return CHOOSING[node.op]
            if node.op not in PASSING or not node.inputs:
                return None
            name = node.inputs[0]
        return None

    def class_names(self, outputs: Sequence[str]) -> Classes:
        """What a classifier in the graph calls its classes, by index; empty where it has none, or where several disagree.
        `outputs` are those of the graph."""
        found: dict[Classes, None] = {}
        for node in self.nodes:
            if node.op == "ZipMap" and node.classes:
                return node.classes  # it names the columns of what comes out
            if node.classes:
                found[node.classes] = None
        if not found:
            found = dict.fromkeys(self._selected(outputs))
        return next(iter(found)) if len(found) == 1 else ()

    def _selected(self, outputs: Sequence[str]) -> list[Classes]:
        """Constants of which an output is picked by index, as scikit-learn's `classes[argmax]`."""
        made = {name: node for node in self.nodes for name in node.outputs}
        found = []
        for name in outputs:
            while (node := made.get(name)) is not None:
                if node.op in SELECTING and node.inputs and (value := self.constants.get(node.inputs[0])) is not None:
                    found.append(_names(value))
                    break
                made.pop(name)  # no circle
                name = node.inputs[0] if node.op in PASSING and node.inputs else ""
        return [names for names in found if names]

    def largest_colour(self, given: str) -> float | None:
        """What a full colour must be in the input `given`: 255 where the graph itself divides, 1 where it goes on with numbers of
        0 to 1; None where its first operations do not tell."""
        names = {given}
        for node in self.nodes:
            taken = [i for i in node.inputs if i in names]
            if not taken:
                continue
            if node.op in PASSING:
                names |= set(node.outputs)
            elif node.op in SCALING:
                found = self._scale(node, node.inputs.index(taken[0]))
                if found is not None or node.op not in ("Add", "Sub"):
                    return found
                names |= set(node.outputs)  # 0 was added
        return None

    def _scale(self, node: Node, at: int) -> float | None:
        places = {"BatchNormalization": 3, "QuantizeLinear": 1}
        other = places.get(node.op, 1 - at)
        value = self.constants.get(node.inputs[other]) if 0 <= other < len(node.inputs) else None
        if value is None or value.dtype.kind not in "fiu" or not value.size or (node.op in ("Div", "Sub") and at):
            return None
        most = float(np.max(np.abs(value.astype(np.float64))))
        match node.op:
            case "Div":
                return WHOLE if most > 32 else 1.0
            case "Mul":
                return WHOLE if 0 < most < 1 / 32 else 1.0
            case "QuantizeLinear":
                return _quantised(most)
        return None if most == 0 else WHOLE if most > 4 else 1.0


def _quantised(scale: float) -> float | None:
    """A step of the grid of 256: 1/255 of what a full colour is, if that is what the grid was made for."""
    for largest in (1.0, WHOLE):
        if 0.9 < scale * WHOLE / largest < 1.1:
            return largest
    return None


def _names(value: Array) -> Classes:
    if value.dtype == object:
        return tuple(str(v) for v in value.ravel())
    return tuple(int(v) for v in value.ravel()) if value.dtype.kind in "iu" else ()


def read_node(wire: Wire, start: int, end: int) -> Node:
    op, inputs, outputs = "", list[str](), list[str]()
    classes: Classes = ()
    value: Array | None = None
    is_training = False
    words: tuple[str, ...] = ()
    for number, kind, a, b in wire.fields(start, end):
        match number, kind:
            case 1, 2:
                inputs.append(wire.text(a, b))
            case 2, 2:
                outputs.append(wire.text(a, b))
            case 4, 2:
                op = wire.text(a, b)
            case 5, 2:
                name, found, constant, flag, found_words = _attribute(wire, a, b)
                is_training = is_training or (name == "training_mode" and flag != 0)
                classes = found if name in LABELS and found else classes
                value = constant if name.startswith("value") else value
                words = found_words or words
    return Node(op, tuple(inputs), tuple(outputs), classes, value, is_training, words)


def _attribute(wire: Wire, start: int, end: int) -> tuple[str, Classes, Array | None, int, tuple[str, ...]]:
    name, texts, numbers, value, flag = "", list[str](), list[int](), None, 0
    words = list[str]()
    for number, kind, a, b in wire.fields(start, end):
        match number, kind:
            case 1, 2:
                name = wire.text(a, b)
            case 3, 0:
                flag = a
            case 2, 5:
                value = np.frombuffer(wire.read(a, b), "<f4")
            case 7, _ if kind in (BYTES, FIXED32) and b - a <= 4 * MAX_NUMBERS:
                value = np.frombuffer(wire.read(a, b), "<f4")
            case 5, 2:
                value = read_constant(wire, a, b)[1]
            case 8, _ if name in LABELS and len(numbers) < MAX_CLASSES:
                numbers += _varints(wire, kind, a, b)
            case 9, 2 if name in LABELS and len(texts) < MAX_CLASSES:
                texts.append(wire.text(a, b))
            case 9, 2 if name in VOCABULARIES and len(words) < MAX_WORDS:
                words.append(wire.text(a, b))
    if name in VOCABULARIES and value is not None and value.dtype == object:
        words = [str(v) for v in value.ravel()[:MAX_WORDS]]
    return name, tuple(texts) or tuple(numbers), value, flag, tuple(words)


FLAT = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}
"""TensorProto.DataType -> how its raw bytes are read."""


def read_constant(wire: Wire, start: int, end: int) -> tuple[str, Array | None]:
    """Name and value of a small TensorProto; None for one that is large, lies elsewhere or has another type."""
    name, kind, count = "", 0, 1
    texts, numbers = list[str](), list[float]()
    raw = b""
    for number, form, a, b in wire.fields(start, end):
        match number, form:
            case 1, _:
                for n in _varints(wire, form, a, b):
                    count *= n
            case 2, 0:
                kind = a
            case 8, 2:
                name = wire.text(a, b)
            case 6, 2 if len(texts) < MAX_CLASSES:
                texts.append(wire.text(a, b))
            case ((5 | 7), _) if (b - a if form == BYTES else 1) <= 10 * MAX_CLASSES and len(numbers) < MAX_CLASSES:
                numbers += _varints(wire, form, a, b)
            case 4, _ if form in (BYTES, FIXED32) and b - a <= 4 * MAX_NUMBERS and len(numbers) < MAX_NUMBERS:
                numbers += np.frombuffer(wire.read(a, b), "<f4").tolist()
            case 10, 2 if b - a <= 8 * MAX_NUMBERS:
                numbers += np.frombuffer(wire.read(a, b), "<f8").tolist()
            case 9, 2 if b - a <= 8 * MAX_CLASSES and kind in FLAT:
                raw = wire.read(a, b)
    if texts:
        return name, np.array(texts, object)
    if raw and kind in FLAT and len(raw) == count * np.dtype(FLAT[kind]).itemsize:
        whole = np.frombuffer(raw, FLAT[kind])
        return name, whole if whole.dtype.kind in "iu" or whole.size <= MAX_NUMBERS else None
    return name, np.array(numbers) if numbers and kind != 10 else None


def _varints(wire: Wire, form: int, a: int, b: int) -> list[int]:
    """Whole numbers, one by one or packed; negative ones as they are meant."""
    if form == VARINT:
        return [a - (1 << 64) if a >> 63 else a]
    found, at = list[int](), a
    while form == BYTES and at < b and len(found) < MAX_CLASSES:
        value, at = wire.varint(at, b)
        found.append(value - (1 << 64) if value >> 63 else value)
    return found
