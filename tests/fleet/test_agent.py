"""What the device notes of versions that may still be left. How it takes announcements is in tests/live/test_fleet.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from edged.clock.clock import Clock
from edged.fleet.agent import Agent, Running
from edged.fleet.ledger import Entry, File, Ledger
from edged.plan.records import FleetPlan
from tests.support.mqtt_peer import settings

BAD, SURE, NEXT = (File(version, name * 64, 3) for version, name in (("2", "b"), ("1", "a"), ("3", "c")))


async def accepted(*_: str) -> str:
    return ""


def agent(folder: Path, entry: Entry, is_guarded: Callable[[str], bool] = lambda _: True) -> Agent:
    """Of a device with the model `normal`, whose ledger has this of it."""
    Ledger(folder / "fleet").put("normal", entry)
    plan = FleetPlan(settings(1), "fleet/presses", folder / "keys", (), None, 0, 1 << 20)
    running = Running(accepted, accepted, lambda: ["normal"], is_guarded, dict)
    one = Agent(plan, "press-1", {}, folder, Clock(), structlog.get_logger("edged"), running)
    one._ledger.load()
    return one


def noted(folder: Path) -> Entry:
    return Ledger(folder / "fleet").load().get("normal")


@pytest.mark.parametrize("state", ["guarded", "fetching", "waiting", "refused", "failed"])
def test_a_version_that_its_guard_leaves_is_not_what_the_next_start_runs(tmp_path: Path, state: str) -> None:
    """Whatever was announced since: a newer version that is still being fetched hid the verdict."""
    one = agent(tmp_path, Entry(7, "d", BAD, SURE, "2", state, is_unsettled=True))
    asyncio.run(one.guard_ended("normal", "4 % of its results are not finite"))
    entry = noted(tmp_path)
    assert (entry.running, entry.before, entry.is_unsettled) == (SURE, None, False)
    assert entry.state == ("went_back" if state == "guarded" else state)


@pytest.mark.parametrize("state", ["guarded", "fetching"])
def test_a_version_that_kept_to_what_was_asked_stays(tmp_path: Path, state: str) -> None:
    one = agent(tmp_path, Entry(7, "d", BAD, SURE, "2", state, is_unsettled=True))
    asyncio.run(one.guard_ended("normal", ""))
    entry = noted(tmp_path)
    assert (entry.running, entry.before, entry.is_unsettled) == (BAD, SURE, False)
    assert entry.state == ("running" if state == "guarded" else state)


def test_what_is_not_watched_is_not_left(tmp_path: Path) -> None:
    before = Entry(7, "d", NEXT, SURE, "3", "running")
    one = agent(tmp_path, before)
    asyncio.run(one.guard_ended("normal", "of the version before"))
    assert noted(tmp_path) == before


@pytest.mark.parametrize(("is_guarded", "state"), [(True, "guarded"), (False, "running")])
def test_going_back_from_a_version_that_does_not_run_settles_nothing(tmp_path: Path, is_guarded: bool, state: str) -> None:
    before = Entry(8, "e", NEXT, SURE, "3", "fetching", is_unsettled=is_guarded)
    one = agent(tmp_path, before, lambda _: is_guarded)
    asyncio.run(one._try("normal", NEXT, is_back=True))
    entry = noted(tmp_path)
    assert (entry.running, entry.state, entry.is_unsettled) == (NEXT, state, is_guarded)
