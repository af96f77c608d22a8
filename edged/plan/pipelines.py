"""Plans a pipeline: which fields make a row, how rows become windows, and where its results go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import numpy as np

from edged.align import AlignPlan, AlignSource
from edged.config.schema import Config, MqttSource, Pipeline, Publish, Step
from edged.config.values import Span
from edged.errors import Problem
from edged.model.manifest import Manifest
from edged.plan.models import plan_inputs
from edged.plan.outputs import check_publish, plan_of_when, plan_output
from edged.plan.records import PipelinePlan, PublishPlan, SourcePlan, WindowPlan
from edged.plan.steps import make_preprocess
from edged.plan.streams import stale_ns
from edged.records import Field
from edged.shape import OutputPlan
from edged.topics import Template, TopicError, matches, parse_template

SLOT_BYTES = 1024 * 1024
MOST_SLOTS = 256
DEFAULT_BATCH = 16
LEAST_ARRIVAL_GAP_NS = 10**9


class PipelinePlanner:
    """Plans one pipeline; what is wrong goes to `problems`, under `pipeline.NAME`."""

    def __init__(
        self,
        name: str,
        config: Config,
        sources: Mapping[str, SourcePlan],
        manifests: Mapping[str, Manifest],
        known: Mapping[str, str],
        problems: list[Problem],
    ) -> None:
        self.name = name
        self.config = config
        self.settings: Pipeline = config.pipeline[name]
        self.all_sources = sources
        self.sources = tuple(sources[s] for s in self.settings.source if s in sources)
        self.is_whole = len(self.sources) == len(self.settings.source)
        self.manifests = manifests
        self.known = known
        self.problems = problems
        self.window_size: int | None = None

    def problem(self, path: str, text: str) -> None:
        """Something wrong elsewhere than in this pipeline's table."""
        self.problems.append(Problem(path, text))

    def wrong(self, key: str, text: str, at: str = "value") -> None:
        self.problems.append(Problem(f"pipeline.{self.name}" + (f".{key}" if key else ""), text, at))

    # ---- rows ----

    def fields(self) -> tuple[Field, ...]:
        """The fields of a row: those of the first source, then those of the next. A name that occurs twice is qualified."""
        names = [f.name for s in self.sources for f in s.fields]
        fields, start = [], 0
        for source in self.sources:
            for f in source.fields:
                name = f.name if names.count(f.name) == 1 else f"{source.name}.{f.name}"
                fields.append(Field(name, start + f.start, start + f.stop, f.shape, f.unit))
            start += source.width
        return tuple(fields)

    def find(self, key: str, name: str, fields: Sequence[Field]) -> Field | None:
        """The field called `name` or `source.name`; None after saying why there is none."""
        for f in fields:
            if f.name == name:
                return f
        source, _, plain = name.partition(".")
        if plain and any(s.name == source for s in self.sources):
            for f in fields:
                if f.name == plain and any(s.name == source and any(x.name == plain for x in s.fields) for s in self.sources):
                    return f
        owners = [f.name for f in fields if f.name.endswith(f".{name}")]
        if owners:
            streams = " and in ".join(o.rpartition(".")[0] for o in owners)
            self.wrong(key, f'"{name}" is in {streams}: write {owners[0]}')
            return None
        close = get_close_matches(name, [f.name for f in fields], 1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        self.wrong(key, f'no field "{name}"; the fields are {", ".join(f.name for f in fields)}{hint}')
        return None

    def keys(self) -> tuple[tuple[str, ...], int, str]:
        """Names of the key's parts, how many keys there may be, and the group whose ids they are."""
        keyed = [s for s in self.sources if s.key_names]
        if not keyed:
            return (), 1, self.sources[0].key_group
        first = keyed[0]
        for other in keyed[1:]:
            if len(other.key_names) != len(first.key_names):
                self.wrong(
                    "source",
                    f"{first.name} is keyed by {' '.join(first.key_names)}, {other.name} by {' '.join(other.key_names)}: "
                    "keys that are joined must have the same parts",
                )
        if not self.sources[0].key_names and (self.settings.align is None or self.settings.align.to != first.name):
            self.wrong(
                "source",
                f"{self.sources[0].name} sets the pace and has no key, {first.name} has: put {first.name} first, or set align.to",
            )
        return first.key_names, max(s.max_keys for s in keyed), first.key_group

    def align(self) -> AlignPlan | None:
        """How the sources are joined; None for one source without a grid."""
        settings = self.settings.align
        if settings is None and len(self.sources) == 1:
            return None
        pace = 0
        period_ns = None
        if settings is not None and settings.rate is not None:
            if settings.to is not None:
                self.wrong("align.to", "to and rate exclude each other: a row for each sample of a stream, or a regular grid")
            period_ns = int(1e9 / settings.rate)
        elif settings is not None and settings.to is not None:
            names = [s.name for s in self.sources]
            if settings.to not in names:
                self.wrong("align.to", f"expected one of the pipeline's sources ({', '.join(names)}), found {settings.to}")
            else:
                pace = names.index(settings.to)
        joined = []
        for i, source in enumerate(self.sources):
            is_pace = i == pace and period_ns is None
            tolerance = settings.tolerance if settings is not None and settings.tolerance is not None else stale_ns(source.rate)
            if tolerance is None and not is_pace:
                at = "value" if settings is not None else "table"
                self.wrong(
                    "align",
                    f"tolerance: required, since source.{source.name} has no rate: how old may its value be, such as "
                    'align = { tolerance = "30s" }',
                    at,
                )
                tolerance = 10**9
            on_bad = source.settings.on_bad
            joined.append(AlignSource(source.name, source.width, None if is_pace else tolerance, on_bad, bool(source.key_names)))
        return AlignPlan(
            sources=tuple(joined),
            to=None if period_ns is not None else pace,
            period_ns=period_ns,
            method=settings.method if settings is not None else "previous",
            max_keys=max(s.max_keys for s in self.sources),
            dtype=self.dtype(),
        )

    def dtype(self) -> str:
        return "float64" if any(s.dtype == "float64" for s in self.sources) else "float32"

    # ---- windows ----

    def rate(self) -> tuple[float | None, str]:
        """Rows a second of one key, and the key that says so."""
        align = self.settings.align
        if align is not None and align.rate is not None:
            return align.rate, f"pipeline.{self.name}.align.rate"
        pace = self.sources[0]
        if align is not None and align.to is not None:
            pace = next((s for s in self.sources if s.name == align.to), pace)
        return pace.rate, f"source.{pace.name}.rate"

    def window(self) -> WindowPlan | None:
        settings = self.settings.window
        if settings is None:
            return None
        size = self._samples("window.size", settings.size)
        hop = self._samples("window.hop", settings.hop) if settings.hop is not None else size
        if size is None or hop is None:
            return None
        gap = settings.gap
        rate, _ = self.rate()
        if gap is None and rate is not None:
            gap = int(3e9 / rate)
            if not self.sources[0].has_own_time:
                gap = max(gap, LEAST_ARRIVAL_GAP_NS)
        self.window_size = size
        return WindowPlan(size, hop, gap)

    def _samples(self, key: str, span: Span) -> int | None:
        if span.samples is not None:
            return span.samples
        assert span.duration is not None
        rate, where = self.rate()
        if rate is None:
            self.wrong(
                key,
                f'"{_shown(span.duration)}" needs to know the samples a second: set {where} (one a second: rate = 1), '
                "or give size in samples",
            )
            return None
        samples = round(span.duration * rate / 1e9)
        if samples < 1:
            self.wrong(key, f'"{_shown(span.duration)}" is less than one sample at {rate:g} a second')
            return None
        return samples

    # ---- results ----

    def overflow(self) -> str:
        kinds = [s.settings for s in self.sources]
        at_qos0 = [s.name for s in self.sources if isinstance(s.settings, MqttSource) and s.settings.qos == 0]
        all_acked = all(isinstance(k, MqttSource) and k.qos == 1 for k in kinds)
        chosen = self.settings.overflow
        if chosen == "block" and at_qos0:
            self.wrong(
                "overflow",
                f'"block" cannot hold back source.{at_qos0[0]}, which comes at QoS 0: set its qos = 1, '
                'or use "drop_oldest", "drop_newest" or "latest_only"',
            )
        return chosen or ("block" if all_acked else "drop_oldest")

    def slots(self, batch: int, slot_bytes: int, max_keys: int, is_keyed: bool) -> int:
        if self.settings.slots is not None:
            return self.settings.slots
        fit = min(MOST_SLOTS, SLOT_BYTES // max(1, slot_bytes))
        return max(2 * batch, max_keys if is_keyed else 0, fit)

    def publishes(self, keys: Sequence[str], output: OutputPlan, max_keys: int) -> tuple[PublishPlan, ...]:
        several = len(self.settings.publish) > 1
        plans = []
        for i, settings in enumerate(self.settings.publish):
            path = f"publish[{i}]" if several else "publish"
            broker = settings.broker or next(iter(self.config.broker), None)
            topic = self._topic(f"{path}.topic", settings, keys, max_keys)
            wrongs = list(check_publish(settings, output))
            for key, text in wrongs:
                self.wrong(f"{path}.{key}", text)
            if topic is not None and broker is not None and not wrongs:
                self._check_loop(f"{path}.topic", topic, broker)
                plans.append(PublishPlan(broker, topic, plan_of_when(settings.when, output), settings))
        return tuple(plans)

    def _topic(self, key: str, settings: Publish, keys: Sequence[str], max_keys: int) -> Template | None:
        text = settings.topic or "{base_topic}/{pipeline}" + ("/{key}" if keys else "")
        names = (*keys, *(("key",) if keys else ()))
        try:
            template = parse_template(text, {**self.known, "pipeline": self.name}, names)
        except TopicError as error:
            self.wrong(key, str(error))
            return None
        if keys and "key" not in template.names and not set(keys) <= set(template.names):
            parts = "/".join(f"{{{k}}}" for k in keys)
            self.wrong(
                key, f'"{text}" is one topic for up to {max_keys} keys: each would overwrite the last; add {parts} or {{key}}'
            )
            return None
        return template

    def _check_loop(self, key: str, topic: Template, broker: str) -> None:
        for name, source in self.all_sources.items():
            if source.broker == broker and any(matches(f, topic) for _, f in source.filters):
                self.wrong(key, f"{topic.text} is read by source.{name}: results would come back as inputs")
                return


def plan_pipeline(
    name: str,
    config: Config,
    sources: Mapping[str, SourcePlan],
    manifests: Mapping[str, Manifest],
    known: Mapping[str, str],
    problems: list[Problem],
) -> PipelinePlan | None:
    """The plan of one pipeline, or None after adding to `problems` why there is none."""
    p = PipelinePlanner(name, config, sources, manifests, known, problems)
    if not p.is_whole:
        return None  # its source has a problem of its own
    before = len(problems)
    fields = p.fields()
    keys, max_keys, key_group = p.keys()
    align = p.align()
    window = p.window()
    if p.settings.window is not None and window is None:
        return None
    width = fields[-1].stop
    window_shape = (window.size, width) if window else (width,)
    manifest = manifests.get(p.settings.model) if p.settings.model else None
    if p.settings.model and manifest is None:
        return None
    steps = p.settings.preprocess if p.settings.preprocess is not None else _normalisation(manifest)
    row_shape = _after(p, steps, window_shape)
    if row_shape is None:
        return None
    inputs = plan_inputs(p, manifest, fields, row_shape) if manifest else ()
    output = plan_output(p, manifest, fields, max_keys)
    if inputs is None or output is None:
        return None
    batch = _batch(config, p.settings.model)
    slot_bytes = sum(math.prod(i.shape) * np.dtype(i.dtype).itemsize for i in inputs if i.is_row)
    plan = PipelinePlan(
        name=name,
        sources=tuple(s.name for s in p.sources),
        align=align,
        window=window,
        fields=fields,
        dtype=p.dtype(),
        keys=keys,
        max_keys=max_keys,
        key_group=key_group,
        steps=steps,
        postprocess=p.settings.postprocess,
        model=p.settings.model,
        inputs=inputs,
        output=output,
        publishes=p.publishes(keys, output, max_keys),
        slots=p.slots(batch, slot_bytes, max_keys, bool(keys)),
        overflow=p.overflow(),
    )
    return plan if len(problems) == before or all(x.is_warning for x in problems[before:]) else None


def _batch(config: Config, model: str | None) -> int:
    return (config.model[model].batch.max or DEFAULT_BATCH) if model else 1


def _normalisation(manifest: Manifest | None) -> tuple[Step, ...]:
    """The manifest's normalisation as a step: (x - mean) / std."""
    if manifest is None or manifest.normalize is None:
        return ()
    return (Step(step="normalize", mean=manifest.normalize.subtract, std=manifest.normalize.divide),)


def _after(p: PipelinePlanner, steps: Sequence[Step], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return make_preprocess(steps, shape, p.dtype()).output_shape
    except ValueError as error:
        p.wrong("preprocess", str(error))
        return None


def _shown(ns: int) -> str:
    """A duration as it would be written: 60s, 250ms."""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if ns % size == 0:
            return f"{ns // size}{unit}"
    return f"{ns}ns"
