"""The table of protocols: one row each. A new one is a file beside this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from edged.late import Late
from edged.model.remote.records import Answer, RemotePlan, Reply, Request, Wanted
from edged.notation.units import KIB, MIB


class Speaks(Protocol):
    """Pure: rows to requests, replies to answers, which raise NoAnswer."""

    def question(self) -> Request | None:
        """What is to be asked of the peer before the first row, if anything is to be known of it."""

    def learn(self, reply: Reply) -> None:
        """The answer to that."""

    def request(self, wanted: Wanted) -> Request: ...

    def read(self, reply: Reply) -> Answer: ...

    def refused(self, request: Request) -> bool:
        """The peer did not take a request. Whether the same row may be taken in the next form."""


class Kind(msgspec.Struct, frozen=True):
    make: Late[Callable[[RemotePlan], Speaks]]
    max_bytes: int
    gives_text: bool = False


PROTOCOLS: dict[str, Kind] = {
    "kserve": Kind(Late("edged.model.remote.kserve:KServe"), 4 * MIB),
    "http": Kind(Late("edged.model.remote.plain:Plain"), 256 * KIB),
    "openai": Kind(Late("edged.model.remote.openai:OpenAi"), 256 * KIB, gives_text=True),
}
