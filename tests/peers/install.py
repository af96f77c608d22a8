"""Installs peers into build/peers, once for each version, and says what it does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

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


def python_of(version: str) -> str:
    """A Python of that version: on the path, or pyenv's. Fails the test without one."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for one in (f"python{version}", *sorted(map(str, kept.glob(f"{version}.*/bin/python")))):
        found = shutil.which(one)
        if found is not None and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            return found
    pytest.fail(
        f"there is no Python {version}, which this peer needs: apt-get install python{version}, or pyenv install {version}"
    )


def environment(name: str, version: str, *requirements: str, by: str = sys.executable) -> Path:
    """The Python of an environment of its own with these packages and all that they need: hundreds of megabytes."""
    folder = PEERS / f"{name}-{version}"
    mark = folder / ".made"
    python = folder / "bin" / "python"
    if mark.exists():
        return python
    print(f"installing {' '.join(requirements)} (pip) into {folder.relative_to(ROOT)}: minutes", flush=True)
    for command in ([by, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "--quiet", *requirements]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        assert done.returncode == 0, f"{name} cannot be installed:\n{done.stdout}{done.stderr}"
    mark.touch()
    return python


def instead_of_onnxruntime(name: str, version: str) -> Path:
    """A Python of its own with that package in the place of onnxruntime, and all else that edged needs."""
    folder = PEERS / f"{name}-{version}-environment"
    python, mark = folder / "bin" / "python", folder / ".made"
    if mark.exists():
        return python
    print(f"installing {name} {version} (pip) into {folder.relative_to(ROOT)}", flush=True)
    project = tomli.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    others = [one for one in project["dependencies"] if not one.startswith("onnxruntime")]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", f"{name}=={version}", *others],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        assert done.returncode == 0, f"{name} cannot be installed:\n{done.stdout}{done.stderr}"
    mark.touch()
    return python
