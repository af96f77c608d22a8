"""MQTT sources: the messages of one read of the socket become one block for each source.

A source has no task of its own: the link hands every read to its `Router`, which knows which source a topic belongs to,
and settles the receipts afterwards. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

import msgspec
import numpy as np

from edged.clock.spent import spends
from edged.config import schema
from edged.decode import UNTOLD, Arrived, PayloadDecoder, make_payload_decoder
from edged.pipeline.fan_out import fan_out
from edged.records import Block, Receipt, Reject, Rows
from edged.sources.counts import KEPT_BYTES, stamped
from edged.sources.kept import KeptMessages
from edged.sources.kind import Kind, Parts, Planned
from edged.sources.pictures import PictureQueue, Waiting
from edged.sources.router import Filter, Wanted, Way
from edged.stamp import THINNED, UNFIT, KeyTable, Thinning
from edged.telemetry import INTERNAL_ERROR
from edged.topics import FIELD

MIN_KEPT = 64
"""Topics of which the newest message is remembered, where the broker's own are taken; one for each key if those are more."""


class SourceWiring(msgspec.Struct, frozen=True):
    """`consumers` take its blocks. `is_pace`: other streams are joined to it; of one read it comes after them, whose samples
    it may need. `deadline_ns`: the longest of those who want its pictures, 0 if one of them has none."""

    consumers: Sequence[Callable[[Block], object]] = ()
    is_pace: bool = False
    deadline_ns: int = 0


class Keys:
    """The sensors of a source. `parts` say where each part of a key comes from: the index of a capture of the topic, or of a key
    field of the payload (in the order of the source's `key`)."""

    __slots__ = ("_captured", "_is_each_captured", "_is_whole", "_parts", "_places", "_table", "is_of_topic")

    def __init__(self, table: KeyTable, parts: Sequence[tuple[str, int]], captures: int) -> None:
        self._table = table
        self._parts = parts
        self._places = [i for _, i in parts]
        self._is_whole = list(parts) == [("capture", i) for i in range(captures)]
        """Whether a key is what the topic captured, as it is."""
        self.is_of_topic = all(kind == "capture" for kind, _ in parts)
        self._captured = [i for kind, i in parts if kind == "capture"]
        self._is_each_captured = self._captured == [*range(captures)]

    def find(self, captures: tuple[str, ...]) -> int | None:
        """The id of a sensor that is known, by its topic alone."""
        return self._table.find(self._of_topic(captures))

    def ids(
        self,
        captures: list[tuple[str, ...]],
        payload: Sequence[int] | None,
        fields: list[tuple[str, ...]] | None,
        now: int,
    ) -> list[int | None]:
        """One for each row; `payload[i]` is the message of row i."""
        id_of = self._table.id
        if payload is not None:
            captures = [captures[i] for i in payload]
        if self._is_whole:
            return [id_of(names, now) for names in captures]
        if self.is_of_topic or fields is None:
            return [id_of(self._of_topic(names), now) for names in captures]
        ids = []
        for caught, carried in zip(captures, fields, strict=True):
            names = tuple(caught[i] if kind == "capture" else carried[i] for kind, i in self._parts)
            ids.append(id_of(names, now))
        return ids

    def sensors(self, captures: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """What the topics say of whose the messages are: captures that are no part of the key say nothing."""
        return captures if self._is_each_captured else [tuple([caught[i] for i in self._captured]) for caught in captures]

    def _of_topic(self, captures: tuple[str, ...]) -> tuple[str, ...]:
        return captures if self._is_whole else tuple(captures[i] for i in self._places)


class Gathered:
    """The messages of one read that are one source's. `thinned` counts those that are left out, whose sensors are `alive`."""

    __slots__ = ("alive", "captures", "payloads", "receipts", "thinned")

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.captures: list[tuple[str, ...]] = []
        self.receipts: list[Receipt] = []
        self.thinned = 0
        self.alive: set[int] = set()


class Early:
    """Thinning by the topic alone, before anything is decoded: the first message of each interval is taken, with all its rows."""

    __slots__ = ("_keys", "_pending", "thinning")

    def __init__(self, thinning: Thinning, keys: Keys | None) -> None:
        self.thinning = thinning
        self._keys = keys
        self._pending: set[tuple[str, ...]] = set()
        """What the topics of this read's messages had captured: until they are decoded nobody knows whether they count."""

    def is_left_out(self, captures: tuple[str, ...], now: int, gathered: Gathered) -> bool:
        key = 0 if self._keys is None else self._keys.find(captures)
        if captures not in self._pending and (key is None or self.thinning.is_due(key, now)):
            self._pending.add(captures)
            return False
        gathered.thinned += 1
        if key is not None:
            gathered.alive.add(key)
        return True

    def take(self, captures: list[tuple[str, ...]], now: int) -> None:
        """These messages count, whatever is in them."""
        keys = [0] * len(captures) if self._keys is None else self._keys.ids(captures, None, None, now)
        for key in keys:
            if key is not None and key != UNFIT:
                self.thinning.take(key, now)

    def taken(self, block: Block) -> None:
        for key in {block.keys} if isinstance(block.keys, int) else set(block.keys.tolist()):
            self.thinning.take(key, block.arrival)
        for key in block.restarts:
            self.thinning.forget(key)
            self.thinning.take(key, block.arrival)

    def end(self) -> None:
        """The read has been decoded."""
        self._pending.clear()


class MqttSource:
    """Decodes, keys and stamps the messages of one source and pushes the block to its pipelines.

    `remembers` what a broker keeps, None where that is not taken. `parts` has the requests that it answers, None if it
    answers none. With `queued_bytes` messages are decoded one by one, beside the loop.
    """

    def __init__(
        self,
        name: str,
        wanted: Wanted,
        decoder: PayloadDecoder,
        parts: Parts,
        key_parts: Sequence[tuple[str, int]] = (),
        remembers: KeptMessages | None = None,
        queued_bytes: int | None = None,
        is_told: bool = False,
    ) -> None:
        self.name = name
        self.wanted = wanted
        self.counts = parts.counts
        self.replies = parts.replies
        self.remembers = remembers
        self.is_pace = False
        self._consumers: Sequence[Callable[[Block], object]] = ()
        self._decoder = decoder
        field_at = next((f.topic.captures.index(FIELD) for f in wanted.filters if FIELD in f.topic.captures), None)
        captures = len(wanted.filters[0].topic.captures) - (field_at is not None) if wanted.filters else 0
        self._keys = None if parts.keys is None else Keys(parts.keys, key_parts, captures)
        self._stamper = parts.stamper
        self._clock = parts.clock
        self._early = None if parts.early is None else Early(parts.early, self._keys)
        self._gathered = Gathered()
        is_plain = not wanted.where and self._early is None and remembers is None and queued_bytes is None
        self.way = Way(field_at, is_told, is_plain)
        self.queue: PictureQueue | None = None
        if queued_bytes is not None:
            take = parts.stages.wrap(f"source.{name}: decoded", self._take_decoded)
            self.queue = PictureQueue(name, decoder, queued_bytes, take, self._drop, parts.clock.now)

    def connect(self, wiring: SourceWiring) -> None:
        self._consumers, self.is_pace = wiring.consumers, wiring.is_pace
        if self.queue is not None:
            self.queue.configure(wiring.deadline_ns)

    def add(self, payload: bytes, captures: tuple[str, ...], receipt: Receipt) -> None:
        for at, condition in self.wanted.where:
            if not condition.fits_text(captures[at]):
                self.counts.messages += 1
                self.counts.bytes += len(payload)
                return self.refuse(payload, receipt, "other", condition.other(captures[at]))
        gathered = self._gathered
        if self._early is not None and self._early.is_left_out(captures, self._clock.now(), gathered):
            self.counts.messages += 1
            self.counts.bytes += len(payload)
            return receipt.fail(THINNED, "one message of each interval is taken (every)")
        gathered.payloads.append(payload)
        gathered.captures.append(captures)
        gathered.receipts.append(receipt)

    def take(self, payloads: Sequence[bytes], captures: list[tuple[str, ...]], receipts: Sequence[Receipt], now: int) -> None:
        """`add` and `flush`, for messages that are the only ones of their read, where the way is plain."""
        counts = self.counts
        counts.last_arrival = now
        counts.messages += len(payloads)
        for payload in payloads:
            counts.bytes += len(payload)
        self._decode(payloads, captures, receipts, now)

    def flush(self, now: int) -> None:
        """Decodes what `add` gathered and pushes it on as one block."""
        gathered, self._gathered = self._gathered, Gathered()
        payloads, captures, receipts = gathered.payloads, gathered.captures, gathered.receipts
        counts = self.counts
        if self.remembers is None or not receipts or not all(receipt.is_kept for receipt in receipts):
            counts.last_arrival = now  # what the broker had kept is no sign of life
        if self._early is not None:
            self._leave_out(gathered, self._early, now)
        counts.messages += len(payloads)
        counts.bytes += sum(map(len, payloads))
        if self.queue is not None:
            if self._early is not None:  # a picture counts as taken while it waits to be decoded
                self._early.take(captures, now)
            for i, message in enumerate(zip(payloads, captures, receipts, strict=True)):
                self.queue.add(Waiting(*message, now + i))  # each becomes a block by itself: no two came at the same ns
        elif payloads:
            self._decode(payloads, captures, receipts, now)

    def _leave_out(self, gathered: Gathered, early: Early, now: int) -> None:
        if gathered.thinned:
            self.counts.read += gathered.thinned
            self.counts.reject([Reject(THINNED, "", times=gathered.thinned)])
            early.thinning.on_thinned(np.array(sorted(gathered.alive), np.int32), now)
        early.end()

    def leave_to(self, after: MqttSource | None) -> None:
        """After a reload: what is not decoded yet is left to the source of the same name, if there is one whose keys mean the
        same."""
        for message in self.queue.leave() if self.queue is not None else ():
            if after is not None and after.queue is not None:
                after.queue.add(message)
            else:
                self._drop(message, "restart")
            message.receipt.done()

    def supersede(self, receipts: AbstractSet[Receipt]) -> None:
        """The broker sends these inputs again: they are not decoded now."""
        if self.queue is not None:
            self.queue.supersede(receipts)

    def expire(self, receipts: AbstractSet[Receipt]) -> None:
        """Nobody waits for the answers to these inputs any more."""
        if self.queue is not None:
            self.queue.expire(receipts)

    def abandon(self) -> None:
        """At a stop: what still waits is given up. Inputs that were not acknowledged come again; the others are counted."""
        for message in self.queue.leave() if self.queue is not None else ():
            if message.may_be_dropped:
                self._drop(message, "shutdown")

    def refuse(self, payload: bytes, receipt: Receipt, reason: str, detail: str) -> None:
        """Counts a message that is not decoded, and says so to whoever asked."""
        rejects = [Reject(reason, detail, payload[: self.counts.watch.excerpt])]
        self.counts.read += 1
        self.counts.reject(rejects)
        self.counts.others.take(rejects, False, self._clock.now())
        receipt.fail(reason, detail)

    def _drop(self, message: Waiting, reason: str) -> None:
        self.refuse(message.payload, message.receipt, reason, "it waited to be decoded")

    def _take_decoded(self, message: Waiting, rows: Rows | BaseException) -> None:
        if isinstance(rows, BaseException):  # a fault of ours; what is large is not tried again on the loop
            self.counts.lose(rows, message.payload)
            message.receipt.fail(INTERNAL_ERROR, "a fault in edged; its log has the details")
            return
        self._decode([message.payload], [message.captures], [message.receipt], message.arrival, rows)

    def _decode(
        self,
        payloads: Sequence[bytes],
        captures: list[tuple[str, ...]],
        receipts: Sequence[Receipt],
        now: int,
        rows: Rows | None = None,
    ) -> None:
        """`rows`: what the payloads were decoded to, if they were."""
        counts = self.counts
        try:
            block = self._block(payloads, captures, receipts, now, rows)
        except Exception as error:  # a fault of ours: it costs the message that shows it, not its neighbours
            if len(payloads) > 1:
                for i in range(len(payloads)):
                    self._decode(payloads[i : i + 1], captures[i : i + 1], receipts[i : i + 1], now)
                return
            counts.lose(error, payloads[0])
            receipts[0].fail(INTERNAL_ERROR, "a fault in edged; its log has the details")
            return
        if block is not None:
            fan_out(self._consumers, counts.lose, block)

    @spends("decode")
    def _block(
        self,
        payloads: Sequence[bytes],
        captures: list[tuple[str, ...]],
        receipts: Sequence[Receipt],
        now: int,
        rows: Rows | None,
    ) -> Block | None:
        arrived = UNTOLD
        if self.way.is_told:
            captures, arrived = self._arrived(captures, now)
        if rows is None:
            sensors = None if self._keys is None else self._keys.sensors(captures)
            rows = self._decoder.decode(payloads, sensors, arrived)
        key_ids: list[int | None] | None = None
        if self._keys is not None and len(rows.values):
            key_ids = self._keys.ids(captures, None if rows.payload is None else rows.payload.tolist(), rows.keys, now)
        if rows.rejects and self.counts.watch.excerpt > KEPT_BYTES:
            rows.rejects = _with_excerpts(rows.rejects, payloads, self.counts.watch.excerpt)
        clock = self._clock
        block = stamped(rows, self._stamper, self.counts, now, clock.offset(), clock.is_synced(), key_ids, receipts)
        if block is None:
            return None
        if self.replies is not None:
            block.has_requests = any(receipt.is_request for receipt in block.receipts)
        if self.remembers is not None and any(receipt.is_kept for receipt in block.receipts):
            block.kept = np.array([receipt.is_kept for receipt in block.receipt_of_each()])
        if self._early is not None:
            self._early.taken(block)
        return block

    def _arrived(self, captures: list[tuple[str, ...]], now: int) -> tuple[list[tuple[str, ...]], Arrived]:
        """The captures that may be keys, and what a decoder must be told."""
        names: list[str] = []
        if (at := self.way.field_at) is not None:
            names = [caught[at] for caught in captures]
            captures = [caught[:at] + caught[at + 1 :] for caught in captures]
        return captures, Arrived(names, now, now + self._clock.offset())


def _with_excerpts(rejects: Sequence[Reject], payloads: Sequence[bytes], size: int) -> list[Reject]:
    return [one._replace(data=payloads[one.payload][:size]) for one in rejects]


def build(plan: Planned, parts: Parts) -> MqttSource:
    assert plan.decode is not None
    return MqttSource(
        plan.name,
        Wanted([Filter(identifier, topic) for identifier, topic in plan.filters], plan.capture_where),
        make_payload_decoder(plan.decode),
        parts,
        plan.key_parts,
        KeptMessages(max(MIN_KEPT, plan.max_keys)) if plan.settings.retained else None,
        plan.decode.max_bytes if plan.decode.is_slow else None,
        plan.decode.is_told,
    )


def describe(plan: Planned) -> str:
    group = f", shared by the group {plan.settings.share}" if plan.settings.share else ""
    return f"{plan.broker}: {', '.join(topic.text for _, topic in plan.filters)} (QoS {plan.settings.qos}{group})"


def is_acknowledged(settings: schema.MqttSource) -> bool:
    return settings.qos == 1


def unheld(settings: schema.MqttSource) -> str:
    return "" if settings.qos else "which comes at QoS 0: set its qos = 1"


KIND = Kind(
    schema.MqttSource,
    build,
    describe,
    is_acknowledged=is_acknowledged,
    is_lossless=is_acknowledged,
    unheld=unheld,
    recorded="mqtt",
)
