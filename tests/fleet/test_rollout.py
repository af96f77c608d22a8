"""A laptop's view of a group: who is meant, how far it is, when it stops."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edged.fleet.announcement import Announcement
from edged.fleet.rollout import Group
from tests.support.fleet import GROUP, Signer


def report(device: str, state: str = "running", counter: int = 0, **more: Any) -> tuple[str, bytes]:
    entry = {"wanted": "4", "running": "4", "state": state, "counter": counter, **more}
    said = {"device": device, "tags": {"hall": "B"}, "models": {"normal": entry}}
    return f"{GROUP}/report/{device}", json.dumps(said).encode()


@pytest.fixture
def group() -> Group:
    one = Group(GROUP)
    for n in range(50):
        assert one.take(*report(f"press{n}")) == f"press{n}"
    return one


def one(**changes: Any) -> Announcement:
    return Announcement(GROUP, "normal", "4", 7, 0, 0, **changes)


def test_a_canary_is_at_least_one_device(group: Group) -> None:
    percent = group.canary(one(), 0.0001)
    assert len(group.meant(one(percent=percent))) == 1
    assert group.canary(one(), 60) == 60
    assert group.canary(one(tags={"hall": "C"}), 5) == 5  # nobody


def test_how_far_it_is(group: Group) -> None:
    assert len(group.progress(one()).waiting) == 50
    group.take(*report("press1", counter=7))
    group.take(*report("press2", "fetching", counter=7))
    group.take(*report("press3", "failed", counter=7, reason="no ONNX"))
    group.take(*report("press4", "went_back", counter=6))  # of an earlier one
    found = group.progress(one())
    assert found.done == ("press1",)
    assert found.bad == {"press3": "failed: no ONNX"}
    assert len(found.waiting) == 48


def test_counters_rise(group: Group, signer: Signer) -> None:
    group.take(f"{GROUP}/model/normal", signer.announce(b"m", counter=41, version="9"))
    assert group.next_counter("normal", 0) == 42
    assert group.next_counter("normal", 1000) == 1000
    assert group.announced["normal"].version == "9"


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"\xff", b'{"device":"x","models":{"normal":4}}', b"null"])
def test_what_is_no_report(payload: bytes) -> None:
    group = Group(GROUP)
    for topic in ("report/x", "model/normal", "else"):
        assert group.take(f"{GROUP}/{topic}", payload) is None
    assert not group.reports
