"""Whether all that comes in is of another kind than the one that is meant: then `where`, or a label, is probably wrong."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import msgspec

from edged.records import Reject

NO_MATCH_NS = 60 * 10**9
MAX_KINDS = 8
SHOWN_BYTES = 48
Where = Mapping[str, Sequence[str | float | bool]]


class Others:
    """The other messages since anything else came in."""

    __slots__ = ("_count", "_example", "_first", "_kinds", "_last")

    def __init__(self) -> None:
        self._count = 0
        self._first = self._last = 0
        self._kinds: dict[str, None] = {}
        self._example = b""

    def take(self, rejects: Sequence[Reject], has_rows: bool, now: int) -> None:
        if has_rows or any(reject.reason not in ("other", "partial") for reject in rejects):
            self.forget()
            return
        for reject in rejects:
            if reject.reason != "other":
                continue
            if not self._count:
                self._first, self._example = now, reject.data[:SHOWN_BYTES]
            self._last = now
            self._count += reject.times
            if len(self._kinds) < MAX_KINDS:
                self._kinds[reject.detail] = None

    def forget(self) -> None:
        """Something else came in."""
        if self._count:
            self._count = 0
            self._kinds.clear()

    def complaint(self, where: Where) -> str:
        """What is to be said once a minute of nothing else has passed; empty before."""
        if not self._count or self._last - self._first < NO_MATCH_NS:
            return ""
        seconds = (self._last - self._first) // 10**9
        begin = f"{self._count} messages in {seconds} s, all other"
        shown = self._example.decode("utf-8", "backslashreplace").strip()
        if not where:
            return f"{begin}: {next(iter(self._kinds))}; for example {shown!r}"
        text = f"{begin} than where = {_written(where)}; seen: {', '.join(self._kinds)}"
        return f"{text}; {fix}" if (fix := self._fix(where)) else f"{text}; for example {shown!r}"

    def _fix(self, where: Where) -> str:
        """The nearest of the kinds seen, if one is near."""
        for name, wanted in where.items():
            seen = [kind.removeprefix(f'{name} = "').removesuffix('"') for kind in self._kinds if kind.startswith(f'{name} = "')]
            for one in wanted:
                if isinstance(one, str) and (near := difflib.get_close_matches(one, seen, 1, 0.5)):
                    return f"write where = {_written({name: near})}"
        return ""


def _written(where: Where) -> str:
    """As it stands in the file."""
    parts = []
    for name, accepted in where.items():
        values = [msgspec.json.encode(one).decode() for one in accepted]
        parts.append(f"{name} = {values[0] if len(values) == 1 else '[' + ', '.join(values) + ']'}")
    return "{ " + ", ".join(parts) + " }"
