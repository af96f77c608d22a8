"""Inputs that are worth a look (`samples` of a pipeline): chosen by their results, cut out of what came in lately, and published
or kept as recordings. Nothing of it is on the path of a pipeline that has no `samples`.

    source --> Recent            what came in lately, in bytes
    result --> Choice --> clip --> a thread: recording --> file      or --> message
    label  --> a thread: into the header of the file
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import structlog

from edged.clock.clock import Clock
from edged.pipeline.choice import Choice
from edged.plan.records import RootPlan, SamplesPlan
from edged.records import Message, Result
from edged.results.encode import Encoder
from edged.sources.counts import Arrival, SourceCounts
from edged.sources.recent import Recent
from edged.sources.recording import Header, Record, Sample, head_of, record_of
from edged.sources.sample_files import Label, Named, Unknown, attach, keep
from edged.system.one_shot import start_one_shot_thread
from edged.telemetry import Drops, PublishCounts

MAX_LABELS = 64
"""That wait to be written."""
MAX_RESULT = 16 * 1024
"""Bytes of a result in the header of a recording."""
GONE = "edged no longer has all the samples behind its result"

log: Any = structlog.get_logger("edged")


class Clip(NamedTuple):
    """What is to be recorded for one result, by source; `offset` makes UTC of its times."""

    named: Named
    sample: Sample
    arrivals: tuple[tuple[RootPlan, list[Arrival]], ...]
    offset: int

    @property
    def size(self) -> int:
        return sum(len(one.data) for _, arrivals in self.arrivals for one in arrivals)


class HardSamples:
    """Of one pipeline. `counts` and `ports` of the sources behind it are those of `hook`; `encode` makes the result as it is
    published; `names` are those of a key."""

    def __init__(
        self,
        name: str,
        plan: SamplesPlan,
        run: str,
        clock: Clock,
        names: Callable[[int], tuple[str, ...]] | None,
        old: HardSamples | None,
    ) -> None:
        self.name = name
        self.plan = plan
        self.choice = Choice(plan.when, plan.limits, plan.audit, lambda: random.expovariate(1.0), clock.now())
        self._drops = Drops(f"pipeline.{name}.samples", clock.now_s)
        self._writer = _Writer(name, plan, self._drops, PublishCounts(f"pipeline.{name}.samples", clock.now_s))
        self._run, self._clock, self._names = run, clock, names
        self._recents: dict[str, Recent] = {}
        self._watches: dict[str, Any] = {}
        self._encode: Encoder | None = None
        if old is not None:
            self._drops = old._drops
            self._writer.take_over(old._writer)
            self.choice.take_over(old.choice)

    def hook(
        self,
        counts: Mapping[str, SourceCounts],
        watched: Mapping[str, SourceCounts],
        encode: Encoder,
        send: Callable[[Message], object] | None,
    ) -> None:
        """From now on looks at what these sources, or the ports that they share, get; `counts` are those of the sources."""
        self._encode, self._writer.send = encode, send
        for root in self.plan.roots:
            watch = watched[root.source].watch
            if self._watches.get(root.source) is watch:
                continue
            self._unhook(root.source)
            mine = counts[root.source]
            recent = self._recents[root.source] = Recent(root.max_bytes, lambda mine=mine: mine.rows)  # type: ignore[misc]
            self._watches[root.source] = watch
            if root.kind == "mqtt":
                watch.on_raw = (*watch.on_raw, recent.take)
            else:
                watch.on_data = (*watch.on_data, recent.take)

    def unhook(self) -> None:
        for source in list(self._watches):
            self._unhook(source)

    def _unhook(self, source: str) -> None:
        watch, recent = self._watches.pop(source, None), self._recents.pop(source, None)
        if watch is not None and recent is not None:
            watch.on_raw = tuple(take for take in watch.on_raw if take != recent.take)
            watch.on_data = tuple(take for take in watch.on_data if take != recent.take)

    # ---- called by the parts ----

    def see(self, result: Result, now: int) -> None:
        """A result of the pipeline."""
        why = self.choice.of(result, now)
        if why is None:
            return
        key = self._names(result.key) if self._names is not None else ()
        arrivals = []
        for root in self.plan.roots:
            key_at = None if root.key_at is None else tuple((at, key[part]) for at, part in root.key_at)
            found = self._recents[root.source].clip(root.rows, result.arrival, key_at)
            if found is None:
                self._drops.add("gone", detail=GONE)
                return
            arrivals.append((root, found))
        sample = Sample(self.name, why, result.time, self._said(result, now), "/".join(key))
        clip = Clip(Named(result.time, self._run, result.seq), sample, tuple(arrivals), self._clock.offset())
        self._writer.take(clip)

    def hear(self, payload: bytes) -> None:
        """A message that attaches a label."""
        try:
            label = Label.of(payload)
        except (ValueError, RecursionError) as error:
            self._drops.add("bad_label", detail=f"{error}; found {payload[:80]!r}")
            return
        self._writer.write(label)

    def facts(self) -> dict[str, Any]:
        """For `edged status`."""
        return {**self._writer.done(), "left_out": self.choice.left_out, "dropped": self._writer.lost()}

    def _said(self, result: Result, now: int) -> msgspec.Raw:
        assert self._encode is not None
        body, is_open = self._encode(result, now)
        said = body + b"}" if is_open else body
        return msgspec.Raw(said if len(said) <= MAX_RESULT else b'{"is_too_large":true}')


class _Writer:
    """Has recordings and labels written in a thread, one after another, or published. `send` takes what is published."""

    def __init__(self, name: str, plan: SamplesPlan, drops: Drops, published: PublishCounts) -> None:
        self._name = name
        self.send: Callable[[Message], object] | None = None
        self._plan = plan
        self._drops = drops
        self._published = published
        self._kept = 0
        self._labelled = 0
        self._clips: list[Clip] = []
        self._labels: list[Label] = []
        self._is_busy = False

    def take_over(self, old: _Writer) -> None:
        self._drops, self._published = old._drops, old._published
        self._kept, self._labelled = old._kept, old._labelled

    def take(self, clip: Clip) -> None:
        if sum(one.size for one in self._clips) + clip.size > self._plan.recent_bytes:
            self._drops.add("busy", detail="edged is still writing or sending earlier ones")
            return
        self._clips.append(clip)
        self._work()

    def write(self, label: Label) -> None:
        if len(self._labels) >= MAX_LABELS:
            self._drops.add("busy", detail="edged is still writing earlier ones")
            return
        self._labels.append(label)
        self._work()

    def done(self) -> dict[str, int]:
        return {"published": self._published.acked} if self._plan.topic else {"kept": self._kept, "labelled": self._labelled}

    def lost(self) -> dict[str, int]:
        return {**self._drops.by_reason, **self._published.drops.by_reason}

    def _work(self) -> None:
        if self._is_busy or not (self._clips or self._labels):
            return
        self._is_busy = True
        clips, labels = self._clips[:], self._labels[:]
        done = start_one_shot_thread("edged-samples", partial(_worked, self._plan, clips, labels), lambda _: None)
        done.add_done_callback(partial(self._on_worked, len(clips), len(labels)))

    def _on_worked(self, clips: int, labels: int, done: asyncio.Future[_Done]) -> None:
        self._is_busy = False
        del self._clips[:clips]
        del self._labels[:labels]
        if done.cancelled():
            return
        found = done.result()
        self._kept += found.kept
        self._labelled += found.labelled
        for reason, detail in found.lost:
            self._drops.add(reason, detail=detail)
        if found.removed:
            log.info("samples_removed", pipeline=self._name, count=found.removed, reason="samples.max_bytes")
        for body in found.bodies:
            self._published.made += 1
            message = Message(self._plan.topic.encode(), body, qos=1, account=self._published, is_reply=True)
            assert self.send is not None
            self.send(message)
        self._work()


class _Done(NamedTuple):
    kept: int
    labelled: int
    removed: int
    bodies: Sequence[bytes]
    lost: Sequence[tuple[str, str]]


def _worked(plan: SamplesPlan, clips: Sequence[Clip], labels: Sequence[Label]) -> _Done:
    """Makes recordings, and keeps them where they are kept. Blocks."""
    kept = labelled = removed = 0
    bodies: list[bytes] = []
    lost: list[tuple[str, str]] = []
    for clip in clips:
        files = [(root.source, recording_of(root, arrivals, clip)) for root, arrivals in clip.arrivals]
        if plan.topic:
            bodies += [data for _, data in files]
            continue
        named = [(clip.named.file(source if len(files) > 1 else ""), data) for source, data in files]
        try:
            removed += keep(plan.folder, named, plan.max_bytes)
            kept += 1
        except ValueError as error:
            lost.append(("too_large", str(error)))
        except OSError as error:
            lost.append(("disk", f"{plan.folder}: {error.strerror or error}"))
    for label in labels:
        try:
            attach(plan.folder, label.run, label.seq, label.label, plan.max_bytes)
            labelled += 1
        except Unknown as error:
            lost.append(("unknown_label", str(error)))
        except (OSError, ValueError) as error:
            lost.append(("disk", f"{plan.folder}: {error}"))
    return _Done(kept, labelled, removed, bodies, lost)


def recording_of(root: RootPlan, arrivals: Sequence[Arrival], clip: Clip) -> bytes:
    """A whole recording of what came in of one source, whose clocks stand at the first of it."""
    start = arrivals[0].time
    header = Header(root.kind, root.source, start, start + clip.offset, clip.sample)
    records = (record_of(root.kind, Record(one.time - start, one.topic, one.data)) for one in arrivals)
    return b"".join([head_of(header), *records])
