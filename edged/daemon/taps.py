"""What passes, shown to whoever looks: `edged tap`.

A tap is hooked into the parts that it looks at, and nowhere while nobody looks. It keeps a bounded number of lines and makes no
more of them than a person or a script can read; what passed unseen is counted and said. A reload hooks it in again.

raw       bytes as they came (on the port, if several sources share it), before anything was made of them, and what was refused
decoded   samples of a source, with their key and time, and what was refused
window    what a model was run on, and what it gave
result    results, as they are published
"""

from __future__ import annotations

import asyncio
import base64
import math
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
import numpy as np
import structlog
from msgspec.structs import replace
from numpy.typing import NDArray

from edged.clock.clock import Clock
from edged.daemon.assembly import Assembly
from edged.notation.words import found_among
from edged.pipeline.pipeline import Pipeline
from edged.records import Block, Field, Reject, Result, Slot
from edged.results.encode import Encoder, make_encoder
from edged.sources.counts import Arrival, Watch

STAGES = ("raw", "decoded", "window", "result")
OF_SOURCES = ("raw", "decoded")
MAX_TAPS = 4
MAX_LINES = 256
"""That wait for whoever looks."""
PER_SECOND = 500
"""Lines that are made; what comes faster is counted."""
MAX_NUMBERS = 64
"""Of one field that are shown; of more, what they are like."""
MAX_BYTES = 1024

log: Any = structlog.get_logger("edged")
Line = dict[str, Any]
Arrays = dict[str, NDArray[Any]]


class Asked(NamedTuple):
    """What somebody wants to see; `key` None: of all sensors."""

    stream: str
    stage: str
    key: str | None


class Taps:
    """All taps of a daemon. `adopt` after every reload."""

    def __init__(self, assembly: Assembly, clock: Clock) -> None:
        self._assembly = assembly
        self._clock = clock
        self._open: list[_Tap] = []

    def adopt(self, assembly: Assembly) -> None:
        """Looks at these parts from now on."""
        for tap in self._open:
            tap.unhook(self._assembly)
        self._assembly = assembly
        for tap in self._open:
            tap.hook(assembly)

    def answer(self, request: dict[str, Any]) -> Line | AsyncGenerator[Line, None]:
        """What was asked for over the socket: lines, or why there are none."""
        try:
            asked = _asked(self._assembly, request)
        except ValueError as error:
            return {"ok": False, "errors": [str(error)]}
        if len(self._open) >= MAX_TAPS:
            return {"ok": False, "errors": [f"{MAX_TAPS} other taps run already"]}
        return self._lines(_Tap(asked, self._clock))

    async def _lines(self, tap: _Tap) -> AsyncGenerator[Line, None]:
        self._open.append(tap)
        tap.hook(self._assembly)
        log.info("tap_opened", stream=tap.asked.stream, stage=tap.asked.stage)
        try:
            yield {"ok": True, **tap.asked._asdict()}
            while not tap.is_over:
                async for line in tap.lines():
                    yield line
        finally:
            self._open.remove(tap)
            tap.unhook(self._assembly)
            log.info("tap_closed", stream=tap.asked.stream, stage=tap.asked.stage)


def _asked(a: Assembly, request: dict[str, Any]) -> Asked:
    """Raises ValueError, with a text for a person."""
    stream, stage, key = str(request.get("stream")), request.get("stage"), request.get("key")
    if stream not in a.sources and stream not in a.pipelines:
        raise ValueError(f"expected a source or a pipeline, {found_among(stream, (*a.sources, *a.pipelines))}")
    is_source = stream in a.sources
    if stage is None:
        stage = "decoded" if is_source else "result"
    if stage not in STAGES:
        raise ValueError(f"stage: expected one of {', '.join(STAGES)}, found {stage!r}")
    if is_source and stage not in OF_SOURCES:
        readers = ", ".join(n for n, p in a.plan.pipelines.items() if stream in p.sources) or "none"
        raise ValueError(f"{stage} is a stage of a pipeline, and {stream} is a source; pipelines that read it: {readers}")
    if not is_source and stage in OF_SOURCES:
        raise ValueError(
            f"{stage} is a stage of a source, and {stream} is a pipeline; it reads {', '.join(a.plan.pipelines[stream].sources)}"
        )
    return Asked(stream, stage, None if key is None else str(key))


class _Tap:
    """One who looks. What is hooked in is called by the parts, and makes lines; `lines` hands them out."""

    def __init__(self, asked: Asked, clock: Clock) -> None:
        self.asked = asked
        self.is_over = False
        self._clock = clock
        self._waiting: deque[Line] = deque()
        self._news = asyncio.Event()
        self._left_out = 0
        self._second = self._made = 0
        self._names: Any = None
        self._fields: Sequence[Field] = ()
        self._encode: Encoder | None = None

    def hook(self, a: Assembly) -> None:
        name, stage = self.asked.stream, self.asked.stage
        if name not in (a.sources if stage in OF_SOURCES else a.pipelines):
            self._waiting.append({"end": f"a reload removed {name}"})
            self.is_over = True
            self._news.set()
            return
        if stage in OF_SOURCES:
            source = a.plan.sources[name]
            self._fields = source.fields
            self._names = a.keys[source.key_group].names if source.key_names else None
            for watch in _watches(a, name, stage):
                watch.on_rejects = (*watch.on_rejects, self._on_rejects)
                if stage == "raw":
                    watch.on_raw = (*watch.on_raw, self._on_raw)
            if stage == "decoded":
                a.consumers[name].append(self._on_block)
            return
        plan, pipeline = a.plan.pipelines[name], a.pipelines[name]
        self._names = a.keys[plan.key_group].names if plan.keys else None
        self._encode = make_encoder(a.envelopes[name], ())
        if stage == "window":
            pipeline.connect(replace(pipeline.wiring, viewers=(*pipeline.wiring.viewers, self._on_run)))
        else:
            pipeline.connect(replace(pipeline.wiring, tellers=(*pipeline.wiring.tellers, self._on_result)))

    def unhook(self, a: Assembly) -> None:
        name = self.asked.stream
        if name in a.sources:
            for watch in _watches(a, name, self.asked.stage):
                watch.on_rejects = _without(watch.on_rejects, self._on_rejects)
                watch.on_raw = _without(watch.on_raw, self._on_raw)
            with suppress(ValueError):
                a.consumers[name].remove(self._on_block)
        elif name in a.pipelines:
            _unhook(a.pipelines[name], self)

    async def lines(self) -> AsyncGenerator[Line, None]:
        """What has come, as soon as anything has."""
        await self._news.wait()
        self._news.clear()
        while self._waiting:
            yield self._waiting.popleft()
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            yield {"left_out": left_out}

    # ---- called by the parts ----

    def _has_room(self, count: int) -> int:
        """How many of so many lines may be made now; the others are counted."""
        second = self._clock.now() // 10**9
        if second != self._second:
            self._second, self._made = second, 0
        room = max(0, min(count, PER_SECOND - self._made, MAX_LINES - len(self._waiting)))
        self._made += room
        self._left_out += count - room
        if room:
            self._news.set()
        return room

    def _on_raw(self, one: Arrival) -> None:
        key = "/".join(one.captures)
        if key and self.asked.key not in (None, key):
            return
        if self._has_room(1):
            self._waiting.append({"stage": "raw", "key": key or None, **shown_bytes(one.data)})

    def _on_rejects(self, rejects: Sequence[Reject]) -> None:
        for one in rejects[: self._has_room(len(rejects))]:
            more = {"reason": one.reason, "detail": one.detail, "times": one.times}
            self._waiting.append({"stage": "rejected", **more, **shown_bytes(one.data)})

    def _on_block(self, block: Block) -> None:
        rows: Sequence[int] = range(len(block))
        if self.asked.key is not None:
            rows = self._mine([block.keys] * len(block) if isinstance(block.keys, int) else block.keys.tolist())
        for i in rows[: self._has_room(len(rows))]:
            row = block.values[i]
            key = block.keys if isinstance(block.keys, int) else int(block.keys[i])
            line: Line = {"stage": "decoded", "time": (int(block.time[i]) + block.offset) / 1e9, "key": self._name(key)}
            line["values"] = {f.name: shown_numbers(row[f.start : f.stop], f.shape) for f in self._fields}
            if block.degraded is not None and block.degraded[i]:
                line["degraded"] = True
            self._waiting.append(line)

    def _on_run(self, slots: list[Slot], outputs: Arrays, inputs: Arrays) -> None:
        rows = self._mine([slot.key for slot in slots])
        for i in rows[: self._has_room(len(rows))]:
            ends = {
                side: {name: shown_numbers(x[i].ravel(), x.shape[1:]) for name, x in arrays.items()}
                for side, arrays in (("inputs", inputs), ("outputs", outputs))
            }
            self._waiting.append({"stage": "window", "time": slots[i].time / 1e9, "key": self._name(slots[i].key), **ends})

    def _on_result(self, result: Result, now: int) -> None:
        if self.asked.key not in (None, self._name(result.key)) or not self._has_room(1):
            return
        assert self._encode is not None
        body, is_open = self._encode(result, now)
        facts = msgspec.json.decode(body + b"}" if is_open else body)
        line = {"stage": "result", "time": result.time / 1e9, "key": self._name(result.key)}
        line["result"] = _bounded(facts)
        self._waiting.append(line)

    def _mine(self, keys: list[int]) -> list[int]:
        """The rows of the sensor that is looked at."""
        wanted = self.asked.key
        return [i for i, key in enumerate(keys) if wanted is None or self._name(key) == wanted]

    def _name(self, key: int) -> str | None:
        return None if self._names is None else "/".join(self._names(key))


def _watches(a: Assembly, name: str, stage: str) -> list[Watch]:
    """Where the inputs of a source are seen: bytes that come on a port that it shares are seen there."""
    shared = [a.ports[port].counts for port, p in a.plan.ports.items() if any(member.name == name for member in p.members)]
    return [counts.watch for counts in (a.sources[name].counts, *(shared if stage == "raw" else ()))]


def _without(takers: tuple[Any, ...], one: Any) -> tuple[Any, ...]:
    return tuple(taker for taker in takers if taker != one)


def _unhook(pipeline: Pipeline, tap: _Tap) -> None:
    wiring = pipeline.wiring
    tellers, viewers = _without(tuple(wiring.tellers), tap._on_result), _without(tuple(wiring.viewers), tap._on_run)
    pipeline.connect(replace(wiring, tellers=tellers, viewers=viewers))


def shown_bytes(data: bytes) -> Line:
    """The first of them, and how many there are."""
    return {"bytes": len(data), "data": base64.b64encode(data[:MAX_BYTES]).decode()}


def shown_numbers(row: NDArray[Any], shape: Sequence[int]) -> Any:
    """A field or a tensor of one row: its numbers, or what they are like where there are many. What is not finite is None."""
    if row.dtype.kind not in "biuf":
        return [str(value)[:MAX_BYTES] for value in row[:MAX_NUMBERS].tolist()]
    if row.size <= MAX_NUMBERS:
        values = [_finite(value) for value in row.tolist()]
        return values if shape else values[0] if values else None
    finite = row[np.isfinite(row)] if row.dtype.kind == "f" else row
    said: Line = {"shape": list(shape) or [row.size], "first": [_finite(value) for value in row[:8].tolist()]}
    if finite.size:
        said |= {"min": float(finite.min()), "mean": float(finite.mean()), "max": float(finite.max())}
    return said | ({"not_finite": int(row.size - finite.size)} if finite.size < row.size else {})


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _bounded(result: Any) -> Any:
    """A result, its long lists cut."""
    if isinstance(result, dict):
        return {name: _bounded(value) for name, value in result.items()}
    if isinstance(result, list) and len(result) > MAX_NUMBERS:
        return {"length": len(result), "first": result[:8]}
    return result
