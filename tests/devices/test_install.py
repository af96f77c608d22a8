"""A bundle for this very machine: built twice, installed without a network, cut off, and installed again."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from cross import bundle, target, wheels
from cross.bundle import ROOT, write
from cross.target import Refused
from tests.cross.test_install import ABOUT, PYTHON
from tests.devices.debian import without
from tests.support.daemon import until

FAILED, BUSY = 70, 75
LIMIT_S = 120.0


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    one = target.read("debian-amd64")
    if os.uname().machine != one.machine or PYTHON not in [system.python for system in one.systems]:
        without(f"there is no target for a {os.uname().machine} with Python {PYTHON}")
    if os.geteuid():
        without("only root takes the network away from a program")
    return bundle.build(one, one.system(PYTHON), tmp_path_factory.mktemp("one"), ROOT / "models" / "demo.toml")


def command(packed: Path, prefix: Path) -> list[str]:
    return ["unshare", "--net", "sh", str(packed.with_suffix("") / "install"), "--prefix", str(prefix)]


def install(packed: Path, prefix: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(packed, prefix), cwd="/", capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_the_same_inputs_give_the_same_bundle(packed: Path, tmp_path: Path) -> None:
    one = target.read("debian-amd64")
    again = bundle.build(one, one.system(PYTHON), tmp_path, ROOT / "models" / "demo.toml")
    assert again.name == packed.name
    assert again.read_bytes() == packed.read_bytes()


def test_it_is_installed_without_network_and_left_alone_when_it_is_there(packed: Path, tmp_path: Path) -> None:
    done = install(packed, tmp_path)
    assert done.returncode == 0, done.stderr
    release = Path(done.stdout.strip())
    assert release.parent == tmp_path / "releases"
    assert {file.name for file in release.iterdir()} == {
        *("about", "complete", "config", "manifest", "requirements.txt", "systemd", "venv"),
    }
    edged = str(release / "venv" / "bin" / "edged")
    said = subprocess.run([edged, "--version"], cwd="/", capture_output=True, text=True, check=True)
    assert said.stdout == f"edged {release.name.partition('-')[0]}\n"
    checked = subprocess.run(
        [edged, "check", "-c", str(release / "config" / "edged.toml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr

    modes = {str(one.relative_to(release)): one.stat().st_mode & 0o777 for one in (release / "config").rglob("*")}
    assert modes["config/edged.toml"] == 0o640
    assert {mode for name, mode in modes.items() if (release / name).is_dir()} == {0o750}
    assert {mode for name, mode in modes.items() if (release / name).is_file()} == {0o640}
    assert (release / "config").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "verify").read_bytes() == (ROOT / "cross" / "verify").read_bytes()

    before = (release / "complete").stat()
    again = install(packed, tmp_path)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert (release / "complete").stat() == before


def cut_off(packed: Path, prefix: Path, reached: str) -> None:
    """Kills the installation as soon as a file is there."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command(packed, prefix), cwd="/", stdout=quiet, stderr=quiet, start_new_session=True)
    until(lambda: [*prefix.glob(f"releases/*/{reached}")] or process.poll() is not None, LIMIT_S, reached)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_cut_off_at_any_point_it_counts_for_nothing_and_the_next_run_completes_it(packed: Path, tmp_path: Path) -> None:
    for reached in ("about", "venv/bin/python", "venv/lib/*/site-packages/numpy", "venv/lib/*/site-packages/edged"):
        cut_off(packed, tmp_path, reached)
        assert not [*tmp_path.glob("releases/*/complete")]
    done = install(packed, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / "complete").exists()


def test_two_at_once_do_not_meet(packed: Path, tmp_path: Path) -> None:
    lock = tmp_path / "releases" / ".lock"
    lock.parent.mkdir()
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert install(packed, tmp_path).returncode == BUSY
    assert [file.name for file in lock.parent.iterdir()] == [".lock"]


def test_what_pip_refuses_is_no_release(packed: Path, tmp_path: Path) -> None:
    [pip] = (packed.with_suffix("") / "wheels").glob("pip-*.whl")
    files: dict[str, Path | bytes] = {
        "about": "".join(f"{key}={value}\n" for key, value in ABOUT.items()).encode(),
        "install": ROOT / "cross" / "install",
        "verify": ROOT / "cross" / "verify",
        "requirements.txt": f"edged==0.1.0 --hash=sha256:{'0' * 64}\n".encode(),
        f"wheels/{pip.name}": pip,
        "systemd/edged.service": b"",
    }
    files |= {f"wheels/{file.name}": file for file in (packed.with_suffix("") / "wheels").glob("edged-*.whl")}
    done = install(write(files, "edged-1.2-toaster-hot", tmp_path), tmp_path / "opt")
    assert (done.returncode, done.stdout) == (FAILED, "")
    assert "hash" in done.stderr.lower()
    assert not [*tmp_path.glob("opt/releases/*/complete")]


def test_wheels_that_are_here_are_not_fetched_again(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`packed` has fetched them; an index that is nowhere shows that none is asked."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    one = target.read("debian-amd64")
    system = one.system(PYTHON)
    lines = wheels.pins(wheels.RUN.read_text(), one, system)
    assert len(wheels.download(lines, wheels.for_device(one, system), bundle.BUILD / "wheels")) == len(lines)


def test_a_wheel_that_was_changed_since_is_not_taken(packed: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(bundle.BUILD / "wheels", cache)
    [pip] = [wheel for wheel in wheels.tool_wheels(cache) if wheel.name.startswith("pip-")]
    with pip.open("ab") as file:
        file.write(b"more")
    with pytest.raises(Refused, match="is not what was downloaded"):
        wheels.tool_wheels(cache)
