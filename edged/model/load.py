"""Loads a model: tries the providers, finds out how many rows may go together, checks golden samples, measures, decides.

Nothing is taken from what a library claims: what is reported has run.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edged.errors import Problem
from edged.model.batch import choose_thread, settle_batch, try_batches
from edged.model.fit import Fit, fit
from edged.model.golden_run import check_golden, read_golden
from edged.model.gpu import providers
from edged.model.gpu.providers import Choice
from edged.model.onnx import Arrays, BoundSession, nodes_of, open_session
from edged.model.opened import Opened, grow, look, run_one
from edged.model.records import LoadReport, ModelPlan, ModelRefused, RunFailed
from edged.system.process_memory import resident_bytes

Tell = Callable[[str], object]


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
    golden = read_golden(plan, None if all_golden else fitted.fixed or fitted.batch_max)
    rung, opened, reasons = _climb(plan, fitted, golden, tell, choice, engine)
    fitted = opened.fitted
    bound, settled = settle_batch(opened, plan, fitted)
    more = check_golden(bound, plan, golden)
    bound, timing, said = try_batches(bound, opened, plan, fitted)
    bound, timing, where, still_more = choose_thread(bound, timing, opened, plan, fitted)
    if plan.tried is not None and not settled:
        settled = plan.tried.settled
    elif where == "inline":
        settled += still_more
        still_more = ()
    report = LoadReport(
        name=plan.manifest.name,
        version=plan.manifest.version,
        sha256=plan.manifest.sha256,
        provider=rung,
        reasons=(*reasons, *fitted.reasons, *settled, *more, *still_more),
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
        settled=settled,
    )
    return bound, report


def _climb(
    plan: ModelPlan, fitted: Fit, golden: Arrays, tell: Tell | None, choice: Choice | None, engine: str
) -> tuple[str, Opened, tuple[str, ...]]:
    """Tries the providers in order with a real run of the largest batch; the first that runs it is taken."""
    order = choice.rungs if choice is not None else providers.rungs(plan.providers)
    failed: dict[str, str] = {}
    for rung in order:
        try:
            if tell is not None:
                tell("open")
            session = open_session(plan, fitted, rung, engine)
            sized, said = fitted, ""
            if tell is not None:
                which = run_one(session, plan, fitted, golden, tell)
                sized, said = grow(rung, session, plan, fitted, golden, which)
            opened = look(rung, session, plan, sized, golden)
            opened.batching = said
        except RunFailed as e:
            failed[rung] = str(e)
            continue
        before = choice.reasons if choice is not None else ()
        return rung, opened, (*before, *(providers.not_taken(r, text) for r, text in failed.items()))
    if tell is not None and len(order) == 1 and order[0] != "cpu":  # a trial of it alone: whoever asked knows what that means
        raise ModelRefused([Problem(f"model.{plan.manifest.name}.providers", failed[order[0]])])
    if choice is not None and choice.is_held:
        fix = f"build it first: edged model prepare {plan.manifest.name}"
        text = f"TensorRT has no engine yet, and the CPU cannot keep its place until then: {failed[order[0]]}; {fix}"
        raise ModelRefused([Problem(f"model.{plan.manifest.name}.providers", text)])
    if choice is not None:
        failed = dict(choice.failed) | failed
    key = "path" if "cpu" in providers.rungs(plan.providers) else "providers"
    text = providers.none_ran(plan.providers, failed)
    raise ModelRefused([Problem(f"model.{plan.manifest.name}.{key}", text)])
