from __future__ import annotations

import asyncio
import os
import signal

import pytest

from edged.daemon.ending import Ending
from edged.errors import EX_CONFIG, EX_OK, EX_SOFTWARE


async def test_a_signal_ends_it_in_good_order() -> None:
    ending, loop = Ending(), asyncio.get_running_loop()
    ending.watch(loop)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await ending.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    assert (ending.has_come, ending.code, ending.keeps_state) == (True, EX_OK, True)


async def test_what_nobody_caught_is_a_bug_and_what_is_in_memory_is_not_kept() -> None:
    ending = Ending()
    ending._on_bug(asyncio.get_running_loop(), {"message": "callback", "exception": ZeroDivisionError()})
    await ending.wait()
    assert (ending.code, ending.keeps_state) == (EX_SOFTWARE, False)


@pytest.mark.parametrize(
    ("act", "code", "keeps_state"),
    [
        (lambda ending: ending.leave("no model", EX_CONFIG), EX_CONFIG, True),
        (lambda ending: ending.restart("model.m"), EX_SOFTWARE, True),
        (lambda ending: ending.finish(), EX_OK, False),
    ],
)
async def test_how_it_ends(act: object, code: int, keeps_state: bool) -> None:
    ending = Ending()
    assert not ending.has_come
    assert callable(act)
    act(ending)
    assert (ending.has_come, ending.code, ending.keeps_state) == (True, code, keeps_state)
