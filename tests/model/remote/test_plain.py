from __future__ import annotations

import json

import numpy as np
import pytest

from edged.model.remote.plain import Plain
from edged.model.remote.records import NoAnswer, RemotePlan, Reply, Wanted
from edged.notation.values import HttpUrl

URL = HttpUrl("http", "box", 80, "/score?v=2")


def test_fields_by_name_and_outputs_by_path() -> None:
    plan = RemotePlan("m", URL, "http", outputs=(("score", ("result", 0, "p")), ("label", ("result", 0, "name"))))
    request = Plain(plan).request(Wanted({"a": np.array(1.5), "b": np.array([1.0, 2.0])}))
    assert (request.target, json.loads(request.body)) == ("/score?v=2", {"a": 1.5, "b": [1.0, 2.0]})
    found = Plain(plan).read(Reply(200, {}, b'{"result": [{"p": 0.5, "name": "worn"}]}')).outputs
    assert (found["score"].tolist(), found["label"].tolist()) == (0.5, ["worn"])
    with pytest.raises(NoAnswer, match="nothing at score; it has result"):
        Plain(plan).read(Reply(200, {}, b'{"result": [{}]}'))


def test_the_whole_answer_and_raw_numbers() -> None:
    plain = Plain(RemotePlan("m", URL, "http", body="raw"))
    assert plain.request(Wanted({"x": np.array([1, 2], ">f8")})).body == np.array([1, 2], "<f8").tobytes()
    assert plain.read(Reply(200, {}, b"[1, 2.5]")).outputs["output"].tolist() == [1.0, 2.5]
    for bad in (b"{}", b"[1, [2]]", b"nonsense", b"\xff"):
        with pytest.raises(NoAnswer):
            plain.read(Reply(200, {}, bad))
