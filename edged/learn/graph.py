"""An ONNX file put together node by node: the same graph gives the same bytes, whoever writes it and when.

Opset 17 and IR 9 are what the oldest ONNX Runtime still found on boards (1.19) can read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR = 17, 9
End = tuple[str, tuple[int, ...]]


class Graph(msgspec.Struct):
    """Nodes and weights of one float32 graph with one input and one output, rows independent along the first axis."""

    name: str
    nodes: list[onnx.NodeProto] = msgspec.field(default_factory=list)
    weights: list[onnx.TensorProto] = msgspec.field(default_factory=list)

    def weight(self, name: str, value: Any) -> str:
        """Adds a constant (float32; int64 if it holds integers) and returns its name."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Adds a node and returns the name of its output."""
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def encode(self, source: End, result: End, labels: Sequence[str] = (), state: tuple[End, End] | None = None) -> bytes:
        """The file. `source` and `result` are the names and the shapes of one row of input and output; `state` a second pair."""
        pairs = [(source, result), *([state] if state is not None else [])]
        sources, results = ([_info(*pair[side]) for pair in pairs] for side in range(2))
        graph = helper.make_graph(self.nodes, self.name, sources, results, self.weights)
        model = helper.make_model(graph, producer_name="edged", ir_version=IR, opset_imports=[helper.make_opsetid("", OPSET)])
        if labels:
            helper.set_model_props(model, {"labels": json.dumps(list(labels))})
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


def _info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])


def float32(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)
