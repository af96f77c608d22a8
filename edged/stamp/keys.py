"""Keys as small ids, so that everything by key is a row of an array. Knows no clock: `now` comes in."""

from __future__ import annotations

from edged.topics import unfit

UNFIT = -1
"""The id of what can be no key: it would become part of topics, and brokers refuse it there."""


class KeyTable:
    """The keys of one stream as small ids, `0..max_keys-1`.

    When it is full, the least recently seen key is evicted if it was silent for `stale_ns` (None: never); its id is then appended
    to `recycled`, which the `Stamper` empties into the `restarts` of its next block.
    """

    def __init__(self, max_keys: int, stale_ns: int | None) -> None:
        self.max_keys = max_keys
        self.stale_ns = stale_ns
        self.recycled: list[int] = []
        self._ids: dict[tuple[str, ...], int] = {}
        self._names: list[tuple[str, ...]] = []
        self._seen: list[int] = []
        self._full_until = 0

    def configure(self, stale_ns: int | None) -> None:
        """So long a key may be silent from now on before another may have its number."""
        self.stale_ns = stale_ns

    def __len__(self) -> int:
        return len(self._names)

    def names(self, key: int) -> tuple[str, ...]:
        return self._names[key]

    def find(self, names: tuple[str, ...]) -> int | None:
        """The id of a key that has one."""
        return self._ids.get(names)

    def id(self, names: tuple[str, ...], now: int) -> int | None:
        """The id of a key seen now (monotonic ns), or `UNFIT`; None: all ids are taken and none is stale."""
        key = self._ids.get(names)
        if key is not None:
            self._seen[key] = now
            return key
        if any(map(unfit, names)):
            return UNFIT
        if len(self._names) < self.max_keys:
            key = len(self._names)
            self._names.append(names)
            self._seen.append(now)
        else:
            key = self._stalest(now)
            if key is None:
                return None
            del self._ids[self._names[key]]
            self._names[key] = names
            self._seen[key] = now
            self.recycled.append(key)
        self._ids[names] = key
        return key

    def _stalest(self, now: int) -> int | None:
        # Nothing can be stale before `_full_until`, so that a flood of new keys does not search the table each time.
        if self.stale_ns is None or now < self._full_until:
            return None
        seen = min(self._seen)
        if now - seen < self.stale_ns:
            self._full_until = seen + self.stale_ns
            return None
        return self._seen.index(seen)
