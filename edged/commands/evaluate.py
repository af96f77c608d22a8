"""`edged evaluate MODEL RECORDING [LABELS]`: what a model would have said, by the same way as in the daemon, beside what was
so and beside another model."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from edged.commands.loop import on_loop
from edged.config.load import Draft, read, report
from edged.config.schema import Pipeline
from edged.daemon.one_source import OneSource, alone, recorded, recordings_at
from edged.daemon.prepare import Prepared, load, prepare_draft
from edged.errors import EX_OK, ConfigError, Fatal
from edged.learn.judge import (
    DAY_S,
    Answer,
    Drift,
    Labels,
    Rate,
    Span,
    accuracy,
    agreement,
    confusion,
    drift,
    onsets,
    rates,
    read_labels,
    seconds,
)
from edged.learn.moments import Moments
from edged.learn.picture import picture
from edged.notation.words import found_among, listed
from edged.records import Block, Result
from edged.system import log
from edged.system.plain_file import UnfitFile, read_plain
from edged.system.process import complain, say

MAX_LABELS = 64 << 20
MAX_ANSWERS = 5_000_000
WORST = 10
AFTER_NS = 10**8
"""A clock that was set meanwhile moves a result by so much, at most."""


class Evaluated(msgspec.Struct, frozen=True):
    """One model: what it answered, and what came in."""

    name: str
    sha256: str
    answers: list[Answer]
    started: int
    """When the first sample came (UTC ns)."""
    samples: int
    rejected: dict[str, int]
    drift: list[Drift] | None
    """None where the manifest does not say what it was trained on."""
    threshold: float | None


def evaluate(
    model: str,
    recording: Path,
    labels: Path | None,
    config: Path,
    pipeline: str | None,
    against: str | None,
    normal: str,
    as_json: bool,
    svg: Path | None,
) -> int:
    """Prints what it found. Raises ConfigError, Fatal."""
    log.configure("error", "auto")
    draft = read(config)
    if wrong := [p for p in draft.problems if not p.is_warning]:
        raise ConfigError(report(draft, wrong))
    name = pipeline_of(draft, model, pipeline)
    recordings = recordings_at(recording)
    found = [_run(draft, name, one, recordings) for one in (model, against) if one is not None]
    if not found[0].answers:
        raise Fatal(f"{recording}: it gave no result: {found[0].samples} samples, rejected: {_rejected(found[0]) or 'none'}")
    truth = _labels(labels, recordings[0], found[0].started) if labels is not None else _own_labels(recordings)
    is_classes = "label" in found[0].answers[0].body
    is_scores = "anomaly" in found[0].answers[0].body
    if truth is not None and not (is_classes or is_scores):
        raise Fatal(f"pipeline.{name}: labels name classes or what is abnormal; its results have neither")
    if truth is not None and is_scores and normal not in truth.names:
        raise Fatal(
            f"{labels or recording}: no label is {normal!r}; say which one is normal: --normal {(truth.names or ['...'])[0]}"
        )
    facts = _facts(name, recording, found, truth, normal)
    if svg is not None:
        _write(
            svg,
            picture(f"{name}: {recording.name}", {e.name: e.answers for e in found}, truth, {e.name: e.threshold for e in found}),
        )
    say(json.dumps(facts, indent=2) if as_json else "\n".join(lines(facts)))
    return EX_OK


def pipeline_of(draft: Draft, model: str, wanted: str | None) -> str:
    """The pipeline that says how the model is run: the one asked for, else the only one that uses it, else the only one that uses
    any. Raises Fatal."""
    pipelines = {n: p for n, p in draft.config.pipeline.items() if p.model is not None}
    if wanted is not None:
        if wanted not in pipelines:
            raise Fatal(f"{draft.path}: expected a pipeline with a model, {found_among(wanted, tuple(pipelines))}")
        return wanted
    mine = [n for n, p in pipelines.items() if p.model == model] or [n for n, p in pipelines.items() if _is_of(draft, p, model)]
    if model not in draft.config.model and not Path(model).exists():
        raise Fatal(f"expected a model of {draft.path} or the path of one, {found_among(model, tuple(draft.config.model))}")
    if len(mine or pipelines) != 1:
        said = (
            f"{draft.path}: no pipeline has a model" if not pipelines else f"several pipelines match: {listed(mine or pipelines)}"
        )
        raise Fatal(
            f"{said}; a pipeline says which source, window and output the model has" + ("; say --pipeline" if pipelines else "")
        )
    return (mine or [*pipelines])[0]


def _is_of(draft: Draft, pipeline: Pipeline, model: str) -> bool:
    """Whether `model` leads, by whatever way and from whatever folder, to the file or folder of the pipeline's model."""
    path = draft.config.model[pipeline.model or ""].path
    return path is not None and Path(model).resolve() in (path.resolve(), (path / "model.onnx").resolve())


def _run(draft: Draft, name: str, model: str, recordings: Sequence[Path]) -> Evaluated:
    settings = draft.config.pipeline[name]
    if len(settings.source) != 1 or settings.source[0] not in draft.config.source:
        raise Fatal(f"pipeline.{name}: reads {listed(settings.source)}; a recording is of one source")
    (source,) = settings.source
    own = settings.model or ""
    config = draft.config
    used = config.model.get(model) or msgspec.structs.replace(config.model[own], path=Path(model).absolute())
    config = msgspec.structs.replace(config, model={**config.model, own: used})
    if settings.gate is not None:
        complain(f"pipeline.{name}: edged leaves its gate open, since its stream is not recorded")
    whole = msgspec.structs.replace(settings, publish=(), gate=None, deadline=None, overflow="block")
    answers: list[Answer] = []
    rejected: Counter[str] = Counter()
    for recording in recordings:
        prepared = prepare_draft(alone(replace(draft, config=config), source, {name: whole}, recording), False)
        planned, loaded = load(prepared)
        if recording is recordings[0]:
            inputs = Inputs(planned.sources[source].width)
        rejected.update(on_loop(_play(replace(prepared, plan=planned), loaded, source, recording, answers, inputs)))
    plan = planned.pipelines[name]
    manifest = planned.models[plan.model or ""].manifest
    return Evaluated(
        model,
        manifest.sha256,
        answers,
        inputs.started or 0,
        inputs.moments.count,
        dict(rejected),
        _drift(manifest, plan, inputs.moments),
        next((x for key in ("above", "below") if (x := getattr(plan.output, key, None)) is not None), None),
    )


async def _play(
    prepared: Prepared, loaded: Any, source: str, recording: Path, answers: list[Answer], inputs: Inputs
) -> dict[str, int]:
    """Adds what is answered to a recording, and what came in; returns what was rejected."""

    def tell(result: Result, now: int) -> None:
        if len(answers) < MAX_ANSWERS:
            answers.append(Answer(result.time, one.key(result.key), result.body))

    one = OneSource(prepared, loaded, source, recording, [inputs.push], tell)
    await one.run()
    return one.assembly.sources[source].counts.drops.by_reason


class Inputs:
    """The moments of all that came in."""

    def __init__(self, width: int) -> None:
        self.moments = Moments.none(width)
        self.started: int | None = None

    def push(self, block: Block) -> None:
        if self.started is None:
            self.started = int(block.time[0]) + block.offset
        rows = block.values.reshape(len(block), -1)
        self.moments += Moments.of(rows[np.isfinite(rows).all(axis=1)])


def _drift(manifest: Any, plan: Any, found: Moments) -> list[Drift] | None:
    for name, hints in manifest.inputs.items():
        if hints.seen is None:
            continue
        chosen = [f for f in plan.fields if hints.fields is None or f.name in hints.fields]
        chosen = sorted(chosen, key=lambda f: hints.fields.index(f.name)) if hints.fields is not None else chosen
        columns = [c for f in chosen for c in range(f.start, f.stop)]
        mean, std = hints.seen
        if len(columns) != len(mean):
            complain(f"model.toml: [inputs.{name}.seen] has {len(mean)} numbers, its fields {len(columns)}: drift is not known")
            return None
        names = [f.name if f.stop - f.start == 1 else f"{f.name}[{c - f.start}]" for f in chosen for c in range(f.start, f.stop)]
        part = Moments(found.count, found.mean[columns], found.scatter[np.ix_(columns, columns)])
        return drift(part, names, mean, std)
    return None


def _labels(path: Path, recording: Path, first: int) -> Labels:
    header = recorded(recording)
    started = header.utc_ns if header is not None else first
    try:
        return read_labels(read_plain(path, MAX_LABELS).decode("utf-8-sig"), started)
    except UnfitFile as error:
        raise Fatal(f"{path}: {error}") from None
    except OSError as error:
        raise Fatal(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise Fatal(f"{path}: {error}") from None


def _own_labels(recordings: Sequence[Path]) -> Labels | None:
    """What stands in the recordings themselves (`samples`): each is of one result, and so is its label."""
    spans: dict[str, list[Span]] = {}
    for path in recordings:
        header = recorded(path)
        if header is not None and header.sample is not None and header.sample.label:
            one = header.sample
            spans.setdefault(one.key, []).append(Span(header.utc_ns, one.time_ns + AFTER_NS, one.label))
    return Labels({key: sorted(found) for key, found in spans.items()}) if spans else None


def _rejected(found: Evaluated) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in found.rejected.items())


def _facts(name: str, recording: Path, found: Sequence[Evaluated], labels: Labels | None, normal: str) -> dict[str, Any]:
    models = [_of_model(one, labels, normal) for one in found]
    facts: dict[str, Any] = {"ok": True, "pipeline": name, "recording": str(recording), "models": models}
    if len(found) == 2:
        member = "label" if "label" in found[0].answers[0].body else "anomaly"
        facts["agreement"] = agreement(found[0].answers, found[1].answers, member)
    return facts


def _of_model(one: Evaluated, labels: Labels | None, normal: str) -> dict[str, Any]:
    answers = one.answers
    facts: dict[str, Any] = {
        "model": one.name,
        "sha256": one.sha256,
        "samples": one.samples,
        "rejected": one.rejected,
        "results": len(answers),
        "seconds": round(seconds(answers), 3),
        "keys": len({a.key for a in answers}),
    }
    if answers and "label" in answers[0].body:
        facts["labels"] = dict(Counter(str(a.body["label"]) for a in answers).most_common())
    if answers and "score" in answers[0].body:
        scores = np.array([a.body["score"] for a in answers], np.float64)
        facts["score"] = {f"p{100 * q:g}": float(np.quantile(scores, q)) for q in (0.01, 0.5, 0.99)} | {
            "max": float(scores.max())
        }
    if answers and "anomaly" in answers[0].body:
        facts["abnormal"] = sum(bool(a.body["anomaly"]) for a in answers)
        facts["alarms"] = onsets(answers)
        worst = Counter(a.key for a in answers if a.body["anomaly"]).most_common(WORST)
        facts["abnormal_keys"] = {key: count for key, count in worst if key}
    if labels is not None and answers:
        facts |= _against(answers, labels, normal)
    facts["drift"] = None if one.drift is None else [{**d._asdict(), "is_far": d.is_far} for d in one.drift]
    return facts


def _against(answers: Sequence[Answer], labels: Labels, normal: str) -> dict[str, Any]:
    if "label" in answers[0].body:
        table = confusion(answers, labels)
        return {
            "accuracy": accuracy(table),
            "confusion": [{"truth": truth, "said": said, "count": count} for (truth, said), count in sorted(table.items())],
        }
    found: list[Rate] = rates(answers, labels, normal)
    false = onsets(answers, lambda a: labels.at(a.key, a.time) == normal)
    share = next((r.count for r in found if r.label == normal), 0) / max(1, len(answers))
    return {
        "rates": [msgspec.to_builtins(r) for r in found],
        "false_alarms": false,
        "false_alarms_per_day": false / max(1e-9, seconds(answers) * share) * DAY_S,
    }


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """For people."""
    yield f"{facts['recording']} through pipeline.{facts['pipeline']}"
    for model in facts["models"]:
        yield ""
        yield from _lines_of(model)
    if facts.get("agreement") is not None:
        yield ""
        yield f"they agree on {100 * facts['agreement']:.2f} % of the windows"


def _lines_of(model: dict[str, Any]) -> Iterator[str]:
    keys = f" of {model['keys']} keys" if model["keys"] > 1 else ""
    came = f"{model['samples']} samples, {model['seconds']:.0f} s"
    yield f"{model['model']} ({model['sha256'][:8]}): {model['results']} results{keys}, {came}"
    if model["rejected"]:
        yield f"  rejected: {', '.join(f'{reason} {count}' for reason, count in model['rejected'].items())}"
    if "score" in model:
        yield "  score: " + ", ".join(f"{name} {value:.3g}" for name, value in model["score"].items())
    if "abnormal" in model:
        yield f"  abnormal: {model['abnormal']} results, {model['alarms']} alarms"
    if model.get("abnormal_keys"):
        yield f"  abnormal keys: {', '.join(f'{key} ({count})' for key, count in model['abnormal_keys'].items())}"
    if "confusion" in model:
        yield f"  accuracy: {100 * model['accuracy']:.2f} %"
        yield from _confusion_lines(model["confusion"])
    elif "labels" in model:
        yield f"  results: {', '.join(f'{name} {count}' for name, count in model['labels'].items())}"
    for rate in model.get("rates", ()):
        share = 100 * rate["flagged"] / max(1, rate["count"])
        more = (
            ""
            if rate["auc"] is None
            else f"; {rate['found']} of {rate['spans']} times found; area under the curve {rate['auc']:.4f}"
        )
        yield f"  {rate['label']}: {share:.2f} % of {rate['count']} results abnormal{more}"
    if "false_alarms" in model:
        yield f"  false alarms: {model['false_alarms']}, {model['false_alarms_per_day']:.3g} per day"
    if model["drift"] is None:
        yield "  drift of the inputs: not known, model.toml has no [inputs.NAME.seen]"
        return
    yield "  drift of the inputs, in deviations of the training data:"
    for d in model["drift"]:
        far = "  <- far from training" if d["is_far"] else ""
        yield (
            f"    {d['field']}: mean {d['shift']:+.2f}, deviation x {d['spread']:.2f}{far}"
            if math.isfinite(d["spread"])
            else (f"    {d['field']}: mean {d['shift']:+.2f}; constant in training, and it changes now  <- far from training")
        )


def _confusion_lines(cells: Sequence[dict[str, Any]]) -> Iterator[str]:
    truths, said = sorted({c["truth"] for c in cells}), sorted({c["said"] for c in cells})
    counts = {(c["truth"], c["said"]): c["count"] for c in cells}
    first = max(len("was \\ said"), *map(len, truths))
    widths = [max(len(s), *(len(str(counts.get((t, s), 0))) for t in truths)) for s in said]
    yield "  " + "  ".join([f"{'was / said':{first}}", *(f"{s:>{w}}" for s, w in zip(said, widths, strict=True))])
    for t in truths:
        yield "  " + "  ".join([f"{t:{first}}", *(f"{counts.get((t, s), 0):>{w}}" for s, w in zip(said, widths, strict=True))])


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise Fatal(f"{path}: {error.strerror or error}") from error
