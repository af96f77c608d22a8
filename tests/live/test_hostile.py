"""Payloads, topics and keys made to hurt: the daemon lives, their good neighbours survive exactly, the rest is counted."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced

CONFIG = """
[device]
id = "t"
[memory]
budget = "200MiB"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.json]
type = "mqtt"
topic = "in/json"
max_bytes = "16KiB"
decode = {{ format = "json", fields = ["a", "b"] }}
[source.msgpack]
type = "mqtt"
topic = "in/msgpack"
decode = {{ format = "msgpack", fields = ["a", "b"] }}
[source.raw]
type = "mqtt"
topic = "in/raw"
decode = {{ format = "raw", dtype = "float32", fields = ["a", "b"] }}
[source.csv]
type = "mqtt"
topic = "in/csv"
decode = {{ format = "csv", fields = ["a", "b"] }}
[source.any]
type = "mqtt"
topic = "any/{{rest...}}"
max_keys = 64
decode = {{ format = "json", fields = ["a"] }}
[pipeline.p_json]
source = "json"
publish = {{ topic = "out/json" }}
[pipeline.p_msgpack]
source = "msgpack"
publish = {{ topic = "out/msgpack" }}
[pipeline.p_raw]
source = "raw"
publish = {{ topic = "out/raw" }}
[pipeline.p_csv]
source = "csv"
publish = {{ topic = "out/csv" }}
[pipeline.p_any]
source = "any"
publish = {{ topic = "out/any/{{rest}}" }}
"""

DEEP = 10_000
BAD_JSON: list[bytes] = [
    *(b"", b" ", b"\0", b"{", b"}", b"[", b"nul", b"null", b"true", b"1", b'"text"', b"[]", b"{}", b"[1,2]"),
    *(b'{"a":1}', b'{"a":1,"b":null}', b'{"a":1,"b":"2x"}', b'{"a":1,"b":{}}', b'{"a":1,"b":[[1]]}', b'{"a":[1,2],"b":[1]}'),
    *(b'{"a":NaN,"b":1}', b'{"a":Infinity,"b":1}', b'{"a":-Infinity,"b":1}', b'{"a":1e999,"b":1}', b'{"a":-1e999,"b":1}'),
    *(b'{"a":01,"b":1}', b'{"a":1.,"b":1}', b'{"a":.1,"b":1}', b'{"a":+1,"b":1}', b'{"a":0x1,"b":1}', b'{"a":1e,"b":1}'),
    *(b'{"a":1,"b":1,}', b'{"a":1 "b":1}', b"{a:1,b:1}", b"{'a':1,'b':1}", b'{"a":1,"b":1}x', b'{"a":1,"b":1}{"a":1,"b":1}'),
    *(b'{"a":1,"b":1', b'{"a":1,"b"', b'{"a":1,"b":', b'{"a":1,"b":1]', b'// c\n{"a":1,"b":1}', b'{"a":1,/**/"b":1}'),
    *(
        b'{"a\xff":1,"a":1}',
        b'\xef\xbb\xbf\xef\xbb\xbf{"a":1,"b":1}',
        b'\xff\xfe{\0"\0a\0"\0',
        b'{"a":1,"b":"\xc3\x28"}',
        b'{"a":"\xed\xa0\x80","b":1}',
    ),
    *(b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * (DEEP // 5), b'{"a":1,"b":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    *(b'{"a":1,"b":1,"c":"' + b"x" * 20_000 + b'"}', b"9" * 16_000, b'{"a":' + b"9" * 5000 + b',"b":1}'),
    *(b'{"a":1e' + b"9" * 5000 + b',"b":1}', b"\x00" * 100, bytes(range(256))),
]
BAD_MSGPACK = [
    b"",
    b"\xc1",
    b"\x91" * 5000,
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x82\xa1a\x01",
]
BAD_RAW = [b"", b"\0", b"\0" * 4, b"\0" * 9, struct.pack("<2f", float("nan"), 1), struct.pack("<2f", 1, float("inf"))]
BAD_CSV = [
    b"",
    b"1",
    b"1,2,3",
    b"a,b",
    b"1,nan",
    b"inf,1",
    b"1,1e999",
    b"1;2",
    b"1,\xff",
    b"1,2\x003",
    b"0x1,2",
    b"1_0,2",
    "١,٢".encode(),
]

NASTY_LEVELS = [
    *(
        "$SYS/broker",
        "a//b",
        "/",
        " ",
        "..",
        "../../etc",
        "{key}",
        "{rest}",
        "%s%n",
        "'; drop table",
        "\\",
        '"',
        "<script>",
    ),
    *("\u202egnp.exe", "🙂", "e\u0301", "\u200b", "NUL", "CON", "edged/t/status", "-rf", "x" * 1000, "a b", "ÿ"),
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Client]]:
    folder = tmp_path_factory.mktemp("hostile")
    with (
        Broker(folder, "max_queued_messages 0") as broker,
        Client(broker.port, "#") as client,
        Daemon(folder, CONFIG.format(port=broker.port)) as daemon,
    ):
        client.until(lambda: client.of("edged/t/status"))
        yield daemon, client
        assert balanced(client.health())


def rejected(client: Client, source: str, count: int) -> dict[str, int]:
    """The reasons, once so many have been refused."""
    health = client.health(lambda h: h["sources"][source]["rejected"] >= count)
    reasons: dict[str, int] = health["sources"][source]["dropped"]
    assert sum(reasons.values()) == health["sources"][source]["rejected"] == count
    return reasons


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("json", BAD_JSON, lambda i: json.dumps({"a": i, "b": -i}).encode()),
        ("msgpack", BAD_MSGPACK, lambda i: b"\x82\xa1a" + bytes([i]) + b"\xa1b" + bytes([256 - i if 1 <= i <= 32 else i])),
        ("raw", BAD_RAW, lambda i: struct.pack("<2f", i, -i)),
        ("csv", BAD_CSV, lambda i: b"%d,%d" % (i, -i)),
    ],
)
def test_bad_payloads_are_refused_one_by_one(stage: tuple[Daemon, Client], name: str, bad: list[bytes], good: Any) -> None:
    daemon, client = stage
    payloads: list[bytes] = [good(0)]
    for i, payload in enumerate(bad, 1):
        payloads += [payload, good(i)]
    client.publish_all(f"in/{name}", payloads)
    results = [m.json["outputs"] for m in client.wait(f"out/{name}", len(bad) + 1)]
    wanted = [{"a": i, "b": -i if name != "msgpack" or i <= 32 else i} for i in range(len(bad) + 1)]
    assert results == wanted
    reasons = rejected(client, name, len(bad))
    assert set(reasons) <= {
        *("malformed", "missing", "not_a_number", "not_finite", "too_large", "too_deep", "not_utf8", "other", "short", "long"),
    }
    if name == "json":
        assert reasons["too_large"] >= 2
        assert reasons["too_deep"] >= 1
        assert reasons["not_utf8"] >= 3
    assert daemon.process.poll() is None


def test_storms_hold_nobody_up(stage: tuple[Daemon, Client]) -> None:
    """64 KiB of nothing, in each format, eight times: all of it is counted, and a neighbour is answered."""
    daemon, client = stage
    client.forget()
    before = client.health()["sources"]
    nils = b"\x82\xa1a\xdd\0\0\x7d\0" + b"\xc0" * 32_000 + b"\xa1b\xdd\0\0\x7d\0" + b"\xc0" * 32_000
    storms = {
        "csv": (b"\n" * 65_536, "short", 65_536),
        "msgpack": (nils, "missing", 32_000),
        "raw": (struct.pack("<2f", float("nan"), 1) * 8000, "not_finite", 8000),
        "json": (b'{"a":[%b],"b":[%b]}' % ((b",".join([b"null"] * 1500),) * 2), "missing", 1500),
    }
    for name, (payload, _, _) in storms.items():
        client.publish_all(f"in/{name}", [payload] * 8)
    client.publish("in/json", b'{"a":4,"b":2}')
    assert client.wait("out/json")[0].json["outputs"] == {"a": 4, "b": 2}
    for name, (_, reason, count) in storms.items():
        wanted = before[name]["rejected"] + 8 * count
        after = client.health(lambda h: h["sources"][name]["rejected"] >= wanted)["sources"][name]
        assert after["rejected"] == wanted
        assert after["dropped"][reason] == before[name]["dropped"].get(reason, 0) + 8 * count
    assert daemon.resident_kib < 200 * 1024


def test_nasty_topics_stay_below_the_configured_one(stage: tuple[Daemon, Client]) -> None:
    daemon, client = stage
    client.forget()
    for level in NASTY_LEVELS:
        client.publish(f"any/{level}", b'{"a":1}')
    client.publish("any/last", b'{"a":1}')
    client.wait("out/any/last")
    published = {m.topic for m in client.messages if not m.topic.startswith(("any/", "edged/t/"))}
    assert published == {f"out/any/{level}" for level in [*NASTY_LEVELS, "last"]}
    keys = {m.topic: m.json["key"] for m in client.messages if m.topic.startswith("out/any/")}
    assert keys == {f"out/any/{level}": level for level in [*NASTY_LEVELS, "last"]}
    own = {m.topic for m in client.messages if m.topic.startswith("edged/t/")}
    assert own <= {"edged/t/health", "edged/t/event", "edged/t/status", "edged/t/source/any"}
    for line in daemon.log.splitlines():  # nothing of all this could fake a line of the log
        assert line.startswith("timestamp="), line


def test_a_payload_larger_than_the_packet_limit_never_comes(stage: tuple[Daemon, Client]) -> None:
    """The broker is told the limit and drops what is larger; what is larger than `max_bytes` alone is refused here."""
    daemon, client = stage
    before = client.health()["sources"]["csv"]
    client.forget()
    client.publish("in/csv", b"1," + b"1" * 3_000_000)
    client.publish("in/csv", b"1," + b"1" * 500_000)
    client.publish("in/csv", b"5,6")
    assert client.wait("out/csv")[0].json["outputs"] == {"a": 5, "b": 6}
    after = client.health(lambda h: h["sources"]["csv"]["rows"] > before["rows"])["sources"]["csv"]
    assert after["dropped"]["too_large"] == before["dropped"].get("too_large", 0) + 1
    assert daemon.resident_kib < 200 * 1024
