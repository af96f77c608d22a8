from __future__ import annotations

import sys

import pytest

from edged.system.patience import within


def forever() -> int:
    while True:
        pass


def test_what_it_returns_and_raises() -> None:
    assert within(60, lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 // 0)
    with pytest.raises(SystemExit):
        within(60, sys.exit)


def test_what_never_returns_is_stopped() -> None:
    with pytest.raises(TimeoutError, match=r"it has not returned after 0.01 s"):
        within(0.01, forever)
