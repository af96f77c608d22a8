"""The queue before a peer: how much is under way, in which order it goes on, and what the counts say."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from edged.clock.clock import Clock
from edged.model.inputs import InputPlan
from edged.model.remote.compose import Composer
from edged.model.remote.records import FIELDS, PREFIX, AskPlan, RemotePlan
from edged.model.remote.row import Taker
from edged.model.remote.runner import RemoteModel
from edged.notation.values import HttpUrl
from edged.records import NONE, Slot
from edged.results.heads.by import BODIES
from tests.support.http_peer import Asked, Behaviour, HttpPeer, answer, completes, hangs, linger, says
from tests.support.pause import pause_on_loop

INPUT = InputPlan(PREFIX + FIELDS, (1,), "float32")
ASK = AskPlan("far", (INPUT,), (("n", 0, 1, ()),), "{n}", ("n",), outputs=(("text", None),))


class Queue:
    """A pipeline with rows that wait: their keys, in order; the value of each is its place."""

    name = "p"
    priority = 0

    def __init__(self, keys: list[int]) -> None:
        self.left = [Slot(n, key, 0, 0, NONE, False) for n, key in enumerate(keys)]
        self.made: list[tuple[int, Any]] = []
        self.most = 0
        self.taken = 0
        self._news = asyncio.Event()

    async def until(self, count: int) -> None:
        """So many are done."""
        while len(self.made) < count:
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 20)

    @property
    def counts(self) -> Any:
        return None

    def waiting(self) -> int:
        return len(self.left)

    def take(self, limit: int, now: int) -> list[Slot]:
        taken, self.left = self.left[:limit], self.left[limit:]
        self.taken += len(taken)
        self.most = max(self.most, self.taken - len(self.made))
        return taken

    def blank(self, count: int) -> dict[str, Any]:
        return {INPUT.name: np.zeros((count, 1), np.float32)}

    def gather(self, slots: list[Slot], inputs: dict[str, Any], start: int) -> None:
        inputs[INPUT.name][start] = slots[0].row

    def finish(self, slots: list[Slot], outputs: dict[str, Any], inputs: dict[str, Any]) -> None:
        self.made.append((slots[0].row, outputs[BODIES][0]["text"]))
        self._news.set()

    def fail(self, slot: Slot, error: Exception) -> None:
        self.made.append((slot.row, error))
        self._news.set()

    def partial(self, slot: Slot, text: str) -> None:
        pass


@asynccontextmanager
async def asking(peer: HttpPeer, queue: Queue, **settings: Any) -> AsyncIterator[RemoteModel]:
    usual = {"concurrency": 3, "retries": 0, "timeout_ns": 10**9, "cooldown_ns": 10**8, **settings}
    plan = RemotePlan("far", HttpUrl("http", "127.0.0.1", peer.port, "/v1"), "openai", "m", **usual)
    remote = RemoteModel(plan, Clock().now, asyncio.get_running_loop().call_soon)
    count = len(queue.left)
    remote.feed_from([Taker(queue, Composer(ASK, (), None, None))])
    try:
        await queue.until(count)
        yield remote
    finally:
        remote.close()


async def ended(remote: RemoteModel) -> None:
    """Until no request is under way: one has its answer some turns of the loop before it ends, as many as Python takes."""
    while remote.under_way:
        await pause_on_loop(0.001, "between two looks")


def number(asked: Asked) -> int:
    return int(asked.json["messages"][0]["content"])


def echoes(one: socket.socket, asked: Asked) -> bool:
    text = f"it is {number(asked)}"
    return answer(one, json.dumps({"choices": [{"message": {"content": text}}]}).encode())


def first_is_slow(one: socket.socket, asked: Asked) -> bool:
    if number(asked) == 0:
        linger(one, 0.3)
    return echoes(one, asked)


async def test_rows_of_a_key_go_on_in_order_and_no_more_are_held_than_may_be_under_way() -> None:
    """The first row of key 1 takes its time: those after it wait for it, though they are answered, and are not without number."""
    queue = Queue([1] * 40 + [2] * 5)
    with HttpPeer(first_is_slow) as peer:
        async with asking(peer, queue) as remote:
            assert [row for row, _ in queue.made if row < 40] == list(range(40))
            assert queue.made[0] == (0, "it is 0")
            assert queue.most <= 3
            await ended(remote)
            assert (remote.counts.answered, remote.under_way) == (45, 0)


@pytest.mark.parametrize(
    ("behaviour", "reasons"),
    [
        (hangs, {"timeout"}),
        (says({"what": None}), {"malformed"}),
        (says({"error": "no"}, 500), {"status_500"}),
        (says({}, 302), {"redirect"}),
        (says({}, 799), {"status_other"}),
        (says({"choices": [{"message": {"content": None}}]}), {"malformed"}),
    ],
)
async def test_failures_are_counted_by_their_reason(behaviour: Behaviour, reasons: set[str]) -> None:
    queue = Queue([1])
    with HttpPeer(behaviour) as peer:
        async with asking(peer, queue, timeout_ns=10**8) as remote:
            assert set(remote.counts.failures) == reasons
            assert (remote.counts.unanswered, remote.counts.rests) == (1, 0)
            assert remote.state[0] == "failing"


async def test_a_circuit_opens_and_one_request_tries() -> None:
    queue = Queue(list(range(30)))
    with HttpPeer(says({"error": "no"}, 503)) as peer:
        async with asking(peer, queue, cooldown_ns=10**12) as remote:
            assert remote.is_resting
            assert remote.counts.rests == 1
            assert 5 <= len(peer.asked) <= 7  # those that were under way as it opened
            assert remote.counts.unanswered == 30
            assert sum(remote.counts.failures.values()) == len(peer.asked)
            peer.behaviour = completes("well")
            remote.configure(RemotePlan("far", remote.plan.url, "openai", "m", retries=1))
            queue.left = [Slot(30, 1, 0, 0, NONE, False)]
            remote.wake()
            await queue.until(31)
            assert queue.made[-1] == (30, "well")
            await ended(remote)
            assert remote.state == ("idle", "")
