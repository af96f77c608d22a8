"""What a broker keeps (retained messages) comes again with each subscription: it is a sample once, and a sign of life never."""

from __future__ import annotations

from edged.records import NONE, Receipt

TOPIC_BYTES = 256
"""Longer topics are not remembered, so that what is remembered is bounded in bytes."""


class KeptMessages:
    """The newest message of each topic of a source, by a number that tells it from others. When there are `most`, all are
    forgotten, and what the broker keeps of them counts once more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._last: dict[bytes, int] = {}

    def is_known(self, topic: bytes, payload: bytes) -> bool:
        """Whether a message that was kept is the one that was seen last, as it came or as it was kept."""
        before = self._last.get(topic)
        return self.see(topic, payload) == before

    def see(self, topic: bytes, payload: bytes) -> int:
        """Notes a message of any kind."""
        number = hash(payload)
        if len(topic) <= TOPIC_BYTES:
            if topic not in self._last and len(self._last) >= self._most:
                self._last.clear()
            self._last[topic] = number
        return number


def as_kept(receipt: Receipt) -> Receipt:
    """The receipt of a message that was kept; at QoS 0 one that nobody waits for."""
    if receipt is NONE:
        receipt = Receipt(0)
    receipt.is_kept = True
    return receipt
