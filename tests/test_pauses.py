"""Tests wait for facts (`until`). Where one has to let time go by, it says why, by `pause`: no sleeps, and none in disguise."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
ELSEWHERE = ("bench/", "cases/", "fakes/", "support/added/", "support/pause.py", Path(__file__).name)
"""Benchmarks keep a rate; cases, fakes and what is added to edged are no tests."""
INSIDE = {
    "behaviours/test_actor.py",
    "daemon/test_lifecycle.py",
    "daemon/test_signals.py",
    "devices/booted.py",
    "live/test_poison.py",
    "live/test_s12_freshness.py",
    "testing/test_virtual.py",
}
"""Theirs are in the text of programs that are run, in virtual time, or a task that never ends by itself."""
SLEEP = re.compile(r"\b(?:time|asyncio)\.sleep\((?!0\))|Event\(\)\.wait\((?!\))|until\(lambda[^:]*: time\.monotonic\(\)")


def test_whoever_lets_time_go_by_says_why() -> None:
    found = {}
    for file in HERE.rglob("*.py"):
        place = file.relative_to(HERE).as_posix()
        sleeps = [] if place.startswith(ELSEWHERE) else SLEEP.findall(file.read_text("utf-8"))
        if sleeps:
            found[place] = sleeps
    assert found.keys() == INSIDE, found
