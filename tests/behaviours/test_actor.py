"""One behaviour with its instances, in virtual time: what it is told, what it may do, how it fails and how it ends."""

from __future__ import annotations

import asyncio
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.behaviours.actor import Actor, Counts, Reach
from edged.behaviours.face import Behaviour, Failed, Refused
from edged.behaviours.kept import Kept
from edged.behaviours.plan import INSTANCE, BehaviourPlan, Heard, OnEnd
from edged.clock.clock import Clock
from edged.errors import Retryable
from edged.notation.units import S
from edged.notation.values import Function
from edged.records import Block, Cap, Field, Message, Result
from edged.system.hang_recorder import Stages
from edged.testing.virtual import VirtualClock, VirtualLoop, in_virtual_time
from edged.topics import parse_filter, parse_template

Work = Callable[[Behaviour], Awaitable[None]]
SAMPLES = Heard("s", True, (Field("a", 0, 1), Field("v", 1, 3, (2,))), 100)
RESULTS = Heard("r", False, (), 100)


class Port:
    """A port that takes everything, or is away."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.is_there = True

    async def write(self, data: bytes, limit_s: float) -> None:
        if not self.is_there:
            raise Retryable("missing", "it is not there")
        self.data.append(data)


class World:
    """What an actor touches, and the actor."""

    def __init__(self, work: Work, clock: Clock, kept: Kept | None = None, **changes: Any) -> None:
        facts: dict[str, Any] = {
            "name": "b",
            "function": Function(Path(__file__), "work"),
            "digest": "d",
            "per_key": False,
            "hears": (SAMPLES, RESULTS),
            "ask": (),
            "publish": (parse_filter("out/+"), parse_filter("of/{k_0}/x")),
            "broker": "main",
            "write": ("relay",),
            "limits": (Cap(10, S),),
            "inbox": 4,
            "overflow": "drop_oldest",
            "on_end": (),
            "instances": 1,
        }
        plan = BehaviourPlan(**{**facts, **changes})
        self.sent: list[Message] = []
        self.port = Port()
        self.names = [("p1",), ("p2",), ("p3",)]
        self.actor = Actor(plan, work, Counts("behaviour.b", clock.now_s), clock, Stages(clock.now), kept or Kept())
        name = self.names.__getitem__
        self.actor.connect(Reach(self.sent.append, {"relay": self.port}, {}, {"s": name, "r": name}))
        self.actor.start()

    def result(self, key: int = 0, **body: Any) -> None:
        self.actor.hear("r", Result(body, key, 1, 10**18, 0), 0)

    @property
    def drops(self) -> dict[str, int]:
        return self.actor.counts.drops.by_reason

    @property
    def out(self) -> list[tuple[str, bytes]]:
        return [(one.topic.decode(), one.body) for one in self.sent]


def virtual(test: Callable[[Clock], Coroutine[Any, Any, None]]) -> None:
    loop = VirtualLoop()
    in_virtual_time(test(VirtualClock(loop)), loop)


async def turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def ended(world: World) -> None:
    await world.actor.stop()
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("behaviour")] == []


def test_results_come_in_order_and_what_is_too_much_is_counted() -> None:
    async def work(me: Behaviour) -> None:
        async for row in me.results("r"):
            await me.publish("out/x", {"n": row.n, "key": row.key})

    async def run(clock: Clock) -> None:
        world = World(work, clock)
        await turn()
        for n in range(6):
            world.result(n=n)
        await turn()
        assert [body for _, body in world.out] == [b'{"n":%d,"key":"p1"}' % n for n in range(2, 6)]
        assert world.drops == {"overflow": 2}
        assert world.actor.counts.messages.made == 4
        await ended(world)

    virtual(run)


def test_rows_before_the_first_look_are_kept_and_a_stream_that_nobody_reads_loses_nothing() -> None:
    async def work(me: Behaviour) -> None:
        await me.sleep(1)
        rows = me.results("r")
        found = [(await anext_of(rows)).n for _ in range(4)]
        await me.publish("out/x", found)

    async def run(clock: Clock) -> None:
        world = World(work, clock)
        for n in range(5):
            world.result(n=n)
            world.actor.see("s", Block(np.zeros((3, 3)), np.zeros(3, np.int64), 0, 0))
        await asyncio.sleep(2)
        assert world.out == [("out/x", b"[1,2,3,4]")]
        assert world.drops == {"overflow": 1}  # of r, once it was read; nobody reads s
        await ended(world)

    virtual(run)


async def anext_of(rows: Any) -> Any:
    return await rows.__anext__()


def test_rows_that_wait_at_the_end_are_counted() -> None:
    async def work(me: Behaviour) -> None:
        async for _ in me.results("r"):
            await me.sleep(100)

    async def run(clock: Clock) -> None:
        world = World(work, clock)
        await turn()
        for n in range(3):
            world.result(n=n)
            world.actor.see("s", Block(np.zeros((1, 3)), np.zeros(1, np.int64), 0, 0))  # nobody reads these
        await turn()
        await ended(world)
        world.result(n=4)
        assert world.drops == {"stopped": 3}

    virtual(run)


def test_samples_have_their_fields_and_latest_only_keeps_one_a_key() -> None:
    async def work(me: Behaviour) -> None:
        await me.sleep(1)
        async for row in me.samples("s"):
            await me.publish("out/x", [row.key, row.a, row["v"], row.time.year])

    async def run(clock: Clock) -> None:
        world = World(work, clock, overflow="latest_only")
        values = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], float)
        keys = np.array([0, 1, 0], np.int32)
        world.actor.see("s", Block(values, np.full(3, 10**18, np.int64), 0, 0, keys))
        values[:] = 0  # a row has its own numbers
        await asyncio.sleep(2)
        assert [body for _, body in world.out] == [b'["p2",4.0,[5.0,6.0],2001]', b'["p1",7.0,[8.0,9.0],2001]']
        assert world.drops == {"overflow": 1}
        await ended(world)

    virtual(run)


def test_one_instance_a_key_until_there_are_too_many_and_one_whose_number_is_given_away_ends() -> None:
    async def work(me: Behaviour) -> None:
        me.state["seen"] = 0
        async for row in me.results("r"):
            me.state["seen"] += row.n
            await me.publish(f"of/{me.key}/x", me.state["seen"])

    async def run(clock: Clock) -> None:
        end = OnEnd(parse_template("bye/{key}", {}, ("key",)), "ended")
        world = World(work, clock, per_key=True, instances=2, on_end=(end,))
        for key, n in ((0, 1), (1, 2), (2, 3), (0, 4)):
            world.result(key, n=n)
            await turn()
        assert world.out == [("of/p1/x", b"1"), ("of/p2/x", b"2"), ("of/p1/x", b"5")]
        assert world.drops == {"keys": 1}
        world.names[0] = ("p9",)  # the key table gave the number to another sensor
        world.result(0, n=7)
        await turn()
        assert world.out[3:] == [("bye/p1", b"ended"), ("of/p9/x", b"7")]
        assert set(world.actor.instances) == {"p2", "p9"}
        await ended(world)

    virtual(run)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (lambda me: me.publish("in/x", 1), 'me.publish("in/x"): not in publish = ["out/+", "of/{k_0}/x"] of [behaviour.b]'),
        (lambda me: me.publish("of/other/x", 1), 'me.publish("of/other/x"): not in publish'),
        (lambda me: me.write("fan", b"1"), 'me.write("fan"): not in write = ["relay"] of [behaviour.b]; add it there'),
        (lambda me: me.ask("big", {}), 'me.ask("big"): not in ask = [] of [behaviour.b]'),
        (lambda me: anext_of(me.results("q")), 'me.results("q"): not in source = ["s", "r"] of [behaviour.b]'),
        (lambda me: anext_of(me.results("s")), 'me.results("s"): s is a source; write me.samples("s")'),
        (lambda me: me.publish("out/+", 1), 'me.publish("out/+"): a topic of one message has no +'),
        (lambda me: me.write("relay", "text"), "expected bytes such as b\"STOP\\n\", found 'text'"),
    ],
)
def test_what_is_not_in_the_table_is_refused_and_the_key_is_named(wish: Callable[[Any], Any], said: str) -> None:
    async def work(me: Behaviour) -> None:
        try:
            await wish(me)
        except (Refused, ValueError) as error:
            await me.publish("out/said", str(error))
            raise

    async def run(clock: Clock) -> None:
        world = World(work, clock)
        await turn()
        assert said in world.out[0][1].decode()
        assert world.drops == {"failed": 1}
        where = world.actor.counts.drops.details["failed"]
        assert where.startswith("test_actor.py:")
        assert where.endswith("; ended, restarted in 1 s")
        await ended(world)

    virtual(run)


def test_a_failure_is_told_by_its_line_and_run_again_after_a_pause_that_grows_and_the_state_stays() -> None:
    async def work(me: Behaviour) -> None:
        me.state["runs"] = me.state.get("runs", 0) + 1
        await me.publish("out/run", me.state["runs"])
        raise ZeroDivisionError("oh")

    async def run(clock: Clock) -> None:
        ends = (OnEnd(write="relay", data=b"OFF"), OnEnd(parse_template("bye", {}, ()), {"a": 1}, True))
        world = World(work, clock, on_end=ends)
        line = work.__code__.co_firstlineno + 3
        await asyncio.sleep(0.5)
        assert world.actor.state() == ("failing", f"test_actor.py:{line}: ZeroDivisionError: oh; ended, restarted in 1 s")
        await asyncio.sleep(14)
        assert world.actor.counts.restarts == 3  # after 1, 2 and 4 s; the next 8 s later, in half a second
        await asyncio.sleep(1)
        assert [body for topic, body in world.out if topic == "out/run"] == [b"1", b"2", b"3", b"4", b"5"]
        assert world.port.data == [b"OFF"] * 5
        assert [(m.body, m.retain, m.qos) for m in world.sent if m.topic == b"bye"] == [(b'{"a":1}', True, 1)] * 5
        assert world.drops == {"failed": 5}
        await ended(world)

    virtual(run)


def test_a_limit_drops_what_is_too_much_and_on_end_is_never_held_back() -> None:
    async def work(me: Behaviour) -> None:
        sent = [await me.publish("out/x", n) for n in range(5)]
        await me.publish("out/x", sent)
        await me.sleep(1)
        await me.publish("out/x", sent)

    async def run(clock: Clock) -> None:
        world = World(work, clock, limits=(Cap(2, S), Cap(100, S)), on_end=(OnEnd(parse_template("bye", {}, ()), b"!"),))
        await asyncio.sleep(2)
        assert world.out == [("out/x", b"0"), ("out/x", b"1"), ("out/x", b"[true,true,false,false,false]"), ("bye", b"!")]
        assert world.drops == {"limit": 4}
        assert world.actor.state() == ("finished", "")
        await ended(world)

    virtual(run)


def test_a_port_that_is_away_is_told_by_its_state_and_on_end_waits_for_it() -> None:
    async def work(me: Behaviour) -> None:
        try:
            await me.write("relay", b"ON")
        except Failed as error:
            await me.publish("out/x", [error.code, error.why])

    async def run(clock: Clock) -> None:
        world = World(work, clock, on_end=(OnEnd(write="relay", data=b"OFF"),))
        world.port.is_there = False
        await asyncio.sleep(2)
        assert world.out == [("out/x", b'["missing","it is not there"]')]
        world.port.is_there = True
        await asyncio.sleep(3)
        assert world.port.data == [b"OFF"]
        await ended(world)

    virtual(run)


def test_tasks_of_its_own_end_with_it_and_their_failure_is_the_line_in_the_file() -> None:
    async def child(me: Behaviour) -> None:
        await me.sleep(1)
        raise KeyError("inner")

    async def work(me: Behaviour) -> None:
        asyncio.create_task(me.sleep(1000), name="behaviour:forgotten")  # noqa: RUF006
        if sys.version_info >= (3, 11):
            async with asyncio.TaskGroup() as group:
                group.create_task(child(me))
                group.create_task(me.sleep(100), name="behaviour:other")
        else:
            await asyncio.gather(child(me), me.sleep(100))

    async def run(clock: Clock) -> None:
        world = World(work, clock)
        await asyncio.sleep(1.5)
        line = child.__code__.co_firstlineno + 2
        assert world.actor.counts.drops.details["failed"].startswith(f"test_actor.py:{line}: KeyError: 'inner'")
        await ended(world)

    virtual(run)


async def test_a_fault_in_a_callback_is_that_of_the_file_it_stands_in() -> None:
    def call() -> None:
        raise KeyError("inner")

    async def work(me: Behaviour) -> None:
        asyncio.get_running_loop().call_soon(call)

    told: list[bool] = []
    world = World(work, Clock())
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(world.actor.blame(context["exception"])))
    await turn()
    assert told == [True]
    line = call.__code__.co_firstlineno + 1
    assert world.actor.counts.drops.details["failed"].startswith(f"test_actor.py:{line}: KeyError: 'inner'; in a callback")
    assert not world.actor.blame(ValueError("of somebody else"))
    await ended(world)


def spin(ms: int) -> None:
    until = time.monotonic() + ms / 1e3
    while time.monotonic() < until:
        pass


async def test_a_step_that_holds_the_loop_is_told_and_five_end_it_at_the_next_await_wherever_it_is() -> None:
    went_on: list[int] = []

    async def work(me: Behaviour) -> None:
        for n in range(100):
            went_on.append(n)
            spin(55)
            try:
                await me.sleep(0)
            except asyncio.CancelledError:
                went_on.append(-1)

    told: list[str] = []
    clock = Clock()
    world = World(work, clock, on_end=(OnEnd(write="relay", data=b"OFF"),))
    stages = Stages(clock.now, lambda name, ns: told.append(name))
    world.actor.step = stages.wrap("behaviour.b", world.actor._step)
    await asyncio.wait([one.task for one in world.actor.instances.values()])
    assert went_on[:5] == [0, 1, 2, 3, 4]
    assert went_on.count(-1) <= 4  # it does not listen, and is left
    assert told[:5] == ["behaviour.b"] * 5
    state, why = world.actor.state()
    assert state == "ended"
    assert "5 steps within a minute blocked the event loop for more than 50 ms" in why
    assert world.port.data == [b"OFF"]
    world.result(n=1)  # nobody is there for it
    assert world.drops == {"ended": 1, "stopped": 1}
    await ended(world)


async def test_who_ended_the_process_twice_is_not_started_until_its_code_changes() -> None:
    async def work(me: Behaviour) -> None:
        await me.publish("out/x", 1)

    kept = Kept()
    assert not kept.is_barred("b", "d")
    kept._saved.ends["b"].times = 2
    world = World(work, Clock(), kept)
    await turn()
    assert (world.out, world.actor.state()[0]) == ([], "ended")
    other = World(work, Clock(), kept, digest="other")
    await turn()
    assert other.out == [("out/x", b"1")]
    await ended(world)
    await ended(other)


async def test_a_thousand_that_wait_take_little_memory_and_no_time() -> None:
    async def work(me: Behaviour) -> None:
        me.state["n"] = 0
        async for row in me.results("r"):
            await me.publish(f"of/{me.key}/x", row.n)
            await me.sleep(60)

    world = World(work, Clock(), per_key=True, instances=1000, inbox=64, hears=(RESULTS,))
    world.names[:] = [(f"p{i}",) for i in range(1000)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for key in range(1000):
        world.actor._instance("r", key)
    await turn()
    each = (tracemalloc.get_traced_memory()[0] - before) / 1000
    tracemalloc.stop()
    print(f"{each:.0f} bytes an instance")
    assert each < INSTANCE
    began = time.process_time()
    await asyncio.sleep(0.3)  # the loop has nothing to do
    assert time.process_time() - began < 0.1
    await ended(world)


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("is_child", [False, True])
def test_who_calls_for_the_end_of_the_process_fails_like_any_other(end: BaseException, is_child: bool) -> None:
    async def inner() -> None:
        raise end

    async def work(me: Behaviour) -> None:
        if is_child:
            await asyncio.create_task(inner())
        raise end

    async def run(clock: Clock) -> None:
        world = World(work, clock)
        await turn()
        assert f"it tried to end the process ({type(end).__name__})" in world.actor.counts.drops.details["failed"]
        assert world.actor.state()[0] == "failing"
        await ended(world)

    virtual(run)


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(("error", "said"), [(Mute(), ": Mute; ended"), (ValueError("x" * 10**6), "x" * 500 + "; ended")])
def test_an_error_that_cannot_be_said_or_has_no_end_is_told_by_its_name(error: Exception, said: str) -> None:
    async def work(me: Behaviour) -> None:
        raise error

    async def run(clock: Clock) -> None:
        world = World(work, clock)
        await turn()
        detail = world.actor.counts.drops.details["failed"]
        assert said in detail
        assert len(detail) < 700
        await ended(world)

    virtual(run)


def test_a_sensor_that_comes_back_keeps_its_new_instance_when_an_older_stream_says_that_it_went() -> None:
    async def work(me: Behaviour) -> None:
        async for row in me.results("r"):
            me.state["n"] = row.n
            await me.publish(f"of/{me.key}/x", row.n)

    async def run(clock: Clock) -> None:
        world = World(work, clock, per_key=True, instances=3)
        block = Block(np.zeros((1, 3), np.float32), np.zeros(1, np.int64), 0, 0, 0)
        world.result(0, n=1)
        world.actor.see("s", block)  # both streams know number 0 as p1
        await turn()
        world.names[:2] = [("p9",), ("p1",)]  # p1 gave its number to p9, and came back with number 1
        world.result(0, n=2)
        world.result(1, n=3)
        await turn()
        back = world.actor.instances["p1"]
        world.actor.see("s", block)  # only now the other stream learns that number 0 is p9
        await turn()
        assert world.actor.instances["p1"] is back
        assert back.is_alive
        world.result(1, n=4)
        await turn()
        assert world.out[-1] == ("of/p1/x", b"4")
        assert world.actor.states["p1"] == {"n": 4}
        await ended(world)

    virtual(run)


def test_a_message_is_bounded() -> None:
    async def work(me: Behaviour) -> None:
        await me.publish("out/x", b"x" * (1024 * 1024 + 1))

    async def run(clock: Clock) -> None:
        world = World(work, clock)
        await turn()
        assert "a message has at most 1048576 bytes, found 1048577" in world.actor.counts.drops.details["failed"]
        assert world.out == []
        await ended(world)

    virtual(run)


def test_a_task_that_does_not_listen_ends_with_who_made_it() -> None:
    heard: list[int] = []

    async def deaf(me: Behaviour) -> None:
        while True:
            try:
                await me.sleep(1)
            except asyncio.CancelledError:
                heard.append(1)

    async def work(me: Behaviour) -> None:
        asyncio.create_task(deaf(me), name="behaviour:deaf")  # noqa: RUF006
        await me.sleep(0.5)

    async def run(clock: Clock) -> None:
        world = World(work, clock)
        await asyncio.sleep(10)
        assert world.actor.state()[0] == "finished"
        assert heard
        await ended(world)

    virtual(run)
