"""Plays one test: the parts that the daemon would run, without broker, port or clock.

    inputs, each at its time --feed--> the source's decoder and stamper, or the router of its broker
    --> pipelines, models, publishes: those of `daemon.build`, wired by `daemon.connect` --> `Caught`, in the place of each link

Models run on the loop: in virtual time a thread would take no time, or for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from msgspec.structs import replace
from structlog.testing import capture_logs

from edged.config import schema
from edged.daemon.assembly import Assembly
from edged.daemon.build import assemble
from edged.daemon.connect import connect
from edged.decode import PayloadDecoder, make_payload_decoder
from edged.decode.stream import StreamDecoder, make_stream_decoder
from edged.model.runner import Loaded
from edged.mqtt.link import Link
from edged.notation.words import found_among
from edged.pipeline.fan_out import fan_out
from edged.plan.records import Plan
from edged.records import NONE, Message, Rows
from edged.sources.counts import stamped
from edged.sources.kind import Reader
from edged.sources.kinds import kind_of
from edged.sources.mqtt import MqttSource
from edged.sources.recording import read_header, read_records
from edged.sources.shared import SharedPort
from edged.telemetry import Drops
from edged.testing.cases import Case, Input
from edged.testing.virtual import BEGIN_NS, VirtualClock, VirtualLoop, in_virtual_time

TURNS = 20
"""Turns of the loop in which an input comes as far as it can without any time: to the model, to what follows it, and out."""
WRITTEN = "port."
"""Before the name of a port: where a test finds what a behaviour wrote, as a `data` text."""
READ_BYTES = 64 * 1024
"""A file is fed in such pieces."""


class Published(NamedTuple):
    """What left. `format` is that of its `publish` entry; `at_ns` virtual time since the test began."""

    topic: str
    payload: bytes
    format: str
    at_ns: int


class Lost(NamedTuple):
    """What was dropped: where, why, how many, and what was said of the first."""

    where: str
    reason: str
    times: int
    detail: str


class Outcome(NamedTuple):
    """What came of one test."""

    published: tuple[Published, ...]
    lost: tuple[Lost, ...]


class Given(NamedTuple):
    """One thing that comes in, at its time. `topic` is empty where bytes come from a port; `number` is its place in `input`."""

    at_ns: int
    source: str
    topic: str
    data: bytes
    number: int


class Misfit(Exception):
    """An input that the configuration has no place for. `number` is its place in `input`, None for the test's own source."""

    def __init__(self, text: str, number: int | None = None) -> None:
        super().__init__(text)
        self.number = number


def play(plan: Plan, loaded: Mapping[str, Loaded], case: Case) -> Outcome:
    """What comes of a test. Raises Misfit."""
    inputs = sorted(_given(plan, case), key=lambda one: one.at_ns)
    loop = VirtualLoop()
    inline = {name: one._replace(report=replace(one.report, run="inline")) for name, one in loaded.items()}
    pipelines = {name: replace(p, samples=None) for name, p in plan.pipelines.items()}  # nothing is kept of what is made up
    with capture_logs() as said:
        return in_virtual_time(
            _play(replace(plan, spool=None, pipelines=pipelines), inline, case, inputs, VirtualClock(loop), said), loop
        )


async def _play(
    plan: Plan, loaded: Mapping[str, Loaded], case: Case, inputs: Sequence[Given], clock: VirtualClock, said: Sequence[Any]
) -> Outcome:
    sent: list[tuple[Message, int]] = []
    assembly = assemble(plan, loaded, clock, structlog.get_logger("edged"), link=partial(_Caught, sent))
    connect(assembly)
    for remote in assembly.remotes.values():
        remote.ask_nobody("a test asks nobody elsewhere; a fallback would answer")
    feeds = _feeds(assembly, {one.source for one in inputs}, clock)
    for actor in assembly.behaviours.values():
        actor.connect(replace(actor.reach, ports={port: _Written(port, sent, clock) for port in actor.reach.ports}))
        actor.start()
    made = asyncio.ensure_future(_made_up(assembly, case.source)) if case.source not in feeds else None
    for one in inputs:
        await asyncio.sleep((BEGIN_NS + one.at_ns - clock.now()) / 1e9)
        feeds[one.source].take(one)
        for _ in range(TURNS):
            await asyncio.sleep(0)
    for name in feeds:
        if kind_of(plan.sources[name].settings).has_own_clock(plan.sources[name].settings):
            assembly.let_out(name)  # its end
    await asyncio.sleep(case.wait / 1e9)
    if made is not None:
        made.cancel()
    published = tuple(_published(assembly, message, at) for message, at in sent)
    lost = tuple(_lost(assembly, said))
    await asyncio.gather(*(actor.stop() for actor in assembly.behaviours.values()))  # what they do last is no part of it
    assembly.close()
    return Outcome(published, lost)


class _Caught(Link):
    """Stands where a link to a broker would: whatever is sent has arrived."""

    def __init__(self, sent: list[tuple[Message, int]], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._sent = sent

    def send(self, message: Message) -> None:
        self._sent.append((message, self.clock.now()))
        if message.account is not None:
            message.account.acked += 1
        message.end()


def _feeds(assembly: Assembly, names: Set[str], clock: VirtualClock) -> dict[str, _Feed | _PortFeed]:
    """The way into each source; those that share a port have one way."""
    ports = {name: _PortFeed(assembly, port, clock) for name, port in assembly.ports.items() if isinstance(port, SharedPort)}
    return {name: ports.get(assembly.plan.sources[name].port) or _Feed(assembly, name, clock) for name in names}


class _PortFeed:
    """The way into a port that several sources share."""

    def __init__(self, assembly: Assembly, port: SharedPort, clock: VirtualClock) -> None:
        members = assembly.plan.ports[port.name].members
        lose = {one.name: assembly.sources[one.name].counts.lose for one in members}
        self._pushes = {name: partial(fan_out, assembly.consumers[name], lose[name]) for name in lose}
        self._port = port
        self._read = assembly.tail.around(self._take_in)
        self._clock = clock
        self._silence = _Silence(assembly.plan.ports[port.name].settings.frame.gap, partial(self._read, b""))

    def take(self, one: Given) -> None:
        for data in _reads(one.data):
            self._read(data)
        self._silence.begin()

    def _take_in(self, data: bytes) -> None:
        self._port.take_in(data, self._clock.now(), self._pushes)


class _Silence:
    """When nothing has come in for a while, a block that only a silence ends has ended."""

    def __init__(self, gap_ns: int | None, end: Callable[[], None]) -> None:
        self._gap_ns = gap_ns
        self._end = end
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._gap_ns is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._gap_ns / 1e9, self._end)


class _Written:
    """Stands where a port would that behaviours write to."""

    def __init__(self, port: str, sent: list[tuple[Message, int]], clock: VirtualClock) -> None:
        self._topic = f"{WRITTEN}{port}".encode()
        self._sent = sent
        self._clock = clock

    async def write(self, data: bytes, limit_s: float) -> None:
        self._sent.append((Message(self._topic, data), self._clock.now()))


class _Feed:
    """The way into one source."""

    def __init__(self, assembly: Assembly, name: str, clock: VirtualClock) -> None:
        p = assembly.plan.sources[name]
        self._assembly = assembly
        self._name = name
        self._clock = clock
        self._is_mqtt = isinstance(assembly.sources[name], MqttSource)
        assert p.decode is not None
        self._broker = p.broker or ""
        frames = kind_of(p.settings).frames
        self._decode = _stream(make_stream_decoder(p.decode)) if frames is not None else _payloads(make_payload_decoder(p.decode))
        self._read = assembly.tail.around(self._take_in)
        self._silence = _Silence(frames(p.settings)[0].gap if frames is not None else None, partial(self._read, b""))
        self._stamper = assembly.stampers[name]

    def take(self, one: Given) -> None:
        """Raises Misfit where no source takes the topic."""
        if self._is_mqtt:
            return self._message(one)
        for data in _reads(one.data):
            self._read(data)
        self._silence.begin()

    def _message(self, one: Given) -> None:
        router, counts = self._assembly.routers[self._broker], self._assembly.sources[self._name].counts
        before = counts.messages
        message = (one.topic.encode(), one.data, 1, False, (), NONE, b"")
        self._assembly.tail.around(router.on_publishes)([message])
        if counts.messages == before:
            filters = ", ".join(getattr(self._assembly.plan.sources[self._name].settings, "topic", ()))
            raise Misfit(
                f"the source {self._name} gets nothing from the topic {one.topic}; it subscribes to {filters}", one.number
            )

    def _take_in(self, data: bytes) -> None:
        """Of nothing: a silence."""
        clock, counts = self._clock, self._assembly.sources[self._name].counts
        arrival = counts.last_arrival = clock.now()
        counts.bytes += len(data)
        rows = self._decode(data)
        block = stamped(rows, self._stamper, counts, arrival, clock.offset(), True) if rows is not None else None
        if block is not None:
            fan_out(self._assembly.consumers[self._name], counts.lose, block)


def _reads(data: bytes) -> Iterator[bytes]:
    """What a port would give at once."""
    for start in range(0, len(data), READ_BYTES):
        yield data[start : start + READ_BYTES]


def _stream(decoder: StreamDecoder) -> Callable[[bytes], Rows | None]:
    """Each input is a piece of what comes; nothing stands for a silence."""
    return lambda data: decoder.feed(data) if data else decoder.quiet()


def _payloads(decoder: PayloadDecoder) -> Callable[[bytes], Rows | None]:
    """Each input is one: of Modbus the address of the unit, then the registers of each field."""
    return lambda data: decoder.decode([data])


async def _made_up(assembly: Assembly, name: str) -> None:
    """A source that makes its samples itself runs as it is."""
    source = assembly.sources[name]
    if isinstance(assembly.plan.sources[name].settings, schema.MadeSource):
        reader: Reader = source  # type: ignore[assignment]
        await reader.run(assembly.tail.around(partial(fan_out, assembly.consumers[name], source.counts.lose)))


def _given(plan: Plan, case: Case) -> Iterator[Given]:
    if case.source not in plan.sources:
        raise Misfit(f"expected a source of the configuration, {found_among(case.source, tuple(plan.sources))}")
    due = 0
    for number, one in enumerate(case.input):
        due = one.at if one.at is not None else due
        name = one.source or case.source
        if name not in plan.sources:
            raise Misfit(f"expected a source of the configuration, {found_among(name, tuple(plan.sources))}", number)
        settings = plan.sources[name].settings
        if isinstance(settings, schema.MadeSource):
            raise Misfit(f"the source {name} is of the type {settings.type}, which takes no input", number)
        for since_ns, topic, data in _pieces(one, settings, number):
            topic = topic or one.topic or case.topic or ""
            if isinstance(settings, schema.MqttSource) and not topic:
                raise Misfit(f"the source {name} is of the type mqtt: say the topic of the message", number)
            yield Given(due + since_ns, name, topic, data, number)
        due += case.every


def _pieces(one: Input, settings: Any, number: int) -> Iterator[tuple[int, str, bytes]]:
    """What comes in by one input: ns since it began, topic, bytes."""
    try:
        if one.recording is not None:
            yield from _records(one.recording, number)
        elif one.file is not None:
            yield 0, "", one.file.read_bytes()
        else:
            yield 0, "", _ended(one.data or b"", settings)
    except OSError as error:
        raise Misfit(f"{error.filename}: {(error.strerror or str(error)).lower()}", number) from None


def _records(path: Path, number: int) -> Iterator[tuple[int, str, bytes]]:
    with path.open("rb") as file:
        try:
            header = read_header(file)
        except ValueError as error:
            raise Misfit(f"{path}: {error}", number) from None
        if header is None:
            raise Misfit(f"{path} is no recording of `edged record`; a plain file is given by `file`", number)
        for record in read_records(file, header.kind):
            yield record.since_ns, record.topic.decode(errors="replace"), record.data


def _ended(data: bytes, settings: Any) -> bytes:
    """A line of a stream may be written without its end."""
    frame: schema.Frame | None = getattr(settings, "frame", None)
    if frame is None or frame.type != "line" or frame.end is None or data.endswith(frame.end):
        return data
    return data + frame.end


def _published(assembly: Assembly, message: Message, at: int) -> Published:
    body = message.body
    if message.is_json and message.arrival:
        body += b',"age_ms":%.3f}' % ((at - message.arrival) / 1e6)
    entries = (
        (account, publish.settings.format)
        for name, accounts in assembly.publishes.items()
        for account, publish in zip(accounts, assembly.plan.pipelines[name].publishes, strict=True)
    )
    format = next((format for account, format in entries if account is message.account), "json" if message.account else "data")
    return Published(message.topic.decode(), body, format, at - BEGIN_NS)


def _lost(assembly: Assembly, said: Sequence[Mapping[str, Any]]) -> Iterator[Lost]:
    places: list[tuple[str, Drops]] = [(f"source.{n}", s.counts.drops) for n, s in assembly.sources.items()]
    places += [(f"port.{n}", p.counts.drops) for n, p in assembly.ports.items()]
    places += [(f"pipeline.{n}", p.counts.drops) for n, p in assembly.pipelines.items()]
    places += [
        (f"pipeline.{n}.publish[{i}]", one.drops) for n, accounts in assembly.publishes.items() for i, one in enumerate(accounts)
    ]
    places += [
        (f"behaviour.{n}", drops) for n, a in assembly.behaviours.items() for drops in (a.counts.drops, a.counts.messages.drops)
    ]
    places += [(f"broker.{n}", router.drops) for n, router in assembly.routers.items()]
    for where, drops in places:
        for reason, times in drops.by_reason.items():
            mine = (str(one.get("detail", "")) for one in said if (one.get("where"), one.get("reason")) == (where, reason))
            yield Lost(where, reason, times, next(mine, ""))
    for name, pipeline in assembly.pipelines.items():
        for reason, times in pipeline.aligner.dropped.items() if pipeline.aligner is not None else ():
            if times:
                yield Lost(f"pipeline.{name}.align", reason, times, "")
