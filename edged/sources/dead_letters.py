"""Publishes what a source refused, as messages for people and other programs: bounded in size and in number, and never in the way
of results."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from edged.clock.caps import Caps
from edged.clock.clock import Clock
from edged.records import Message, Reject, RejectsPlan
from edged.results.encode import rfc3339
from edged.telemetry import QUIET


class DeadLetters:
    """`take` is told of what was refused; `send` is the link's."""

    def __init__(self, plan: RejectsPlan, device: str, source: str, send: Callable[[Message], object], clock: Clock) -> None:
        self._plan = plan
        self._names = {"device": device, "source": source}
        self._topic = plan.topic.encode()
        self._send = send
        self._clock = clock
        self._caps = Caps(plan.limits)
        self._left_out = 0

    def take(self, rejects: Sequence[Reject]) -> None:
        for one in rejects:
            if one.reason in QUIET:
                continue
            if not self._caps.take(self._clock.now()):
                self._left_out += one.times
                continue
            left_out, self._left_out = self._left_out, 0
            self._send(Message(self._topic, msgspec.json.encode(self._body(one, left_out))))

    def _body(self, reject: Reject, left_out: int) -> dict[str, Any]:
        data = reject.data[: self._plan.max_bytes]
        try:
            payload = {"text": data.decode()}
        except UnicodeDecodeError:
            payload = {"base64": base64.b64encode(data).decode()}
        facts: dict[str, Any] = {
            **self._names,
            "time": rfc3339(self._clock.utc()),
            "reason": reject.reason,
            "detail": reject.detail,
        }
        facts |= {"times": reject.times, **payload}
        return facts | ({"left_out": left_out} if left_out else {})
