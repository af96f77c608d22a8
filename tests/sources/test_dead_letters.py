from __future__ import annotations

import json
from typing import Any

from edged.clock.clock import Clock
from edged.records import Cap, Message, Reject, RejectsPlan
from edged.sources.dead_letters import DeadLetters


class Stopped(Clock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 10**9
        self.now = lambda: self.at
        self.utc = lambda: 1_700_000_000 * 10**9


def test_so_many_of_such_a_size_and_the_others_are_counted() -> None:
    sent: list[Message] = []
    clock = Stopped()
    letters = DeadLetters(RejectsPlan("main", "bad/a", (Cap(1, 10**9),), 6), "d", "a", sent.append, clock)
    letters.take(
        [Reject("short", "2 columns", b"1,2,3,4,5"), Reject("other", "another kind", b"x"), Reject("short", "", b"", times=3)]
    )
    letters.take([Reject("short", "", b"2")])
    clock.at += 10**9
    letters.take([Reject("checksum", "is wrong", b"\xff\xfe")])
    bodies: list[Any] = [json.loads(one.body) for one in sent]
    common = {"device": "d", "source": "a", "time": bodies[0]["time"]}
    assert bodies == [
        {**common, "reason": "short", "detail": "2 columns", "times": 1, "text": "1,2,3,"},
        {**common, "reason": "checksum", "detail": "is wrong", "times": 1, "base64": "//4=", "left_out": 4},
    ]
    assert {(one.topic, one.qos, one.retain) for one in sent} == {(b"bad/a", 0, False)}
