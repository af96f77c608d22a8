"""What a broker may still have subscribed for us: a list of filters on disk, kept across restarts.

The broker keeps a session's subscriptions until it is told otherwise. A filter that went from the configuration while edged was
down would bring its messages for ever; so the list always has at least what the broker has, and what is in it and not wanted is
unsubscribed on the next connect.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from edged.system.durable import read_kept, replaced
from edged.topics import TopicError, parse_filter

MAX_BYTES = 1 << 20


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
