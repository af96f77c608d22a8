"""From the outputs of a run to results, and on to whoever they are for: one who asked, publishes, gates, the next pipelines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from edged.clock.clock import Clock
from edged.model.records import RunFailed
from edged.model.remote.records import Limited, Unanswered
from edged.pipeline.chain import Chain
from edged.pipeline.counts import PipelineCounts
from edged.pipeline.deadline import Deadline
from edged.pipeline.fan_out import fan_out
from edged.pipeline.preprocess import Postprocess, StepError
from edged.pipeline.recurrent import States
from edged.pipeline.requests import Requests
from edged.pipeline.timer import Timer
from edged.pipeline.wiring import Wiring
from edged.records import NONE, Receipt, Result, Slot
from edged.results.encode import encode_partial
from edged.results.heads.head import Head
from edged.results.heads.raw import count_hollow
from edged.results.publish import Publish
from edged.telemetry import INTERNAL_ERROR, whereabouts

Arrays = dict[str, NDArray[Any]]
Body = dict[str, Any] | None

NOT_FINITE = "an output of the model is NaN or infinite"
HOLLOW = "all outputs are NaN or infinite; raw results show them as null"
REASONS: dict[type[Exception], str] = {
    StepError: "postprocess",
    RunFailed: "model_error",
    Unanswered: "unanswered",
    Limited: "limited",
}


class Heads:
    """What the outputs of a run say: a body a row. `states` keep what is remembered of them."""

    def __init__(self, head: Head, postprocess: Postprocess | None, states: States | None) -> None:
        self.head = head
        self._postprocess = postprocess
        self._states = states

    def bodies(
        self, slots: list[Slot], outputs: Arrays, inputs: Arrays
    ) -> tuple[list[Slot], list[Body], list[tuple[Slot, StepError]]]:
        """The bodies, without the rows that `postprocess` could not take, and those. Counts nothing."""
        if self._states is not None:
            self._states.keep(slots, outputs)
        if self._postprocess is None:
            return slots, self.head.results(outputs, inputs, [s.key for s in slots], [s.carried for s in slots]), []
        refused: list[tuple[Slot, StepError]] = []
        if self._states is not None:
            outputs = self._states.without(outputs)
        while slots:
            try:
                outputs = self._postprocess(outputs, len(slots))
                break
            except StepError as error:
                refused.append((slots[error.row], error))
                keep = [i for i in range(len(slots)) if i != error.row]
                slots = [slots[i] for i in keep]
                outputs, inputs = ({n: x[keep] for n, x in arrays.items()} for arrays in (outputs, inputs))
        if not slots:
            return slots, [], refused
        return slots, self.head.results(outputs, inputs, [s.key for s in slots], [s.carried for s in slots]), refused

    def body_of_one(self, slot: Slot, outputs: Arrays, inputs: Arrays) -> Body:
        """The body of a single row; None where it takes `bodies` to say what becomes of it."""
        if self._postprocess is not None or self._states is not None:
            return None
        try:
            return self.head.results(outputs, inputs, [slot.key], [slot.carried])[0]
        except Exception:
            return None

    def forget(self, key: int) -> None:
        """What is remembered of the key is of no use: else it would stay so for ever."""
        if self._states is not None:
            self._states.forget(key)

    def close(self) -> None:
        self._states = None


class Exit:
    """Results leave in order. A fault of ours costs the row that shows it: what ran together is then handled one by one."""

    def __init__(
        self,
        heads: Heads,
        publishes: Sequence[Publish],
        requests: Requests,
        chain: Chain,
        counts: PipelineCounts,
        lose: Callable[[Exception], None],
        clock: Clock,
        timer: Timer,
        deadline: Deadline | None,
    ) -> None:
        self.heads = heads
        self.publishes = publishes
        self._requests = requests
        self._chain = chain
        self.counts = counts
        self._may_hold = any(publish.may_hold for publish in publishes)
        self._lose = lose
        self._clock = clock
        self._timer = timer
        self._deadline = deadline
        self._tellers: Sequence[Callable[[Result, int], object]] = ()
        self._viewers: Sequence[Callable[[list[Slot], Arrays, Arrays], object]] = ()
        self._hearers: Sequence[Callable[[Result, int], object]] = ()

    def connect(self, wiring: Wiring) -> None:
        self._tellers, self._hearers, self._viewers = wiring.tellers, wiring.hearers, wiring.viewers

    def finish(self, slots: list[Slot], outputs: Arrays, inputs: Arrays) -> None:
        """Turns the outputs of a run into results, in order, and offers each to every `publish`."""
        if self._viewers:
            fan_out(self._viewers, self._lose, slots, outputs, inputs)
        left = self.counts.running - len(slots)
        try:
            self._finish(slots, outputs, inputs)
        finally:
            self.counts.running = left  # whatever became of these rows, they run no more

    def finish_fresh(self, slots: list[Slot], outputs: Arrays, inputs: Arrays, began: int) -> None:
        """The same for rows that have not waited, whose run began at `began`, and that are counted by nobody yet."""
        counts, running = self.counts, self.counts.running
        counts.due += len(slots)
        counts.running = running + len(slots)
        if self._deadline is not None:
            self._deadline.begin(began)
        try:
            body = self.heads.body_of_one(slots[0], outputs, inputs) if len(slots) == 1 and self._deadline is None else None
            if body is not None:
                self._make_results(slots, [body], self._clock.now())
            else:
                self._finish(slots, outputs, inputs)
        finally:
            counts.running = running

    def _finish(self, slots: list[Slot], outputs: Arrays, inputs: Arrays) -> None:
        try:
            slots, bodies, refused = self.heads.bodies(slots, outputs, inputs)
        except Exception as error:
            if len(slots) == 1:
                return self.fail(slots[0], error)
            for i, slot in enumerate(slots):
                alone = ({name: x[i : i + 1] for name, x in arrays.items()} for arrays in (outputs, inputs))
                self._finish([slot], *alone)
            return
        for slot, refusal in refused:
            self.fail(slot, refusal)
        if slots:
            self.publish(slots, bodies, self._clock.now())

    def publish(self, slots: list[Slot], bodies: Sequence[Body], now: int) -> None:
        """Hands the results to whoever they are for, and lets the inputs go."""
        if self._deadline is not None:
            slots, bodies = self._deadline.in_time(slots, bodies, now)
        if slots:
            self._make_results(slots, bodies, now)

    def _make_results(self, slots: Sequence[Slot], bodies: Sequence[Body], now: int) -> None:
        """What was run becomes results, for whoever asked or for every `publish`, and the inputs are let go."""
        counts = self.counts
        first = seq = counts.next_seq
        results: list[Result] = []
        receipts: list[Receipt] = []
        try:
            if len(bodies) != len(slots):
                raise ValueError(f"{len(bodies)} results of {len(slots)} rows")
            for at, slot in enumerate(slots):
                body = bodies[at]
                if body is None:
                    self._refuse_not_finite(slot)
                    continue
                result = Result(body, slot.key, seq, slot.time, slot.arrival, slot.degraded, slot.carried)
                seq += 1
                if self._tellers:
                    fan_out(self._tellers, self._lose, result, now)
                receipt = slot.receipt
                if receipt.is_request:
                    counts.published += 1
                    self._requests.answer(result, receipt, now)
                else:
                    results.append(result)
                    receipts.append(receipt)
            counts.next_seq = seq
            counts.running -= len(slots)
            if results:
                self._offer(results, receipts, now)
            if self._chain.followers:
                self._chain.pass_on(slots, bodies)
        finally:
            for slot in slots:
                if slot.receipt is not NONE:
                    slot.receipt.done()
        if seq > first:
            counts.last_result = now
            counts.age.add(now - slots[-1].arrival, seq - first)
        if self._may_hold:
            self._timer.set()

    def _offer(self, results: list[Result], receipts: list[Receipt], now: int) -> None:
        """To whoever hears, and to every `publish`."""
        counts = self.counts
        for result in results if self._hearers else ():
            fan_out(self._hearers, self._lose, result, now)
        publishes, sent = self.publishes, 0
        if len(publishes) == 1:
            sent = publishes[0].offer_all(results, receipts, now)
        else:
            for result, receipt in zip(results, receipts, strict=True):
                is_sent = not publishes
                for publish in publishes:
                    is_sent |= publish.offer(result, receipt, now)
                sent += is_sent
        counts.published += sent
        counts.filtered += len(results) - sent
        if hollow := count_hollow(results):
            counts.hollow += hollow
            counts.drops.note("not_finite", hollow, HOLLOW)

    def _refuse_not_finite(self, slot: Slot) -> None:
        self.counts.drops.add("not_finite", detail=NOT_FINITE)
        slot.receipt.fail("not_finite", NOT_FINITE)
        self.heads.forget(slot.key)

    def partial(self, slot: Slot, text: str) -> None:
        """What there is so far of a result, for whoever gets the whole."""
        body = encode_partial(text)
        if slot.receipt.is_request:
            slot.receipt.tell(body)
            return
        for publish in self.publishes:
            publish.partial(slot.key, body)

    def fail(self, slot: Slot, error: Exception) -> None:
        """This row cannot be run, or has no result: counted, its input settled."""
        self.counts.running -= 1
        reason = REASONS.get(type(error), INTERNAL_ERROR)
        detail = whereabouts(error) if reason == INTERNAL_ERROR else str(error)
        self.counts.drops.add(reason, detail=detail)
        slot.receipt.fail(reason, detail)
        slot.receipt.done()
