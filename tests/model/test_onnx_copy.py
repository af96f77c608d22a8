from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import onnx
import pytest
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import TensorProto as T

from edged.model.onnx_copy import MAX_STRUCTURE, Weights, written
from edged.model.onnx_file import read_onnx
from edged.model.protobuf import tag, varint
from tests import mutants
from tests.loads import CRASHED, Loader
from tests.support import models
from tests.support.scale import scale

SEED, PART = 20261129, 1000


def copied(path: Path, weights: Mapping[str, Path] | None = None) -> bytes:
    """As the store does it."""
    external = read_onnx(path).external if weights is None else weights
    files = {n: Weights(str(PurePosixPath(n)), p.stat().st_size) for n, p in external.items()}
    with path.open("rb") as file:
        return b"".join(written(file.fileno(), path.stat().st_size, files))


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        copied(path)
    return str(caught.value)


def outside(data: bytes) -> Iterator[tuple[str, str]]:
    """Key and value of all that says where tensors lie, by another parser, wherever they stand in the model."""
    stack = [onnx.load_from_string(data)]
    while stack:
        message = stack.pop()
        assert not len(UnknownFieldSet(message))
        if isinstance(message, T) and message.data_location == T.EXTERNAL:
            yield from ((e.key, e.value) for e in message.external_data)
        for descriptor, content in message.ListFields():
            if descriptor.message_type is not None:
                stack += list(content) if hasattr(content, "extend") else [content]


@pytest.mark.parametrize("make", mutants.VALID, ids=lambda m: m.__name__)
def test_what_an_exporter_wrote_comes_out_as_it_was(tmp_path: Path, make: object) -> None:
    path = mutants.lay_out(tmp_path) / "model.onnx"
    path.write_bytes(make().SerializeToString())  # type: ignore[operator]
    assert copied(path) == path.read_bytes()


def test_every_kind_of_model_comes_out_as_it_was(tmp_path: Path) -> None:
    for path in (
        models.linear(tmp_path / "a.onnx", metadata={"names": "{0: 'a', 1: 'b'}"}), models.zip_map(tmp_path / "b.onnx"),
        models.lstm(tmp_path / "c.onnx"), models.cells(tmp_path / "d.onnx"), models.two_by_two(tmp_path / "e.onnx"),
        models.slow(tmp_path / "f.onnx"),
    ):  # fmt: skip
        assert copied(path) == path.read_bytes()


def test_fields_that_nobody_knows_are_dropped(tmp_path: Path) -> None:
    path = models.linear(tmp_path / "m.onnx")
    whole = path.read_bytes()
    path.write_bytes(whole + tag(99, 2) + varint(3) + b"abc" + tag(1, 2) + varint(2) + b"no" + tag(500, 0) + varint(7))
    assert copied(path) == whole


def test_numbers_come_out_in_their_shortest_form(tmp_path: Path) -> None:
    path = models.linear(tmp_path / "m.onnx")
    whole = path.read_bytes()
    assert whole[:2] == b"\x08\x09"  # the version of the IR
    path.write_bytes(b"\x88\x00\x89\x80\x00" + whole[2:])
    assert copied(path) == whole


def test_values_that_an_enumeration_does_not_have_are_dropped(tmp_path: Path) -> None:
    path = models.two_by_two(tmp_path / "m.onnx")
    fields = mutants.tree(onnx.load(str(path)))
    attributes = [m for m in mutants.messages("ModelProto", fields) if m.name == "AttributeProto"]
    assert attributes
    for one in attributes:
        one.fields.append(mutants.Field(20, 0, 99))
    whole = path.read_bytes()
    path.write_bytes(mutants.encoded(fields))
    assert copied(path) == whole


@pytest.mark.parametrize("more_bits", [1, 1 << 20, (1 << 32) - 1])
def test_a_tag_of_more_than_32_bits_is_refused(tmp_path: Path, more_bits: int) -> None:
    """onnxruntime 1.23 keeps the lower 32: what stands there is the place of the weights to it, and nothing to others."""
    path = mutants.lay_out(tmp_path) / "model.onnx"
    fields = mutants.tree(mutants.in_the_file())
    tensor = next(m for m in mutants.messages("ModelProto", fields) if m.name == "TensorProto")
    entry = [mutants.Field(1, 2, b"location"), mutants.Field(2, 2, b"../secret.bin")]
    tensor.fields += [mutants.Field(13, 2, entry, more_bits=more_bits), mutants.Field(14, 0, 1, more_bits=more_bits)]
    path.write_bytes(mutants.encoded(fields))
    assert "its tag has more than 32 bits" in refused(path)


@pytest.mark.parametrize("location", [mutants.MEMORY, f"{mutants.MEMORY}/w.bin", "*/_ORT_LE_MEM_ADDR_/*", "a\\b", "w?.bin"])
def test_names_that_are_no_names_of_files_are_refused(tmp_path: Path, location: str) -> None:
    """Even where there is such a file."""
    path = mutants.lay_out(tmp_path) / "model.onnx"
    model = mutants.in_initializer()
    model.graph.initializer[0].external_data[0].value = location
    (path.parent / location).parent.mkdir(parents=True, exist_ok=True)
    if not (path.parent / location).exists():
        (path.parent / location).write_bytes(bytes(24))
    path.write_bytes(model.SerializeToString())
    assert "only letters, digits, spaces and" in refused(path)


def test_weights_lie_where_the_copy_says_and_say_nothing_else(tmp_path: Path) -> None:
    path = mutants.lay_out(tmp_path) / "model.onnx"
    model = mutants.in_initializer()
    tensor = model.graph.initializer[0]
    tensor.raw_data = bytes(24)
    for key, item in {"location": "./sub/w.bin", "offset": "0024", "prepacked_0": "x", "basepath": "/etc"}.items():
        tensor.external_data.add(key=key, value=item)
    path.write_bytes(model.SerializeToString())
    found = onnx.load_from_string(copied(path)).graph.initializer[0]
    assert {e.key: e.value for e in found.external_data} == {"location": "sub/w.bin", "offset": "24", "length": "24"}
    assert len(found.external_data) == 3
    assert not found.raw_data


def test_weights_beyond_the_end_of_their_file_are_refused(tmp_path: Path) -> None:
    path = mutants.lay_out(tmp_path) / "model.onnx"
    model = mutants.in_initializer()
    model.graph.initializer[0].external_data[1].value = "73"
    path.write_bytes(model.SerializeToString())
    assert refused(path) == "its weights reach to byte 97 of 'w.bin', which has 96"
    model.graph.initializer[0].external_data[1].value = "-1"
    path.write_bytes(model.SerializeToString())
    assert refused(path) == "offset of weights in 'w.bin' is not a number"


def test_what_a_compiler_made_is_refused(tmp_path: Path) -> None:
    path = models.linear(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    model.graph.node[0].op_type = "EPContext"
    path.write_bytes(model.SerializeToString())
    assert refused(path).startswith("it holds what an accelerator's compiler made (the operator EPContext)")


def test_structure_is_bounded_and_weights_are_not_held(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    size = 600 << 20
    tensor = tag(8, 2) + b"\1v" + tag(2, 0) + b"\1" + tag(1, 0) + varint(size // 4) + tag(9, 2) + varint(size)
    graph = tag(5, 2) + varint(len(tensor) + size) + tensor
    with path.open("wb") as file:
        file.write(tag(8, 2) + b"\x04\x0a\x00\x10\x11" + tag(7, 2) + varint(len(graph) + size) + graph)
        os.truncate(path, file.tell() + size)
    with path.open("rb") as file:
        blocks = list(map(len, written(file.fileno(), path.stat().st_size, {})))
    assert sum(blocks) == path.stat().st_size
    assert max(blocks) == 1 << 20
    name = tag(10, 2) + varint(1000) + bytes(1000)
    graph = name * (MAX_STRUCTURE // 1000 + 1)
    path.write_bytes(tag(7, 2) + varint(len(graph)) + graph)
    assert "more than 64 MiB of names" in refused(path)


@pytest.mark.parametrize("part", range(scale("model files") // PART))
def test_what_onnxruntime_would_open_is_refused_or_copied(tmp_path: Path, part: int) -> None:
    """Whatever the files say: the original makes onnxruntime open only what the scanner found in it, or was refused; the copy
    only what lies with it; and a copy gives what its original gives."""
    inside, beside = mutants.lay_out(tmp_path / "a"), mutants.lay_out(tmp_path / "b")
    path, copy = inside / "model.onnx", beside / "model.onnx"
    allowed = {"w.bin", "./w.bin", "sub/w.bin"}
    seen: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    with Loader([*mutants.watched(tmp_path / "a"), *mutants.watched(tmp_path / "b")]) as loader:
        for data in mutants.mutants(PART, SEED + part, tmp_path / "a"):
            path.write_bytes(data)
            try:
                external, anew, why = read_onnx(path).external, copied(path), ""
            except ValueError as error:
                external, anew, why = {}, None, str(error)
            assert external.keys() <= allowed, data.hex()
            said, opened = loader.load(path)
            if anew is None:
                seen["refused, and opens elsewhere" if opened - {inside / "w.bin", inside / "sub/w.bin"} else "refused"] += 1
                if said.startswith("gives"):
                    refusals[re.sub(r"[0-9]+", "N", why)[:60]] += 1
                continue
            assert opened <= set(external.values()), data.hex()
            for key, item in outside(anew):
                assert key != "location" or item in ("w.bin", "sub/w.bin"), data.hex()
            copy.write_bytes(anew)
            assert copied(copy) == anew, data.hex()
            now, opened = loader.load(copy)
            assert opened <= {beside / "w.bin", beside / "sub/w.bin"}, data.hex()
            assert said == CRASHED or now == said or not said.startswith("gives"), (said, now, data.hex())
            seen["gives" if now.startswith("gives") else "onnxruntime refuses it"] += 1
            seen["opens weights"] += bool(opened)
        crashes = loader.crashes
    print(dict(seen), "crashes", crashes, "refused though they run:", dict(refusals))
    assert seen["gives"] > PART / 10
    assert seen["opens weights"] > PART / 20
