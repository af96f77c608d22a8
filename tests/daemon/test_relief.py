from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from edged.daemon.assembly import Assembly
from edged.daemon.relief import Relief
from edged.health.status import states
from edged.mqtt.frames import Inbound
from edged.notation.units import MIB
from edged.records import NONE, Receipt

CONFIG = """
[memory]
budget = "2000MiB"
[source.in]
type = "mqtt"
topic = "in/{k}"
decode = { format = "csv", fields = ["v"] }
[source.lossy]
type = "mqtt"
qos = 0
topic = "lossy/{k}"
decode = { format = "csv", fields = ["v"] }
[pipeline.first]
source = "in"
publish = { topic = "out/{k}", qos = 1 }
[pipeline.second]
source = "lossy"
publish = { topic = "more/{k}", qos = 1 }
"""
HIGH, LOW = 2100 * MIB, 50 * MIB  # as if; the budget is above what the process of the tests may have by now


class Memory:
    """What is read as resident memory, and how often it was trimmed."""

    def __init__(self) -> None:
        self.resident = LOW
        self.trims = threading.Semaphore(0)
        self.thread: threading.Thread
        self.events: list[dict[str, Any]] = []

    def relief(self, a: Assembly) -> Relief:
        def trim() -> None:
            self.thread = threading.current_thread()
            self.trims.release()

        return Relief(a, lambda: self.resident, trim)

    def look(self, relief: Relief, now_s: float) -> None:
        if (news := relief.look(now_s)) is not None:
            self.events.append(news)


@pytest.fixture
def memory() -> Memory:
    return Memory()


def feed(a: Assembly, *keys: str) -> list[Receipt]:
    """One message a key for each of the two sources; the receipts of the first."""
    receipts = [Receipt(i + 1) for i in range(len(keys))]
    for key, receipt in zip(keys, receipts, strict=True):
        messages: list[Inbound] = [(b"in/" + key.encode(), b"1", 1, False, (), receipt, b"")]
        messages.append((b"lossy/" + key.encode(), b"1", 0, False, (), NONE, b""))
        a.routers["main"].on_publishes(messages)
    return receipts


async def test_the_order_of_relief_and_the_way_back(make: Callable[[str], Assembly], memory: Memory) -> None:
    a = make(CONFIG)
    relief = memory.relief(a)
    relief.look(0)
    assert (relief.facts()["level"], relief.facts()["relief"]) == ("ok", [])
    feed(a, "a")
    memory.resident = HIGH
    seen = []
    with capture_logs() as logs:
        for second in range(1, 7):
            memory.look(relief, second)
            assert memory.trims.acquire(timeout=5) if second <= 2 else True
            memory.thread.join(5)  # only when it has ended may the next trim begin
            seen.append((relief.facts()["relief"], relief.shed))
    assert seen == [
        (["trim"], []),
        (["trim", "caches"], []),
        (["trim", "caches", "shed"], ["second"]),
        *[(["trim", "caches", "shed"], ["second", "first"])] * 3,
    ]
    assert [(e["state"], e["shed"]) for e in logs] == [("over", ""), ("over", "second"), ("over", "second first")]
    assert [s.state for s in states(a, 0) if s.kind == "pipeline"] == ["shedding", "shedding"]

    [receipt] = feed(a, "a")
    one, other = a.pipelines.values()
    assert (one.counts.drops.by_reason, other.counts.drops.by_reason) == ({}, {"memory": 1})
    assert one.parked == 1
    assert receipt.owed == 1  # what may not be lost stays with the broker

    memory.resident = LOW
    for now in range(7, 40):
        memory.look(relief, now)
    assert (relief.facts()["level"], relief.facts()["relief"], relief.shed) == ("ok", [], [])
    assert [(e["level"], e["shed"]) for e in memory.events[3:]] == [
        ("ok", ["second", "first"]),
        ("ok", ["second"]),
        ("ok", []),
    ]
    assert [p.counts.published for p in a.pipelines.values()] == [2, 1]
    assert one.parked == 0
    feed(a, "a")
    assert [p.counts.published for p in a.pipelines.values()] == [3, 2]
    assert relief.facts()["highest_mib"] == 2100


async def test_caches_are_given_up_and_fill_again(make: Callable[[str], Assembly], memory: Memory) -> None:
    a = make(CONFIG)
    relief = memory.relief(a)
    feed(a, *(str(i) for i in range(20)))
    a.drop_caches()
    feed(a, *(str(i) for i in range(20)))
    assert relief.shed == []
    assert a.pipelines["first"].counts.published == 40


async def test_what_cannot_be_read_is_no_reason_to_do_anything(make: Callable[[str], Assembly], memory: Memory) -> None:
    a = make(CONFIG)
    is_full = False

    def read() -> int:
        if is_full:
            raise OSError(24, "Too many open files")
        return LOW

    relief = Relief(a, read, memory.trims.release)
    relief.look(1)
    is_full = True
    relief.look(2)
    assert (relief.facts()["level"], relief.read()) == ("ok", LOW)


async def test_at_a_stop_everybody_may_finish(make: Callable[[str], Assembly], memory: Memory) -> None:
    a = make(CONFIG)
    relief = memory.relief(a)
    memory.resident = HIGH
    for second in range(6):
        relief.look(second)
    assert len(relief.shed) == 2
    relief.end()
    assert relief.shed == []
