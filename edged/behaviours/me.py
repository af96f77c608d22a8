"""What is behind the face of a behaviour, for one instance: each wish is looked up in its table, and refused if not there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import msgspec

from edged.behaviours.asking import ask
from edged.behaviours.face import Failed, Refused, Row
from edged.behaviours.inbox import Inbox
from edged.topics import unfit

if TYPE_CHECKING:
    from edged.behaviours.actor import Instance

MAX_BODY = 1024 * 1024
"""Bytes of a message: a larger one would push all others out of the outbox."""
WRITE_S = 1.0
"""So long a port is waited for that takes no bytes."""


class Me:
    """`face.Behaviour` for one instance."""

    __slots__ = ("_instance",)

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    @property
    def name(self) -> str:
        return self._instance.actor.plan.name

    @property
    def key(self) -> str:
        return self._instance.key

    @property
    def state(self) -> dict[str, Any]:
        return self._instance.state

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self._instance.actor.clock.utc() / 1e9, timezone.utc)

    @property
    def log(self) -> Log:
        return Log(self._instance)

    def results(self, pipeline: str) -> Inbox:
        return self._inbox(pipeline, "results").read()

    def samples(self, source: str) -> Inbox:
        return self._inbox(source, "samples").read()

    def latest(self, stream: str) -> Row | None:
        return self._inbox(stream, "latest").latest

    async def ask(self, pipeline: str, fields: Mapping[str, Any] | Row, timeout: float = 30.0, key: str | None = None) -> Row:
        actor = self._instance.actor
        target = actor.reach.pipelines.get(pipeline)
        if target is None:
            raise Refused(self._refusal("ask", pipeline, actor.plan.ask))
        given = {f.name: fields[f.name] for f in target.fields if _has(fields, f.name)} if isinstance(fields, Row) else fields
        name = self.key if key is None else key
        number = target.key_of(name, actor.clock.now())
        if number is None:
            known = f'"{name}" is not one of its keys, and all its keys are in use' if name else "it has keys: give key = ..."
            raise Failed("no_key", f"pipeline.{pipeline}: {known}")
        actor.counts.asked += 1
        return await ask(target, given, number, name, timeout, actor.clock)

    async def publish(self, topic: str, value: Any, *, qos: int = 1, retain: bool = False) -> bool:
        instance, actor = self._instance, self._instance.actor
        if wrong := unfit(topic) or ("+" in topic and "+") or ("#" in topic and "#"):
            raise ValueError(f'me.publish("{topic}"): a topic of one message has no {wrong}')
        if qos not in (0, 1):
            raise ValueError(f"me.publish: expected qos 0 or 1, found {qos!r}")
        if not actor.may_publish(topic, self.key):
            raise Refused(self._refusal("publish", topic, [f.text for f in actor.plan.publish]))
        body = body_of(value)
        if len(body) > MAX_BODY:
            raise ValueError(f'me.publish("{topic}"): a message has at most {MAX_BODY} bytes, found {len(body)}')
        is_sent = instance.caps.take(actor.clock.now())
        if is_sent:
            actor.send(topic, body, qos, retain)
        else:
            actor.counts.drops.add("limit", detail=f"{topic}: more than limit allows")
        await asyncio.sleep(0)  # who only publishes leaves the others their turn
        return is_sent

    async def write(self, port: str, data: bytes) -> None:
        actor = self._instance.actor
        if port not in actor.plan.write:
            raise Refused(self._refusal("write", port, actor.plan.write))
        if not isinstance(data, bytes | bytearray):
            raise ValueError(f'me.write("{port}"): expected bytes such as b"STOP\\n", found {data!r:.80}')
        await actor.write(port, bytes(data))
        await asyncio.sleep(0)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _inbox(self, stream: str, call: str) -> Inbox:
        plan = self._instance.actor.plan
        inbox = self._instance.inboxes.get(stream)
        if inbox is None:
            raise Refused(self._refusal(call, stream, [heard.stream for heard in plan.hears], "source"))
        is_source = next(heard.is_source for heard in plan.hears if heard.stream == stream)
        if call != "latest" and is_source != (call == "samples"):
            kind, other = ("source", "samples") if is_source else ("pipeline", "results")
            raise Refused(f'me.{call}("{stream}"): {stream} is a {kind}; write me.{other}("{stream}")')
        return inbox

    def _refusal(self, call: str, what: str, allowed: Any, key: str = "") -> str:
        key = key or call
        table = ", ".join(f'"{one}"' for one in allowed)
        return f'me.{call}("{what}"): not in {key} = [{table}] of [behaviour.{self.name}]; add it there if it may'


class Log:
    """Lines in the daemon's log, at most so many a second of one behaviour."""

    __slots__ = ("_instance",)

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def debug(self, text: str, **facts: Any) -> None:
        self._say("debug", text, facts)

    def info(self, text: str, **facts: Any) -> None:
        self._say("info", text, facts)

    def warning(self, text: str, **facts: Any) -> None:
        self._say("warning", text, facts)

    def error(self, text: str, **facts: Any) -> None:
        self._say("error", text, facts)

    def _say(self, level: str, text: str, facts: dict[str, Any]) -> None:
        self._instance.actor.say(level, str(text), self._instance.key, facts)


def body_of(value: Any) -> bytes:
    """A payload: bytes and text as they are, all else as JSON. Raises TypeError."""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    return msgspec.json.encode(value, enc_hook=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Row):
        return dict(value.fields)
    if hasattr(value, "tolist"):  # of numpy
        return value.tolist()
    raise NotImplementedError(f"a {type(value).__name__} is nothing that JSON knows")


def _has(row: Row, name: str) -> bool:
    try:
        row[name]
    except KeyError:
        return False
    return True
