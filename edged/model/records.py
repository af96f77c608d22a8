"""The vocabulary of the model side: what to load, what was loaded, and how pipelines hand over their rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace
from numpy.typing import NDArray

from edged.clock.spent import HasSpent
from edged.errors import Problem
from edged.model.gpu.providers import Options
from edged.model.manifest import Manifest
from edged.model.onnx_file import TensorInfo
from edged.records import Slot

Tensors = Mapping[str, NDArray[Any]]


class ModelRefused(Exception):
    """The model cannot be loaded as asked; `problems` says why, each with the fix where there is one."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{p.path}: {p.text}" for p in problems))
        self.problems = problems


class RunFailed(Exception):
    """The model could not run these rows."""


class Tried(msgspec.Struct, frozen=True):
    """What a trial of the same model on this machine found: how many rows go together, and why."""

    batch_max: int
    settled: tuple[str, ...] = ()
    batching: str = ""


class ModelPlan(msgspec.Struct, frozen=True, eq=False):
    """How one model is to be loaded.

    `rows` gives the shape of one row for every input that pipelines fill, in the model's own layout and without its batch
    axis; `constants` gives the whole value of every other input. `outputs` are those wanted; None means all tensors.
    `batch_max` None: as the file fixes it, else 16. `run`: "auto", "inline" or "worker".
    `providers`: "auto", or names of `providers.RUNGS`, best first; `provider_options` by them. `gpu_bytes`: what a session on a
    GPU may take of its memory, 0 without a limit. `delay_ns`: how long a run may wait for more rows than there are.
    `tried`: what is known of it here; None: it is new. `texts`: numpy's type of the inputs that take strings, which says how long
    they may be.
    """

    manifest: Manifest
    rows: Mapping[str, tuple[int, ...]]
    constants: Tensors = msgspec.field(default_factory=dict)
    outputs: tuple[str, ...] | None = None
    providers: str | tuple[str, ...] = "auto"
    threads: int = 1
    batch_max: int | None = None
    run: str = "auto"
    provider_options: Options = msgspec.field(default_factory=dict)
    gpu_bytes: int = 0
    delay_ns: int = 0
    tried: Tried | None = None
    texts: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs of the file that are filled: all without a value of their own, and those whose value is overridden."""
        onnx = self.manifest.onnx
        found = (*onnx.inputs, *(i for i in onnx.defaults if i.name in self.rows or i.name in self.constants))
        return tuple(replace(i, dtype=self.texts[i.name]) if i.name in self.texts else i for i in found)

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for two plans that would load the same file in the same way."""
        m = self.manifest
        return (
            (m.path, m.sha256, m.version, m.labels, m.batch_axis, m.states, tuple(m.outputs.items())),
            (tuple(self.rows.items()), tuple(self.texts.items())),
            tuple((name, x.dtype.str, x.shape, x.tobytes()) for name, x in self.constants.items()),
            (self.outputs, self.providers, self.threads, self.batch_max, self.run, self.gpu_bytes),
            tuple((name, tuple(options.items())) for name, options in self.provider_options.items()),
        )


class OutputRow(msgspec.Struct, frozen=True):
    """One output as pipelines see it: rows of `shape` (None: differs from run to run), numpy type `dtype` ("string": text).
    `is_promised`: the file says the same; onnxruntime takes no array of another shape for it. `seen`: of one that the file leaves
    open, what came out of every run so far."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    is_promised: bool = True
    seen: tuple[int, ...] | None = None


class LoadReport(msgspec.Struct, frozen=True):
    """What was decided at load, and why.

    `provider` ran the warm-up. `reasons` are sentences: rungs not taken, a batch or a thread that was not to be.
    `p50_us` and `max_us` are of 25 runs back to back of `batch_max` rows (processor time, if one
    thread runs it). `resident_bytes` is what the process grew by. `nodes`: how many nodes of the graph each provider runs, if
    onnxruntime tells. `cpu_us`: the median time of such a run on the CPU, where the answers were compared with its (0: they were
    not). `builds`: an engine is to be built for it meanwhile; `is_held`: until then it gives no results. `batching`: whether rows
    together save time here, and the figures; empty where they cannot be taken together. `settled`: the reasons that decided how
    many are.
    """

    name: str
    version: str
    sha256: str
    provider: str
    reasons: tuple[str, ...]
    run: str
    batch_max: int
    outputs: tuple[OutputRow, ...]
    p50_us: float
    max_us: float
    weight_bytes: int
    array_bytes: int
    resident_bytes: int
    load_s: float
    nodes: Mapping[str, int] = msgspec.field(default_factory=dict)
    cpu_us: float = 0.0
    builds: bool = False
    is_held: bool = False
    batching: str = ""
    settled: tuple[str, ...] = ()

    @property
    def tried(self) -> Tried:
        """For whoever loads it again."""
        return Tried(self.batch_max, self.settled, self.batching)


class Session(Protocol):
    """A model bound to arrays of its own. `inputs[name]` is `[batch_max, *row]`, to be filled before `run`."""

    @property
    def inputs(self) -> dict[str, NDArray[Any]]: ...

    @property
    def batch_max(self) -> int: ...

    def run(self, count: int) -> dict[str, NDArray[Any]]:
        """Runs the first `count` rows; the outputs are views of `count` rows, valid until the next run. Raises `RunFailed`."""


class Feeder(Protocol):
    """A pipeline, as its model sees it: rows that wait, and what becomes of them."""

    priority: int

    @property
    def counts(self) -> HasSpent:
        """`spent["run"]` is its share of each run, by rows."""
        ...

    def waiting(self) -> int: ...

    def take(self, limit: int, now: int) -> list[Slot]:
        """At most `limit` slots, oldest first; expired ones are dropped on the way."""

    def gather(self, slots: list[Slot], inputs: dict[str, NDArray[Any]], start: int) -> None:
        """Copies the rows into `inputs[name][start : start + len(slots)]`; they are free again at once."""

    def finish(self, slots: list[Slot], outputs: dict[str, NDArray[Any]], inputs: dict[str, NDArray[Any]]) -> None:
        """The results, as views of `len(slots)` rows that are valid only during the call."""

    def fail(self, slot: Slot, error: Exception) -> None:
        """This row alone cannot be run."""
