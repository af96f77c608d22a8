"""How long the work of a command goes on; uvloop itself: tests/system/test_switching.py."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from edged.commands.loop import STOP, on_loop, until_stopped


async def forever(ended: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


async def at_once() -> None:
    return


async def fails() -> None:
    raise OSError("the disk is full")


def test_work_that_is_done_ends_what_runs_beside() -> None:
    ended: list[str] = []
    on_loop(until_stopped(at_once(), forever(ended, "beside"), None))
    assert ended == ["beside"]


@pytest.mark.parametrize("number", [*STOP, signal.SIGHUP])
def test_a_signal_ends_both(number: signal.Signals) -> None:
    ended: list[str] = []

    async def signalled() -> None:
        os.kill(os.getpid(), number)
        await forever(ended, "beside")

    on_loop(until_stopped(forever(ended, "work"), signalled(), None, (*STOP, signal.SIGHUP)))
    assert ended == ["work", "beside"]


def test_time_ends_both() -> None:
    ended: list[str] = []
    on_loop(until_stopped(forever(ended, "work"), forever(ended, "beside"), 0.001))
    assert ended == ["work", "beside"]


def test_a_failure_of_either_is_raised() -> None:
    with pytest.raises(OSError, match="the disk is full"):
        on_loop(until_stopped(fails(), forever([], "beside"), None))
    with pytest.raises(OSError, match="the disk is full"):
        on_loop(until_stopped(forever([], "work"), fails(), None))
