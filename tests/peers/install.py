"""Installs peers into build/peers, once for each version, and says what it does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import ROOT

PEERS = ROOT / "build" / "peers"
LIMIT_S = 600.0


def npm(name: str, version: str) -> Path:
    """A folder with that package in its `node_modules`. Fails the test without node."""
    folder = PEERS / f"{name}-{version}"
    mark = folder / ".made"
    if mark.exists():
        return folder
    program = shutil.which("npm")
    if program is None or shutil.which("node") is None:
        pytest.fail("node and npm are not installed: apt-get install nodejs npm")
    print(f"installing {name} {version} (npm) into {folder.relative_to(ROOT)}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}\n')
    command = [program, "install", "--silent", "--no-audit", "--no-fund", f"{name}@{version}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, f"{name} cannot be installed:\n{done.stdout}{done.stderr}"
    mark.touch()
    return folder


def wheel(name: str, version: str) -> Path:
    """A folder with what is in the wheel of that package, without what it depends on."""
    folder = PEERS / f"{name}-{version}"
    mark = folder / ".made"
    if mark.exists():
        return folder
    print(f"installing {name} {version} (pip) into {folder.relative_to(ROOT)}", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), f"{name}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, f"{name} cannot be installed:\n{done.stdout}{done.stderr}"
    mark.touch()
    return folder
