"""The V2 inference protocol over HTTP, with binary tensors: Triton, OpenVINO Model Server, MLServer.

What the peer calls its inputs, of which types they are and in which order their axes, its metadata say; they are asked for with
the first row. Binary tensors are an extension, which MLServer has not: a peer that refuses them gets the same numbers as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from edged.model.remote.answers import decoded
from edged.model.remote.records import Answer, Array, NoAnswer, RemotePlan, Reply, Request, Wanted

TYPES = {
    "BOOL": "bool",
    **{f"{kind.upper()}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
HEADER = "inference-header-content-length"
JSON = ("Content-Type", "application/json")


class Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int] = []
    parameters: dict[str, Any] = {}
    data: Any = None


class _Metadata(msgspec.Struct):
    inputs: list[Tensor]
    outputs: list[Tensor] = []


class _Outputs(msgspec.Struct):
    outputs: list[Tensor]


class KServe:
    def __init__(self, plan: RemotePlan) -> None:
        self._path = plan.url.path.partition("?")[0].rstrip("/").removesuffix("/infer")
        self._names = [(own, ".".join(map(str, path))) for own, path in plan.outputs]
        self._inputs: list[Tensor] | None = None
        self._is_binary = True
        self._is_settled = False
        """Whether the peer has answered to that."""

    def question(self) -> Request | None:
        """What is to be asked before the first row."""
        return Request("GET", self._path, (), b"") if self._inputs is None else None

    def learn(self, reply: Reply) -> None:
        self._inputs = decoded(reply.body, _Metadata, f"what {self._path} gives is not the metadata of a model").inputs

    def request(self, wanted: Wanted) -> Request:
        assert self._inputs is not None
        described, blobs = [], []
        for info, array in self._filled(wanted.inputs):
            if info.datatype not in TYPES:
                raise NoAnswer(f"its input {info.name} is {info.datatype}, which numbers cannot fill", "misfit", is_final=True)
            filled = np.ascontiguousarray(_fitted(info, array), np.dtype(TYPES[info.datatype]).newbyteorder("<"))
            tensor: dict[str, Any] = {"name": info.name, "shape": list(filled.shape), "datatype": info.datatype}
            if self._is_binary:
                blobs.append(filled.tobytes())
                tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
            else:
                tensor["data"] = filled.ravel().tolist()
            described.append(tensor)
        if not self._is_binary:
            body = msgspec.json.encode({"inputs": described})
            return Request("POST", f"{self._path}/infer", (JSON,), body)
        head = msgspec.json.encode({"inputs": described, "parameters": {"binary_data_output": True}})
        headers = (("Content-Type", "application/octet-stream"), ("Inference-Header-Content-Length", str(len(head))))
        return Request("POST", f"{self._path}/infer", headers, b"".join([head, *blobs]))

    def _filled(self, given: Mapping[str, Array]) -> list[tuple[Tensor, Array]]:
        assert self._inputs is not None
        if len(self._inputs) == len(given) == 1:
            return [(self._inputs[0], next(iter(given.values())))]
        names = {info.name: info for info in self._inputs}
        if names.keys() != given.keys():
            text = f"its inputs are {', '.join(names)}, and inputs of the pipeline fills {', '.join(given)}"
            raise NoAnswer(text, "misfit", is_final=True)
        return [(names[name], array) for name, array in given.items()]

    def refused(self, request: Request) -> bool:
        if self._is_settled:
            return False
        self._is_binary = JSON in request.headers
        return True

    def read(self, reply: Reply) -> Answer:
        headers = {name.lower(): value for name, value in reply.headers.items()}
        try:
            size = int(headers.get(HEADER, len(reply.body)))
            found = decoded(reply.body[:size], _Outputs, "the answer is none of the V2 protocol")
            arrays, at = {}, size
            for tensor in found.outputs:
                array, at = _tensor(tensor, reply.body, at)
                arrays[tensor.name] = array
        except (ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
            raise NoAnswer(f"the answer is none of the V2 protocol: {error}") from None
        self._is_settled = True
        if not self._names:
            return Answer(arrays)
        missing = [peers for _, peers in self._names if peers not in arrays]
        if missing:
            raise NoAnswer(f"the answer has no {missing[0]} (outputs); it has {', '.join(arrays)}", "misfit", is_final=True)
        return Answer({own: arrays[peers] for own, peers in self._names})


def _tensor(tensor: Tensor, body: bytes, at: int) -> tuple[Array, int]:
    """The numbers of one output, behind the JSON or in it; and where the next ones lie."""
    dtype = np.dtype(TYPES[tensor.datatype]).newbyteorder("<")
    count = math.prod(tensor.shape)
    size = tensor.parameters.get("binary_data_size")
    array: Array
    if size is None:
        array = np.array(tensor.data, dtype).reshape(tensor.shape)
    else:
        if size != count * dtype.itemsize:
            raise ValueError(f"{tensor.name} is {tensor.shape} {tensor.datatype}, and has {size} bytes")
        array, at = np.frombuffer(body, dtype, count, at).reshape(tensor.shape), at + size
    is_batch = len(tensor.shape) > 1 and tensor.shape[0] == 1
    return (array.reshape(tensor.shape[1:]) if is_batch else array), at


def _fitted(info: Tensor, row: Array) -> Array:
    """The row with a batch axis, in the peer's order of axes: a picture may be wanted with its colours first."""
    axes = info.shape
    if not axes:
        return row[np.newaxis]
    orders: list[Array] = [row, np.moveaxis(row, -1, 0)] if row.ndim == 3 else [row]
    for turned in orders:
        for shape in ((1, *turned.shape), turned.shape, (1, turned.size)):
            if len(shape) == len(axes) and all(a in (-1, n) for a, n in zip(axes, shape, strict=True)):
                return turned.reshape(shape)
    raise NoAnswer(f"its input {info.name} is {axes}, a row of the pipeline {list(row.shape)}", "misfit", is_final=True)
