"""The plan of a behaviour: frozen values, so that a reload can tell whether it may go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edged.notation.values import Function
from edged.records import Cap, Field
from edged.topics import Template, TopicFilter

Work = Callable[[Any], Awaitable[None]]
INSTANCE = 10 * 1024
"""Bytes of an instance that waits: its task, its coroutine, what it keeps."""
KEY_PART = "k_"
"""How the parts of `{key}` are called in what it may publish to."""


class Heard(msgspec.Struct, frozen=True):
    """A stream that it reads. `fields` are those of a source; empty for a pipeline, whose results have their own.
    `row_bytes` is what one row takes while it waits."""

    stream: str
    is_source: bool
    fields: tuple[Field, ...]
    row_bytes: int


class OnEnd(msgspec.Struct, frozen=True):
    """What is done when an instance ends: `topic` gets `value`, or `write` gets `data`."""

    topic: Template | None = None
    value: Any = None
    retain: bool = False
    write: str = ""
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class BehaviourPlan:
    """One `[behaviour.NAME]`. `digest` is that of the code that it uses. `publish` are the topics that it may publish to;
    captures named `k_0`, `k_1` and so on stand for the parts of its key. At most `instances` at a time, one without `per_key`."""

    name: str
    function: Function
    digest: str
    per_key: bool
    hears: tuple[Heard, ...]
    ask: tuple[str, ...]
    publish: tuple[TopicFilter, ...]
    broker: str
    write: tuple[str, ...]
    limits: tuple[Cap, ...]
    inbox: int
    overflow: str
    on_end: tuple[OnEnd, ...]
    instances: int
    work: Work | None = field(default=None, compare=False, repr=False)
    """The function itself, as it was loaded where that may take its time."""

    @property
    def waiting_bytes(self) -> int:
        """What waits in the inboxes of one instance, at most, with the newest of each stream."""
        return sum((self.inbox + 1) * heard.row_bytes for heard in self.hears)

    @property
    def where(self) -> str:
        return f"{self.function.path.name}:{self.function.name}"
