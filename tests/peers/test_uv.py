"""`uv tool install` of the wheel, and the first hour with what it puts there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import edged
from tests.peers.install import environment
from tests.test_package import Built, built

__all__ = ["built"]

VERSION = "0.5.8"


def test_the_first_hour_of_a_tool_that_uv_installed(built: Built, tmp_path: Path) -> None:
    uv = environment("uv", VERSION, f"uv=={VERSION}").with_name("uv")
    home, place = tmp_path / "home", tmp_path / "place"
    place.mkdir()
    environ = {**os.environ, "HOME": str(home), "UV_PYTHON_DOWNLOADS": "never"}
    for name in ("VIRTUAL_ENV", "XDG_DATA_HOME", "XDG_BIN_HOME", "XDG_RUNTIME_DIR", "STATE_DIRECTORY"):
        environ.pop(name, None)
    done = subprocess.run(
        [str(uv), "tool", "install", str(built.wheel)], env=environ, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    program = home / ".local" / "bin" / "edged"

    def said(*arguments: str) -> str:
        done = subprocess.run([str(program), *arguments], env=environ, cwd=place, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert said("--version") == f"edged {edged.__version__}\n"
    assert "demo" in said("--help")
    assert said("help", "start").startswith("# ")
    assert "baud" in said("help", "baudrate")
    demo = next((home / ".local" / "share" / "uv" / "tools" / "edged").glob("lib/*/site-packages/edged/demo/demo.toml"))
    shutil.copytree(demo.parent, place / "demo")
    assert "demo.toml: ok\n" in said("check", "-c", str(place / "demo" / "demo.toml"))
    assert said("test", "-c", str(place / "demo" / "demo.toml"))
    assert " as the machine was" in said("demo", "--seconds", "3")
