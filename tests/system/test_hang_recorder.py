from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edged.system import end_mark
from edged.system.hang_recorder import HASH, MAX, SLOW_NS, Stages
from tests.support.ends import at_an_end


class Hands:
    def __init__(self) -> None:
        self.time = 10**12

    def __call__(self) -> int:
        return self.time


START = """
import contextlib, os, signal, sys
from pathlib import Path
from edged.system.hang_recorder import Stages
path = Path(sys.argv[1])
stages = Stages(lambda: 0)
stages.keep_in(path)
end = lambda: os.kill(os.getpid(), signal.SIGKILL)
"""


def end_of(path: Path, work: str) -> list[str]:
    """Where a process ended that has done this work with `stages`, `path` and `end`, as the next start is told."""
    subprocess.run([sys.executable, "-c", START + work, str(path)], check=False, cwd=Path(__file__).parents[2], timeout=60)
    return Stages(Hands()).keep_in(path)


@pytest.mark.parametrize(
    ("work", "ended_in"),
    [
        ('stages.wrap("a", end)()', ["a"]),
        ('stages.wrap("a", stages.wrap("b", end))()', ["b"]),
        ('stages.wrap("a", lambda: (stages.wrap("b", lambda: 0)(), end()))()', ["a"]),
        ('stages.wrap("a", lambda: 0)(); end()', []),
        ('stages.wrap("a", lambda: (stages.close(), end()))()', []),
        ('with stages.on_worker("m"): stages.wrap("a", end)()', ["a", "m"]),
        ('with stages.on_worker("m"): pass\nstages.wrap("a", end)()', ["a"]),
        ('stages.wrap("a", lambda: (os.truncate(path, 0), end()))()', []),
        ('stages.wrap("a", lambda: (os.truncate(path, 4096), end()))()', []),
        ('with stages.on_worker("m"): os.truncate(path, 4096); end()', ["m"]),
    ],
)
def test_the_next_start_knows_where_it_ended(tmp_path: Path, work: str, ended_in: list[str]) -> None:
    path = tmp_path / "state" / "stage"
    assert end_of(path, work) == ended_in
    assert end_of(path, "end()") == []  # it is told once


def test_who_holds_the_loop_is_named_once() -> None:
    now, told = Hands(), list[tuple[str, int]]()
    stages = Stages(now, lambda name, ns: told.append((name, ns)))

    def take(ns: int) -> None:
        now.time += ns

    stages.wrap("quick", take)(SLOW_NS)
    assert not told
    inner = stages.wrap("inner", take)

    def outer() -> None:
        take(10**6)
        inner(SLOW_NS + 1)
        take(10**6)

    stages.wrap("outer", outer)()
    assert told == [("inner", SLOW_NS + 1)]

    def broken() -> None:
        take(SLOW_NS + 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stages.wrap("broken", broken)()
    assert told[1:] == [("broken", SLOW_NS + 1)]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 100,
        b"\x01" + bytes(255) + b"\x05\0\0\0[1,2",
        b"\x01" + bytes(255) + b"\x90\x1f\0\0" + b"[" * 8080,
        b"x" * 100_000,
    ],
    ids=["garbage", "cut off", "nested", "large"],
)
def test_a_file_that_is_none_of_ours_is_set_aside(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "stage"
    path.write_bytes(data)
    stages = Stages(Hands())
    with capture_logs() as logs:
        assert stages.keep_in(path) == []
    assert [(line["event"], line["path"]) for line in logs] == [("file_moved_aside", str(tmp_path / "stage.aside"))]
    assert (tmp_path / "stage.aside").read_bytes() == data
    with stages.on_worker("model.m"):
        (tmp_path / "copy").write_bytes(path.read_bytes())
    assert Stages(Hands()).keep_in(tmp_path / "copy") == ["model.m"]


def test_a_pipe_by_its_name_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stage")
    with capture_logs() as logs:
        assert Stages(Hands()).keep_in(tmp_path / "stage") == []
    assert logs[0]["reason"] == "expected a plain file, found a pipe"
    assert Stages(Hands()).keep_in(tmp_path / "stage") == []


def test_a_new_file_and_one_that_was_cut_short_name_nothing(tmp_path: Path) -> None:
    for size in (0, 1, 100):
        (tmp_path / "stage").write_bytes(bytes(size))
        assert Stages(Hands()).keep_in(tmp_path / "stage") == []


def test_cut_short_while_it_is_used_costs_the_marks_and_not_the_process(tmp_path: Path) -> None:
    path = tmp_path / "stage"
    stages = Stages(Hands())
    stages.keep_in(path)
    with stages.on_worker("a"):
        assert path.read_bytes()[1] == 1
        os.truncate(path, 0)
    with stages.on_worker("b"):
        assert path.read_bytes() == b""
    stages.close()
    os.truncate(path, 1 << 14)
    with stages.on_worker("a"):
        assert path.read_bytes()[1] == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.mounts
def test_a_disk_without_room_is_an_error_at_the_start(small_disk: Path) -> None:
    (small_disk / "full").write_bytes(bytes(8 * 1024))
    with pytest.raises(OSError, match="No space left"):
        Stages(Hands()).keep_in(small_disk / "stage")


@pytest.mark.mounts
def test_a_disk_that_has_no_room_any_more(small_disk: Path) -> None:
    stages = Stages(Hands())
    stages.keep_in(small_disk / "stage")
    os.truncate(small_disk / "stage", 0)
    os.truncate(small_disk / "stage", 1 << 14)
    (small_disk / "full").write_bytes(bytes(16 * 1024))
    with stages.on_worker("a"):
        assert stages.is_working
    (small_disk / "full").unlink()


def test_more_stages_than_numbers() -> None:
    stages = Stages(Hands())
    for i in range(2 * MAX):
        assert stages.wrap(f"stage-{i}" * 10, lambda: i)() == i


def ended(path: Path, name: str, digest: bytes = b"") -> Stages:
    """What the run makes of the file that comes after one that ended in a stage, while it handled an input alone. It ends in a
    copy of the file: the file itself is left as the first run left it."""
    before = Stages(Hands())
    before.keep_in(path)
    before.handle_alone(digest)
    before.wrap(name, lambda: 0)
    kept = at_an_end(path.read_bytes())
    path.write_bytes(kept)
    path.with_name("copy").write_bytes(kept)
    after = Stages(Hands())
    assert after.keep_in(path.with_name("copy")) == [name]
    return after


def test_ends_in_one_stage_are_counted_in_a_row(tmp_path: Path) -> None:
    path = tmp_path / "stage"
    digest = bytes(range(HASH))
    for name, ends in (("a", 1), ("a", 2), ("b", 1), ("a", 1), ("a", 2), ("a", 3)):
        stages = ended(path, name)
        assert (stages.stage, stages.ends, stages.poison) == (name, ends, ())
    stages = ended(path, "a", digest)
    assert (stages.ends, stages.poison) == (4, (digest,))
    assert ended(path, "b", bytes(reversed(digest))).poison == (digest,)  # in another stage: it is not to blame
    for _ in range(2):  # the first of them ends in no stage
        stages = Stages(Hands())
        stages.keep_in(path)
    assert (stages.ends, stages.poison) == (0, ())


def test_who_got_further_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "stage"
    ended(path, "a")
    stages = Stages(Hands())
    stages.keep_in(path)
    assert stages.ends == 1
    stages.forgive()
    stages.wrap("a", lambda: 0)
    (tmp_path / "copy").write_bytes(at_an_end(path.read_bytes()))
    last = Stages(Hands())
    assert last.keep_in(tmp_path / "copy") == ["a"]
    assert last.ends == 1


def test_without_marks_of_the_kernel_what_is_known_of_inputs_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stage"
    for _ in range(2):
        ended(path, "a", bytes(range(HASH)))
    monkeypatch.setattr(end_mark, "SET_ROBUST_LIST", {})
    stages = Stages(Hands())
    with pytest.raises(OSError, match="no number of set_robust_list is known"):
        stages.keep_in(path)
    assert stages.poison == (bytes(range(HASH)),)


def test_the_newest_culprits_are_known(tmp_path: Path) -> None:
    path = tmp_path / "stage"
    ended(path, "a")
    for i in range(1, 40):
        poison = ended(path, "a", bytes([i]) * HASH).poison
    assert len(poison) == 14
    assert poison[0] == bytes([26]) * HASH
    assert poison[-1] == bytes([39]) * HASH


def test_a_worker_that_never_came_back_is_told_after_a_stop(tmp_path: Path) -> None:
    stages = Stages(Hands())
    stages.keep_in(tmp_path / "stage")
    with stages.on_worker("model.m: a run"):
        assert stages.is_working
        stages.wrap("broker.main", stages.close)()
        (tmp_path / "copy").write_bytes((tmp_path / "stage").read_bytes())
    assert Stages(Hands()).keep_in(tmp_path / "copy") == ["model.m: a run"]


def test_models_that_run_side_by_side_are_all_noted(tmp_path: Path) -> None:
    stages = Stages(Hands())
    stages.keep_in(tmp_path / "stage")
    with stages.on_worker("model.a"):
        with stages.on_worker("model.b"):
            (tmp_path / "both").write_bytes((tmp_path / "stage").read_bytes())
        assert stages.is_working  # the end of one is not the end of all
        (tmp_path / "one").write_bytes((tmp_path / "stage").read_bytes())
    assert not stages.is_working
    assert Stages(Hands()).keep_in(tmp_path / "both") == ["model.a", "model.b"]
    assert Stages(Hands()).keep_in(tmp_path / "one") == ["model.a"]


def test_more_models_than_there_are_places() -> None:
    stages = Stages(Hands())
    with contextlib.ExitStack() as running:
        for i in range(20):
            running.enter_context(stages.on_worker(f"model.m{i}"))
        assert stages.is_working
    assert not stages.is_working
