from __future__ import annotations

import sys

import pytest

from edged.commands.loop import on_loop
from edged.system.switching import SWITCH_S


async def interval() -> float:
    return sys.getswitchinterval()


async def fails() -> None:
    raise LookupError("it fails")


def test_a_loop_gets_the_interpreter_lock_back_soon_and_leaves_the_interval_as_it_was() -> None:
    before = sys.getswitchinterval()
    assert on_loop(interval()) == pytest.approx(SWITCH_S) != pytest.approx(before)
    assert sys.getswitchinterval() == pytest.approx(before)
    with pytest.raises(LookupError, match="it fails"):
        on_loop(fails())
    assert sys.getswitchinterval() == pytest.approx(before)
