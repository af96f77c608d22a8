"""ONNX Runtime, and nothing else imports it: opens a session, binds it to arrays of its own, translates its errors.

`ORT_DISABLE_TELEMETRY=1` must be in the environment before this module is imported (`process.set_up`).
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edged.model.fit import Fit
from edged.model.gpu import providers
from edged.model.records import ModelPlan, OutputRow, RunFailed
from edged.model.recurrent import StatePlan, as_rows
from edged.model.trial.arithmetic import split_buckets

CONFIG_ENTRIES = {  # a misspelt key is accepted silently, so a test looks each one up in the library
    "session.intra_op.allow_spinning": "0",  # idle threads would spin away up to a whole core
    "session.inter_op.allow_spinning": "0",
}
TELL_NODES = "session.record_ep_graph_assignment_info"
CUDA_RUNTIMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
BLOCKING_SYNC = 4  # cudaDeviceScheduleBlockingSync of driver_types.h
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
        r"Type 'tensor\(double\)' of input parameter \(\w+\) of operator \(ZipMap\)",
        'its ZipMap takes no float64; export it with options={{id(model): {{"zipmap": False}}}}',
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
_Turn = tuple[NDArray[Any], NDArray[Any]]
"""A tensor seen as rows, and the rows themselves, which lie in another order."""
_Call = tuple[Callable[[], object] | None, Arrays, list[_Turn], list[_Turn]]
"""What runs a binding, with views of the outputs (or None with the feeds), and what to copy before and after."""
NO_CALL: _Call = (None, {}, [], [])


class Place(NamedTuple):
    """Where a session's tensors lie when that is not the host's memory, in onnxruntime's words. `has_graph`: its runs are
    recorded and played back, which is why all that they touch must stay where it is."""

    device: str
    id: int = 0
    has_graph: bool = False


class _Moves(NamedTuple):
    """What a run elsewhere copies: rows to their place before it, outputs from there after it. `options`: which recording."""

    loads: list[tuple[Any, NDArray[Any]]]
    fetches: list[tuple[NDArray[Any], Any]]
    options: Any


def place_of(plan: ModelPlan, rung: str) -> Place | None:
    """Where the tensors of a session on `rung` lie; None: in the host's memory."""
    if rung not in providers.NVIDIA:
        return None
    own = plan.provider_options.get(rung, {})
    return Place("cuda", int(own.get("device_id", 0)), providers.has_graph(rung, plan.provider_options))


def session_options(threads: int, tells_nodes: bool = False) -> Any:
    """Every option that edged sets; `threads` of them work on one node, none of them spins. `tells_nodes`: it is noted which
    provider gets which node."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads  # left to itself it pins one thread to each core of the host
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = LOG_FATAL
    for key, value in CONFIG_ENTRIES.items():
        options.add_session_config_entry(key, value)
    if tells_nodes:
        options.add_session_config_entry(TELL_NODES, "1")
    return options


def version() -> str:
    return str(ort.__version__)


def provider_stamp() -> str:
    """What changes when another onnxruntime is installed."""
    files = sorted((Path(ort.__file__).parent / "capi").glob("*.so*"))
    return repr((version(), [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]))


def available() -> list[str]:
    """The rungs that this build knows; whether they work, only a run tells."""
    names = ort.get_available_providers()
    return [rung for rung, name in providers.RUNGS.items() if name in names]


def open_session(plan: ModelPlan, fitted: Fit, rung: str, engine: str = "") -> Any:
    """A session in which `rung` comes first, and really has a part. `engine`: the folder of TensorRT's. Raises `RunFailed`."""
    if rung not in available():
        raise RunFailed(providers.missing(rung, None))
    if rung != "cpu" and (cause := linker_error(rung)):
        raise RunFailed(providers.missing(rung, cause))
    if rung in providers.NVIDIA:
        _wait_asleep()
    turned = {i.name: i.row_axis for i in plan.inputs if i.row_axis}
    shapes = fitted.shapes | {n: (*fitted.shapes[n][1 : k + 1], -1, *fitted.shapes[n][k + 1 :]) for n, k in turned.items()}
    shapes |= {s.input: s.tensor for s in plan.manifest.states}
    given = providers.options(
        rung,
        shapes,
        fitted.fixed or fitted.batch_max,
        plan.provider_options,
        plan.gpu_bytes,
        engine,
        least=fitted.fixed or 1,
        threads=plan.threads,
    )
    settings = session_options(plan.threads, tells_nodes=rung != "cpu")
    try:
        # From the path: a model given as bytes is kept for ever.
        session = ort.InferenceSession(str(plan.manifest.path), settings, providers=given, enable_fallback=0)
    except Exception as e:
        raise RunFailed(plain(e)) from e
    session.disable_fallback()
    if session.get_providers()[0] != providers.RUNGS[rung]:
        raise RunFailed(
            f"onnxruntime skipped it without a reason: is its hardware here, and the driver? ({providers.PACKAGES[rung]})"
        )
    taken = session.get_provider_options()
    for name, asked in given:
        if wrong := providers.ignored(asked, taken.get(name, {})):
            raise RunFailed(f"onnxruntime does not take its options: {'; '.join(wrong)}")
    nodes = nodes_of(session) if rung != "cpu" else {}
    if rung != "cpu" and nodes and not nodes.get(rung):
        raise RunFailed(f"it runs none of the {sum(nodes.values())} nodes of the graph")
    return session


def run_unbound(session: Any, names: list[str], feeds: Arrays) -> list[Any]:
    """Runs it on arrays of any size, and records nothing: what was recorded once would be played for others too."""
    if session.get_providers()[0] not in [providers.RUNGS[rung] for rung in providers.NVIDIA]:
        found: list[Any] = session.run(names, feeds)
        return found
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", "-1")
    found = session.run(names, feeds, options)
    return found


def nodes_of(session: Any) -> dict[str, int]:
    """How many nodes each rung runs; nothing where this onnxruntime does not tell. A whole engine of TensorRT counts as the nodes
    that went into it."""
    rung_of = {name: rung for rung, name in providers.RUNGS.items()}
    found: dict[str, int] = {}
    with contextlib.suppress(Exception):  # an older one has no such call, and a newer one tells only when it was asked to
        for part in session.get_provider_graph_assignment_info():
            rung = rung_of.get(part.ep_name, part.ep_name)
            found[rung] = found.get(rung, 0) + len(part.get_nodes())
    return found


def linker_error(rung: str) -> str | None:
    """What the dynamic linker says of a provider's library: ONNX Runtime only writes that to stderr. Libraries of NVIDIA's Python
    packages are found as well."""
    error = _linker_error(rung)
    preload = getattr(ort, "preload_dlls", None)
    if error is not None and preload is not None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            preload()
        error = _linker_error(rung)
    return error


@cache
def _wait_asleep() -> None:
    """Whoever waits for the GPU sleeps meanwhile: left to itself CUDA spins away a core. It must be said before CUDA begins to
    work, and there is no option of onnxruntime for it. What is not loaded, or does not know it, is left as it is."""
    for name in CUDA_RUNTIMES:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW).cudaSetDeviceFlags(BLOCKING_SYNC)


def _linker_error(rung: str) -> str | None:
    folder = Path(ort.__file__).parent / "capi"
    if rung not in providers.NVIDIA and not (folder / f"libonnxruntime_providers_{rung}.so").exists():
        return None  # it is a part of onnxruntime's own library
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)  # the other one's own symbols
        ctypes.CDLL(str(folder / f"libonnxruntime_providers_{rung}.so"))
    except OSError as e:
        return str(e)
    return None


class _Order:
    """How the session sees rows: `axes` says along which axis each tensor counts them, None: it has none. What is in another
    order than our rows is a copy, whose memory all buckets share."""

    def __init__(self, axes: Mapping[str, int | None]) -> None:
        self.axes = axes
        self._turned: dict[str, NDArray[Any]] = {}

    @property
    def nbytes(self) -> int:
        return sum(copy.nbytes for copy in self._turned.values())

    def tensors(self, arrays: Arrays, bucket: int) -> tuple[Arrays, list[_Turn]]:
        """What the session sees of the first `bucket` rows, and what of it is a copy in another order."""
        tensors, turns = {}, []
        for name, rows in arrays.items():
            axis = self.axes[name]
            if axis is None or axis == 0:
                tensors[name] = rows[:1].reshape(rows.shape[1:]) if axis is None else rows[:bucket]
                continue
            shape = (*rows.shape[1 : axis + 1], bucket, *rows.shape[axis + 1 :])
            if bucket == 1 or math.prod(shape[:axis]) == 1:  # the same numbers in the same order
                tensors[name] = rows[:bucket].reshape(shape)
                continue
            turned = self._turned.setdefault(name, np.zeros(rows.size, rows.dtype))
            tensors[name] = turned[: math.prod(shape)].reshape(shape)
            turns.append((np.moveaxis(tensors[name], axis, 0), rows[:bucket]))
        return tensors, turns


class BoundSession:
    """One ONNX Runtime session, its arrays, and a binding for each number of rows (padded to the next bucket).

    `inputs[name]` is `[batch_max, *row]` for inputs with a batch axis (or `[1, *row]`), contiguous; constants are not among
    them. What the model remembers is rows of them as well, and of the outputs; where the tensors count rows along a later axis,
    the numbers are copied before and after a run. Holds strong references to arrays and values: older bindings do not, and
    would read freed memory.

    Of a model that takes one row and remembers, what came out is where the next run reads it: `inputs` changes with each run.

    Given a `place` on a device, each binding has tensors there: a value of the host that is bound to an input on a device is
    copied when it is bound, and never again, so that every run would give the first answer.
    """

    def __init__(
        self,
        session: Any,
        plan: ModelPlan,
        fitted: Fit,
        outputs: tuple[OutputRow, ...],
        batched: bool,
        batch_max: int,
        place: Place | None = None,
    ) -> None:
        self.session = session
        self.batch_max = batch_max
        self.place = place
        # Each bucket has tensors of its own on a device, so there are fewer.
        self.buckets = (
            split_buckets(batch_max, fitted.fixed) if place is None else split_buckets(batch_max, fitted.fixed, exact=1)
        )
        self.device_bytes = 0
        self.names = [o.name for o in outputs]
        rows = self.buckets[-1]
        types = {i.name: np.dtype(i.dtype) for i in plan.inputs}
        self._kept: list[Any] = []
        self.constants = {n: np.array(v, types[n], order="C") for n, v in plan.constants.items()}
        shapes = {n: s for n, s in fitted.shapes.items() if n not in plan.constants}
        by_row = {n: s[:1] == (-1,) for n, s in shapes.items()}
        self.padded = {n: self._zeros((rows if by_row[n] else 1, *s[by_row[n] :]), types[n]) for n, s in shapes.items()}
        axes = {n: 0 if by_row[n] else None for n in shapes} | {o.name: 0 if batched else None for o in outputs} | fitted.axes
        if not batched:  # the rows of what comes out are nobody's
            ends = {s.output for s in plan.manifest.states}
            axes |= {o.name: None for o in outputs if o.name not in ends}
        self._order = _Order(axes)
        self.inputs = {n: x[:batch_max] for n, x in self.padded.items()}
        self.arrays: Arrays = {}
        self._calls: list[_Call] = []
        self._other_way: tuple[_Call, Arrays] | None = None
        has_texts = any(t.kind == "U" for t in types.values())
        if not has_texts and all(o.shape is not None and o.is_promised and o.dtype != "string" for o in outputs):
            lead = rows if batched else 1
            self.arrays = {o.name: self._zeros((lead, *(o.shape or ())), o.dtype) for o in outputs}
            self._bind()
            if plan.manifest.states and self.buckets == [1] and place is None:
                self._other_way = self._bind_other_way(plan.manifest.states)
        else:
            # These cannot be bound once: a binding keeps the shape of its first run, and text crashes the second.
            self._calls = [NO_CALL, *(self._unbound(self._bucket(k)) for k in range(1, batch_max + 1))]

    @property
    def array_bytes(self) -> int:
        own = (self.padded, self.constants, self.arrays)
        return self._order.nbytes + sum(a.nbytes for arrays in own for a in arrays.values())

    def _bucket(self, count: int) -> int:
        return next(b for b in self.buckets if b >= count)

    def _unbound(self, bucket: int) -> _Call:
        feeds, before = self._order.tensors(self.padded, bucket)
        return None, feeds | self.constants, before, []

    def _bind(self) -> None:
        calls = {}
        for bucket in self.buckets:
            binding = self.session.io_binding()
            feeds, before = self._order.tensors(self.padded, bucket)
            made, after = self._order.tensors(self.arrays, bucket)
            if self.place is None:
                for name, x in (feeds | self.constants).items():
                    binding.bind_ortvalue_input(name, self._value(x))
                for name, y in made.items():
                    binding.bind_ortvalue_output(name, self._value(y))
                call = _runner(self.session, binding)
            else:
                call = partial(_run_there, self.session, binding, self._bind_there(binding, feeds, made, bucket, self.place))
            calls[bucket] = call, before, after
        self._calls = [NO_CALL]
        for k in range(1, self.batch_max + 1):
            call, before, after = calls[self._bucket(k)]
            self._calls.append((call, {n: y[:k] for n, y in self.arrays.items()}, before, after))

    def _bind_other_way(self, states: Sequence[StatePlan]) -> tuple[_Call, Arrays]:
        """A call with the two ends of each state in each other's place, and the inputs for it."""
        views = self._calls[1][1]
        inputs = self.inputs | {s.input: views[s.output] for s in states}
        outputs = views | {s.output: self.inputs[s.input] for s in states}
        binding = self.session.io_binding()
        for name, x in (self._order.tensors(inputs, 1)[0] | self.constants).items():
            binding.bind_ortvalue_input(name, self._value(x))
        for name, y in self._order.tensors(outputs, 1)[0].items():
            binding.bind_ortvalue_output(name, self._value(y))
        return (_runner(self.session, binding), outputs, [], []), inputs

    def _bind_there(self, binding: Any, feeds: Arrays, made: Arrays, bucket: int, place: Place) -> _Moves:
        """One copy in, one out. Without a recording onnxruntime itself puts the outputs into our arrays."""
        loads, fetches = [], []
        on_host = _on_host(self.session, place)
        for name, x in (feeds | self.constants).items():
            value = self._value_there(x, None if name in on_host else place)
            value.update_inplace(x)  # of equal type and size by construction, which is all that it looks at
            binding.bind_ortvalue_input(name, value)
            if name in feeds:
                loads.append((value, x))
        for name, y in made.items():
            if place.has_graph:
                value = self._value_there(y, place)
                fetches.append((y, value))
            else:
                value = self._value(y)
            binding.bind_ortvalue_output(name, value)
        options = None
        if place.has_graph:
            options = ort.RunOptions()
            options.add_run_config_entry("gpu_graph_id", str(bucket))
        return _Moves(loads, fetches, options)

    def _value_there(self, array: NDArray[Any], place: Place | None) -> Any:
        """A tensor like `array`, on the device, or (None) on the host for what a part of the graph reads there."""
        device, number = (place.device, place.id) if place is not None else ("cpu", 0)
        value = ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype, device, number)
        self._kept.append(value)
        self.device_bytes += array.nbytes if place is not None else 0
        return value

    def _zeros(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Memory that a device can copy from without a stop in between, where onnxruntime gives such; else plain memory."""
        value = _pinned(shape, np.dtype(dtype), self.place) if self.place is not None else None
        if value is None:
            return np.zeros(shape, dtype)
        array: NDArray[Any] = value.numpy()
        array[...] = 0
        self._kept.append(value)
        return array

    def _value(self, array: NDArray[Any]) -> Any:
        if not array.flags.c_contiguous:
            raise AssertionError("a strided array would be copied, and later rows not seen")
        value = ort.OrtValue.ortvalue_from_numpy(array)
        self._kept.append(value)
        return value

    def run(self, count: int) -> Arrays:
        """Runs the first `count` rows. The outputs are views of `count` rows, valid until the next run. Raises `RunFailed`."""
        if not 0 < count <= self.batch_max:
            raise RunFailed(f"{count} rows, and it takes 1 to {self.batch_max} at once")
        call, views, before, after = self._calls[count]
        for turned, rows in before:
            turned[...] = rows
        if call is None:
            return self._run_unbound(count, views)
        try:
            call()
        except Exception as e:
            raise RunFailed(plain(e)) from e
        for turned, rows in after:
            rows[...] = turned
        if self._other_way is not None:
            now = self._calls[1], self.inputs
            (self._calls[1], self.inputs), self._other_way = self._other_way, now
        return views

    def _run_unbound(self, count: int, feeds: Arrays) -> Arrays:
        """For outputs that ONNX Runtime allocates itself, again for each run."""
        try:
            found = run_unbound(self.session, self.names, feeds)
        except Exception as e:
            raise RunFailed(plain(e)) from e
        made = {n: as_rows(y, self._order.axes[n]) for n, y in zip(self.names, found, strict=True)}
        for name, y in made.items():
            if len(y) < count:
                raise RunFailed(f"output {name} has {len(y)} rows for {count}")
        return {n: y[:count] for n, y in made.items()}


def _runner(session: Any, binding: Any) -> Callable[[], object]:
    """A run of the binding on the host. Since 1.31 onnxruntime's own class asks before each whether WebGPU records it, which
    takes as long as a small model: what it would call then is called at once, where it is to be found."""
    own, bound = getattr(session, "_sess", None), getattr(binding, "_iobinding", None)
    if own is None or bound is None:
        return partial(session.run_with_iobinding, binding)
    # With None instead of options, onnxruntime's binding would look up and format an error at each run before it takes None.
    return partial(own.run_with_iobinding, bound, ort.RunOptions())


def _run_there(session: Any, binding: Any, moves: _Moves) -> None:
    """The same on a device."""
    for value, x in moves.loads:
        value.update_inplace(x)
    if moves.options is None:
        session.run_with_iobinding(binding)
    else:
        session.run_with_iobinding(binding, moves.options)
    for y, value in moves.fetches:
        y[...] = value.numpy()


def _on_host(session: Any, place: Place) -> frozenset[str]:
    """The inputs that a part of the graph reads on the host although the session has a device: numbers of a shape, say. Where
    onnxruntime does not tell, there are none."""
    if place.device == "cpu" or not hasattr(session, "get_input_memory_infos"):
        return frozenset()
    infos = zip(session.get_inputs(), session.get_input_memory_infos(), strict=True)
    return frozenset(one.name for one, info in infos if info.name.lower().startswith("cpu"))


def _pinned(shape: tuple[int, ...], dtype: np.dtype[Any], place: Place) -> Any:
    """A tensor in pinned memory with a view in numpy, None where there is no such thing."""
    kind = getattr(getattr(ort, "OrtDeviceMemoryType", None), "HOST_ACCESSIBLE", None)
    if kind is None or place.device == "cpu":
        return None
    with contextlib.suppress(Exception):  # only providers that are plug-ins have it, and each version says no in its own way
        for one in ort.get_ep_devices():
            info = one.memory_info(kind) if one.ep_name == providers.RUNGS["cuda"] else None
            if info is not None:
                return ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype.type, memory_info=info)
    return None


def plain(error: Exception) -> str:
    """ONNX Runtime's message for a technician: without its prefix, source paths and further lines, known ones with the fix."""
    said = re.sub(r" for the following indices\n(.*?)\n Please fix.*", _sizes, str(error).strip(), flags=re.DOTALL)
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", said.split("\n")[0])
    text = re.sub(r"\S+\.(cc|h):\d+ .*?\[with .*?\] |\S+\.(cc|h):\d+ \S* ?\S+\(.*?\) ", "", text)
    text = re.sub(r"Load model from .* failed: ?", "", text)
    for pattern, words in KNOWN:
        if found := re.search(pattern, text):
            return words.format(*found.groups(), version=f"onnxruntime {ort.__version__}")
    return text[:400] or type(error).__name__


def _sizes(found: re.Match[str]) -> str:
    """The sizes that do not fit, which stand on lines of their own."""
    return ": " + re.sub(r"\s*index: (\d+) Got: (\d+) Expected: (\d+)\n?", r"axis \1 is \2, expected \3, ", found[1]).rstrip(", ")
