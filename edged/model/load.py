"""Loads a model: tries the providers, finds out how many rows may go together, checks golden samples, measures, decides.

Nothing is taken from what a library claims: what is reported has run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.errors import Problem
from edged.model.fit import Fit, fit
from edged.model.gpu import providers
from edged.model.gpu.providers import Choice
from edged.model.onnx import ORT_TYPES, Arrays, BoundSession, nodes_of, open_session, place_of, plain, run_unbound
from edged.model.records import LoadReport, ModelPlan, ModelRefused, OutputRow, RunFailed
from edged.model.recurrent import StatePlan, as_tensor
from edged.model.trial.arithmetic import Timing, agree, batching, probe_rows
from edged.system.process_memory import resident_bytes

Tell = Callable[[str], object]

INLINE_NS = 2_000_000
TIMED_RUNS = 25
TIMED_NS = 100_000_000
LARGE = (1, 30, 1000)  # how far the numbers spread in the last attempts to get something else than NaN out of a model
ONLY_NAN = (
    "all that it gives is no number (NaN), for zeros, for random, positive and large values; was it exported with its weights?"
)


def load_session(
    plan: ModelPlan, tell: Tell | None = None, choice: Choice | None = None, engine: str = "", all_golden: bool = True
) -> tuple[BoundSession, LoadReport]:
    """Opens, binds, tries and times the model. Takes milliseconds to minutes: not on the loop.

    `tell`, for a trial, hears what comes next: `open` the file, `run` a single row of it, `measure` all the rest. `choice`: who
    is to run it, where that is known; else the plan's providers are tried here. `engine`: the folder of TensorRT's. `all_golden`
    False: what passed a trial is checked with the first samples only, of which there is room for a batch.

    Raises `ModelRefused` when it does not fit, no allowed provider runs it, or its golden samples come out otherwise.
    """
    started = time.perf_counter()
    resident = resident_bytes()
    fitted, problems = fit(plan)
    if fitted is None:
        raise ModelRefused(problems)
    golden = _read_golden(plan, None if all_golden else fitted.fixed or fitted.batch_max)
    rung, opened, reasons = _climb(plan, fitted, golden, tell, choice, engine)
    bound, more = _settle_batch(opened, plan, fitted)
    more += _check_golden(bound, plan, golden)
    bound, timing, said = _try_batches(bound, opened, plan, fitted)
    bound, timing, where, still_more = _choose_thread(bound, timing, opened, plan, fitted)
    report = LoadReport(
        name=plan.manifest.name,
        version=plan.manifest.version,
        sha256=plan.manifest.sha256,
        provider=rung,
        reasons=(*reasons, *fitted.reasons, *more, *still_more),
        run=where,
        batch_max=bound.batch_max,
        outputs=opened.outputs,
        p50_us=timing.median_ns / 1e3,
        max_us=timing.longest_ns / 1e3,
        weight_bytes=plan.manifest.onnx.initializer_bytes,
        array_bytes=bound.array_bytes,
        resident_bytes=max(0, resident_bytes() - resident),
        load_s=time.perf_counter() - started,
        nodes=nodes_of(opened.session) if rung != "cpu" else {},
        builds=choice is not None and choice.builds,
        is_held=choice is not None and choice.is_held,
        batching=said,
    )
    return bound, report


@dataclass(slots=True)
class _Opened:
    """A session that has run on `rung`, what its outputs look like, and batches that it is known to run, the likeliest first."""

    rung: str
    session: Any
    outputs: tuple[OutputRow, ...]
    is_batched: bool
    samples: list[Arrays]


def _climb(
    plan: ModelPlan, fitted: Fit, golden: Arrays, tell: Tell | None, choice: Choice | None, engine: str
) -> tuple[str, _Opened, tuple[str, ...]]:
    """Tries the providers in order with a real run of the largest batch; the first that runs it is taken."""
    order = choice.rungs if choice is not None else providers.rungs(plan.providers)
    failed: dict[str, str] = {}
    for rung in order:
        try:
            if tell is not None:
                tell("open")
            session = open_session(plan, fitted, rung, engine)
            if tell is not None:
                _run_one(session, plan, fitted, golden, tell)
            opened = _look(rung, session, plan, fitted, golden)
        except RunFailed as e:
            failed[rung] = str(e)
            continue
        before = choice.reasons if choice is not None else ()
        return rung, opened, (*before, *(providers.not_taken(r, text) for r, text in failed.items()))
    if tell is not None and len(order) == 1 and order[0] != "cpu":  # a trial of it alone: whoever asked knows what that means
        raise ModelRefused([Problem(f"model.{plan.manifest.name}.providers", failed[order[0]])])
    if choice is not None and choice.is_held:
        cure = f"build it first: edged model prepare {plan.manifest.name}"
        text = f"TensorRT has no engine yet, and the CPU cannot keep its place until then: {failed[order[0]]}; {cure}"
        raise ModelRefused([Problem(f"model.{plan.manifest.name}.providers", text)])
    if choice is not None:
        failed = dict(choice.failed) | failed
    key = "path" if "cpu" in providers.rungs(plan.providers) else "providers"
    text = providers.none_ran(plan.providers, failed)
    raise ModelRefused([Problem(f"model.{plan.manifest.name}.{key}", text)])


def _run_one(session: Any, plan: ModelPlan, fitted: Fit, golden: Arrays, tell: Tell) -> None:
    """One row before a whole batch: what may take how long is known by it. (A daemon runs the batch first: less memory.)"""
    for samples in _samples(plan, fitted, golden, fitted.fixed or 1):
        tell("run")
        with contextlib.suppress(Exception):  # whether it runs at all is found out below
            run_unbound(session, list(fitted.outputs), _cut(samples, fitted, fitted.fixed or 1) | _constants(plan))
            break
    tell("measure")


def _look(rung: str, session: Any, plan: ModelPlan, fitted: Fit, golden: Arrays) -> _Opened:
    """Runs the session on several rows at once and finds out what its outputs look like, and on what kind of rows it runs.

    Raises `RunFailed` if it runs on none of them.
    """
    names = list(fitted.outputs)
    counts = [fitted.fixed] if fitted.fixed else sorted({1, min(2, fitted.batch_max), fitted.batch_max}, reverse=True)
    states = {s.output: s for s in plan.manifest.states}
    shapes: dict[str, set[tuple[int, tuple[int, ...]]]] = {n: set() for n in names}
    kept: list[Arrays] = []
    failure: Exception | None = None
    is_only_nan = True
    for samples in _samples(plan, fitted, golden, counts[0]):
        try:
            for count in counts:
                found = run_unbound(session, names, _cut(samples, fitted, count) | _constants(plan))
                is_only_nan = is_only_nan and all(map(_is_only_nan, found))
                for name, y in zip(names, found, strict=True):
                    if name in states:
                        _check_ends(states[name], y.shape, count)
                    else:
                        shapes[name].add((count, y.shape))
        except Exception as e:
            failure = failure or e
            continue
        kept.append(samples)
    if not kept:
        raise RunFailed(plain(failure) if failure else "nothing to try it on")
    if is_only_nan and not _gives_numbers(session, plan, fitted, counts[0]):
        raise RunFailed(ONLY_NAN)
    has_axis = any(s[:1] == (-1,) for s in fitted.shapes.values())
    is_batched = has_axis and all(shape[:1] == (count,) for seen in shapes.values() for count, shape in seen)
    declared = {o.name: (o.shape, o.type) for o in session.get_outputs()}
    sizes = _axis_sizes(plan, fitted)
    outputs = tuple(
        OutputRow(n, states[n].dtype, states[n].shape)
        if n in states
        else _output_row(n, *declared[n], {s for _, s in shapes[n]}, is_batched, sizes)
        for n in names
    )
    return _Opened(rung, session, outputs, is_batched, kept)


def _is_only_nan(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.size > 0 and value.dtype.kind == "f" and bool(np.isnan(value).all())


def _gives_numbers(session: Any, plan: ModelPlan, fitted: Fit, count: int) -> bool:
    """Whether it gives a number for rows that are large, or above zero: measured values, where it takes them as they come."""
    types = {i.name: str(i.dtype) for i in plan.manifest.onnx.inputs}
    shapes = {n: s for n, s in fitted.shapes.items() if n not in plan.constants}
    for scale in LARGE:
        rows = {n: np.abs(x) if x.dtype.kind == "f" else x for n, x in probe_rows(shapes, types, count, scale).items()}
        with contextlib.suppress(Exception):
            found = run_unbound(session, list(fitted.outputs), _cut(rows, fitted, count) | _constants(plan))
            if not all(map(_is_only_nan, found)):
                return True
    return False


def _check_ends(state: StatePlan, shape: tuple[int, ...], count: int) -> None:
    """What comes out must go in again, whatever the file leaves open. Raises `RunFailed`."""
    expected = tuple(count if n == -1 else n for n in state.tensor)
    if shape != expected:
        text = (
            f"{state.output} came out as {list(shape)}, {state.input} is {list(expected)}; the two ends of a state must be alike"
        )
        raise RunFailed(text)


def _axis_sizes(plan: ModelPlan, fitted: Fit) -> dict[str, int]:
    """The sizes that the inputs' rows give to named axes."""
    return {
        axis: size
        for info in plan.manifest.onnx.inputs
        if info.name not in fitted.axes
        for axis, size in zip(info.shape or (), fitted.shapes[info.name], strict=False)
        if isinstance(axis, str) and size >= 0
    }


def _output_row(
    name: str, declared: list[Any], kind: str, seen: set[tuple[int, ...]], is_batched: bool, sizes: Mapping[str, int]
) -> OutputRow:
    """`shape` only where the file promises it and the runs agree: what came out twice alike may still differ next time."""
    rows = {s[1:] for s in seen} if is_batched else seen
    promised = tuple(sizes.get(n, n) if isinstance(n, str) else n for n in (declared[1:] if is_batched else declared))
    shape = next(iter(rows))
    return OutputRow(name, ORT_TYPES[kind], shape if rows == {promised} else None)


def _samples(plan: ModelPlan, fitted: Fit, golden: Arrays, count: int) -> list[Arrays]:
    """Rows to try the model on, the likeliest to run first: its golden samples, random numbers, zeros."""
    types = {i.name: str(i.dtype) for i in plan.manifest.onnx.inputs}
    shapes = {n: s for n, s in fitted.shapes.items() if n not in plan.constants}
    tries = [probe_rows(shapes, types, count, scale) for scale in (1, 0)]
    known = _golden_rows(plan, golden, shapes)
    if known is not None:
        tiled = {n: np.resize(x, (count, *x.shape[1:])) if shapes[n][:1] == (-1,) else x[:1] for n, x in known.items()}
        tries.insert(0, tiled)
    return tries


def _cut(samples: Arrays, fitted: Fit, count: int) -> Arrays:
    axes = {n: 0 if s[:1] == (-1,) else None for n, s in fitted.shapes.items()} | fitted.axes
    return {n: as_tensor(x[:count], axes[n]) for n, x in samples.items()}


def _constants(plan: ModelPlan) -> Arrays:
    types = {i.name: i.dtype for i in plan.manifest.onnx.inputs}
    return {n: np.ascontiguousarray(v, types[n]).reshape(v.shape) for n, v in plan.constants.items()}


def _bind(opened: _Opened, plan: ModelPlan, fitted: Fit, batch_max: int) -> BoundSession:
    """Binds, fills every row with one that is known to run (padding must run too), and warms up.

    The largest batch first, so that memory grows once; the other sizes only where each compiles kernels of its own.
    """
    place = place_of(plan, opened.rung)
    bound = BoundSession(opened.session, plan, fitted, opened.outputs, opened.is_batched, batch_max, place)
    for name, x in bound.padded.items():
        x[:] = np.resize(opened.samples[0][name], x.shape)
    sizes = bound.buckets if opened.rung != "cpu" else [bound.buckets[0], bound.buckets[-1]]
    for bucket in reversed(sizes):
        bound.run(min(bucket, batch_max))
    return bound


def _settle_batch(opened: _Opened, plan: ModelPlan, fitted: Fit) -> tuple[BoundSession, tuple[str, ...]]:
    """Rows go together only where that gives what they give alone."""
    has_axis = any(s[:1] == (-1,) for s in fitted.shapes.values())
    if has_axis and not opened.is_batched:
        if fitted.fixed > 1:
            text = f"an output has no row for each of the {fitted.fixed} rows that go in"
            raise ModelRefused([Problem(f"model.{plan.manifest.name}.path", text)])
        why = "the number of rows that come out is not the number that went in"
        return _bind(opened, plan, fitted, 1), ((f"one row a run: {why}",) if fitted.batch_max > 1 else ())
    bound = _bind(opened, plan, fitted, fitted.batch_max)
    if bound.buckets[-1] == 1 or plan.manifest.batch_axis == 0 or _is_independent(bound, opened.samples):
        return bound, ()
    why = "rows together do not give what they give alone (if they should: batch_axis = 0 in model.toml)"
    return _bind(opened, plan, fitted, 1), (f"one row a run: {why}",)


def _is_independent(bound: BoundSession, batches: list[Arrays]) -> bool:
    """Whether up to four rows, each alone in a batch, give what they give together. Rows that are all alike show nothing."""
    count = bound.batch_max
    samples = next((b for b in reversed(batches) if _has_different_rows(b, bound)), None)
    if samples is None:
        return False
    before = {n: x.copy() for n, x in bound.padded.items()}
    for name, x in bound.inputs.items():
        x[:] = samples[name][:count]
    together = {n: y.copy() for n, y in bound.run(count).items()}
    is_alike = True
    for i in sorted({0, 1, count // 2, count - 1} & set(range(count))):
        for name, x in bound.padded.items():
            x[:] = samples[name][i]  # in every row, so that padding differs from what it was
        alone = bound.run(1)
        is_alike = is_alike and all(agree(alone[n][0], together[n][i]) for n in together)
    for name, x in bound.padded.items():
        x[:] = before[name]
    return is_alike


def _has_different_rows(samples: Arrays, bound: BoundSession) -> bool:
    return any(bool(np.any(samples[n] != samples[n][:1])) for n in bound.inputs)


def _read_golden(plan: ModelPlan, most: int | None) -> Arrays:
    """Raises `ModelRefused`."""
    golden = plan.manifest.golden
    if golden is None:
        return {}
    try:
        return golden.read(most)
    except (OSError, ValueError) as e:
        text = f"golden samples in {golden.path.name}: {getattr(e, 'strerror', None) or e}"
        raise ModelRefused([Problem(f"model.{plan.manifest.name}.path", text)]) from None


def _golden_rows(plan: ModelPlan, golden: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> Arrays | None:
    """The golden samples' inputs in the model's types, or None when there are none of these shapes."""
    types = {i.name: i.dtype for i in plan.manifest.onnx.inputs}
    rows = {n: golden[n].astype(types[n]) for n in shapes if n in golden}
    if rows.keys() != shapes.keys() or not rows:
        return None
    expected = {n: s[1:] if s[:1] == (-1,) else s for n, s in shapes.items()}
    return rows if all(x.shape[1:] == expected[n] for n, x in rows.items()) else None


def _check_golden(bound: BoundSession, plan: ModelPlan, found: Arrays) -> tuple[str, ...]:
    """Runs each golden sample alone; raises `ModelRefused` if an answer is further off than its tolerance."""
    golden = plan.manifest.golden
    if golden is None:
        return ()
    rows = _golden_rows(plan, found, {n: (-1, *x.shape[1:]) for n, x in bound.inputs.items()})
    checked = [n for n in bound.names if n in found]
    is_same = all(np.array_equal(v, w) for n, v in bound.constants.items() for w in found[n])
    if rows is None or not checked or not is_same:
        return (f"golden samples were not run: {golden.path.name} has other shapes, outputs or constants than this pipeline",)
    for i in range(min(len(x) for x in rows.values())):
        for name, x in bound.inputs.items():
            x[0] = rows[name][i]
        answer = bound.run(1)
        for name in checked:
            if _has_nan(answer[name][0]):
                text = f"golden sample {i} of {golden.path.name}: {name} is no number: {_short(answer[name][0])}"
                raise ModelRefused([Problem(f"model.{plan.manifest.name}.path", text)])
            if not agree(answer[name][0], found[name][i], golden.rtol, golden.atol):
                is_value, is_wanted = _short(answer[name][0]), _short(found[name][i])
                text = f"golden sample {i} of {golden.path.name}: {name} is {is_value}, expected {is_wanted}"
                raise ModelRefused([Problem(f"model.{plan.manifest.name}.path", text)])
    return ()


def _has_nan(value: NDArray[Any]) -> bool:
    return value.dtype.kind == "f" and bool(np.isnan(value).any())


def _short(value: NDArray[Any]) -> str:
    return np.array2string(np.asarray(value).ravel()[:6], precision=4, separator=", ")


def _timer(opened: _Opened, plan: ModelPlan) -> Callable[[], int]:
    """With one thread the model's own processor time is what counts: at boot others crowd the machine, and while they keep the
    loop from running, it makes no difference where the model would have run."""
    is_alone = plan.threads == 1 and opened.rung == "cpu"
    return time.thread_time_ns if is_alone else time.perf_counter_ns


def _try_batches(bound: BoundSession, opened: _Opened, plan: ModelPlan, fitted: Fit) -> tuple[BoundSession, Timing, str]:
    """Rows go together only where that saves time on this machine, unless a size was asked for; and what was found."""
    timer, rows = _timer(opened, plan), bound.batch_max
    timing = measure(bound, rows, timer)
    if rows == 1 or fitted.fixed:
        return bound, timing, ""
    alone = measure(bound, 1, timer)
    pays, figures = batching(alone, timing, rows)
    if pays or plan.batch_max is not None:
        return bound, timing, f"batches of up to {rows} {'pay' if pays else 'do not pay, but were asked for'}: {figures}"
    return _bind(opened, plan, fitted, 1), alone, f"one row a run: {rows} together would save nothing: {figures}"


def _choose_thread(
    bound: BoundSession, timing: Timing, opened: _Opened, plan: ModelPlan, fitted: Fit
) -> tuple[BoundSession, Timing, str, tuple[str, ...]]:
    """Inline while the longest run keeps the loop deaf for 2 ms at most; a smaller batch is preferred to the worker where a
    row costs about the same in it. `timing` is that of the largest batch."""
    timer = _timer(opened, plan)
    if plan.run != "auto":
        return bound, timing, plan.run, ()
    if opened.rung != "cpu":  # its runs are short while nobody else uses the GPU, which nobody can promise
        return bound, timing, "worker", ()
    if timing.longest_ns <= INLINE_NS:
        return bound, timing, "inline", ()
    asked = bound.batch_max
    smallest = measure(bound, 1, timer)
    for bucket in reversed([b for b in bound.buckets if b < asked and smallest.longest_ns <= INLINE_NS]):
        smaller = measure(bound, bucket, timer)
        if smaller.longest_ns <= INLINE_NS:
            if fitted.fixed or smaller.median_ns / bucket > 1.25 * timing.median_ns / asked:
                break
            bound = _bind(opened, plan, fitted, bucket)
            reason = f"batches of {bucket}: {asked} rows take {timing.longest_ns / 1e6:.1f} ms, which is too long for the loop"
            return bound, smaller, "inline", (reason,)
    rows = f"{asked} rows take" if asked > 1 else "a row takes"
    return bound, timing, "worker", (f"on the worker: {rows} up to {timing.longest_ns / 1e6:.1f} ms",)


def measure(bound: BoundSession, count: int, timer: Callable[[], int]) -> Timing:
    """25 runs back to back, or 100 ms of them; up to twice more where only the longest is too long."""
    best: Timing | None = None
    for _ in range(3):
        times: list[int] = []
        end = time.perf_counter_ns() + TIMED_NS
        while len(times) < TIMED_RUNS and (not times or time.perf_counter_ns() < end):
            at = timer()
            bound.run(count)
            times.append(timer() - at)
        timing = Timing(sorted(times)[len(times) // 2], max(times))
        best = timing if best is None or timing.longest_ns < best.longest_ns else best
        if best.longest_ns <= INLINE_NS or best.median_ns > INLINE_NS:
            break
    assert best is not None
    return best
