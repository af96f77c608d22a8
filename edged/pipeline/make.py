"""Composes a pipeline: its parts follow from what it is to do, and nothing of an absent feature is on its path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from edged.clock.clock import Clock
from edged.clock.tail import Tail
from edged.model.inputs import AnyFiller
from edged.pipeline.admission import Admission, Blocking, Dropping
from edged.pipeline.chain import Chain
from edged.pipeline.counts import Guard, PipelineCounts
from edged.pipeline.deadline import Deadline
from edged.pipeline.due import DueRows, DueWindows
from edged.pipeline.entry import Entry
from edged.pipeline.exit import Exit, Heads
from edged.pipeline.gate import Gate
from edged.pipeline.gated import Gated
from edged.pipeline.into import AtOnce, Into, IntoSlots
from edged.pipeline.outlets import Outlets
from edged.pipeline.pipeline import Pipeline
from edged.pipeline.preprocess import Postprocess, Preprocess
from edged.pipeline.recurrent import States
from edged.pipeline.requests import Requests
from edged.pipeline.slots import Slots
from edged.pipeline.straight import Solo, Straight, StraightRows, StraightWindow
from edged.pipeline.timer import Timer
from edged.pipeline.view import Parts
from edged.pipeline.window import WindowStage
from edged.pipeline.wiring import Neighbours
from edged.records import Field
from edged.results.encode import Encoder
from edged.results.heads.head import Head
from edged.results.publish import Publish

if TYPE_CHECKING:
    from edged.pipeline.align.aligner import Aligner


class Order(msgspec.Struct, frozen=True):
    """What a pipeline is to do, and with what.

    `wake` tells the model that rows wait (None: there is no model, and windows are results at once; with a gate, what that lets
    through). `hold_sources` is told when blocks begin and cease to be parked, so that serial and replayed sources stop reading
    meanwhile. `tells_again`: the samples of all its sources have times by which those that a broker sends again are recognised.
    `results`: which values of a result are the numbers of a row for the next pipelines. `deadline` is in ns, 0 without one.
    `solo` is the model of which a row that comes alone may ask for a run at the `tail` of a wake-up; `stage` names that.
    `settles`: an input is settled once it waits here, since its model is elsewhere. `forgets`: who else remembers a key.
    """

    head: Head
    slots: Slots
    counts: PipelineCounts
    clock: Clock
    overflow: str
    alarm: Callable[[int], None]
    wake: Callable[[], None] | None = None
    aligner: Aligner | None = None
    window: WindowStage | None = None
    preprocess: Preprocess | None = None
    postprocess: Postprocess | None = None
    fillers: Mapping[str, AnyFiller] = msgspec.field(default_factory=dict)
    fields: Sequence[Field] = ()
    publishes: Sequence[Publish] = ()
    hold_sources: Callable[[bool], None] = lambda is_held: None
    results: Sequence[tuple[Field, tuple[str, ...]]] = ()
    deadline: int = 0
    tells_again: bool = False
    answer: Encoder | None = None
    states: States | None = None
    gate: Gate | None = None
    priority: int = 0
    settles: bool = False
    forgets: Sequence[Callable[[int], object]] = ()
    solo: Solo | None = None
    tail: Tail | None = None
    stage: Callable[[Callable[[], None]], Callable[[], None]] = lambda run: run


def make_pipeline(name: str, order: Order) -> Pipeline:
    counts, slots, clock, fields = order.counts, order.slots, order.clock, order.fields

    def run_here() -> None:
        pipeline.run_here(fields)

    def resume() -> None:
        pipeline.resume()

    wake = run_here if order.wake is None and order.gate is not None else order.wake
    guard = Guard(counts, slots)
    chain = Chain(order.results, guard)
    outlets = Outlets(order.publishes, chain, slots.count, resume)
    gated = Gated(order.gate, slots, counts, clock) if order.gate is not None else None
    timer = Timer(order.alarm, order.publishes, order.aligner, clock)
    deadline = Deadline(order.deadline, counts, wake is not None) if order.deadline else None
    is_blocking = order.overflow == "block"

    def room_for_requests(most: int) -> int:
        room = slots.free if wake is not None else most
        return min(room, outlets.room()) if is_blocking else room

    requests = Requests(order.answer, counts, slots.count, room_for_requests)
    exit = Exit(
        Heads(order.head, order.postprocess, order.states),
        order.publishes,
        requests,
        chain,
        counts,
        guard.lose,
        clock,
        timer,
        deadline,
    )
    into: Into
    if wake is None:
        into = AtOnce(fields, lambda rows, outputs: pipeline.finish_at_once(rows, outputs))
    else:
        into = IntoSlots(slots, order.fillers, wake, guard.refuse, order.settles)
    due: DueRows | DueWindows
    if order.window is None:
        due = DueRows(into, counts, guard, order.preprocess, gated, order.states)
    else:
        due = DueWindows(order.window, into, counts, guard, order.preprocess, gated, order.states is not None)
    forgets = [slots.drop_key, order.head.reset, *(publish.reset for publish in order.publishes), chain.restart, *order.forgets]
    if order.states is not None:
        forgets.append(order.states.start_over)
    entry = Entry(due, order.aligner, forgets, counts, guard, timer)
    tells_again = order.tells_again and not (order.window is None and order.aligner is None and order.states is None)
    neighbours = Neighbours(guard)

    def free_slots() -> int:
        return slots.free

    room = outlets.room if wake is None else free_slots
    admission: Admission
    if is_blocking:
        admission = Blocking(entry, slots, counts, guard, requests, room, tells_again, order.hold_sources, neighbours.has_room)
    else:
        waits = wake is not None and order.overflow != "latest_only"
        admission = Dropping(entry, slots, counts, guard, requests, room, tells_again, waits)
    straight: Straight | None = None

    def may_enter(rows: int = 1) -> bool:
        return not (admission.parked or admission.is_shed)

    if order.window is not None and order.aligner is None:
        straight = StraightWindow(order.window, may_enter)
    elif (
        order.solo is not None
        and order.tail is not None
        and order.aligner is None
        and order.gate is None
        and order.states is None
        and slots.rows.keys() == order.fillers.keys()
    ):
        straight = StraightRows(
            order.solo,
            order.tail,
            slots,
            exit,
            guard,
            order.preprocess,
            order.fillers,
            (lambda rows: may_enter() and outlets.room() >= rows) if is_blocking else may_enter,
            lambda source, block: pipeline.push_long(source, block),
            order.stage,
        )
    parts = Parts(
        counts=counts,
        clock=clock,
        guard=guard,
        entry=entry,
        admission=admission,
        slots=slots,
        exit=exit,
        chain=chain,
        neighbours=neighbours,
        timer=timer,
        outlets=outlets if is_blocking else None,
        deadline=deadline,
        gated=gated,
        wake=wake,
        straight=straight,
    )
    pipeline = Pipeline(name, parts, order.states, order.priority)
    return pipeline
