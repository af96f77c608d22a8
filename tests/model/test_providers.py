from __future__ import annotations

from edged.model import providers


def test_order() -> None:
    assert providers.rungs("auto") == ("cuda", "cpu")
    assert providers.rungs(("tensorrt", "cuda")) == ("tensorrt", "cuda")


def test_options_end_with_the_cpu_and_carry_the_shapes() -> None:
    assert [n for n, _ in providers.options("cpu", {}, 1)] == ["CPUExecutionProvider"]
    names = [n for n, _ in providers.options("tensorrt", {}, 1)]
    assert names == ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    tensorrt = providers.options("tensorrt", {"x": (-1, 3, 8), "k": (2,)}, 16)[0][1]
    assert tensorrt["trt_profile_min_shapes"] == "x:1x3x8,k:2"
    assert tensorrt["trt_profile_max_shapes"] == "x:16x3x8,k:2"


def test_texts() -> None:
    text = providers.none_ran(("tensorrt",), {"tensorrt": providers.missing("tensorrt", "libnvinfer.so.10: cannot open")})
    assert text.startswith("TensorRT is required and did not run: libnvinfer.so.10: cannot open (package tensorrt of JetPack")
    assert text.endswith('; to allow others: ["tensorrt", "cuda"]')
    text = providers.none_ran(("tensorrt", "cuda"), {"tensorrt": "a", "cuda": "b"})
    assert text.endswith('CUDA is required and did not run: b; to allow others: ["tensorrt", "cuda", "cpu"]')
    assert providers.none_ran("auto", {"cuda": "a", "cpu": "b"}) == "the model does not run: b"
    assert providers.none_ran(("cpu",), {"cpu": "b"}) == "the model does not run: b"
