"""Tries a model in a process of its own (`model/trial/child.py`), and says in words why it will not do.

A hostile or damaged file may crash onnxruntime, run forever or take all memory. It does so there: the daemon only waits, and
the process is ended with all that it started when a stage takes too long or nobody waits any more.
"""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

import edged
from edged.errors import Problem
from edged.model.fit import fit
from edged.model.gpu.providers import NVIDIA, rungs
from edged.model.onnx import available
from edged.model.records import LoadReport, ModelPlan, ModelRefused
from edged.model.trial.advice import Measured
from edged.model.trial.child import NICE, PASSED_ON, WORDS_OF_MEMORY, Job, Said
from edged.notation.units import MIB, in_mib
from edged.system.one_shot import in_one_shot_thread

START_S = 30.0  # Python and the libraries, on a small board that is busy
LOAD_S = 10.0
LOAD_BYTES_A_S = 10 * MIB  # a slow card, and then the optimizer
GPU_S = 60.0  # to start a driver and to load its libraries
ENGINE_S = 7200.0  # TensorRT builds an engine for minutes, at its highest level for more than an hour
GPU_BYTES = 4 << 30  # of the host's memory: drivers and CUDA's libraries
ENGINE_BYTES = 16 << 30  # while an engine is built
ENGINE_THREADS = 8
MIN_NICE = 19
RUN_S = 3.0
FIRST_RUN_S = 10.0
REST_S = 10.0
RUNS_A_ROW = 100  # in a trial: samples, both ends of the batch, rows alone, golden samples, timing
NUMBER_BYTES = 32  # of a batch, in all the arrays that it passes through in a trial
SPARE_BYTES = 64 * MIB
FIX = "use a smaller model, or set memory.budget higher"
MAX_SAID = 1 << 20
MAX_STDERR = 1 << 16


class Limits(msgspec.Struct, frozen=True):
    """What a trial may take: `memory_bytes` of address space beyond that of the libraries; seconds for opening the file and for
    its first run; for all the rest as long as so many first `runs` took, and `rest_s`. `room_bytes`: what it may have taken in
    the end (None: as much as it likes), with the pages that onnxruntime's first session takes. `bench_s`: how long to measure it
    after that. `nice`: how far it stands back."""

    memory_bytes: int
    load_s: float
    run_s: float
    runs: int
    rest_s: float = REST_S
    room_bytes: int | None = None
    bench_s: float = 0.0
    nice: int = NICE

    @property
    def cpu_s(self) -> int:
        """At worst, of one thread."""
        return int(self.load_s + self.run_s * (1 + self.runs) + self.rest_s + 2 * self.bench_s) + 1


class Trial(msgspec.Struct, frozen=True):
    """A model that has run: `peak_bytes` is the most that the process grew by while it was loaded and tried."""

    report: LoadReport
    peak_bytes: int
    measured: Measured | None = None


def limits(plan: ModelPlan, room_bytes: int | None = None, slowest_s: float | None = None) -> Limits:
    """Memory: what the budget leaves (`room_bytes`), at least what loading needs by experience. `slowest_s`: the longest run of
    the model that it is to replace; twenty times that is allowed to one row of the new one. None: there is no such model."""
    weights = plan.manifest.onnx.initializer_bytes
    fitted, _ = fit(plan)
    batch = fitted.batch_max if fitted is not None else 1
    numbers = sum(math.prod(row) for row in plan.rows.values()) * batch
    tried = (set(rungs(plan.providers)) & set(available())) - {"cpu"}
    return Limits(
        memory_bytes=max(room_bytes or 0, 3 * weights + NUMBER_BYTES * numbers + SPARE_BYTES) + (GPU_BYTES if tried else 0),
        load_s=LOAD_S + weights / LOAD_BYTES_A_S + GPU_S * len(tried),
        run_s=FIRST_RUN_S if slowest_s is None else max(RUN_S, 20 * slowest_s),
        runs=RUNS_A_ROW * batch,
        room_bytes=room_bytes,
    )


def limits_of_build(plan: ModelPlan) -> Limits:
    """For a trial that builds an engine first."""
    usual = limits(plan)
    return replace(
        usual,
        memory_bytes=usual.memory_bytes + ENGINE_BYTES,
        load_s=usual.load_s + ENGINE_S,
        run_s=ENGINE_S,  # an engine that the shapes of a run ask for
        nice=MIN_NICE,
    )


async def attempt(plan: ModelPlan, allowed: Limits, engine: str = "", compares: bool = False) -> Trial:
    """Loads and runs the model elsewhere. If cancelled, that process is ended at once. `engine`: the folder of TensorRT's;
    `compares`: its answers with those of the CPU.

    Raises `ModelRefused` with the reason in words.
    """
    child = _Child(plan, allowed, engine, compares)
    try:
        return await in_one_shot_thread("edged-trial", child.run, lambda _: None)
    except asyncio.CancelledError:
        child.kill()
        raise


def attempt_now(plan: ModelPlan, allowed: Limits, engine: str = "", compares: bool = False) -> Trial:
    """The same, for commands: waits for the end."""
    return _Child(plan, allowed, engine, compares).run()


def _folder() -> str:
    """Where this process is; empty where that folder is gone."""
    try:
        return os.getcwd()
    except OSError:
        return ""


class _TooLong(Exception):
    """A stage did not end in its time."""


class _Child:
    """`run` in a thread that stays until the process has ended: the kernel ends it together with that thread."""

    def __init__(self, plan: ModelPlan, allowed: Limits, engine: str = "", compares: bool = False) -> None:
        self._plan = plan
        self._allowed = allowed
        self._engine = engine
        self._compares = compares
        self._lock = threading.Lock()
        self._pid = 0  # while it has not been waited for
        self._is_unwanted = False
        self._stage = "start"
        self._rest_s = 0.0
        self._stderr = b""

    def kill(self) -> None:
        """Ends it, from any thread; one that has not started yet will not run."""
        with self._lock:
            self._is_unwanted = True
            if self._pid:
                os.killpg(self._pid, signal.SIGKILL)

    def run(self) -> Trial:
        try:
            process = self._start()
        except OSError as error:
            raise self._refused(f"it could not be tried: no process can be started: {error.strerror}") from None
        said, is_late = Said(), False
        with process:
            try:
                for said in self._listen(process):
                    if not said.stage:
                        break
                    self._stage = said.stage
            except (_TooLong, msgspec.MsgspecError):
                is_late = True
            finally:
                self.kill()  # one that is ending keeps the status that it ends with
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                with self._lock:
                    code = process.wait()
                    self._pid = 0
        if said.report is not None:
            return self._fitting(Trial(said.report, said.peak_bytes, said.measured))
        raise self._refused(*self._reasons(said, code, is_late))

    def _start(self) -> subprocess.Popen[bytes]:
        allowed = self._allowed
        threads = self._plan.threads if allowed.nice < MIN_NICE else ENGINE_THREADS
        job = Job(
            self._plan,
            allowed.memory_bytes,
            allowed.cpu_s * threads,
            allowed.bench_s,
            self._engine,
            self._compares,
            allowed.nice,
            _folder(),
        )
        fd = os.memfd_create("edged-trial")  # nothing to write while it starts
        try:
            with open(fd, "wb", closefd=False) as file:
                pickle.dump(job, file)
            os.lseek(fd, 0, os.SEEK_SET)
            with self._lock:
                if self._is_unwanted:
                    raise self._refused("nobody waits for it any more")
                process = subprocess.Popen(
                    [sys.executable, "-m", "edged.model.trial.child", str(os.getpid())],
                    stdin=fd,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # a signal from the terminal is for the daemon; all that it starts ends with it
                    cwd=Path(edged.__file__).parents[1],
                    env={k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)},
                )
                self._pid = process.pid
        finally:
            os.close(fd)
        return process

    def _listen(self, process: subprocess.Popen[bytes]) -> Iterator[Said]:
        """Its lines, until it ends. Raises `_TooLong` when a stage takes too long, and what a line that is none raises."""
        assert process.stdout is not None
        assert process.stderr is not None
        since = time.monotonic()
        deadline, buffer, total = since + START_S, b"", 0
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready or time.monotonic() > deadline:
                    raise _TooLong
                for key, _ in ready:
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is process.stderr:
                        self._stderr = (self._stderr + data)[-MAX_STDERR:]
                    else:
                        buffer, total = buffer + data, total + len(data)
                        if total > MAX_SAID:
                            raise _TooLong
                while b"\n" in buffer:
                    line, _, buffer = buffer.partition(b"\n")
                    said = msgspec.json.decode(line, type=Said)
                    yield said
                    now = time.monotonic()
                    since, deadline = now, now + self._seconds(said.stage, now - since)

    def _fitting(self, trial: Trial) -> Trial:
        """On a GPU most of it is the driver's, which the daemon has once."""
        took, room = trial.report.resident_bytes, self._allowed.room_bytes
        if room is not None and took > room and trial.report.provider not in NVIDIA:
            text = f"it took {in_mib(took)} when it was tried, {in_mib(room)} are left for it"
            raise self._refused(f"{text}; {FIX}")
        return trial

    def _seconds(self, stage: str, before: float) -> float:
        """What the stage may take; the one before it took `before`."""
        allowed = self._allowed
        match stage:
            case "open":
                return allowed.load_s
            case "run":
                return allowed.run_s
            case "measure":
                self._rest_s = allowed.rest_s + allowed.runs * before
                return self._rest_s
            case "compare":
                return allowed.load_s + self._rest_s
            case "bench":
                return self._rest_s + 2 * allowed.bench_s
            case _:
                return 0.0

    def _refused(self, *texts: str) -> ModelRefused:
        return ModelRefused([Problem(f"model.{self._plan.manifest.name}.path", text) for text in texts])

    def _reasons(self, said: Said, code: int, is_late: bool) -> list[str]:
        doing = {"start": "before its trial began", "open": "while it was loaded"}.get(self._stage, "while it ran")
        too_large = f"it needs more than the {self._allowed.memory_bytes // MIB} MiB that are free for it, {doing}"
        if said.refused:
            return [f"{too_large}; {FIX}"] if said.is_memory else said.refused
        if code == -signal.SIGABRT and any(word in self._stderr.decode("utf-8", "replace") for word in WORDS_OF_MEMORY):
            return [f"{too_large}; {FIX}"]
        if is_late or code == -signal.SIGXCPU:
            return [self._too_long()]
        if code == -signal.SIGKILL:
            return [f"the system ended its trial {doing}: probably this machine has no memory left for it"]
        if code < 0:
            why = "the file is damaged or hostile" if self._is_on_cpu else "are the GPU, its driver and CUDA made for each other?"
            return [f"onnxruntime crashes on it ({signal.strsignal(-code)}) {doing}: {why}"]
        last = self._stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return [f"its trial ended {doing} without a result: {last[:400] or f'exit status {code}'}"]

    @property
    def _is_on_cpu(self) -> bool:
        return not (set(rungs(self._plan.providers)) & set(available())) - {"cpu"}

    def _too_long(self) -> str:
        allowed = self._allowed
        match self._stage:
            case "start":
                return f"it could not be tried: no process was ready within {START_S:g} s; is this machine overloaded?"
            case "open":
                return f"onnxruntime did not finish loading it within {allowed.load_s:.0f} s"
            case "run":
                return f"its first run did not end within {allowed.run_s:g} s: it loops forever, or is too slow for this machine"
            case _:
                return f"its trial runs did not end within {self._rest_s:.0f} s: it is too slow for this machine"
