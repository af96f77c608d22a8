"""The vocabulary that every stage speaks: Rows, Block, Result, Message, Receipt.

What flows is a block, not a sample: everything that one wake-up brought in is handled at once. Nothing here knows
an event loop, a socket or a clock.

Records, here and everywhere: a `msgspec.Struct`, frozen unless one owner counts or fills it in place. It is made in C, and its
class costs a start nothing, where a dataclass costs it half a millisecond. `eq=False` where two of them are never the same. A
dataclass with slots where a field has no part in that, and for what is counted in: to set its fields takes half as long.
`NamedTuple` for a few values that are taken apart at once, or made for every row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

Values = NDArray[Any]
"""Samples, `[k, width]`, in the source's one dtype (float32 or float64): the fields side by side, tensors flattened."""
Times = NDArray[np.int64]
ON_ARRIVAL = -(2**63)
"""Stands for the time of a row whose sensor does not know it: that of its arrival."""
Keys = NDArray[np.int32]
Flags = NDArray[np.bool_]


Carried = Sequence[bytes | None]
"""JSON of the fields that a result carries from its input, None where the input had none of them."""


class Field(NamedTuple):
    """Where one named field lies in a row: columns `start:stop`, to be seen as `shape` (`()` for a scalar)."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...] = ()
    unit: str | None = None
    is_text: bool = False
    """Its numbers are the characters of a text (`decode/letters.py`)."""


EXCERPT = 4096
"""Bytes of what was refused that a `Reject` holds at most; who keeps rejects, or logs them, takes fewer."""


class Reject(NamedTuple):
    """One frame or payload that was refused by itself. `reason` is a counter's name, `offset` the place in `data` (or in the
    stream, for frames), `detail` what was expected; `data` holds its first `EXCERPT` bytes at most; where no frame
    begins, a few bytes from there on. It is the first of `times` such."""

    reason: str
    detail: str
    data: bytes = b""
    offset: int = 0
    payload: int = 0
    """Index of the payload within the call that decoded it."""
    times: int = 1


class Cap(msgspec.Struct, frozen=True):
    """Never more than `count` in any `period` (ns)."""

    count: int
    period: int


class RejectsPlan(msgspec.Struct, frozen=True):
    """Where what a source refuses goes: at most so many messages, of `max_bytes` of the payload."""

    broker: str
    topic: str
    limits: tuple[Cap, ...]
    max_bytes: int


class Rows(msgspec.Struct):
    """What a decoder made of some bytes: k rows of numbers, and what it refused.

    `time` is UTC in ns for each row (elapsed formats: ns since the sensor started), None when the format carries none.
    `keys` holds the key fields of each row as text. `payload[i]` is the index of the payload that row i came from;
    None means row i came from payload i. `degraded` marks rows in which a bad value was held or passed. `carried[p]` is what
    the results of payload p carry (JSON), if anything is to be carried.
    """

    values: Values
    time: Times | None = None
    keys: list[tuple[str, ...]] | None = None
    payload: NDArray[np.int32] | None = None
    degraded: Flags | None = None
    rejects: Sequence[Reject] = ()
    carried: Carried | None = None

    def part(self, start: int, stop: int) -> Rows:
        """Rows `start:stop`, where what is carried is carried a row; what was refused goes with the first."""
        return Rows(
            self.values[start:stop],
            None if self.time is None else self.time[start:stop],
            None if self.keys is None else self.keys[start:stop],
            None if self.payload is None else self.payload[start:stop],
            None if self.degraded is None else self.degraded[start:stop],
            self.rejects if start == 0 else (),
            None if self.carried is None else self.carried[start:stop],
        )

    def detached(self) -> Rows:
        """Rows of a stream, to which payloads mean nothing: what was carried a payload is then carried a row."""
        if self.carried is not None and self.payload is not None:
            self.carried = [self.carried[i] for i in self.payload.tolist()]
        self.payload = None
        return self


class Receipt:
    """The acknowledgement owed to one QoS 1 PUBLISH: given when nobody holds it any more.

    Whoever keeps it after the call that handed it over calls `hold` when taking and `done` once when letting go.
    `is_again`: the broker says that it may have sent this PUBLISH before (DUP), so that we may have handled it. `is_kept`: it
    had kept it for whoever comes (retained), since nobody knows when.

    `is_request`: its sender waits for an answer, and gets what is said first: the result by `answer`, or by `fail` why there
    will be none. All others need not know.
    """

    __slots__ = ("is_again", "is_kept", "mid", "owed")
    is_request = False

    def __init__(self, mid: int, is_again: bool = False) -> None:
        self.mid = mid
        self.owed = 1
        self.is_again = is_again
        self.is_kept = False

    given: Mapping[str, Any] = MappingProxyType({})
    """What a question has beside numbers, by the names of its fields."""

    def hold(self) -> None:
        self.owed += 1

    def done(self) -> None:
        self.owed -= 1

    def answer(self, body: bytes, is_json: bool, now: int) -> None:
        pass

    def fail(self, code: str, why: str) -> None:
        pass

    def tell(self, partial: bytes) -> None:
        """What there is so far of the answer."""


class _NoReceipt(Receipt):
    __slots__ = ()

    def hold(self) -> None:
        pass

    def done(self) -> None:
        pass


NONE: Receipt = _NoReceipt(0)
"""Stands for "nothing is owed": QoS 0, serial, replay. One path for all."""


class Block(msgspec.Struct):
    """k samples of one stream, in order.

    `stamps` is one time for all or one a row, and `time` is one a row. `time[i] + offset` is the UTC time of row i in ns; `time`
    itself never jumps when the machine's clock is set, unless the samples carry their own stamps. `arrival` is monotonic ns, one
    for all. `keys` is one id for all or one a row.
    `restarts` names keys whose windows and state start again with this block. `receipts` has one entry a row, or one for all.
    `carried` has one entry a row, if anything is to be carried. `seen` marks rows that the broker sent again and that, by
    their time, have been pushed before. `has_requests`: some of the receipts are requests. `kept` marks rows of messages
    that the broker had kept, whose sensors may be gone: only the freshness of the source looks at it.
    """

    values: Values
    stamps: Times | int
    offset: int
    arrival: int
    keys: Keys | int = 0
    receipts: Sequence[Receipt] = (NONE,)
    degraded: Flags | None = None
    restarts: tuple[int, ...] = ()
    carried: Carried | None = None
    seen: Flags | None = None
    has_requests: bool = False
    kept: Flags | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def time(self) -> Times:
        """The time of each row; made where it is asked for, since most rows that come alone are not."""
        if isinstance(self.stamps, int):
            self.stamps = np.full(len(self.values), self.stamps, np.int64)
        return self.stamps

    def part(self, start: int, stop: int) -> Block:
        """Rows `start:stop` as a block of their own; `restarts` go with the first row."""
        return Block(
            self.values[start:stop],
            self.stamps if isinstance(self.stamps, int) else self.stamps[start:stop],
            self.offset,
            self.arrival,
            self.keys if isinstance(self.keys, int) else self.keys[start:stop],
            self.receipts if len(self.receipts) == 1 else self.receipts[start:stop],
            None if self.degraded is None else self.degraded[start:stop],
            self.restarts if start == 0 else (),
            None if self.carried is None else self.carried[start:stop],
            None if self.seen is None else self.seen[start:stop],
        )

    def columns(self, start: int, stop: int) -> Block:
        """The same samples with these of their numbers only."""
        return replace(self, values=self.values[:, start:stop])

    def unseen(self) -> Block:
        """Without the rows that were `seen`."""
        assert self.seen is not None
        return replace(self.only(np.flatnonzero(~self.seen).tolist()), has_requests=self.has_requests)

    def only(self, rows: Sequence[int]) -> Block:
        """These rows as a block of their own."""
        kept = np.array(rows, np.intp)
        return Block(
            self.values[kept],
            self.stamps if isinstance(self.stamps, int) else self.stamps[kept],
            self.offset,
            self.arrival,
            self.keys if isinstance(self.keys, int) else self.keys[kept],
            self.receipts if len(self.receipts) == 1 else [self.receipts[i] for i in rows],
            None if self.degraded is None else self.degraded[kept],
            self.restarts,
            None if self.carried is None else [self.carried[i] for i in rows],
        )

    def receipt_of_each(self) -> Sequence[Receipt]:
        """One receipt a row."""
        return self.receipts if len(self.receipts) == len(self.values) else [self.receipts[0]] * len(self.values)


class Slot(msgspec.Struct, eq=False):
    """One row of a pipeline's preallocated arrays, waiting for a run. `row` is its index there.

    `time` is UTC ns of the newest sample in it, `arrival` when that came in (monotonic ns). `stretch` counts the gaps of its key
    before it, for a model that remembers. Not `is_open`: its gate has yet to say whether it may run.
    """

    row: int
    key: int
    time: int
    arrival: int
    receipt: Receipt
    degraded: bool
    carried: bytes | None = None
    stretch: int = 0
    is_open: bool = True


class Result(msgspec.Struct):
    """What the model said about one window or sample. `body` holds the output's own fields (`label`, `score`, ...)."""

    body: dict[str, Any]
    key: int
    seq: int
    time: int
    arrival: int
    degraded: bool = False
    carried: bytes | None = None


MESSAGE_OVERHEAD = 600
"""Bytes charged for a queued message besides its topic and body: objects, receipt, its place in the queue."""
USUAL_BYTES = 1024
"""The size of a message around the numbers of its result."""


class DropCount(Protocol):
    def add(self, reason: str, times: int = 1, **details: Any) -> None: ...


class Account(Protocol):
    """Where one `publish` entry's messages are counted, each in one place at a time; `telemetry.PublishCounts` is it."""

    acked: int
    spooled: int
    queued: int
    in_flight: int
    refusal: str

    @property
    def drops(self) -> DropCount: ...


class Kept(Protocol):
    """What the spool keeps of a message; `spool.log.Entry` is it."""

    is_stored: bool
    not_before: int

    def done(self, reason: str | None = None) -> None: ...
    def release(self) -> None: ...


class Message(msgspec.Struct):
    """An encoded result, or something edged says about itself, on its way to a topic.

    With `arrival` set and `is_json`, `body` lacks its last brace: `age_ms` and the brace are added when it is sent, so
    that the age is the age at sending. `account` counts what becomes of it, if anybody does.
    `record` is what the spool keeps of it; `replayed`: it comes from there. `is_reply`: somebody waits for it now, so that it is
    never kept for later. `properties` are those of MQTT 5 that it is sent with, framed. `ends`: so many connections in a row were
    ended by the broker while it had not said that it has this message.
    """

    topic: bytes
    body: bytes
    qos: int = 0
    retain: bool = False
    is_json: bool = False
    arrival: int = 0
    receipt: Receipt = NONE
    account: Account | None = None
    mid: int = 0
    ends: int = 0
    record: Kept | None = None
    replayed: bool = False
    is_reply: bool = False
    properties: bytes = b""

    @property
    def size(self) -> int:
        """Bytes charged to a queue that holds it."""
        return len(self.topic) + len(self.body) + MESSAGE_OVERHEAD

    @property
    def may_be_kept(self) -> bool:
        """Whether the spool takes it while it cannot be sent."""
        return self.qos > 0 and (self.account is not None or self.record is not None) and not self.is_reply

    def end(self, reason: str | None = None) -> None:
        """The broker has it (None), or it ends for `reason`: nothing of it need be kept, and its input is settled."""
        if self.record is not None:
            self.record.done(reason)
        self.let_go()

    def let_go(self) -> None:
        """Its input is settled as far as this message goes; a second call does nothing."""
        receipt, self.receipt = self.receipt, NONE
        receipt.done()
