"""What the command `edged bench` does: measures a model on this machine in every way that makes sense here, each in a process of
its own with limits, and says which lines of the configuration follow."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edged.commands.inspect import NAME, plan_alone
from edged.daemon.prepare import prepare
from edged.errors import EX_CONFIG, EX_OK, ConfigError, Problem
from edged.model.gpu.engines import Engines
from edged.model.gpu.ladder import ladder_here
from edged.model.gpu.providers import TITLES, Probe, choose, missing, none_ran
from edged.model.onnx import available, version
from edged.model.records import ModelPlan, ModelRefused
from edged.model.store import Store, scratch
from edged.model.trial.advice import BACK_TO_BACK, Advice, Way, advise, side_by_side, threads_to_try
from edged.model.trial.attempt import attempt_now, limits
from edged.notation.units import MIB
from edged.notation.words import found_among
from edged.system.process import complain, say
from edged.system.process_memory import machine_bytes
from edged.system.processors import cores as cores_here

MIN_S = 0.5  # for one way
CADENCES = (10, 100, 1000, BACK_TO_BACK)


class Benched(msgspec.Struct, frozen=True):
    """A model in all the ways in which it was run: first as asked for, then others; `failed` says why one did not run."""

    name: str
    plan: ModelPlan
    cores: int
    ways: tuple[Way, ...]
    failed: dict[str, str]

    @property
    def advice(self) -> list[Advice]:
        return advise(self.plan, self.ways[0], self.ways[1:], self.cores)


def bench(model: str, config: Path | None, seconds: float, as_json: bool) -> int:
    """Prints what was measured. Raises ConfigError when the model cannot be run as asked for; as JSON that is said there.

    `model`: a file or folder, or with `config` the name of a model in it."""
    try:
        found = _bench(model, config, seconds)
    except ConfigError as error:
        if not as_json:
            raise
        say(json.dumps({"ok": False, "model": model, "errors": error.lines}, indent=2))
        return EX_CONFIG
    say(json.dumps(facts(found), indent=2) if as_json else "\n".join(lines(found, config is not None)))
    return EX_OK


def _bench(model: str, config: Path | None, seconds: float) -> Benched:
    name, plan, engine = _of_configuration(model, config) if config is not None else _of_file(Path(model))
    try:
        return run_ways(name, plan, seconds, engine)
    except ModelRefused as error:
        raise ConfigError([f"{model}: {p.text}" for p in error.problems]) from error


def _of_file(path: Path) -> tuple[str, ModelPlan, str]:
    try:
        manifest = Store(scratch()).take(NAME, path)[1]
    except ModelRefused as error:
        raise ConfigError([p.text if str(path) in p.text else f"{path}: {p.text}" for p in error.problems]) from None
    name = re.sub(r"[^A-Za-z0-9_-]", "_", path.absolute().name if path.is_dir() else path.stem)[:64]
    return name, plan_alone(manifest), ""


def _of_configuration(name: str, config: Path) -> tuple[str, ModelPlan, str]:
    """With the folder of TensorRT's engine, where one was built."""
    prepared = prepare(config)
    models = prepared.plan.models
    if name not in models:
        raise ConfigError([f"{config}: expected a model that a pipeline uses, {found_among(name, tuple(models))}"])
    has_engine = "tensorrt" in available()
    engine = ladder_here(Engines(prepared.machine.state_dir / "engines")).engine(models[name]) if has_engine else ""
    return name, models[name], engine


def run_ways(name: str, plan: ModelPlan, seconds: float, engine: str = "") -> Benched:
    """Raises ModelRefused when it does not run as `plan` says."""
    cores = cores_here()
    end = time.monotonic() + seconds
    plans = plans_to_run(plan, cores, bool(engine))
    ways: dict[tuple[str, int], Way] = {}
    failed: dict[tuple[str, int], ModelRefused] = {}
    for i, one in enumerate(plans):
        key = (one.providers[0], one.threads)
        if any(rung == key[0] for rung, _ in failed):  # with other threads it would fail as well, and take as long to do so
            continue
        share = max(MIN_S, (end - time.monotonic()) / (len(plans) - i))
        if sys.stderr.isatty():
            complain(f"{_title(*key)}: {share:.0f} s")
        try:
            ways[key] = _run(one, share, engine)
        except ModelRefused as error:
            failed[key] = error
    choice = choose(plan.providers, lambda rung: _probe(rung, plan.threads, ways, failed))
    if not choice.rungs:
        raise ModelRefused([Problem(f"model.{name}.providers", none_ran(plan.providers, dict(choice.failed)))])
    taken = choice.rungs[0], plan.threads
    if taken not in ways:
        raise failed[taken]
    others = tuple(way for key, way in ways.items() if key != taken)
    return Benched(name, plan, cores, (ways[taken], *others), {_title(*key): _reason(e) for key, e in failed.items()})


def plans_to_run(plan: ModelPlan, cores: int, has_engine: bool = False) -> list[ModelPlan]:
    """A plan for each provider that is asked for or here, then for other numbers of threads on the CPU. TensorRT, which builds
    for minutes, only where it has its engine."""
    asked = () if plan.providers == "auto" else tuple(plan.providers)
    here = [rung for rung in available() if rung not in asked and (rung != "tensorrt" or has_engine)]
    counts = [n for n in threads_to_try(cores) if n != plan.threads]
    return [
        *(replace(plan, providers=(rung,)) for rung in (*asked, *here)),
        *(replace(plan, providers=("cpu",), threads=n) for n in counts),
    ]


def _probe(rung: str, threads: int, ways: Mapping[tuple[str, int], Way], failed: Mapping[tuple[str, int], ModelRefused]) -> Probe:
    """What the daemon would find out when it tries the provider."""
    way = ways.get((rung, threads))
    if way is None:
        error = failed.get((rung, threads))
        return Probe(missing(rung, None) if error is None else _reason(error))
    cpu, rows = ways.get(("cpu", threads)), way.report.batch_max
    cpu_ns = cpu.report.p50_us * 1e3 * rows / cpu.report.batch_max if cpu is not None else 0.0
    return Probe(run_ns=way.report.p50_us * 1e3, cpu_ns=cpu_ns, rows=rows)


def _reason(error: ModelRefused) -> str:
    return "; ".join(p.text for p in error.problems)


def _run(plan: ModelPlan, seconds: float, engine: str) -> Way:
    needs_engine = plan.providers == ("tensorrt",)
    if needs_engine and not engine:
        text = "there is no engine yet; edged model prepare builds one, and so does the daemon"
        raise ModelRefused([Problem(f"model.{plan.manifest.name}.providers", text)])
    allowed = replace(limits(plan, machine_bytes() // 2), bench_s=seconds)
    trial = attempt_now(plan, allowed, engine if needs_engine else "", compares=plan.providers != ("cpu",))
    assert trial.measured is not None
    return Way(plan.threads, trial.report, trial.peak_bytes, trial.measured)


def facts(found: Benched) -> dict[str, Any]:
    """As JSON for machines."""
    manifest = found.plan.manifest
    return {
        "ok": True,
        "model": found.name,
        "path": str(manifest.origin),
        "sha256": manifest.sha256,
        "cores": found.cores,
        "onnxruntime": version(),
        "ways": [_way_facts(way) for way in found.ways],
        "failed": found.failed,
        "advice": [a._asdict() for a in found.advice],
    }


def _way_facts(way: Way) -> dict[str, Any]:
    report = way.report
    return {
        "provider": report.provider,
        "threads": way.threads,
        "run": report.run,
        "batch_max": report.batch_max,
        "reasons": list(report.reasons),
        "load_s": report.load_s,
        "resident_bytes": report.resident_bytes,
        "peak_bytes": way.peak_bytes,
        **msgspec.to_builtins(way.measured),
    }


def lines(found: Benched, is_configured: bool) -> Iterator[str]:
    """For people: tables with a line for each way, and the lines to paste."""
    ways = {_title(way.report.provider, way.threads): way for way in found.ways}
    cores = f"{found.cores} core{'s' if found.cores > 1 else ''}"
    yield f"{found.plan.manifest.origin}, onnxruntime {version()}, {cores}"
    yield ""
    paces = [f"{hz} per second" if hz else "back to back" for hz in CADENCES]
    yield from _table("one row per run: median / 99 % us, share of a core", paces, [[t, *_paces(w)] for t, w in ways.items()])
    yield ""
    counts = sorted({b.rows for way in found.ways for b in way.measured.batches})
    yield from _table("rows per run: us per row", [*map(str, counts)], [[t, *_batches(w, counts)] for t, w in ways.items()])
    yield ""
    rest = ["inline", "worker", "resident", "private", "while loading"]
    yield from _table("round trip, memory", rest, [[t, *_rest(w)] for t, w in ways.items()])
    if said := side_by_side(found.ways):
        yield ""
        yield said
    for title, reason in found.failed.items():
        yield f"{title} did not run: {reason}"
    yield ""
    if not found.advice:
        now = "the configuration" if is_configured else "the default"
        yield f"nothing to set: {now} is as good here as all others that were tried"
        return
    yield f"[model.{found.name}]"
    width = max(len(a.line) for a in found.advice)
    yield from (f"{a.line:{width}}  # {a.why}" for a in found.advice)


def _title(provider: str, threads: int) -> str:
    return f"{TITLES[provider].removeprefix('the ')}, {threads} thread{'s' if threads > 1 else ''}"


def _paces(way: Way) -> list[str]:
    found = []
    for hz in CADENCES:
        pace = way.pace(hz)
        used = f", {100 * pace.core:.1f} %" if pace is not None and hz else ""
        found.append("too slow" if pace is None else f"{_us(pace.p50_us)} / {_us(pace.p99_us)}{used}")
    return found


def _batches(way: Way, counts: Sequence[int]) -> list[str]:
    known = {b.rows: _us(b.row_us) for b in way.measured.batches}
    return [known.get(count, "-") for count in counts]


def _rest(way: Way) -> list[str]:
    measured, report = way.measured, way.report
    pace = way.pace(measured.worker_hz)
    sizes = (report.resident_bytes, measured.private_bytes, way.peak_bytes)
    inline = f"{_us(pace.p50_us)} us" if pace is not None else "-"
    return [inline, f"{_us(measured.worker_us)} us", *(f"{size / MIB:.1f} MiB" for size in sizes)]


def _us(us: float) -> str:
    return f"{us:.1f}" if us < 100 else f"{us:.0f}"


def _table(title: str, columns: list[str], rows: list[list[str]]) -> Iterator[str]:
    """The first column to the left, numbers to the right. The title has a line of its own: terminals are narrow."""
    yield title
    head = ["", *columns]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        yield "  ".join(f"{text:<{w}}" if i == 0 else f"{text:>{w}}" for i, (text, w) in enumerate(zip(row, widths, strict=True)))
