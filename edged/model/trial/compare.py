"""Whether a model gives on a GPU what it gives on the CPU, and what the CPU takes for it: asked once, where it is tried."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from edged.errors import Problem
from edged.model.gpu import providers
from edged.model.load import load_session
from edged.model.onnx import Arrays, BoundSession
from edged.model.records import LoadReport, ModelPlan, ModelRefused, RunFailed
from edged.model.trial.arithmetic import agree, probe_rows

MAX_SHOWN = 6


def against_cpu(bound: BoundSession, report: LoadReport, plan: ModelPlan) -> float:
    """The median time in us of a full batch on the CPU, 0 where it does not run there and nothing can be compared.

    Several batches: a session that does not see new rows would pass with one. Raises `ModelRefused` if an answer is
    further off than the provider's tolerance.
    """
    alone = replace(
        plan, providers=("cpu",), run="worker", batch_max=bound.batch_max, manifest=replace(plan.manifest, golden=None)
    )
    try:
        cpu, its_report = load_session(alone)
    except ModelRefused:
        return 0.0
    count = min(bound.batch_max, cpu.batch_max)
    known = {n: x.copy() for n, x in cpu.inputs.items()}
    shapes = {n: (-1, *x.shape[1:]) if len(x) > 1 else x.shape[1:] for n, x in known.items()}
    other = probe_rows(shapes, {n: str(x.dtype) for n, x in known.items()}, bound.batch_max, 1)
    backwards = {n: x.ravel()[::-1].reshape(x.shape) for n, x in known.items()}
    for rows in (known, backwards, other):
        try:
            expected = _run(cpu, rows, count)
        except RunFailed:  # such rows are nothing for this model
            continue
        found = _run(bound, rows, count)
        _compare(found, expected, report, plan)
    return its_report.p50_us if cpu.batch_max == bound.batch_max else its_report.p50_us * bound.batch_max / cpu.batch_max


def _run(session: BoundSession, rows: Arrays, count: int) -> Arrays:
    for name, x in session.inputs.items():
        x[:] = rows[name][: len(x)]
    return {n: y.copy() for n, y in session.run(count).items()}


def _compare(found: Arrays, expected: Arrays, report: LoadReport, plan: ModelPlan) -> None:
    """Numbers decide, where there are any: the index of the largest of two that are all but equal may be either."""
    rtol = providers.tolerance(report.provider, plan.provider_options)
    names = [n for n, y in expected.items() if y.dtype.kind == "f"] or list(expected)
    for name in names:
        if not agree(found[name], expected[name], rtol):
            is_value, is_wanted = (
                np.array2string(y.ravel()[:MAX_SHOWN], precision=4, separator=", ") for y in (found[name], expected[name])
            )
            text = f"its answers are not the CPU's: {name} is {is_value}, the CPU gives {is_wanted}"
            raise ModelRefused([Problem(f"model.{plan.manifest.name}.providers", text)])
