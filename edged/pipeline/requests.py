"""Requests: samples whose sender waits for the result. They take a free slot at once, or are told that there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import groupby

from edged.pipeline.counts import PipelineCounts
from edged.records import Block, Receipt, Result
from edged.results.encode import Encoder
from edged.telemetry import INTERNAL_ERROR, whereabouts


class Requests:
    """`answer` encodes the results of requests, which go to whoever asked and nowhere else. `room`: of so many, how many find a
    place, of `places` in all."""

    def __init__(self, answer: Encoder | None, counts: PipelineCounts, places: int, room: Callable[[int], int]) -> None:
        self._answer = answer
        self._counts = counts
        self._places = places
        self._room = room

    def push(
        self, block: Block, has_room: Callable[[], bool], take: Callable[[Block], object], others: Callable[[Block], object]
    ) -> None:
        """A block with rows of requests, in order: those are taken now, as far as there is room, the `others` wait their turn.
        Requests push nothing out, and wait for no slot."""
        receipts = block.receipt_of_each()
        for is_request, group in groupby(range(len(block)), lambda i: receipts[i].is_request):
            rows = list(group)
            part = block.part(rows[0], rows[-1] + 1)
            if not is_request:
                others(part)
                continue
            admitted = self._admit(part, self._room(len(part)) if has_room() else 0)
            if len(admitted) == len(part):
                take(part)
            elif admitted or part.restarts:
                take(part.only(admitted))

    def _admit(self, block: Block, room: int) -> list[int]:
        """The rows that are taken; whoever sent another is told why it is not."""
        receipts = block.receipt_of_each()
        rows_of = Counter(receipts)
        admitted: list[int] = []
        for i, receipt in enumerate(receipts):
            if rows_of[receipt] > 1:
                code, why = "several_rows", f"expected one sample in a request, found {rows_of[receipt]}"
            elif len(admitted) == room:
                code, why = "busy", f"all {self._places} slots are taken; try again later"
            else:
                admitted.append(i)
                continue
            self._counts.due += 1
            self._counts.drops.add(code)
            receipt.fail(code, why)
        return admitted

    def answer(self, result: Result, request: Receipt, now: int) -> None:
        assert self._answer is not None
        try:
            request.answer(*self._answer(result, now), now)
        except Exception as error:
            request.fail(INTERNAL_ERROR, whereabouts(error))

    @staticmethod
    def refuse_seen(block: Block) -> None:
        """Those whose samples were sent again are told so."""
        assert block.seen is not None
        for receipt, is_seen in zip(block.receipt_of_each(), block.seen.tolist(), strict=True):
            if is_seen:
                receipt.fail("duplicate", "it was sent again, and the first was taken")
