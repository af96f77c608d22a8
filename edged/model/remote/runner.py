"""One remote model and the pipelines that share it: asks for what waits, a few rows at a time, each row by itself.

    feeders (rows that wait) --take, gather--> a task a row --ask, again after a pause--> finish
                                               circuit open, limit, no answer --> Spill --> the local model --> finish

Everything here is plain asyncio on the loop; what could block or take long (a JPEG, certificates) is in a thread that ends.
Results of one key come in the order of their rows. Nobody waits for any of it: a row is settled once it is in a slot.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from edged.clock.backoff import Backoff
from edged.clock.spent import HasSpent
from edged.config.values import HttpUrl
from edged.model.records import Feeder
from edged.model.remote.breaker import Breaker, Caps
from edged.model.remote.compose import Composer
from edged.model.remote.kserve import KServe
from edged.model.remote.openai import Events
from edged.model.remote.protocols import PROTOCOLS
from edged.model.remote.records import (
    Answer,
    Array,
    Limited,
    NoAnswer,
    RemotePlan,
    Reply,
    Request,
    Unanswered,
)
from edged.records import Slot
from edged.results.heads.by import BODIES, BY
from edged.system.one_shot import in_one_shot_thread
from edged.telemetry import Histogram

if TYPE_CHECKING:
    from edged.model.remote.http import Client

FIRST_S, LONGEST_S = 0.5, 10.0
"""Pauses between attempts."""
PARTIAL_NS = 100_000_000
"""Between two partial texts of a row."""
LARGE = 16 * 1024
"""Bytes of a row from which on its request is made in a thread."""

Rows = dict[str, Array]


class Asks(Feeder, Protocol):
    """A pipeline with a remote model."""

    name: str

    def blank(self, count: int) -> Rows:
        """Arrays for so many rows, to `gather` into."""

    def partial(self, slot: Slot, text: str) -> None:
        """The text so far."""


class Taker(msgspec.Struct, frozen=True, eq=False):
    """A pipeline with what makes requests of its rows."""

    feeder: Asks
    composer: Composer


class Row(msgspec.Struct, eq=False):
    """A row under way. `outcome`: what its answer is, or why there is none; None while it is asked for."""

    taker: Taker
    slot: Slot
    rows: Rows
    began: int
    outcome: Answer | Exception | None = None
    is_spilt: bool = False
    """Whether the fallback has it now."""


class Counts(msgspec.Struct):
    """`asked` requests for rows; of those rows `answered`, `unanswered`, `limited`; `fell_back` of the last two went to the
    fallback. `retried`: requests after the first of a row."""

    asked: int = 0
    answered: int = 0
    unanswered: int = 0
    limited: int = 0
    fell_back: int = 0
    retried: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    time: Histogram = msgspec.field(default_factory=Histogram)


class RemoteModel:
    """`now` is the monotonic clock in ns. `wake` tells it that a feeder has rows."""

    def __init__(self, plan: RemotePlan, now: Callable[[], int], soon: Callable[..., Any]) -> None:
        self.name = plan.name
        self.counts = Counts()
        self.last_error = ""
        self._now = now
        self._soon = soon
        self._takers: list[Taker] = []
        self._order: list[Row] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_scheduled = False
        self._is_closed = False
        self._turn_of = 0
        self._asks_nobody = ""
        self._set(plan, Caps(plan.limits), Breaker(plan.cooldown_ns))

    def _set(self, plan: RemotePlan, caps: Caps, breaker: Breaker) -> None:
        self.plan = plan
        self._caps, self.breaker = caps, breaker
        self._protocol = PROTOCOLS[plan.protocol].make(plan)
        headers = [(name, value.reveal()) for name, value in plan.headers]
        if plan.token is not None:
            headers.append(("Authorization", f"Bearer {plan.token.reveal()}"))
        self._client = make_client(plan.url, plan.ca, headers, plan.concurrency)
        self.spill = Spill(self)

    def configure(self, plan: RemotePlan) -> None:
        """From the next request on; those under way end as they began."""
        if plan == self.plan:
            return
        self._client.close()
        caps, spill = Caps(plan.limits), self.spill
        caps.take_over(self._caps)
        self._set(plan, caps, Breaker(plan.cooldown_ns))
        self.spill = spill
        self.last_error = ""

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
        if self.breaker.is_open(self._now()):
            return "resting", f"{self.last_error}; after failures nothing is asked for {self.plan.cooldown_ns / 1e9:g} s"
        return ("failing", self.last_error) if self.last_error else ("running" if self._tasks else "idle", "")

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    def _turn(self) -> None:
        self._is_scheduled = False
        while max(len(self._tasks), len(self.spill)) < self.plan.concurrency and not self._is_closed:
            row = self._take()
            if row is None:
                return
            self._order.append(row)
            task = asyncio.get_running_loop().create_task(self._serve(row), name=f"model.{self.name}: a request")
            self._tasks.add(task)
            task.add_done_callback(self._on_served)

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
            row.outcome = await self._answer(row)
        except (Unanswered, Limited) as error:
            row.outcome = error
        except asyncio.CancelledError:
            row.outcome = Unanswered(f"model {self.name}: edged stopped before an answer came")
            raise
        except Exception as error:  # ours: it costs this row
            row.outcome = error
        finally:
            self._hand_out(row)

    async def _answer(self, row: Row) -> Answer:
        """Raises Unanswered, Limited."""
        if self._asks_nobody:
            raise Unanswered(f"model {self.name}: {self._asks_nobody}")
        pauses = Backoff(FIRST_S, LONGEST_S, 0.1)
        composer, plan, protocol = row.taker.composer, self.plan, self._protocol
        one = {name: x[0] for name, x in row.rows.items()}
        prompt = composer.prompt(one, row.slot.key)
        request: Request | None = None
        for attempt in range(plan.retries + 1):
            try:
                if isinstance(protocol, KServe) and (question := protocol.question()) is not None:
                    protocol.learn(self._good(await self._ask_peer(question, plan)))
                    self.breaker.succeed()
                request = await self._request(partial(_make, protocol, composer, one, prompt), one, composer)
                answer = protocol.read(self._good(await self._ask_peer(request, plan, row)))
                answer = fitted(answer, composer.plan.outputs)
            except NoAnswer as error:
                self._fail(error)
                is_other = error.is_refusal and request is not None and protocol.refused(request)
                if (error.is_final and not is_other) or attempt == plan.retries:
                    raise Unanswered(f"model {self.name}: {error}") from None
                await asyncio.sleep(max(pauses.next_s(), min(error.wait_s, LONGEST_S)))
                self.counts.retried += 1
                continue
            self.breaker.succeed()
            self.last_error = ""
            self.counts.answered += 1
            self.counts.time.add(self._now() - row.began)
            return answer
        raise AssertionError

    def _fail(self, error: NoAnswer) -> None:
        self.last_error = str(error)
        if error.blames_peer:
            self.breaker.fail(self._now())
        else:
            self.breaker.give_up()

    async def _request(self, make: Callable[[], Request], one: Mapping[str, Array], composer: Composer) -> Request:
        if composer.has_picture or sum(x.nbytes for x in one.values()) > LARGE:
            return await in_one_shot_thread("edged-request", make, lambda _: None)
        return make()

    async def _ask_peer(self, request: Request, plan: RemotePlan, row: Row | None = None) -> Reply:
        """Raises NoAnswer, Unanswered while the circuit is open, Limited."""
        if not self.breaker.allows(self._now()):
            raise Unanswered(f"model {self.name}: it rests after failures: {self.last_error}")
        if row is not None and not self._caps.take(self._now()):
            self.breaker.give_up()
            raise Limited(f"model {self.name}: limit = {', '.join(f'{c.count} in {c.period / 1e9:g} s' for c in plan.limits)}")
        self.counts.asked += 1
        self.counts.bytes_out += len(request.body)
        on_part = self._parts(row) if row is not None and plan.stream else None
        try:
            reply = await self._client.ask(request, plan.max_bytes, plan.timeout_ns / 1e9, on_part)
        except asyncio.CancelledError:
            self.breaker.give_up()
            raise
        self.counts.bytes_in += len(reply.body)
        return reply

    def _parts(self, row: Row) -> Callable[[bytes], None]:
        events, said = Events(), [0, self._now()]

        def take(data: bytes) -> None:
            events.feed(data)
            if len(events.text) > said[0] and self._now() - said[1] >= PARTIAL_NS and not events.is_whole:
                said[:] = len(events.text), self._now()
                row.taker.feeder.partial(row.slot, events.text)

        return take

    @staticmethod
    def _good(reply: Reply) -> Reply:
        if reply.status == 200:
            return reply
        said = " ".join(reply.body[:200].decode("utf-8", "replace").split())
        text = f"{reply.status}{f': {said}' if said else ''}"
        if 300 <= reply.status < 400:
            raise NoAnswer(
                f"{reply.status}: it points to another address, which is not followed; write that in url", is_final=True
            )
        is_busy = reply.status in (408, 425, 429) or reply.status >= 500
        after = reply.headers.get("retry-after", "")
        wait_s = float(after) if after.isdigit() else 0.0
        blames_peer = reply.status not in (400, 413, 415, 422)
        raise NoAnswer(text, not is_busy, blames_peer, wait_s, is_refusal=reply.status not in (401, 403, 404, 429))

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
                feeder.finish([one.slot], _outputs(one.outcome, self.name), one.rows)
            else:
                feeder.fail(one.slot, one.outcome)

    def _falls_back(self, outcome: Answer | Exception) -> bool:
        self.counts.unanswered += isinstance(outcome, Unanswered)
        self.counts.limited += isinstance(outcome, Limited)
        return self.plan.fallback is not None and not self._is_closed and isinstance(outcome, Unanswered | Limited)

    def came_back(self, row: Row) -> None:
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
        self._client.close()


class Spill:
    """The rows that the local model answers instead: a feeder of that. It holds as many as may be under way: rows that cannot be
    asked for are taken no faster than they go on here."""

    priority = 0

    def __init__(self, remote: RemoteModel) -> None:
        self._remote = remote
        self._rows: deque[Row] = deque()
        self._taken: dict[int, Row] = {}
        self._wake: Callable[[], None] = lambda: None
        self.by = ""

    def connect(self, name: str, wake: Callable[[], None]) -> None:
        """The local model."""
        self.by, self._wake = name, wake

    @property
    def counts(self) -> HasSpent:
        rows = self._rows or self._taken.values()
        return next(iter(rows)).taker.feeder.counts

    def __len__(self) -> int:
        return len(self._rows) + len(self._taken)

    def put(self, row: Row) -> None:
        self._rows.append(row)
        self._wake()

    def waiting(self) -> int:
        return len(self._rows)

    def take(self, limit: int, now: int) -> list[Slot]:
        taken = [self._rows.popleft() for _ in range(min(limit, len(self._rows)))]
        self._taken |= {id(row.slot): row for row in taken}
        return [row.slot for row in taken]

    def gather(self, slots: list[Slot], inputs: Rows, start: int) -> None:
        for i, slot in enumerate(slots):
            rows = self._taken[id(slot)].rows
            for name, x in inputs.items():
                if name in rows:
                    x[start + i] = rows[name][0]

    def finish(self, slots: list[Slot], outputs: Rows, inputs: Rows) -> None:
        for i, slot in enumerate(slots):
            row = self._taken.pop(id(slot))
            mine = {name: x[i : i + 1] for name, x in outputs.items()} | {BY: _named(self.by)}
            row.taker.feeder.finish([slot], mine, {name: x[i : i + 1] for name, x in inputs.items()})
            self._remote.came_back(row)

    def fail(self, slot: Slot, error: Exception) -> None:
        row = self._taken.pop(id(slot))
        row.taker.feeder.fail(slot, error)
        self._remote.came_back(row)


def make_client(url: HttpUrl, ca: Path | None, headers: Sequence[tuple[str, str]], most_idle: int) -> Client:
    """Imported here, since h11 is an extra."""
    from edged.model.remote.http import Client

    return Client(url, ca, headers, most_idle)


def _make(protocol: Any, composer: Composer, one: Mapping[str, Array], prompt: str) -> Request:
    request: Request = protocol.request(composer.wanted(one, prompt))
    return request


def _named(name: str) -> Array:
    return np.array([name], object)


def _outputs(answer: Answer, by: str) -> Rows:
    if answer.text is None:
        return {**{name: x[np.newaxis] for name, x in answer.outputs.items()}, BY: _named(by)}
    body = np.empty(1, object)
    body[0] = {"text": answer.text} | ({"answer": answer.answer} if answer.answer is not None else {})
    return {BODIES: body, BY: _named(by)}


def fitted(answer: Answer, wanted: Sequence[tuple[str, tuple[int, ...] | None]]) -> Answer:
    """The answer under the names that results are made of, in the shapes that are known. Raises NoAnswer."""
    if answer.text is not None:
        return answer
    given = answer.outputs
    if not all(name in given for name, _ in wanted):
        if len(given) != len(wanted):
            names = ", ".join(name for name, _ in wanted)
            raise NoAnswer(f"expected the outputs {names}, found {', '.join(given) or 'none'}", is_final=True)
        given = dict(zip((name for name, _ in wanted), given.values(), strict=True))
    found = {}
    for name, shape in wanted:
        x = given[name]
        if shape is not None and x.shape != shape:
            if x.size != int(np.prod(shape)):
                raise NoAnswer(f"expected {list(shape)} at {name}, found {list(x.shape)}", is_final=True)
            x = x.reshape(shape)
        found[name] = x
    return Answer(found)
