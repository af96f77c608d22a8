"""When a broker is tried again, and what to say of it meanwhile.

    how the connection ended                         the wait before the next one
    Again           we ended it to fetch the rest    AGAIN_S
    Unacknowledged  the broker acknowledges nothing  from 1 to 60 s, longer each time, over once it acknowledged something
    Refusal         the broker itself said no        from 1 to 60 s, longer each time, over after good service
    any other       away, lost, hung                 at most `retry_s`; as for a refusal after `SHORT_LIVES` short connections

A pure table with a memory: the caller has the clock, the socket and the log.
"""

from __future__ import annotations

from collections import deque

from edged.clock.backoff import Backoff
from edged.errors import Retryable
from edged.mqtt.channel import Dismissed, HungUp
from edged.mqtt.connect import Refusal
from edged.mqtt.settings import LinkSettings

AGAIN_S = 0.05
SHORT_LIFE_S, SHORT_LIVES = 5.0, 3
AT_ONCE_S = 0.2  # a broker that always ends the connection so soon does so over what we said first: another client would wait
GOOD_SERVICE_S = 60.0


class Again(Retryable):
    """We ended the connection so that the next one brings what was left with the broker."""


class OtherVersion(Refusal):
    """The broker does not speak this version of MQTT."""


class NoRetain(Refusal):
    """The broker has no retained messages, and refuses a will that is one."""


class Unanswered(Retryable):
    """We ended the connection, since the broker did not answer: another client has no part in that."""


class Unacknowledged(Unanswered):
    """We ended the connection, since the broker acknowledged nothing. `has_begun`: it had, before, on that connection."""

    def __init__(self, reason: str, has_begun: bool) -> None:
        super().__init__("unacknowledged", reason)
        self.has_begun = has_begun


class RetryPolicy:
    """For one broker under one set of settings. `short_lives` counts connections that ended within seconds, since one that served
    well: most often two clients of one name that end each other."""

    def __init__(self, settings: LinkSettings) -> None:
        first, cap = settings.refused_retry_s
        self._usual = Backoff(settings.retry_s, settings.retry_s)
        self._refused = Backoff(first, cap, first)
        self._unacknowledged = Backoff(first, cap, first)
        self._client_id = settings.client_id
        self._takeovers: deque[float] = deque(maxlen=100)
        self._at_once_s = min(AT_ONCE_S, settings.retry_s / 2)
        self._longest_s = 0.0
        """Of the short lives."""
        self.short_lives = 0

    def next_s(self, error: Retryable, lived_s: float) -> float:
        """`lived_s` counts from CONNACK; 0 if there was none."""
        if isinstance(error, Again):
            return AGAIN_S
        if isinstance(error, Unacknowledged):
            if error.has_begun:
                self._unacknowledged.reset()
            return self._unacknowledged.next_s()
        if lived_s >= GOOD_SERVICE_S:
            self._refused.reset()
            self.short_lives = 0
        elif 0 < lived_s < SHORT_LIFE_S and not isinstance(error, Unanswered):
            self._longest_s = max(lived_s, self._longest_s if self.short_lives else 0.0)
            self.short_lives += 1
        if isinstance(error, Refusal) or self.short_lives >= SHORT_LIVES:
            return self._refused.next_s()
        return self._usual.next_s()

    def explain(self, error: Retryable, lived_s: float, culprit: str | None, is_careful: bool) -> str:
        """The reason for a person, after `next_s`. `culprit`: the topic of the message that the broker ended the connection over,
        which is dropped; `is_careful`: such a one is being looked for."""
        if culprit is not None:
            self.short_lives = 0
            return f"{error.reason}, as it does whenever it gets a message to {culprit}: edged drops that message"
        if is_careful:
            return (
                f"{error.reason}, again with messages in flight: edged sends them one at a time, to find the one that the broker "
                "does not take"
            )
        is_unexplained = isinstance(error, HungUp) and not isinstance(error, Dismissed)
        if not (lived_s and is_unexplained and self.short_lives >= SHORT_LIVES):
            return error.reason
        if self._longest_s < self._at_once_s:
            return (
                f"{error.reason}, {self.short_lives} times right after connecting: does it allow what edged subscribes to, "
                "and a retained status? See its access rules, or write retain = false"
            )
        return (  # many brokers do not say why, mosquitto 2.0 neither
            f"{error.reason}, {self.short_lives} times soon after connecting: does another client have the name "
            f"{self._client_id}? Then give each client its own device.id or client_id"
        )

    def taken_over(self, now_s: float) -> Refusal:
        """The broker says that another client came with our name."""
        self._takeovers.append(now_s)
        times = sum(t > now_s - 60.0 for t in self._takeovers)
        counted = "once" if times == 1 else f"{times} times in 1 min"
        why = f"another client took the name {self._client_id} {counted}: give each client its own device.id or client_id"
        return Refusal("taken_over", why)
