"""Model files that are almost right: valid models with weights in other files, changed where a scanner and onnxruntime's parser
may not agree. Always the same ones for a seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from tests.support.models import value

WEIGHTS = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
INPUTS, OUTPUTS = [value("x", T.FLOAT, [1, 3])], [value("y", T.FLOAT, [1, 2])]
OPS = [h.make_opsetid("", 17), h.make_opsetid("f", 1)]
MEMORY = "*/_ORT_MEM_ADDR_/*"
VARINT, FIXED64, BYTES, START, END, FIXED32 = range(6)


def lay_out(root: Path) -> Path:
    """The folder for the model, with weights in and below it, and what must never be read beside it."""
    folder = root / "m"
    for file in (folder / "w.bin", folder / "sub/w.bin", folder / MEMORY / "w.bin", root / "secret.bin"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(WEIGHTS.tobytes() * 4)
    (folder / "link.bin").symlink_to(root / "secret.bin")
    return folder


def watched(root: Path) -> list[Path]:
    return [root, root / "m", root / "m/sub", root / "m" / MEMORY]


def locations(root: Path) -> list[str]:
    return [
        "w.bin", "./w.bin", "sub/w.bin", "sub/../w.bin", "../secret.bin", "sub/../../secret.bin", str(root / "secret.bin"),
        MEMORY, f"{MEMORY}/w.bin", "link.bin", "m/../../secret.bin", "", ".", "/", "w.bin\0", "none.bin", "file://w.bin",
        "*/_ORT_LE_MEM_ADDR_/*",
    ]  # fmt: skip


# Valid models


def _inside(name: str = "w") -> onnx.TensorProto:
    return nh.from_array(WEIGHTS, name)


def _outside(name: str = "w", location: str = "w.bin") -> onnx.TensorProto:
    tensor = T(name=name, data_type=T.FLOAT, dims=WEIGHTS.shape, data_location=T.EXTERNAL)
    for key, item in {"location": location, "offset": "0", "length": str(WEIGHTS.nbytes)}.items():
        tensor.external_data.add(key=key, value=item)
    return tensor


def _model(nodes: list[Any], initializers: list[Any] = [], **more: Any) -> onnx.ModelProto:  # noqa: B006
    graph = h.make_graph(nodes, "g", INPUTS, OUTPUTS, initializers, **more)
    return h.make_model(graph, opset_imports=OPS, ir_version=9)


PRODUCT = h.make_node("MatMul", ["x", "w"], ["y"])


def _constant(tensor: onnx.TensorProto, name: str = "w") -> onnx.NodeProto:
    return h.make_node("Constant", [], [name], value=tensor)


def in_initializer() -> onnx.ModelProto:
    return _model([PRODUCT], [_outside()])


def in_the_file() -> onnx.ModelProto:
    return _model([PRODUCT], [_inside()])


def in_constant() -> onnx.ModelProto:
    return _model([_constant(_outside()), PRODUCT])


def in_branch() -> onnx.ModelProto:
    def branch(tensor: onnx.TensorProto) -> onnx.GraphProto:
        product = h.make_node("MatMul", ["x", tensor.name], ["z"])
        return h.make_graph([product], "b", [], [value("z", T.FLOAT, [1, 2])], [tensor])

    choice = h.make_node("If", ["c"], ["y"], then_branch=branch(_outside("w1")), else_branch=branch(_inside("w2")))
    return _model([choice], [nh.from_array(np.array(True), "c")])


def in_function() -> onnx.ModelProto:
    body = [_constant(_outside()), h.make_node("MatMul", ["x", "w"], ["y"])]
    model = _model([h.make_node("times", ["x"], ["y"], domain="f")])
    model.functions.append(h.make_function("f", "times", ["x"], ["y"], body, OPS[:1]))
    return model


def in_sparse() -> onnx.ModelProto:
    model = _model([PRODUCT])
    values = T(name="w", data_type=T.FLOAT, dims=[6], data_location=T.EXTERNAL)
    for key, item in {"location": "w.bin", "offset": "0", "length": "24"}.items():
        values.external_data.add(key=key, value=item)
    sparse = model.graph.sparse_initializer.add(dims=WEIGHTS.shape)
    sparse.values.CopyFrom(values)
    sparse.indices.CopyFrom(nh.from_array(np.arange(6, dtype=np.int64)))
    return model


def in_training() -> onnx.ModelProto:
    model = in_initializer()
    model.training_info.add().algorithm.CopyFrom(h.make_graph([_constant(_outside("t"), "t")], "t", [], []))
    return model


def in_default() -> onnx.ModelProto:
    """As the default of a function's attribute."""
    reference = h.make_node("Constant", [], ["w"])
    reference.attribute.add(name="value", ref_attr_name="weights", type=onnx.AttributeProto.TENSOR)
    model = _model([h.make_node("times", ["x"], ["y"], domain="f")])
    function = h.make_function("f", "times", ["x"], ["y"], [reference, h.make_node("MatMul", ["x", "w"], ["y"])], OPS[:1])
    function.attribute_proto.append(h.make_attribute("weights", _outside()))
    model.functions.append(function)
    return model


VALID: tuple[Callable[[], onnx.ModelProto], ...] = (
    in_initializer, in_the_file, in_constant, in_branch, in_function, in_sparse, in_training, in_default,
)  # fmt: skip


# Their bytes as a tree


@dataclass(slots=True)
class Field:
    """One field. `content`: a number, bytes, or the fields of a message. `spelled`: bits that the tag has beyond its 32, and
    needless bytes of the numbers in front."""

    number: int
    wire: int
    content: int | bytes | list[Field]
    message: str = ""
    more_bits: int = 0
    padding: int = 0

    def encoded(self) -> bytes:
        front = _varint(self.number << 3 | self.wire | self.more_bits << 32, self.padding)
        if isinstance(self.content, int):
            return front + _varint(self.content, self.padding)
        data = self.content if isinstance(self.content, bytes) else encoded(self.content)
        if self.wire == START:
            return front + data + _varint(self.number << 3 | END)
        return front + (_varint(len(data), self.padding) if self.wire == BYTES else b"") + data


@dataclass(slots=True)
class Message:
    """A message of a tree, and where it stands."""

    name: str
    fields: list[Field] = field(default_factory=list)


def encoded(fields: list[Field]) -> bytes:
    return b"".join(f.encoded() for f in fields)


def _varint(number: int, padding: int = 0) -> bytes:
    out = []
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    if padding:
        out[-1] |= 0x80
        out += [0x80] * (padding - 1) + [0]
    return bytes(out)


def tree(message: Any) -> list[Field]:
    """The fields of a protobuf message, by its descriptor."""
    fields = []
    for descriptor, content in message.ListFields():
        is_many = not isinstance(content, (int, float, str, bytes)) and descriptor.message_type is None
        items = list(content) if is_many or hasattr(content, "extend") else [content]
        for item in items:
            if descriptor.message_type is not None:
                fields.append(Field(descriptor.number, BYTES, tree(item), descriptor.message_type.name))
            elif isinstance(item, str | bytes):
                fields.append(Field(descriptor.number, BYTES, item.encode() if isinstance(item, str) else item))
            elif isinstance(item, float):
                fields.append(Field(descriptor.number, FIXED32, np.float32(item).tobytes()))
            else:
                fields.append(Field(descriptor.number, VARINT, int(item) & (1 << 64) - 1))
    return fields


def messages(name: str, fields: list[Field]) -> Iterator[Message]:
    yield Message(name, fields)
    for one in fields:
        if isinstance(one.content, list):
            yield from messages(one.message, one.content)


# What is changed


def mutants(count: int, seed: int, root: Path) -> Iterator[bytes]:
    rng = random.Random(seed)
    names = locations(root)
    wholes = [make().SerializeToString() for make in VALID]
    for _ in range(count):
        at = rng.randrange(len(VALID))
        fields = tree(onnx.load_from_string(wholes[at]))
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
            rng.choice(CHANGES)(fields, rng, names)
        data = encoded(fields)
        if rng.random() < 0.03:
            data = _damaged(data, rng)
        yield data


def _pick(fields: list[Field], rng: random.Random) -> Message:
    """A message of the tree, most often a tensor or what says where one lies."""
    every = list(messages("ModelProto", fields))
    near = [m for m in every if m.name in ("TensorProto", "StringStringEntryProto")]
    return rng.choice(near if near and rng.random() < 0.75 else every)


def _tensor(fields: list[Field], rng: random.Random) -> Message | None:
    found = [m for m in messages("ModelProto", fields) if m.name == "TensorProto"]
    return rng.choice(found) if found else None


def relocate(fields: list[Field], rng: random.Random, names: list[str]) -> None:
    if tensor := _tensor(fields, rng):
        for one in tensor.fields:
            if one.number == 13 and isinstance(one.content, list) and any(f.content == b"location" for f in one.content):
                one.content[-1].content = rng.choice(names).encode()


def hide(fields: list[Field], rng: random.Random, names: list[str]) -> None:
    """A second place, in a spelling that not everybody reads."""
    if not (tensor := _tensor(fields, rng)):
        return
    entry = [Field(1, BYTES, b"location"), Field(2, BYTES, rng.choice(names).encode())]
    hidden = [
        Field(13, BYTES, entry, "StringStringEntryProto", more_bits=rng.choice((0, 1, 1 << 10)), padding=rng.choice((0, 0, 3)))
    ]
    hidden.append(Field(14, VARINT, rng.choice((1, 1, 0, 1 | 1 << 32, 2)), more_bits=rng.choice((0, 1))))
    rng.shuffle(hidden)
    at = rng.choice((0, len(tensor.fields)))
    tensor.fields[at:at] = hidden[: rng.choice((1, 2, 2))]


def respell_tag(fields: list[Field], rng: random.Random, names: list[str]) -> None:
    if (message := _pick(fields, rng)).fields:
        rng.choice(message.fields).more_bits = rng.choice((1, 2, 1 << 7, 1 << 28, (1 << 32) - 1))


def pad(fields: list[Field], rng: random.Random, names: list[str]) -> None:
    if (message := _pick(fields, rng)).fields:
        rng.choice(message.fields).padding = rng.choice((1, 2, 4, 8))


def renumber(fields: list[Field], rng: random.Random, names: list[str]) -> None:
    if (message := _pick(fields, rng)).fields:
        rng.choice(message.fields).number = rng.choice((1, 2, 5, 9, 13, 14, 15, 22, 99, 536870911, 0))


def rewire(fields: list[Field], rng: random.Random, names: list[str]) -> None:
    if (message := _pick(fields, rng)).fields:
        one = rng.choice(message.fields)
        one.wire, one.content = rng.choice(((BYTES, b""), (VARINT, 1), (FIXED32, bytes(4)), (FIXED64, bytes(8)), (START, [])))


def drop(fields: list[Field], rng: random.Random, names: list[str]) -> None:
    if (message := _pick(fields, rng)).fields:
        del message.fields[rng.randrange(len(message.fields))]


def double(fields: list[Field], rng: random.Random, names: list[str]) -> None:
    if (message := _pick(fields, rng)).fields:
        message.fields.insert(rng.randrange(len(message.fields) + 1), rng.choice(message.fields))


def split(fields: list[Field], rng: random.Random, names: list[str]) -> None:
    """One message as two that a parser merges."""
    message = _pick(fields, rng)
    whole = [i for i, f in enumerate(message.fields) if isinstance(f.content, list) and len(f.content) > 1]
    if whole:
        i = rng.choice(whole)
        one = message.fields[i]
        assert isinstance(one.content, list)
        cut = rng.randrange(1, len(one.content))
        message.fields[i : i + 1] = [
            Field(one.number, BYTES, part, one.message) for part in (one.content[:cut], one.content[cut:])
        ]


def shuffle(fields: list[Field], rng: random.Random, names: list[str]) -> None:
    rng.shuffle(_pick(fields, rng).fields)


def insert_unknown(fields: list[Field], rng: random.Random, names: list[str]) -> None:
    message = _pick(fields, rng)
    content = rng.choice((b"", b"\x6a\x00", b"location", _varint(13 << 3 | 2) + b"\x02\x0a\x00"))
    wire = rng.choice((BYTES, BYTES, VARINT, START))
    values: dict[int, int | bytes | list[Field]] = {BYTES: content, VARINT: 7, START: [Field(13, BYTES, content)]}
    message.fields.insert(0, Field(rng.choice((30, 99, 1 << 20)), wire, values[wire]))


def number_otherwise(fields: list[Field], rng: random.Random, names: list[str]) -> None:
    message = _pick(fields, rng)
    numbers = [f for f in message.fields if isinstance(f.content, int)]
    if numbers:
        rng.choice(numbers).content = rng.choice((0, 1, 2, 3, 7, 1 << 31, 1 | 1 << 32, (1 << 64) - 1, 1 << 63))


def rekey(fields: list[Field], rng: random.Random, names: list[str]) -> None:
    found = [m for m in messages("ModelProto", fields) if m.name == "StringStringEntryProto" and m.fields]
    if found:
        keys = (b"location", b"offset", b"length", b"Location", b"location\0", b"checksum", b"prepacked", b"")
        values = (b"0", b"24", b"48", b"96", b"97", b"-1", b"+24", b" 24", b"0x18", b"18446744073709551615", b"", b"w.bin")
        one = rng.choice(rng.choice(found).fields)
        one.content = rng.choice(keys if one.number == 1 else values)


def _damaged(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out[: rng.randrange(1, len(out))] if rng.random() < 0.3 else out)


CHANGES = (
    relocate, relocate, relocate, hide, hide, hide, respell_tag, respell_tag, pad, renumber, rewire, drop, double, split, split,
    shuffle, insert_unknown, number_otherwise, rekey, rekey,
)  # fmt: skip
