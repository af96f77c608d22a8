"""What holds for every test: the process is set up as the daemon's is, and a test leaves no thread and no process behind, for
the next one to trip over."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edged.system import process
from edged.system.process_memory import resident_bytes
from tests.support.rights import NEEDS

process.set_up()  # pytest reads this file before any that imports numpy or onnxruntime

DEADLINE_S = 5.0
AT_FIRST = 64 << 20
"""Resident memory of a command that has loaded its libraries and no model yet, in bytes."""


def pytest_configure(config: pytest.Config) -> None:
    for marker, (what, _) in NEEDS.items():
        config.addinivalue_line("markers", f"{marker}: needs {what}; left out where that is not given")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = {marker for marker in NEEDS for item in items if item.get_closest_marker(marker) is not None}
    lacking = {marker for marker in asked if not NEEDS[marker][1]()}
    gone = [item for item in items if any(item.get_closest_marker(marker) is not None for marker in lacking)]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what, is_given in NEEDS.values():
        if not is_given():
            terminalreporter.write_line(f"tests that need {what} were left out")


def children() -> dict[int, str]:
    """This process's own, with the command lines by which they are recognised."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread or a process that has just ended
            for pid in (task / "children").read_text().split():
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() or "a zombie"
    return found


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What trials of models found is noted there, for all tests together and for nobody else."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "edged").mkdir()  # so that daemons, which have a state directory each, write there as well
    os.environ["XDG_CACHE_HOME"] = str(cache)
    yield
    del os.environ["XDG_CACHE_HOME"]


@pytest.fixture(autouse=True)
def _plans_as_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan starts from the memory of its process. What thousands of tests have left in this one is no part of it."""
    left = max(0, resident_bytes() - AT_FIRST)
    monkeypatch.setattr("edged.daemon.prepare.resident_bytes", lambda: resident_bytes() - left)


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    threads, processes = set(threading.enumerate()), children()
    yield
    left = {pid: command for pid, command in children().items() if pid not in processes}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not left
    for thread in set(threading.enumerate()) - threads:
        thread.join(DEADLINE_S)  # one that is ending has so long for it
        assert not thread.is_alive(), thread
