"""Ports that are written to, on real pseudo-terminals: by itself, and one that sources share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from pathlib import Path

import pytest

from edged.clock.clock import Clock
from edged.config import schema
from edged.errors import Retryable
from edged.sources.counts import SourceCounts
from edged.sources.written import WrittenPort
from tests.sources.test_shared import NMEA, shared
from tests.support.ptys import Pty, until


async def read(pty: Pty, count: int) -> bytes:
    data = bytearray()

    def come() -> bool:
        with contextlib.suppress(BlockingIOError):
            data.extend(os.read(pty.master, 65536))
        return len(data) >= count

    await until(come, 10)
    return bytes(data)


async def test_what_is_written_goes_out_whole_and_what_comes_is_let_go() -> None:
    pty = Pty()
    tty.setraw(pty.master)
    counts = SourceCounts("relay", kind="port")
    port = WrittenPort("relay", schema.Port(port=pty.path), counts, Clock())
    with pytest.raises(Retryable, match="is not open"):
        await port.write(b"ON", 1.0)
    running = asyncio.ensure_future(port.run({}))
    await until(lambda: port.state == "running", 10)
    await pty.send(b"hello")
    await until(lambda: counts.bytes == 5, 10)
    texts = [letter * 20_000 for letter in (b"a", b"b")]  # more than a terminal holds
    writing = asyncio.gather(*(port.write(text, 10.0) for text in texts))
    assert await read(pty, 40_000) == b"".join(texts)  # nobody writes into what another writes
    await writing
    with pytest.raises(Retryable, match="took no more bytes for"):
        await port.write(b"x" * 100_000, 0.05)  # nobody reads it
    pty.hang_up()
    await asyncio.wait([running])
    assert isinstance(running.exception(), Retryable)
    with pytest.raises(Retryable) as caught:
        await port.write(b"OFF", 1.0)
    assert caught.value.state == "unplugged"


async def test_a_port_that_sources_share_is_written_to_while_it_is_open(tmp_path: Path) -> None:
    pty = Pty()
    found = shared(tmp_path, NMEA.format(tty=pty.path))
    with pytest.raises(Retryable, match="connecting"):
        await found.port.write(b"$X\n", 1.0)
    async with found.running():
        await found.port.write(b"$X\n", 1.0)
        assert await read(pty, 3) == b"$X\n"
    pty.hang_up()
