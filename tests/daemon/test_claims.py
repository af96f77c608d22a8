from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edged.daemon.claims import Claims
from edged.daemon.control import own_folder, socket_name
from edged.errors import EX_UNAVAILABLE, Fatal


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(folder))
    return folder


def refused(claim: object) -> str:
    with pytest.raises(Fatal) as caught:
        claim()  # type: ignore[operator]
    assert caught.value.code == EX_UNAVAILABLE
    return str(caught.value)


def test_one_daemon_a_configuration(tmp_path: Path, runtime: Path) -> None:
    config = tmp_path / "edged.toml"
    with Claims(config) as first, Claims(config) as second, Claims(tmp_path / "other.toml") as other:
        first.configuration()
        other.configuration()
        said = f"another edged (process {os.getpid()}) runs with {config}: stop it first"
        assert refused(second.configuration) == said
    assert list(runtime.iterdir()) == []
    with Claims(config) as third:
        third.configuration()


def test_another_path_to_the_same_file(tmp_path: Path) -> None:
    config = tmp_path / "edged.toml"
    config.touch()
    (tmp_path / "link.toml").symlink_to(config)
    with Claims(config) as first, Claims(tmp_path / "link.toml") as second:
        first.configuration()
        assert "runs with" in refused(second.configuration)


def test_one_daemon_a_state_directory(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Claims(tmp_path / "a.toml") as first, Claims(tmp_path / "b.toml") as second:
        first.state(state)
        first.state(state)
        said = f"another edged (process {os.getpid()}) keeps its state in {state}: stop it, or give each"
        assert refused(lambda: second.state(state)).startswith(said)
        second.state(tmp_path / "another")
    assert list(state.iterdir()) == []


def test_the_lock_of_another_folder_counts(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that systemd started listens in its own runtime directory, one by hand would in the user's."""
    config = tmp_path / "edged.toml"
    usual = tmp_path / "usual"
    usual.mkdir()
    monkeypatch.setattr("edged.daemon.claims.folders", lambda: [usual, runtime])
    monkeypatch.setattr("edged.daemon.claims.own_folder", lambda: runtime)
    with Claims(config) as first, Claims(config) as second:
        first.configuration()
        monkeypatch.setattr("edged.daemon.claims.own_folder", lambda: usual)
        assert "runs with" in refused(second.configuration)


def test_whatever_ends_the_process_frees_it(tmp_path: Path) -> None:
    config = tmp_path / "edged.toml"
    code = (
        "import sys, time; from pathlib import Path; from edged.daemon.claims import Claims\n"
        "with Claims(Path(sys.argv[1])) as c: c.configuration(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with Claims(config) as second:
            assert f"(process {other.pid})" in refused(second.configuration)
            other.send_signal(signal.SIGKILL)
            other.wait()
            second.configuration()
            lock = own_folder() / re.sub("sock$", "lock", socket_name(config))
            assert lock.read_text() == f"{os.getpid()}\n{config}\n"


def test_where_nothing_can_be_locked_it_starts_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "lock")
    with Claims(tmp_path / "edged.toml") as claims, capture_logs() as logs:
        claims.state(tmp_path / "file" / "state")
        claims.state(tmp_path)
    assert [(line["event"], line["path"]) for line in logs] == [
        ("not_locked", str(tmp_path / "file" / "state" / "lock")),
        ("not_locked", str(tmp_path / "lock")),
    ]
