"""One retained topic for each source, and for each of its keys: `online` or `offline`.

    {base_topic}/source/NAME        the source is `running` or `finished`
    {base_topic}/source/NAME/KEY    of a key of which it can be told, by what is configured or by a pace that was learned: it
                                    is neither silent nor frozen, and the source is well

Said on a change and again on every connect, a few at a time, so that a source of many keys does not fill an outbox. The topic of
a key whose place another one took is removed. A crash leaves them as they were: then the device's status says `offline`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from edged.health.good import GOOD
from edged.health.running import Running
from edged.health.status import UP, Look
from edged.mqtt.link import Link
from edged.records import Message
from edged.stamp import KeyTable
from edged.telemetry import PublishCounts

AT_ONCE = 200
"""Topics said at most in one look, to each broker."""
ONLINE, OFFLINE = 1, 2
WORDS = {ONLINE: b"online", OFFLINE: b"offline"}

LOOKED_AT = 100
"""Sources looked at in one look: a device of hundreds has others to look at in the next one, so that no look takes long."""

Codes = NDArray[np.int8]
OF_SOURCE = (np.full(1, OFFLINE, np.int8), np.full(1, ONLINE, np.int8))
"""By whether it is well; never changed."""


class _Listener:
    """What one broker was told: by source, the code of the source and then of each key; 0 where nothing was said."""

    def __init__(self, link: Link, sizes: Mapping[str, int]) -> None:
        self.said = {name: np.zeros(size, np.int8) for name, size in sizes.items()}
        self.link = link
        self.counts = PublishCounts(f"broker.{link.name}.availability")
        self._seen = (0, 0)

    def forget_if_lost(self) -> None:
        """All is said again after a connect, and when the outbox had to drop some of it. What the broker does not take is not."""
        seen = (self.link.counts.connects, self.counts.drops.by_reason.get("overflow", 0))
        if seen != self._seen:
            self._seen = seen
            for codes in self.said.values():
                codes[:] = 0

    def send(self, topic: bytes, payload: bytes) -> None:
        self.link.send(Message(topic, payload, 0, True, account=self.counts))


class Availability:
    """`look` is called a few times a second."""

    def __init__(self, running: Running) -> None:
        self._names: dict[tuple[str, int], tuple[str, ...]] = {}
        self._take(running)

    def _take(self, running: Running) -> None:
        self._running = running
        fresh = running.freshness
        self._keyed = {n for n, p in running.plan.sources.items() if p.key_names and n in fresh}
        self._turn = cycle(running.sources)
        sizes = {n: 1 + len(fresh[n].last_good) if n in self._keyed else 1 for n in running.sources}
        self._listeners = [_Listener(running.links[b], sizes) for b in running.plan.health_brokers]

    def adopt(self, running: Running) -> None:
        """Speaks of another running: removes the topics of sources that are gone; of the others all is said again."""
        before = self._running
        gone = before.sources.keys() - running.sources.keys()
        for name, key in list(self._names):
            table = self._table(name)
            if name in gone or running.keys.get(running.plan.sources[name].key_group) is not table:
                self._remove(name, key)
        for name in gone:
            for listener in self._listeners:
                if listener.link.state in UP:
                    listener.send(self._topic(name, ()), b"")
        self._take(running)

    def look(self, look: Look) -> None:
        """Says what differs from what was said."""
        listeners = [x for x in self._listeners if x.link.state in UP]
        for listener in listeners:
            listener.forget_if_lost()
        if not listeners or not self._remove_renewed():
            return
        names = islice(self._turn, min(LOOKED_AT, len(self._running.sources)))
        wanted = {name: self._codes(name, look.source(name)[0] in GOOD, look.now) for name in names}
        for listener in listeners:
            self._say(listener, wanted, AT_ONCE)

    def stop(self) -> None:
        """Says of all that are online that they are not."""
        for listener in self._listeners:
            if listener.link.state in UP:
                wanted = {n: np.where(codes == ONLINE, OFFLINE, codes) for n, codes in listener.said.items()}
                self._say(listener, wanted, None)

    def _codes(self, name: str, is_well: bool, now: int) -> Codes:
        codes = OF_SOURCE[is_well]
        if name not in self._keyed:
            return codes
        fresh = self._running.freshness[name]
        of_keys = np.where(fresh.is_online(now) & is_well, ONLINE, OFFLINE)
        of_keys[((fresh.last_good == 0) & ~fresh.is_expected) | ~fresh.is_judged] = 0
        return np.concatenate((codes, of_keys)).astype(np.int8)

    def _say(self, listener: _Listener, wanted: Mapping[str, Codes], limit: int | None) -> None:
        for name, codes in wanted.items():
            said = listener.said[name]
            if said.tobytes() == codes.tobytes():
                continue
            for i in np.flatnonzero((codes == 0) & (said > 0)).tolist():  # its pace turned out to be none
                self._remove(name, i - 1)
            due = np.flatnonzero((codes != said) & (codes > 0)).tolist()[:limit]
            for i in due:
                listener.send(self._topic(name, self._parts(name, i - 1) if i else ()), WORDS[int(codes[i])])
                said[i] = codes[i]
            limit = None if limit is None else limit - len(due)

    def _topic(self, name: str, parts: Sequence[str]) -> bytes:
        return "/".join((self._running.plan.base_topic, "source", name, *parts)).encode()

    def _parts(self, name: str, key: int) -> tuple[str, ...]:
        """What the key is called, under which it is known from now on."""
        parts = self._table(name).names(key)
        if self._names.get((name, key)) is not parts:
            self._remove(name, key)
            self._names[name, key] = parts
        return parts

    def _table(self, name: str) -> KeyTable:
        return self._running.keys[self._running.plan.sources[name].key_group]

    def _remove_renewed(self) -> bool:
        """Removes the topics of keys whose place others took; False if some are left for the next look."""
        left = AT_ONCE
        for name in self._keyed:
            renewed = self._running.freshness[name].renewed
            while renewed and left:
                key = renewed.pop()
                if self._names.get((name, key)) is not self._table(name).names(key):
                    self._remove(name, key)
                    left -= 1
        return left > 0

    def _remove(self, name: str, key: int) -> None:
        parts = self._names.pop((name, key), None)
        if parts is None:
            return
        for listener in self._listeners:
            listener.said[name][1 + key] = 0
            if listener.link.state in UP:
                listener.send(self._topic(name, parts), b"")
