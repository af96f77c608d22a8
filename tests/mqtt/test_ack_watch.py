from __future__ import annotations

from edged.mqtt.ack_watch import AckWatch


def test_time_counts_while_something_is_owed() -> None:
    watch = AckWatch()
    assert watch.look(10.0, False, 0, 0) == 0.0
    assert watch.look(11.0, True, 100, 100) == 0.0  # owed from here on, and with the broker's kernel
    assert watch.look(12.0, True, 100, 100) == 1.0
    assert watch.look(15.0, True, 100, 500) == 4.0  # more that is written is no answer
    watch.acknowledged()
    assert watch.has_acknowledged
    assert watch.look(16.0, True, 500, 500) == 0.0
    assert watch.look(17.0, False, 500, 500) == 0.0


def test_what_a_thin_line_has_not_delivered_cannot_be_acknowledged() -> None:
    watch = AckWatch()
    watch.look(10.0, True, 0, 1000)
    assert [watch.look(11.0 + i, True, 300 * (i + 1), 1000) for i in range(4)] == [0.0] * 4
    assert watch.look(20.0, True, 1500, 2000) == 6.0  # what was owed is there; what came later is its own


def test_a_new_connection_owes_nothing_yet() -> None:
    watch = AckWatch()
    watch.look(10.0, True, 50, 50)
    watch.acknowledged()
    watch.reason = "why"
    watch.begin()
    assert (watch.has_acknowledged, watch.reason) == (False, "why")
    assert watch.look(99.0, True, 50, 50) == 0.0
