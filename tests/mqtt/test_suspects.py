from __future__ import annotations

from pathlib import Path

from edged.mqtt.suspects import Suspects, digest
from edged.records import Receipt
from edged.system.hang_recorder import Stages
from tests.support.ends import at_an_end


def run(
    path: Path, dies_in: str = "", topic: bytes = b"", payload: bytes = b"", brokers: tuple[str, ...] = ("main",)
) -> Suspects:
    """A run that may end in a stage while it handles an input alone; what the next one would make of it."""
    stages = Stages(lambda: 0)
    stages.keep_in(path)
    suspects = Suspects(stages, brokers)
    if payload:
        suspects.handle_alone(topic, payload, Receipt(1))
    if dies_in:
        stages.wrap(dies_in, lambda: 0)
        path.write_bytes(at_an_end(path.read_bytes()))
    return suspects


def test_two_ends_in_one_stage_make_it_careful_and_a_third_tells_who(tmp_path: Path) -> None:
    path = tmp_path / "stage"
    assert not run(path, "model.m").is_on
    first = run(path, "model.m")
    assert first.is_on
    assert not first.is_careful("main")
    second = run(path, "model.m", b"in/x", b"13")
    assert second.is_careful("main")
    assert not second.is_poison(b"in/x", b"13")
    third = run(path)
    assert third.stage == "model.m"
    assert third.is_poison(b"in/x", b"13")
    assert not third.is_poison(b"in/y", b"13")  # the same from another sensor is another input
    assert not third.is_poison(b"in/x", b"1")
    assert not run(path).is_on  # that one ended in good order, or in no stage


def test_one_is_handled_after_the_other(tmp_path: Path) -> None:
    suspects = run(tmp_path / "stage")
    assert suspects.may_go_on()
    receipt, other = Receipt(1), Receipt(2)
    suspects.handle_alone(b"t", b"1", receipt)
    assert not suspects.may_go_on()
    suspects.let_go([other])
    assert not suspects.may_go_on()
    receipt.done()
    assert suspects.may_go_on()
    suspects.handle_alone(b"t", b"2", other)
    suspects.let_go([other])  # its connection is gone
    assert suspects.may_go_on()


def test_a_stop_does_not_clear_what_hangs_on_the_worker(tmp_path: Path) -> None:
    path, name = tmp_path / "stage", "model.m: a run"
    for end in range(1, 4):
        stages = Stages(lambda: 0)
        stages.keep_in(path)
        suspects, receipt = Suspects(stages, ["main"]), Receipt(1)
        suspects.handle_alone(b"in/x", b"13", receipt)
        with stages.on_worker(name):
            suspects.let_go([receipt])
            stages.close()
            kept = path.read_bytes()
        path.write_bytes(kept)
        after = Stages(lambda: 0)
        (tmp_path / "copy").write_bytes(kept)
        assert after.keep_in(tmp_path / "copy") == [name]
        assert after.ends == end
        assert Suspects(after, ["main"]).is_poison(b"in/x", b"13") is (end > 1)


def test_it_goes_on_as_usual_once_every_broker_is_through(tmp_path: Path) -> None:
    path = tmp_path / "stage"
    run(path, "model.m")
    run(path, "model.m")
    suspects = run(path, "", b"t", b"1", brokers=("main", "other"))
    suspects.got_further("main")
    assert not suspects.is_careful("main")
    assert suspects.is_careful("other")
    suspects.got_further("other")
    assert not suspects.is_on
    assert run(path, "model.m").stage == ""


def test_who_is_killed_now_and_then_in_one_stage_blames_nobody(tmp_path: Path) -> None:
    """As long as what comes again is through each time."""
    path = tmp_path / "stage"
    for _ in range(20):
        stages = Stages(lambda: 0)
        stages.keep_in(path)
        suspects = Suspects(stages, ["main"])
        assert not suspects.is_careful("main")
        suspects.got_further("main")
        kept: list[bytes] = []
        stages.wrap("model.m", lambda: kept.append(path.read_bytes()))()
        path.write_bytes(kept[0])


def test_a_digest_is_of_the_topic_and_the_payload() -> None:
    assert len(digest(b"a", b"b")) == 16
    assert len({digest(b"a", b"b"), digest(b"ab", b""), digest(b"", b"ab"), digest(b"b", b"a")}) == 4
