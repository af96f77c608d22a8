"""An outage longer than the spool: what is kept, what is dropped, how it comes back. A broker that reads no more."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from edged.notation.units import MIB
from tests.live.test_spool import TWO, back, files, number, samples, subscribed, there, write
from tests.support.broker import Broker
from tests.support.daemon import DEADLINE_S, Client, Daemon, balanced, until
from tests.support.mqtt_peer import Peer, Server, puback, publish_parts
from tests.support.pause import pause
from tests.support.scale import scale

assert there
LIVE = 150
"""Results a second when all is well."""
BATCH = 400
WAIT_MS = 2_000.0
"""Live results wait at most so long while what was kept comes."""
PUBLISH, PINGREQ = 3, 12
OUTBOX_ITEMS = 1000
LONG = "out/nought/" + "x" * 2000
"""A result at QoS 0 is some 2 KiB: enough of them fill every buffer of the kernel's."""
OTHERS = """
[pipeline.nought]
source = "in"
model = "m"
publish = { broker = "there", topic = "LONG", qos = 0 }
[pipeline.live]
source = "in"
model = "m"
publish = { broker = "here", topic = "out/here" }
"""


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_s10_an_outage_longer_than_the_spool(overflow: str, broker: Broker, there: Broker, tmp_path: Path, zoo: Path) -> None:
    """The uplink is down for long, at a high rate: the cap holds, each drop is counted, and nothing else is missing. When it
    is back, what was kept comes oldest first, at the rate that was asked for, and live results go ahead of it."""
    count, cap = scale("outage results"), scale("outage spool MiB") * MIB
    rate = scale("replay rate")
    spool = f'[spool]\nmax_bytes = "{cap // MIB}MiB"\noverflow = "{overflow}"\nreplay_rate = {rate}\n'
    with (
        Client(broker.port) as here,
        Daemon(tmp_path, write(broker, there, zoo, spool)) as daemon,
        ExitStack() as stack,
    ):
        subscribed(here)
        for start in range(0, count, BATCH):
            here.publish_all("in/x", samples(range(start, start + BATCH)))
            assert kept_bytes(tmp_path) <= cap
            # No faster than the daemon: mosquitto drops what does not fit into its queue of a thousand.
            here.until(lambda start=start: latest(here)["sources"]["in"]["rows"] >= start)  # type: ignore[misc]
        health = here.health(lambda h: settled(h, count))
        log = health["spool"]["brokers"]["there"]
        lost = log["dropped"] | health["pipelines"]["p"]["publish"][0]["dropped"]
        assert lost.keys() == {"overflow"}
        assert log["waiting"] + lost["overflow"] == count
        assert log["waiting"] > count / 10
        assert kept_bytes(tmp_path) <= cap

        client = stack.enter_context(back(daemon, there))
        here.health(lambda h: h["brokers"]["there"]["state"] == "connected")
        start_s, sent = time.monotonic(), count
        while sent < count + LIVE or latest(here)["spool"]["state"] != "idle":
            sent += steady(here, sent, start_s, count)
        drained_s = time.monotonic() - start_s
        client.wait("out/p", log["waiting"] + sent - count)
        results = [(number(r), "replayed" in r, r["age_ms"]) for r in (m.json for m in client.of("out/p"))]

        # The spool has recovered: what comes in a second outage is kept, all of it.
        there.stop()
        here.health(lambda h: h["brokers"]["there"]["state"] not in ("connected", "degraded"))
        here.publish_all("in/x", samples(range(sent, sent + BATCH)))
        health = here.health(lambda h: settled(h, sent + BATCH))
        assert health["spool"]["brokers"]["there"]["waiting"] == BATCH
        memory = health["memory"]
    kept = [n for n, is_replayed, _ in results if is_replayed]
    live = [n for n, is_replayed, _ in results if not is_replayed]
    first = lost["overflow"] if overflow == "drop_oldest" else 0
    assert kept == list(range(first, first + log["waiting"]))
    assert live == list(range(count, sent))
    slowest = max(age_ms for _, is_replayed, age_ms in results if not is_replayed)
    print(f"{count} results, {log['waiting']} kept, drained in {drained_s:.1f} s; live ones waited {slowest:.0f} ms; {memory}")
    assert slowest <= WAIT_MS
    assert 3 * LIVE <= log["waiting"] / drained_s <= rate * 1.2
    assert memory["highest_mib"] <= memory["planned_mib"]


def kept_bytes(folder: Path) -> int:
    """Size of the spool's files; some may go while they are looked at."""
    found = 0
    for file in files(folder):
        try:
            found += file.stat().st_size
        except FileNotFoundError:
            continue
    return found


def settled(health: Any, rows: int) -> bool:
    """Whether all rows came, all results are on disk, and no input waits."""
    (entry,) = health["pipelines"]["p"]["publish"]
    is_done = entry["queued"] == entry["in_flight"] == health["brokers"]["here"]["unacked"] == 0
    return is_done and health["sources"]["in"]["rows"] == rows and balanced(health)


def latest(here: Client) -> Any:
    """What health said last."""
    return here.of("edged/t/health")[-1].json


def steady(here: Client, sent: int, start_s: float, first: int) -> int:
    """Sends what is due by now at the live rate; returns how many."""
    pause(start_s + (sent - first) / LIVE - time.monotonic(), "the next message is due then")
    due = int((time.monotonic() - start_s) * LIVE) + 1 - (sent - first)
    here.publish_all("in/x", samples(range(sent, sent + due)))
    return due


class Listless:
    """A broker that takes a connection and then reads nothing, until it is told to `wake`: it then notes what comes."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: list[tuple[bytes, int]] = []
        """Topic and number of each result."""
        self._loop = asyncio.new_event_loop()
        self._is_awake = asyncio.Event()
        self._server = Server(self._serve)
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Listless:
        self._thread.start()
        self._do(self._server.__aenter__())
        self.port = self._server.port
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._do(self._server.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def wake(self) -> None:
        self._loop.call_soon_threadsafe(self._is_awake.set)

    def _do(self, what: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(DEADLINE_S)

    async def _serve(self, peer: Peer) -> None:
        await peer.welcome()
        await self._is_awake.wait()
        while True:
            head, body = await peer.read()
            if head >> 4 == PINGREQ:
                peer.write(b"\xd0\0")
            if head >> 4 != PUBLISH:
                continue
            topic, mid, payload = publish_parts(head, body)
            if topic.startswith(b"out/"):
                self.heard.append((topic, number(json.loads(payload))))
            if mid:
                peer.write(puback(mid))


def test_a_broker_that_reads_no_more(tmp_path: Path, zoo: Path) -> None:
    """What the kernel does not take is held within bounds: QoS 0 gives way, oldest first and counted; QoS 1 goes to disk.
    What goes elsewhere does not notice; and when the broker reads again, only what was counted is missing."""
    count = scale("stuck results")
    with Listless() as there, Broker(tmp_path, "max_queued_messages 0") as broker, Client(broker.port) as here:
        text = TWO.format(here=broker.port, there=there.port, zoo=zoo, more="", publish="") + OTHERS.replace("LONG", LONG)
        text = text.replace('topic = "in/x"', 'topic = "in/x"\nqos = 0')  # else inputs wait for their results
        text = text.replace('source = "in"', f'source = "in"\nslots = {2 * BATCH}')
        with Daemon(tmp_path, text) as daemon:
            here.health(lambda h: h["brokers"]["here"]["state"] == h["brokers"]["there"]["state"] == "connected")
            before = daemon.resident_kib
            for start in range(0, count, BATCH):
                here.publish_all("in/x", samples(range(start, start + BATCH)))
                here.until(lambda start=start: latest(here)["sources"]["in"]["rows"] >= start)  # type: ignore[misc]
            live = here.wait("out/here", count)
            assert max(m.json["age_ms"] for m in live) < WAIT_MS
            health = here.health(lambda h: h["brokers"]["here"]["unacked"] == 0 and balanced(h))
            grown_kib = daemon.resident_kib - before
            (one,), (nought,) = (health["pipelines"][name]["publish"] for name in ("p", "nought"))
            assert one["made"] == nought["made"] == count
            assert one["dropped"] == {}
            assert one["spooled"] > count / 2
            assert nought["dropped"].keys() == {"overflow"}
            assert nought["queued"] <= OUTBOX_ITEMS
            assert grown_kib <= 8 * 1024

            there.wake()
            health = here.health(lambda h: h["spool"]["state"] == "idle" and settled(h, count))
            lost = health["pipelines"]["nought"]["publish"][0]["dropped"]["overflow"]
            until(lambda: len(there.heard) >= 2 * count - lost)
    ones = [n for topic, n in there.heard if topic == b"out/p"]
    noughts = [n for topic, n in there.heard if topic == LONG.encode()]
    assert sorted(ones) == list(range(count))
    gap = next(i for i, n in enumerate(noughts) if n != i)
    assert noughts == [*range(gap), *range(gap + lost, count)]
