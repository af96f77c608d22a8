"""What of behaviours outlives a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edged.behaviours.kept import MAX_STATE, NAME, Kept


def test_states_come_back_by_behaviour_and_key_and_nothing_is_written_twice(tmp_path: Path) -> None:
    kept = Kept.load(tmp_path, ())
    kept.states("guard")["p1"] = {"n": 1, "list": [1.5, "x", None]}
    kept.states("guard")["p2"] = {}
    whole = kept.encoded()
    assert whole is not None
    kept.write(whole)
    assert kept.encoded() is None
    again = Kept.load(tmp_path, ())
    assert again.states("guard") == {"p1": {"n": 1, "list": [1.5, "x", None]}}
    again.forget_others(["other"])
    assert again.states("guard") == {}


@pytest.mark.parametrize(
    ("state", "wanted"), [({"x": "y" * MAX_STATE}, "bytes; edged keeps at most 4096"), ({"x": object()}, "cannot be kept")]
)
def test_what_cannot_be_kept_is_said_and_costs_nobody_else(tmp_path: Path, state: dict[str, object], wanted: str) -> None:
    kept = Kept.load(tmp_path, ())
    kept.states("guard")["p1"] = state
    kept.states("guard")["p2"] = {"n": 1}
    with capture_logs() as logs:
        kept.write(kept.encoded())
    assert [(one["event"], one["key"]) for one in logs] == [("state_not_kept", "p1")]
    assert wanted in logs[0]["reason"]
    assert Kept.load(tmp_path, ()).states("guard") == {"p2": {"n": 1}}


def test_a_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\x93nonsense")
    with capture_logs() as logs:
        assert Kept.load(tmp_path, ()).states("guard") == {}
    assert logs[0]["event"] == "file_moved_aside"


def test_a_behaviour_is_barred_after_two_ends_of_the_process_in_it_until_its_code_is_another(tmp_path: Path) -> None:
    first = Kept.load(tmp_path, ["behaviour.guard", "model.x"])
    assert not first.is_barred("guard", "a")
    first.write(first.encoded())
    second = Kept.load(tmp_path, ["behaviour.guard"])
    assert second.is_barred("guard", "a")
    second.forgive()  # a stop in good order: it did not run
    second.write(second.encoded())
    third = Kept.load(tmp_path, ())
    assert third.is_barred("guard", "a")
    assert not third.is_barred("guard", "b")
    assert not third.is_barred("other", "a")


def test_a_stop_in_good_order_forgives_one_end(tmp_path: Path) -> None:
    first = Kept.load(tmp_path, ["behaviour.guard"])
    assert not first.is_barred("guard", "a")
    first.forgive()
    first.write(first.encoded())
    assert not Kept.load(tmp_path, ["behaviour.guard"]).is_barred("guard", "a")
