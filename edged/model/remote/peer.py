"""One peer: a row goes out as a request, and comes back as an answer or as the reason why there is none.

    answer    attempt --> learn (once) --> compose --> ask --> read, fit --> the answer
                 ^                                       |
                 +------ a pause that doubles <----- no answer, and another attempt may do better

Made again where the settings change; rows under way end with the one that they began with.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edged.clock.backoff import Backoff
from edged.clock.caps import Caps
from edged.model.remote.answers import fitted
from edged.model.remote.breaker import Breaker
from edged.model.remote.openai import Events
from edged.model.remote.protocols import PROTOCOLS
from edged.model.remote.records import Answer, Limited, NoAnswer, RemotePlan, Reply, Request, Unanswered
from edged.model.remote.row import Row
from edged.notation.values import HttpUrl
from edged.notation.words import caps_said
from edged.system.one_shot import in_one_shot_thread
from edged.telemetry import Histogram

if TYPE_CHECKING:
    from edged.model.remote.http import Client

FIRST_S, LONGEST_S = 0.5, 10.0
"""Pauses between attempts."""
PARTIAL_NS = 100_000_000
"""Between two partial texts of a row."""
CODES = {one.value for one in HTTPStatus}
"""Those that failures are counted by; whoever answers may invent others."""
LARGE = 16 * 1024
"""Bytes of a row from which on its request is made in a thread."""


class Counts(msgspec.Struct):
    """`asked` requests for rows; of those rows `answered`, `unanswered`, `limited`; `fell_back` of the last two went to the
    fallback. `retried`: requests after the first of a row. `failures`: requests without an answer, by reason; `rests`: how often
    the peer was left alone after some in a row."""

    asked: int = 0
    answered: int = 0
    unanswered: int = 0
    limited: int = 0
    fell_back: int = 0
    retried: int = 0
    rests: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    failures: Counter[str] = msgspec.field(default_factory=Counter)
    time: Histogram = msgspec.field(default_factory=Histogram)


class Peer:
    """`now` is the monotonic clock in ns."""

    def __init__(self, plan: RemotePlan, counts: Counts, now: Callable[[], int]) -> None:
        self.plan = plan
        self.breaker = Breaker(plan.cooldown_ns)
        self.caps = Caps(plan.limits)
        self.last_error = ""
        self._counts = counts
        self._now = now
        self._protocol = PROTOCOLS[plan.protocol].make.get()(plan)
        headers = [(name, value.reveal()) for name, value in plan.headers]
        if plan.token is not None:
            headers.append(("Authorization", f"Bearer {plan.token.reveal()}"))
        self._client = make_client(plan.url, plan.ca, headers, plan.concurrency)

    @property
    def rest(self) -> str:
        """What is said of rows that come while it rests."""
        return f"it rests after failures: {self.last_error}"

    async def answer(self, row: Row) -> Answer:
        """Raises Unanswered, Limited."""
        pauses = Backoff(FIRST_S, LONGEST_S, 0.1)
        composer, protocol, inputs = row.taker.composer, self._protocol, row.inputs
        prompt = composer.prompt(inputs, row.slot.key, row.slot.receipt.given)
        request: Request | None = None
        for attempt in range(self.plan.retries + 1):
            try:
                if (question := protocol.question()) is not None:
                    protocol.learn(good(await self._ask(question)))
                    self.breaker.succeed()
                request = await self._composed(row, inputs, prompt)
                answer = protocol.read(good(await self._ask(request, row)))
                answer = fitted(answer, composer.plan.outputs)
            except NoAnswer as error:
                self._fail(error)
                is_other = error.is_refusal and request is not None and protocol.refused(request)
                if (error.is_final and not is_other) or attempt == self.plan.retries:
                    raise Unanswered(f"model {self.plan.name}: {error}") from None
                await asyncio.sleep(max(pauses.next_s(), min(error.wait_s, LONGEST_S)))
                self._counts.retried += 1
            except Unanswered:  # another one tries
                raise
            except BaseException:  # a cap, a stop, or a fault of ours: it says nothing of the peer
                self.breaker.give_up()
                raise
            else:
                self.breaker.succeed()
                self.last_error = ""
                self._counts.answered += 1
                self._counts.time.add(self._now() - row.began)
                return answer
        raise AssertionError

    async def _composed(self, row: Row, inputs: Mapping[str, Any], prompt: str) -> Request:
        composer, given = row.taker.composer, row.slot.receipt.given

        def make() -> Request:
            request: Request = self._protocol.request(composer.wanted(inputs, prompt, given))
            return request

        if composer.has_picture or sum(x.nbytes for x in inputs.values()) > LARGE:
            return await in_one_shot_thread("edged-request", make, lambda _: None)
        return make()

    async def _ask(self, request: Request, row: Row | None = None) -> Reply:
        """One request; without a row it is no question about one, and no cap counts it. Raises NoAnswer, Unanswered while the
        circuit is open, Limited."""
        counts, name = self._counts, self.plan.name
        if not self.breaker.allows(self._now()):
            raise Unanswered(f"model {name}: {self.rest}")
        if row is not None and not self.caps.take(self._now()):
            raise Limited(f"model {name}: limit: at most {caps_said(self.plan.limits)}")
        counts.asked += 1
        counts.bytes_out += len(request.body)
        on_part = self._parts(row) if row is not None and self.plan.stream else None
        reply = await self._client.ask(request, self.plan.max_bytes, self.plan.timeout_ns / 1e9, on_part)
        counts.bytes_in += len(reply.body)
        return reply

    def _parts(self, row: Row) -> Callable[[bytes], None]:
        """What takes the parts of an answer as they come, and tells the pipeline the text so far."""
        events, said = Events(), [0, self._now()]

        def take(data: bytes) -> None:
            events.feed(data)
            if len(events.text) > said[0] and self._now() - said[1] >= PARTIAL_NS and not events.is_whole:
                said[:] = len(events.text), self._now()
                row.taker.feeder.partial(row.slot, events.text)

        return take

    def _fail(self, error: NoAnswer) -> None:
        self.last_error = str(error)
        self._counts.failures[error.reason] += 1
        if error.blames_peer:
            self._counts.rests += self.breaker.fail(self._now())
        else:
            self.breaker.give_up()

    def close(self) -> None:
        """Connections that nobody uses are closed; a request under way ends as it will."""
        self._client.close()


def good(reply: Reply) -> Reply:
    """The reply, if it says 200. Raises NoAnswer for all others."""
    if reply.status == 200:
        return reply
    if 300 <= reply.status < 400:
        text = f"{reply.status}: it points to another address, which is not followed; write that in url"
        raise NoAnswer(text, "redirect", is_final=True)
    said = " ".join(reply.body[:200].decode("utf-8", "replace").split())
    text = f"{reply.status}{f': {said}' if said else ''}"
    is_busy = reply.status in (408, 425, 429) or reply.status >= 500
    after = reply.headers.get("retry-after", "")
    wait_s = float(after) if after.isascii() and after.isdigit() else 0.0
    blames_peer = reply.status not in (400, 413, 415, 422)
    is_refusal = reply.status not in (401, 403, 404, 429)
    raise NoAnswer(
        text, f"status_{reply.status if reply.status in CODES else 'other'}", not is_busy, blames_peer, wait_s, is_refusal
    )


def make_client(url: HttpUrl, ca: Path | None, headers: Sequence[tuple[str, str]], most_idle: int) -> Client:
    """Imported here, since h11 is an extra."""
    from edged.model.remote.http import Client

    return Client(url, ca, headers, most_idle)
