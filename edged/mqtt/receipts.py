"""The receipts one link owes its broker, in the order of arrival.

An acknowledgement leaves when nobody holds its receipt any more and every earlier one has left (MQTT 4.6 asks for that
order). When the connection goes, so does every debt: the broker sends again what it still holds, and a receipt from
before then must never acknowledge a newer message that happens to carry the same id. It is in no ledger any more.
"""

from __future__ import annotations

from collections import deque

from edged.records import Receipt


class Ledger:
    """Unacknowledged QoS 1 inputs. `unacked` is in order of arrival; `stale` are those of the connection before that somebody
    still holds: if the broker kept our session, they come again."""

    __slots__ = ("stale", "unacked")

    def __init__(self) -> None:
        self.unacked: deque[Receipt] = deque()
        self.stale: set[Receipt] = set()

    def __len__(self) -> int:
        return len(self.unacked)

    def add(self, mid: int, is_again: bool = False) -> Receipt:
        """Opens the debt for one PUBLISH; the caller holds the receipt (`owed == 1`) and calls `done`."""
        receipt = Receipt(mid, is_again)
        self.unacked.append(receipt)
        return receipt

    @property
    def is_due(self) -> bool:
        """Whether `take_settled` would return anything."""
        return bool(self.unacked) and self.unacked[0].owed <= 0

    def take_settled(self) -> list[int]:
        """The message ids to acknowledge now, in order; they are struck off."""
        unacked = self.unacked
        settled = []
        while unacked and unacked[0].owed <= 0:  # below zero only after a router failed half-way; acknowledged once all the same
            settled.append(unacked.popleft().mid)
        return settled

    def forget(self) -> None:
        """The connection is gone: nothing of it will be acknowledged."""
        self.stale.update(receipt for receipt in self.unacked if receipt.owed > 0)
        self.unacked.clear()

    def take_stale(self) -> set[Receipt]:
        """`stale`, once: at the next connection."""
        stale, self.stale = self.stale, set()
        return stale
