"""The outbox: bounded in items and bytes, drops the oldest QoS 0 first, counts everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.mqtt.outbox import Outbox
from edged.records import Message, Receipt
from edged.telemetry import PublishCounts


def put(outbox: Outbox, account: PublishCounts, name: str, qos: int = 0, size: int = 0) -> Receipt:
    receipt = Receipt(1)
    account.made += 1
    outbox.put(Message(name.encode(), bytes(size), qos, receipt=receipt, account=account))
    return receipt


def names(outbox: Outbox) -> list[str]:
    return [m.topic.decode() for m in (*outbox.qos0, *outbox.qos1)]


def test_oldest_qos_0_gives_way_first() -> None:
    outbox, account = Outbox(3, 1 << 20), PublishCounts("p")
    first = put(outbox, account, "one-a", 1)
    lost = put(outbox, account, "zero-a")
    put(outbox, account, "one-b", 1)
    put(outbox, account, "one-c", 1)
    assert names(outbox) == ["one-a", "one-b", "one-c"]
    assert (first.owed, lost.owed) == (1, 0)
    put(outbox, account, "one-d", 1)
    assert names(outbox) == ["one-b", "one-c", "one-d"]
    assert first.owed == 0
    assert account.drops.by_reason == {"overflow": 2}
    assert account.balance() == 0
    assert outbox.peak_items == 3


def test_bytes() -> None:
    outbox, account = Outbox(100, 5000), PublishCounts("p")
    for i in range(10):
        put(outbox, account, f"{i}", 1, 1000)
    assert names(outbox) == ["7", "8", "9"]
    assert outbox.bytes_queued == 3 * 1601 <= outbox.peak_bytes <= 5000
    assert account.balance() == 0


def test_one_message_always_has_its_place() -> None:
    outbox, account = Outbox(100, 5000), PublishCounts("p")
    huge = Message(b"huge", bytes(6000), 1, account=account)
    assert not outbox.is_full_for(huge)
    for name in ("small", "huge", "next"):
        receipt = put(outbox, account, name, 1, 6000 * (name == "huge"))
        assert names(outbox)[-1] == name
        assert receipt.owed == 1
    assert names(outbox) == ["next"]
    assert account.drops.by_reason == {"overflow": 2}
    assert outbox.is_full_for(huge)
    assert account.balance() == 0


def test_whether_one_would_be_dropped_for_another() -> None:
    outbox, account = Outbox(3, 5000), PublishCounts("p")
    small, large = (Message(b"one", bytes(size), 0, account=account) for size in (1, 4000))
    assert not outbox.would_drop(large)
    for name in "ab":
        put(outbox, account, name, 0, 1000)
    assert (outbox.would_drop(small), outbox.would_drop(large)) == (False, True)
    put(outbox, account, "c", 0, 1)
    assert outbox.would_drop(small)
    assert not account.drops.total


def test_what_flies_counts_too() -> None:
    outbox, account = Outbox(100, 5000), PublishCounts("p")
    outbox.bytes_flying = 3000
    for name in "abc":
        put(outbox, account, name, 1, 400)
    assert names(outbox) == ["c"]  # 1001 bytes each
    assert outbox.bytes_held == 4001


def test_put_back_goes_first() -> None:
    outbox, account = Outbox(100, 1 << 20), PublishCounts("p")
    for name in "abcd":
        put(outbox, account, name, 1)
    flying = [outbox.take(outbox.qos1) for _ in range(2)]
    account.in_flight += 2
    assert account.balance() == 0
    outbox.put_back(flying)
    assert names(outbox) == ["a", "b", "c", "d"]
    assert (account.queued, account.in_flight, account.balance()) == (4, 0, 0)


def test_abandon_keeps_receipts() -> None:
    outbox, account = Outbox(100, 1 << 20), PublishCounts("p")
    receipts = [put(outbox, account, "a", qos) for qos in (0, 1)]
    outbox.abandon()
    assert len(outbox) == 0
    assert [r.owed for r in receipts] == [1, 1]
    assert account.drops.by_reason == {"shutdown": 2}
    assert account.balance() == 0


@pytest.mark.parametrize("account", [None])
def test_messages_without_account(account: None) -> None:
    outbox = Outbox(1, 1 << 20)
    outbox.put(Message(b"a", b"", 0, account=account))
    outbox.put(Message(b"b", b"", 0, account=account))
    assert names(outbox) == ["b"]


@given(st.lists(st.tuples(st.sampled_from(["put", "take"]), st.integers(0, 1), st.integers(0, 3000))))
def test_bounds_and_account_hold(steps: list[tuple[str, int, int]]) -> None:
    outbox, account = Outbox(5, 8000), PublishCounts("p")
    for what, qos, size in steps:
        queue = outbox.qos1 if qos else outbox.qos0
        if what == "put":
            put(outbox, account, "t", qos, size)
        elif queue:
            outbox.take(queue)
            account.acked += 1
        assert len(outbox) == len(outbox.qos0) + len(outbox.qos1) <= 5
        assert outbox.bytes_queued == sum(m.size for m in (*outbox.qos0, *outbox.qos1)) <= 8000
        assert account.balance() == 0


def test_replies_go_and_the_others_stay_in_order() -> None:
    outbox, account = Outbox(9, 1 << 20), PublishCounts("p")
    receipts = [Receipt(i) for i in range(6)]
    for i, receipt in enumerate(receipts):
        account.made += 1
        outbox.put(Message(b"%d" % i, b"", i % 2, receipt=receipt, account=account, is_reply=i in (1, 2, 3), mid=9 * (i == 3)))
    outbox.drop_replies("away")
    assert names(outbox) == ["0", "4", "3", "5"]
    assert [r.owed for r in receipts] == [1, 0, 0, 1, 1, 1]
    assert account.drops.by_reason == {"away": 2}
    assert (len(outbox), outbox.bytes_queued) == (4, sum(m.size for m in (*outbox.qos0, *outbox.qos1)))
    assert account.balance() == 0
