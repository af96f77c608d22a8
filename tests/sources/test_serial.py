import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.clock.clock import Clock
from edged.config.schema import Decode, FieldSpec, Frame
from edged.config.schema import SerialSource as Settings
from edged.decode import DecodePlan, plan_decode
from edged.decode.stream import make_stream_decoder
from edged.errors import Retryable
from edged.notation.values import NEVER
from edged.records import Block
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.reading import NO_FRAME_NS, SILENT_LEAST_NS
from edged.sources.serial import SerialSource
from edged.stamp import Stamper
from tests.support.ptys import LOOPS, Pty, turns, until

CSV = Decode(format="csv", fields=(FieldSpec(name="ax"), FieldSpec(name="ay")))


class Skewed(Clock):
    skew = 0

    def now(self) -> int:
        return Clock.now() + self.skew


class Sensor:
    """A source with its parts and what it pushed."""

    def __init__(self, port: str, **keys: Any) -> None:
        settings = Settings(port=port, **{"decode": CSV, **keys})
        plan = plan_decode(settings.decode, frame=settings.frame, checksum=settings.checksum, max_bytes=settings.max_bytes)
        assert isinstance(plan, DecodePlan), plan
        self.clock = Skewed()
        self.flow = Flow()
        self.counts = SourceCounts("imu")
        stamper = Stamper(None, settings.rate, None)
        self.source = SerialSource("imu", settings, make_stream_decoder(plan), stamper, self.flow, self.counts, self.clock)
        self.blocks: list[Block] = []

    @property
    def values(self) -> list[list[float]]:
        return np.concatenate([b.values for b in self.blocks]).tolist() if self.blocks else []

    def run(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self.source.run(self.blocks.append))

    @asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[None]"]:
        task = self.run()
        try:
            await until(lambda: task.done() or self.source.state == "running")
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture(params=list(LOOPS.values()), ids=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    return request.param  # type: ignore[no-any-return]


def test_what_a_read_brings_becomes_a_block(run: Callable[..., None]) -> None:
    async def main() -> None:
        pty = Pty()
        sensor = Sensor(pty.path)
        async with sensor.running():
            before = sensor.clock.now()
            pty.write(b"1,2\n3,4\nbad,line\n5,6\n7")
            await until(lambda: sensor.blocks)
            block = sensor.blocks[0]
            assert block.values.tolist() == [[1, 2], [3, 4], [5, 6]]
            assert before <= block.arrival <= sensor.clock.now()
            assert block.time.tolist() == [block.arrival] * 3
            pty.write(b",8\n")
            await until(lambda: len(sensor.blocks) == 2)
            assert sensor.blocks[1].values.tolist() == [[7, 8]]
            counts = sensor.counts
            assert (counts.read, counts.rows, counts.rejected, counts.opens, counts.bytes) == (5, 4, 1, 1, 25)
            assert counts.balance() == 0
            assert counts.drops.by_reason == {"not_a_number": 1}
            assert counts.last_arrival == sensor.blocks[1].arrival
            assert (sensor.source.state, sensor.source.reason) == ("running", "")
        pty.hang_up()

    run(main())


def test_a_port_that_is_not_there_yet_is_waited_for(run: Callable[..., None], tmp_path: Path) -> None:
    link = tmp_path / "usb-sensor"

    async def main() -> None:
        pty = Pty()
        sensor = Sensor(str(link))
        task = sensor.run()
        await until(lambda: sensor.source.state == "missing")
        assert "is not there" in sensor.source.reason
        assert not task.done()
        link.symlink_to(pty.path)
        await until(lambda: sensor.source.state == "running")
        pty.write(b"1,2\n")
        await until(lambda: sensor.values == [[1, 2]])
        task.cancel()
        await asyncio.wait([task])
        pty.hang_up()
        link.unlink()

    run(main())


def test_s03_replug_under_another_number_glues_nothing_together(run: Callable[..., None], tmp_path: Path) -> None:
    link = tmp_path / "usb-sensor"

    async def main() -> None:
        sensor = Sensor(str(link))
        for cycle in range(10):
            pty = Pty()
            link.unlink(missing_ok=True)
            link.symlink_to(pty.path)
            async with sensor.running() as task:
                pty.write(b"%d,1\n9" % cycle)
                await until(lambda: len(sensor.blocks) == cycle + 1)
                pty.hang_up()
                with pytest.raises(Retryable) as raised:
                    await asyncio.wait_for(task, 3)
                assert raised.value.state == sensor.source.state == "unplugged"
                assert sensor.source.reason == raised.value.reason
        assert sensor.values == [[n, 1] for n in range(10)]
        assert sensor.counts.opens == 10
        assert sensor.counts.balance() == 0

    run(main())


async def test_a_busy_port_is_said_to_be_busy() -> None:
    pty = Pty()
    first, second = Sensor(pty.path), Sensor(pty.path)
    async with first.running():
        with pytest.raises(Retryable):
            await second.run()
        assert second.source.state == "busy"
        assert pty.path in second.source.reason
    pty.hang_up()


def test_a_held_flow_leaves_the_bytes_in_the_port(run: Callable[..., None]) -> None:
    async def main() -> None:
        pty = Pty()
        sensor = Sensor(pty.path)
        async with sensor.running():
            sensor.flow.hold()
            pty.write(b"1,1\n")
            await until(lambda: len(sensor.blocks) == 1)  # the read that was already waiting
            pty.write(b"2,2\n")
            await turns(200)
            assert sensor.values == [[1, 1]]
            sensor.flow.release()
            await until(lambda: sensor.values == [[1, 1], [2, 2]])
        pty.hang_up()

    run(main())


def test_chopped_and_whole_input_give_the_same_rows(run: Callable[..., None]) -> None:
    lines = [b"%d,%d\n" % (i, -i) for i in range(300)]
    sent = b"".join(lines)

    async def main() -> None:
        pty = Pty()
        sensor = Sensor(pty.path)
        async with sensor.running():
            for at in range(0, len(sent), 7):
                pty.write(sent[at : at + 7])
                await asyncio.sleep(0)
            await until(lambda: sensor.counts.rows == 300)
            assert sensor.values == [[i, -i] for i in range(300)]
        pty.hang_up()

    run(main())


async def test_garbage_is_no_valid_frame_until_a_good_one_comes() -> None:
    pty = Pty()
    sensor = Sensor(pty.path, baudrate=9600)
    async with sensor.running():
        pty.write(bytes(range(128, 160)))
        await until(lambda: sensor.counts.bytes == 32)
        assert sensor.source.state == "running"
        sensor.clock.skew += NO_FRAME_NS
        pty.write(b"\x80" * 10)
        await until(lambda: sensor.source.state == "no valid frame")
        assert sensor.source.reason == (
            f"{pty.path}: no line end in 42 bytes at 9600 baud: wrong baudrate? "
            "it begins 80 81 82 83 84 85 86 87 88 89 8a 8b 8c 8d 8e 8f"
        )
        pty.write(b"\n1,2\n")
        await until(lambda: sensor.source.state == "running")
        assert sensor.values == [[1, 2]]
        assert sensor.source.reason == ""
        assert sensor.counts.balance() == 0
    pty.hang_up()


async def test_frames_that_are_all_bad_are_told_with_the_last_reason() -> None:
    pty = Pty()
    sensor = Sensor(pty.path)
    async with sensor.running():
        pty.write(b"1,2,3\n")
        await until(lambda: sensor.counts.rejected == 1)
        sensor.clock.skew += NO_FRAME_NS
        pty.write(b"4,5,6\n")
        await until(lambda: sensor.source.state == "no valid frame")
        assert sensor.source.reason.startswith(f"{pty.path}: none of 2 frames is good, the last: ")
        assert r"'1,2,3\n4,5,6\n'" in sensor.source.reason
    pty.hang_up()


async def test_a_quiet_port_is_silent() -> None:
    pty = Pty()
    sensor = Sensor(pty.path, rate=100.0)
    async with sensor.running():
        sensor.clock.skew += SILENT_LEAST_NS + 10**9
        assert sensor.source.state == "silent"
        assert sensor.source.reason == "nothing has come in for 3 s"
        pty.write(b"1,2\n")
        await until(lambda: sensor.blocks)
        assert sensor.source.state == "running"
        sensor.flow.hold()
        sensor.clock.skew += SILENT_LEAST_NS + 10**9
        assert sensor.source.state == "running"  # not listening is not silence
    pty.hang_up()


async def test_a_port_that_speaks_when_something_happens_is_silent_only_before_it_ever_spoke() -> None:
    pty = Pty()
    sensor = Sensor(pty.path)
    async with sensor.running():
        sensor.clock.skew += 11 * 10**9
        assert sensor.source.state == "silent"
        pty.write(b"1,2\n")
        await until(lambda: sensor.blocks)
        sensor.clock.skew += 3600 * 10**9
        assert sensor.source.state == "running"
    pty.hang_up()
    other = Pty()
    sensor = Sensor(other.path, rate=100.0, stale_after=60 * 10**9)
    async with sensor.running():
        sensor.clock.skew += 59 * 10**9
        assert sensor.source.state == "running"
        sensor.clock.skew += 2 * 10**9
        assert sensor.source.state == "silent"
    other.hang_up()


async def test_binary_frames_of_a_fixed_size() -> None:
    pty = Pty()
    decode = Decode(format="struct", fields=(FieldSpec(name="a", dtype="int16"),))
    sensor = Sensor(pty.path, decode=decode, frame=Frame(type="fixed", size=4, sync=b"\xaa\x55"))
    async with sensor.running():
        pty.write(b"\xaa\x55\x01\x00\xaa\x55\xfe\xff")
        await until(lambda: sensor.counts.rows == 2)
        assert sensor.values == [[1], [-2]]
    pty.hang_up()


async def test_stopping_leaves_the_port_free() -> None:
    pty = Pty()
    for _ in range(3):
        sensor = Sensor(pty.path)
        async with sensor.running() as task:
            pass
        with contextlib.suppress(asyncio.CancelledError):
            await task
    pty.hang_up()


class Faulty:
    """A decoder with a fault of ours: it fails at a line that says 13."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.reset = inner.reset

    def feed(self, data: bytes) -> Any:
        if b"13" in data:
            raise ZeroDivisionError("13")
        return self.inner.feed(data)

    @property
    def is_waiting(self) -> bool:
        return bool(self.inner.is_waiting)


def test_a_fault_in_a_decoder_costs_its_read(run: Callable[..., None]) -> None:
    async def main() -> None:
        pty = Pty()
        sensor = Sensor(pty.path)
        sensor.source._decoder = Faulty(sensor.source._decoder)  # type: ignore[assignment]
        async with sensor.running() as task:
            for read, seen in ((b"1,2\n", 1), (b"13,2\n", 2), (b"3,4\n", 3)):
                pty.write(read)
                await until(lambda: sensor.counts.read == seen)
            assert sensor.values == [[1, 2], [3, 4]]
            assert not task.done()
            assert sensor.counts.drops.by_reason == {"internal_error": 1}
            assert sensor.counts.balance() == 0
        pty.hang_up()

    run(main())


def test_a_source_that_may_be_silent_is_not_called_so(run: Callable[..., None]) -> None:
    async def main() -> None:
        for stale_after, state in ((NEVER, "running"), (None, "silent")):
            pty = Pty()
            sensor = Sensor(pty.path, rate=1.0, stale_after=stale_after)
            async with sensor.running():
                pty.write(b"1,2\n")
                await until(lambda: sensor.blocks)
                sensor.clock.skew = 3600 * 10**9
                assert sensor.source.state == state
            pty.hang_up()

    run(main())


async def test_a_line_that_was_under_way_is_no_row() -> None:
    pty = Pty()
    pty.write(b"2,-3\n4,5\n")  # the end of 12,-3
    sensor = Sensor(pty.path)
    async with sensor.running():
        await until(lambda: sensor.blocks)
        pty.write(b"6,7\n")
        await until(lambda: len(sensor.blocks) == 2)
        assert sensor.values == [[4, 5], [6, 7]]
        assert sensor.counts.drops.by_reason == {"partial": 1}
        assert sensor.counts.balance() == 0
    pty.hang_up()


def test_a_silence_ends_a_block_of_lines(run: Callable[..., None]) -> None:
    async def main() -> None:
        pty = Pty()
        text = Decode(format="text", fields=(FieldSpec(name="t", after="T"), FieldSpec(name="h", after="H")))
        sensor = Sensor(pty.path, decode=text, frame=Frame(type="block", end=None, gap=50_000_000))
        async with sensor.running():
            for n in (1, 2):
                pty.write(b"T = %d\r\nH = 5" % n)
                await until(lambda n=n: len(sensor.blocks) == n)  # type: ignore[misc]
        assert sensor.values == [[1, 5], [2, 5]]

    run(main())
