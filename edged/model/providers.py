"""Which execution providers to try, in which order, with which options, and how to say what became of them.

A provider counts only when it has run the model: being listed, or being constructed, proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

RUNGS = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
TITLES = {"tensorrt": "TensorRT", "cuda": "CUDA", "cpu": "the CPU"}
PACKAGES = {
    "tensorrt": "package tensorrt of JetPack, or an onnxruntime built with TensorRT",
    "cuda": "package onnxruntime-gpu, or on a Jetson an onnxruntime built for its GPU",
    "cpu": "package onnxruntime",
}
AUTO = ("cuda", "cpu")
NOT_BY_ITSELF = "TensorRT was not tried: it builds an engine for minutes; ask for it with providers"

CUDA_OPTIONS = {
    "arena_extend_strategy": "kSameAsRequested",  # by powers of two it would take twice what is needed
    "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE searches for seconds at every new shape
    "do_copy_in_default_stream": "1",
}
TENSORRT_OPTIONS = {"trt_auxiliary_streams": "0", "trt_builder_optimization_level": "3"}


def rungs(asked: str | tuple[str, ...]) -> tuple[str, ...]:
    """The providers to try, best first."""
    return AUTO if asked == "auto" else tuple(asked)


def options(rung: str, rows: Mapping[str, tuple[int, ...]], batch: int) -> list[tuple[str, dict[str, str]]]:
    """ONNX Runtime's list for one rung: what it names may take each node, the CPU last.

    `rows` are the inputs' shapes with their batch axis, when they have one, as -1; `batch` is the largest bucket.
    """
    cpu: tuple[str, dict[str, str]] = (RUNGS["cpu"], {})
    cuda = (RUNGS["cuda"], CUDA_OPTIONS)
    if rung == "cpu":
        return [cpu]
    if rung == "cuda":
        return [cuda, cpu]
    profile = {
        f"trt_profile_{which}_shapes": ",".join(f"{n}:{_dims(shape, size)}" for n, shape in rows.items())
        for which, size in (("min", 1), ("opt", batch), ("max", batch))
    }
    return [(RUNGS["tensorrt"], TENSORRT_OPTIONS | profile), cuda, cpu]


def _dims(shape: tuple[int, ...], batch: int) -> str:
    return "x".join(str(batch if n == -1 else n) for n in shape)


def missing(rung: str, cause: str | None) -> str:
    """Why a rung is not there; `cause` is the dynamic linker's word, when it had one."""
    return f"{cause or 'this onnxruntime has none'} ({PACKAGES[rung]})"


def not_taken(rung: str, reason: str) -> str:
    return f"{TITLES[rung]} did not run: {reason}"


def none_ran(asked: str | tuple[str, ...], reasons: Mapping[str, str]) -> str:
    """The error when no rung ran the model; `reasons` by rung, in the order in which they were tried."""
    tried = rungs(asked)
    if tried == ("cpu",) or asked == "auto":
        return f"the model does not run: {reasons[tried[-1]]}"
    what = "; ".join(f"{TITLES[r]} is required and did not run: {reasons[r]}" for r in tried)
    wider = [r for r in RUNGS if r in tried] + [r for r in RUNGS if r not in tried and r != "tensorrt"][:1]
    cure = ", ".join(f'"{r}"' for r in wider)
    return what if len(wider) == len(tried) else f"{what}; to allow others: [{cure}]"
