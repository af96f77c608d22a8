"""Request/response: requests of one MQTT source, each with the debt of one answer.

A request is a PUBLISH with a Response Topic that the source's `reply` allows. It goes the way of every input; its receipt is
an `Ask`, which whoever holds the row holds. The first thing that is said of it is its answer: the result, or why there is
none. When the last holder lets go and nothing was said, that is said, so that nobody waits in vain. The acknowledgement of
the PUBLISH waits for that of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from edged.mqtt.frames import Request, read_request, reply_properties
from edged.records import Message, Receipt
from edged.results.encode import encode_error
from edged.telemetry import Drops, PublishCounts
from edged.topics import TopicFilter, unfit

MAX_REQUESTS = 512
"""Requests of one source that wait for their answers, or whose answers wait to be acknowledged; more are told `busy`."""
MAX_BYTES = 1024
"""Response Topic and Correlation Data together, which are kept for this long."""
S = 10**9

Send = Callable[[Message], None]


class Counts:
    """`asked == answered + failed(by code) + superseded + waiting`, always. `forbidden` counts Response Topics that are not
    allowed, on inputs like any other. `replies` is the ledger of the messages."""

    def __init__(self, name: str) -> None:
        self.asked = 0
        self.answered = 0
        self.failed: dict[str, int] = {}
        self.superseded = 0
        self.waiting = 0
        self.forbidden = Drops(name)
        self.replies = PublishCounts(name)

    def balance(self) -> int:
        """Zero, always."""
        return self.asked - self.answered - sum(self.failed.values()) - self.superseded - self.waiting


class Ask(Receipt):
    """One request. `of` is the receipt of its PUBLISH, held until the answer is settled."""

    __slots__ = ("_arrival", "_request", "_send", "due", "is_open", "of", "qos", "replies")
    is_request = True

    def __init__(self, request: Request, of: Receipt, qos: int, now: int, send: Send, replies: Replies) -> None:
        super().__init__(of.mid, of.is_again)
        of.hold()
        self.of = of
        self.qos = qos
        self.replies = replies
        self.is_open = True
        """Nothing was said yet."""
        self.due = None if request.expiry_s is None else now + request.expiry_s * S
        self._arrival = now
        self._request = request
        self._send = send

    def done(self) -> None:
        if self.owed == 1:
            self.fail("no_result", "the input gave no result")
        self.owed -= 1
        if self.owed == 0:
            self.of.done()
            self.replies.end(self)

    def answer(self, body: bytes, is_json: bool, now: int) -> None:
        """The result, as an encoder gives it. Too late it is none any more."""
        if self.due is not None and now >= self.due:
            self.expire()
        elif self.is_open:
            self._close()
            self.replies.counts.answered += 1
            left_s = None if self.due is None else -(-(self.due - now) // S)
            self._say(body, is_json, left_s)

    def fail(self, code: str, why: str) -> None:
        """There will be no result."""
        if self.is_open:
            self._close()
            failed = self.replies.counts.failed
            failed[code] = failed.get(code, 0) + 1
            self._say(encode_error(code, why), False, None)

    def tell(self, partial: bytes) -> None:
        """What there is so far, at QoS 0: the whole comes behind it, with the same Correlation Data."""
        if self.is_open:
            properties = reply_properties(self._request.correlation, None)
            self._send(Message(self._request.topic, partial, is_reply=True, properties=properties))

    def expire(self) -> None:
        self.fail("expired", "it took longer than the message expiry interval of the request")

    def supersede(self) -> None:
        """The broker sends the request again, and that one is answered."""
        if self.is_open:
            self._close()
            self.replies.counts.superseded += 1

    def _close(self) -> None:
        self.is_open = False
        self.replies.counts.waiting -= 1

    def _say(self, body: bytes, is_json: bool, expiry_s: int | None) -> None:
        account = self.replies.counts.replies
        account.made += 1
        self.hold()
        self._send(
            Message(
                self._request.topic,
                body,
                self.qos,
                is_json=is_json,
                arrival=self._arrival,
                receipt=self,
                account=account,
                is_reply=True,
                properties=reply_properties(self._request.correlation, expiry_s),
            )
        )


class Replies:
    """The requests of one source. `alarm` calls `look` back at a time (monotonic ns)."""

    def __init__(self, name: str, alarm: Callable[[int], None]) -> None:
        self.counts = Counts(name)
        self._on_expired: Callable[[set[Receipt]], object] = lambda _: None
        self._alarm = alarm
        self._asks: dict[Ask, None] = {}
        self._filters: Sequence[TopicFilter] = ()
        self._send: Send

    def configure(
        self, filters: Sequence[TopicFilter], send: Send, on_expired: Callable[[set[Receipt]], object] = lambda _: None
    ) -> None:
        """Where answers may go from now on, and by which link. `on_expired` gets the requests that nobody wants answered any
        more, though they may still wait for a run."""
        self._filters = filters
        self._send = send
        self._on_expired = on_expired

    def ask(self, properties: bytes, receipt: Receipt, qos: int, now: int) -> Ask | None:
        """The debt of an answer to a PUBLISH with these properties, held by the caller; None if it is an input like any other.
        Where there are too many it is refused at once: then it is not `is_open`."""
        request = read_request(properties)
        if request is None:
            return None
        why = self._refusal(request)
        if why:
            topic = request.topic[:200].decode(errors="replace")
            self.counts.forbidden.add("forbidden", topic=topic, why=why)
            return None
        ask = Ask(request, receipt, qos, now, self._send, self)
        self.counts.asked += 1
        self.counts.waiting += 1
        if len(self._asks) >= MAX_REQUESTS:
            ask.fail("busy", f"{MAX_REQUESTS} requests are being answered; try again later")
            return ask
        self._asks[ask] = None
        if ask.due is not None:
            self._alarm(ask.due)
        return ask

    def end(self, ask: Ask) -> None:
        """It is answered, and the answer is settled."""
        self._asks.pop(ask, None)

    def look(self, now: int) -> None:
        """Tells those whose time is over."""
        late = {ask for ask in self._asks if ask.is_open and ask.due is not None and ask.due <= now}
        for ask in late:
            ask.expire()
        self._on_expired(set(late))
        if due := [ask.due for ask in self._asks if ask.is_open and ask.due is not None]:
            self._alarm(min(due))

    def supersede(self, receipts: AbstractSet[Receipt]) -> set[Receipt]:
        """The requests whose PUBLISHes are sent again: nothing is said of them here."""
        mine = {ask for ask in self._asks if ask.of in receipts}
        for ask in mine:
            ask.supersede()
        return set(mine)

    def stop(self) -> None:
        """The process ends."""
        for ask in list(self._asks):
            ask.fail("shutdown", "edged was stopped")

    def _refusal(self, request: Request) -> str:
        """Why no answer goes where this one is wanted; empty if it may."""
        topic = request.topic.decode()
        if not topic:
            return "the Response Topic is empty"
        if "+" in topic or "#" in topic:
            return "the Response Topic has a wildcard"
        if found := unfit(topic):
            return f"the Response Topic has {found}, which brokers refuse"
        if topic.startswith("$"):
            return "topics that begin with $ belong to the broker"
        if not any(f.match(topic) is not None for f in self._filters):
            return "reply does not allow this Response Topic"
        if len(request.topic) + len(request.correlation or b"") > MAX_BYTES:
            return f"Response Topic and Correlation Data are more than {MAX_BYTES} bytes"
        return ""
