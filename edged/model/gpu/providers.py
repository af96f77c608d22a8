"""Which execution providers to try, in which order, with which options, and how to say what became of them.

A provider counts only when it has run the model: being listed, or being constructed, proves nothing. `climb` decides; what it
wants tried it asks for, and somebody else tries it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping

import msgspec

RUNGS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "acl": "ACLExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
"""By their names in a configuration. `auto` knows the first three; the others are for who names them."""
NVIDIA = ("tensorrt", "cuda")
"""Those whose tensors lie in a GPU's own memory."""
THREADS = {"cpu": "cpu", "acl": "cpu", "xnnpack": "cpu", "tensorrt": "gpu", "cuda": "gpu"}
"""Whose threads run a model: those of the CPU where the caller computes; other hardware has one of its own."""
TITLES = {
    "tensorrt": "TensorRT",
    "cuda": "CUDA",
    "cpu": "the CPU",
    "openvino": "OpenVINO",
    "qnn": "QNN",
    "coreml": "Core ML",
    "acl": "Arm's Compute Library",
    "xnnpack": "XNNPACK",
}
PACKAGES = {
    "tensorrt": "package tensorrt of JetPack, or an onnxruntime built with TensorRT",
    "cuda": "package onnxruntime-gpu, or on a Jetson an onnxruntime built for its GPU",
    "cpu": "package onnxruntime",
    "openvino": "package onnxruntime-openvino, in the place of onnxruntime",
    "qnn": "package onnxruntime-qnn, in the place of onnxruntime",
    "coreml": "package onnxruntime of macOS",
    "acl": "an onnxruntime built with ACL",
    "xnnpack": "an onnxruntime built with XNNPACK",
}
LIBRARIES = {
    "libnvinfer": "package tensorrt of JetPack, or of NVIDIA",
    "libnvonnxparser": "package tensorrt of JetPack, or of NVIDIA",
    "libnvdla": "package nvidia-l4t-dla-compiler of JetPack",
    "libcudnn": "cuDNN: package cudnn of JetPack, or pip install 'onnxruntime-gpu[cudnn]'",
    "libcuda.so": "the driver of the GPU: is there one, and is it loaded? nvidia-smi tells",
    "libcu": "CUDA: package cuda of JetPack, or pip install 'onnxruntime-gpu[cuda]'",
    "libnvrtc": "CUDA: package cuda of JetPack, or pip install 'onnxruntime-gpu[cuda]'",
}
"""Who brings the libraries that a provider's own needs, by the beginning of their names."""
AUTO = ("cuda", "cpu")
HAS_NONE = "this onnxruntime has none"
NO_GPU = f"no GPU was tried: this onnxruntime is built for the CPU alone ({PACKAGES['cuda']})"

CUDA_OPTIONS = {
    "arena_extend_strategy": "kSameAsRequested",  # by powers of two it would take twice what is needed
    "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE searches for seconds at every new shape
    "do_copy_in_default_stream": "1",
}
TENSORRT_OPTIONS = {"trt_auxiliary_streams": "0", "trt_builder_optimization_level": "3"}
COARSE = ("trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable")
TOLERANCE, COARSE_TOLERANCE = 1e-2, 5e-2
"""How far an answer may be off the CPU's: so large a part of itself and of the largest number beside it. TF32 has 10 bits; half
precision is asked for, or what a GPU or NPU of others does by itself."""
TINY_NS = 1_000_000
"""What the CPU does in less is not worth a GPU's memory and the way there and back."""

Options = Mapping[str, Mapping[str, bool | int | float | str]]
"""By provider, as they stand in the file."""


class Probe(msgspec.Struct, frozen=True):
    """What came of trying a provider elsewhere: `reason` why it cannot be taken, else nothing. `needs_engine`: it will run once
    TensorRT has built one. `run_ns`: the median time of a run of the largest batch of `rows`, `cpu_ns` of the same on the CPU (0:
    the CPU cannot run it)."""

    reason: str = ""
    needs_engine: bool = False
    run_ns: float = 0.0
    cpu_ns: float = 0.0
    rows: int = 1

    @property
    def row_ns(self) -> float:
        return self.run_ns / self.rows


class Choice(msgspec.Struct, frozen=True):
    """`rungs`: who is to run the model, best first; all but the first only if it fails after all. `reasons` say why those before
    are not taken. `builds`: TensorRT's engine is to be built meanwhile. `is_held`: the first may not give results, it only
    keeps the place for that engine."""

    rungs: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    builds: bool = False
    is_held: bool = False
    failed: tuple[tuple[str, str], ...] = ()


Steps = Generator[str, Probe, Choice]


def rungs(asked: str | tuple[str, ...]) -> tuple[str, ...]:
    """The providers to try in one process, best first."""
    return AUTO if asked == "auto" else tuple(asked)


def climb(asked: str | tuple[str, ...]) -> Steps:
    """Yields each rung that is to be tried and is sent what came of it; returns the choice."""
    if asked == "auto":
        return (yield from _fastest())
    order = tuple(asked)
    failed: dict[str, str] = {}
    builds = False
    for i, rung in enumerate(order):
        found = yield rung
        if found.needs_engine:
            builds = True
        elif found.reason:
            failed[rung] = found.reason
        else:
            return Choice(order[i:], _said(failed), builds, failed=tuple(failed.items()))
    if builds:
        return Choice(("cpu",), _said(failed), builds=True, is_held=True, failed=tuple(failed.items()))
    return Choice((), _said(failed), failed=tuple(failed.items()))


def _fastest() -> Steps:
    """CUDA against the CPU; TensorRT only where CUDA pays: its engine takes minutes to build."""
    cuda = yield "cuda"
    if cuda.reason == missing("cuda", None):
        return Choice(("cpu",), (NO_GPU,))
    if cuda.reason:
        return Choice(("cpu",), (not_taken("cuda", cuda.reason), not_tried("tensorrt", "CUDA did not run")))
    if cuda.cpu_ns and (cuda.cpu_ns <= TINY_NS or cuda.cpu_ns <= cuda.run_ns):
        small = not_tried("tensorrt", "the model is too small for a GPU")
        return Choice(("cpu",), (slower("cuda", cuda.run_ns, "cpu", cuda.cpu_ns, cuda.rows), small))
    tensorrt = yield "tensorrt"
    if tensorrt.needs_engine:
        return Choice(("cuda", "cpu"), (), builds=True)
    if tensorrt.reason:
        return Choice(("cuda", "cpu"), (not_taken("tensorrt", tensorrt.reason),))
    if tensorrt.row_ns >= cuda.row_ns:
        return Choice(("cuda", "cpu"), (slower("tensorrt", tensorrt.row_ns, "cuda", cuda.row_ns, 1),))
    return Choice(("tensorrt", "cuda", "cpu"), (slower("cuda", cuda.row_ns, "tensorrt", tensorrt.row_ns, 1),))


def choose(asked: str | tuple[str, ...], probe: Callable[[str], Probe]) -> Choice:
    """Climbs with a `probe` that can be waited for."""
    steps = climb(asked)
    rung = next(steps)
    while True:
        try:
            rung = steps.send(probe(rung))
        except StopIteration as end:
            choice: Choice = end.value
            return choice


def options(
    rung: str,
    rows: Mapping[str, tuple[int, ...]],
    batch: int,
    given: Options | None = None,
    gpu_bytes: int = 0,
    engine: str = "",
    least: int = 1,
    threads: int = 1,
) -> list[tuple[str, dict[str, str]]]:
    """ONNX Runtime's list for one rung: what it names may take each node, the CPU last.

    `rows` are the inputs' shapes with their batch axis, when they have one, as -1; `least` and `batch` are the smallest and the
    largest bucket: TensorRT would build again, for minutes, for what lies outside. `given` are the options of the file;
    `gpu_bytes` is what the session may take of the GPU's memory (0: all of it), `engine` the folder in which TensorRT finds its
    engine, or leaves it.
    """
    given = given or {}
    cpu: tuple[str, dict[str, str]] = (RUNGS["cpu"], {})
    limit = {"gpu_mem_limit": str(gpu_bytes)} if gpu_bytes else {}
    cuda = (RUNGS["cuda"], CUDA_OPTIONS | limit | _as_texts(given.get("cuda", {}), "1", "0"))
    if rung == "cpu":
        return [cpu]
    if rung == "cuda":
        return [cuda, cpu]
    if rung not in NVIDIA:
        return [(RUNGS[rung], _usual(rung, threads) | _as_texts(given.get(rung, {}), "true", "false")), cpu]
    profile = {
        f"trt_profile_{which}_shapes": ",".join(f"{n}:{_dims(shape, size)}" for n, shape in rows.items())
        for which, size in (("min", least), ("opt", batch), ("max", batch))
    }
    cache = {"trt_engine_cache_enable": "True", "trt_engine_cache_path": engine} if engine else {}
    cache |= {"trt_timing_cache_enable": "True", "trt_timing_cache_path": engine} if engine else {}
    workspace = {"trt_max_workspace_size": str(gpu_bytes // 4)} if gpu_bytes else {}
    own = _as_texts(given.get("tensorrt", {}), "True", "False")
    return [(RUNGS["tensorrt"], TENSORRT_OPTIONS | workspace | own | profile | cache), cuda, cpu]


def _usual(rung: str, threads: int) -> dict[str, str]:
    """Left to themselves these take every core."""
    match rung:
        case "openvino":
            return {"device_type": "CPU", "num_of_threads": str(threads)}
        case "xnnpack":
            return {"intra_op_num_threads": str(threads)}
        case _:
            return {}


def _as_texts(options: Mapping[str, bool | int | float | str], yes: str, no: str) -> dict[str, str]:
    return {name: (yes if x else no) if isinstance(x, bool) else str(x) for name, x in options.items()}


def _dims(shape: tuple[int, ...], batch: int) -> str:
    return "x".join(str(batch if n == -1 else n) for n in shape)


def ignored(asked: Mapping[str, str], taken: Mapping[str, str]) -> list[str]:
    """What a provider has otherwise than it was asked for; of options that it does not tell nothing is known."""
    return [
        f"{name} is {taken[name]!r}, {value!r} was asked for"
        for name, value in asked.items()
        if name in taken and _plain(taken[name]) != _plain(value)
    ]


def _plain(value: str) -> str:
    """`1`, `True` and `true` are one value to ONNX Runtime."""
    return {"true": "1", "false": "0"}.get(value.lower(), value)


def has_graph(rung: str, given: Options | None) -> bool:
    """Whether a CUDA graph was asked for."""
    name = {"cuda": "enable_cuda_graph", "tensorrt": "trt_cuda_graph_enable"}.get(rung, "")
    return bool(given) and _plain(str((given or {}).get(rung, {}).get(name, ""))) == "1"


def tolerance(rung: str, given: Options | None) -> float:
    """How far its answers may be off the CPU's."""
    own = (given or {}).get(rung, {})
    is_coarse = any(_plain(str(own.get(name, ""))) == "1" for name in COARSE)
    is_coarse |= rung in ("qnn", "coreml") or (rung == "openvino" and own.get("device_type", "CPU") != "CPU")
    return COARSE_TOLERANCE if is_coarse else TOLERANCE


def missing(rung: str, cause: str | None) -> str:
    """Why a rung is not there; `cause` is the dynamic linker's word, when it had one."""
    if cause is None:
        return f"{HAS_NONE} ({PACKAGES[rung]})"
    fix = next((text for name, text in LIBRARIES.items() if cause.startswith(name)), PACKAGES[rung])
    return f"{cause.removesuffix(': No such file or directory')} ({fix})"


def not_taken(rung: str, reason: str) -> str:
    return f"{TITLES[rung]} did not run: {reason}"


def not_tried(rung: str, reason: str) -> str:
    return f"{TITLES[rung]} was not tried: {reason}"


def slower(rung: str, run_ns: float, other: str, other_ns: float, rows: int) -> str:
    """Why one that ran is not taken under `auto`."""
    times = f"{_time(other_ns)} against {_time(run_ns)} for {rows} row{'s' if rows > 1 else ''}"
    if other_ns > run_ns:
        return f"{TITLES[rung]} ran, and {TITLES[other]} is fast enough without it: {times}"
    return f"{TITLES[rung]} ran, and {TITLES[other]} is faster: {times}"


def _time(ns: float) -> str:
    return f"{ns / 1e6:.1f} ms" if ns >= 1e6 else f"{ns / 1e3:.0f} us"


def _said(failed: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(not_taken(rung, reason) for rung, reason in failed.items())


def none_ran(asked: str | tuple[str, ...], reasons: Mapping[str, str]) -> str:
    """The error when no rung ran the model; `reasons` by rung, in the order in which they were tried."""
    tried = rungs(asked)
    if tried == ("cpu",) or asked == "auto":
        return f"the model does not run: {reasons[tried[-1]]}"
    what = "; ".join(f"{TITLES[r]} is required and did not run: {reasons[r]}" for r in tried if r in reasons)
    wider = [r for r in RUNGS if r in tried and r != "cpu"]
    wider.append("cuda" if tried == ("tensorrt",) else "cpu")
    fix = ", ".join(f'"{r}"' for r in wider)
    return what if set(wider) == set(tried) else f"{what}; to allow others: [{fix}]"
