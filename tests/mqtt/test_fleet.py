"""Many devices at one broker that goes and comes back: they do not all come at once."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

from edged.clock.clock import Clock
from edged.mqtt.link import Link, LinkSettings
from edged.notation.values import BrokerUrl
from edged.system.one_shot import in_one_shot_thread
from tests.support.broker import Broker
from tests.support.mqtt_peer import on_uvloop, until
from tests.support.pause import pause_on_loop
from tests.support.scale import scale

DEVICES = 200
SPAN_S = 0.1


@on_uvloop
async def test_a_fleet_comes_back_spread_out(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        url = BrokerUrl("mqtt", "127.0.0.1", broker.port)
        waits: list[float] = []

        def note(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
            waits.extend(value for name, value in event.items() if name == "retry_s")
            return ""

        log = structlog.wrap_logger(structlog.testing.ReturnLogger(), processors=[note])
        links = [Link(LinkSettings(f"d{i}", url, f"device-{i}"), lambda _: None, Clock(), log) for i in range(DEVICES)]
        tasks = [asyncio.get_running_loop().create_task(link.run()) for link in links]
        await until_all(links, 1)
        broker.stop()
        await until(lambda: not any(link.is_connected for link in links))
        await pause_on_loop(scale("seconds without a broker"), "the broker is away for so long")
        await in_one_shot_thread("broker", broker.start, lambda _: None)
        back = await until_all(links, 2)
        for link in links:
            await link.close(1.0)
        await asyncio.gather(*tasks)
    assert max(back) < 60
    assert len(waits) >= DEVICES
    crowd = max(sum(at <= other < at + SPAN_S for other in waits) for at in waits)
    assert crowd <= 0.2 * len(waits)
    assert statistics.stdev(waits) / statistics.mean(waits) >= 0.3


async def until_all(links: list[Link], connects: int) -> list[float]:
    """Seconds from now until each has had so many connects."""
    start, found = time.monotonic(), dict[str, float]()
    while len(found) < len(links):
        assert time.monotonic() - start < 60
        for link in links:
            if link.counts.connects >= connects:
                found.setdefault(link.name, time.monotonic() - start)
        await pause_on_loop(0.005, "between two looks")
    return list(found.values())
