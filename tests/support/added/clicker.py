"""A kind of source that edged does not have: it clicks a text of its own, which is decoded like what comes over a wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Literal

from edged.config.parsers import Packet, Text
from edged.config.schema import DecodedSource, Key
from edged.decode import make_payload_decoder
from edged.records import Block
from edged.sources.counts import stamped
from edged.sources.kind import Kind, Parts, Planned

PERIOD_S = 0.02


class ClickerSource(DecodedSource, frozen=True, kw_only=True):
    """A text, again and again."""

    type: Annotated[Literal["clicker"], Key("what kind of source this is")] = "clicker"
    text: Annotated[Text, Key("what it clicks")]
    max_bytes: Annotated[Packet, Key("largest text")] = 64


class Clicker:
    def __init__(self, plan: Planned, parts: Parts) -> None:
        assert plan.decode is not None
        self.name = plan.name
        self.counts = parts.counts
        self.state = "connecting"
        self.reason = ""
        self._text = plan.settings.text.encode()
        self._decoder = make_payload_decoder(plan.decode)
        self._parts = parts

    async def run(self, push: Callable[[Block], None]) -> None:
        self.counts.opens += 1
        self.state = "running"
        clock = self._parts.clock
        while True:
            now = self.counts.last_arrival = clock.now()
            rows = self._decoder.decode([self._text])
            block = stamped(rows, self._parts.stamper, self.counts, now, clock.offset(), is_synced=True)
            if block is not None:
                push(block)
            await asyncio.sleep(PERIOD_S)


def describe(plan: Planned) -> str:
    return f"clicks {plan.settings.text}"


KIND = Kind(ClickerSource, Clicker, describe)
