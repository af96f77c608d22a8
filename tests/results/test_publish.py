"""One publish entry: filter, topic, encoding, receipt, and the account of what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from edged.records import NONE, Message, Receipt, Result
from edged.results.encode import Envelope, make_encoder
from edged.results.heads.anomaly import AnomalyPlan
from edged.results.publish import Publish, next_due
from edged.results.when import Condition, When, WhenPlan
from edged.telemetry import PublishCounts
from edged.topics import parse_template
from tests.fakes.outlet import Outlet

OUTPUT = AnomalyPlan(("y",), above=0.5, max_keys=4)


def publish(outbox: Outlet, *, qos: int = 1, when: WhenPlan | None = None, format: str = "json", deadline: int = 0) -> Publish:
    names = {0: ("a",), 1: ("b",)}
    envelope = Envelope("dev", "pipe", "m@1234", "cafe0000", lambda key: names[key])
    return Publish(
        encoder=make_encoder(envelope, OUTPUT.result_fields(), format, ("score",) if format != "json" else ()),
        when=When(when, 4) if when is not None else None,
        topic=lambda key: b"out/" + names[key][0].encode(),
        outlet=outbox,
        counts=PublishCounts("pipeline.pipe.publish[0]"),
        qos=qos,
        retain=True,
        deadline=deadline,
    )


def result(score: float, key: int = 0, seq: int = 1) -> Result:
    return Result({"score": score, "anomaly": score > 0.5}, key, seq, 10**18, 5_000_000)


def test_a_result_becomes_a_message_on_the_topic_of_its_key() -> None:
    outbox = Outlet()
    entry = publish(outbox)
    assert entry.offer(result(0.25), NONE, 6_000_000)
    assert entry.offer(result(0.75, key=1), NONE, 6_000_000)
    first, second = outbox.sent
    assert (first.topic, second.topic) == (b"out/a", b"out/b")
    assert (first.qos, first.retain, first.is_json, first.arrival) == (1, True, True, 5_000_000)
    body = msgspec.json.decode(first.body + b"}")
    assert body["key"] == "a"
    assert body["score"] == 0.25
    assert entry.counts.made == 2
    assert first.account is entry.counts


def offer(entry: Publish, results: list[Result], receipts: list[Receipt], together: bool) -> int:
    if together:
        return entry.offer_all(results, receipts, 0)
    return sum(entry.offer(*each, 0) for each in zip(results, receipts, strict=True))


@pytest.mark.parametrize("together", [False, True])
def test_a_key_that_no_broker_takes_in_a_topic_costs_its_result_alone(together: bool) -> None:
    outbox, receipt = Outlet(), Receipt(7)
    entry = publish(outbox)
    fill = parse_template("{key}/out", {}, ("key",)).fill
    entry._topic = lambda key: fill({"key": ("$a", "b")[key]}).encode()
    assert offer(entry, [result(0.25, key) for key in (0, 1, 0)], [receipt] * 3, together) == 3
    assert [m.topic for m in outbox.sent] == [b"b/out"]
    assert entry.counts.drops.by_reason == {"bad_key": 2}
    assert (entry.counts.made, receipt.owed) == (3, 2)  # the one that was sent holds it


def test_other_formats_are_whole() -> None:
    outbox = Outlet()
    publish(outbox, format="text").offer(result(0.25), NONE, 0)
    assert (outbox.sent[0].body, outbox.sent[0].is_json, outbox.sent[0].arrival) == (b"0.25", False, 5_000_000)


def test_only_at_qos_1_does_a_message_hold_the_receipt() -> None:
    for qos, owed in ((1, 2), (0, 1)):
        outbox, receipt = Outlet(), Receipt(7)
        publish(outbox, qos=qos).offer(result(1.0), receipt, 0)
        assert receipt.owed == owed
        outbox.sent[0].receipt.done()
        assert receipt.owed == 1


def test_what_the_filter_holds_back_is_counted_and_owes_nothing() -> None:
    outbox, receipt = Outlet(), Receipt(7)
    entry = publish(outbox, when=WhenPlan(Condition(of=("score",), above=0.5)))
    assert not entry.offer(result(0.2), receipt, 0)
    assert (entry.counts.filtered, entry.counts.made, receipt.owed) == (1, 0, 1)
    assert entry.offer(result(0.8), receipt, 0)
    assert entry.next_due() is None


def test_what_was_held_back_goes_when_it_may() -> None:
    outbox = Outlet()
    entry = publish(outbox, when=WhenPlan(min_interval=100))
    other = publish(outbox, when=WhenPlan(min_interval=1000))
    plain = publish(outbox)
    assert next_due([entry, other, plain]) is None
    for seq, now in ((1, 0), (2, 10), (3, 20)):
        entry.offer(result(0.1 * seq, seq=seq), NONE, now)
    other.offer(result(0.0), NONE, 0)
    other.offer(result(0.0), NONE, 1)
    assert next_due([entry, other, plain]) == 100
    outbox.sent.clear()
    entry.offer_due(99)
    assert outbox.sent == []
    entry.offer_due(100)
    assert [msgspec.json.decode(m.body + b"}")["seq"] for m in outbox.sent] == [3]
    assert outbox.sent[0].receipt is NONE  # its input was settled when it was held back
    plain.offer_due(100)
    assert next_due([entry]) is None


def test_a_key_that_is_given_to_another_sensor_gets_another_topic() -> None:
    outbox = Outlet()
    names = ["old"]
    entry = Publish(
        encoder=make_encoder(Envelope("d", "p", None, "r"), OUTPUT.result_fields()),
        when=When(WhenPlan(change_of=("anomaly",)), 1),
        topic=lambda key: names[0].encode(),
        outlet=outbox,
        counts=PublishCounts("p"),
        qos=0,
        retain=False,
    )
    assert entry.offer(result(0.1), NONE, 0)
    names[0] = "new"
    assert not entry.offer(result(0.1), NONE, 0)
    entry.reset(0)
    assert entry.offer(result(0.1), NONE, 0)
    assert [m.topic for m in outbox.sent] == [b"old", b"new"]


def test_what_was_held_back_for_longer_than_the_deadline_is_dropped() -> None:
    outbox = Outlet()
    entry = publish(outbox, when=WhenPlan(min_interval=100), deadline=50)
    for seq in (1, 2):
        entry.offer(result(0.1, seq=seq), NONE, 5_000_000)
    entry.offer_due(5_000_100)
    assert [msgspec.json.decode(m.body + b"}")["seq"] for m in outbox.sent] == [1]
    assert (entry.counts.made, entry.counts.drops.by_reason) == (2, {"expired": 1})


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("where", ["encode", "send"])
def test_a_fault_costs_the_result_that_shows_it(where: str, together: bool) -> None:
    class Link(Outlet):
        def send(self, message: Message) -> None:
            if b'"score":13' in message.body:
                raise ZeroDivisionError("13")
            super().send(message)

    outbox = Link()
    entry, receipts = publish(outbox), [Receipt(i) for i in range(3)]
    faulty: Any = 13.0 if where == "send" else object()
    results = [result(12.0), result(14.0), result(14.0)]
    results[1].body["score"] = faulty
    assert offer(entry, results, receipts, together) == 3
    for receipt in receipts:
        receipt.done()
    assert len(outbox.sent) == 2
    assert [r.owed for r in receipts] == [1, 0, 1]
    assert (entry.counts.made, entry.counts.drops.by_reason) == (3, {"internal_error": 1})


@pytest.mark.parametrize("framed", [0, 2, 3])
def test_what_would_wait_for_nothing_is_sent_at_once_and_the_rest_waits(framed: int) -> None:
    class Link(Outlet):
        def frame_now(self, messages: Sequence[Message]) -> int:
            self.sent += messages[:framed]
            return framed

    outbox = Link()
    entry = publish(outbox)
    assert entry.offer_all([result(0.5, seq=seq) for seq in (1, 2, 3)], [NONE] * 3, 0) == 3
    assert [msgspec.json.decode(m.body + b"}")["seq"] for m in outbox.sent] == [1, 2, 3]
    assert entry.counts.made == 3
    assert entry.counts.last is outbox.sent[-1]


def held(outbox: Outlet) -> dict[str, tuple[int, int]]:
    """By topic: which result is on disk, and when it may go."""
    return {t.decode(): (msgspec.json.decode(m.body + b"}")["seq"], due) for t, (m, due) in outbox.held.items()}


def test_what_is_held_back_is_on_disk_with_its_receipt_and_superseded_by_the_next() -> None:
    outbox = Outlet(can_hold=True)
    entry = publish(outbox, when=WhenPlan(min_interval=100))
    receipts = [Receipt(i) for i in range(5)]
    for seq, now in ((0, 0), (1, 10), (2, 20)):
        entry.offer(result(0.1, seq=seq), receipts[seq], now)
        receipts[seq].done()
    entry.offer(result(0.1, key=1, seq=3), receipts[3], 30)
    assert held(outbox) == {"out/a": (2, 100)}
    assert receipts[2].owed == 1
    assert (entry.counts.made, entry.counts.filtered) == (2, 2)
    outbox.sent.clear()
    entry.offer_due(100)
    assert outbox.sent == [outbox.held[b"out/a"][0]]  # the message that is on disk, which goes on keeping its receipt
    assert outbox.sent[0].retain
    assert (entry.counts.made, receipts[2].owed) == (3, 1)


def test_what_is_held_back_ends_where_the_conditions_no_longer_hold() -> None:
    outbox = Outlet(can_hold=True)
    entry = publish(outbox, when=WhenPlan(change_of=("anomaly",), min_interval=100))
    for now, score in ((0, 0.1), (10, 0.9)):
        entry.offer(result(score, seq=now), NONE, now)
    assert held(outbox) == {"out/a": (10, 100)}
    entry.offer(result(0.2), NONE, 20)  # changed back
    assert held(outbox) == {}
    entry.flush(30)
    assert len(outbox.sent) == 1


def test_only_what_min_interval_holds_back_at_qos_1_is_put_on_disk() -> None:
    outbox = Outlet(can_hold=True)
    for when, qos in ((WhenPlan(change_of=("anomaly",), max_interval=100), 1), (WhenPlan(min_interval=100), 0)):
        entry = publish(outbox, when=when, qos=qos)
        entry.offer(result(0.1), NONE, 0)
        entry.offer(result(0.1), NONE, 1)
        assert held(outbox) == {}
        assert entry.next_due() == 100
        outbox.sent.clear()
        entry.flush(50)
        assert len(outbox.sent) == (0 if when.min_interval is None else 1)


def test_what_expires_while_it_is_held_back_ends_on_disk_too() -> None:
    outbox, receipt = Outlet(can_hold=True), Receipt(1)
    entry = publish(outbox, when=WhenPlan(min_interval=100), deadline=50)
    entry.offer(result(0.1), NONE, 5_000_000)
    entry.offer(result(0.1), receipt, 5_000_000)
    entry.offer_due(5_000_100)
    assert (entry.counts.made, entry.counts.drops.by_reason, receipt.owed) == (2, {"expired": 1}, 1)


def test_a_key_that_is_given_to_another_sensor_leaves_its_last_word() -> None:
    for can_hold in (True, False):
        outbox = Outlet(can_hold=can_hold)
        entry = publish(outbox, when=WhenPlan(min_interval=100))
        for seq in (1, 2):
            entry.offer(result(0.1, seq=seq), NONE, 0)
        entry.reset(0)
        assert len(outbox.sent) == (2 if can_hold else 1)
        assert entry.counts.drops.by_reason == ({} if can_hold else {"restart": 1})
        assert entry.counts.made == 2
        assert entry.next_due() is None
