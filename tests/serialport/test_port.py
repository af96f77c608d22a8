import array
import asyncio
import fcntl
import os
import random
import subprocess
import sys
import termios
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edged.config.schema import SerialSource, UsbPort
from edged.errors import Retryable
from edged.serialport import port
from edged.serialport.port import BLOCK_BYTES, SerialPort
from tests.support.ptys import IDLE_THREADS, LOOPS, Pty, Run, open_fds, turns, until

DECODE: Any = None  # the transport never looks at it


def settings(port: str | UsbPort, **keys: Any) -> SerialSource:
    return SerialSource(port=port, decode=DECODE, **keys)


@pytest.fixture(params=list(LOOPS.values()), ids=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


def count_wake_ups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors for which the running loop calls a reader, one entry a call."""
    calls: list[int] = []
    kind = type(asyncio.get_running_loop())
    add_reader = kind.add_reader

    def counting(loop: Any, fd: int, callback: Callable[[], None]) -> None:
        def called() -> None:
            calls.append(fd)
            callback()

        add_reader(loop, fd, called)

    monkeypatch.setattr(kind, "add_reader", counting)
    return calls


@asynccontextmanager
async def failing(state: str) -> AsyncIterator[list[Retryable]]:
    caught: list[Retryable] = []
    with pytest.raises(Retryable) as raised:
        yield caught
    caught.append(raised.value)
    assert raised.value.state == state, raised.value


async def open_and_close(port: str | UsbPort) -> None:
    async with SerialPort(settings(port)):
        pass


async def read_all(port: SerialPort, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await asyncio.wait_for(port.read(), 10)
    return data


def test_reads_what_is_sent_and_what_was_there_before(run: Run[None]) -> None:
    async def main() -> None:
        pty = Pty()
        pty.write(b"before\n")
        async with SerialPort(settings(pty.path)) as port:
            assert await port.read() == b"before\n"
            pty.write(b"\x00\r\n\x03\x04\x11\x13\xff")
            assert await port.read() == b"\x00\r\n\x03\x04\x11\x13\xff"
        pty.hang_up()

    before = open_fds()
    run(main())
    assert open_fds() == before
    assert threading.active_count() == IDLE_THREADS


def test_each_read_is_handed_on_until_its_taker_has_enough(run: Run[None]) -> None:
    async def main() -> None:
        pty, taken = Pty(), list[bytes]()

        def take(data: bytes) -> bool:
            taken.append(data)
            if data == b"bad":
                raise ValueError("bad")
            return data != b"enough"

        async with SerialPort(settings(pty.path)) as port:
            reading = asyncio.ensure_future(port.read_each(take))
            for data in (b"1", b"2", b"enough"):
                pty.write(data)
                await until(lambda data=data: data in taken)  # type: ignore[misc]
            await reading
            pty.write(b"later")
            assert await port.read() == b"later"
            pty.write(b"bad")
            with pytest.raises(ValueError, match="bad"):
                await port.read_each(take)
            pty.write(b"last")
            pty.hang_up()
            await port.read_each(take)  # all that it sent, then that it is gone
            with pytest.raises(Retryable):
                await port.read_each(take)
        assert taken[:3] == [b"1", b"2", b"enough"]

    run(main())


def test_a_burst_of_megabytes_is_byte_exact_and_lets_others_run(run: Run[None]) -> None:
    sent = random.Random(1).randbytes(3_000_000)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def main() -> None:
        pty = Pty()
        async with SerialPort(settings(pty.path)) as port:
            ticking = asyncio.create_task(others())
            sending = asyncio.create_task(pty.send(sent))
            got, blocks = b"", []
            while len(got) < len(sent):
                blocks.append(await asyncio.wait_for(port.read(), 10))
                got += blocks[-1]
            await sending
            ticking.cancel()
        assert got == sent
        assert max(map(len, blocks)) <= BLOCK_BYTES
        assert turns >= len(blocks)
        pty.hang_up()

    run(main())


def test_chopped_input_arrives_whole(run: Run[None]) -> None:
    sent = random.Random(2).randbytes(2000)

    async def main() -> None:
        pty = Pty()

        async def drip() -> None:
            rng = random.Random(3)
            at = 0
            while at < len(sent):
                size = rng.choice((1, 1, 2, 7, 100))
                pty.write(sent[at : at + size])
                at += size
                await asyncio.sleep(0)

        async with SerialPort(settings(pty.path)) as port:
            dripping = asyncio.create_task(drip())
            assert await read_all(port, len(sent)) == sent
            await dripping
        pty.hang_up()

    run(main())


def test_a_port_that_nobody_reads_does_not_wake_the_loop(run: Run[None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        calls = count_wake_ups(monkeypatch)
        pty = Pty()
        async with SerialPort(settings(pty.path)) as port:
            pty.write(b"a")
            assert await port.read() == b"a"
            pty.write(b"b")
            await until(lambda: len(calls) >= 2)
            await turns(1000)  # a watched descriptor with bytes in it would call on each of them
            assert len(calls) == 2
            assert await port.read() == b"b"
        pty.hang_up()

    run(main())


def test_a_hang_up_is_one_event_and_then_nothing_spins(run: Run[None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        calls = count_wake_ups(monkeypatch)
        pty = Pty()
        async with SerialPort(settings(pty.path)) as port:
            pty.write(b"half a fr")
            assert await port.read() == b"half a fr"
            reading = asyncio.create_task(port.read())
            await asyncio.sleep(0)
            pty.hang_up()
            async with failing("unplugged") as caught:
                await asyncio.wait_for(reading, 3)
            assert pty.path in caught[0].reason
            await turns(1000)
            assert len(calls) <= 4
            async with failing("unplugged"):
                await port.read()

    before = open_fds()
    run(main())
    assert open_fds() == before


def test_a_hang_up_that_the_loop_keeps_to_itself_is_seen_by_looking(run: Run[None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "LOOK_S", 0.02)

    async def main() -> None:
        monkeypatch.setattr(type(asyncio.get_running_loop()), "add_reader", lambda *_: None)
        pty = Pty()
        async with SerialPort(settings(pty.path)) as port:
            reading = asyncio.create_task(port.read())
            await asyncio.sleep(0)
            pty.hang_up()
            async with failing("unplugged"):
                await asyncio.wait_for(reading, 3)

    run(main())


def test_what_came_in_before_the_hang_up_and_was_not_read_yet_is_not_mistaken(run: Run[None]) -> None:
    async def main() -> None:
        pty = Pty()
        async with SerialPort(settings(pty.path)) as port:
            pty.hang_up()
            async with failing("unplugged"):
                await asyncio.wait_for(port.read(), 3)

    run(main())


def test_replugged_twenty_times_under_new_numbers(run: Run[None], tmp_path: Path) -> None:
    link = tmp_path / "by-id" / "usb-sensor"
    link.parent.mkdir()

    async def main() -> None:
        spare: list[Pty] = []
        for cycle in range(20):
            if cycle % 3 == 0:
                spare.append(Pty())  # takes the number that was free, so that the sensor gets another
            pty = Pty()
            link.unlink(missing_ok=True)
            link.symlink_to(pty.path)
            async with SerialPort(settings(str(link))) as port:
                pty.write(b"cycle %d half a fr" % cycle)
                assert await port.read() == b"cycle %d half a fr" % cycle
                reading = asyncio.create_task(port.read())
                await asyncio.sleep(0)
                pty.hang_up()
                async with failing("unplugged"):
                    await asyncio.wait_for(reading, 3)
        for other in spare:
            other.hang_up()

    run(main())  # what a loop opens once for good is open now
    before = open_fds()
    run(main())
    assert open_fds() == before


def test_the_other_port_loses_nothing_when_one_goes_and_its_descriptor_number_is_reused(run: Run[None]) -> None:
    async def main() -> None:
        steady = Pty()
        async with SerialPort(settings(steady.path)) as kept:
            for cycle in range(20):
                first, second = Pty(), Pty()
                async with SerialPort(settings(first.path)) as port:
                    first.hang_up()
                    async with failing("unplugged"):
                        await asyncio.wait_for(port.read(), 3)
                async with SerialPort(settings(second.path)) as port:
                    second.write(b"new")
                    steady.write(b"%d" % cycle)
                    assert await asyncio.wait_for(port.read(), 3) == b"new"
                    assert await asyncio.wait_for(kept.read(), 3) == b"%d" % cycle
                second.hang_up()
        steady.hang_up()

    run(main())


@pytest.mark.parametrize(
    "keys",
    [
        {"baudrate": 250_000},
        {"baudrate": 12_345_678},
        {"bytesize": 7, "parity": "even", "stopbits": 2},
        {"parity": "odd", "stopbits": 1.5},
        {"flow": "rtscts"},
        {"flow": "xonxoff"},
        {"dtr": False, "rts": False},
    ],
)
async def test_a_pseudo_terminal_takes_any_line_settings(keys: dict[str, Any]) -> None:
    pty = Pty()
    async with SerialPort(settings(pty.path, **keys)) as port:
        pty.write(b"ok")
        assert await port.read() == b"ok"
    pty.hang_up()


async def test_the_port_keeps_dtr_when_closed_and_has_the_baudrate_asked_for() -> None:
    pty = Pty()
    async with SerialPort(settings(pty.path, baudrate=250_000)):
        fd = os.open(pty.path, os.O_RDWR | os.O_NOCTTY)
        assert not termios.tcgetattr(fd)[2] & termios.HUPCL
        termios2 = array.array("i", [0] * 64)
        fcntl.ioctl(fd, 0x802C542A, termios2)  # TCGETS2
        assert termios2[9:11].tolist() == [250_000, 250_000]
        os.close(fd)
    pty.hang_up()


def test_missing_names_what_there_is(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "ttyUSB0")
        async with failing("missing") as caught:
            await open_and_close(path)
        assert caught[0].reason.startswith(f"{path} is not there")
        assert "on this machine" in caught[0].reason
        os.symlink("/dev/pts/99999", path)  # what by-id looks like when the device is gone
        async with failing("missing"):
            await open_and_close(path)

    run(main())


def test_busy_names_the_holder(run: Run[None]) -> None:
    holder = "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); {}; print('held', flush=True); input()"
    lock = "fcntl.flock(fd, fcntl.LOCK_EX)"
    mark = "import termios; fcntl.ioctl(fd, termios.TIOCEXCL)"

    async def main() -> None:
        for how in (lock, mark):
            pty = Pty()
            arguments = [sys.executable, "-c", holder.format(how), pty.path]
            with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:  # noqa: ASYNC220
                assert other.stdout is not None
                assert other.stdout.readline() == b"held\n"
                async with failing("busy") as caught:
                    await open_and_close(pty.path)
                assert other.stdin is not None
                other.stdin.write(b"\n")
                other.stdin.flush()
                assert f"in use by python, pid {other.pid}" in caught[0].reason.replace("python3", "python")
            if how is lock:  # a mark on a pseudo-terminal outlives its holder, for all but root
                await open_and_close(pty.path)
            pty.hang_up()

    run(main())


def test_two_of_our_own_cannot_share_a_port(run: Run[None]) -> None:
    async def main() -> None:
        pty = Pty()
        async with SerialPort(settings(pty.path)) as port:
            async with failing("busy") as caught:
                await open_and_close(pty.path)
            assert "another source" in caught[0].reason
            pty.write(b"still mine")
            assert await port.read() == b"still mine"
        await open_and_close(pty.path)
        pty.hang_up()

    run(main())


async def test_a_holder_killed_without_notice_leaves_a_pseudo_terminal_free() -> None:
    pty = Pty()
    kept = os.open(pty.path, os.O_RDWR | os.O_NOCTTY)  # as who made it often does
    await open_and_close(pty.path)
    held = array.array("i", [0])
    async with SerialPort(settings(pty.path)):
        fcntl.ioctl(kept, port.TIOCGEXCL, held)
        assert held[0] == 0
    os.close(kept)
    pty.hang_up()


@pytest.mark.parametrize("path", ["/dev/null", "file", "."])
async def test_what_is_no_serial_port_is_said_to_be_none(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with failing("unsupported") as caught:
        await open_and_close(str(tmp_path / path))
    assert "not a serial port" in caught[0].reason


def test_a_cancelled_opening_leaves_nothing_open(run: Run[None]) -> None:
    async def main() -> None:
        pty = Pty()
        for count in range(6):
            opening = asyncio.create_task(open_and_close(pty.path))
            await turns(count)
            opening.cancel()
            await asyncio.wait([opening])
            await until(lambda: threading.active_count() == IDLE_THREADS)
            await turns(3)
        await open_and_close(pty.path)  # not busy
        pty.hang_up()

    before = open_fds()
    run(main())
    assert open_fds() == before


def test_damaged_bytes_are_told_apart_from_good_ones(run: Run[None]) -> None:
    """A pseudo-terminal has no line that could damage a byte; without PARMRK what is sent stands for what a driver says."""

    async def main() -> None:
        pty = Pty()
        async with SerialPort(settings(pty.path, parity="even")) as port:
            unmarked = os.open(pty.path, os.O_RDWR | os.O_NOCTTY)
            attributes = termios.tcgetattr(unmarked)
            assert attributes[0] & termios.PARMRK
            attributes[0] &= ~termios.PARMRK
            termios.tcsetattr(unmarked, termios.TCSANOW, attributes)
            pty.write(b"1,2\n3\xff\x00x,4\n\xff\xff\n")
            assert await port.read() == b"1,2\n3,4\n\xff\n"
            assert port.bad == [(5, "parity")]
            os.close(unmarked)
        pty.hang_up()

    run(main())


def test_what_is_written_goes_out_whole_or_is_said_to_be_stuck(run: Run[None]) -> None:
    async def main() -> None:
        pty = Pty()
        async with SerialPort(settings(pty.path)) as port:
            assert await port.write(b"\xff\x01\n\r\x00", 1.0)
            assert os.read(pty.master, 100) == b"\xff\x01\n\r\x00"
            assert not await port.write(b"x" * 1_000_000, 0.05)  # nobody takes it
            await port.send_break(0.001)
        pty.hang_up()

    run(main())
