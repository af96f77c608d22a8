from __future__ import annotations

from edged.health.homeassistant.births import Births


def test_only_a_start_counts() -> None:
    births = Births()
    for payload in (b"offline", b"online", b"", b"online\n", b"onlineish"):
        births.take(payload)
    assert births.count == 2
