"""What a kind of source is: a row of the table in `kinds`, written down beside what opens and runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from edged.clock.clock import Clock
from edged.config.schema import Checksum, Frame, Source, UsbPort
from edged.decode import DecodePlan
from edged.decode.where import Condition
from edged.records import Block, Field
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.replies import Replies
from edged.stamp import KeyTable, Stamper, Thinning
from edged.system.hang_recorder import Stages
from edged.topics import TopicFilter

Push = Callable[[Block], None]


class Planned(Protocol):
    """The plan of a source. `filters` and `key_parts` are those of a subscription, empty where there is none."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Any: ...
    @property
    def decode(self) -> DecodePlan | None: ...
    @property
    def dtype(self) -> str: ...
    @property
    def broker(self) -> str | None: ...
    @property
    def filters(self) -> tuple[tuple[int, TopicFilter], ...]: ...
    @property
    def key_parts(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def port(self) -> str: ...
    @property
    def max_keys(self) -> int: ...
    @property
    def capture_where(self) -> tuple[tuple[int, Condition], ...]: ...


class Reader(Protocol):
    """A source with a task of its own. `state` and `reason` are what health says of it."""

    name: str
    counts: SourceCounts

    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...

    async def run(self, push: Push) -> None:
        """Pushes what comes in, for ever or to the end. Raises Retryable when it cannot go on, and is then run again."""


class PortReader(Protocol):
    """A port that several sources share. `state` and `reason` are what health says of it."""

    name: str
    counts: SourceCounts

    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...

    async def run(self, pushes: Mapping[str, Push]) -> None:
        """Pushes what comes in to the sources by name, for ever. Raises Retryable when it cannot go on, and is then run again."""


class Parts(msgspec.Struct, frozen=True):
    """What a source is built with, beside its plan."""

    stamper: Stamper
    flow: Flow
    counts: SourceCounts
    clock: Clock
    stages: Stages
    keys: KeyTable | None = None
    replies: Replies | None = None
    early: Thinning | None = None
    """Of a source whose topics tell which messages to leave out; else the stamper has it."""


class Report(Protocol):
    """Takes what is wrong with a source, or not as it should be, by key."""

    def wrong(self, key: str, text: str, at: str = "value") -> None: ...
    def warn(self, key: str, text: str, at: str = "value") -> None: ...


def _nothing(settings: Any) -> str:
    return ""


def _no_fields(settings: Any) -> tuple[Field, ...]:
    return ()


def _no(settings: Any) -> bool:
    return False


def _no_look(at: Report, settings: Any, ports: Callable[[], Sequence[str]]) -> None:
    pass


class Kind(msgspec.Struct, frozen=True):
    """One row.

    `settings` is the table of the file, `build` makes the source of a plan, and `describe` tells `edged check` where its samples
    come from. `look` reports what is not there now of what the settings name; it gets what lists the ports of this machine.
    `port` is the serial port that it opens, `frames` how its bytes are cut into frames, if they are. `made` are the fields of a
    source that decodes nothing.

    `share` makes the reader of a port that several sources of this kind share, from its name, its settings, what was built of
    those sources, its counts and the clock.

    `has_own_clock`: arrivals are those of a recording, whose clock is not ours. `is_played`: it begins again at each start, so
    that windows do too; `ends`: it is not for ever. `is_acknowledged`: its sender keeps each input until that is done with;
    `is_lossless`: none is lost while a pipeline holds it back; `unheld`: why an input cannot be held back, where that is the
    settings' fault. `recorded` is the kind of a recording of what comes in; empty where there is none.
    """

    settings: type[Source]
    build: Callable[[Any, Parts], Any]
    describe: Callable[[Any], str]
    look: Callable[[Report, Any, Callable[[], Sequence[str]]], None] = _no_look
    port: Callable[[Any], str | UsbPort] | None = None
    frames: Callable[[Any], tuple[Frame, Checksum]] | None = None
    made: Callable[[Any], tuple[Field, ...]] = _no_fields
    share: Callable[[str, Any, Sequence[Any], SourceCounts, Clock], PortReader] | None = None
    has_own_clock: Callable[[Any], bool] = _no
    is_played: bool = False
    ends: bool = False
    is_acknowledged: Callable[[Any], bool] = _no
    is_lossless: Callable[[Any], bool] = _no
    unheld: Callable[[Any], str] = _nothing
    recorded: str = ""
