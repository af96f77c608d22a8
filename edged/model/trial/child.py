"""The process in which a model is tried before the daemon loads it: whatever its file makes onnxruntime do, this is where.

Started by `model/trial/attempt.py` only. It ties its own hands first (memory, processor time, files, priority, and it ends with
the thread that started it), then loads the model exactly as the daemon would, and measures it for this long as it is asked to
(`model/trial/bench.py`). It says a line of JSON on standard output for each stage that begins, and one at the end: what was
found, or why not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import resource
import signal
import sys

import msgspec
from msgspec.structs import replace

from edged.model.records import LoadReport, ModelPlan, ModelRefused
from edged.model.trial.advice import Measured
from edged.system import process
from edged.system.process_memory import PAGE, bound_private

PR_SET_PDEATHSIG = 1  # prctl.h
STACK = 8 << 20  # address space that a thread takes for its stack
NICE = 10
OPEN_FILES = 64
PASSED_ON = ("LD_", "CUDA_", "NVIDIA_", "ORT_", "OMP_", "OPENBLAS_", "MALLOC_", "PYTHON", "LANG", "LC_", "PATH", "COVERAGE_")
"""What the child keeps of the environment: no secrets."""
WORDS_OF_MEMORY = ("bad_alloc", "Failed to allocate", "Available memory of", "Cannot allocate memory", "Unable to allocate")


class Job(msgspec.Struct, frozen=True):
    """What to try, and what it may take: address space beyond that of the libraries, and seconds of processor time.
    `bench_s`: how long to measure it then. `engine`: the folder of TensorRT's. `compares`: its answers with those of the CPU.
    `nice`: how far it stands back."""

    plan: ModelPlan
    memory_bytes: int
    cpu_s: int
    bench_s: float = 0.0
    engine: str = ""
    compares: bool = False
    nice: int = NICE
    folder: str = ""
    """Where relative paths begin."""

    @property
    def is_gpu(self) -> bool:
        """Whether something else than the CPU may run it."""
        return self.plan.providers not in (("cpu",), "cpu")


class Said(msgspec.Struct, omit_defaults=True):
    """One line to the parent: the stage that begins, or the end. `peak_bytes` is the most that the process grew by."""

    stage: str = ""
    report: LoadReport | None = None
    peak_bytes: int = 0
    measured: Measured | None = None
    refused: list[str] = []
    is_memory: bool = False


def main() -> None:
    """Reads a pickled `Job` from standard input: it comes from the daemon itself."""
    _end_with_parent(int(sys.argv[1]))
    bound_private(None)  # the daemon's own bound
    process.set_up()
    say = os.dup(1)
    os.dup2(2, 1)  # what libraries print must not look like an answer

    from edged.model.load import load_session  # seconds on a small board; nothing of it is the model's doing
    from edged.model.onnx import available

    job: Job = pickle.load(sys.stdin.buffer)
    if job.folder:
        os.chdir(job.folder)
    has_gpu = job.is_gpu and available() != ["cpu"]
    _limit(job, has_gpu)
    peak, private = _peak(), _private()
    try:
        bound, report = load_session(job.plan, lambda stage: _say(say, Said(stage)), engine=job.engine)
        if job.compares and report.provider != "cpu":
            _say(say, Said("compare"))
            from edged.model.trial.compare import against_cpu

            report = replace(report, cpu_us=against_cpu(bound, report, job.plan))
        said = Said(report=report, peak_bytes=max(report.resident_bytes, _peak() - peak))
        private = max(0, _private() - private)
        if job.bench_s:
            _say(say, Said("bench"))
            from edged.model.trial.bench import measure

            said.measured = measure(bound, report, job.plan, job.bench_s, private)
    except ModelRefused as error:
        texts = [p.text for p in error.problems]
        said = Said(refused=texts, is_memory=any(word in text for word in WORDS_OF_MEMORY for text in texts))
    except MemoryError:
        said = Said(refused=["out of memory"], is_memory=True)
    _say(say, said)
    os._exit(0)  # a library that cleans up after itself could still hang


def _end_with_parent(parent: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _limit(job: Job, has_gpu: bool) -> None:
    """A GPU's driver reserves address space for all of its memory, and writes compiled kernels: there only what is written to
    counts, and files are allowed."""
    with contextlib.suppress(OSError):
        os.nice(job.nice)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # rather this process than the daemon
    _set(resource.RLIMIT_CORE, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (job.cpu_s, job.cpu_s + 1))  # SIGXCPU first, which says what it was
    memory = job.memory_bytes + (job.plan.threads - 1) * STACK
    if has_gpu:
        _set(resource.RLIMIT_DATA, _statm(5) + memory)
        return
    _set(resource.RLIMIT_AS, _statm(0) + memory)
    _set(resource.RLIMIT_NOFILE, OPEN_FILES)
    _set(resource.RLIMIT_FSIZE, 0)


def _set(what: int, limit: int) -> None:
    """Lowers a limit, for good."""
    _, hard = resource.getrlimit(what)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(what, (limit, limit))


def _statm(field: int) -> int:
    """Bytes of a column of /proc/self/statm: 0 the address space, 1 resident, 2 of that shared, 5 data and stack."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[field]) * PAGE


def _private() -> int:
    """Bytes that are resident and shared with no other process."""
    return _statm(1) - _statm(2)


def _peak() -> int:
    """The most that was resident. (What getrusage says is at least what the parent had.)"""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def _say(fd: int, said: Said) -> None:
    os.write(fd, msgspec.json.encode(said) + b"\n")


if __name__ == "__main__":
    main()
