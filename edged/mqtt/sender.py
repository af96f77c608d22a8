"""What goes out on one link: which message is framed when, and what becomes of it.

    put -> outbox  -> framed into the socket's buffer -> QoS 0: acked
     |       ^                                        -> QoS 1: in flight -> PUBACK: acked | refused
     |       '--- put back, first in line, when the connection goes --'
     '---> spool   -> the same, once nothing of QoS 1 waits in the outbox

No more is framed than the flight window and the socket take; the rest waits in the outbox, which is bounded. While the
broker is away, or when the outbox is full, messages of QoS 1 go to the spool; without one they are dropped by policy.
Each message lets go of its receipt exactly once: when acked, on disk, or dropped and counted.
Replies never go to the spool: whoever asked is gone after an outage.

A broker may end the connection over a message that it does not take, and then would for ever, since that goes first on the next
one. So after two ends in a row with messages on their way the sender `is_careful`: one message at a time, at QoS 0 with a ping
behind it, and the first one once the connection has carried some pings and their answers by itself. The message that is alone
on its way at an end, and was on its way at those before, is dropped. What passes is innocent; when all that was under suspicion
has passed, all is as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from edged.mqtt.frames import FrameWriter, user_property
from edged.mqtt.outbox import Outbox, drop
from edged.mqtt.suspicion import Suspicion
from edged.records import MESSAGE_OVERHEAD, NONE, Message
from edged.results.encode import encode_error
from edged.telemetry import INTERNAL_ERROR

FIRST_MID, LAST_MID = 8192, 65535  # below are those of paho's SUBSCRIBE packets: ids are shared by both in a session
REFUSED_FOR_GOOD = {0x87: "not authorised", 0x90: "topic name invalid", 0x99: "payload format invalid"}
TRIES = 3
MAX_PACKET, MAX_TOPIC = 268_435_455, 65_535  # what length fields can say
MAX_OVERHEAD = 16  # bytes of a PUBLISH around topic and body, at most
ENDS_CONNECTION = "the broker ends the connection whenever it is sent"


class Backlog(Protocol):
    """One link's part of the spool (`spool.Backlog`). `is_always`: it keeps a copy of every message; `is_strict`: messages
    go behind what it has not given yet (`is_behind`)."""

    is_always: bool
    is_strict: bool
    is_ready: bool
    on_ready: Callable[[], None] | None
    on_room: Callable[[], None] | None

    @property
    def is_behind(self) -> bool: ...
    @property
    def is_failing(self) -> bool: ...
    @property
    def has_room(self) -> bool: ...
    def room(self, size: int) -> int: ...
    def hold(self, message: Message, due: int, before: Message | None) -> None: ...
    def supersede(self, topic: bytes, before: Message | None) -> None: ...
    def take_left(self) -> list[Message]: ...
    def keep(self, message: Message) -> None: ...
    def hand_over(self, message: Message) -> None: ...
    def begin(self) -> None: ...
    def pause(self) -> None: ...
    def take(self, now: int) -> Message | None: ...


class Granted(NamedTuple):
    """What a broker allows on one connection. `maximum_packet` in bytes, 0 where it names none."""

    is_session_present: bool
    window: int
    maximum_qos: int = 1
    maximum_packet: int = 0
    may_retain: bool = True


class Sender:
    """Outgoing messages of one link. Pure: the caller owns the buffer, the clock and the socket.

    `is_away`: the broker has been gone for a while, so that messages of QoS 1 need not wait for it in memory.
    `unsayable`: what edged last had to say of itself and this broker does not take, by its topic.
    """

    def __init__(
        self,
        outbox: Outbox,
        inflight: int,
        is_v5: bool,
        backlog: Backlog | None = None,
        on_fault: Callable[[Message], None] = lambda message: None,
    ) -> None:
        """`on_fault` is called where a message cannot be framed, for a fault of edged, while the fault is being handled."""
        self._on_fault = on_fault
        self.outbox = outbox
        self.backlog = backlog
        self.is_away = False
        self.unsayable: dict[str, str] = {}
        self.in_flight: dict[int, Message] = {}
        self.acked = 0
        self.stray_acks = 0
        self._writer = FrameWriter(is_v5)
        self._own_window = inflight
        self._granted = Granted(False, inflight, maximum_packet=MAX_PACKET)
        self._mid = FIRST_MID - 1
        self._tries: dict[int, int] = {}
        self._was_qos1 = False
        self.suspicion = Suspicion()

    @property
    def is_v5(self) -> bool:
        return self._writer.is_v5

    def configure(self, is_v5: bool) -> None:
        """What is framed from now on is for a connection of this version."""
        self._writer = FrameWriter(is_v5)
        self.suspicion.forget_topics()

    @property
    def is_empty(self) -> bool:
        return not (self.in_flight or self.suspicion.alone or self.outbox.qos0 or self.outbox.qos1)

    @property
    def is_owed(self) -> bool:
        """Whether the broker owes an answer to something that was sent."""
        return bool(self.in_flight) or self.suspicion.is_waiting

    @property
    def has_waiting(self) -> bool:
        """Whether anything may be there to be framed."""
        return self.outbox.items > 0 or self.backlog is not None

    @property
    def can_fill(self) -> bool:
        """Whether something waits that the flight window lets go."""
        if self.suspicion.is_careful and self.is_owed:
            return False
        if self.outbox.qos0:
            return True
        return len(self.in_flight) < self._granted.window if self.outbox.qos1 else self._may_replay

    @property
    def _may_replay(self) -> bool:
        """Replay leaves a quarter of the flight window, and of the outbox, to live messages, and lets them go first."""
        backlog, outbox = self.backlog, self.outbox
        return (
            backlog is not None
            and backlog.is_ready
            and not outbox.qos1
            and 4 * len(self.in_flight) < 3 * self._granted.window
            and 4 * outbox.bytes_flying < 3 * outbox.max_bytes
        )

    def connected(self, granted: Granted) -> None:
        """What the broker of this connection allows."""
        self.is_away = False
        self._granted = granted._replace(
            window=min(self._own_window, granted.window), maximum_packet=granted.maximum_packet or MAX_PACKET
        )
        self.suspicion.connected()

    def put(self, message: Message) -> None:
        """Takes a message that is to be sent."""
        backlog = self.backlog
        if message.is_reply and self.is_away:
            drop(message, "away")
            return
        if backlog is not None and message.qos and message.account is not None and not message.is_reply:
            if self.is_away or (backlog.is_strict and backlog.is_behind) or self.outbox.is_full_for(message):
                return backlog.hand_over(message)
            if backlog.is_always and message.record is None:
                backlog.keep(message)
        self.outbox.put(message)

    def room(self, size: int) -> int:
        """How many more messages of `size` bytes may be put by somebody who can wait, so that none is dropped: half of the
        outbox is theirs, the other half for those who cannot, and one message has room where nothing is. While what comes
        goes to disk, as many as the disk takes."""
        if self.is_away and self.backlog is not None:
            return self.backlog.room(size)
        outbox = self.outbox
        room = min(outbox.max_items // 2 - outbox.items, (outbox.max_bytes // 2 - outbox.bytes_held) // size)
        return max(room, int(self.is_empty))

    @property
    def has_room(self) -> bool:
        """Whether somebody who waited for room may go on: with a quarter of the outbox free for him, not for one message."""
        outbox = self.outbox
        if self.is_away and self.backlog is not None:
            return self.backlog.has_room
        return self.is_empty or (outbox.items <= outbox.max_items // 4 and outbox.bytes_held <= outbox.max_bytes // 4)

    def leave(self) -> None:
        """The broker is away: what waits for it goes to disk, and so does what comes. What was in flight stays as well: the
        protocol wants it sent again first, under its old id. Replies go nowhere."""
        backlog, outbox = self.backlog, self.outbox
        self.is_away = True
        outbox.drop_replies("away")
        for _ in range(len(outbox.qos1) if backlog is not None else 0):
            assert backlog is not None
            message = outbox.take(outbox.qos1)
            if message.may_be_kept and message.record is None and message.mid:
                backlog.keep(message)
            if message.mid or message.account is None:
                outbox.put(message)
            else:
                backlog.hand_over(message)

    def lost(self, by_broker: bool = False, now: int = 0) -> Message | None:
        """The connection is gone. What was in flight goes first on the next one, under its old id if the session lasts.
        `by_broker`: it ended it, and may have done so over a message; that message is dropped and returned once it is certain."""
        culprit = self.suspicion.judge(by_broker, self.in_flight, self.outbox.qos1, now)
        if culprit is not None:
            self._condemn(culprit)
        elif (alone := self.suspicion.take_alone()) is not None:
            self._arrived(alone)
        self.outbox.put_back(self.in_flight.values())
        self.outbox.bytes_flying = 0
        self.in_flight.clear()
        self._tries.clear()
        return culprit

    def _condemn(self, message: Message) -> None:
        if message.account is not None:
            message.account.in_flight -= 1
        self.in_flight.pop(message.mid, None)
        self._refuse(message, ENDS_CONNECTION)

    def _refuse(self, message: Message, why: str) -> None:
        """Drops a message that the broker does not take."""
        account, topic = message.account, message.topic.decode(errors="replace")
        if account is not None:
            account.refusal = f"{topic} ({why})"
            account.drops.add("refused", why=why, topic=topic, body=message.body[:256])
        _settle(message, "refused")

    def trust(self) -> None:
        """Nothing is under suspicion (any more)."""
        self.suspicion.trust(self.in_flight, self.outbox.qos1)

    def answered(self) -> None:
        """The broker has answered all pings, and so has handled all that was sent before them."""
        if (alone := self.suspicion.answered()) is not None:
            self._arrived(alone)

    @staticmethod
    def _arrived(message: Message) -> None:
        """As far as QoS 0 can tell."""
        if message.account is not None:
            message.account.in_flight -= 1
            message.account.acked += 1
            message.account.refusal = ""
        _settle(message, None)

    def write_status(self, out: bytearray, topic: str, status: bytes) -> None:
        """Frames a retained message at QoS 0, before all that waits."""
        self._writer.publish(out, topic.encode(), status, retain=self._granted.may_retain)

    def fill(self, out: bytearray, limit: int, now: int) -> None:
        """Frames messages into `out` until it holds `limit` bytes, the window is full or nothing waits. `now`: monotonic ns."""
        outbox = self.outbox
        if self.suspicion.is_careful:
            return self._fill_one(out, now)
        while outbox.qos1 and len(self.in_flight) < self._granted.window and len(out) < limit:
            self._frame(out, outbox.take(outbox.qos1), now)
        while outbox.qos0 and len(out) < limit:
            self._frame(out, outbox.take(outbox.qos0), now)
        while self._may_replay and len(out) < limit:
            assert self.backlog is not None
            message = self.backlog.take(now)
            if message is not None:
                self._frame(out, message, now)

    def frame_now(self, out: bytearray, limit: int, messages: Sequence[Message], now: int) -> int:
        """Frames the first of the messages, as far as they would wait for nothing, instead of `put`; returns how many. The others
        have to be put."""
        outbox, backlog = self.outbox, self.backlog
        if outbox.items or self.is_away or self.suspicion.is_careful:
            return 0
        framed = 0
        for message in messages:
            if len(out) >= limit:
                break
            if message.qos:
                if len(self.in_flight) >= self._granted.window or outbox.bytes_flying >= outbox.max_bytes:
                    break
                if backlog is not None and (backlog.is_always or (backlog.is_strict and backlog.is_behind)):
                    break
            framed += 1
            try:
                self._frame(out, message, now)
            except Exception as error:
                self._drop_faulty(message, error)
        return framed

    def _fill_one(self, out: bytearray, now: int) -> None:
        """Frames one message, if the broker has taken the last one; of both kinds by turns."""
        outbox = self.outbox
        while not self.is_owed and self.can_fill:
            queue = outbox.qos0 if outbox.qos0 and (self._was_qos1 or not outbox.qos1) else outbox.qos1
            self._was_qos1 = queue is outbox.qos1
            if queue:
                self._frame(out, outbox.take(queue), now)
            elif self.backlog is not None and (message := self.backlog.take(now)) is not None:
                self._frame(out, message, now)

    def _frame(self, out: bytearray, message: Message, now: int) -> None:
        topic, body, properties, end = message.topic, message.body, message.properties, b""
        suspicion, account, granted, writer = self.suspicion, message.account, self._granted, self._writer
        if suspicion.barred and suspicion.is_barred(topic, now):
            return self._refuse(message, f"{ENDS_CONNECTION}; edged retries its topic later")
        start, mid, is_again, qos = len(out), 0, False, message.qos and granted.maximum_qos
        try:
            if message.replayed:
                body, properties = _replayed(message, now)
            elif message.is_json and message.arrival:
                us = (now - message.arrival + 500) // 1000  # whole numbers are written in half the time
                if us != writer.age_us:
                    writer.age_us, writer.end = us, b',"age_ms":%d.%03d}' % (us // 1000, us % 1000)
                end = writer.end
            size = len(topic) + len(body) + len(end) + len(properties) + MAX_OVERHEAD
            if size > granted.maximum_packet or len(topic) > MAX_TOPIC:
                body, end = self._in_place_of(message, len(body) + len(end)), b""
                if not body:
                    return self._drop_too_large(message, size)
            if qos:
                is_again = message.mid != 0 and granted.is_session_present
                mid = message.mid if is_again else self._next_mid()
            writer.publish(out, topic, body, qos, message.retain and granted.may_retain, mid, is_again, properties, end)
        except Exception as error:
            del out[start:]
            return self._drop_faulty(message, error)
        if not qos:
            if suspicion.is_careful:
                suspicion.watch(message)
                if account is not None:
                    account.in_flight += 1
                return
            suspicion.is_unproven = True
            if account is not None:
                account.acked += 1
                account.refusal = ""
            if message.record is not None or message.receipt is not NONE:
                _settle(message, None)
            return
        message.mid = mid
        self.in_flight[mid] = message
        self.outbox.bytes_flying += len(topic) + len(message.body) + MESSAGE_OVERHEAD
        if account is not None:
            account.in_flight += 1

    def _in_place_of(self, message: Message, size: int) -> bytes:
        """What is sent instead of a body of `size` bytes, which is too large, to whoever asked and waits; else nothing is."""
        most, topic = self._granted.maximum_packet, message.topic
        if not message.is_reply or len(topic) > MAX_TOPIC:
            return b""
        why = f"the result has {size} bytes, and this broker takes packets of {most}"
        body = encode_error("too_large", why)
        return body if len(topic) + len(body) + len(message.properties) + MAX_OVERHEAD <= most else b""

    def _drop_faulty(self, message: Message, error: Exception) -> None:
        """A fault of edged costs the message that shows it, and neither the connection nor its count."""
        self._on_fault(message)
        if message.account is not None:
            topic = message.topic[:256].decode(errors="replace")
            message.account.drops.add(INTERNAL_ERROR, topic=topic, detail=repr(error))
        _settle(message, INTERNAL_ERROR)

    def _drop_too_large(self, message: Message, size: int) -> None:
        """Neither this broker nor the protocol takes it: counted, its input settled, and said where it can be seen."""
        topic = message.topic[:256].decode(errors="replace")
        if len(message.topic) > MAX_TOPIC:
            why = f"{topic}... (a topic of {len(message.topic)} bytes, at most {MAX_TOPIC})"
        else:
            fix = "raise its limit (mosquitto: max_packet_size), or send less (fields, or another format)"
            why = f"{topic} (too large: {size} bytes, it takes packets of at most {self._granted.maximum_packet}): {fix}"
        if message.account is not None:
            message.account.refusal = why
            message.account.drops.add("too_large", size=size, limit=self._granted.maximum_packet, topic=topic)
        elif message.record is None:
            self.unsayable[topic] = why
        _settle(message, "too_large")

    def _next_mid(self) -> int:
        mid = self._mid
        while True:
            mid = FIRST_MID if mid >= LAST_MID else mid + 1
            if mid not in self.in_flight:
                self._mid = mid
                return mid

    def acknowledge(self, mid: int, code: int) -> bool:
        """One PUBACK. Returns whether the message is to be sent `again` after a while."""
        message = self.in_flight.get(mid)
        if message is None:
            self.stray_acks += 1
            return False
        account = message.account
        if code >= 0x80:
            if account is not None:
                said = REFUSED_FOR_GOOD.get(code, f"code 0x{code:02x}")
                account.refusal = f"{message.topic.decode(errors='replace')} ({said}): check its access rules and quotas"
            tries = self._tries[mid] = self._tries.get(mid, 0) + 1
            if code not in REFUSED_FOR_GOOD and tries < TRIES:
                return True
        del self.in_flight[mid]
        if self.suspicion.is_careful:
            self.suspicion.passed(self.in_flight, self.outbox.qos1)
        self.outbox.bytes_flying -= len(message.topic) + len(message.body) + MESSAGE_OVERHEAD
        if self._tries:
            self._tries.pop(mid, None)
        if account is not None:
            account.in_flight -= 1
        if code < 0x80:
            self.acked += 1
            if account is not None:
                account.acked += 1
                account.refusal = ""
        elif account is not None:
            why = REFUSED_FOR_GOOD.get(code, f"refused {TRIES} times")
            topic = message.topic.decode(errors="replace")
            account.drops.add("refused", code=f"0x{code:02x}", why=why, topic=topic, body=message.body[:256])
        elif message.record is None:
            topic, said = message.topic[:256].decode(errors="replace"), REFUSED_FOR_GOOD.get(code, f"code 0x{code:02x}")
            self.unsayable[topic] = f"{topic} ({said}): check its access rules and quotas"
        _settle(message, None if code < 0x80 else "refused")
        return False

    def again(self, out: bytearray, mid: int, now: int) -> None:
        """Frames a message again that the broker refused for the time being, if it is still in flight."""
        if message := self.in_flight.get(mid):
            body, properties = message.body, message.properties
            if message.replayed:
                body, properties = _replayed(message, now)
            elif message.is_json and message.arrival:
                body += b',"age_ms":%.3f}' % ((now - message.arrival) / 1e6)
            self._writer.publish(
                out, message.topic, body, 1, message.retain and self._granted.may_retain, mid, properties=properties
            )

    def drop_caches(self) -> None:
        self._writer.drop_caches()

    def abandon(self) -> None:
        """The process ends: what is left goes to the spool, or is counted as `shutdown`; its inputs then stay
        unacknowledged and come again."""
        self.lost()
        if self.backlog is not None:
            self.is_away = True
            for _ in range(len(self.outbox.qos1)):
                message = self.outbox.take(self.outbox.qos1)
                if message.may_be_kept:
                    self.backlog.hand_over(message)
                elif message.is_reply:
                    drop(message, "shutdown")
        self.outbox.abandon()


def _settle(message: Message, reason: str | None) -> None:
    """The broker has the message (None), or it was dropped for `reason`."""
    if message.record is None:
        message.receipt.done()
    else:
        message.record.done(reason)
        message.let_go()


def _replayed(message: Message, now: int) -> tuple[bytes, bytes]:
    """Body and properties of a message that comes from the spool: JSON says so itself."""
    age_ms = b"%.3f" % ((now - message.arrival) / 1e6)
    if message.is_json and message.arrival:
        return message.body + b',"replayed":true,"age_ms":' + age_ms + b"}", b""
    properties = user_property(b"replayed", b"true")
    return message.body, properties + user_property(b"age_ms", age_ms) if message.arrival else properties
