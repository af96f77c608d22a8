"""The floors in C: built where a C compiler and libmosquitto with its header are at hand.

ONNX Runtime's library is the one of the Python package, so that both sides run the same kernels; what of its C API they need is
declared in `ort.h`.
"""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
INCLUDES = ("/usr/include", "/usr/local/include")


class Floors(NamedTuple):
    """The programs; None, and `why_not`, where they cannot be had."""

    mqtt: Path | None
    serial: Path | None
    why_not: str = ""


def build_floors(folder: Path) -> Floors:
    """Builds both into `folder`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return Floors(None, None, "no C compiler: apt install gcc")
    if not any((Path(folder) / "mosquitto.h").exists() for folder in INCLUDES):
        return Floors(None, None, "no mosquitto.h: apt install libmosquitto-dev")
    library = _library()
    if library is None:
        return Floors(None, None, "the onnxruntime package has no libonnxruntime.so")
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "libonnxruntime.so.1"
    link.unlink(missing_ok=True)
    link.symlink_to(library)
    for name in ("mqtt", "serial"):
        command = [compiler, "-O2", str(HERE / f"{name}.c"), "-L", str(folder), "-l:libonnxruntime.so.1"]
        done = subprocess.run(
            [*command, f"-Wl,-rpath,{folder}", "-lmosquitto", "-o", str(folder / name)], capture_output=True, text=True
        )
        if done.returncode:
            return Floors(None, None, f"{name}.c does not compile: {done.stderr.strip().splitlines()[-1]}")
    return Floors(folder / "mqtt", folder / "serial")


def _library() -> Path | None:
    """The library in the Python package, without importing it."""
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted((Path(spec.origin).parent / "capi").glob("libonnxruntime.so.1.*"))), None)
