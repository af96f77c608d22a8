"""Messages of one read become one block a source; receipts are settled by whoever holds them last."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import msgspec
import numpy as np

from edged.clock.clock import Clock
from edged.config import schema
from edged.decode import PayloadDecoder, make_payload_decoder
from edged.decode.plan import DecodePlan
from edged.decode.planner import plan_decode
from edged.decode.values import UNTOLD, Arrived
from edged.mqtt.frames import UNREAD, Inbound
from edged.records import NONE, Block, Receipt, Rows
from edged.sources.freshness import Freshness
from edged.sources.kept import KeptMessages
from edged.sources.mqtt import MqttSource, SourceWiring
from edged.sources.replies import Replies
from edged.sources.router import ROUTES, Filter, Router, Told, Wanted
from edged.stamp import KeyTable, Stamper, Thinning
from edged.telemetry import Drops
from edged.topics import parse_filter
from tests.fakes.outlet import Outlet
from tests.support.parts import parts_of


def source(
    name: str,
    topics: list[str],
    *,
    key: tuple[str, ...] = (),
    keys: KeyTable | None = None,
    retained: bool = False,
    first: int = 1,
    stamper: Stamper | None = None,
    every_ns: int | None = None,
) -> MqttSource:
    filters = [Filter(first + i, parse_filter(t)) for i, t in enumerate(topics)]
    captures = filters[0].topic.captures
    fields = tuple(k for k in key if k not in captures)
    decode = schema.Decode(format="csv", fields=tuple(schema.FieldSpec(name=n) for n in (*fields, "v")))
    plan = plan_decode(decode, fields, "drop", 1000, None, None, "float32")
    assert isinstance(plan, DecodePlan)
    if keys is None and (key or captures):
        keys = KeyTable(3, None)
    parts = [("capture", captures.index(k)) if k in captures else ("field", fields.index(k)) for k in key or captures]
    early = None if every_ns is None else Thinning(every_ns, 1 if keys is None else 3, lambda keys, arrival: None)
    given = parts_of(name, keys, stamper or Stamper(None, None, keys), early=early)
    return MqttSource(name, Wanted(filters), make_payload_decoder(plan), given, parts, KeptMessages(4) if retained else None)


def message(topic: str, payload: bytes, *identifiers: int, receipt: Receipt = NONE, retain: bool = False) -> Inbound:
    return (topic.encode(), payload, 1, retain, identifiers, receipt, b"")


def router(*sources: MqttSource) -> tuple[Router, dict[str, list[Block]]]:
    blocks: dict[str, list[Block]] = {}
    for one in sources:
        one.connect(SourceWiring([blocks.setdefault(one.name, []).append]))
    return Router(sources, Clock(), Drops("broker.test")), blocks


def test_one_read_is_one_block_a_source() -> None:
    r, blocks = router(source("a", ["in/a"]), source("b", ["in/b", "also/b"], first=5))
    r.on_publishes([message("in/a", b"1"), message("in/b", b"2"), message("in/a", b"3"), message("also/b", b"4\n5")])
    assert [b.values[:, 0].tolist() for b in blocks["a"]] == [[1, 3]]
    assert [b.values[:, 0].tolist() for b in blocks["b"]] == [[2, 4, 5]]
    assert blocks["a"][0].arrival == blocks["b"][0].arrival


def test_of_one_read_the_stream_that_others_are_joined_to_comes_last() -> None:
    pace, joined = source("pace", ["in/a"]), source("joined", ["in/b"], first=5)
    r, _ = router(pace, joined)
    came: list[str] = []
    pace.connect(SourceWiring([lambda block: came.append("pace")], is_pace=True))
    joined.connect(SourceWiring([lambda block: came.append("joined")]))
    r.on_publishes([message("in/a", b"1"), message("in/b", b"2"), message("in/a", b"3")])
    assert came == ["joined", "pace"]


def test_receipts_end_unless_somebody_holds_them() -> None:
    held: list[Receipt] = []
    a = source("a", ["in/a"])
    r, _ = router(a)

    def keep(block: Block) -> None:
        for receipt in block.receipts[:1]:
            receipt.hold()
            held.append(receipt)

    a.connect(SourceWiring([keep]))
    receipts = [Receipt(i) for i in range(4)]
    payloads = [b"1", b"bad", b"2", b"3"]
    r.on_publishes([message("in/a", p, receipt=x) for p, x in zip(payloads, receipts, strict=True)])
    assert [x.owed for x in receipts] == [1, 0, 0, 0]
    assert held == receipts[:1]
    assert (a.counts.read, a.counts.rows, a.counts.rejected, a.counts.messages) == (4, 3, 1, 4)


def test_receipts_go_with_their_rows_where_some_are_refused_and_some_are_many() -> None:
    a = source("a", ["in/{k}"])
    r, blocks = router(a)
    receipts = [Receipt(i) for i in range(5)]
    topics = ["in/x", "in/y", "in/x", "in/z", "in/w"]
    payloads = [b"1\n2", b"no", b"3", b"4", b"5"]
    r.on_publishes([message(t, p, receipt=x) for t, p, x in zip(topics, payloads, receipts, strict=True)])
    block = blocks["a"][0]
    assert block.values[:, 0].tolist() == [1, 2, 3, 4, 5] or block.values[:, 0].tolist() == [1, 2, 3, 4]
    each = block.receipt_of_each()
    assert [receipts.index(x) for x in each][:4] == [0, 0, 2, 3]
    assert isinstance(block.keys, np.ndarray)
    assert block.keys.tolist()[:4] == [0, 0, 0, 1]
    assert all(x.owed == 0 for x in receipts)
    assert a.counts.balance() == 0


def test_keys_come_from_topic_and_payload_in_the_order_asked_for() -> None:
    table = KeyTable(3, None)
    a = source("a", ["plant/{line}/in"], key=("id", "line"), keys=table)
    r, blocks = router(a)
    r.on_publishes([message("plant/n/in", b"p1,1"), message("plant/s/in", b"p1,2"), message("plant/n/in", b"p1,3")])
    assert isinstance(blocks["a"][0].keys, np.ndarray)
    assert np.asarray(blocks["a"][0].keys).tolist() == [0, 1, 0]
    assert [table.names(i) for i in range(2)] == [("p1", "n"), ("p1", "s")]


def test_levels_that_no_broker_takes_are_no_keys() -> None:
    """A lax broker lets them through; the one that the results go to may not."""
    a = source("a", ["in/{k}"])
    r, blocks = router(a)
    r.on_publishes([message(f"in/{key}", b"1") for key in ("a", "b\x01", "\x9f", "a", "\ufdd0")])
    assert np.asarray(blocks["a"][0].keys).tolist() == [0, 0]
    assert a.counts.drops.by_reason == {"bad_key": 3}
    assert a.counts.balance() == 0


def test_more_keys_than_there_may_be_are_refused() -> None:
    a = source("a", ["in/{k}"])
    r, blocks = router(a)
    r.on_publishes([message(f"in/{i}", b"1") for i in range(5)])
    assert len(blocks["a"][0]) == 3
    assert a.counts.drops.by_reason == {"too_many_keys": 2}
    assert a.counts.balance() == 0


def test_a_subscription_identifier_tells_which_filter_it_came_for() -> None:
    narrow, wide = source("narrow", ["in/a"], first=1), source("wide", ["in/{k}"], first=2)
    r, blocks = router(narrow, wide)
    r.on_publishes([message("in/a", b"1", 1), message("in/a", b"2", 2), message("in/a", b"3", 1, 2)])
    assert blocks["narrow"][0].values[:, 0].tolist() == [1, 3]
    assert blocks["wide"][0].values[:, 0].tolist() == [2, 3]
    r.on_publishes([message("in/a", b"4")])  # a broker that has no identifiers
    assert len(blocks["narrow"]) == len(blocks["wide"]) == 2


def test_what_nobody_wants_is_counted_and_settled() -> None:
    r, blocks = router(source("a", ["in/a"]))
    receipt = Receipt(1)
    r.on_publishes([message("other", b"1", receipt=receipt)])
    assert receipt.owed == 0
    assert r.drops.by_reason == {"unrouted": 1}
    assert blocks == {"a": []}


def test_a_message_with_too_many_properties_is_rejected_and_settled() -> None:
    """It costs itself: those before and after it in the read come through."""
    a = source("a", ["in/a"])
    r, blocks = router(a)
    receipts = [Receipt(i) for i in range(4)]
    good = [message("in/a", b"%d" % i, receipt=receipts[i]) for i in range(3)]
    r.on_publishes([good[0], (*good[1][:6], UNREAD), good[2], (*message("other", b"", receipt=receipts[3])[:6], UNREAD)])
    assert blocks["a"][0].values[:, 0].tolist() == [0, 2]
    assert a.counts.drops.by_reason == {"too_large": 1}
    assert r.drops.by_reason == {"too_large": 1}
    assert [x.owed for x in receipts] == [0, 0, 0, 0]
    assert a.counts.balance() == 0


def test_old_messages_are_left_out_unless_they_are_wanted() -> None:
    new, old = source("new", ["in/a"]), source("old", ["in/b"], retained=True, first=2)
    r, blocks = router(new, old)
    r.on_publishes([message("in/a", b"1", retain=True), message("in/b", b"2", retain=True)])
    assert blocks["new"] == []
    assert blocks["old"][0].values[:, 0].tolist() == [2]
    assert (new.counts.retained, old.counts.retained) == (1, 0)


def test_a_closed_router_leaves_messages_to_the_broker() -> None:
    r, blocks = router(source("a", ["in/a"]))
    receipt = Receipt(1)
    r.is_closed = True
    r.on_publishes([message("in/a", b"1", receipt=receipt)])
    assert receipt.owed == 1  # never acknowledged
    assert blocks == {"a": []}


def test_more_topics_than_are_remembered_still_find_their_source() -> None:
    a, b = source("a", ["in/{k...}"]), source("b", ["out/b"], first=2)
    r, _ = router(a, b)
    count = 2 * ROUTES + 10
    for start in range(0, count, 100):
        r.on_publishes([message(f"in/{i}", b"1") for i in range(start, min(count, start + 100))])
    assert a.counts.messages == count
    assert b.counts.messages == 0


class Faulty:
    """A decoder with a fault of ours: it fails whenever a certain payload is among the others."""

    def __init__(self, inner: PayloadDecoder) -> None:
        self._inner = inner

    def decode(self, payloads: Sequence[bytes], captures: Sequence[Hashable] | None = None, arrived: Arrived = UNTOLD) -> Rows:
        if b"13" in payloads:
            raise ZeroDivisionError("13")
        return self._inner.decode(payloads, captures, arrived)


def test_a_fault_in_decoding_costs_the_message_that_shows_it() -> None:
    one = source("a", ["a"])
    one._decoder = Faulty(one._decoder)
    receipts = [Receipt(i) for i in range(4)]
    routes, blocks = router(one)
    routes.on_publishes([message("a", p, 1, receipt=r) for p, r in zip((b"1", b"13", b"2", b"x"), receipts, strict=True)])
    assert [b.values.tolist() for b in blocks["a"]] == [[[1]], [[2]]]
    assert one.counts.drops.by_reason == {"internal_error": 1, "not_a_number": 1}
    assert one.counts.balance() == 0
    assert [r.owed for r in receipts] == [0] * 4


def test_a_fault_in_one_pipeline_keeps_nothing_from_the_others() -> None:
    def fails(_block: Block) -> None:
        raise ZeroDivisionError("so it goes")

    first, second = source("a", ["a"]), source("b", ["b"], first=2)
    routes, blocks = router(first, second)
    first.connect(SourceWiring([fails, *first._consumers]))
    routes.on_publishes([message("a", b"1", 1), message("b", b"2", 2)])
    assert first.counts.drops.by_reason == {"internal_error": 1}
    assert (first.counts.balance(), second.counts.rejected) == (0, 0)
    assert {name: [b.values.tolist() for b in found] for name, found in blocks.items()} == {"a": [[[1]]], "b": [[[2]]]}


def test_a_fault_in_stamping_costs_the_message_that_shows_it() -> None:
    class FaultyStamper(Stamper):
        def stamp(self, rows: Rows, *more: Any) -> Any:
            if 13 in rows.values:
                raise ZeroDivisionError("13")
            return super().stamp(rows, *more)

        def stamp_plain(self, rows: Rows, *more: Any) -> Any:
            if 13 in rows.values:
                raise ZeroDivisionError("13")
            return super().stamp_plain(rows, *more)

    one = source("a", ["a"], stamper=FaultyStamper(None, None, None))
    routes, blocks = router(one)
    routes.on_publishes([message("a", p, 1) for p in (b"1", b"13", b"2")])
    assert [b.values.tolist() for b in blocks["a"]] == [[[1]], [[2]]]
    assert one.counts.drops.by_reason == {"internal_error": 1}
    assert one.counts.balance() == 0


def asked(name: str = "a") -> tuple[MqttSource, Outlet]:
    """A source that answers on `clients/+`, and where its answers go."""
    one, outlet = source(name, ["in/a"]), Outlet()
    one.replies = Replies("source.a: answers", lambda due: None)
    one.replies.configure([parse_filter("clients/+")], outlet.send)
    return one, outlet


def request(payload: bytes, receipt: Receipt, topic: bytes = b"clients/a") -> Inbound:
    return (b"in/a", payload, 1, False, (), receipt, b"\x08" + len(topic).to_bytes(2, "big") + topic)


def test_a_request_that_is_refused_is_told_why() -> None:
    one, outlet = asked()
    r, blocks = router(one)
    receipts = [Receipt(i) for i in range(4)]
    r.on_publishes(
        [
            request(b"1", receipts[0]),
            request(b"bad", receipts[1]),
            message("in/a", b"worse", receipt=receipts[2]),
            request(b"4", receipts[3], b"elsewhere"),
        ]
    )
    (block,) = blocks["a"]
    assert block.has_requests
    assert [receipt.is_request for receipt in block.receipts] == [True, False]
    codes = [msgspec.json.decode(m.body)["error"]["code"] for m in outlet.sent]
    assert sorted(codes) == ["no_result", "not_a_number"]  # nobody held the good one
    assert [x.owed for x in receipts] == [1, 1, 0, 0]
    for sent in outlet.sent:
        sent.let_go()
    assert [x.owed for x in receipts] == [0, 0, 0, 0]
    assert one.counts.balance() == 0


def test_after_a_fault_everybody_is_told_and_nothing_is_kept() -> None:
    one, outlet = asked()
    r, _ = router(one)
    one.connect(SourceWiring([lambda block: 1 // 0]))
    receipt = Receipt(1)
    r.on_publishes([request(b"1", receipt)])
    assert len(outlet.sent) == 1
    outlet.sent[0].let_go()
    assert receipt.owed == 0


def test_at_a_stop_requests_are_turned_away_and_inputs_are_left_with_the_broker() -> None:
    one, outlet = asked()
    r, blocks = router(one)
    r.is_closed = True
    asks, other = Receipt(1), Receipt(2)
    r.on_publishes([request(b"1", asks), message("in/a", b"2", receipt=other)])
    assert msgspec.json.decode(outlet.sent[0].body)["error"]["code"] == "shutdown"
    outlet.sent[0].let_go()
    assert (asks.owed, other.owed) == (0, 1)
    assert not blocks["a"]


def test_what_no_source_may_have_is_counted_and_whoever_asked_is_told() -> None:
    (one, outlet), other = asked(), source("b", ["in/b"])
    r, blocks = router(one, other)
    receipts = [Receipt(1), Receipt(2)]
    r.refuse(request(b"13", receipts[0]), "poison", "it ends the process")
    r.refuse(message("in/b", b"13", receipt=receipts[1]), "poison", "it ends the process")
    assert blocks == {"a": [], "b": []}
    assert [s.counts.drops.by_reason for s in (one, other)] == [{"poison": 1}, {"poison": 1}]
    assert [s.counts.balance() for s in (one, other)] == [0, 0]
    (told,) = outlet.sent
    assert msgspec.json.decode(told.body)["error"] == {"code": "poison", "message": "it ends the process"}
    assert [x.owed for x in receipts] == [1, 0]  # the answer is not settled yet
    told.let_go()
    assert [x.owed for x in receipts] == [0, 0]


def test_a_message_that_the_broker_kept_is_a_sample_once() -> None:
    a = source("a", ["in/{k}"], retained=True)
    r, blocks = router(a)
    r.on_publishes([message("in/x", b"1", retain=True), message("in/y", b"5", retain=True)])
    r.on_publishes([message("in/x", b"2")])
    arrival = a.counts.last_arrival
    again = [message("in/x", b"2", retain=True), message("in/y", b"5", retain=True), message("in/y", b"6", retain=True)]
    receipts = [Receipt(i) for i in range(3)]
    r.on_publishes([(*m[:5], receipt, b"") for m, receipt in zip(again, receipts, strict=True)])  # at a reconnect
    assert [b.values[:, 0].tolist() for b in blocks["a"]] == [[1, 5], [2], [6]]
    assert [None if b.kept is None else b.kept.tolist() for b in blocks["a"]] == [[True, True], None, [True]]
    assert a.counts.retained == 2
    assert a.counts.last_arrival == arrival  # nobody knows when that was said
    assert [receipt.owed for receipt in receipts] == [0, 0, 0]


def test_a_kept_message_makes_no_sensor_online() -> None:
    a, fresh = source("a", ["in/{k}"], retained=True), Freshness(10**9, None, 1, 3, "float32")
    r, _ = router(a)
    a.connect(SourceWiring([fresh.see]))
    r.on_publishes([message("in/x", b"1", retain=True), message("in/y", b"1")])
    assert fresh.is_online(Clock().now()).tolist() == [False, True, False]


def test_of_two_filters_that_match_the_first_one_counts() -> None:
    """A broker sends a copy for each, with the identifier of each, or one with both."""
    a = source("a", ["z/+/t", "z/a/+"])
    r, blocks = router(a)
    r.on_publishes(
        [message("z/a/t", b"1", 1), message("z/a/t", b"1", 2), message("z/a/u", b"2", 2), message("z/a/t", b"3", 1, 2)]
    )
    assert [b.values[:, 0].tolist() for b in blocks["a"]] == [[1, 2, 3]]


def test_messages_that_are_too_many_are_left_out_by_their_topic_undecoded() -> None:
    """Of each key the first that is good, however many rows it has; the others are settled and counted."""
    a = source("a", ["in/{k}"], every_ns=3600 * 10**9)
    r, blocks = router(a)
    sent = [("in/x", b"bad"), ("in/x", b"1"), ("in/y", b"2\n3"), ("in/y", b"4")]
    receipts = [Receipt(i) for i in range(8)]
    r.on_publishes([message(t, p, receipt=x) for (t, p), x in zip(sent, receipts[:4], strict=True)])
    r.on_publishes([message(t, p, receipt=x) for (t, p), x in zip(sent, receipts[4:], strict=True)])
    assert [b.values[:, 0].tolist() for b in blocks["a"]] == [[2, 3]]
    r.on_publishes([message("in/x", b"7"), message("in/x", b"8"), message("in/y", b"9")])
    assert [b.values[:, 0].tolist() for b in blocks["a"]] == [[2, 3], [7]]
    assert a.counts.drops.by_reason["thinned"] == 7
    assert a.counts.balance() == 0
    assert all(receipt.owed == 0 for receipt in receipts)


def test_a_key_of_several_captures_may_be_some_of_them() -> None:
    keys = KeyTable(3, None)
    a = source("a", ["in/{hall}/{k}"], key=("k",), keys=keys)
    r, _ = router(a)
    r.on_publishes([message("in/1/x", b"1"), message("in/2/x", b"1")])
    assert [keys.names(i) for i in range(len(keys))] == [("x",)]


def test_a_message_that_comes_alone_is_thinned_like_any_other() -> None:
    a = source("a", ["in/{k}"], every_ns=3600 * 10**9)
    r, blocks = router(a)
    for value in (b"1", b"2", b"3"):
        for topic in ("in/x", "in/y"):
            r.on_publishes([message(topic, value)])
    assert [block.values[:, 0].tolist() for block in blocks["a"]] == [[1], [1]]
    assert a.counts.drops.by_reason["thinned"] == 4


def test_a_message_that_came_alone_is_known_when_the_broker_hands_it_out_again() -> None:
    a = source("a", ["in/a"], retained=True)
    r, blocks = router(a)
    r.on_publishes([message("in/a", b"1")])
    r.on_publishes([message("in/a", b"2")])
    r.on_publishes([message("in/a", b"2", retain=True)])
    assert [block.values[:, 0].tolist() for block in blocks["a"]] == [[1], [2]]
    assert a.counts.retained == 1


def test_messages_that_acknowledge_are_no_samples() -> None:
    a, taken = source("a", ["in/a"]), list[bytes]()
    acks = Told("pipeline", "alarms", [Filter(9, parse_filter("in/ack"))], taken.append)
    r, blocks = router(a)
    r.route_to([a, acks])
    receipt = Receipt(1)
    r.on_publishes([message("in/ack", b"pump7", receipt=receipt)])
    r.on_publishes([message("in/ack", b"pump8"), message("in/a", b"1")])
    r.on_publishes([message("in/ack", b"pump9", retain=True)])
    assert (taken, receipt.owed, len(blocks["a"])) == ([b"pump7", b"pump8"], 0, 1)
