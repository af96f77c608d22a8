from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edged.model.remote.kserve import KServe
from edged.model.remote.records import NoAnswer, RemotePlan, Reply, Request, Wanted
from edged.notation.values import HttpUrl

URL = HttpUrl("http", "box", 8000, "/v2/models/m")


def protocol(*inputs: tuple[str, str, list[int]], **more: Any) -> KServe:
    made = KServe(RemotePlan("m", URL, "kserve", **more))
    assert made.question() == Request("GET", "/v2/models/m", (), b"")
    described = [{"name": n, "datatype": t, "shape": s} for n, t, s in inputs]
    made.learn(Reply(200, {}, json.dumps({"name": "m", "inputs": described}).encode()))
    assert made.question() is None
    return made


def tensors(request: Request) -> tuple[list[dict[str, Any]], bytes]:
    size = int(dict(request.headers)["Inference-Header-Content-Length"])
    return json.loads(request.body[:size])["inputs"], request.body[size:]


@pytest.mark.parametrize(
    ("axes", "row", "shape"),
    [
        ([-1, 3], (3,), [1, 3]),
        ([3], (3,), [3]),
        ([-1, 4, 3], (4, 3), [1, 4, 3]),
        ([-1, 12], (4, 3), [1, 12]),
        ([-1, 3, 8, 6], (8, 6, 3), [1, 3, 8, 6]),
        ([-1, 8, 6, 3], (8, 6, 3), [1, 8, 6, 3]),
    ],
)
def test_a_row_goes_out_as_the_peer_wants_it(axes: list[int], row: tuple[int, ...], shape: list[int]) -> None:
    values = np.arange(np.prod(row), dtype=np.float32).reshape(row)
    request = protocol(("images", "FP16", axes)).request(Wanted({"input": values}))
    [described], body = tensors(request)
    assert request.target == "/v2/models/m/infer"
    assert (described["name"], described["shape"], described["datatype"]) == ("images", shape, "FP16")
    sent = np.frombuffer(body, "<f2").reshape(shape)
    expected = values.transpose(2, 0, 1) if shape[1:] == [3, 8, 6] else values
    np.testing.assert_array_equal(sent.ravel(), expected.ravel().astype("<f2"))


def test_inputs_go_by_name() -> None:
    made = protocol(("a", "FP32", [-1, 1]), ("b", "INT64", [-1, 2]))
    described, body = tensors(made.request(Wanted({"b": np.array([1.0, 2.0]), "a": np.array([0.5])})))
    assert [d["name"] for d in described] == ["b", "a"]
    assert body == np.array([1, 2], "<i8").tobytes() + np.array([0.5], "<f4").tobytes()
    with pytest.raises(NoAnswer, match="its inputs are a, b"):
        made.request(Wanted({"a": np.array([1.0])}))


def test_what_does_not_fit_is_said_with_both_shapes() -> None:
    with pytest.raises(NoAnswer, match=r"x is \[-1, 5\], a row of the pipeline \[3\]") as caught:
        protocol(("x", "FP32", [-1, 5])).request(Wanted({"input": np.zeros(3, np.float32)}))
    assert caught.value.is_final


def reply(outputs: list[dict[str, Any]], body: bytes = b"") -> Reply:
    head = json.dumps({"outputs": outputs}).encode()
    return Reply(200, {"Inference-Header-Content-Length": str(len(head))}, head + body)


def test_numbers_come_behind_the_json_or_in_it() -> None:
    y, z = np.array([[1.5, 2.5]], "<f4"), np.array([7], "<i8")
    outputs: list[dict[str, Any]] = [
        {"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
        {"name": "z", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}},
        {"name": "w", "datatype": "FP64", "shape": [1, 1], "data": [0.25]},
    ]
    found = protocol().read(reply(outputs, y.tobytes() + z.tobytes())).outputs
    assert {name: x.tolist() for name, x in found.items()} == {"y": [1.5, 2.5], "z": [7], "w": [0.25]}
    named = protocol(outputs=(("scores", ("y",)),)).read(reply(outputs, y.tobytes() + z.tobytes())).outputs
    assert list(named) == ["scores"]


@pytest.mark.parametrize(
    "bad",
    [
        reply([{"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 4}}], b"1234"),
        reply([{"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}], b"1234"),
        reply([{"name": "y", "datatype": "BYTES", "shape": [1], "data": ["a"]}]),
        reply([{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1]}]),
        Reply(200, {"Inference-Header-Content-Length": "many"}, b"{}"),
        Reply(200, {}, b"\x00\xff"),
    ],
)
def test_garbage_is_no_answer(bad: Reply) -> None:
    with pytest.raises(NoAnswer):
        protocol().read(bad)


def test_a_peer_without_binary_tensors_gets_json() -> None:
    made = protocol(("x", "FP64", [-1, 2]))
    row = Wanted({"input": np.array([1.5, 2.0])})
    assert dict(made.request(row).headers)["Content-Type"] == "application/octet-stream"
    binary = made.request(row)
    assert [made.refused(binary), made.refused(binary)] == [True, True]  # of several under way
    request = made.request(row)
    assert dict(request.headers)["Content-Type"] == "application/json"
    assert json.loads(request.body)["inputs"] == [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.5, 2.0]}]
    made.read(Reply(200, {}, b'{"outputs":[{"name":"y","datatype":"FP64","shape":[1,1],"data":[3.5]}]}'))
    assert not made.refused(request)
    assert dict(made.request(row).headers)["Content-Type"] == "application/json"
