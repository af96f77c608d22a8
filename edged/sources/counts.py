"""What a source counts, and the one step in which it does: decoded rows to a block. `rows + rejected == read`, always."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edged.clock.spent import Spent
from edged.records import EXCERPT, NONE, Block, Receipt, Reject, Rows
from edged.sources.asked import Asked
from edged.sources.others import Others
from edged.stamp import Stamper
from edged.telemetry import INTERNAL_ERROR, QUIET, Drops, whereabouts

KEPT_REJECTS, KEPT_BYTES = 16, 64
"""Of each source, and of each of them, for `edged status --rejects`."""


class Arrival(NamedTuple):
    """One read of a port, or one message with its topic and what that captured, and when it came in (monotonic ns)."""

    data: bytes
    time: int
    topic: bytes = b""
    captures: Sequence[str] = ()


class Watch:
    """What of the inputs themselves is kept for whoever looks, and who is looking."""

    __slots__ = ("_now", "_publish", "on_data", "on_raw", "on_rejects", "rejects")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._publish: Callable[[Sequence[Reject]], object] | None = None
        self.rejects: deque[tuple[float, Reject]] = deque(maxlen=KEPT_REJECTS)
        """The newest that were refused, each with its time (monotonic s); without those that are not meant."""
        self.on_raw: tuple[Callable[[Arrival], object], ...] = ()
        """Who gets what comes in, before anything is made of it."""
        self.on_data: tuple[Callable[[Arrival], object], ...] = ()
        """Who gets what is decoded of what comes in on a port: all but answers that come before data."""
        self.on_rejects: tuple[Callable[[Sequence[Reject]], object], ...] = ()
        """Who is told of what was refused."""

    def came(self, one: Arrival) -> None:
        for tell in self.on_raw:
            tell(one)

    def decodes(self, one: Arrival) -> None:
        for tell in self.on_data:
            tell(one)

    def refused(self, rejects: Sequence[Reject]) -> None:
        kept = (one._replace(data=one.data[:KEPT_BYTES]) for one in rejects[-KEPT_REJECTS:] if one.reason not in QUIET)
        self.rejects.extend((self._now(), one) for one in kept)
        for tell in self.on_rejects:
            tell(rejects)
        if self._publish is not None:
            self._publish(rejects)

    @property
    def excerpt(self) -> int:
        """Bytes of a refused payload that somebody wants."""
        return KEPT_BYTES if self._publish is None else EXCERPT

    def publish_by(self, publish: Callable[[Sequence[Reject]], object] | None) -> None:
        """Who publishes what is refused, if anybody does."""
        self._publish = publish


class SourceCounts:
    """`read` rows came in, good or bad, in `messages` (MQTT) or `bytes`; `last_arrival` is monotonic ns, 0 before the first.

    `opens` counts how often the port or file was opened, `opened` (monotonic ns) is when it last was, `retained` counts the
    messages left out because they were old. `asked` is what was sent on a port.
    """

    __slots__ = (
        "asked",
        "bytes",
        "drops",
        "last_arrival",
        "messages",
        "opened",
        "opens",
        "others",
        "read",
        "rejected",
        "retained",
        "rows",
        "spent",
        "watch",
    )

    def __init__(self, name: str, now: Callable[[], float] = time.monotonic, kind: str = "source") -> None:
        """`now` is monotonic, in seconds; `kind` is the table of the file."""
        self.asked = Asked()
        self.bytes = 0
        self.messages = 0
        self.retained = 0
        self.read = 0
        self.rows = 0
        self.rejected = 0
        self.opens = 0
        self.opened = 0
        self.last_arrival = 0
        self.spent: Spent = {"decode": 0}
        self.others = Others()
        self.drops = Drops(f"{kind}.{name}", now, lambda: self.rows)
        self.watch = Watch(now)

    def reject(self, rejects: Sequence[Reject]) -> None:
        self.rejected += times(rejects)
        self.drops.add_rejects(rejects)
        self.watch.refused(rejects)

    def lose(self, error: BaseException, data: bytes = b"") -> None:
        """A fault of ours: one read that gave nothing. Of a fault behind the source, whose rows were counted already, it is one
        more than there were: so the ledger shows it, and stays exact."""
        self.read += 1
        self.reject([Reject(INTERNAL_ERROR, whereabouts(error), data[:EXCERPT])])

    def balance(self) -> int:
        """Zero, always."""
        return self.read - self.rows - self.rejected


def times(rejects: Sequence[Reject]) -> int:
    """How many were refused."""
    return sum(reject.times for reject in rejects)


def stamped(
    rows: Rows,
    stamper: Stamper,
    counts: SourceCounts,
    arrival: int,
    utc_offset: int,
    is_synced: bool,
    key_ids: Sequence[int | None] | None = None,
    receipts: Sequence[Receipt] = (NONE,),
) -> Block | None:
    """The block of freshly decoded rows, counted; None when all of them were refused."""
    block: Block | None = None
    rejects: list[Reject] = []
    came, waits = len(rows.values), stamper.lateness is not None
    if came and not rows.rejects:
        block = stamper.stamp_plain(rows, key_ids, receipts, arrival, utc_offset)
        if block is not None:
            counts.others.forget()
            counts.read += came
            counts.rows += came
            return block
    if came:
        block, rejects = stamper.stamp(rows, key_ids, receipts, arrival, utc_offset, arrival + utc_offset, is_synced)
    if rows.rejects or len(rows.values):
        counts.others.take(rows.rejects, len(rows.values) > 0, arrival)
    if waits:  # those count that leave
        came = times(rejects) + (0 if block is None else len(block))
    counts.read += came + times(rows.rejects)  # not before: a fault on the way leaves nothing half counted
    if rows.rejects:
        counts.reject(rows.rejects)
    if rejects:
        counts.reject(rejects)
    for r in (*rows.rejects, *(() if waits else rejects)) if len(receipts) > 1 or receipts[0].is_request else ():
        receipts[r.payload].fail(r.reason, r.detail)
    if block is not None:
        counts.rows += len(block)
    return block
