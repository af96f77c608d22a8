"""What the command `edged model inspect` does: what a model file says of itself, and what it takes on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edged.errors import EX_CONFIG, EX_OK
from edged.model.fit import cannot_bind, onnx_name
from edged.model.manifest import Manifest, read_manifest
from edged.model.metadata import picture_size
from edged.model.onnx_file import OnnxFile, TensorInfo
from edged.model.records import ModelPlan, ModelRefused
from edged.model.store import Store, scratch
from edged.model.trial.attempt import Trial, attempt_now, limits
from edged.model.trial.notes import trials_here
from edged.notation.units import KIB, MIB
from edged.plan.memory import FIRST_SESSION, model_lines
from edged.system.process import complain, say
from edged.system.process_memory import machine_bytes

NAME = "it"
MAX_METADATA = 60
"""Characters of one entry on a line for people."""


class Inspected(msgspec.Struct, frozen=True):
    """A model, what is wrong with it, and what came of its trial: figures, or why there are none."""

    manifest: Manifest
    warnings: tuple[str, ...]
    predicted_bytes: int
    trial: Trial | None
    reasons: tuple[str, ...]


def inspect(path: Path, as_json: bool) -> int:
    """Prints what is known; 78 if the daemon would refuse the model whatever the configuration says."""
    manifest, problems = read_manifest(NAME, path)
    errors = [p.text for p in problems if not p.is_warning]
    if manifest is None:
        return _refused(path, errors, as_json)
    try:
        copied = Store(scratch()).take(NAME, path)[1]
    except ModelRefused as error:
        return _refused(path, [p.text for p in error.problems], as_json)
    found = replace(try_alone(copied, tuple(p.text for p in problems)), manifest=manifest)
    if as_json:
        say(json.dumps(facts(found), indent=2))
    else:
        say("\n".join(lines(found)))
        for reason in found.reasons:
            complain(f"{path}: {reason}")
    return EX_OK if found.trial is not None else EX_CONFIG


def _refused(path: Path, errors: list[str], as_json: bool) -> int:
    if as_json:
        say(json.dumps({"ok": False, "path": str(path), "errors": errors}, indent=2))
    else:
        complain("\n".join(e if str(path) in e else f"{path}: {e}" for e in errors))
    return EX_CONFIG


def try_alone(manifest: Manifest, warnings: tuple[str, ...] = ()) -> Inspected:
    """Tries it in a process of its own on rows of the sizes that it asks for."""
    plan = plan_alone(manifest)
    predicted = FIRST_SESSION + sum(line.bytes for line in model_lines(NAME, plan))
    try:
        trial = trials_here().once(plan, limits(plan, machine_bytes() // 2), attempt_now)
        return Inspected(manifest, warnings, predicted, trial, ())
    except ModelRefused as error:
        texts = [p.text for p in error.problems]
        if open_inputs := [i.name for i in manifest.onnx.inputs if _is_open(i, plan)]:
            texts.append(f"open axes were tried as 1; if that is wrong: [inputs.{open_inputs[0]}] shape = [...] in model.toml")
        return Inspected(manifest, warnings, predicted, None, tuple(texts))


def plan_alone(manifest: Manifest) -> ModelPlan:
    """As a pipeline would use it that fills all inputs and reads all outputs that can be read."""
    rows = {i.name: _row(i, manifest) for i in manifest.onnx.inputs} | {s.input: s.shape for s in manifest.states}
    outputs = tuple(o.name for o in manifest.onnx.outputs if not cannot_bind(o))
    return ModelPlan(manifest, rows, outputs=outputs or None)


def _row(info: TensorInfo, manifest: Manifest) -> tuple[int, ...]:
    hints = manifest.inputs.get(info.name)
    if hints is not None and hints.shape is not None:
        return hints.shape
    shape, size = info.shape or (), picture_size(manifest.onnx.metadata)
    if size is not None and len(shape) == 4 and shape[1] in (1, 3):  # what a pipeline would bring pictures to
        shape = (*shape[:2], *(n if isinstance(n, int) else side for n, side in zip(shape[2:], reversed(size), strict=True)))
    has_axis = bool(shape) and manifest.batch_axis != -1 and (manifest.batch_axis is not None or not isinstance(shape[0], int))
    return tuple(n if isinstance(n, int) else 1 for n in shape[has_axis:])


def _is_open(info: TensorInfo, plan: ModelPlan) -> bool:
    hints = plan.manifest.inputs.get(info.name)
    return (hints is None or hints.shape is None) and any(not isinstance(n, int) for n in (info.shape or (None,))[1:])


def facts(found: Inspected) -> dict[str, Any]:
    """As JSON for machines."""
    m, trial = found.manifest, found.trial
    tried = None
    if trial is not None:
        tried = {
            k: v
            for k, v in msgspec.to_builtins(trial.report).items()
            if k not in ("name", "version", "sha256", "outputs", "weight_bytes")
        }
        tried["peak_bytes"] = trial.peak_bytes
    return {
        "ok": trial is not None,
        "path": str(m.path),
        "sha256": m.sha256,
        "version": m.version,
        "description": m.description,
        "file_bytes": file_bytes(m),
        "ir_version": m.onnx.ir_version,
        "opsets": opsets(m.onnx),
        "inputs": [_tensor(i) for i in m.onnx.inputs],
        "outputs": [_tensor(o) for o in m.onnx.outputs],
        "state": {s.output: s.input for s in m.states},
        "labels": list(m.labels),
        "metadata": m.onnx.metadata,
        "weight_bytes": m.onnx.initializer_bytes,
        "external_files": [p.name for p in m.onnx.external_files],
        "golden": m.golden.path.name if m.golden is not None else None,
        "predicted_bytes": found.predicted_bytes,
        "tried": tried,
        "warnings": list(found.warnings),
        "errors": list(found.reasons),
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "kind": info.kind,
        "type": info.dtype or info.element or None,
        "shape": list(info.shape) if info.shape is not None else None,
    }


def opsets(onnx: OnnxFile) -> dict[str, int]:
    return {domain or "ai.onnx": version for domain, version in onnx.opsets.items()}


def file_bytes(manifest: Manifest) -> int:
    return sum(p.stat().st_size for p in (manifest.path, *manifest.onnx.external_files))


def lines(found: Inspected) -> Iterator[str]:
    """For people, a line for each fact."""
    m = found.manifest
    beside = f", {len(m.onnx.external_files)} of them beside it" if m.onnx.external_files else ""
    known: list[tuple[str, str]] = [
        ("model", f"{m.path}{f', version {m.version}' if m.version else ''}"),
        ("", m.description),
        ("sha256", m.sha256),
        ("size", f"{_size(file_bytes(m))}, {_size(m.onnx.initializer_bytes)} of weights{beside}"),
        ("format", f"IR {m.onnx.ir_version}, opset {', '.join(f'{d} {v}' for d, v in opsets(m.onnx).items())}"),
        *(("input", onnx_name(i)) for i in m.onnx.inputs),
        *(("output", onnx_name(o)) for o in m.onnx.outputs),
        *(("state", f"{s.output} is {s.input} of the next run of its key") for s in m.states),
        ("labels", f"{len(m.labels)}: {_cut(', '.join(m.labels))}" if m.labels else "none"),
        *(("metadata", f"{key} = {_cut(value)}") for key, value in m.onnx.metadata.items()),
        ("memory", f"predicted {_size(found.predicted_bytes)}{_measured(found.trial)}"),
        *(("time", text) for text in _times(found.trial)),
        *(("warning", text) for text in found.warnings),
    ]
    return (f"{title:9} {text}".rstrip() for title, text in known if text)


def _measured(trial: Trial | None) -> str:
    if trial is None:
        return ""
    r = trial.report
    return f", measured {_size(r.resident_bytes)}, both with onnxruntime's first session; {_size(trial.peak_bytes)} while loading"


def _times(trial: Trial | None) -> Iterator[str]:
    if trial is None:
        return
    r = trial.report
    yield f"{r.p50_us:.0f} us for {r.batch_max} rows (longest {r.max_us:.0f}), {r.run}, on {r.provider}"
    yield f"loaded and tried in {r.load_s:.2f} s"
    yield from (reason for reason in r.reasons if r.provider != "cpu" or "CUDA" not in reason)  # it was not asked for


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_METADATA else f"{text[:MAX_METADATA]}..."


def _size(n: int) -> str:
    if n < KIB:
        return f"{n} bytes"
    return f"{n / KIB:.1f} KiB" if n < MIB else f"{n / MIB:.1f} MiB"
