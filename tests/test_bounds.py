"""What remembers something is given ten times as much as it may hold: it stays within its bytes, and goes on working."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edged.clock.clock import Clock
from edged.config import schema
from edged.decode import make_payload_decoder
from edged.decode.plan import DecodePlan
from edged.decode.planner import plan_decode
from edged.decode.stream import make_stream_decoder
from edged.mqtt.frames import KNOWN_MAX, FrameParser, FrameWriter
from edged.mqtt.outbox import Outbox
from edged.mqtt.receipts import Ledger
from edged.notation.units import KIB, MIB, S
from edged.records import NONE, Block, Message, Rows
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.mqtt import MqttSource, SourceWiring
from edged.sources.replay import PACED_KEYS, ReplaySource
from edged.sources.router import ROUTES, TOPIC_BYTES, Filter, Router, Wanted
from edged.stamp import KeyTable, Stamper
from edged.telemetry import Drops, Histogram, PublishCounts, Rate
from edged.topics import parse_filter
from tests.support.parts import parts_of


@contextmanager
def grows_by_at_most(limit: int) -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    try:
        yield
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown <= limit, f"{grown / KIB:.0f} KiB are held, {limit / KIB:.0f} are allowed"


def decode_plan(*fields: str, key: tuple[str, ...] = (), max_keys: int = 4) -> DecodePlan:
    decode = schema.Decode(format="csv", fields=tuple(schema.FieldSpec(name=n) for n in (*key, *fields)))
    plan = plan_decode(decode, key, "hold", 1000, None, None, "float32", max_keys=max_keys)
    assert isinstance(plan, DecodePlan)
    return plan


def routed(max_keys: int) -> tuple[Router, list[Block]]:
    keys = KeyTable(max_keys, None)
    source = MqttSource(
        "s",
        Wanted([Filter(1, parse_filter("in/{k...}"))]),
        make_payload_decoder(decode_plan("v", max_keys=max_keys)),
        parts_of("s", keys, Stamper(None, None, keys)),
        [("capture", 0)],
    )
    blocks: list[Block] = []
    source.connect(SourceWiring([blocks.append]))
    return Router([source], Clock(), Drops("broker.test")), blocks


def test_topics_that_never_end() -> None:
    router, blocks = routed(16)
    with grows_by_at_most(4 * MIB):
        for start in range(0, 10 * ROUTES, 256):
            topics = [f"in/{i:0200}".encode() for i in range(start, start + 256)]
            router.on_publishes([(topic, b"1", 0, False, (), NONE, b"") for topic in topics])
        assert len(blocks) == 1
        blocks.clear()
        del topics


def test_topics_of_enormous_length() -> None:
    router, blocks = routed(16)
    with grows_by_at_most(MIB):
        for i in range(1000):
            router.on_publishes([(f"in/{i:060000}".encode(), b"1", 0, False, (), NONE, b"")])
    assert blocks == []
    assert router.drops.by_reason == {"topic_too_long": 1000}
    router.on_publishes([(b"in/" + b"x" * (TOPIC_BYTES - 3), b"1", 0, False, (), NONE, b"")])
    assert len(blocks) == 1


def test_topics_and_properties_in_frames() -> None:
    for is_v5 in (False, True):
        with grows_by_at_most(4 * MIB):
            parser, writer = FrameParser(is_v5, MIB, Ledger()), FrameWriter(is_v5)
            for start in range(0, 10 * KNOWN_MAX, 256):
                out = bytearray()
                for i in range(start, start + 256):
                    writer.publish(out, f"in/{i:0110}".encode(), b"1")
                assert sum(len(batch.publishes) for batch in parser.feed(bytes(out))) == 256
            del out
        with grows_by_at_most(64 * KIB):
            parser.drop_caches()
            writer.drop_caches()
            again = bytearray()
            writer.publish(again, b"in/1", b"1")
            assert sum(len(batch.publishes) for batch in parser.feed(bytes(again))) == 1


def test_keys_beyond_what_a_table_holds() -> None:
    table = KeyTable(100, 1)
    with grows_by_at_most(256 * KIB):
        for i in range(1000):
            assert table.id((f"key-{i:0200}",), 10 * i) is not None
        table.recycled.clear()
    assert len(table) == 100


def test_keys_that_restart_while_every_row_is_refused() -> None:
    keys = KeyTable(10, 1)
    stamper = Stamper("unix_s", None, keys)
    now = 10**18
    with grows_by_at_most(64 * KIB):
        for i in range(10_000):
            rows = Rows(np.ones((1, 1), np.float32), np.array([now + 3600 * S]), [(str(i),)])
            block, _ = stamper.stamp(rows, None, (NONE,), 10 * i, 0, now, True)
            assert block is None
            del rows
    rows = Rows(np.ones((1, 1), np.float32), np.array([now]), [("last",)])
    block, _ = stamper.stamp(rows, None, (NONE,), 10**6, 0, now, True)
    assert block is not None
    assert sorted(block.restarts) == list(range(10))


def test_values_held_for_sensors_beyond_the_number_of_keys() -> None:
    decoder = make_payload_decoder(decode_plan("v", key=("k",), max_keys=20))
    with grows_by_at_most(128 * KIB):
        for i in range(400):
            decoder.decode([f"key{i},1".encode()])


async def test_keys_of_a_file_that_never_end(tmp_path: Path) -> None:
    path = tmp_path / "keys.csv"
    path.write_text("".join(f"key{i},1\n" for i in range(10 * PACED_KEYS)))
    plan = decode_plan("v", key=("k",))
    keys = KeyTable(4, None)
    settings = schema.ReplaySource(path=path, decode=schema.Decode(format="csv", fields=()), rate=1.0, speed=0.0)
    source = ReplaySource(
        "s",
        settings,
        make_stream_decoder(plan),
        make_payload_decoder(plan),
        Stamper(None, 1.0, keys),
        Flow(),
        SourceCounts("s"),
        Clock(),
    )
    with grows_by_at_most(2 * MIB):
        await source.run(lambda block: None)
    assert source.counts.read == 10 * PACED_KEYS


def test_counters_do_not_grow_with_what_they_count() -> None:
    def feed(add: Callable[[int], object]) -> None:
        with grows_by_at_most(16 * KIB):
            for i in range(100_000):
                add(i)

    histogram, rate, drops = Histogram(), Rate(), Drops("x", now=lambda: 0.0)
    feed(lambda i: histogram.add(i * 1000))
    feed(lambda i: rate.read(i, i * 10**6))
    feed(lambda i: drops.add("overflow", topic=str(i)))


def test_an_outbox_is_bounded_in_items_and_bytes() -> None:
    for size, held in ((10, 1000), (10_000, 98)):
        box, counts = Outbox(1000, MIB), PublishCounts("p")
        with grows_by_at_most(2 * MIB):
            for i in range(10_000):
                counts.made += 1
                box.put(Message(b"t", b"%0*d" % (size, i), 1, account=counts))
            assert len(box) == held
            assert counts.balance() == 0
