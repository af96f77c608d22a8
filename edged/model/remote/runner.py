"""One remote model and the pipelines that share it: asks for what waits, a few rows at a time, each row by itself.

    feeders (rows that wait) --take, gather--> a task a row --Peer.answer--> finish
                                               circuit open, limit, no answer --> Spill --> the local model --> finish

Everything here is plain asyncio on the loop; what could block or take long (a JPEG, certificates) is in a thread that ends.
Results of one key come in the order of their rows. Nobody waits for any of it: a row is settled once it is in a slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from edged.model.remote.answers import outputs_of
from edged.model.remote.peer import Counts, Peer
from edged.model.remote.records import Answer, Limited, RemotePlan, Unanswered
from edged.model.remote.row import Row, Taker
from edged.model.remote.spill import Spill

AT_ONCE = 16
"""Rows in one turn of the loop, while a peer rests and nobody is asked: those that wait may be hundreds."""


class RemoteModel:
    """`now` is the monotonic clock in ns. `wake` tells it that a feeder has rows."""

    def __init__(self, plan: RemotePlan, now: Callable[[], int], soon: Callable[..., Any]) -> None:
        self.name = plan.name
        self.counts = Counts()
        self.spill = Spill(self._came_back)
        self._peer = Peer(plan, self.counts, now)
        self._now = now
        self._soon = soon
        self._takers: list[Taker] = []
        self._order: list[Row] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_scheduled = False
        self._is_closed = False
        self._turn_of = 0
        self._asks_nobody = ""

    @property
    def plan(self) -> RemotePlan:
        return self._peer.plan

    def configure(self, plan: RemotePlan) -> None:
        """From the next request on; those under way end as they began."""
        if plan == self.plan:
            return
        old, self._peer = self._peer, Peer(plan, self.counts, self._now)
        self._peer.caps.take_over(old.caps)
        old.close()

    def ask_nobody(self, why: str) -> None:
        """From here on no row is asked for: the fallback answers, or nobody."""
        self._asks_nobody = why

    def feed_from(self, takers: Sequence[Taker]) -> None:
        """These and no others from now on."""
        self._takers = sorted(takers, key=lambda t: -t.feeder.priority)
        self.wake()

    def wake(self) -> None:
        """A feeder has rows: they are taken in a later turn."""
        if not self._is_scheduled and not self._is_closed:
            self._is_scheduled = True
            self._soon(self._turn)

    @property
    def state(self) -> tuple[str, str]:
        error = self._peer.last_error
        if self.is_resting:
            return "resting", f"{error}; after failures nothing is asked for {self.plan.cooldown_ns / 1e9:g} s"
        return ("failing", error) if error else ("running" if self._tasks else "idle", "")

    @property
    def is_resting(self) -> bool:
        """The circuit is open: nothing is asked, but for one request that tries."""
        return self._peer.breaker.is_open(self._now())

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    def _turn(self) -> None:
        self._is_scheduled = False
        for _ in range(AT_ONCE):
            if len(self._order) >= self.plan.concurrency or self._is_closed:  # also what waits for an earlier row of its key
                return
            row = self._take()
            if row is None:
                return
            self._order.append(row)
            if refusal := self._refusal():
                row.outcome = Unanswered(f"model {self.name}: {refusal}")
                self._hand_out(row)
                continue
            task = asyncio.get_running_loop().create_task(self._serve(row), name=f"model.{self.name}: a request")
            self._tasks.add(task)
            task.add_done_callback(self._on_served)
        self.wake()

    def _refusal(self) -> str:
        """Why nothing is asked now; empty if it is."""
        return self._asks_nobody or (self._peer.rest if self.is_resting else "")

    def _take(self) -> Row | None:
        """The next row: of the highest priority, pipelines of equal ones in turn. None if none waits."""
        count = len(self._takers)
        waiting = [i for i in range(count) if self._takers[i].feeder.waiting()]
        while waiting:
            best = self._takers[waiting[0]].feeder.priority
            equal = [i for i in waiting if self._takers[i].feeder.priority == best]
            at = min(equal, key=lambda i: (i - self._turn_of) % count)
            taker, now = self._takers[at], self._now()
            self._turn_of = at + 1
            slots = taker.feeder.take(1, now)
            if slots:
                rows = taker.feeder.blank(1)
                taker.feeder.gather(slots, rows, 0)
                return Row(taker, slots[0], rows, now)
            waiting.remove(at)
        return None

    def _on_served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()  # a bug of ours ends the process, as everywhere
        self.wake()

    async def _serve(self, row: Row) -> None:
        try:
            row.outcome = await self._peer.answer(row)
        except (Unanswered, Limited) as error:
            row.outcome = error
        except asyncio.CancelledError:
            row.outcome = Unanswered(f"model {self.name}: edged stopped before an answer came")
            raise
        except Exception as error:  # ours: it costs this row
            row.outcome = error
        finally:
            self._hand_out(row)

    def _hand_out(self, row: Row) -> None:
        """What is whole goes on, as far as no earlier row of its key is under way."""
        key, feeder = row.slot.key, row.taker.feeder
        for one in [one for one in self._order if one.slot.key == key and one.taker.feeder is feeder]:
            if one.outcome is None or one.is_spilt:
                return
            if self._falls_back(one.outcome):
                one.is_spilt = True
                self.counts.fell_back += 1
                self.spill.put(one)
                return
            self._order.remove(one)
            if isinstance(one.outcome, Answer):
                feeder.finish([one.slot], outputs_of(one.outcome, self.name), one.rows)
            else:
                feeder.fail(one.slot, one.outcome)

    def _falls_back(self, outcome: Answer | Exception) -> bool:
        self.counts.unanswered += isinstance(outcome, Unanswered)
        self.counts.limited += isinstance(outcome, Limited)
        return self.plan.fallback is not None and not self._is_closed and isinstance(outcome, Unanswered | Limited)

    def _came_back(self, row: Row) -> None:
        """The fallback is done with a row."""
        self._order.remove(row)
        self._hand_out(row)
        self.wake()

    def cancel(self) -> None:
        """Gives up what is under way: it is counted as unanswered."""
        for task in self._tasks:
            task.cancel()

    def close(self) -> None:
        """No further request begins; those under way are given up."""
        self._is_closed = True
        self.cancel()
        self._peer.close()
