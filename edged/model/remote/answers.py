"""From what a peer said of one row to the outputs that results are made of. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from edged.model.remote.records import Answer, NoAnswer
from edged.results.heads.by import BODIES, BY

Array = NDArray[Any]
T = TypeVar("T")
BOM = b"\xef\xbb\xbf"
"""Some write it before JSON."""


def decoded(body: bytes, form: type[T], what: str) -> T:
    """The JSON of an answer, of that form. Raises NoAnswer, whose text begins with `what` is wrong."""
    try:
        return msgspec.json.decode(body.removeprefix(BOM), type=form)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise NoAnswer(f"{what}: {error}") from None


def fitted(answer: Answer, wanted: Sequence[tuple[str, tuple[int, ...] | None]]) -> Answer:
    """The answer under the names that results are made of, in the shapes that are known. Raises NoAnswer."""
    if answer.text is not None:
        return answer
    given = answer.outputs
    if not all(name in given for name, _ in wanted):
        if len(given) != len(wanted):
            names = ", ".join(name for name, _ in wanted)
            raise NoAnswer(f"expected the outputs {names}, found {', '.join(given) or 'none'}", "misfit", is_final=True)
        given = dict(zip((name for name, _ in wanted), given.values(), strict=True))
    found = {}
    for name, shape in wanted:
        x = given[name]
        if shape is not None and x.shape != shape:
            if x.size != int(np.prod(shape)):
                raise NoAnswer(f"expected {list(shape)} at {name}, found {list(x.shape)}", "misfit", is_final=True)
            x = x.reshape(shape)
        found[name] = x
    return Answer(found)


def outputs_of(answer: Answer, by: str) -> dict[str, Array]:
    """As a run of one row would give them, with who answered."""
    if answer.text is None:
        return {**{name: x[np.newaxis] for name, x in answer.outputs.items()}, BY: named(by)}
    body = np.empty(1, object)
    body[0] = {"text": answer.text} | ({"answer": answer.answer} if answer.answer is not None else {})
    return {BODIES: body, BY: named(by)}


def named(name: str) -> Array:
    """Who answered, for one row."""
    return np.array([name], object)
