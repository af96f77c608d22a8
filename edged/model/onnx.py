"""ONNX Runtime, and nothing else imports it: opens a session, binds it to arrays of its own, translates its errors.

`ORT_DISABLE_TELEMETRY=1` must be in the environment before this module is imported (`process.set_up`).
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edged.model import providers
from edged.model.fit import Fit
from edged.model.records import ModelPlan, OutputRow, RunFailed
from edged.model.trial import split_buckets

CONFIG_ENTRIES = {  # a misspelt key is accepted silently, so a test looks each one up in the library
    "session.intra_op.allow_spinning": "0",  # idle threads would spin away up to a whole core
    "session.inter_op.allow_spinning": "0",
}
LOG_FATAL = 4  # errors reach us as exceptions; logged too, a row that fails again and again would fill the journal

ORT_TYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bool)": "bool",
    "tensor(string)": "string", "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32",
    "tensor(int64)": "int64", "tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
}  # fmt: skip

KNOWN = (
    (
        r"Unsupported model IR version: (\d+), max supported IR version: (\d+)",
        "it was written for a newer ONNX: IR version {0}, and {version} reads up to {1}; export it with ir_version = {1}, or "
        "update onnxruntime",
    ),
    (
        r"Opset (\d+) is under development.*domain (\S+) is till opset (\d+)",
        "its opset {0} of {1} is too new: {version} knows up to {2}; export it with opset {2}, or update onnxruntime",
    ),
    (
        r"([\w.]+:\w+)\(-?\d+\) is not a registered function/op",
        "it uses the operator {0}, which {version} does not have; export it with standard operators only",
    ),
    (
        r"No Op registered for (\w+) with domain_version of (\d+)",
        "it uses the operator {0}, which {version} does not have in opset {1}; export it with another opset",
    ),
)
"""Messages that say nothing to whoever only copied a file, and what to tell instead."""

Arrays = dict[str, NDArray[Any]]


def session_options(threads: int) -> Any:
    """Every option that edged sets; `threads` of them work on one node, none of them spins."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads  # left to itself it pins one thread to each core of the host
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = LOG_FATAL
    for key, value in CONFIG_ENTRIES.items():
        options.add_session_config_entry(key, value)
    return options


def available() -> list[str]:
    """The rungs that this build knows; whether they work, only a run tells."""
    names = ort.get_available_providers()
    return [rung for rung, name in providers.RUNGS.items() if name in names]


def open_session(plan: ModelPlan, fitted: Fit, rung: str) -> Any:
    wanted = providers.RUNGS[rung]
    if rung not in available():
        raise RunFailed(providers.missing(rung, None))
    given = providers.options(rung, fitted.shapes, fitted.fixed or fitted.batch_max)
    try:
        # From the path: a model given as bytes is kept for ever.
        session = ort.InferenceSession(str(plan.manifest.path), session_options(plan.threads), providers=given, enable_fallback=0)
    except Exception as e:
        raise RunFailed(plain(e)) from e
    session.disable_fallback()
    if session.get_providers()[0] != wanted:
        raise RunFailed(providers.missing(rung, _linker_error(rung)))
    return session


def _linker_error(rung: str) -> str | None:
    """What the dynamic linker says of a provider's library: ONNX Runtime only writes that to stderr."""
    library = Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{rung}.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as e:
        return str(e)
    return None


class BoundSession:
    """One ONNX Runtime session, its arrays, and a binding for each number of rows (padded to the next bucket).

    `inputs[name]` is `[batch_max, *row]` for inputs with a batch axis (or `[1, *row]`), contiguous; constants are not among
    them. Holds strong references to arrays and values: older bindings do not, and would read freed memory.
    """

    def __init__(
        self, session: Any, plan: ModelPlan, fitted: Fit, outputs: tuple[OutputRow, ...], batched: bool, batch_max: int
    ) -> None:
        self.session = session
        self.batch_max = batch_max
        self.buckets = split_buckets(batch_max, fitted.fixed)
        self.names = [o.name for o in outputs]
        self.is_batched = batched
        rows = self.buckets[-1]
        types = {i.name: np.dtype(i.dtype) for i in plan.manifest.onnx.inputs}
        self.constants = {n: np.array(v, types[n], order="C") for n, v in plan.constants.items()}
        shapes = {n: s for n, s in fitted.shapes.items() if n not in plan.constants}
        self.axes = {n: s[:1] == (-1,) for n, s in shapes.items()}
        self.padded = {n: np.zeros((rows if self.axes[n] else 1, *s[self.axes[n] :]), types[n]) for n, s in shapes.items()}
        self.inputs = {n: x[:batch_max] for n, x in self.padded.items()}
        self.arrays: Arrays = {}
        self._calls: list[tuple[Any, Arrays]] = []
        self._kept: list[Any] = []
        if all(o.shape is not None and o.dtype != "string" for o in outputs):
            lead = rows if batched else 1
            self.arrays = {o.name: np.zeros((lead, *(o.shape or ())), o.dtype) for o in outputs}
            self._bind()
        else:
            # These cannot be bound once: a binding keeps the shape of its first run, and text crashes the second.
            self._calls = [(None, {}), *((None, self._feeds(self._bucket(k))) for k in range(1, batch_max + 1))]
        self._run_with_iobinding = session.run_with_iobinding

    @property
    def array_bytes(self) -> int:
        return sum(a.nbytes for a in (*self.padded.values(), *self.constants.values(), *self.arrays.values()))

    def _bucket(self, count: int) -> int:
        return next(b for b in self.buckets if b >= count)

    def _feeds(self, bucket: int) -> Arrays:
        return {n: (x[:bucket] if self.axes[n] else x[0]) for n, x in self.padded.items()} | self.constants

    def _bind(self) -> None:
        bindings = {}
        for bucket in self.buckets:
            binding = self.session.io_binding()
            for name, x in self._feeds(bucket).items():
                binding.bind_ortvalue_input(name, self._value(x))
            for name, y in self.arrays.items():
                binding.bind_ortvalue_output(name, self._value(y[:bucket] if self.is_batched else y[0]))
            bindings[bucket] = binding
        self._calls = [(None, {})]
        for k in range(1, self.batch_max + 1):
            self._calls.append((bindings[self._bucket(k)], {n: y[:k] for n, y in self.arrays.items()}))

    def _value(self, array: NDArray[Any]) -> Any:
        if not array.flags.c_contiguous:
            raise AssertionError("a strided array would be copied, and later rows not seen")
        value = ort.OrtValue.ortvalue_from_numpy(array)
        self._kept.append(value)
        return value

    def run(self, count: int) -> Arrays:
        """Runs the first `count` rows. The outputs are views of `count` rows, valid until the next run. Raises `RunFailed`."""
        binding, views = self._calls[count]
        if binding is None:
            return self._run_unbound(count, views)
        try:
            self._run_with_iobinding(binding)
        except Exception as e:
            raise RunFailed(plain(e)) from e
        return views

    def _run_unbound(self, count: int, feeds: Arrays) -> Arrays:
        """For outputs that ONNX Runtime allocates itself, anew for each run."""
        try:
            found = self.session.run(self.names, feeds)
        except Exception as e:
            raise RunFailed(plain(e)) from e
        if not self.is_batched:
            return {n: y[None] for n, y in zip(self.names, found, strict=True)}
        for name, y in zip(self.names, found, strict=True):
            if len(y) < count:
                raise RunFailed(f"output {name} has {len(y)} rows for {count}")
        return {n: y[:count] for n, y in zip(self.names, found, strict=True)}


def plain(error: Exception) -> str:
    """ONNX Runtime's message for a technician: without its prefix, source paths and further lines, known ones with the cure."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", str(error).strip().split("\n")[0])
    text = re.sub(r"\S+\.(cc|h):\d+ .*?\[with .*?\] |\S+\.(cc|h):\d+ \S* ?\S+\(.*?\) ", "", text)
    text = re.sub(r"Load model from .* failed: ?", "", text)
    for pattern, words in KNOWN:
        if found := re.search(pattern, text):
            return words.format(*found.groups(), version=f"onnxruntime {ort.__version__}")
    return text[:400] or type(error).__name__
