from __future__ import annotations

import json

from edged.commands.init.topics import Heard, streams_of


def heard(payloads: list[bytes], kept: int = 0) -> Heard:
    one = Heard()
    for i, payload in enumerate(payloads):
        one.take(payload, i < kept)
    return one


def test_topics_that_differ_in_one_level_are_one_stream_with_a_key() -> None:
    pump = [json.dumps({"t": 20.5 + i, "state": "on", "acc": {"x": 1, "y": "2.5"}}).encode() for i in range(20)]
    streams = streams_of(
        {
            "plant/pumps/7/data": heard(pump),
            "plant/pumps/8/data": heard(pump),
            "plant/door": heard([b"21.5", b"22.5"]),
            "plant/log": heard([b"started", b"ended"]),
            "plant/photo": heard([b"\xff\xd8\xff\xe0" * 20]),
            "$SYS/broker/uptime": heard([b"1"]),
        },
        10.0,
    )
    assert [(one.topic, one.keys, one.rate) for one in streams] == [
        ("plant/pumps/{pump}/data", ("7", "8"), 2.0),
        ("plant/door", (), 0.2),
    ]
    fields = ["t", {"name": "x", "path": "acc.x"}, {"name": "y", "path": "acc.y"}]
    assert streams[0].reading.keys == {"decode": {"format": "json", "fields": fields}}
    assert streams[1].reading.keys == {"decode": {"format": "csv", "fields": ["value"]}}
    assert streams[0].about == "plant/pumps/{pump}/data: 2 keys (7, 8), 2/s, t, x, y"


def test_what_the_broker_had_kept_says_nothing_of_the_rate() -> None:
    (stream,) = streams_of({"a/b": heard([b'{"v": 1}'], kept=1)}, 10.0)
    assert (stream.rate, stream.about) == (0.0, "a/b: retained only, v")


def test_a_flood_of_payloads_is_not_kept() -> None:
    one = heard([b"%d" % i for i in range(1000)])
    assert (one.count, one.payloads) == (1000, [b"%d" % i for i in range(992, 1000)])
