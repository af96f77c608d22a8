from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

from edged.system import process

CODE = """
import os, pathlib, threading
from edged.system import process
print(process.set_up())
import numpy, onnxruntime
print(len(os.listdir("/proc/self/task")), sorted(p.name for p in pathlib.Path(os.environ["HOME"]).rglob("*")))
"""


def test_settings_take_hold_and_leave_one_thread_and_no_files(tmp_path: Path) -> None:
    env = {
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PATH": os.environ["PATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    root = Path(process.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", CODE], env=env, cwd=root, capture_output=True, text=True, timeout=60, check=True)
    took, threads = done.stdout.splitlines()
    assert took == str(platform.libc_ver()[0] == "glibc")
    assert threads == "1 []"


def test_standard_streams_that_are_closed_lead_nowhere(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = f"""
import os
from edged.system import process
process.set_up()
import sys
print("nobody reads this"); print("nor this", file=sys.stderr)
open({str(out)!r}, "w").write(" ".join(os.readlink(f"/proc/self/fd/{{n}}") for n in (0, 1, 2)))
"""
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code],
        cwd=Path(process.__file__).parents[1],
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert out.read_text() == "/dev/null /dev/null /dev/null"


def test_trim_does_no_harm() -> None:
    process.trim()


def test_what_is_put_off_is_imported_when_it_is_used() -> None:
    code = """
import sys
from edged.system import process
process.set_up()
import paho.mqtt.client
import edged.commands.run, edged.daemon.lifecycle
names = ("http.client", "zipfile", "tarfile", "difflib", "bz2", "lzma", "tempfile")
print([name for name in names if hasattr(sys.modules.get(name), "__file__")])
import urllib.request
from urllib.request import Request
print(Request("http://a/b").host, urllib.request.Request is Request, sys.modules["urllib.request"] is urllib.request)
"""
    root = Path(process.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\na True True\n"
