"""A port that several sources share: it is opened once, asked once, and its frames are cut once.

Each frame goes to every source whose `where` fits; one that fits none counts as `other` of the port.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from edged.clock.clock import Clock
from edged.config import schema
from edged.decode import make_payload_decoder
from edged.decode.formats import forget_stream
from edged.decode.stream import make_stream_decoder
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
        self.settings: schema.SerialSource = plan.settings
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
            return self._reason or f"no frame for a source has come in for {(self._clock.now() - self._heard) / 1e9:.0f} s"
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

    def take(self, rows: Rows, arrival: int, time: int) -> Block | None:
        """What came for this source, and when it was sent; frames that it does not mean are not its."""
        others = [reject for reject in rows.rejects if reject.reason == "other"]
        mine = [reject for reject in rows.rejects if reject.reason != "other"]
        rows.rejects = mine
        if not mine and not len(rows.values):
            self.counts.others.take(others, False, arrival)
            return None
        self._heard = self.counts.last_arrival = arrival
        try:
            block = stamped(rows, self._stamper, self.counts, time, self._clock.offset(), self._clock.is_synced())
        except Exception as error:  # a fault of ours costs this read
            self.counts.lose(error)
            return None
        if block is not None:
            block.arrival = arrival
        return block

    def _is_silent(self) -> bool:
        if self._state not in OPEN:
            return False
        limit = silence_ns(self.settings, self.counts.last_arrival > 0)
        return limit is not None and self.flow.is_open and self._clock.now() - self._heard > limit


Round = list[tuple[Member, Rows]]
"""What several sources got of frames that stood together, in the order of the frames."""


class _Split:
    """Decodes the frames of a port for each of its sources, and refuses those that none of them means."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self.rounds: list[Round] = []
        self.frames = 0
        """Of those that somebody means."""

    def decode(
        self,
        payloads: Sequence[bytes],
        sensors: Sequence[Hashable] | None = None,
        arrived: Arrived = UNTOLD,
    ) -> Rows:
        nobodys: dict[int, Reject] | None = None
        found: Round = []
        for member in self._members:
            rows = member.decoder.decode(payloads)
            others = {reject.payload: reject for reject in rows.rejects if reject.reason == "other"}
            nobodys = others if nobodys is None else {i: one for i, one in nobodys.items() if i in others}
            found.append((member, rows))
        self.rounds += _rounds(found)
        self.frames += len(payloads) - len(nobodys or ())
        return Rows(np.empty((0, 1), np.float32), rejects=list((nobodys or {}).values()))

    def reset(self) -> None:
        for member in self._members:
            forget_stream(member.decoder)


def _rounds(found: Round) -> list[Round]:
    """What one read brought, in the order in which it was sent: a new round begins where a source has its turn again, so that who
    joins the sources never sees the second round before the first one is joined."""
    order = [(at, which) for which, (_, rows) in enumerate(found) for at in _places(rows)]
    order.sort()
    cuts: list[dict[int, int]] = [{}]
    last = -1
    for _, which in order:
        if which != last and which in cuts[-1]:
            cuts.append({})
        cuts[-1][which] = cuts[-1].get(which, 0) + 1
        last = which
    begun = [0] * len(found)
    whole = [(member, rows.detached()) for member, rows in found]
    rounds: list[Round] = []
    for counts in cuts:
        rounds.append([])
        for which, count in counts.items():
            member, rows = whole[which]
            rounds[-1].append((member, rows.part(begun[which], begun[which] + count)))
            begun[which] += count
    rounds[-1] += [one for one, start in zip(whole, begun, strict=True) if not start]  # nothing but what was refused
    return rounds


def _places(rows: Rows) -> list[int]:
    """Which frame each row is of."""
    return list(range(len(rows.values))) if rows.payload is None else rows.payload.tolist()


class SharedPort(Reading):
    """Reads one port for several sources: opens it, asks and cuts frames once. Its counts are of frames."""

    def __init__(self, name: str, settings: Any, members: Sequence[Member], counts: SourceCounts, clock: Clock) -> None:
        self._members = members
        self._split = _Split(members)
        decoder = make_stream_decoder(members[0].plan, self._split)
        rates = [rate for member in members if (rate := member.settings.rate)]
        self._period_ns = 1e9 / max(rates) if rates else 0.0
        self._before = 0
        is_slow = any(member.plan.is_slow for member in members)
        flow = Flows([member.flow for member in members])
        super().__init__(name, settings, decoder, flow, counts, clock, is_slow)

    async def run(self, pushes: Mapping[str, Push]) -> None:
        """Raises Retryable when the port cannot be opened or goes away."""
        await self.serve(pushes)

    def take_in(self, data: bytes, arrival: int, pushes: Mapping[str, Push]) -> None:
        """Bytes that come in by another way than the port, those of a test; none: a silence as long as the gap of its frames."""
        self.counts.bytes += len(data)
        rows = self._feed(data) if data else self._quiet()
        if rows is not None and (blocks := self._stamped(rows, arrival)):
            self._hand_on(blocks, pushes)

    def _opened(self) -> None:
        super()._opened()
        self._before = self._heard
        for member in self._members:
            member.open()

    def _feed(self, data: bytes) -> Rows | None:
        return self._found(self._decoder.feed(data))

    def _quiet(self) -> Rows | None:
        return self._found(self._decoder.quiet())

    def _found(self, rows: Rows | None) -> Rows | None:
        """There may be nothing to tell of the port, and much of its sources."""
        return Rows(np.empty((0, 1), np.float32)) if rows is None and self._split.rounds else rows

    def _stamped(self, rows: Rows, arrival: int) -> Any:
        """The blocks of those sources that got any; None where no frame was meant by anybody."""
        split, counts = self._split, self.counts
        rounds, split.rounds = split.rounds, []
        frames, split.frames = split.frames, 0
        refused = times(rows.rejects)
        counts.others.take(rows.rejects, frames > 0, arrival)
        counts.read += frames + refused
        counts.rows += frames
        if refused:
            counts.reject(rows.rejects)
        step = min(self._period_ns, (arrival - self._before) / max(1, len(rounds)))
        self._before = arrival
        blocks = []
        for later, one in zip(range(len(rounds) - 1, -1, -1), rounds, strict=True):
            time = arrival - int(later * step)
            blocks += [(member, block) for member, rows in one if (block := member.take(rows, arrival, time)) is not None]
        return blocks if frames else None

    def _hand_on(self, block: Any, push: Any) -> None:
        for member, one in block:
            push[member.name](one)

    def _silence_ns(self) -> float | None:
        """As long as the slowest of its sources may be silent."""
        limits = [silence_ns(member.settings, self.counts.last_arrival > 0) for member in self._members]
        return max((limit for limit in limits if limit is not None), default=None)

    def _turn(self, state: str, reason: str) -> None:
        super()._turn(state, reason)
        for member in self._members:
            member.turn(state, reason)
