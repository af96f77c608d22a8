"""What a behaviour sees: `async def guard(me: Behaviour) -> None`. It imports nothing of edged: `import edged` stays light."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timezone
from typing import Any, Protocol


class Refused(Exception):
    """A behaviour did what its table does not allow; the text names the key to add."""


class Failed(Exception):
    """What a behaviour asked for could not be done. `code` is one word: `timeout`, `busy`, `no_result`, `unplugged` and so on."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.why = why


class Row:
    """A result, a sample, or an answer. Its fields are attributes (`row.score`) and members (`row["score"]`).

    `stream` is where it comes from, `key` whose it is (`""` without a key), `seq` its number (0 of a sample), `degraded` whether
    something in it was held or passed. `fields` has all fields by name.
    """

    __slots__ = ("degraded", "fields", "key", "seq", "stream", "time_ns")

    def __init__(
        self, stream: str, key: str, fields: Mapping[str, Any], time_ns: int, seq: int = 0, degraded: bool = False
    ) -> None:
        self.stream = stream
        self.key = key
        self.fields = fields
        self.time_ns = time_ns
        self.seq = seq
        self.degraded = degraded

    @property
    def time(self) -> datetime:
        """Of its newest sample, in UTC."""
        return datetime.fromtimestamp(self.time_ns / 1e9, timezone.utc)

    def __getitem__(self, name: str) -> Any:
        for place in (self.fields, self.fields.get("outputs"), self.fields.get("values")):
            if isinstance(place, Mapping) and name in place:
                return place[name]
        raise KeyError(f"no field {name!r} in a row of {self.stream}; it has {', '.join(self.fields)}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in self.__slots__:
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __repr__(self) -> str:
        return f"Row({self.stream}{f', {self.key}' if self.key else ''}, {dict(self.fields)})"


class Log(Protocol):
    """Lines in the daemon's log, with the behaviour and its key."""

    def debug(self, text: str, **facts: Any) -> None: ...
    def info(self, text: str, **facts: Any) -> None: ...
    def warning(self, text: str, **facts: Any) -> None: ...
    def error(self, text: str, **facts: Any) -> None: ...


class Behaviour(Protocol):
    """`me`: one instance of a behaviour. What it may touch stands in its table; all else raises `Refused`."""

    @property
    def name(self) -> str:
        """That of the table."""

    @property
    def key(self) -> str:
        """Whose instance it is; `""` without `per`."""

    @property
    def state(self) -> dict[str, Any]:
        """A small dictionary that outlives restarts: plain values, 4 KiB of them."""

    @property
    def log(self) -> Log: ...

    @property
    def now(self) -> datetime:
        """In UTC; `.astimezone()` for the time on the wall."""

    def results(self, pipeline: str) -> AsyncIterator[Row]:
        """Its results as they come, for ever: those that wait are bounded by `inbox`."""

    def samples(self, source: str) -> AsyncIterator[Row]:
        """Its samples as they come, for ever."""

    def latest(self, stream: str) -> Row | None:
        """The newest result or sample, None before there was one."""

    async def ask(self, pipeline: str, fields: Mapping[str, Any] | Row, timeout: float = 30.0, key: str | None = None) -> Row:
        """The result of a pipeline for these fields. Raises `Failed`."""

    async def publish(self, topic: str, value: Any, *, qos: int = 1, retain: bool = False) -> bool:
        """Text and bytes go as they are, all else as JSON. False where `limit` forbids it now; that is counted."""

    async def write(self, port: str, data: bytes) -> None:
        """To a serial port. Raises `Failed` where it is not there."""

    async def sleep(self, seconds: float) -> None: ...
