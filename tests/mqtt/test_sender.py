"""The sender between outbox and spool: who goes first, what is kept when the broker leaves, how a replayed message looks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from edged.mqtt.frames import FrameWriter, user_property
from edged.mqtt.outbox import Outbox
from edged.mqtt.sender import FIRST_MID, Granted, Sender
from edged.mqtt.suspicion import BARRED_NS, PROOF_PINGS
from edged.records import Message, Receipt
from edged.telemetry import PublishCounts

WINDOW = 8


class Record:
    """What the spool keeps of a message."""

    not_before = 0
    is_stored = False

    def __init__(self) -> None:
        self.ends: list[str | None] = []

    def done(self, reason: str | None = None) -> None:
        self.ends.append(reason)

    def release(self) -> None:
        raise NotImplementedError


def record(message: Message) -> Record:
    assert isinstance(message.record, Record)
    return message.record


def body(message: Message | None) -> bytes:
    assert message is not None
    return message.body


class Shelf:
    """A spool in memory, with `spool.Backlog`'s face."""

    def __init__(self, *, is_always: bool = False, is_strict: bool = False) -> None:
        self.is_always = is_always
        self.is_strict = is_strict
        self.is_ready = False
        self.is_failing = False
        self.has_room = True
        self.on_ready: Callable[[], None] | None = None
        self.on_room: Callable[[], None] | None = None
        self.stored: deque[Message] = deque()
        self.kept: list[Message] = []

    @property
    def is_behind(self) -> bool:
        return bool(self.stored)

    def room(self, size: int) -> int:
        return 1000 // size

    def hold(self, message: Message, due: int, before: Message | None) -> None:
        raise NotImplementedError

    def supersede(self, topic: bytes, before: Message | None) -> None:
        raise NotImplementedError

    def take_left(self) -> list[Message]:
        return []

    def store(self, message: Message) -> None:
        assert message.account is not None
        message.account.spooled += 1
        self.stored.append(message)

    def keep(self, message: Message) -> None:
        message.record = Record()
        self.kept.append(message)

    def hand_over(self, message: Message) -> None:
        self.store(message)

    def begin(self) -> None:
        self.is_ready = True

    def pause(self) -> None:
        self.is_ready = False

    def take(self, now: int) -> Message | None:
        if not self.stored:
            self.is_ready = False
            return None
        one = self.stored.popleft()
        return Message(one.topic, one.body, 1, is_json=one.is_json, arrival=one.arrival, record=Record(), replayed=True)


class Sending:
    """A sender with the spool, and what it framed."""

    def __init__(self, items: int = 100, *, is_v5: bool = True, is_always: bool = False, is_strict: bool = False) -> None:
        self.shelf = Shelf(is_always=is_always, is_strict=is_strict)
        self.outbox = Outbox(items, 1 << 20, self.shelf.hand_over)
        self.sender = Sender(self.outbox, WINDOW, is_v5, self.shelf)
        self.account = PublishCounts("p")
        self.connect()

    def connect(self, is_session_present: bool = False) -> None:
        self.sender.connected(Granted(is_session_present, 65535, 2, 0, True))
        self.shelf.begin()

    def put(self, *names: str, qos: int = 1) -> None:
        for name in names:
            self.account.made += 1
            self.sender.put(Message(b"t", name.encode(), qos, account=self.account))

    def fill(self) -> list[str]:
        """The names of what was framed, in order."""
        before = set(self.sender.in_flight)
        self.sender.fill(bytearray(), 1 << 18, 1_000_000)
        return [m.body.decode() for mid, m in self.sender.in_flight.items() if mid not in before]

    def ack(self) -> None:
        for mid in list(self.sender.in_flight):
            self.sender.acknowledge(mid, 0)
        assert self.account.balance() == 0


def names(count: int, prefix: str = "m") -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


def test_connected_nothing_is_stored() -> None:
    s = Sending()
    s.put(*names(20))
    assert s.fill() == names(8)
    assert not s.shelf.stored
    assert s.account.balance() == 0


def test_a_full_outbox_overflows_to_the_spool_and_live_goes_first() -> None:
    s = Sending(items=6)
    s.put(*names(9))
    assert [m.body for m in s.shelf.stored] == [b"m5", b"m6", b"m7", b"m8"]
    assert s.fill() == ["m0", "m1", "m2", "m3", "m4", "m5"]  # replay leaves a quarter of the window
    s.put("live")
    assert s.fill() == ["live"]
    s.ack()
    assert s.fill() == ["m6", "m7", "m8"]
    s.ack()
    assert (s.account.acked, s.account.spooled, s.account.drops.total) == (6, 4, 0)


def test_while_acknowledgments_are_slow_qos_0_still_has_room() -> None:
    s = Sending(items=8)
    s.put(*names(20))
    assert len(s.shelf.stored) == 14
    s.put(*names(3, "nought"), qos=0)
    assert [m.body for m in s.outbox.qos0] == [b"nought1", b"nought2"]
    assert s.account.drops.by_reason == {"overflow": 1}


def test_qos_0_never_goes_there() -> None:
    s = Sending(items=2)
    s.sender.leave()
    s.put(*names(5), qos=0)
    assert not s.shelf.stored
    assert s.account.drops.by_reason == {"overflow": 3}
    assert s.account.balance() == 0


def test_what_edged_says_of_itself_is_not_kept() -> None:
    s = Sending()
    s.sender.leave()
    s.sender.put(Message(b"edged/t/model/m", b"{}", 1))
    assert not s.shelf.stored
    assert len(s.outbox) == 1


def test_the_broker_leaves() -> None:
    s = Sending()
    s.put(*names(10))
    s.fill()
    s.sender.lost()
    s.shelf.pause()
    s.put("m10")
    assert not s.shelf.stored  # it may be back at once
    s.sender.leave()
    s.put("m11")
    assert [m.body.decode() for m in s.shelf.kept] == names(8)  # in flight: kept in both places
    assert [m.body.decode() for m in s.shelf.stored] == ["m8", "m9", "m10", "m11"]
    assert s.account.balance() == 0
    s.connect(is_session_present=True)
    assert s.fill() == names(8)
    assert next(iter(s.sender.in_flight)) == FIRST_MID  # under their old ids
    records = [record(m) for m in s.shelf.kept]
    s.ack()
    assert [r.ends for r in records] == [[None]] * 8
    assert s.fill() == ["m8", "m9", "m10", "m11"]


def test_strict_puts_new_ones_behind() -> None:
    s = Sending(is_strict=True)
    s.sender.leave()
    s.put("m0", "m1")
    s.connect()
    s.put("m2")
    assert s.fill() == ["m0", "m1", "m2"]
    s.put("m3")
    assert not s.shelf.stored
    assert s.fill() == ["m3"]


def test_always_keeps_a_copy() -> None:
    s = Sending(is_always=True)
    s.put("m0")
    assert len(s.shelf.kept) == 1
    assert s.fill() == ["m0"]
    s.ack()
    assert record(s.shelf.kept[0]).ends == [None]
    assert s.account.acked == 1


def test_refused_and_too_large_end_their_records() -> None:
    s = Sending(is_always=True)
    s.put("m0", "m1")
    s.fill()
    first, second = s.shelf.kept
    s.sender.acknowledge(first.mid, 0x87)
    assert record(first).ends == ["refused"]
    s.sender.lost()
    s.sender.connected(Granted(False, 65535, 2, 10, True))
    s.fill()
    assert record(second).ends == ["too_large"]
    assert s.account.drops.by_reason == {"refused": 1, "too_large": 1}
    assert s.account.balance() == 0


def test_a_refusal_is_remembered_until_something_is_taken() -> None:
    s = Sending()
    s.put("m0", "m1", "m2")
    s.fill()
    first, second, third = list(s.sender.in_flight)
    assert not s.sender.acknowledge(first, 0x87)
    assert s.account.refusal == "t (not authorised): check its access rules and quotas"
    assert s.sender.acknowledge(second, 0x97)  # to be sent again
    assert s.account.refusal == "t (code 0x97): check its access rules and quotas"
    s.sender.acknowledge(third, 0)
    assert s.account.refusal == ""


def lose(sending: Sending, times: int, now: int = 0) -> list[str]:
    """The topics that so many ends by the broker were put down to, one a connection that answered its pings."""
    guilty = []
    for _ in range(times):
        sending.sender.answered()
        sending.fill()
        message = sending.sender.lost(by_broker=True, now=now)
        guilty.append("" if message is None else message.body.decode())
        sending.connect()
    return guilty


def test_the_message_that_is_alone_at_the_third_end_in_a_row_is_dropped() -> None:
    """It begins with all of them on their way, and each that passes is innocent."""
    sending = Sending()
    sending.put(*names(5))
    assert lose(sending, 2) == ["", ""]
    assert sending.fill() == []  # the connection has not shown yet that it carries anything
    assert sending.sender.suspicion.take_pings() == PROOF_PINGS
    sending.sender.answered()
    assert sending.fill() == ["m0"]
    assert sending.fill() == []
    sending.ack()
    assert sending.fill() == ["m1"]
    assert body(sending.sender.lost(by_broker=True)) == b"m1"
    assert sending.account.drops.by_reason == {"refused": 1}
    assert "t (the broker ends the connection" in sending.account.refusal
    sending.connect()
    assert sending.fill() == ["m2", "m3", "m4"]
    sending.ack()
    assert sending.sender.is_empty


def test_only_ends_in_a_row_count_and_only_those_by_the_broker() -> None:
    sending = Sending()
    sending.put("m0")
    for by_broker in (True, False, True, False, True, False):
        sending.fill()
        assert sending.sender.lost(by_broker) is None
        sending.connect()
        assert not sending.sender.suspicion.is_careful
    assert lose(sending, 3) == ["", "", "m0"]


def test_a_connection_that_ends_by_itself_clears_those_that_wait() -> None:
    """Before it answered a ping, with nothing of ours on its way."""
    sending = Sending()
    sending.put("m0")
    for _ in range(20):
        lose(sending, 2)
        sending.fill()
        assert sending.sender.lost(by_broker=True) is None
        sending.connect()
        assert not sending.sender.suspicion.is_careful
    assert sending.account.drops.total == 0


def test_what_passed_under_suspicion_restores_the_flight_window() -> None:
    sending = Sending()
    sending.put(*names(20))
    lose(sending, 2)
    sending.sender.answered()
    for name in names(WINDOW):
        assert sending.fill() == [name]
        sending.ack()
    assert sending.fill() == names(20)[WINDOW : 2 * WINDOW]


def test_a_topic_that_did_it_twice_is_not_sent_for_a_while() -> None:
    """Else each message of it would cost three connections, forever. The others go on, and later it is tried again."""
    sending, now = Sending(), 10**9
    for name in ("m0", "m1"):
        sending.put(name)
        assert lose(sending, 3, now) == ["", "", name]
    sending.put("m2")
    sending.sender.put(Message(b"other", b"good", 1))
    out = bytearray()
    sending.sender.fill(out, 1 << 18, now + BARRED_NS - 1)
    assert [m.body for m in sending.sender.in_flight.values()] == [b"good"]
    assert sending.account.drops.by_reason == {"refused": 3}
    sending.put("m3")
    sending.sender.fill(out, 1 << 18, now + BARRED_NS)
    assert [m.body for m in sending.sender.in_flight.values()] == [b"good", b"m3"]
    sending.ack()


def test_at_qos_0_the_one_that_is_alone_is_lost_and_named() -> None:
    sending = Sending()
    for _ in range(2):
        sending.put("m0", qos=0)
        assert lose(sending, 1) == [""]
    sending.put("m1", "m2", qos=0)
    sending.sender.answered()
    sending.fill()
    assert (sending.account.in_flight, sending.account.queued) == (1, 1)
    assert sending.account.balance() == 0
    assert body(sending.sender.lost(by_broker=True)) == b"m1"
    assert sending.account.drops.by_reason == {"refused": 1}
    sending.connect()
    sending.fill()
    assert (sending.account.acked, sending.account.in_flight) == (3, 0)


def test_a_replayed_message_that_ends_the_connection_ends_its_record() -> None:
    """So that it is not sent again after a restart."""
    sending = Sending()
    sending.sender.leave()
    sending.put("m0")
    sending.connect()
    records = []
    for _ in range(3):
        sending.sender.answered()
        sending.sender.fill(bytearray(), 1 << 18, 1)
        records += [record(m) for m in sending.sender.in_flight.values()]
        sending.sender.lost(by_broker=True)
        sending.connect()
    assert len(set(map(id, records))) == 1
    assert records[0].ends == ["refused"]
    assert sending.sender.is_empty


@pytest.mark.parametrize("qos", [0, 1])
def test_what_is_too_large_is_remembered_until_something_is_taken(qos: int) -> None:
    s = Sending()
    s.sender.connected(Granted(False, 65535, 2, 100, True))
    s.put("x" * 200, qos=qos)
    s.fill()
    assert s.account.refusal.startswith("t (too large: 217 bytes, it takes packets of at most 100): raise its limit")
    assert s.account.drops.by_reason == {"too_large": 1}
    s.put("small", qos=qos)
    s.fill()
    s.ack()
    assert s.account.refusal == ""


def test_what_edged_says_of_itself_and_is_too_large_is_told_by_its_topic() -> None:
    s = Sending()
    s.sender.connected(Granted(False, 65535, 2, 100, True))
    s.sender.put(Message(b"edged/t/health", bytes(200)))
    s.fill()
    assert s.sender.unsayable["edged/t/health"].startswith("edged/t/health (too large: 230 bytes")


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_fault_in_framing_costs_the_message_that_shows_it(qos: int, at_once: bool) -> None:
    told: list[Message] = []
    account = PublishCounts("p")
    sender = Sender(Outbox(100, 1 << 20), WINDOW, True, on_fault=told.append)
    sender.connected(Granted(False, 65535, 2, 0, True))
    faulty = Message(b"t", "text", qos, account=account, receipt=Receipt(1))  # type: ignore[arg-type]
    out = bytearray()
    messages = [Message(b"t", b"a", qos, account=account), faulty, Message(b"t", b"b", qos, account=account)]
    account.made += len(messages)
    if at_once:
        assert sender.frame_now(out, 1 << 18, messages, 0) == len(messages)
    for message in () if at_once else messages:
        sender.put(message)
    sender.fill(out, 1 << 18, 0)
    assert [told, faulty.receipt.owed, account.drops.by_reason] == [[faulty], 0, {"internal_error": 1}]
    assert (len(sender.in_flight), account.balance()) == (2 * qos, 0)
    whole = bytearray()
    for body, mid in zip((b"a", b"b"), sender.in_flight or (0, 0), strict=True):
        FrameWriter(True).publish(whole, b"t", body, qos, mid=mid)
    assert out == whole


def test_room_for_those_who_can_wait_counts_bytes_and_what_flies() -> None:
    s = Sending()
    assert s.sender.room(100) == 50  # half of the items
    assert s.sender.room(100_000) == 5  # half of the bytes
    assert s.sender.room(10_000_000) == 1  # nothing is there: one goes, however large
    s.put("x" * 300_000)
    assert s.fill() == ["x" * 300_000]
    assert (s.outbox.bytes_queued, s.outbox.bytes_flying) == (0, 300_601)
    assert (s.sender.room(100_000), s.sender.room(10_000_000), s.sender.has_room) == (2, 0, False)
    s.ack()
    assert (s.outbox.bytes_flying, s.sender.has_room) == (0, True)
    s.sender.leave()
    assert s.sender.room(100) == 10  # what the disk takes


def test_bytes_in_flight_are_those_of_the_connection() -> None:
    s = Sending()
    s.put("m0", "m1")
    s.fill()
    assert s.outbox.bytes_flying == 2 * (1 + 2 + 600)
    s.sender.lost()
    assert (s.outbox.bytes_flying, s.outbox.bytes_queued) == (0, 2 * 603)
    s.connect()
    s.fill()
    s.ack()
    assert s.outbox.bytes_held == 0


def test_at_stop_everything_goes_to_the_spool() -> None:
    s = Sending()
    s.put(*names(10))
    s.fill()
    s.sender.abandon()
    assert [m.body.decode() for m in s.shelf.stored] == names(10)
    assert s.account.balance() == 0
    assert s.account.drops.total == 0


def framed(message: Message, *, is_v5: bool = True) -> bytes:
    s = Sending(is_v5=is_v5)
    s.shelf.stored.append(message)
    out = bytearray()
    s.sender.fill(out, 1 << 18, 12_500_000)
    return bytes(out)


def test_replayed_json_says_so_itself() -> None:
    data = framed(Message(b"t", b'{"a":1', 1, retain=True, is_json=True, arrival=500_000))
    assert data.endswith(b'{"a":1,"replayed":true,"age_ms":12.000}')
    assert data[0] == 0x32  # not retained


def test_other_formats_say_so_in_user_properties() -> None:
    properties = user_property(b"replayed", b"true") + user_property(b"age_ms", b"12.000")
    wanted = bytearray()
    FrameWriter(True).publish(wanted, b"t", b"\x01\x02", 1, mid=FIRST_MID, properties=properties)
    assert framed(Message(b"t", b"\x01\x02", 1, arrival=500_000)) == wanted
    assert b"replayed" not in framed(Message(b"t", b"\x01\x02", 1, arrival=500_000), is_v5=False)


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("is_always", [True, False])
def test_a_reply_is_never_kept_for_later(qos: int, is_always: bool) -> None:
    s = Sending(items=4, is_always=is_always)
    replies = [Message(b"t", b"r%d" % i, qos, account=s.account, is_reply=True, properties=b"p") for i in range(6)]
    s.account.made += 6
    for reply in replies[:5]:
        s.sender.put(reply)  # one more than there is room for
    assert s.account.drops.by_reason == {"overflow": 1}
    s.sender.leave()
    s.sender.put(replies[5])
    assert s.account.drops.by_reason == {"overflow": 1, "away": 5}
    assert not s.shelf.stored
    assert not s.shelf.kept
    assert not s.outbox
    s.connect()
    s.account.made += 1
    s.sender.put(Message(b"t", b"live", qos, account=s.account, is_reply=True))
    s.fill()
    s.sender.abandon()
    assert not s.shelf.stored
    assert s.account.balance() == 0


def test_a_reply_in_flight_is_sent_again_and_not_kept_on_disk() -> None:
    s = Sending()
    s.account.made += 1
    s.sender.put(Message(b"t", b"r", 1, account=s.account, is_reply=True))
    assert s.fill() == ["r"]
    s.sender.lost()
    s.sender.leave()
    s.connect(is_session_present=True)
    assert s.fill() == ["r"]
    assert not s.shelf.kept
    s.ack()


def test_an_answer_that_the_broker_would_not_take_is_told_of() -> None:
    s = Sending()
    s.sender.connected(Granted(False, 65535, 2, 300, True))
    for body in (bytes(100), bytes(300)):
        s.account.made += 1
        s.sender.put(Message(b"t", body, 0, account=s.account, is_reply=True, properties=b"p"))
    out = bytearray()
    s.sender.fill(out, 1 << 18, 1)
    assert b'"code":"too_large"' in out
    assert bytes(300) not in out
    assert (s.account.acked, s.account.balance()) == (2, 0)


def test_what_would_wait_for_nothing_is_framed_at_once() -> None:
    """And counted as if it had been put: in flight until it is acknowledged. Where the spool has a say it is put."""

    def is_framed(s: Sending, qos: int = 1) -> bool:
        s.account.made += 1
        message = Message(b"t", b"m", qos, account=s.account)
        done = s.sender.frame_now(bytearray(), 1 << 18, [message], 0) == 1
        if not done:
            s.sender.put(message)
        assert s.account.balance() == 0
        return done

    s = Sending()
    assert [is_framed(s) for _ in range(WINDOW + 1)] == [True] * WINDOW + [False]
    together = Sending()
    messages = [Message(b"t", b"m", 1, account=together.account) for _ in range(WINDOW + 2)]
    assert together.sender.frame_now(bytearray(), 1 << 18, messages, 0) == WINDOW
    assert together.account.in_flight == WINDOW
    assert Sending().sender.frame_now(bytearray(), 1, messages[:2], 0) == 1  # one fills the buffer
    assert (s.account.in_flight, s.account.queued) == (WINDOW, 1)
    s.ack()
    assert not is_framed(s)  # it would overtake the one that waits
    assert s.fill() == ["m", "m"]
    assert is_framed(s, 0)
    assert not is_framed(Sending(is_always=True))
    strict = Sending(is_strict=True)
    assert is_framed(strict)
    strict.sender.leave()
    strict.put("away")
    strict.connect()
    assert not is_framed(strict)
    assert is_framed(strict, 0)
    full = Sending()
    full.outbox.bytes_flying = full.outbox.max_bytes
    assert not is_framed(full)
