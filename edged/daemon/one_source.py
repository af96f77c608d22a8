"""One source of a configuration by itself, live or from a recording, for commands that look at what it says: no other part of the
configuration runs, nothing is published, and the daemon that may run beside is not disturbed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import structlog
from msgspec.structs import replace

from edged.clock.clock import Clock
from edged.config.load import Draft
from edged.config.schema import DecodedSource, Frame, Health, HomeAssistant, MqttSource, Pipeline, ReplaySource, Spool
from edged.daemon.assembly import Assembly
from edged.daemon.build import assemble
from edged.daemon.connect import connect
from edged.daemon.prepare import Prepared
from edged.daemon.supervisor import supervise
from edged.errors import Fatal
from edged.model.runner import Loaded
from edged.model.store import scratch
from edged.notation.words import found_among
from edged.pipeline.fan_out import fan_out
from edged.records import NONE, Block, Result
from edged.sources.recording import MAX_BYTES, Header, read_header, read_records
from edged.sources.sample_files import samples_in
from edged.system.plain_file import opened_plain

LOOK_S = 0.005
TOGETHER = 32
"""Messages of a recording between two turns of the loop: what they make runs in batches."""
DISTURBS_NOBODY = {"session_expiry_s": 0, "status_topic": ""}


def sources_of(draft: Draft, name: str) -> Any:
    """The settings of a source. Raises Fatal."""
    found = draft.config.source.get(name)
    if found is None:
        raise Fatal(f"{draft.path}: expected the name of a source, {found_among(name, tuple(draft.config.source))}")
    return found


def alone(draft: Draft, source: str, pipelines: Mapping[str, Pipeline], recording: Path | None = None) -> Draft:
    """The draft with this source and these pipelines and nothing else that runs. With a `recording` the source is what the file
    says; one of MQTT messages stays an MQTT source, whose messages `play` brings. Raises Fatal."""
    config = draft.config
    settings = sources_of(draft, source)
    if recording is not None:
        settings = _played(settings, recording)
    if isinstance(settings, DecodedSource):
        settings = msgspec.structs.replace(settings, rejects=None)  # nothing is published
    models = {p.model: config.model[p.model] for p in pipelines.values() if p.model is not None}
    models |= {m.fallback: config.model[m.fallback] for m in models.values() if m.fallback is not None}
    own = {name: msgspec.structs.replace(p, samples=None) for name, p in pipelines.items()}
    silent = Health(broker=())
    only = msgspec.structs.replace(
        config,
        source={source: settings},
        pipeline=own,
        model=models,
        spool=Spool(mode="off"),
        health=silent,
        homeassistant=HomeAssistant(),
    )
    return replace(draft, config=only, problems=(), copy=draft.copy)


def _played(settings: Any, recording: Path) -> DecodedSource:
    header = recorded(recording)
    if isinstance(settings, MqttSource) and (header is None or header.kind != "mqtt"):
        raise Fatal(f"{recording}: expected a recording of MQTT messages (edged record), as the source is one of MQTT")
    if isinstance(settings, MqttSource):
        return msgspec.structs.replace(settings, qos=1, retained=True, reply=())
    if not isinstance(settings, DecodedSource):
        raise Fatal(f"{recording}: a {settings.type} source makes its samples itself and has no recordings")
    common = {name: getattr(settings, name) for name in DecodedSource.__struct_fields__}
    more = {name: getattr(settings, name) for name in ("frame", "checksum", "max_bytes") if hasattr(settings, name)}
    return ReplaySource(**{"frame": Frame(), **common, **more}, path=recording.absolute(), speed=0.0)


def recordings_at(path: Path) -> list[Path]:
    """A recording, or all of those that were kept in a folder (`samples`). Raises Fatal."""
    if not path.is_dir():
        return [path]
    if found := samples_in(path):
        return found
    raise Fatal(f"{path}: holds no recordings (*.rec)")


def recorded(path: Path) -> Header | None:
    """The header of a recording, None of a plain file. Raises Fatal."""
    with _opened(path) as file:
        return read_header(file)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with opened_plain(path, MAX_BYTES) as (fd, _), open(fd, "rb", closefd=False) as file:
            yield file
    except FileNotFoundError:
        raise Fatal(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise Fatal(f"{path}: {getattr(error, 'strerror', None) or error}") from None


class _RecordedClock(Clock):
    """The clock of a recording: it stands at the record that is played."""

    def __init__(self, header: Header) -> None:
        super().__init__()
        self.header = header
        self.since = 0
        self.now = lambda: header.monotonic_ns + self.since
        self.utc = lambda: header.utc_ns + self.since


class OneSource:
    """The parts of a plan that `alone` led to. `push` gets its blocks, `tell` the results of its pipelines."""

    def __init__(
        self,
        prepared: Prepared,
        loaded: Mapping[str, Loaded],
        source: str,
        recording: Path | None,
        push: Sequence[Callable[[Block], None]] = (),
        tell: Callable[[Result, int], object] | None = None,
        keeps_consumers: bool = True,
    ) -> None:
        self._name = source
        self._recording = recording
        self._header = recorded(recording) if recording is not None else None
        self._is_mqtt = self._header is not None and self._header.kind == "mqtt"
        self._clock = _RecordedClock(self._header) if self._header is not None and self._is_mqtt else Clock()
        plan = prepared.plan
        suffix = {n: replace(x.apart, client_id=f"{x.client_id}-beside", **DISTURBS_NOBODY) for n, x in plan.links.items()}
        plan = replace(plan, links=suffix, state_dir=scratch())
        self.assembly: Assembly = assemble(plan, loaded, self._clock, structlog.get_logger("edged"), run="00000000")
        connect(self.assembly)
        consumers = self.assembly.consumers[source]
        consumers[:] = [*push, *(consumers if keeps_consumers else ())]
        for pipeline in self.assembly.pipelines.values():
            if tell is not None:
                pipeline.connect(replace(pipeline.wiring, tellers=(tell,)))

    @property
    def condition(self) -> tuple[str, str]:
        """How the source is: its state and the reason, as health has them."""
        source = self.assembly.sources[self._name]
        if (broker := self.assembly.plan.sources[self._name].broker) is not None and not self._is_mqtt:
            link = self.assembly.links[broker]
            return link.state, link.reason
        return getattr(source, "state", ""), getattr(source, "reason", "")

    def key(self, key: int) -> str:
        """The name of a key, empty where there are none."""
        plan = self.assembly.plan.sources[self._name]
        return "/".join(self.assembly.keys[plan.key_group].names(key)) if plan.key_names else ""

    async def run(self) -> None:
        """Until the recording is at its end and all of it was run; live: until it is cancelled. Raises Fatal."""
        try:
            if self._is_mqtt:
                await self._play()
            else:
                await self._serve()
            for model in self.assembly.models.values():
                model.hurry()
            while any(p.is_busy for p in self.assembly.pipelines.values()):  # noqa: ASYNC110 (as at a stop of the daemon)
                await asyncio.sleep(LOOK_S)
        finally:
            self.assembly.close()

    async def _serve(self) -> None:
        assembly = self.assembly
        readers = assembly.readers
        if self._name not in readers:
            await asyncio.gather(*(link.run() for link in assembly.links.values()))
            return
        reader = readers[self._name]

        def push(block: Block) -> None:
            fan_out(assembly.consumers[self._name], reader.counts.lose, block)

        await supervise(reader, assembly.tail.around(push), self._clock)

    async def _play(self) -> None:
        assert self._recording is not None
        assert isinstance(self._clock, _RecordedClock)
        (router,) = (r for name, r in self.assembly.routers.items() if name == self.assembly.plan.sources[self._name].broker)
        flow = self.assembly.flows[self._name]
        hand_in = self.assembly.tail.around(router.on_publishes)
        with _opened(self._recording) as file:
            header = read_header(file)
            assert header is not None
            for count, record in enumerate(read_records(file, header.kind), 1):
                self._clock.since = record.since_ns
                hand_in([(record.topic, record.data, 1, False, (), NONE, b"")])
                if count % TOGETHER == 0:
                    await asyncio.sleep(0)
                if not flow.is_open:
                    await flow.wait()
