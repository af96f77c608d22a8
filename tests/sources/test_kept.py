from __future__ import annotations

from edged.records import NONE, Receipt
from edged.sources.kept import KeptMessages, as_kept


def test_a_message_that_was_seen_is_known_until_another_one_comes() -> None:
    kept = KeptMessages(8)
    assert not kept.is_known(b"a", b"1")
    assert kept.is_known(b"a", b"1")
    assert not kept.is_known(b"b", b"1")
    kept.see(b"a", b"2")
    assert kept.is_known(b"a", b"2")  # as it came
    assert not kept.is_known(b"a", b"1")


def test_what_is_remembered_is_bounded() -> None:
    kept = KeptMessages(2)
    for topic in (b"a", b"b", b"c", b"d" * 300):
        kept.see(topic, b"1")
    assert [kept.is_known(topic, b"1") for topic in (b"c", b"a", b"d" * 300)] == [True, False, False]


def test_the_receipt_of_what_owes_nothing_is_its_own() -> None:
    receipt = as_kept(NONE)
    assert (receipt is NONE, receipt.is_kept, receipt.mid, NONE.is_kept) == (False, True, 0, False)
    owed = Receipt(7)
    assert as_kept(owed) is owed
