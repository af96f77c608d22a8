"""`[behaviour.NAME]`."""

from __future__ import annotations

from typing import Annotated, Literal

from edged.config.parsers.choices import Anything, Flag
from edged.config.parsers.names import (
    Name,
    Topic,
)
from edged.config.parsers.numbers import (
    PlainBytes,
    integer,
)
from edged.config.parsers.paths import Custom
from edged.config.schema.keys import Key, Limit, Several, Table
from edged.notation.units import S
from edged.records import Cap


class OnEnd(Table, frozen=True, kw_only=True):
    """What edged does when a behaviour ends or fails: a message, or bytes on a port."""

    topic: Annotated[Topic | None, Key("the topic that gets `value`; it may hold `{key}`")] = None
    value: Annotated[Anything, Key("the message: text as it is, all else as JSON", default="none")] = None
    retain: Annotated[Flag, Key("whether the broker keeps it")] = False
    write: Annotated[Name | None, Key("the port that gets `data`")] = None
    data: Annotated[PlainBytes | None, Key("the bytes to write", default="none")] = None


class Behaviour(Table, frozen=True, kw_only=True):
    """A coroutine of your own, `async def guard(me)`, on the loop of the daemon. What it may touch stands here."""

    run: Annotated[Custom, Key("the coroutine")]
    per: Annotated[Literal["key"] | None, Key("one instance for each key", default="one instance")] = None
    source: Annotated[
        Annotated[tuple[Name, ...], Several()],
        Key("sources and pipelines for `me.samples`, `me.results` and `me.latest`", default="none"),
    ] = ()
    ask: Annotated[Annotated[tuple[Name, ...], Several()], Key("pipelines for `me.ask`", default="none")] = ()
    publish: Annotated[
        Annotated[tuple[Topic, ...], Several()], Key("topics for `me.publish`; `+`, `#` and `{key}` are allowed", default="none")
    ] = ()
    broker: Annotated[Name | None, Key("where it publishes", default="the only one")] = None
    write: Annotated[
        Annotated[tuple[Name, ...], Several()], Key("`[port.NAME]` tables and serial sources for `me.write`", default="none")
    ] = ()
    limit: Annotated[
        Limit,
        Key(
            (
                'the most messages of an instance, such as `["10/s", "500/d"]`; edged drops and counts the rest. It '
                "never holds back writes and `on_end`"
            ),
            default='`"10/s"`',
        ),
    ] = (Cap(10, S),)
    inbox: Annotated[Annotated[int, integer(1, 65536)], Key("how many results or samples of a stream wait for an instance")] = 64
    overflow: Annotated[
        Literal["drop_oldest", "latest_only"],
        Key("what edged drops when so many wait; latest_only: only the newest of each key waits"),
    ] = "drop_oldest"
    on_end: Annotated[
        Annotated[tuple[OnEnd, ...], Several()],
        Key("what to do when an instance ends or fails, and when edged stops", default="nothing"),
    ] = ()
