"""One broker connection: connects, serves, and comes back for ever.

    Channel -> one read a wake-up -> FrameParser -> PUBLISH -> Receiver -> on_publishes (one list a read)
                                                 -> PUBACK  -> Sender
                                                 -> others  -> Session (paho)
    Receiver, Sender, Session -> one buffer -> one send a turn -> Channel

The backlog is the Sender's, the debts are the Receiver's, the housekeeping is paho's; the Link decides when. The socket is
always read, also when output is stuck, because acknowledgements come down it; but for the turns that it takes to handle a
storm of packets that was read. A turn ends with the acknowledgements that
are due, then messages; when the kernel does not take them, no more than `BUFFER_BYTES` are framed and the rest waits in
the outbox.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edged.clock.backoff import Backoff
from edged.clock.clock import Clock
from edged.errors import Retryable
from edged.mqtt.channel import Channel, HungUp
from edged.mqtt.connect import Connector, Refusal
from edged.mqtt.frames import PROTOCOL_ERROR, TOO_MANY, FrameParser, FrameWriter, Inbound, ProtocolError
from edged.mqtt.outbox import Outbox
from edged.mqtt.receiver import Receiver
from edged.mqtt.sender import ENDS_CONNECTION, Backlog, Granted, Sender
from edged.mqtt.session import (
    Connected,
    Ended,
    Event,
    Malformed,
    Pinged,
    Refused,
    Session,
    Silent,
    Subscribed,
    Unasked,
    Unsubscribed,
)
from edged.mqtt.settings import LinkCounts, LinkSettings, Subscription
from edged.mqtt.subscriptions import KnownFilters
from edged.mqtt.suspects import Suspects
from edged.records import Message, Receipt

__all__ = ["Inbound", "Link", "LinkCounts", "LinkSettings", "Subscription"]

BUFFER_BYTES = 1 << 18  # framed bytes held for the socket
TICK_S = 0.5
GOODBYE_S = 0.25  # for the broker to close first: closing on unread input could overtake our last words
SETTLE_S = 0.005  # how long a receipt that was let go in somebody else's turn may wait for its acknowledgement
RESEND_S = 1.0  # before a message is sent again that the broker refused for the time being
AWAY_S = 0.25  # so long messages wait for the broker in memory: a blip, or a start, need not touch the disk
SHORT_LIFE_S, SHORT_LIVES = 5.0, 3
AGAIN_S = 0.05  # before a connection that we ended ourselves to be sent what was left with the broker
GOOD_SERVICE_S = 60.0
CAREFUL_S = 30.0  # for messages at QoS 0 that follow each other slowly to pass one at a time
PATIENCE_S = 2.0  # a broker that ends the connection over a message does so at once
UNACKNOWLEDGED_S = 30.0  # at least; else twice the keepalive
UNASKED_MOST = 4096  # answers to nothing between two ticks
BAD_LOGIN = (0x86, 0x87, 0x8C)  # bad user name or password, not authorised, bad authentication method
TAKEN_OVER = 0x8E
# Reasons of a DISCONNECT that may be one message: unspecified, malformed, protocol error, implementation specific, not
# authorised, topic, alias, size, payload, retain, QoS. The others speak of the server, of us or of a pace.
OVER_A_MESSAGE = (0x80, 0x81, 0x82, 0x83, 0x87, 0x90, 0x94, 0x95, 0x99, 0x9A, 0x9B)
ACKNOWLEDGEMENTS = ""  # among the faults of a connection, where the others are those of filters


class Again(Retryable):
    """We ended the connection so that the next one brings what was left with the broker."""


class Unanswered(Retryable):
    """We ended the connection, since the broker did not answer: another client has no part in that."""


class Unacknowledged(Unanswered):
    """We ended the connection, since the broker acknowledged nothing. `has_begun`: it had, before, on that connection."""

    def __init__(self, reason: str, has_begun: bool) -> None:
        super().__init__("unacknowledged", reason)
        self.has_begun = has_begun


class Ladders:
    """How long to wait before the next attempt, by how the last ones ended. `short_lives` counts connections that ended
    within seconds, since one that served well: most often two clients of one name that end each other."""

    def __init__(self, settings: LinkSettings) -> None:
        first, cap = settings.refused_retry_s
        self._usual = Backoff(settings.retry_s, settings.retry_s)
        self._refused = Backoff(first, cap, first)
        self._unacknowledged = Backoff(first, cap, first)
        self.short_lives = 0

    def next_s(self, error: Retryable, lived_s: float) -> float:
        """`lived_s` counts from CONNACK; 0 if there was none."""
        if isinstance(error, Again):
            return AGAIN_S
        if isinstance(error, Unacknowledged):
            if error.has_begun:
                self._unacknowledged.reset()
            return self._unacknowledged.next_s()
        if lived_s >= GOOD_SERVICE_S:
            self._refused.reset()
            self.short_lives = 0
        elif 0 < lived_s < SHORT_LIFE_S and not isinstance(error, Unanswered):
            self.short_lives += 1
        if isinstance(error, Refusal) or self.short_lives >= SHORT_LIVES:
            return self._refused.next_s()
        return self._usual.next_s()


@dataclass(slots=True)
class Connection:
    """One life of the link, from socket to loss. `ended` gets the reason, None for a goodbye."""

    channel: Channel
    session: Session
    parser: FrameParser
    ended: asyncio.Future[Any]
    connected_at: float = 0.0
    bytes_seen: int = 0
    is_leaving: bool = False
    faults: dict[str, str] = field(default_factory=dict)
    refused: dict[str, Backoff] = field(default_factory=dict)
    """When to subscribe again to what was refused, by filter."""
    unasked: int = 0
    """Answers to nothing since the last tick."""
    is_owed: bool = False
    owed_since: float = 0.0
    """When the broker last acknowledged something, or owed no acknowledgement, or took in what it is to acknowledge."""
    owed_bytes: int = 0
    """What it is to acknowledge ends here, in bytes of the link."""
    delivered: int = 0
    has_acknowledged: bool = False
    patience: asyncio.TimerHandle | None = None
    """For the answer to a ping."""

    @property
    def is_connected(self) -> bool:
        return self.connected_at > 0.0


def _discard(opening: asyncio.Future[Any]) -> None:
    """Nobody waits for it any more; it may have connected all the same."""
    if not opening.cancelled() and not opening.exception():
        opening.result().close()


class Link:
    """One broker connection. Long, because it is the one place where the order of things is decided; each thing is done
    by one of its parts.

    `on_publishes` gets the messages of one read as a list of `Inbound`; it is called on the loop's thread, may call
    `send`, and calls `done` for each receipt, unless it raises. `state`
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
        self.name = settings.name
        self._on_superseded: Callable[[set[Receipt]], None] = lambda receipts: None
        self.state = "connecting"
        self.reason = ""
        self.counts = LinkCounts()
        self._clock = clock
        self._log = log.bind(broker=settings.name)
        self.receiver = Receiver(settings, self.counts, on_publishes, clock, self._log, suspects, on_poison)
        self.ledger = self.receiver.ledger
        self._backlog = backlog
        self._known = known
        self._is_awake = False  # inputs are being handled
        self._has_answered = False
        self._waiters: dict[Callable[[], None], None] = {}
        self.outbox = Outbox(settings.outbox_items, settings.outbox_bytes, backlog.hand_over if backlog is not None else None)
        self.sender = Sender(self.outbox, settings.inflight, settings.is_v5, backlog)
        if backlog is not None:
            backlog.on_room = self._tell_waiters
        self._connector = Connector(settings)
        self._ladders = Ladders(settings)
        self._takeovers: deque[float] = deque(maxlen=100)
        self._unacknowledged = ""
        """Why the last connection was given up, until something is acknowledged."""
        self._culprit: str | None = None
        """The topic of the message that the last connection was ended over."""
        self._connection: Connection | None = None
        self._is_flush_due = True  # True also while not connected or waiting for the kernel: somebody else will flush
        self._is_settle_due = False
        self._is_closing = False
        self._leaving: asyncio.TimerHandle | None = None
        # Set by run(), which is where the loop is known.
        self._loop: asyncio.AbstractEventLoop
        self._closing: asyncio.Future[None] | None = None
        self._giving_up: asyncio.Future[Any]
        self._changed: asyncio.Future[None]
        self._drained: asyncio.Future[None]
        self._finished: asyncio.Future[None]

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and self._connection.is_connected

    # For the pipeline

    def connect(self, on_superseded: Callable[[set[Receipt]], None]) -> None:
        """`on_superseded` is called at a CONNACK of a broker that kept our session with the receipts of the inputs that it will
        send again, though they still wait somewhere."""
        self._on_superseded = on_superseded

    def send(self, message: Message) -> None:
        """Takes a message into the outbox; it leaves at the end of the turn, or when the broker is there. The maker
        has counted it as `made` and holds its receipt for it; the link keeps the rest of the account and lets go."""
        self.sender.put(message)
        if self.state == "stopped":
            self.outbox.abandon()
        elif self._is_awake:
            self._has_answered = True
        elif not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def room(self, size: int) -> int:
        """How many more messages of `size` bytes (`Message.size`) somebody who can wait may send now."""
        return self.sender.room(size)

    def when_room(self, callback: Callable[[], None]) -> None:
        """Calls back once, in a later turn, when there is room again."""
        self._waiters[callback] = None

    @property
    def is_stalled(self) -> bool:
        """Whether nothing leaves: the broker is away, and there is no spool, or its disk takes nothing."""
        return not self.is_connected and (self._backlog is None or self._backlog.is_failing)

    @property
    def can_hold(self) -> bool:
        """Whether what is held back outlives a crash."""
        return self._backlog is not None

    def hold(self, message: Message, due: int, before: Message | None) -> None:
        """Keeps on disk what is held back until `due` (monotonic ns) and `send` then, in the place of the one `before`."""
        assert self._backlog is not None
        self._backlog.hold(message, due, before)

    def supersede(self, topic: bytes, before: Message | None) -> None:
        """Nothing is held back for the topic any more: neither what was `before`, nor what a crash left."""
        assert self._backlog is not None
        self._backlog.supersede(topic, before)

    def send_left(self) -> None:
        """At a stop: what a crash left of what was held back goes now, as all that is."""
        for message in self._backlog.take_left() if self._backlog is not None and self.is_connected else ():
            self.send(message)

    def _tell_waiters(self) -> None:
        if self._waiters and self.sender.has_room:
            waiters, self._waiters = self._waiters, {}
            for callback in waiters:
                self._loop.call_soon(callback)

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
            if connection is not None and connection.is_connected:
                self._resubscribe(connection, before.subscriptions)
            return
        self._connector, self._ladders = Connector(settings), Ladders(settings)
        if self._known is not None:
            self._known.belong_to(settings.client_id)
        self.receiver.configure(settings)
        self.sender.configure(settings.is_v5)
        if connection is not None and connection.is_connected:
            FrameWriter.pubacks(connection.channel.out, self.ledger.take_settled())
            connection.session.disconnect()
            connection.channel.flush()
        self._end(Again("lost", "its settings were changed"))
        if self._closing is not None and not self._changed.done():
            self._changed.set_result(None)

    def _resubscribe(self, connection: Connection, before: Sequence[Subscription]) -> None:
        wanted = {s.filter for s in self.settings.subscriptions}
        for gone in before:
            if gone.filter not in wanted:
                connection.session.unsubscribe(gone.filter)
                for known in (connection.faults, connection.refused):
                    known.pop(gone.filter, None)
        if self._known is not None:
            self._known.add(wanted)
        for subscription in self.settings.subscriptions:
            if subscription not in before:
                connection.session.subscribe(subscription)
        self._say_faults(connection)
        self._flush_soon()

    def drop_caches(self) -> None:
        """Forgets topics seen before; they are learnt again."""
        self.sender.drop_caches()
        if self._connection is not None:
            self._connection.parser.drop_caches()

    # Life

    async def run(self) -> None:
        """Connects, serves and reconnects until `close`. Cancelling it drops the connection without a goodbye."""
        self._loop = loop = asyncio.get_running_loop()
        self._closing, self._giving_up, self._changed = (loop.create_future() for _ in range(3))
        self._drained, self._finished = loop.create_future(), loop.create_future()
        self._leave_soon()
        try:
            while not self._is_closing:
                error, lived_s = await self._attempt()
                if error is None or self._is_closing:
                    break
                wait_s = self._ladders.next_s(error, lived_s)
                reason = error.reason
                is_ended = error.state == "lost" and not isinstance(error, Unanswered)
                if self._culprit is not None:
                    reason += f", as it does over a message to {self._culprit}: that is dropped"
                    self._culprit, self._ladders.short_lives = None, 0
                elif self.sender.suspicion.is_careful:
                    reason += (
                        ", again with messages on their way: they go one at a time, to find the one that the broker does not take"
                    )
                elif lived_s and is_ended and self._ladders.short_lives >= SHORT_LIVES:  # older brokers do not say why
                    reason += f", {self._ladders.short_lives} times soon after connecting: does another client have the name "
                    reason += f"{self.settings.client_id}? Then set device.id or client_id apart"
                self._say(error.state, reason, retry_s=round(wait_s, 3))
                self._changed = loop.create_future()
                await asyncio.wait({self._closing, self._changed}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._leave_later()
            self._finished.set_result(None)

    async def close(self, timeout_s: float) -> None:
        """Sends what waits, says goodbye and ends `run`, within `timeout_s`. While the broker is away there is nothing to
        wait for. What is left goes to the spool, or is counted as `shutdown`."""
        self._is_closing = True
        if self._backlog is not None:
            self._backlog.pause()
        if self._closing is not None and not self._finished.done():
            deadline = self._loop.time() + timeout_s
            if not self._closing.done():
                self._closing.set_result(None)
            self._flush_soon()
            await asyncio.wait({self._drained, self._finished}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if self.is_connected:
                await self._say_goodbye(deadline)
            if not self._giving_up.done():
                self._giving_up.set_result(None)
            await asyncio.wait({self._finished})
        self.sender.abandon()
        self._say("stopped", "")

    async def _say_goodbye(self, deadline: float) -> None:
        connection = self._connection
        assert connection
        out = connection.channel.out
        FrameWriter.pubacks(out, self.ledger.take_settled())
        if self.settings.status_topic:
            self.sender.write_status(out, self.settings.status_topic, b"stopped")
        connection.session.disconnect()
        connection.is_leaving = self._is_flush_due = True
        connection.channel.flush()
        patience_s = min(GOODBYE_S, deadline - self._loop.time())
        await asyncio.wait({connection.ended}, timeout=max(0.0, patience_s))
        self._end(None)

    async def _attempt(self) -> tuple[Retryable | None, float]:
        """One connection from look-up to loss: why it ended, None for a goodbye, and how long it served, in seconds."""
        started, settings = self._loop.time(), self.settings
        try:
            sock = await self._open()
        except Retryable as error:
            return error, 0.0
        except OSError as error:
            return Retryable("unreachable", f"cannot open a socket: {error}"), 0.0
        if sock is None:
            return None, 0.0
        if not settings.is_same_connection(self.settings):
            sock.close()
            return Again("lost", "its settings were changed"), 0.0
        connection = self._make_connection(sock)
        timers = [self._loop.call_at(started + self.settings.connect_timeout_s, self._on_no_connack, connection)]
        try:
            connection.channel.open()
            connection.session.connect()
            connection.channel.flush()
            timers.append(self._loop.call_later(TICK_S, self._tick, connection, timers))
            await asyncio.wait({connection.ended, self._giving_up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for timer in timers:
                timer.cancel()
            self._forget(connection)
        lived_s = self._loop.time() - connection.connected_at if connection.is_connected else 0.0
        return (connection.ended.result() if connection.ended.done() else None), lived_s

    async def _open(self) -> socket.socket | None:
        """A connected socket, or None when `close` loses patience."""
        opening: asyncio.Task[Any] = self._loop.create_task(
            self._connector.open(self.settings.connect_timeout_s), name=f"connect:{self.settings.name}"
        )
        sock = None
        try:
            await asyncio.wait({opening, self._giving_up}, return_when=asyncio.FIRST_COMPLETED)
            sock = opening.result() if opening.done() else None
            return sock
        finally:
            if sock is None:
                opening.cancel()
                opening.add_done_callback(_discard)

    def _make_connection(self, sock: socket.socket) -> Connection:
        settings = self.settings
        channel = Channel(sock, self.counts, self._on_bytes, self._on_writable, self._end)
        session = Session(settings, self.counts, channel.out)
        parser = FrameParser(settings.is_v5, settings.max_packet, self.ledger)
        self._connection = connection = Connection(channel, session, parser, self._loop.create_future())
        return connection

    def _forget(self, connection: Connection) -> None:
        """The connection is over: debts are cancelled, what was in flight waits for the next one."""
        self._connection = None
        self._is_flush_due = True
        connection.channel.close()
        self.receiver.lost()
        error = connection.ended.result() if connection.ended.done() and not connection.ended.cancelled() else None
        culprit = self.sender.lost(isinstance(error, HungUp), self._clock.now())
        self._culprit = None if culprit is None else culprit.topic.decode(errors="replace")
        if culprit is not None:
            self._log.error("message_refused", topic=self._culprit, qos=culprit.qos, body=culprit.body[:64], why=ENDS_CONNECTION)
        if self._backlog is not None:
            self._backlog.pause()
        self._leave_soon()

    def _leave_soon(self) -> None:
        """The broker is not there. Unless it comes back at once, messages go to the spool, and replies nowhere."""
        if self._leaving is None and not self.sender.is_away:
            self._leaving = self._loop.call_later(AWAY_S, self._leave)

    def _leave(self) -> None:
        self._leaving = None
        self.sender.leave()
        self._tell_waiters()

    def _leave_later(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _end(self, error: Retryable | None) -> None:
        """Ends the connection; `error` is why, None for a goodbye."""
        connection = self._connection
        if connection and not connection.ended.done():
            connection.channel.close()
            self._is_flush_due = True
            connection.ended.set_result(error)

    # A turn

    def _on_bytes(self, data: bytes) -> None:
        """A wake-up. What is answered in it leaves at its end, and not in a turn of its own."""
        connection = self._connection
        if connection is None or connection.is_leaving:
            return
        self._has_answered, unacked = False, len(self.sender.in_flight)
        try:
            for publishes, acks, control in connection.parser.feed(data):
                if acks:
                    self._take_acks(connection, acks)
                if publishes:
                    self._take_publishes(connection, publishes)
                if control:
                    for event in connection.session.feed(control):
                        self._on_event(connection, event)
                if connection.ended.done():
                    return
            if connection.parser.error:
                raise connection.parser.error
            if connection.unasked > UNASKED_MOST:
                raise ProtocolError(f"{connection.unasked} answers to nothing that was asked", PROTOCOL_ERROR)
        except ProtocolError as error:
            return self._break_off(connection, error)
        except Exception as error:
            return self._fault(error)
        connection.channel.hold(connection.parser.is_behind)
        if connection.parser.is_behind:
            self._loop.call_soon(self._on_rest, connection)
        has_more = self.ledger.unacked or connection.channel.out or self.outbox.qos1 or self.sender.can_fill
        if self._has_answered or (has_more and len(self.sender.in_flight) == unacked - 1):  # one result, or the end of one
            self._flush_now()
        elif has_more or self._waiters or self._is_closing:
            self._flush_soon()

    def _flush_now(self) -> None:
        if not self._is_flush_due:  # else somebody else will, or the kernel takes nothing
            self._is_flush_due = True
            self._flush()

    def _on_rest(self, connection: Connection) -> None:
        """Goes on with what was read."""
        if connection is self._connection and not connection.ended.done():
            self._on_bytes(b"")

    def _take_acks(self, connection: Connection, acks: list[tuple[int, int]]) -> None:
        sender = self.sender
        strays = sender.stray_acks
        acknowledge = sender.acknowledge
        for mid, code in acks:
            if acknowledge(mid, code):
                self._loop.call_later(RESEND_S, self._resend, connection, mid)
        strays = sender.stray_acks - strays
        connection.unasked += strays
        if strays < len(acks):
            connection.has_acknowledged, connection.is_owed = True, False
            if self._unacknowledged:
                self._forgive(connection)

    def _forgive(self, connection: Connection) -> None:
        """The broker acknowledges again, or owes nothing any more."""
        self._unacknowledged = ""
        connection.faults.pop(ACKNOWLEDGEMENTS, None)
        self._say_faults(connection)

    def _take_publishes(self, connection: Connection, publishes: list[Inbound]) -> None:
        if not connection.is_connected:
            raise ProtocolError("a PUBLISH before CONNACK", PROTOCOL_ERROR)
        self._is_awake = True
        try:
            self.receiver.take(publishes)
        finally:
            self._is_awake = False

    def _go_on(self) -> None:
        connection = self._connection
        if connection is None or not connection.is_connected or connection.ended.done():
            return
        try:
            self.receiver.go_on()
        except ProtocolError as error:
            return self._break_off(connection, error)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """The end of a turn: due acknowledgements, then messages, in one send."""
        connection = self._connection
        if connection is None or not connection.is_connected or connection.ended.done():
            return
        channel, ledger = connection.channel, self.ledger
        if len(channel.out) < BUFFER_BYTES:
            if ledger.unacked and ledger.unacked[0].owed <= 0:
                FrameWriter.pubacks(channel.out, ledger.take_settled())
                if self.receiver.is_behind:
                    self._loop.call_soon(self._go_on)
            try:
                self.sender.fill(channel.out, BUFFER_BYTES, self._clock.now())
            except Exception as error:
                return self._fault(error)
            if pings := self.sender.suspicion.take_pings():
                self._ping(connection, pings)
            if self.sender.unsayable:
                self._say_unsayable(connection)
        if channel.out:
            channel.flush()
        if channel.is_stuck or connection.ended.done():
            return  # still due: `_on_writable` goes on
        self._is_flush_due = False
        if self._waiters:
            self._tell_waiters()
        if self.sender.can_fill:
            self._flush_soon()
        elif self._is_closing and self.sender.is_empty and not self._drained.done():
            self._drained.set_result(None)
        if ledger.unacked and not self._is_settle_due:
            self._is_settle_due = True
            self._loop.call_later(SETTLE_S, self._look_for_settled)

    def _ping(self, connection: Connection, times: int) -> None:
        """Asks whether the broker has taken what it was sent, and takes silence for a yes after a while."""
        for _ in range(times):
            connection.session.ping()
        if connection.patience is not None:
            connection.patience.cancel()
        connection.patience = self._loop.call_later(PATIENCE_S, self._on_answered, connection)

    def _on_answered(self, connection: Connection) -> None:
        if connection is self._connection and not connection.ended.done():
            self.sender.answered()
            self._flush_soon()

    def _say_unsayable(self, connection: Connection) -> None:
        """What edged says of itself is too large for this broker: whoever watches it there sees old news, or none."""
        said, self.sender.unsayable = self.sender.unsayable, {}
        for topic, why in said.items():
            if topic not in connection.faults:
                self._degrade(connection, topic, f"the broker does not take what edged says of itself on {why}")

    def _look_for_settled(self) -> None:
        self._is_settle_due = False
        if self.ledger.unacked and self._connection:
            if self.ledger.is_due:
                self._flush_soon()
            else:
                if self.receiver.is_careful:
                    self._loop.call_soon(self._go_on)
                self._is_settle_due = True
                self._loop.call_later(SETTLE_S, self._look_for_settled)

    def _on_writable(self) -> None:
        if self.is_connected:
            self._flush()

    def _resend(self, connection: Connection, mid: int) -> None:
        if connection is self._connection and not connection.ended.done():
            self.sender.again(connection.channel.out, mid, self._clock.now())
            self._flush_soon()

    def _tick(self, connection: Connection, timers: list[asyncio.TimerHandle]) -> None:
        if connection.ended.done():
            return
        timers[-1] = self._loop.call_later(TICK_S, self._tick, connection, timers)
        connection.channel.look()
        if not connection.is_connected or connection.ended.done():
            return
        connection.unasked = 0
        is_heard, connection.bytes_seen = self.counts.bytes_in > connection.bytes_seen, self.counts.bytes_in
        for event in connection.session.tick(is_heard):
            self._on_event(connection, event)
        if connection.ended.done():
            return
        lived_s = self._loop.time() - connection.connected_at
        if lived_s > (CAREFUL_S if self.sender.suspicion.is_careful else GOOD_SERVICE_S):
            self.sender.trust()
        self._look_for_acks(connection)
        if connection.ended.done():
            return
        if lived_s > self.settings.connect_timeout_s:
            for subscription in connection.session.unanswered:
                if subscription.filter not in connection.faults:
                    self._degrade(
                        connection, subscription.filter, f"the broker does not answer the subscription to {subscription.filter!r}"
                    )
        if connection.channel.out:
            self._flush_soon()

    def _look_for_acks(self, connection: Connection) -> None:
        """A broker may answer pings and acknowledge nothing, for ever: a quota, a full disk behind it. What it has not been given
        yet, on a thin line, it cannot acknowledge."""
        now, channel, was_owed = self._loop.time(), connection.channel, connection.is_owed
        before, connection.delivered = connection.delivered, channel.delivered
        connection.is_owed = self.sender.is_owed
        if self._unacknowledged and self.sender.is_empty:
            self._forgive(connection)
        if not (was_owed and connection.is_owed):
            connection.owed_since, connection.owed_bytes = now, self.counts.bytes_out + len(channel.out)
        elif before < connection.owed_bytes and connection.delivered > before:
            connection.owed_since = now
        waited_s = now - connection.owed_since
        if waited_s >= max(UNACKNOWLEDGED_S, 2 * self.settings.keepalive_s):
            owed = max(1, len(self.sender.in_flight))
            owed = max(1, len(self.sender.in_flight))
            many = f"{owed} messages" if owed > 1 else "1 message"
            reason = (
                f"the broker has acknowledged nothing for {waited_s:.0f} s and owes that for {many}: see its log, quotas and disk"
            )
            self._unacknowledged = reason
            self._end(Unacknowledged(reason, connection.has_acknowledged))

    # What the broker says

    def _on_event(self, connection: Connection, event: Event) -> None:
        match event:
            case Connected():
                self._on_connected(connection, event)
            case Refused(code, text):
                state = "auth" if code in BAD_LOGIN else "refused"
                cure = ": check username and password" if state == "auth" else ""
                self._end(Refusal(state, f"the broker refuses us as {self.settings.client_id!r}: {text}{cure}"))
            case Subscribed(subscription, code, text):
                self._on_subscribed(connection, subscription, code, text)
            case Pinged():
                self._on_answered(connection)
            case Unasked():
                connection.unasked += 1
            case Unsubscribed(name):
                if self._known is not None and name not in {s.filter for s in self.settings.subscriptions}:
                    self._known.remove(name)
            case Ended(code, text):
                self._end(self._explain_end(code, text))
            case Silent():
                waited = f"no answer to a ping for {self.settings.keepalive_s} s"
                self._end(Unanswered("lost", f"{waited}: the broker hangs or the network between is gone"))
            case Malformed(text):
                raise ProtocolError(text)

    def _on_connected(self, connection: Connection, event: Connected) -> None:
        if connection.is_connected:
            raise ProtocolError("a second CONNACK", PROTOCOL_ERROR)
        settings = self.settings
        connection.connected_at = self._loop.time()
        self.counts.connects += 1
        self.sender.connected(
            Granted(event.is_session_present, event.receive_maximum, event.maximum_qos, event.maximum_packet, event.may_retain)
        )
        if self._known is not None:
            wanted = {s.filter for s in settings.subscriptions}
            for gone in sorted(self._known.filters - wanted):
                if event.is_session_present:
                    connection.session.unsubscribe(gone)
                else:
                    self._known.remove(gone)
            self._known.add(wanted)
        for subscription in settings.subscriptions:
            connection.session.subscribe(subscription)
        if settings.status_topic:
            self.sender.write_status(connection.channel.out, settings.status_topic, b"online")
        if self._unacknowledged:
            connection.faults[ACKNOWLEDGEMENTS] = self._unacknowledged
        self._say_faults(connection, session_present=event.is_session_present)
        self._is_flush_due = False
        self._leave_later()
        if self._backlog is not None and not self._is_closing:
            self._backlog.on_ready = self._flush_soon
            self._backlog.begin()
        self._flush_soon()
        stale = self.ledger.take_stale()
        if stale and event.is_session_present:
            self._on_superseded(stale)
        self.receiver.connected(event.is_session_present)

    def _on_subscribed(self, connection: Connection, subscription: Subscription, code: int, text: str) -> None:
        name = subscription.filter
        if code >= 0x80:
            self._degrade(connection, name, f"the broker refuses the subscription to {name!r}: {text}: check its access rules")
            first, cap = self.settings.refused_retry_s
            backoff = connection.refused.setdefault(name, Backoff(first, cap, first))
            self._loop.call_later(backoff.next_s(), self._subscribe_again, connection, subscription)
            return
        connection.refused.pop(name, None)
        if code < subscription.qos:
            self._degrade(connection, name, f"the broker grants only QoS {code} for {name!r}")
        elif connection.faults.pop(name, None):
            self._say_faults(connection)

    def _subscribe_again(self, connection: Connection, subscription: Subscription) -> None:
        """The broker refused it; its access rules may have been changed since."""
        is_over = connection is not self._connection or connection.ended.done() or connection.is_leaving
        if not is_over and subscription in self.settings.subscriptions and subscription.filter in connection.refused:
            connection.session.subscribe(subscription)
            self._flush_soon()

    def _degrade(self, connection: Connection, name: str, reason: str) -> None:
        connection.faults[name] = reason
        self._say_faults(connection)

    def _say_faults(self, connection: Connection, **details: Any) -> None:
        """The state of a connection that is there."""
        faults = connection.faults
        self._say("degraded" if faults else "connected", "; ".join(faults.values()), **details)

    def _explain_end(self, code: int, text: str) -> Retryable:
        if code != TAKEN_OVER:
            kind = HungUp if code in OVER_A_MESSAGE else Retryable
            return kind("lost", f"the broker ended the connection: {text}")
        now = self._loop.time()
        self._takeovers.append(now)
        times = sum(t > now - 60.0 for t in self._takeovers)
        counted = "once" if times == 1 else f"{times} times in 1 min"
        name = self.settings.client_id
        return Refusal("taken_over", f"another client took the name {name} {counted}: set device.id or client_id apart")

    def _on_no_connack(self, connection: Connection) -> None:
        if not connection.is_connected:
            where = self.settings.url
            self._end(Retryable("timeout", f"{where} accepts connections but does not answer CONNECT: is it an MQTT broker?"))

    def _break_off(self, connection: Connection, error: ProtocolError) -> None:
        """Ends a connection on which the broker broke the protocol, and says so to it if it still listens."""
        if error.code == TOO_MANY:  # what was left with the broker comes with the next connection, which is no reason to wait
            connection.session.disconnect(error.code)
            connection.channel.flush()
            self._end(Again("lost", f"the broker sent {error.reason}; the rest is fetched by a new connection"))
            return
        self.counts.protocol_errors += 1
        reason = f"the broker broke the protocol: {error.reason}"
        if not connection.is_connected:
            return self._end(Refusal("protocol", reason))
        if self.settings.is_v5:  # under 3.1.1 it would be a goodbye, and the broker would keep the will to itself
            connection.session.disconnect(error.code)
            connection.channel.flush()
        self._end(Retryable("protocol", reason))

    def _fault(self, error: Exception) -> None:
        """A fault of our own. The link lives on with a new connection; it must not stand still in silence."""
        self.counts.failures += 1
        self._log.exception("link_failed")
        self._end(Retryable("lost", f"connection dropped after a fault in edged: {error!r}"))

    def _say(self, state: str, reason: str, **details: Any) -> None:
        """Shows a state, and logs it where it is news."""
        if (state, reason) == (self.state, self.reason):
            return
        self.state, self.reason = state, reason
        log = self._log.info if state in ("connected", "stopped") else self._log.warning
        log("broker", state=state, reason=reason, **details)
