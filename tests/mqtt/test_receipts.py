"""The ledger: acknowledgments leave in order of arrival, once, and never across a reconnect."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edged.mqtt.receipts import Ledger


def test_order_of_arrival() -> None:
    ledger = Ledger()
    first, second, third = (ledger.add(mid) for mid in (10, 20, 30))
    second.done()
    third.done()
    assert not ledger.is_due
    assert ledger.take_settled() == []
    first.done()
    assert ledger.is_due
    assert ledger.take_settled() == [10, 20, 30]
    assert ledger.take_settled() == []
    assert len(ledger) == 0


def test_everybody_who_holds_must_let_go() -> None:
    ledger = Ledger()
    receipt = ledger.add(1)
    receipt.hold()
    receipt.done()
    assert ledger.take_settled() == []
    receipt.done()
    assert ledger.take_settled() == [1]


def test_old_receipts_settle_nothing() -> None:
    ledger = Ledger()
    old = ledger.add(7)
    ledger.forget()
    new = ledger.add(7)
    old.done()
    assert ledger.take_settled() == []
    new.done()
    assert ledger.take_settled() == [7]


def test_what_somebody_holds_when_the_connection_goes_is_told_once() -> None:
    ledger = Ledger()
    held, settled = ledger.add(1), ledger.add(2)
    settled.done()
    ledger.forget()
    assert ledger.take_stale() == {held}
    assert ledger.take_stale() == set()


@given(st.permutations(range(8)))
def test_any_order_of_settling(order: list[int]) -> None:
    ledger = Ledger()
    receipts = [ledger.add(mid) for mid in range(1, 9)]
    left: list[int] = []
    for i in order:
        receipts[i].done()
        left += ledger.take_settled()
    assert left == list(range(1, 9))
