"""A gated pipeline: which of its rows the gate lets in, which it has yet to judge, and which go."""

from __future__ import annotations

from edged.clock.clock import Clock
from edged.pipeline.counts import PipelineCounts
from edged.pipeline.gate import Gate
from edged.pipeline.slots import GATED, Slots
from edged.records import Block


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
        verdicts = [gate.verdict(key, block.arrival, time) for key, time in zip(keys, times, strict=True)]
        if refused := verdicts.count(False):
            self._refuse(refused)
            for receipt, verdict in zip(block.receipt_of_each(), verdicts, strict=True):
                if verdict is False:
                    receipt.fail("gated", GATED)
            block = block.only([i for i, verdict in enumerate(verdicts) if verdict is not False])
        left = [verdict is True for verdict in verdicts if verdict is not False]
        return block, None if all(left) else left

    def judge(self) -> tuple[int, int]:
        """The gate's stream got on: how many of those that waited for it may run now, and how many went."""
        gate = self.gate
        since = gate.since()
        opened, refused = self._slots.judge(
            lambda slot: gate.verdict(slot.key, slot.arrival, slot.time, since), max(gate.newest, since - 1)
        )
        if refused:
            self._refuse(refused)
        return opened, refused

    def _refuse(self, count: int) -> None:
        self._counts.gated += count
        self._counts.last_gated = self._clock.now()
