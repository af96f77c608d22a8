"""One broker for the rest of the daemon: takes messages, and connects, serves and comes back for ever.

The link owns what outlives a connection: the outbox and backlog (the Sender's), the debts (the Receiver's), the retry policy, the
state that is shown. What happens on one connection is in `connection.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from edged.clock.clock import Clock
from edged.errors import Retryable
from edged.mqtt.ack_watch import AckWatch
from edged.mqtt.channel import HungUp, Stream
from edged.mqtt.connect import Connector
from edged.mqtt.connection import Connection
from edged.mqtt.dialect import Dialect
from edged.mqtt.frames import Inbound
from edged.mqtt.outbox import Outbox
from edged.mqtt.receipts import Ledger
from edged.mqtt.receiver import Failures, Receiver
from edged.mqtt.retry import Again, OtherVersion, RetryPolicy
from edged.mqtt.sender import ENDS_CONNECTION, Backlog, Sender
from edged.mqtt.settings import LinkCounts, LinkSettings, Subscription
from edged.mqtt.subscriptions import KnownFilters
from edged.mqtt.suspects import Suspects
from edged.records import Message, Receipt

__all__ = ["Inbound", "Link", "LinkCounts", "LinkSettings", "Subscription"]

GOODBYE_S = 0.25  # for the broker to close first: closing on unread input could overtake our last words
AWAY_S = 0.25  # so long messages wait for the broker in memory: a blip, or a start, need not touch the disk


def _discard(opening: asyncio.Future[Any]) -> None:
    """Nobody waits for it any more; it may have connected all the same."""
    if not opening.cancelled() and not opening.exception():
        opening.result().close()


class End(NamedTuple):
    """How a connection ended. `error`: why, None for a goodbye; `lived_s`: how long it served; `culprit`: the topic of the
    message that the broker ended it over, where that is certain; `was_answered`: CONNECT was, None where it was not sent."""

    error: Retryable | None
    lived_s: float = 0.0
    culprit: str | None = None
    was_answered: bool | None = None


class Standing:
    """The state of a link and why, for a person; logged where it is news."""

    def __init__(self, log: Any) -> None:
        self.state = "connecting"
        self.reason = ""
        self.log = log

    def show(self, state: str, reason: str, **details: Any) -> None:
        if (state, reason) == (self.state, self.reason):
            return
        self.state, self.reason = state, reason
        log = self.log.info if state in ("connected", "stopped") else self.log.warning
        log("broker", state=state, **({"reason": reason} if reason else {}), **details)


class Life:
    """What `run` and `close` tell each other. The futures are made by `begin`, since they belong to a loop."""

    def __init__(self) -> None:
        self.is_closing = False
        self.has_begun = False
        self.leaving: asyncio.TimerHandle | None = None
        """When the broker counts as away."""
        self.loop: asyncio.AbstractEventLoop
        self.closing: asyncio.Future[Any]
        self.giving_up: asyncio.Future[Any]
        self.changed: asyncio.Future[Any]
        self.drained: asyncio.Future[Any]
        self.finished: asyncio.Future[Any]

    def begin(self) -> None:
        self.loop = loop = asyncio.get_running_loop()
        self.closing, self.giving_up, self.changed = (loop.create_future() for _ in range(3))
        self.drained, self.finished = loop.create_future(), loop.create_future()
        self.has_begun = True


def _set(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)


class Link:
    """One broker connection.

    `on_publishes` gets the messages of one read as a list of `Inbound`; it is called on the loop's thread, may call
    `send`, and calls `done` for each receipt, unless it raises. `on_superseded`, if set, is called at a CONNACK of a broker
    that kept our session with the receipts of the inputs that it will send again, though they still wait somewhere. `state`
    is one of connecting, connected, degraded, refused, unreachable, unresolved, timeout, tls, files, auth, taken_over, protocol,
    unacknowledged, lost, stopped; `reason` is a sentence for a person, empty when all is well. `known` is the list of what the
    broker may have subscribed for us, None to do without. `backlog` is where messages of QoS 1 wait
    while the broker is away, None without a spool. `suspects` and `on_poison` are for the `Receiver`.
    """

    def __init__(
        self,
        settings: LinkSettings,
        on_publishes: Callable[[list[Inbound]], None],
        clock: Clock,
        log: Any,
        backlog: Backlog | None = None,
        known: KnownFilters | None = None,
        suspects: Suspects | None = None,
        on_poison: Callable[[Inbound], None] = lambda publish: None,
    ) -> None:
        self.settings = settings
        self._on_superseded: Callable[[set[Receipt]], None] = lambda receipts: None
        self.counts = LinkCounts()
        self.clock = clock
        self.known = known
        self.standing = Standing(log.bind(broker=settings.name))
        self.receiver = Receiver(settings, self.counts, on_publishes, clock, self.standing.log, suspects, on_poison)
        outbox = Outbox(settings.outbox_items, settings.outbox_bytes, backlog.hand_over if backlog is not None else None)
        failures = Failures(self.counts, clock, self.standing.log)
        self.sender = Sender(outbox, settings.inflight, settings.is_v5, backlog, lambda message: failures.tell(message.topic))
        if backlog is not None:
            backlog.on_room = self.tell_waiters
        self.retry = RetryPolicy(settings)
        self._dialect = Dialect(settings)
        self.acks = AckWatch()
        self._connector = Connector(settings)
        self.waiters: dict[Callable[[], None], None] = {}
        self._connection: Connection | None = None
        self._life = Life()

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def state(self) -> str:
        return self.standing.state

    @property
    def reason(self) -> str:
        return self.standing.reason

    @property
    def ledger(self) -> Ledger:
        return self.receiver.ledger

    @property
    def outbox(self) -> Outbox:
        return self.sender.outbox

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and self._connection.is_connected

    # For the pipeline

    def connect(self, on_superseded: Callable[[set[Receipt]], None]) -> None:
        """`on_superseded` is called at a CONNACK of a broker that kept our session with the receipts of the inputs that it will
        send again, though they still wait somewhere."""
        self._on_superseded = on_superseded

    def send(self, message: Message) -> None:
        """Takes a message, and into the outbox where it has to wait; it leaves at the end of the turn, or when the broker is
        there. The maker has counted it as `made` and holds its receipt for it; the link keeps the rest of the account and
        lets go."""
        connection = self._connection
        if connection is not None:
            if connection.frame_now((message,)):
                return
            if self.outbox.would_drop(message):
                connection.send_now()
        self.sender.put(message)
        if connection is None:
            if self.state == "stopped":
                self.outbox.abandon()
        elif not connection.is_flush_due:
            connection.flush_soon()

    def frame_now(self, messages: Sequence[Message]) -> int:
        """Sends the first of the messages, as far as they would wait for nothing; returns how many. The others are for `send`."""
        return self._connection.frame_now(messages) if self._connection is not None else 0

    def room(self, size: int) -> int:
        """How many more messages of `size` bytes (`Message.size`) somebody who can wait may send now."""
        return self.sender.room(size)

    def when_room(self, callback: Callable[[], None]) -> None:
        """Calls back once, in a later turn, when there is room again."""
        self.waiters[callback] = None

    @property
    def is_stalled(self) -> bool:
        """Whether nothing leaves: the broker is away, and there is no spool, or its disk takes nothing."""
        backlog = self.sender.backlog
        return not self.is_connected and (backlog is None or backlog.is_failing)

    @property
    def can_hold(self) -> bool:
        """Whether what is held back outlives a crash."""
        return self.sender.backlog is not None

    def hold(self, message: Message, due: int, before: Message | None) -> None:
        """Keeps on disk what is held back until `due` (monotonic ns) and `send` then, in the place of the one `before`."""
        assert self.sender.backlog is not None
        self.sender.backlog.hold(message, due, before)

    def supersede(self, topic: bytes, before: Message | None) -> None:
        """Nothing is held back for the topic any more: neither what was `before`, nor what a crash left."""
        assert self.sender.backlog is not None
        self.sender.backlog.supersede(topic, before)

    def send_left(self) -> None:
        """At a stop: what a crash left of what was held back goes now, as all that is."""
        backlog = self.sender.backlog
        for message in backlog.take_left() if backlog is not None and self.is_connected else ():
            self.send(message)

    def settle(self) -> None:
        """To be called where receipts were let go outside of `on_publishes`: what is due is acknowledged at the end of
        this turn. Without it, within 5 ms."""
        if self.ledger.is_due:
            self._flush_soon()

    def configure(self, settings: LinkSettings) -> None:
        """Goes on with other settings. What is subscribed, and how much may wait, changes on the connection there is; for
        anything else there is a new one, and what waits, or was not acknowledged, is sent on that."""
        before, self.settings = self.settings, settings
        if settings == before:
            return
        connection = self._connection
        self.outbox.max_items, self.outbox.max_bytes = settings.outbox_items, settings.outbox_bytes
        if settings.is_same_connection(before):
            self._dialect.follow(settings)
            if connection is not None and connection.is_connected:
                connection.change_subscriptions(settings.subscriptions)
            return
        self._connector, self.retry, self._dialect = Connector(settings), RetryPolicy(settings), Dialect(settings)
        if self.known is not None:
            self.known.belong_to(settings.client_id)
        self.receiver.configure(settings)
        self.sender.configure(settings.is_v5)  # as it does for `auto` in the beginning
        if connection is not None:
            if connection.is_connected:
                connection.say_goodbye()
            connection.end(Again("lost", "its settings were changed"))
        if self._life.has_begun:
            _set(self._life.changed)

    def drop_caches(self) -> None:
        """Forgets topics seen before; they are learnt again."""
        self.sender.drop_caches()
        if self._connection is not None:
            self._connection.parser.drop_caches()

    # Life

    async def run(self) -> None:
        """Connects, serves and reconnects until `close`. Cancelling it drops the connection without a goodbye."""
        life = self._life
        life.begin()
        self._leave_soon()
        try:
            while not life.is_closing:
                end = await self._attempt()
                error, lived_s, culprit, _ = end
                if error is None or life.is_closing:
                    break
                if self._learns(end):
                    continue
                wait_s = self.retry.next_s(error, lived_s)
                reason = self.retry.explain(error, lived_s, culprit, self.sender.suspicion.is_careful)
                self.show(error.state, reason, retry_s=round(wait_s, 3))
                life.changed = life.loop.create_future()
                await asyncio.wait({life.closing, life.changed}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stay()
            life.finished.set_result(None)

    async def close(self, timeout_s: float) -> None:
        """Sends what waits, says goodbye and ends `run`, within `timeout_s`. While the broker is away there is nothing to
        wait for. What is left goes to the spool, or is counted as `shutdown`."""
        life = self._life
        life.is_closing = True
        if self.sender.backlog is not None:
            self.sender.backlog.pause()
        if life.has_begun and not life.finished.done():
            deadline = life.loop.time() + timeout_s
            _set(life.closing)
            self._flush_soon()
            await asyncio.wait({life.drained, life.finished}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if self.is_connected:
                await self._say_goodbye(deadline)
            _set(life.giving_up)
            await asyncio.wait({life.finished})
        self.sender.abandon()
        self.show("stopped", "")

    async def leave_groups(self, timeout_s: float) -> None:
        """Before a stop: the broker deals us nothing more of what a group shares, and what it had dealt us is handled. What is
        not within `timeout_s` stays with the broker, for the next start."""
        own = tuple(s for s in self.settings.subscriptions if not s.is_shared)
        if own == self.settings.subscriptions or not self.is_connected:
            return
        self.configure(replace(self.settings, subscriptions=own))
        loop = asyncio.get_running_loop()
        deadline, seen = loop.time() + timeout_s, -1
        while loop.time() < deadline:
            connection = self._connection  # there may be a new one, which brings what the last one left with the broker
            if connection is not None and connection.is_connected and connection.owes_nothing:
                if self.counts.received == seen:
                    return
                seen = self.counts.received
                connection.ask_whether_more()
            await asyncio.sleep(0.005)  # acknowledgements follow runs, which end in callbacks; this is a stop

    async def _say_goodbye(self, deadline: float) -> None:
        connection = self._connection
        assert connection
        connection.is_leaving = connection.is_flush_due = True
        connection.say_goodbye(self.settings.status_topic)
        patience_s = min(GOODBYE_S, deadline - self._life.loop.time())
        await asyncio.wait({connection.ended}, timeout=max(0.0, patience_s))
        connection.end(None)

    async def _attempt(self) -> End:
        """One connection from look-up to loss."""
        loop, settings = self._life.loop, self.settings
        started = loop.time()
        try:
            stream = await self._open()
        except Retryable as error:
            return End(error)
        except OSError as error:
            return End(Retryable("unreachable", f"cannot open a socket: {error}"))
        if stream is None:
            return End(None)
        if not settings.is_same_connection(self.settings):
            stream.close()
            return End(Again("lost", "its settings were changed"))
        self._speak(self._dialect.settings)
        self._connection = connection = Connection(self, stream, self._dialect.settings)
        why: Retryable | None = None
        culprit = None
        try:
            connection.open(started + self.settings.connect_timeout_s)
            await asyncio.wait({connection.ended, self._life.giving_up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if connection.ended.done() and not connection.ended.cancelled():
                why = connection.ended.result()
            culprit = self._forget(connection, why)
        lived_s = loop.time() - connection.connected_at if connection.is_connected else 0.0
        return End(why, lived_s, culprit, connection.session.was_answered)

    def _speak(self, settings: LinkSettings) -> None:
        """What is framed from now on is for a connection of that version."""
        if self.sender.is_v5 != settings.is_v5:
            self.sender.configure(settings.is_v5)

    def _learns(self, end: End) -> bool:
        """Whether what the end of a connection tells of the broker is to be tried at once."""
        error, dialect = end.error, self._dialect
        if error is None or end.was_answered is None:
            return False
        is_silence = isinstance(error, HungUp) or error.state == "timeout"
        if not (end.was_answered or is_silence or isinstance(error, OtherVersion)):
            return False
        before = dialect.settings
        if not dialect.ended(error, end.was_answered) or dialect is not self._dialect:
            return False
        what = "no retained messages" if dialect.settings.version == before.version else f"MQTT {dialect.settings.version}"
        self.standing.log.info("broker_retry", trying=what, reason=error.reason)
        return True

    async def _open(self) -> Stream | None:
        """A connected stream, or None when `close` loses patience."""
        opening: asyncio.Task[Any] = self._life.loop.create_task(
            self._connector.open(self.settings.connect_timeout_s), name=f"connect:{self.settings.name}"
        )
        sock = None
        try:
            await asyncio.wait({opening, self._life.giving_up}, return_when=asyncio.FIRST_COMPLETED)
            sock = opening.result() if opening.done() else None
            return sock
        finally:
            if sock is None:
                opening.cancel()
                opening.add_done_callback(_discard)

    def _forget(self, connection: Connection, error: Retryable | None) -> str | None:
        """The connection is over: debts are cancelled, what was in flight waits for the next one. Returns the topic of the
        message that it ended over, where that is certain."""
        self._connection = None
        connection.close()
        self.receiver.lost()
        culprit = self.sender.lost(isinstance(error, HungUp), self.clock.now())
        topic = None if culprit is None else culprit.topic.decode(errors="replace")
        if culprit is not None:
            self.standing.log.error("message_refused", topic=topic, qos=culprit.qos, body=culprit.body[:64], why=ENDS_CONNECTION)
        if self.sender.backlog is not None:
            self.sender.backlog.pause()
        self._leave_soon()
        return topic

    def _leave_soon(self) -> None:
        """The broker is not there. Unless it comes back at once, messages go to the spool, and replies nowhere."""
        if self._life.leaving is None and not self.sender.is_away:
            self._life.leaving = self._life.loop.call_later(AWAY_S, self._leave)

    def _leave(self) -> None:
        self._life.leaving = None
        self.sender.leave()
        self.tell_waiters()

    def _stay(self) -> None:
        """The broker is there again, or nobody asks any more."""
        if self._life.leaving is not None:
            self._life.leaving.cancel()
            self._life.leaving = None

    def _flush_soon(self) -> None:
        if self._connection is not None:
            self._connection.flush_soon()

    # For its connection

    @property
    def is_closing(self) -> bool:
        return self._life.is_closing

    def begin(self, is_session_present: bool) -> None:
        """A broker has taken us in."""
        self._stay()
        backlog = self.sender.backlog
        if backlog is not None and not self.is_closing:
            backlog.on_ready = self._flush_soon
            backlog.begin()
        stale = self.ledger.take_stale()
        if stale and is_session_present:
            self._on_superseded(stale)

    def tell_waiters(self) -> None:
        """Calls back those who wait for room, if there is some."""
        if self.waiters and self.sender.has_room:
            waiters, self.waiters = self.waiters, {}
            for callback in waiters:
                self._life.loop.call_soon(callback)

    def drained(self) -> None:
        """At a close: nothing is left to send."""
        _set(self._life.drained)

    def show(self, state: str, reason: str, **details: Any) -> None:
        """Shows a state, and logs it where it is news."""
        self.standing.show(state, reason, **details)

    def fault(self, error: Exception) -> Retryable:
        """A fault of our own: why the connection ends. The link lives on with a new one; it must not stand still in silence."""
        self.counts.failures += 1
        self.standing.log.exception("link_failed")
        return Retryable("lost", f"connection dropped after a fault in edged: {error!r}")
