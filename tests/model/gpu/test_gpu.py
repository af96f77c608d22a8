from __future__ import annotations

from pathlib import Path

import pytest

from edged.model.gpu import gpu


def test_without_a_gpu_each_rung_has_its_reason() -> None:
    found = gpu.find(["cuda"])
    if found.gpu is None:
        assert "libonnxruntime_providers_cuda.so: cannot open shared object file" in found.errors["cuda"] or found.errors
    else:
        assert found.gpu.total_bytes >= found.gpu.free_bytes > 0
        assert found.gpu.name
    assert gpu.find([]).errors == {}


FAKES = Path(__file__).parents[2] / "fakes" / "gpu"


def test_what_the_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    found = gpu.find(["cuda", "tensorrt"])
    assert found.errors == {}
    assert found.gpu is not None
    assert found.gpu.driver.endswith("CUDA 13.2")
    expected = gpu.Gpu("Fake", found.gpu.driver, 8192 << 20, 6144 << 20, is_shared=False, tensorrt="101300")
    assert found.gpu == expected


def test_nobody_tells_what_is_used_without_a_driver() -> None:
    used, free = gpu.used_bytes(), gpu.free_bytes()
    assert (used > 0) is (free > 0)
