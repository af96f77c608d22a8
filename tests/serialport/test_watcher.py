import asyncio
import os
import subprocess
import sys
import termios
from typing import Any

import pytest
from structlog.testing import capture_logs

from edged.config.schema import SerialSource
from edged.serialport import port
from edged.serialport.port import SerialPort
from tests.support.ptys import LOOPS, Pty, Run, until

DECODE: Any = None  # the transport never looks at it


def settings(port: str, **keys: Any) -> SerialSource:
    return SerialSource(port=port, decode=DECODE, **keys)


@pytest.fixture(params=list(LOOPS.values()), ids=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_settings_of_another_program_are_put_right_within_a_second_and_said(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port, "LOOK_S", 0.02)

    async def main() -> None:
        pty = Pty()
        async with SerialPort(settings(pty.path)) as one:
            subprocess.run(["stty", "-F", pty.path, "icanon", "echo"], check=True)  # noqa: ASYNC221 (at once)
            stranger = os.open(pty.path, os.O_RDWR | os.O_NOCTTY)
            await until(lambda: not termios.tcgetattr(stranger)[3] & (termios.ICANON | termios.ECHO))
            os.close(stranger)
            pty.write(b"half")
            assert await asyncio.wait_for(one.read(), 5) == b"half"
        pty.hang_up()

    with capture_logs() as logs:
        run(main())
    assert "another program changed canonical mode, echo; changed back" in str(logs)


def test_who_else_reads_the_port_is_named(run: Run[None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "LOOK_S", 0.02)
    code = "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); os.system(f'stty -F {sys.argv[1]} echo'); input()"

    async def main() -> None:
        pty = Pty()
        async with SerialPort(settings(pty.path)) as one:
            command = [sys.executable, "-c", code, pty.path]
            with subprocess.Popen(command, stdin=subprocess.PIPE) as other:  # noqa: ASYNC220 (at once)
                await until(lambda: f"(pid {other.pid}), which takes bytes" in one.trouble, 10)
                other.communicate(b"\n")
            await until(lambda: not one.trouble, 10)
        pty.hang_up()

    run(main())


def test_a_driver_that_cannot_switch_a_transmitter_is_no_reason_not_to_read(run: Run[None]) -> None:
    async def main() -> None:
        pty = Pty()
        async with SerialPort(settings(pty.path, rs485=True)) as port:
            assert port.trouble == ""
            pty.write(b"a")
            assert await port.read() == b"a"
        pty.hang_up()

    run(main())


def test_an_end_of_file_in_canonical_mode_is_no_end_of_the_device(run: Run[None]) -> None:
    async def main() -> None:
        pty = Pty()
        async with SerialPort(settings(pty.path)) as port:
            reading = asyncio.create_task(port.read())
            await asyncio.sleep(0)
            subprocess.run(["stty", "-F", pty.path, "icanon"], check=True)  # noqa: ASYNC221 (at once)
            pty.write(b"\x04")
            await until(lambda: not termios.tcgetattr(port._fd)[3] & termios.ICANON)
            pty.write(b"on")
            assert b"on" in await asyncio.wait_for(reading, 5)
        pty.hang_up()

    run(main())
