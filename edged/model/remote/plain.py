"""`protocol = "http"`: one POST of JSON, of the numbers as they lie in memory, or of a picture; JSON comes back."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from edged.decode.paths import ABSENT, find, members
from edged.model.remote.answers import decoded
from edged.model.remote.records import Answer, Array, NoAnswer, RemotePlan, Reply, Request, Wanted, kind_of
from edged.notation.field_paths import Path

TYPES = {"json": "application/json", "raw": "application/octet-stream"}


class Plain:
    def __init__(self, plan: RemotePlan) -> None:
        self._plan = plan
        self._paths = plan.outputs

    def request(self, wanted: Wanted) -> Request:
        if self._plan.body == "image":
            return Request("POST", self._plan.url.path, (("Content-Type", kind_of(wanted.picture)),), wanted.picture)
        if self._plan.body == "raw":
            body = b"".join(np.ascontiguousarray(x, x.dtype.newbyteorder("<")).tobytes() for x in wanted.inputs.values())
        else:
            body = msgspec.json.encode({name: x.tolist() for name, x in wanted.inputs.items()})
        return Request("POST", self._plan.url.path, (("Content-Type", TYPES[self._plan.body]),), body)

    def question(self) -> None:
        return None

    def learn(self, reply: Reply) -> None:
        pass

    def refused(self, request: Request) -> bool:
        return False

    def read(self, reply: Reply) -> Answer:
        whole = decoded(reply.body, object, "the answer is not JSON")
        if not self._paths:
            return Answer({"output": _values(whole, "the answer")})
        return Answer({name: _values(_at(whole, path, name), name) for name, path in self._paths})


def _at(whole: Any, path: Path, name: str) -> Any:
    found = find(whole, path)
    if found is ABSENT:
        raise NoAnswer(f"the answer has nothing at {name}; {members(whole)}")
    return found


def _values(value: Any, name: str) -> Array:
    if isinstance(value, str):
        return np.array([value], object)
    try:
        return np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise NoAnswer(f"expected numbers or a text at {name}, found {type(value).__name__}") from None
