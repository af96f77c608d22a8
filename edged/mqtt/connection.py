"""One life of a link, from the socket to the loss: what comes in, what goes out at the end of a turn, and what a tick looks at.

    Channel -> one read a wake-up -> FrameParser -> PUBLISH -> Receiver -> on_publishes (one list a read)
                                                 -> PUBACK  -> Sender
                                                 -> others  -> Session (paho)
    Receiver, Sender, Session -> one buffer -> one send a turn -> Channel

The socket is always read, also when output is stuck, because acknowledgements come down it; but for the turns that it takes to
handle a storm of packets that was read. The answer to a message that came alone leaves at once. A turn ends with the
acknowledgements that are due, then messages; when the kernel does not take them, no more than `BUFFER_BYTES` are framed and the
rest waits in the outbox.

What lives longer than a connection (sender, receiver, retry policy, state) is its `Owner`'s, which is the link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from edged.clock.clock import Clock
from edged.clock.spent import spends
from edged.errors import Retryable
from edged.mqtt.ack_watch import AckWatch
from edged.mqtt.channel import Channel, Dismissed, Stream
from edged.mqtt.connect import Refusal
from edged.mqtt.frames import PROTOCOL_ERROR, TOO_MANY, FrameParser, FrameWriter, Inbound, ProtocolError
from edged.mqtt.receiver import Receiver
from edged.mqtt.retry import (
    GOOD_SERVICE_S,
    Again,
    NoRetain,
    OtherVersion,
    RetryPolicy,
    Unacknowledged,
    Unanswered,
)
from edged.mqtt.sender import Granted, Sender
from edged.mqtt.session import (
    WRONG_VERSION,
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
from edged.mqtt.subscriptions import KnownFilters, Subscriptions
from edged.records import Message

BUFFER_BYTES = 1 << 18  # framed bytes held for the socket
TICK_S = 0.5
SETTLE_S = 0.005  # how long a receipt that was let go in somebody else's turn may wait for its acknowledgement
RESEND_S = 1.0  # before a message is sent again that the broker refused for the time being
CAREFUL_S = 30.0  # for messages at QoS 0 that follow each other slowly to pass one at a time
PATIENCE_S = 2.0  # a broker that ends the connection over a message does so at once
UNACKNOWLEDGED_S = 30.0  # at least; else twice the keepalive
MAX_UNASKED = 4096  # answers to nothing between two ticks
BAD_LOGIN = (0x86, 0x87, 0x8C)  # bad user name or password, not authorised, bad authentication method
TAKEN_OVER = 0x8E
NO_RETAIN = 0x9A
# Reasons of a DISCONNECT that may be one message: unspecified, malformed, protocol error, implementation specific, not
# authorised, topic, alias, size, payload, retain, QoS. The others speak of the server, of us or of a pace.
OVER_A_MESSAGE = (0x80, 0x81, 0x82, 0x83, 0x87, 0x90, 0x94, 0x95, 0x99, 0x9A, 0x9B)
# Among the faults of a connection, where the others are those of topics:
ACKNOWLEDGEMENTS, EXPIRY, REQUESTS, SHARING = "", "$expiry", "$requests", "$share"


class Owner(Protocol):
    """What a connection needs of the link that it serves."""

    settings: LinkSettings
    counts: LinkCounts
    clock: Clock
    sender: Sender
    receiver: Receiver
    known: KnownFilters | None
    retry: RetryPolicy
    acks: AckWatch
    waiters: dict[Callable[[], None], None]

    @property
    def is_closing(self) -> bool: ...
    def show(self, state: str, reason: str, **details: Any) -> None: ...
    def fault(self, error: Exception) -> Retryable: ...
    def begin(self, is_session_present: bool) -> None: ...
    def tell_waiters(self) -> None: ...
    def drained(self) -> None: ...


class Turn:
    """One wake-up. `is_awake`: inputs are being handled; `is_lone`: there is only one; `has_answered`: something is to be sent at
    the end because of them."""

    __slots__ = ("has_answered", "is_awake", "is_lone")

    def __init__(self) -> None:
        self.is_awake = False
        self.is_lone = False
        self.has_answered = False


class Connection:
    """`ended` gets the reason, None for a goodbye. `is_flush_due` is True also while not connected or waiting for the kernel:
    somebody else will flush. `timers`, by what they are for, end with the connection. `settings` are the owner's, with what was
    learnt of the broker."""

    def __init__(self, owner: Owner, stream: Stream, settings: LinkSettings) -> None:
        self.owner = owner
        self.settings = settings
        self.channel = Channel(stream, owner.counts, self._on_bytes, self._on_writable, self.end)
        self.session = Session(settings, owner.counts, self.channel.out)
        self.parser = FrameParser(settings.is_v5, settings.max_packet, owner.receiver.ledger)
        self.subscriptions = Subscriptions(settings, self.session, owner.known, not owner.counts.connects)
        self.faults: dict[str, str] = {}
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Any] = self.loop.create_future()
        self.connected_at = 0.0
        self.is_leaving = False
        self.is_flush_due = True
        self.timers: dict[str, asyncio.TimerHandle] = {}
        self.unasked = 0
        """Answers to nothing since the last tick."""
        self.turn = Turn()

    @property
    def sender(self) -> Sender:
        return self.owner.sender

    @property
    def receiver(self) -> Receiver:
        return self.owner.receiver

    @property
    def counts(self) -> LinkCounts:
        return self.owner.counts

    @property
    def is_connected(self) -> bool:
        return self.connected_at > 0.0

    # Begin and end

    def open(self, answer_by: float) -> None:
        """Says CONNECT; the broker has until `answer_by`, in the loop's time."""
        self.timers["connack"] = self.loop.call_at(answer_by, self._on_no_connack)
        self.channel.open()
        self.session.connect()
        self.channel.flush()
        self.timers["tick"] = self.loop.call_later(TICK_S, self._tick)

    def end(self, error: Retryable | None) -> None:
        """`error` is why, None for a goodbye."""
        if not self.ended.done():
            self.channel.close()
            self.is_flush_due = True
            self.ended.set_result(error)

    def close(self) -> None:
        """Nothing of it happens any more, whether or not it had an end."""
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()
        self.is_flush_due = True
        self.channel.close()
        self.ended.cancel()

    def say_goodbye(self, status_topic: str = "") -> None:
        """Acknowledges what is due, says that we are `stopped` where there is a topic for it, and disconnects."""
        out = self.channel.out
        FrameWriter.pubacks(out, self.receiver.ledger.take_settled())
        if status_topic:
            self.sender.write_status(out, status_topic, b"stopped")
        self.session.disconnect()
        self.channel.flush()

    def change_subscriptions(self, wanted: tuple[Subscription, ...]) -> None:
        self.subscriptions.change(wanted)
        self._show_faults()
        self.flush_soon()

    @property
    def owes_nothing(self) -> bool:
        """Whether all that came is settled, and the broker has answered all that it was asked."""
        return not (self.receiver.ledger.unacked or self.receiver.rest or self.session.awaits_answers)

    def ask_whether_more(self) -> None:
        """The answer comes after what the broker sends because of the acknowledgements before it."""
        self.session.ping()
        self.flush_soon()

    def _on_no_connack(self) -> None:
        if not self.is_connected:
            where = self.owner.settings.url
            self.end(Retryable("timeout", f"{where} accepts connections but does not answer CONNECT: is it an MQTT broker?"))

    def _break_off(self, error: ProtocolError) -> None:
        """Ends a connection on which the broker broke the protocol, and says so to it if it still listens."""
        if error.code == TOO_MANY:  # what was left with the broker comes with the next connection, which is no reason to wait
            self.session.disconnect(error.code)
            self.channel.flush()
            self.end(Again("lost", f"the broker sent {error.reason}; edged reconnects to get the rest"))
            return
        self.owner.counts.protocol_errors += 1
        reason = f"the broker broke the protocol: {error.reason}"
        if not self.is_connected:
            return self.end(Refusal("protocol", reason))
        if self.settings.is_v5:  # under 3.1.1 it would be a goodbye, and the broker would keep the will to itself
            self.session.disconnect(error.code)
            self.channel.flush()
        self.end(Retryable("protocol", reason))

    # A turn

    @spends("receive")
    def _on_bytes(self, data: bytes) -> None:
        """A wake-up. What is answered in it leaves at its end, and not in a turn of its own."""
        owner, turn, parser, channel = self.owner, self.turn, self.parser, self.channel
        if self.is_leaving or channel.is_closed:
            return
        sender = owner.sender
        turn.has_answered, unacked = False, len(sender.in_flight)
        try:
            for batch in parser.feed(data):
                if batch.acks:
                    self._take_acks(batch.acks)
                if batch.publishes:
                    self._take_publishes(batch.publishes)
                if batch.control:
                    for event in self.session.feed(batch.control):
                        self._on_event(event)
                if channel.is_closed:
                    return
            if parser.error:
                raise parser.error
            if self.unasked > MAX_UNASKED:
                raise ProtocolError(f"{self.unasked} answers nothing that edged asked", PROTOCOL_ERROR)
        except ProtocolError as error:
            return self._break_off(error)
        except Exception as error:
            return self.end(self.owner.fault(error))
        if parser.is_behind or channel.is_held:
            channel.hold(parser.is_behind)
            if parser.is_behind:
                self.loop.call_soon(self._on_bytes, b"")  # goes on with what was read
        if not turn.has_answered:
            is_owed = owner.receiver.ledger.unacked or owner.receiver.rest
            has_more = is_owed or channel.out or sender.outbox.qos1 or sender.can_fill
            if not (has_more and len(sender.in_flight) == unacked - 1):
                if has_more or owner.waiters or owner.is_closing:
                    self.flush_soon()
                return
        if not self.is_flush_due:  # one result, or the end of one; else somebody else will, or the kernel takes nothing
            self.is_flush_due = True
            self._flush()

    def _take_acks(self, acks: list[tuple[int, int]]) -> None:
        sender = self.sender
        strays = sender.stray_acks
        acknowledge = sender.acknowledge
        for mid, code in acks:
            if acknowledge(mid, code):
                self.loop.call_later(RESEND_S, self._resend, mid)
        strays = sender.stray_acks - strays
        self.unasked += strays
        if strays < len(acks):
            self.owner.acks.acknowledged()
            if self.owner.acks.reason:
                self._forgive()

    def _forgive(self) -> None:
        """The broker acknowledges again, or owes nothing any more."""
        self.owner.acks.reason = ""
        self.faults.pop(ACKNOWLEDGEMENTS, None)
        self._show_faults()

    def _take_publishes(self, publishes: list[Inbound]) -> None:
        if not self.connected_at:
            raise ProtocolError("a PUBLISH before CONNACK", PROTOCOL_ERROR)
        turn = self.turn
        turn.is_awake, turn.is_lone = True, len(publishes) == 1
        try:
            self.owner.receiver.take(publishes)
        finally:
            turn.is_awake = False

    def _go_on(self) -> None:
        if not self.is_connected or self.ended.done():
            return
        try:
            self.receiver.go_on()
        except ProtocolError as error:
            return self._break_off(error)
        self.flush_soon()

    def frame_now(self, messages: Sequence[Message]) -> int:
        """Frames the first of the messages, as far as they would wait for nothing; returns how many. The others have to wait in
        the outbox. Acknowledgements that are due leave before them."""
        owner, channel = self.owner, self.channel
        unacked = owner.receiver.ledger.unacked
        if not self.connected_at or channel.is_stuck or channel.is_closed or (unacked and not messages[0].qos):
            return 0
        if unacked and unacked[0].owed <= 0:
            self._acknowledge()
        framed = owner.sender.frame_now(channel.out, BUFFER_BYTES, messages, owner.clock.now())
        if framed:
            turn = self.turn
            if not turn.is_awake:
                self.flush_soon()
            elif turn.is_lone:
                self._send_first()
                # Whom an acknowledgement is owed is looked after at the end, and so is what this broker does not take.
                turn.has_answered = bool(unacked or owner.sender.unsayable)
            else:
                turn.has_answered = True
        return framed

    @spends("send")
    def _send_first(self) -> None:
        """The answer to a message that came alone leaves before all that is left to do in this turn; others leave at its end."""
        self.turn.is_lone = False
        self.channel.flush()

    @spends("send")
    def send_now(self) -> None:
        """Sends what is framed and what waits, before the end of the turn: a burst fills the outbox, and none of it is dropped
        while the kernel takes bytes."""
        sender, channel = self.owner.sender, self.channel
        if self.connected_at and not (channel.is_stuck or channel.is_closed or sender.suspicion.is_careful):
            sender.fill(channel.out, BUFFER_BYTES, self.owner.clock.now())
            channel.flush()

    def flush_soon(self) -> None:
        """At the end of this turn; at once when it is connected, or the kernel takes bytes again."""
        if self.turn.is_awake:
            self.turn.has_answered = True
        elif not self.is_flush_due:
            self.is_flush_due = True
            self.loop.call_soon(self._flush)

    @spends("send")
    def _flush(self) -> None:
        """The end of a turn: due acknowledgements, then messages, in one send."""
        owner, channel = self.owner, self.channel
        if not self.connected_at or channel.is_closed:
            return
        sender, receiver = owner.sender, owner.receiver
        unacked, has_waiting = receiver.ledger.unacked, sender.has_waiting
        if len(channel.out) < BUFFER_BYTES:
            if unacked and unacked[0].owed <= 0:
                self._acknowledge()
            if has_waiting:
                try:
                    sender.fill(channel.out, BUFFER_BYTES, owner.clock.now())
                except Exception as error:
                    return self.end(owner.fault(error))
            if sender.suspicion.pings:
                self._ping(sender.suspicion.take_pings())
            if sender.unsayable:
                self._show_unsayable()
        if channel.out:
            channel.flush()
        if channel.is_stuck or channel.is_closed:
            return  # still due: `_on_writable` goes on
        self.is_flush_due = False
        if owner.waiters:
            owner.tell_waiters()
        if has_waiting and sender.can_fill:
            self.flush_soon()
        elif owner.is_closing and sender.is_empty:
            owner.drained()
        if (unacked or receiver.rest) and "settle" not in self.timers:
            self._settle_later()

    def _acknowledge(self) -> None:
        """Frames the acknowledgements that are due."""
        FrameWriter.pubacks(self.channel.out, self.receiver.ledger.take_settled())
        if self.receiver.is_behind:
            self.loop.call_soon(self._go_on)

    def _settle_later(self) -> None:
        self.timers["settle"] = self.loop.call_later(SETTLE_S, self._look_for_settled)

    def _look_for_settled(self) -> None:
        del self.timers["settle"]
        if self.receiver.ledger.unacked or self.receiver.rest:
            if self.receiver.ledger.is_due:
                self.flush_soon()
            else:
                if self.receiver.rest:
                    self.loop.call_soon(self._go_on)
                self._settle_later()

    def _on_writable(self) -> None:
        self._flush()

    def _resend(self, mid: int) -> None:
        if not self.ended.done():
            self.sender.again(self.channel.out, mid, self.owner.clock.now())
            self.flush_soon()

    def _ping(self, times: int) -> None:
        """Asks whether the broker has taken what it was sent, and takes silence for a yes after a while."""
        for _ in range(times):
            self.session.ping()
        if "ping" in self.timers:
            self.timers["ping"].cancel()
        self.timers["ping"] = self.loop.call_later(PATIENCE_S, self._on_answered)

    def _on_answered(self) -> None:
        if not self.ended.done():
            self.sender.answered()
            self.flush_soon()

    # A tick

    def _tick(self) -> None:
        if self.ended.done():
            return
        self.timers["tick"] = self.loop.call_later(TICK_S, self._tick)
        self.channel.look()
        if not self.is_connected or self.ended.done():
            return
        self.unasked = 0
        for event in self.session.tick(self.channel.has_heard_since()):
            self._on_event(event)
        if self.ended.done():
            return
        lived_s = self.loop.time() - self.connected_at
        if lived_s > (CAREFUL_S if self.sender.suspicion.is_careful else GOOD_SERVICE_S):
            self.sender.trust()
        if lived_s > GOOD_SERVICE_S:
            self.receiver.trust()
        self._look_for_acks()
        if self.ended.done():
            return
        if lived_s > self.owner.settings.connect_timeout_s:
            self.subscriptions.look()
            self._show_faults()
        if self.channel.out:
            self.flush_soon()

    def _look_for_acks(self) -> None:
        owner, acks, channel = self.owner, self.owner.acks, self.channel
        if acks.reason and self.sender.is_empty:
            self._forgive()
        written = owner.counts.bytes_out + len(channel.out)
        waited_s = acks.look(self.loop.time(), self.sender.is_owed, channel.delivered, written)
        if waited_s < max(UNACKNOWLEDGED_S, 2 * owner.settings.keepalive_s):
            return
        owed = max(1, len(self.sender.in_flight))
        many = f"{owed} messages" if owed > 1 else "1 message"
        acks.reason = (
            f"the broker has acknowledged nothing for {waited_s:.0f} s and owes acks for {many}: see its log, quotas and disk"
        )
        self.end(Unacknowledged(acks.reason, acks.has_acknowledged))

    # What the broker says

    def _on_event(self, event: Event) -> None:
        match event:
            case Connected():
                self._on_connected(event)
            case Refused(code, text):
                self.end(self._explain_refusal(code, text))
            case Subscribed(subscription, code, text):
                again_s = self.subscriptions.answered(subscription, code, text)
                self._show_faults()
                if again_s is not None:
                    self.loop.call_later(again_s, self._subscribe_again, subscription)
            case Pinged():
                self._on_answered()
            case Unasked():
                self.unasked += 1
            case Unsubscribed(name):
                self.subscriptions.let_go(name)
            case Ended(code, text):
                self.end(self._explain_end(code, text))
            case Silent():
                waited = f"no answer to a ping for {self.owner.settings.keepalive_s} s"
                self.end(Unanswered("lost", f"{waited}: the broker hangs, or the network is down"))
            case Malformed(text):
                raise ProtocolError(text)

    def _on_connected(self, event: Connected) -> None:
        if self.is_connected:
            raise ProtocolError("a second CONNACK", PROTOCOL_ERROR)
        owner, settings = self.owner, self.settings
        self.connected_at = self.loop.time()
        owner.counts.connects += 1
        owner.acks.begin()
        self.sender.connected(
            Granted(
                event.is_session_present,
                event.receive_maximum,
                event.maximum_qos,
                event.maximum_packet,
                event.may_retain and settings.may_retain,
            )
        )
        self.subscriptions.begin(event.is_session_present)
        if settings.status_topic:
            self.sender.write_status(self.channel.out, settings.status_topic, b"online")
        if owner.acks.reason:
            self.faults[ACKNOWLEDGEMENTS] = owner.acks.reason
        self._look_at_terms(event)
        self._show_faults(session_present=event.is_session_present, version=settings.version)
        self.is_flush_due = False
        self.flush_soon()
        owner.begin(event.is_session_present)
        self.receiver.connected(event.is_session_present)

    def _look_at_terms(self, event: Connected) -> None:
        """What the configuration asks for and this broker does not give."""
        settings = self.settings
        kept_s, asked_s = event.session_expiry_s, settings.session_expiry_s
        if kept_s is not None and kept_s < asked_s and any(s.qos for s in settings.subscriptions):
            self.faults[EXPIRY] = (
                f"the broker keeps the session for {kept_s} s and not for {asked_s} s: after a longer outage the inputs are "
                f'lost; raise its limit, or write session_expiry = "{kept_s}s"'
            )
        if not event.may_share and any(s.is_shared for s in settings.subscriptions):
            which = "the broker has no shared subscriptions" if settings.is_v5 else "the broker speaks MQTT 3.1.1"
            self.faults[SHARING] = (
                f"{which}, so a group may get nothing there, or each member everything; remove share, or use another broker"
            )
        if not settings.is_v5 and (asked := [s.filter for s in settings.subscriptions if s.has_replies]):
            self.faults[REQUESTS] = (
                f"the broker speaks MQTT 3.1.1, where no request says where its answer goes: those on {', '.join(asked)} get none"
            )

    def _explain_refusal(self, code: int, text: str) -> Refusal:
        settings = self.settings
        said = f"the broker refuses the connection as {settings.client_id!r}: {text}"
        if code == WRONG_VERSION:
            return OtherVersion("refused", said)
        if code == NO_RETAIN and settings.may_retain:
            return NoRetain("refused", said)
        if code in BAD_LOGIN:
            return Refusal("auth", f"{said}: check username and password")
        return Refusal("refused", said)

    def _subscribe_again(self, subscription: Subscription) -> None:
        if not self.ended.done() and not self.is_leaving:
            self.subscriptions.ask_again(subscription)
            self.flush_soon()

    def _explain_end(self, code: int, text: str) -> Retryable:
        if code == TAKEN_OVER:
            return self.owner.retry.taken_over(self.loop.time())
        kind = Dismissed if code in OVER_A_MESSAGE else Retryable
        return kind("lost", f"the broker ended the connection: {text}")

    def _show_unsayable(self) -> None:
        """What edged says of itself is too large for this broker, or refused: whoever watches it there sees old news, or none."""
        said, self.sender.unsayable = self.sender.unsayable, {}
        for topic, why in said.items():
            self.faults.setdefault(topic, f"the broker refuses what edged publishes about itself on {why}")
        self._show_faults()

    def _show_faults(self, **details: Any) -> None:
        """The state of a connection that is there."""
        faults = [*self.faults.values(), *self.subscriptions.faults.values()]
        self.owner.show("degraded" if faults else "connected", "; ".join(faults), **details)
