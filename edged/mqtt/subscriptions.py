"""What one link subscribes: asked for at each connect, changed on the connection there is, renewed where it was refused.

The broker keeps a session's subscriptions until it is told otherwise. A filter that went from the configuration while edged was
down would bring its messages for ever; so a list on disk (`KnownFilters`) always has at least what the broker has, and what is in
it and not wanted is unsubscribed on the next connect.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from edged.clock.backoff import Backoff
from edged.mqtt.session import Session
from edged.mqtt.settings import KEPT_ALWAYS, KEPT_IF_NEW, LinkSettings, Subscription
from edged.system.durable import read_kept, replaced
from edged.topics import TopicError, covers, overlaps, parse_filter, unshared

MAX_BYTES = 1 << 20
COPIES = "$copies"
"""Among the faults, where the others are those of filters."""
FAILED = 0x80
"""Reason codes of a SUBACK from here on are refusals; below it is the QoS that the broker grants."""


def without_covered(wanted: tuple[Subscription, ...]) -> tuple[Subscription, ...]:
    """What brings the same messages, each once: a filter that others of them cover is left out, and theirs has its QoS."""
    widest = [
        one
        for i, one in enumerate(wanted)
        if not any(
            covers(other.filter, one.filter) and (not covers(one.filter, other.filter) or j < i)
            for j, other in enumerate(wanted)
            if j != i
        )
    ]
    return tuple(_for_all(one, [other for other in wanted if covers(one.filter, other.filter)]) for one in widest)


def _with_kept(one: Subscription) -> Subscription:
    """What is kept comes also where the broker has the subscription from a process before this one."""
    return replace(one, retain_handling=KEPT_ALWAYS) if one.retain_handling == KEPT_IF_NEW else one


def _for_all(one: Subscription, covered: list[Subscription]) -> Subscription:
    return replace(
        one,
        qos=max(s.qos for s in covered),
        retain_handling=min(s.retain_handling for s in covered),
        has_replies=any(s.has_replies for s in covered),
    )


class Subscriptions:
    """The subscriptions of one connection, whose packets `session` writes. `faults` says what is wrong, by filter."""

    def __init__(self, settings: LinkSettings, session: Session, known: KnownFilters | None, is_first: bool = False) -> None:
        """`known`: what the broker may have from before; None to do without. `is_first`: this process has seen nothing yet of
        what the broker retains."""
        self.faults: dict[str, str] = {}
        self._wanted = settings.subscriptions
        """Those of the configuration; `_asked` are those that the broker is asked for."""
        self._retry_s = settings.refused_retry_s
        self._session = session
        self._is_first = is_first
        self._known = known
        self._refused: dict[str, Backoff] = {}

    @property
    def _asked(self) -> tuple[Subscription, ...]:
        asked = self._wanted if self._session.has_identifiers else without_covered(self._wanted)
        return tuple(_with_kept(one) for one in asked) if self._is_first else asked

    @property
    def _filters(self) -> set[str]:
        return {s.filter for s in self._asked}

    def begin(self, is_session_present: bool) -> None:
        """At a CONNACK: unsubscribes what is not wanted any more, and subscribes the rest."""
        if self._known is not None:
            for gone in sorted(self._known.filters - self._filters):
                if is_session_present:
                    self._session.unsubscribe(gone)
                else:
                    self._known.remove(gone)
            self._known.add(self._filters)
        for subscription in self._asked:
            self._session.subscribe(subscription)
        self._look_for_copies()

    def change(self, wanted: tuple[Subscription, ...]) -> None:
        """Goes on with others on the same connection."""
        before = self._asked
        self._wanted = wanted
        filters = self._filters
        for gone in before:
            if gone.filter not in filters:
                self._session.unsubscribe(gone.filter)
                self.faults.pop(gone.filter, None)
                self._refused.pop(gone.filter, None)
        if self._known is not None:
            self._known.add(filters)
        for subscription in self._asked:
            if subscription not in before:
                self._session.subscribe(subscription)
        self._look_for_copies()

    def answered(self, subscription: Subscription, code: int, text: str) -> float | None:
        """The broker's answer to one; after so many seconds `ask_again` is to be called for it, None: it is not."""
        name = subscription.filter
        if code >= FAILED:
            self.faults[name] = f"the broker refuses the subscription to {name!r}: {text}: check its access rules"
            first, cap = self._retry_s
            return self._refused.setdefault(name, Backoff(first, cap, first)).next_s()
        self._refused.pop(name, None)
        self.faults.pop(name, None)
        if code < subscription.qos:
            self.faults[name] = f"the broker grants only QoS {code} for {name!r}"
        return None

    def ask_again(self, subscription: Subscription) -> None:
        """The broker refused it; its access rules may have been changed since."""
        if subscription in self._asked and subscription.filter in self._refused:
            self._session.subscribe(subscription)

    def _look_for_copies(self) -> None:
        """Without identifiers nothing tells two copies of one message from two messages."""
        self.faults.pop(COPIES, None)
        for one, other in combinations(() if self._session.has_identifiers else self._asked, 2):
            if overlaps(parse_filter(unshared(one.filter)), parse_filter(unshared(other.filter))):
                self.faults[COPIES] = (
                    f"{one.filter!r} and {other.filter!r} overlap, and this broker does not say which one brought a message: "
                    "where it sends a copy for each, both count; write filters that do not overlap"
                )

    def let_go(self, name: str) -> None:
        """The broker has unsubscribed a filter."""
        if self._known is not None and name not in self._filters:
            self._known.remove(name)

    def look(self) -> None:
        """Notes what the broker has not answered by now."""
        for subscription in self._session.unanswered:
            name = subscription.filter
            self.faults.setdefault(name, f"the broker does not answer the subscription to {name!r}")


class KnownFilters:
    """The list of one broker for one client id: `owner` says which, since another's list is none of ours."""

    def __init__(self, path: Path, owner: str, log: Any, write: Callable[[Callable[[], None]], object]) -> None:
        """`write` does the writing, somewhere where it may take its time."""
        self._path = path
        self._owner = owner
        self._log = log
        self._write = write
        self._filters: set[str] | None = None
        self._is_failing = False
        self._latest = ""
        self._lock = threading.Lock()

    def belong_to(self, owner: str) -> None:
        """From now on it is another client's list, of which nothing is known."""
        if owner != self._owner:
            self._owner, self._filters = owner, set()

    @property
    def filters(self) -> frozenset[str]:
        """All that the broker may have."""
        if self._filters is None:
            self._filters = self._read()
        return frozenset(self._filters)

    def add(self, filters: Iterable[str]) -> None:
        """To be called before they are subscribed."""
        self._keep(self.filters | set(filters))

    def remove(self, topic: str) -> None:
        """The broker has let go of it."""
        self._keep(self.filters - {topic})

    def _keep(self, filters: frozenset[str]) -> None:
        if filters == self.filters:
            return
        self._filters = set(filters)
        self._latest = text = json.dumps({"client": self._owner, "filters": sorted(filters)})
        self._write(lambda: self._save(text))

    def _save(self, text: str) -> None:
        with self._lock:
            if text is self._latest:  # else another one writes what is newer
                self._replace(text)

    def _replace(self, text: str) -> None:
        try:
            with replaced(self._path) as file:
                file.write(text.encode())
        except OSError as error:
            if not self._is_failing:
                self._is_failing = True
                lost = "which topics to unsubscribe from after a restart"
                self._log.warning("subscriptions_not_noted", path=str(self._path), reason=error.strerror, lost=lost)

    def _read(self) -> set[str]:
        return read_kept(self._path, MAX_BYTES, self._decode, lost="which topics to unsubscribe from") or set()

    def _decode(self, data: bytes) -> set[str]:
        found = json.loads(data)
        if found["client"] != self._owner:
            raise ValueError(f"it is the list of client {found['client']!r:.80}, and this is {self._owner!r}")
        return {_checked(topic) for topic in found["filters"]}


def _checked(topic: object) -> str:
    """A filter that may be unsubscribed: what MQTT forbids would end every connection, for ever."""
    if not isinstance(topic, str) or parse_filter(unshared(topic)).mqtt != unshared(topic):
        raise TopicError(f"not a filter: {topic!r:.80}")
    topic.encode()  # half a surrogate pair is a ValueError as well
    return topic
