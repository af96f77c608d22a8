"""A GPU that is not there: with the folder above on PYTHONPATH, onnxruntime says that it has CUDA and TensorRT, and the CPU does
their work. "TensorRT" takes CUDA_FAKE_BUILD_S for an engine that it does not find, and the driver's libraries answer.

Stands in for hardware only: sessions, values and bindings are the real ones. What CUDA_FAKE_BREAKS names does not run.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = str(Path(__file__).parents[1])
BUILD_S = float(os.environ.get("CUDA_FAKE_BUILD_S", "0"))
BREAKS = os.environ.get("CUDA_FAKE_BREAKS", "").split()
NAMES = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
MIB = 1 << 20

sys.path.remove(HERE)
del sys.modules["onnxruntime"]
import onnxruntime as real  # noqa: E402

sys.path.insert(0, HERE)  # for the processes that this one starts


class Session(real.InferenceSession):  # type: ignore[misc]
    """Runs on the CPU, whatever comes first among its providers."""

    def __init__(self, path: str, options: Any, providers: list[tuple[str, dict[str, str]]], enable_fallback: int = 0) -> None:
        self._given = dict(providers)
        if next(iter(self._given)) in BREAKS:
            raise RuntimeError("CUDA error 209: no kernel image is available for execution on the device")
        super().__init__(path, options, providers=[NAMES[-1]], enable_fallback=enable_fallback)
        if NAMES[0] in self._given:
            _build(Path(self._given[NAMES[0]]["trt_engine_cache_path"], "model.engine"))

    def get_providers(self) -> list[str]:
        return list(self._given)

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return self._given

    def get_provider_graph_assignment_info(self) -> list[Any]:
        first = next(iter(self._given))
        return [
            type("Part", (), {"ep_name": first, "get_nodes": part.get_nodes})
            for part in super().get_provider_graph_assignment_info()
        ]

    def get_input_memory_infos(self) -> list[Any]:
        return [type("Info", (), {"name": "Cuda"}) for _ in self.get_inputs()]


def _build(engine: Path) -> None:
    """As TensorRT does: into the folder itself, in pieces."""
    if engine.exists():
        return
    with engine.open("wb") as file:
        file.write(b"half")
        file.flush()
        time.sleep(BUILD_S)
        file.write(b" and half")


_value = real.OrtValue.ortvalue_from_shape_and_type


def _value_there(shape: Any, kind: Any, device: str = "cpu", number: int = 0, **more: Any) -> Any:
    return _value(shape, kind, "cpu", 0, **more)


class Driver:
    """What `ctypes.CDLL` gives for the libraries of NVIDIA."""

    def cuInit(self, _: int) -> int:
        return 0

    def cuDeviceGet(self, device: Any, _: int) -> int:
        return 0

    def cuDeviceGetName(self, name: Any, _length: int, _device: Any) -> int:
        name.value = b"Fake"
        return 0

    def cuDeviceTotalMem_v2(self, total: Any, _device: Any) -> int:
        total._obj.value = 8192 * MIB
        return 0

    def cuDeviceGetAttribute(self, value: Any, _which: int, _device: Any) -> int:
        value._obj.value = 0
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 13020
        return 0

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, _: int, handle: Any) -> int:
        return 0

    def nvmlDeviceGetMemoryInfo(self, _: Any, memory: Any) -> int:
        memory._obj.total, memory._obj.free, memory._obj.used = 8192 * MIB, 6144 * MIB, 2048 * MIB
        return 0

    def getInferLibVersion(self) -> int:
        return 101300


_load = ctypes.CDLL
_library = Path(real.__file__).parent / "capi" / "libonnxruntime_providers_shared.so"


def _load_fake(name: Any, *rest: Any, **more: Any) -> Any:
    if str(name).startswith(("libcuda.so", "libnvidia-ml.so", "libnvinfer.so.10")):
        return Driver()
    is_provider = "libonnxruntime_providers_" in str(name)
    return _load(str(_library) if is_provider else name, *rest, **more)


ctypes.CDLL = _load_fake  # type: ignore[assignment, misc]
real.InferenceSession = Session
real.OrtValue.ortvalue_from_shape_and_type = staticmethod(_value_there)
real.get_available_providers = lambda: NAMES
real.preload_dlls = lambda: None
