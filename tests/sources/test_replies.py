"""Requests and their one answer each: whatever becomes of a request, somebody is told, once, and every ledger adds up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.mqtt.frames import read_request, reply_properties
from edged.records import NONE, Message, Receipt
from edged.sources.replies import MAX_BYTES, MAX_REQUESTS, Ask, Replies
from edged.topics import parse_filter
from tests.fakes.outlet import Outlet
from tests.support.mqtt_peer import text

S = 10**9


def wanting(topic: str = "clients/7/answers", correlation: bytes | None = b"\x00\xff", expiry_s: int | None = None) -> bytes:
    """The properties of a request, between those of others."""
    return b"\x0b\x05\x08" + text(topic.encode()) + reply_properties(correlation, expiry_s) + b"\x26" + text(b"\x08") + text(b"v")


class Rig:
    def __init__(self, *filters: str) -> None:
        self.outlet = Outlet()
        self.alarms: list[int] = []
        self.expired: list[Receipt] = []
        self.replies = Replies("source.s: answers", self.alarms.append)
        self.replies.configure(
            [parse_filter(f) for f in filters or ("clients/+/answers",)], self.outlet.send, self.expired.extend
        )

    def ask(self, properties: bytes = wanting(), receipt: Receipt = NONE, qos: int = 1, now: int = 5) -> Ask:
        ask = self.replies.ask(properties, receipt, qos, now)
        assert ask is not None
        return ask

    def settle(self) -> None:
        """The broker has all that was sent."""
        for message in self.outlet.sent:
            if message.receipt is not NONE and message.account is not None:
                message.account.acked += 1
                message.let_go()

    def check(self) -> None:
        counts = self.replies.counts
        assert counts.balance() == 0
        assert counts.replies.balance() in (0, len([m for m in self.outlet.sent if m.receipt is not NONE]))

    @property
    def sent(self) -> list[Message]:
        return self.outlet.sent

    @property
    def codes(self) -> list[Any]:
        return [json.loads(m.body)["error"]["code"] if not m.is_json else "answer" for m in self.sent]


def test_a_result_is_the_answer_and_the_input_waits_until_the_broker_has_it() -> None:
    rig, receipt = Rig(), Receipt(9)
    ask = rig.ask(receipt=receipt, qos=1)
    ask.hold()  # a slot
    receipt.done()  # the router
    ask.done()
    ask.answer(b'{"label":"ok"', True, 6)
    ask.done()
    message = rig.sent[0]
    assert (message.topic, message.qos, message.retain, message.is_reply) == (b"clients/7/answers", 1, False, True)
    assert message.properties == reply_properties(b"\x00\xff", None)
    assert (message.arrival, message.is_json) == (5, True)
    assert receipt.owed == 1
    rig.settle()
    assert receipt.owed == 0
    assert rig.replies.counts.answered == 1
    rig.check()


def test_the_first_word_is_the_answer_and_there_is_no_second() -> None:
    rig = Rig()
    ask = rig.ask()
    ask.fail("malformed", "expected a number")
    ask.answer(b"{}", True, 6)
    ask.fail("overflow", "again")
    ask.done()
    assert rig.codes == ["malformed"]
    assert json.loads(rig.sent[0].body) == {"error": {"code": "malformed", "message": "expected a number"}}
    rig.settle()
    rig.check()


def test_nobody_waits_in_vain() -> None:
    rig, receipt = Rig(), Receipt(1)
    ask = rig.ask(receipt=receipt)
    receipt.done()
    ask.done()
    assert rig.codes == ["no_result"]
    rig.settle()
    assert receipt.owed == 0
    rig.check()


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("", "the Response Topic is empty"),
        ("clients/+/answers", "the Response Topic has a wildcard"),
        ("clients/#", "the Response Topic has a wildcard"),
        ("clients/\x01/answers", "the Response Topic has U+0001, which brokers refuse"),
        ("clients/\ufdd0/answers", "the Response Topic has U+FDD0, which brokers refuse"),
        ("$SYS/clients", "topics that begin with $ belong to the broker"),
        ("clients/7/other", "reply does not allow this Response Topic"),
        (f"clients/{'x' * MAX_BYTES}/answers", f"Response Topic and Correlation Data are more than {MAX_BYTES} bytes"),
    ],
)
def test_what_is_not_allowed_is_counted_and_an_input_like_any_other(topic: str, why: str) -> None:
    rig = Rig("clients/+/answers", "#")
    rig.replies.configure([parse_filter("clients/+/answers")], rig.outlet.send)
    assert rig.replies.ask(wanting(topic), NONE, 0, 1) is None
    assert rig.replies.counts.forbidden.by_reason == {"forbidden": 1}
    assert (rig.sent, rig.replies.counts.asked) == ([], 0)
    request = read_request(wanting(topic))
    assert request is not None
    assert rig.replies._refusal(request) == why


def test_a_filter_of_everything_does_not_reach_the_brokers_own() -> None:
    rig = Rig("#")
    assert rig.replies.ask(wanting("$SYS/x"), NONE, 0, 1) is None
    rig.ask(wanting("anything/at/all"))


def test_without_a_response_topic_it_is_no_request() -> None:
    rig = Rig()
    for properties in (b"", b"\x0b\x05", b"\x0b\x08", reply_properties(b"\x08", 8)):
        assert rig.replies.ask(properties, NONE, 0, 1) is None
    assert rig.replies.counts.forbidden.total == 0


def test_too_many_are_told_so_at_once() -> None:
    rig = Rig()
    for _ in range(MAX_REQUESTS):
        assert rig.ask().is_open
    late = rig.ask()
    late.done()
    assert not late.is_open
    assert rig.codes == ["busy"]
    assert rig.replies.counts.waiting == MAX_REQUESTS
    rig.check()


def test_a_place_is_free_when_the_answer_is_settled() -> None:
    rig = Rig()
    asks = [rig.ask() for _ in range(MAX_REQUESTS)]
    asks[0].answer(b"{", True, 6)
    asks[0].done()
    assert not rig.ask().is_open
    rig.settle()
    assert rig.ask().is_open


def test_a_request_expires_wherever_it_waits() -> None:
    rig = Rig()
    short, long, ever = (rig.ask(wanting(expiry_s=s), now=0) for s in (1, 3, None))
    assert min(rig.alarms) == 1 * S
    rig.replies.look(1 * S)
    assert rig.codes == ["expired"]
    assert rig.expired == [short]
    assert rig.alarms[-1] == 3 * S
    long.answer(b"{", True, 3 * S)  # before the alarm rang
    ever.answer(b"{", True, 3 * S)
    assert rig.codes == ["expired", "expired", "answer"]
    for ask in (short, long, ever):
        ask.done()
    rig.settle()
    rig.check()


def test_what_is_left_of_its_time_is_the_answers() -> None:
    rig = Rig()
    rig.ask(wanting(expiry_s=10), now=0).answer(b"{", True, int(7.2 * S))
    assert rig.sent[0].properties == reply_properties(b"\x00\xff", 3)


def test_what_the_broker_sends_again_is_answered_then() -> None:
    rig, first, second = Rig(), Receipt(1), Receipt(2)
    gone, stays = rig.ask(receipt=first), rig.ask(receipt=second)
    assert rig.replies.supersede({first}) == {gone}
    gone.answer(b"{", True, 6)  # it was in a run
    gone.done()
    stays.answer(b"{", True, 6)
    stays.done()
    assert rig.codes == ["answer"]
    assert (rig.replies.counts.superseded, rig.replies.counts.answered) == (1, 1)
    rig.settle()
    rig.check()


def test_at_a_stop_all_that_wait_are_told() -> None:
    rig = Rig()
    asks = [rig.ask(), rig.ask()]
    asks[0].answer(b"{", True, 6)
    rig.replies.stop()
    assert rig.codes == ["answer", "shutdown"]
    rig.check()


def test_an_answer_that_is_dropped_at_once_ends_its_request() -> None:
    """The link is away: it lets go within `send`."""
    rig, receipt = Rig(), Receipt(1)
    rig.replies.configure([parse_filter("clients/+/answers")], lambda message: message.receipt.done())
    ask = rig.ask(receipt=receipt)
    receipt.done()
    ask.done()
    assert (ask.owed, receipt.owed) == (0, 0)
    assert all(rig.replies.ask(wanting(), NONE, 0, 1).is_open for _ in range(MAX_REQUESTS))  # type: ignore[union-attr]


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300),
    st.one_of(st.none(), st.binary(max_size=300)),
    st.one_of(st.none(), st.integers(0, 2**32 - 1)),
)
def test_a_request_is_read_as_it_was_written(topic: str, correlation: bytes | None, expiry_s: int | None) -> None:
    assert read_request(wanting(topic, correlation, expiry_s)) == (topic.encode(), correlation, expiry_s)
