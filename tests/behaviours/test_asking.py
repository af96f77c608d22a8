"""A pipeline as a function: what goes in, what comes out, and what becomes of a question that nobody answers."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from edged.behaviours.asking import Question, Target, ask, row_of
from edged.behaviours.face import Failed
from edged.clock.clock import Clock
from edged.records import Block, Field, Receipt

FIELDS = (Field("a", 0, 1), Field("v", 1, 3, (2,)))


class Asked:
    """A pipeline that keeps its questions."""

    name = "p"

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.expired: list[Receipt] = []

    def push_long(self, source: int, block: Block) -> None:
        block.receipts[0].hold()
        self.blocks.append(block)

    def expire(self, receipts: AbstractSet[Receipt]) -> None:
        self.expired += receipts

    @property
    def question(self) -> Question:
        (receipt,) = self.blocks[0].receipts
        assert isinstance(receipt, Question)
        return receipt


def target(asked: Asked, free: str = "", photo: str = "") -> Target:
    return Target(asked, FIELDS, "float32", lambda key, now: 0, frozenset(free), photo, 100, 64)


def asking(asked: Asked, timeout_s: float = 10.0) -> asyncio.Task[Any]:
    work = ask(target(asked), {"v": [2, 3], "a": 1}, 4, "k", timeout_s, Clock())
    return asyncio.get_running_loop().create_task(work)


async def test_the_row_has_its_fields_in_order_and_the_answer_is_a_row() -> None:
    asked = Asked()
    task = asking(asked)
    await asyncio.sleep(0)
    block = asked.blocks[0]
    assert (block.values.tolist(), block.keys, block.has_requests) == ([[1, 2, 3]], 4, True)
    asked.question.answer(b'{"seq":7,"score":0.5', True, 0)
    asked.question.done()
    row = await task
    assert (row.score, row.seq, row.key, row.stream) == (0.5, 7, "k", "p")
    assert asked.expired == []


async def test_why_there_is_no_answer() -> None:
    for fail, wanted in (
        (lambda q: q.fail("busy", "full"), "busy: full"),
        (lambda q: q.done(), "no_result: the row gave no result"),
        (lambda q: None, "timeout: pipeline.p gave no result in 0.01 s"),
    ):
        asked = Asked()
        task = asking(asked, 0.01)
        await asyncio.sleep(0)
        fail(asked.question)
        with pytest.raises(Failed, match=wanted):
            await task
    assert asked.expired == [asked.question]  # a run for it would be of no use


async def test_who_is_cancelled_as_the_answer_comes_leaves_nothing_behind() -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    asked = Asked()
    task = asking(asked)
    await asyncio.sleep(0)
    asked.question.fail("busy", "full")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    asked.blocks.clear()
    asked.expired.clear()
    gc.collect()
    assert told == []


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"a": 1}, "expected the fields a, v; v is not given"),
        ({"a": 1, "v": [1, 2], "w": 1}, "expected the fields a, v, found w"),
        ({"a": "x", "v": [1, 2]}, "a: expected a number, found 'x'"),
        ({"a": 1, "v": [1, 2, 3]}, "v: expected 2 numbers, found '[1, 2, 3]'"),
    ],
)
def test_what_does_not_fit_is_said(given: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wanted)):
        row_of(target(Asked()), given)


async def test_texts_go_beside_the_numbers() -> None:
    asked = Asked()
    given = {"a": "worn", "v": [2, np.float32(0.5)]}
    task = asyncio.ensure_future(ask(target(asked, free="a"), given, 0, "", 10.0, Clock()))
    await asyncio.sleep(0)
    assert asked.question.given == {"a": "worn"}
    assert np.isnan(asked.blocks[0].values[0, 0])
    assert asked.blocks[0].values[0, 1:].tolist() == [2, 0.5]
    asked.question.answer(b'{"text":"replace it"', True, 0)
    asked.question.done()
    assert (await task).text == "replace it"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("x" * 100, "has at most 100 bytes, found"),
        (object(), "a: expected a string, a number, or what JSON knows, found a object"),
    ],
)
def test_a_text_is_bounded_and_plain(value: object, wanted: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wanted)):
        row_of(target(Asked(), free="a"), {"a": value, "v": [1, 2]})


def test_values_that_json_knows_are_kept_as_they_are() -> None:
    values = ["x", 0.1, True, None, {"n": [1, 2]}, np.float64(0.5), np.array([[1, 2]])]
    found = [row_of(target(Asked(), free="a"), {"a": one, "v": [1, 2]})[1]["a"] for one in values]
    assert found == ["x", 0.1, True, None, {"n": [1, 2]}, 0.5, [[1, 2]]]


async def test_a_picture_is_taken_as_it_is_or_compressed() -> None:
    pixels = np.full((8, 8, 3), 128, np.uint8)
    for picture in (b"\xff\xd8jpeg", b"\x89PNG...", pixels):
        asked = Asked()
        work = ask(replace(target(asked, photo="a"), most_photo=4096), {"a": picture, "v": [1, 2]}, 0, "", 0.2, Clock())
        with pytest.raises(Failed, match="timeout"):
            await work
        sent = asked.question.given["a"]
        assert sent == picture if isinstance(picture, bytes) else sent.startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("picture", "wanted"),
    [
        ("text", "a: expected a picture (a JPEG or PNG as bytes, or an array of uint8, height x width x 3), found a str"),
        (b"GIF89a", "a: expected a picture (a JPEG or PNG"),
        (np.zeros((2, 2)), "a: expected a picture (a JPEG or PNG"),
        (b"\xff\xd8" + b"x" * 63, "a: expected at most 64 bytes, found 65; make it smaller"),
    ],
)
async def test_what_is_no_picture(picture: object, wanted: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wanted)):
        await ask(target(Asked(), photo="a"), {"a": picture, "v": [1, 2]}, 0, "", 1.0, Clock())
