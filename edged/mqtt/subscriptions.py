"""What one link subscribes: asked for at each connect, changed on the connection there is, renewed where it was refused.

The broker keeps a session's subscriptions until it is told otherwise. A filter that went from the configuration while edged was
down would bring its messages for ever; so a list on disk (`KnownFilters`) always has at least what the broker has, and what is in
it and not wanted is unsubscribed on the next connect.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from edged.clock.backoff import Backoff
from edged.mqtt.session import Session
from edged.mqtt.settings import LinkSettings, Subscription
from edged.system.durable import read_kept, replaced
from edged.topics import TopicError, parse_filter

MAX_BYTES = 1 << 20
FAILED = 0x80
"""Reason codes of a SUBACK from here on are refusals; below it is the QoS that the broker grants."""


class Subscriptions:
    """The subscriptions of one connection, whose packets `session` writes. `faults` says what is wrong, by filter."""

    def __init__(self, settings: LinkSettings, session: Session, known: KnownFilters | None) -> None:
        """`known`: what the broker may have from before; None to do without."""
        self.faults: dict[str, str] = {}
        self._wanted = settings.subscriptions
        self._retry_s = settings.refused_retry_s
        self._session = session
        self._known = known
        self._refused: dict[str, Backoff] = {}

    @property
    def _filters(self) -> set[str]:
        return {s.filter for s in self._wanted}

    def begin(self, is_session_present: bool) -> None:
        """At a CONNACK: unsubscribes what is not wanted any more, and subscribes the rest."""
        if self._known is not None:
            for gone in sorted(self._known.filters - self._filters):
                if is_session_present:
                    self._session.unsubscribe(gone)
                else:
                    self._known.remove(gone)
            self._known.add(self._filters)
        for subscription in self._wanted:
            self._session.subscribe(subscription)

    def change(self, wanted: tuple[Subscription, ...]) -> None:
        """Goes on with others on the same connection."""
        before, self._wanted = self._wanted, wanted
        filters = self._filters
        for gone in before:
            if gone.filter not in filters:
                self._session.unsubscribe(gone.filter)
                self.faults.pop(gone.filter, None)
                self._refused.pop(gone.filter, None)
        if self._known is not None:
            self._known.add(filters)
        for subscription in wanted:
            if subscription not in before:
                self._session.subscribe(subscription)

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
        if subscription in self._wanted and subscription.filter in self._refused:
            self._session.subscribe(subscription)

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
                self._log.warning("subscriptions_not_noted", path=str(self._path), reason=error.strerror)

    def _read(self) -> set[str]:
        return read_kept(self._path, MAX_BYTES, self._decode, "subscriptions", lost="what to unsubscribe") or set()

    def _decode(self, data: bytes) -> set[str]:
        found = json.loads(data)
        if found["client"] != self._owner:
            raise ValueError(f"it is the list of client {found['client']!r:.80}, and this is {self._owner!r}")
        return {_checked(topic) for topic in found["filters"]}


def _checked(topic: object) -> str:
    """A filter that may be unsubscribed: what MQTT forbids would end every connection, for ever."""
    if not isinstance(topic, str) or parse_filter(topic).mqtt != topic:
        raise TopicError(f"not a filter: {topic!r:.80}")
    topic.encode()  # half a surrogate pair is a ValueError as well
    return topic
