"""A pipeline as a function: fields in, the result of that row out. The row is a request like those of MQTT: it takes a free place
at once, or is told that there is none."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import msgspec
import numpy as np

from edged.behaviours.face import Failed, Row
from edged.clock.clock import Clock
from edged.decode.image import make_jpeg
from edged.records import Block, Field, Receipt
from edged.system.one_shot import Few, in_one_shot_thread

COMPRESSING = Few(2, 1.0)
"""Pictures that are compressed at a time, each in a thread."""
PICTURES = (b"\xff\xd8", b"\x89PNG")
"""How a JPEG and a PNG begin."""


class Asked(Protocol):
    """A pipeline that may be asked."""

    @property
    def name(self) -> str: ...
    def push_long(self, source: int, block: Block) -> None: ...
    def expire(self, receipts: AbstractSet[Receipt]) -> None: ...


class Target(msgspec.Struct, frozen=True):
    """A pipeline that may be asked, and what goes into it. `key_of` gives the number of a key; None: it has no such key.

    The fields `free` may be whatever JSON knows, of at most `most` bytes together; `photo` is a picture of at most `most_photo`.
    `why_numbers`: why all others are numbers."""

    pipeline: Asked
    fields: Sequence[Field]
    dtype: str
    key_of: Callable[[str, int], int | None]
    free: AbstractSet[str] = frozenset()
    photo: str = ""
    most: int = 0
    most_photo: int = 0
    why_numbers: str = ""


class Question(Receipt):
    """One row whose result somebody waits for. `given` is what it has beside numbers."""

    __slots__ = ("answered", "given")
    is_request = True

    def __init__(self, answered: asyncio.Future[bytes], given: Mapping[str, Any]) -> None:
        super().__init__(0)
        self.answered = answered
        self.given = given

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


async def ask(target: Target, given: Mapping[str, Any], key: int, name: str, timeout_s: float, clock: Clock) -> Row:
    """Raises Failed, ValueError where `given` does not fit."""
    pipeline, loop = target.pipeline, asyncio.get_running_loop()
    values, more = row_of(target, given)
    if target.photo:
        more[target.photo] = await _picture(target, given[target.photo])
    question = Question(loop.create_future(), more)
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


def row_of(target: Target, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The numbers of the fields side by side, as the pipeline gets them, with what has no place among them. Raises ValueError."""
    fields = target.fields
    names = [field.name for field in fields]
    if missing := [name for name in names if name not in given]:
        raise ValueError(f"expected the fields {', '.join(names)}; {', '.join(missing)} is not given")
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"expected the fields {', '.join(names)}, found {', '.join(unknown)}")
    row = np.full((1, fields[-1].stop), math.nan if target.free or target.photo else 0, target.dtype)
    for field in fields:
        if field.name not in target.free and field.name != target.photo:
            row[0, field.start : field.stop] = _numbers(target, field, given[field.name])
    free = {name: _plain(name, given[name]) for name in names if name in target.free}
    if (size := len(msgspec.json.encode(free))) > target.most and free:
        raise ValueError(f"a question of pipeline.{target.pipeline.name} has at most {target.most} bytes, found {size}")
    return row, free


def _numbers(target: Target, field: Field, value: Any) -> Any:
    size, flat = field.stop - field.start, None
    with suppress(TypeError, ValueError):
        flat = np.ravel(np.asarray(value, target.dtype))
    if flat is None or flat.size != size:
        wanted = "a number" if size == 1 else f"{size} numbers"
        raise ValueError(f"{field.name}: expected {wanted}, found {str(value)[:80]!r}{target.why_numbers}")
    return flat


def _plain(name: str, value: Any) -> Any:
    """The value as JSON has it."""
    try:
        return msgspec.to_builtins(value, enc_hook=_listed)
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise ValueError(f"{name}: expected a string, a number, or what JSON knows, found a {type(value).__name__}") from None


def _listed(value: Any) -> Any:
    if hasattr(value, "tolist"):  # of numpy
        return value.tolist()
    raise TypeError


async def _picture(target: Target, value: Any) -> bytes:
    """A JPEG or PNG; an array of pixels is compressed. Raises ValueError."""
    if isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[2] in (1, 3) and value.dtype == np.uint8:
        async with COMPRESSING:
            value = await in_one_shot_thread("edged-picture", partial(make_jpeg(False), value), lambda _: None)
    if not isinstance(value, bytes) or not value.startswith(PICTURES):
        wanted = "a JPEG or PNG as bytes, or an array of uint8, height x width x 3"
        raise ValueError(f"{target.photo}: expected a picture ({wanted}), found a {type(value).__name__}")
    if len(value) > target.most_photo:
        raise ValueError(f"{target.photo}: expected at most {target.most_photo} bytes, found {len(value)}; make it smaller")
    return value
