"""A gated pipeline: which of its rows the gate lets in, which it has yet to judge, and which go."""

from __future__ import annotations

from edged.clock.clock import Clock
from edged.pipeline.counts import PipelineCounts
from edged.pipeline.gate import Gate
from edged.pipeline.slots import GATED, Slots
from edged.records import Block, Slot
from edged.telemetry import INTERNAL_ERROR, whereabouts


class Gated:
    """A row or window is counted as `gated` and let go where the `gate` is closed. One whose sample the gate has yet to judge
    waits in its slot until `judge`."""

    def __init__(self, gate: Gate, slots: Slots, counts: PipelineCounts, clock: Clock) -> None:
        self.gate = gate
        self._slots = slots
        self._counts = counts
        self._clock = clock

    @property
    def is_stalled(self) -> bool:
        """Whether all that waits does so for a judgement that waits for a broker which is away."""
        return not self._slots.ready and self.gate.is_stalled

    @property
    def has_undecided(self) -> bool:
        return self._slots.ready < len(self._slots)

    def verdict(self, key: int, arrival: int, time: int) -> bool | None:
        """Whether a window may run (None: not known yet); one that may not is counted."""
        verdict = self.gate.verdict(key, arrival, time)
        if verdict is False:
            self._refuse(1)
        return verdict

    def let_in(self, block: Block) -> tuple[Block, list[bool] | None]:
        """The rows that the gate does not refuse, and of each whether it is open (None: of all) or has yet to be judged."""
        gate = self.gate
        keys = [block.keys] * len(block) if isinstance(block.keys, int) else block.keys.tolist()
        times = (block.time + block.offset).tolist()
        receipts, left, are_open, refused = block.receipt_of_each(), list[int](), list[bool](), 0
        for i, (key, at) in enumerate(zip(keys, times, strict=True)):
            try:
                verdict = gate.verdict(key, block.arrival, at)
            except Exception as error:
                self._fault(error)
                receipts[i].fail(INTERNAL_ERROR, whereabouts(error))
                continue
            if verdict is False:
                refused += 1
                receipts[i].fail("gated", GATED)
                continue
            left.append(i)
            are_open.append(verdict is True)
        if refused:
            self._refuse(refused)
        if len(left) < len(block):
            block = block.only(left)
        return block, None if all(are_open) else are_open

    def judge(self) -> tuple[int, int]:
        """The gate's stream got on: how many of those that waited for it may run now, and how many went."""
        gate, faults = self.gate, list[Exception]()
        since = gate.since()

        def verdict(slot: Slot) -> bool | None:
            try:
                return gate.verdict(slot.key, slot.arrival, slot.time, since)
            except Exception as error:  # else it would wait for ever
                faults.append(error)
                return False

        opened, refused = self._slots.judge(verdict, max(gate.newest, since - 1))
        for error in faults:
            self._fault(error)
        if refused > len(faults):
            self._refuse(refused - len(faults))
        return opened, refused

    def _fault(self, error: Exception) -> None:
        self._counts.drops.add(INTERNAL_ERROR, detail=whereabouts(error))

    def _refuse(self, count: int) -> None:
        self._counts.gated += count
        self._counts.last_gated = self._clock.now()
