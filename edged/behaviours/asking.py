"""A pipeline as a function: fields in, the result of that row out. The row is a request like those of MQTT: it takes a free place
at once, or is told that there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

import msgspec
import numpy as np

from edged.behaviours.face import Failed, Row
from edged.clock.clock import Clock
from edged.records import Block, Field, Receipt


class Asked(Protocol):
    """A pipeline that may be asked."""

    @property
    def name(self) -> str: ...
    def push_long(self, source: int, block: Block) -> None: ...
    def expire(self, receipts: AbstractSet[Receipt]) -> None: ...


class Question(Receipt):
    """One row whose result somebody waits for."""

    __slots__ = ("answered",)
    is_request = True

    def __init__(self, answered: asyncio.Future[bytes]) -> None:
        super().__init__(0)
        self.answered = answered

    def done(self) -> None:
        super().done()
        if self.owed == 0:
            self.fail("no_result", "the row gave no result")

    def answer(self, body: bytes, is_json: bool, now: int) -> None:
        if not self.answered.done():
            self.answered.set_result(body + b"}" if is_json else body)

    def fail(self, code: str, why: str) -> None:
        if not self.answered.done():
            self.answered.set_exception(Failed(code, why))


async def ask(
    pipeline: Asked,
    fields: Sequence[Field],
    dtype: str,
    given: Mapping[str, Any],
    key: int,
    name: str,
    timeout_s: float,
    clock: Clock,
) -> Row:
    """Raises Failed, ValueError where `given` does not fit."""
    values = row_of(fields, dtype, given)
    loop = asyncio.get_running_loop()
    question = Question(loop.create_future())
    now = clock.now()
    block = Block(values, np.array([clock.utc()], np.int64), 0, now, key, [question], has_requests=True)
    timer = loop.call_later(timeout_s, question.fail, "timeout", f"pipeline.{pipeline.name} gave no result in {timeout_s:g} s")
    try:
        pipeline.push_long(0, block)
        question.done()
        body = msgspec.json.decode(await question.answered)
    finally:
        timer.cancel()
        if not question.answered.cancel() and not question.answered.cancelled():
            question.answered.exception()  # who was cancelled meanwhile does not look at it
        if question.owed > 0:
            pipeline.expire({question})
    return Row(pipeline.name, name, body, clock.utc(), body.get("seq", 0), body.get("degraded", False))


def row_of(fields: Sequence[Field], dtype: str, given: Mapping[str, Any]) -> Any:
    """The numbers of these fields side by side, as the pipeline gets them. Raises ValueError."""
    names = [field.name for field in fields]
    if missing := [name for name in names if name not in given]:
        raise ValueError(f"expected the fields {', '.join(names)}; {', '.join(missing)} is not given")
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"expected the fields {', '.join(names)}, found {', '.join(unknown)}")
    row = np.empty((1, fields[-1].stop), dtype)
    for field in fields:
        try:
            row[0, field.start : field.stop] = np.ravel(np.asarray(given[field.name], dtype))
        except (TypeError, ValueError):
            size = field.stop - field.start
            wanted = "a number" if size == 1 else f"{size} numbers"
            raise ValueError(f"{field.name}: expected {wanted}, found {str(given[field.name])[:80]!r}") from None
    return row
