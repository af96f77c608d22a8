"""A plan for people and for machines: what is wired to what, and the memory table with its sum."""

from __future__ import annotations

from typing import Any

from edged.config.schema import MqttSource, ReplaySource, SerialSource, UsbPort
from edged.model.records import LoadReport
from edged.plan.records import PipelinePlan, Plan, SourcePlan

MIB = 1024 * 1024


def plan_text(plan: Plan) -> str:
    """The wiring, a line for each part, then the memory table."""
    lines = [f"device {plan.device}, says of itself on {plan.base_topic}/status, /health, /model, /event", ""]
    for name, p in plan.pipelines.items():
        lines.append(f"pipeline.{name}")
        lines += [f"  {_source_text(plan.sources[s])}" for s in p.sources]
        lines += [f"    --> {text}" for text in _stages(p)]
        lines += [f"    --> {x.broker}: {x.topic.text} (QoS {x.settings.qos}, {x.settings.format})" for x in p.publishes]
        lines.append("")
    width = max(len(line.what) for line in plan.memory)
    lines.append(f"{'memory':{width}}  {'MiB':>8}")
    lines += [f"{line.what:{width}}  {line.bytes / MIB:8.2f}  {line.how}" for line in plan.memory]
    free = plan.budget - plan.planned_bytes
    lines.append(
        f"{'sum':{width}}  {plan.planned_bytes / MIB:8.2f}  of {plan.budget / MIB:.0f} MiB, {free / MIB:.0f} MiB to spare"
    )
    return "\n".join(lines)


def plan_json(plan: Plan) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "device": plan.device,
        "base_topic": plan.base_topic,
        "sources": {
            n: {"type": s.settings.type, "fields": [f.name for f in s.fields], "keys": list(s.key_names), "rate": s.rate}
            for n, s in plan.sources.items()
        },
        "models": {
            n: {"path": str(m.manifest.path), "sha256": m.manifest.sha256, "version": m.manifest.version}
            for n, m in plan.models.items()
        },
        "pipelines": {
            n: {
                "sources": list(p.sources),
                "window": {"size": p.window.size, "hop": p.window.hop, "gap_ns": p.window.gap_ns} if p.window else None,
                "model": p.model,
                "slots": p.slots,
                "overflow": p.overflow,
                "output": p.output.type,
                "publish": [{"broker": x.broker, "topic": x.topic.text, "qos": x.settings.qos} for x in p.publishes],
            }
            for n, p in plan.pipelines.items()
        },
        "memory": {
            "lines": [{"what": line.what, "bytes": line.bytes, "how": line.how} for line in plan.memory],
            "planned_bytes": plan.planned_bytes,
            "budget_bytes": plan.budget,
        },
    }


def load_text(report: LoadReport) -> str:
    """One line about a model that was loaded and tried."""
    facts = f"model.{report.name}: runs on {report.provider}, {report.run}, {report.p50_us:.0f} us for {report.batch_max} rows"
    return facts + "".join(f"\n  {reason}" for reason in report.reasons)


def _source_text(s: SourcePlan) -> str:
    match s.settings:
        case SerialSource(port=UsbPort() as usb):
            where = f"serial port {usb.vid:04x}:{usb.pid:04x}" + (f" {usb.serial}" if usb.serial else "")
        case SerialSource() as serial:
            where = f"serial port {serial.port} at {serial.baudrate} baud"
        case MqttSource():
            where = f"{s.broker}: {', '.join(topic.mqtt for _, topic in s.filters)}"
        case ReplaySource() as replay:
            where = f"recording {replay.path}"
        case other:
            where = f"simulated {other.signal}"
    rate = f", {s.rate:g} a second" if s.rate else ""
    keys = f", up to {s.max_keys} keys by {' '.join(s.key_names)}" if s.key_names else ""
    return (
        f"source.{s.name}: {where}{rate}{keys}: {', '.join(f.name for f in s.fields[:8])}{', ...' if len(s.fields) > 8 else ''}"
    )


def _stages(p: PipelinePlan) -> list[str]:
    stages = []
    if p.align is not None:
        pace = (
            f"each sample of {p.sources[p.align.to]}"
            if p.align.to is not None
            else f"a grid of {(p.align.period_ns or 0) / 1e9:g} s"
        )
        stages.append(f"join by {p.align.method}, a row for {pace}")
    if p.window is not None:
        gap = f", starts over after {p.window.gap_ns / 1e9:g} s of silence" if p.window.gap_ns else ""
        stages.append(f"window of {p.window.size} rows, every {p.window.hop}{gap}")
    stages += [str(step.step) for step in p.steps]
    if p.model is not None:
        inputs = ", ".join(f"{i.name} {list(i.shape)} {i.dtype}" for i in p.inputs)
        stages.append(f"{p.slots} slots, {p.overflow} when full")
        stages.append(f"model.{p.model}: {inputs}")
    stages.append(p.output.type)
    return stages
