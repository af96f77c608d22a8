"""`edged learn SOURCE`: listens to a source in normal operation and writes a model that scores how far it is away from that."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edged import __version__
from edged.commands.inspect import NAME, plan_alone
from edged.commands.windows import MIN_WINDOWS, default_size, listen, together
from edged.config.load import Draft, read, report
from edged.daemon.one_source import recordings_at, sources_of
from edged.decode.formats import FORMATS
from edged.errors import EX_OK, ConfigError, Fatal
from edged.learn.expected import Expected
from edged.learn.features import INPUT
from edged.learn.normal import OUTPUT, QUANTILE, REFERENCE, REFERENCE_OUT, as_windows
from edged.learn.rounds import Heard, Learned, fit
from edged.model.load import load_session
from edged.model.manifest import MAX_MANIFEST
from edged.model.store import Store, scratch
from edged.notation.words import listed
from edged.plan.records import PipelinePlan, SourcePlan
from edged.system import log
from edged.system.process import say

MAX_SAMPLES = 1 << 16
FEW_WINDOWS = 1000
"""Of those that are kept back: of fewer, the 99.9 % quantile is little more than the largest."""
GOLDEN = 8
RUN_ROWS = 64
DRIFTED = 1.0
DIFFERS = 3


def learn(
    config: Path,
    source: str,
    output: Path,
    seconds: float,
    recordings: Sequence[Path],
    window: int | None,
    by_key: bool,
    as_json: bool,
) -> int:
    """Listens for this long, or plays the recordings; writes the model folder and says how well it will do. Raises ConfigError,
    Fatal."""
    _need_onnx()
    log.configure("error", "auto")
    draft = read(config)
    if wrong := [p for p in draft.problems if not p.is_warning]:
        raise ConfigError(report(draft, wrong))
    _need_numbers(draft, source)
    if output.exists() and (not output.is_dir() or any(p.name not in OWN for p in output.iterdir())):
        raise Fatal(f"{output}: exists, and holds other files than a model of edged learn; give another -o")
    collectors = [
        listen(draft, source, recording, seconds, window or default_size(sources_of(draft, source).rate), by_key)
        for recording in ([one for path in recordings for one in recordings_at(path)] or (None,))
    ]
    heard, plan, reads = together([c.heard() for c in collectors]), collectors[0].source, collectors[0].pipeline
    if len(heard.keys) < MIN_WINDOWS:
        what = "windows" if reads.window is not None and reads.window.size > 1 else "samples"
        lost = ", ".join(f"{reason} {count}" for c in collectors for reason, count in c.rejected.items())
        if not heard.samples:
            raise Fatal(
                f"source.{source}: no sample came; rejected: {lost or 'nothing'}; check that the sensor runs, and run edged check"
            )
        raise Fatal(
            f"source.{source}: {len(heard.keys)} {what} came, and at least {MIN_WINDOWS} are needed; listen longer (--for), "
            "or take a smaller --window"
        )
    names = [n for f in plan.fields for n in _columns(f)]
    learned = fit(heard, names, plan.rate, run, by_key)
    write(output, source, heard, learned, plan, recordings)
    facts = _facts(output, source, heard, learned, reads)
    say(json.dumps(facts, indent=2) if as_json else "\n".join(lines(facts, draft, output, heard, learned, reads, plan)))
    return EX_OK


def _need_numbers(draft: Draft, source: str) -> None:
    """Raises Fatal."""
    decode = getattr(draft.config.source.get(source), "decode", None)
    if decode is None or FORMATS[decode.format].needs_dtype:
        return
    if texts := [f.name for f in decode.fields if f.dtype == "text"]:
        raise Fatal(f"source.{source}: {listed(texts)} is a string, and edged learn takes numbers; leave it out of fields")


OWN = ("model.onnx", "model.toml", "golden.npz")


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise Fatal(
            "writing a model needs the package onnx: pip install 'edged[learn]'; the device that runs it does not"
        ) from None


def _columns(field: Any) -> Iterator[str]:
    count = field.stop - field.start
    yield from [field.name] if count == 1 else [f"{field.name}[{i}]" for i in range(count)]


def run(file: bytes, rows: NDArray[np.float32], references: NDArray[np.float32] | None = None) -> NDArray[Any]:
    """The first output of a model file for these rows, by the same way as the daemon would run it."""
    folder = scratch() / f"learn-{hashlib.sha256(file).hexdigest()[:8]}"
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(file)
    manifest = Store(scratch()).take(NAME, folder)[1]
    session, _ = load_session(replace(plan_alone(manifest), providers=("cpu",), batch_max=min(RUN_ROWS, len(rows))))
    given = {INPUT: rows} if references is None else {INPUT: rows, REFERENCE: references}
    parts = []
    for start in range(0, len(rows), session.batch_max):
        count = min(session.batch_max, len(rows) - start)
        for name, array in session.inputs.items():
            array[:count] = given[name][start : start + count]
        out = next(y for name, y in session.run(count).items() if name != REFERENCE_OUT)
        parts.append(out.copy())
    return np.concatenate(parts)


def write(output: Path, source: str, heard: Heard, learned: Learned, plan: SourcePlan, recordings: Sequence[Path]) -> None:
    """The folder. Raises Fatal."""
    inputs = as_windows(heard.windows, learned.normal.size)
    at = np.linspace(len(inputs) - learned.kept, len(inputs) - 1, GOLDEN).astype(int)
    manifest = "\n".join(_manifest(output, source, heard, learned, plan, recordings)).encode()
    if too_many := beyond_manifest(len(manifest), len(learned.by_key)):
        raise Fatal(f"source.{source}: {too_many}")
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "model.onnx").write_bytes(learned.file)
        np.savez(output / "golden.npz", **_golden(inputs, at, learned))
        (output / "model.toml").write_bytes(manifest)
    except OSError as error:
        raise Fatal(f"{output}: {error.strerror or error}") from error


def beyond_manifest(size: int, keys: int) -> str:
    """What to say where what is normal for each key is too much for a model.toml, which is read whole; empty if it is not."""
    if size <= MAX_MANIFEST:
        return ""
    room = MAX_MANIFEST * keys // size
    fix = "learn without --by-key, which judges all alike, or of fewer keys at once"
    said = f"what is normal for {keys} keys takes {size >> 10} KiB, and model.toml has room for {room} ({MAX_MANIFEST >> 10} KiB)"
    return f"{said}; {fix}"


def _golden(inputs: NDArray[np.float32], at: NDArray[Any], learned: Learned) -> dict[str, Any]:
    arrays = {INPUT: inputs[at], OUTPUT: learned.scores[at, None].astype(np.float32)}
    return arrays if learned.references is None else {**arrays, REFERENCE: learned.references[at]}


def _manifest(
    output: Path, source: str, heard: Heard, learned: Learned, plan: SourcePlan, recordings: Sequence[Path]
) -> Iterator[str]:
    text = json.dumps
    fields, size = plan.fields, learned.normal.size
    yield f"name = {text(output.resolve().name)}"
    yield f'version = "{datetime.now(timezone.utc):%Y-%m-%dT%H:%MZ}"'
    yield f"description = {text(f'How far source.{source} is away from normal operation: 1.0 is the edge of it')}"
    yield f'sha256 = "{hashlib.sha256(learned.file).hexdigest()}"'
    yield f"\n[inputs.{INPUT}]"
    yield f"fields = {text([f.name for f in fields], ensure_ascii=False)}"
    if units := {f.name: f.unit for f in fields if f.unit is not None}:
        yield f"units = {{ {', '.join(f'{text(n)} = {text(u, ensure_ascii=False)}' for n, u in units.items())} }}"
    if size > 1:
        yield 'layout = "time,field"'
    yield f"\n[inputs.{INPUT}.seen]                     # what it was made of; edged evaluate compares with it"
    yield f"mean = {_numbers(learned.fields.mean)}"
    yield f"std = {_numbers(learned.fields.deviation)}"
    yield "\n[made]"
    yield f'by = "edged learn {__version__}"'
    yield f"source = {text(source)}"
    if recordings:
        yield f"recordings = {text([r.name for r in recordings], ensure_ascii=False)}"
    if plan.rate is not None:
        yield f"rate = {plan.rate:g}"
    yield f"seconds = {heard.seconds:.0f}"
    yield f"samples = {heard.samples}"
    yield f"windows = {len(heard.keys)}"
    yield f"keys = {len(heard.names)}"
    if learned.by_key:
        yield f'\n[state]\n{REFERENCE_OUT} = "{REFERENCE}"'
        yield f"\n[starts.{REFERENCE}]                      # what is normal for each key"
        yield from (f"{text(heard.names[key], ensure_ascii=False)} = {_numbers(row)}" for key, row in learned.by_key.items())
    yield '\n[golden]\nfile = "golden.npz"\nrtol = 0.001\natol = 0.001\n'


def _numbers(values: NDArray[Any]) -> str:
    return f"[{', '.join(f'{v:.7g}' for v in values)}]"


def _facts(output: Path, source: str, heard: Heard, learned: Learned, pipeline: PipelinePlan) -> dict[str, Any]:
    third = len(heard.keys) // 3
    assert pipeline.window is not None
    return {
        "ok": True,
        "model": str(output),
        "source": source,
        "seconds": round(heard.seconds, 3),
        "samples": heard.samples,
        "windows": len(heard.keys),
        "kept_back": learned.kept,
        "keys": len(heard.names),
        "window": {"size": pipeline.window.size, "hop": pipeline.window.hop},
        "quantile": QUANTILE,
        "median_score": {"first_third": _median(learned.scores[:third]), "last_third": _median(learned.scores[-third:])},
        "drift": [{"feature": name, "deviations": round(went, 3)} for name, went in learned.drift],
        "output": {"above": learned.expected.above, "smooth": learned.expected.smooth},
        "expected": msgspec.to_builtins(learned.expected),
        "differs": [{"key": name, "median_score": round(score, 3)} for name, score in learned.differs],
    }


def _median(scores: NDArray[Any]) -> float:
    return round(float(np.median(scores)), 4)


def lines(
    facts: dict[str, Any],
    draft: Draft,
    output: Path,
    heard: Heard,
    learned: Learned,
    pipeline: PipelinePlan,
    source: SourcePlan,
) -> Iterator[str]:
    """For people: what was learned, how well it will do, and what to add to the configuration."""
    window, expected, name = pipeline.window, learned.expected, source.name
    assert window is not None
    names = [n for f in source.fields for n in _columns(f)]
    keys = f" of {len(heard.names)} keys" if any(heard.names.values()) else ""
    unit = f"windows of {window.size} samples" if window.size > 1 else "single samples"
    yield f"{output}: learned from source.{name}: {heard.seconds:.0f} s, {heard.samples} samples{keys}, {len(heard.keys)} {unit}"
    width = max(len(n) for n in names)
    for n, mean, deviation in zip(names, learned.fields.mean, learned.fields.deviation, strict=True):
        still = "; it never changed: any change will be abnormal" if deviation == 0 else ""
        yield f"  {n:{width}}  mean {mean:.5g}, deviation {deviation:.3g}{still}"
    yield f"score 1.0: {100 * QUANTILE:g} % of the {learned.kept} windows of the last third, which it has not seen, are below"
    if learned.kept < FEW_WINDOWS:
        longer = _longer(heard, learned)
        yield f"  few windows: the highest of {learned.kept} scores decides; listen for {FEW_WINDOWS} windows ({longer})"
    first, last = facts["median_score"]["first_third"], facts["median_score"]["last_third"]
    went = ", ".join(f"{feature} {deviations:+.1f}" for feature, deviations in learned.drift)
    yield f"drift: median score {first:.2f} in the first third, {last:.2f} in the last; furthest, in deviations: {went}"
    if any(abs(deviations) > DRIFTED for _, deviations in learned.drift):
        yield "  normal changed during learning: listen for as long as it takes to see all of it (a shift, a day)"
    for key, score in learned.differs[:DIFFERS]:
        yield f"key {key}: its usual score is {score:.1f}, unlike the others; if something is wrong with it, learn without it"
    lines = f"above = {_decimal(expected.above)}, smooth = {expected.smooth}"
    raw = _rate(expected.raw_per_day)
    yield f"false alarms expected: {_rate(expected.false_per_day)} per day with {lines}; {raw} per day with above = 1.0 alone"
    yield ""
    yield f"add to {draft.path}:"
    yield ""
    yield from pipeline_lines(output, draft, name, window.size, window.hop, expected)


def _longer(heard: Heard, learned: Learned) -> str:
    return f"--for {math.ceil(heard.seconds * FEW_WINDOWS / learned.kept / 60)}min"


def _rate(per_day: float) -> str:
    return f"{per_day:.0f}" if per_day >= 10 else f"{per_day:.1g}" if per_day >= 0.01 else "less than 0.01"


def pipeline_lines(output: Path, draft: Draft, source: str, size: int, hop: int, expected: Expected) -> Iterator[str]:
    """The lines of the configuration that use the model."""
    folder = draft.path.absolute().parent
    path = output.absolute()
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    name = "".join(c if c.isalnum() or c in "_-" else "_" for c in path.name)[:64] or "normal"
    taken = {*draft.config.pipeline, *draft.config.source}
    pipeline = name if name not in taken else f"{source}-{name}"
    yield f"[model.{name}]"
    yield f'path = "{shown}"'
    yield ""
    yield f"[pipeline.{pipeline}]"
    yield f'source = "{source}"'
    if size > 1:
        yield f"window = {{ size = {size}, hop = {hop} }}"
    yield f'model = "{name}"'
    release = math.floor(expected.above * 16) / 20
    levels = f"above = {_decimal(expected.above)}, release = {_decimal(release)}"
    yield f'output = {{ type = "anomaly", {levels}, smooth = {expected.smooth} }}'


def _decimal(value: float) -> str:
    return f"{value:.2f}".removesuffix("0")
