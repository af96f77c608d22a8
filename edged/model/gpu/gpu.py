"""The GPU of this machine: its name, its driver, its memory, and the TensorRT that is there.

Asked in a process of its own (`find`), since libraries of a driver that is broken may take the process with them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edged.model.gpu.providers import missing
from edged.model.trial.child import PASSED_ON
from edged.system import process

TIMEOUT_S = 20.0
KIB = 1024
IS_INTEGRATED = 18  # cuda.h: CU_DEVICE_ATTRIBUTE_INTEGRATED
VERSION = Path("/proc/driver/nvidia/version")
RELEASE = Path("/etc/nv_tegra_release")
"""What a Jetson has in place of a driver's version."""


class Gpu(msgspec.Struct, frozen=True):
    """`is_shared`: its memory is the machine's, as on a Jetson; `free_bytes` when it was asked for. `tensorrt` is a version,
    empty where there is none."""

    name: str
    driver: str
    total_bytes: int
    free_bytes: int
    is_shared: bool
    tensorrt: str = ""


class Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class Found(msgspec.Struct, frozen=True):
    """The first GPU that CUDA knows, None where there is none or its driver does not answer; `errors` says by rung why
    onnxruntime cannot load what it has for it."""

    gpu: Gpu | None = None
    errors: Mapping[str, str] = msgspec.field(default_factory=dict)


def find(rungs: Sequence[str]) -> Found:
    """What there is for these rungs. Takes a second."""
    command = [sys.executable, "-m", "edged.model.gpu.gpu", *rungs]
    try:
        environ = {k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)}
        folder = Path(__file__).parents[2]
        answer = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, cwd=folder, env=environ, check=False)
        if answer.returncode < 0:
            return _none(rungs, f"loading its libraries ends the process ({signal.strsignal(-answer.returncode)})")
        return msgspec.json.decode(answer.stdout, type=Found)
    except subprocess.TimeoutExpired:
        return _none(rungs, f"the driver of the GPU did not answer within {TIMEOUT_S:g} s")
    except (OSError, msgspec.MsgspecError):
        return _none(rungs, "the GPU could not be asked for")


def _none(rungs: Sequence[str], reason: str) -> Found:
    return Found(None, dict.fromkeys(rungs, reason))


def now(found: Found) -> Found:
    """The same GPU, with what is free of its memory now."""
    if found.gpu is None:
        return found
    free = _available() if found.gpu.is_shared else free_bytes()
    return replace(found, gpu=replace(found.gpu, free_bytes=free or found.gpu.free_bytes))


def driver_stamp() -> str:
    """What changes with the driver, of all that can be read without it."""
    texts = []
    for path in (VERSION, RELEASE):
        with contextlib.suppress(OSError):
            texts.append(path.read_text())
    return "".join(texts)


def look() -> Gpu | None:
    """The same, in this process."""
    cuda = _library("libcuda.so.1")
    if cuda is None or cuda.cuInit(0) != 0:
        return None
    device, name, total, integrated = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t(), ctypes.c_int()
    if cuda.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(integrated), IS_INTEGRATED, device)
    version = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    is_shared = bool(integrated.value)
    free = _available() if is_shared else free_bytes()
    driver = f"{_driver()}CUDA {version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(name.value.decode(), driver, total.value, free or total.value, is_shared, _tensorrt())


def free_bytes() -> int:
    """What is free now of the first GPU's own memory; 0 where nobody tells."""
    memory = _nvml_memory()
    return memory.free if memory is not None else 0


def used_bytes() -> int:
    """What all processes together have of it; 0 where nobody tells."""
    memory = _nvml_memory()
    return memory.used if memory is not None else 0


def _nvml_memory() -> Memory | None:
    opened = _nvml()
    memory = Memory()
    if opened is None or opened[0].nvmlDeviceGetMemoryInfo(opened[1], ctypes.byref(memory)) != 0:
        return None
    return memory


@cache
def _nvml() -> tuple[Any, ctypes.c_void_p] | None:
    """The library and its handle of the first GPU: opened once, which takes longer than asking."""
    nvml, handle = _library("libnvidia-ml.so.1"), ctypes.c_void_p()
    if nvml is None or nvml.nvmlInit_v2() != 0 or nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)) != 0:
        return None
    return nvml, handle


def _available() -> int:
    """Of memory that the GPU shares: what the kernel would give away."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * KIB for line in file if line.startswith("MemAvailable"))


def _driver() -> str:
    """The version that the kernel says, in words that end in a space, or nothing."""
    with contextlib.suppress(OSError):
        found = re.search(r"\b(\d+\.\d+(\.\d+)?)\b", VERSION.read_text())
        if found:
            return f"{found[1]} "
    with contextlib.suppress(OSError):
        found = re.search(r"R(\d+) .*REVISION: ([\d.]+)", RELEASE.read_text())
        if found:
            return f"L4T {found[1]}.{found[2]} "
    return ""


def _tensorrt() -> str:
    for name in ("libnvinfer.so.10", "libnvinfer.so.8", "libnvinfer.so"):
        library = _library(name)
        if library is not None:
            return str(library.getInferLibVersion())
    return ""


def _library(name: str) -> Any:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def main() -> None:
    """Answers `find`, on standard output, whatever else libraries print there."""
    say = os.dup(1)
    os.dup2(2, 1)
    process.set_up()
    from edged.model.onnx import linker_error

    errors = {rung: missing(rung, error) for rung in sys.argv[1:] if (error := linker_error(rung)) is not None}
    os.write(say, msgspec.json.encode(Found(look(), errors)))
    os._exit(0)  # a library that cleans up after itself could still hang


if __name__ == "__main__":
    main()
