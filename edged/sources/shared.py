"""A port that several sources share: it is opened once, asked once, and its frames are cut once.

Each frame goes to every source whose `where` fits; one that fits none counts as `other` of the port.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from edged.clock.clock import Clock
from edged.config import schema
from edged.decode import make_payload_decoder, make_stream_decoder
from edged.decode.values import UNTOLD, Arrived
from edged.records import Block, Reject, Rows
from edged.sources.counts import SourceCounts, stamped, times
from edged.sources.flow import Flows
from edged.sources.kind import Parts, Planned, Push
from edged.sources.reading import OPEN, Reading, silence_ns


class Member:
    """A source that shares its port. It gets the frames that it means from who reads the port, and has the state of that."""

    def __init__(self, plan: Planned, parts: Parts) -> None:
        assert plan.decode is not None
        self.name = plan.name
        self.counts = parts.counts
        self.flow = parts.flow
        self.plan = plan.decode
        self.decoder = make_payload_decoder(plan.decode)
        self._settings: schema.SerialSource = plan.settings
        self._stamper = parts.stamper
        self._clock = parts.clock
        self._state, self._reason = "connecting", ""
        self._heard = 0

    @property
    def state(self) -> str:
        return "silent" if self._is_silent() else self._state

    @property
    def reason(self) -> str:
        if self._is_silent():
            return self._reason or f"nothing that is meant has come in for {(self._clock.now() - self._heard) / 1e9:.0f} s"
        return self._reason

    async def run(self, push: Push) -> None:
        """Who reads the port has the task."""
        raise NotImplementedError

    def turn(self, state: str, reason: str) -> None:
        self._state, self._reason = state, reason

    def open(self) -> None:
        self._heard = self.counts.opened = self._clock.now()
        self.counts.opens += 1
        self._stamper.reset()

    def take(self, rows: Rows, arrival: int) -> Block | None:
        """What came for this source; frames that it does not mean are not its."""
        others = [reject for reject in rows.rejects if reject.reason == "other"]
        mine = [reject for reject in rows.rejects if reject.reason != "other"]
        rows.rejects = mine
        rows.payload = None
        if not mine and not len(rows.values):
            self.counts.others.take(others, False, arrival)
            return None
        self._heard = self.counts.last_arrival = arrival
        try:
            return stamped(rows, self._stamper, self.counts, arrival, self._clock.offset(), self._clock.is_synced())
        except Exception as error:  # a fault of ours costs this read
            self.counts.lose(error)
            return None

    def _is_silent(self) -> bool:
        if self._state not in OPEN:
            return False
        limit = silence_ns(self._settings, self.counts.last_arrival > 0)
        return limit is not None and self.flow.is_open and self._clock.now() - self._heard > limit


class _Split:
    """Decodes the frames of a port for each of its sources, and refuses those that none of them means."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self.found: list[tuple[Member, Rows]] = []
        self.frames = 0
        """Of those that somebody means."""

    def decode(
        self,
        payloads: Sequence[bytes],
        sensors: Sequence[Hashable] | None = None,
        arrived: Arrived = UNTOLD,
    ) -> Rows:
        nobodys: dict[int, Reject] | None = None
        for member in self._members:
            rows = member.decoder.decode(payloads)
            others = {reject.payload: reject for reject in rows.rejects if reject.reason == "other"}
            nobodys = others if nobodys is None else {i: one for i, one in nobodys.items() if i in others}
            self.found.append((member, rows))
        self.frames += len(payloads) - len(nobodys or ())
        return Rows(np.empty((0, 1), np.float32), rejects=list((nobodys or {}).values()))


class SharedPort(Reading):
    """Reads one port for several sources: opens it, asks and cuts frames once. Its counts are of frames."""

    def __init__(self, name: str, settings: Any, members: Sequence[Member], counts: SourceCounts, clock: Clock) -> None:
        self._members = members
        self._split = _Split(members)
        decoder = make_stream_decoder(members[0].plan, self._split)
        is_slow = any(member.plan.is_slow for member in members)
        flow = Flows([member.flow for member in members])
        super().__init__(name, settings, decoder, flow, counts, clock, is_slow)

    async def run(self, pushes: Mapping[str, Push]) -> None:
        """Raises Retryable when the port cannot be opened or goes away."""
        await self.serve(pushes)

    def _opened(self) -> None:
        super()._opened()
        for member in self._members:
            member.open()

    def _feed(self, data: bytes) -> Rows | None:
        return self._found(self._decoder.feed(data))

    def _quiet(self) -> Rows | None:
        return self._found(self._decoder.quiet())

    def _found(self, rows: Rows | None) -> Rows | None:
        """There may be nothing to tell of the port, and much of its sources."""
        return Rows(np.empty((0, 1), np.float32)) if rows is None and self._split.found else rows

    def _stamped(self, rows: Rows, arrival: int) -> Any:
        """The blocks of those sources that got any; None where no frame was meant by anybody."""
        split, counts = self._split, self.counts
        found, split.found = split.found, []
        frames, split.frames = split.frames, 0
        refused = times(rows.rejects)
        counts.others.take(rows.rejects, frames > 0, arrival)
        counts.read += frames + refused
        counts.rows += frames
        if refused:
            counts.reject(rows.rejects)
        blocks = [(member, block) for member, rows in found if (block := member.take(rows, arrival)) is not None]
        return blocks if frames else None

    def _hand_on(self, block: Any, push: Any) -> None:
        for member, one in block:
            push[member.name](one)

    def _turn(self, state: str, reason: str) -> None:
        super()._turn(state, reason)
        for member in self._members:
            member.turn(state, reason)
