"""MQTT sources: the messages of one read of the socket become one block for each source.

A source has no task of its own: the link hands every read to its `Router`, which knows which source a topic belongs to,
and settles the receipts afterwards. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from edged.clock.clock import Clock
from edged.clock.spent import spends
from edged.config import schema
from edged.decode import UNTOLD, Arrived, PayloadDecoder, make_payload_decoder
from edged.decode.where import Condition
from edged.mqtt.frames import MAX_PROPERTIES, MAX_PROPERTIES_BYTES, UNREAD, Inbound
from edged.pipeline.fan_out import fan_out
from edged.records import NONE, Block, Receipt, Reject, Rows
from edged.sources.counts import KEPT_BYTES, Arrival, SourceCounts, stamped
from edged.sources.kept import KeptMessages, as_kept
from edged.sources.kind import Kind, Parts, Planned
from edged.sources.pictures import PictureQueue, Waiting
from edged.sources.replies import Ask, Replies
from edged.stamp import THINNED, UNFIT, KeyTable, Thinning
from edged.telemetry import INTERNAL_ERROR, Drops
from edged.topics import FIELD, TopicFilter

ROUTES = 4096
"""Topics remembered with their sources; when more come by, the table starts over."""
ROUTE_BYTES = 256
"""Longer topics are looked up each time, so that the table is bounded in bytes as well."""
MIN_KEPT = 64
"""Topics of which the newest message is remembered, where the broker's own are taken; one for each key if those are more."""
TOPIC_BYTES = 1024
"""Longer topics are nobody's: their levels would become keys, which are kept."""
TOO_MANY_PROPERTIES = f"more than {MAX_PROPERTIES} MQTT properties, or more than {MAX_PROPERTIES_BYTES} bytes of them"


class Filter(NamedTuple):
    """One subscribed filter of a source; `identifier` is the subscription's under MQTT 5."""

    identifier: int
    topic: TopicFilter


class SourceWiring(msgspec.Struct, frozen=True):
    """`consumers` take its blocks. `is_pace`: other streams are joined to it; of one read it comes after them, whose samples
    it may need. `deadline_ns`: the longest of those who want its pictures, 0 if one of them has none."""

    consumers: Sequence[Callable[[Block], object]] = ()
    is_pace: bool = False
    deadline_ns: int = 0


class Wanted(NamedTuple):
    """What a source takes of a broker: its filters, and what captures must be, by index."""

    filters: Sequence[Filter]
    where: Sequence[tuple[int, Condition]] = ()


class Way(NamedTuple):
    """How messages are read: which capture names the field, None for none; whether the decoder is told of topics and times;
    whether there is nothing else to do with a message than to decode it."""

    field_at: int | None
    is_told: bool
    is_plain: bool


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


class Inbox(Protocol):
    """Who takes messages of a link: the router hands them over one by one, and then says that a read is over."""

    @property
    def wanted(self) -> Wanted: ...
    @property
    def counts(self) -> SourceCounts: ...
    @property
    def replies(self) -> Replies | None: ...
    @property
    def remembers(self) -> KeptMessages | None: ...
    @property
    def is_pace(self) -> bool: ...
    @property
    def way(self) -> Way: ...
    def add(self, payload: bytes, captures: tuple[str, ...], receipt: Receipt) -> None: ...
    def take(self, payloads: Sequence[bytes], captures: list[tuple[str, ...]], receipts: Sequence[Receipt], now: int) -> None: ...
    def flush(self, now: int) -> None: ...
    def refuse(self, payload: bytes, receipt: Receipt, reason: str, detail: str) -> None: ...


class Told:
    """Messages for edged itself, which acknowledge an alarm, attach a label or say that somebody starts: `take` gets each
    payload, but not of those that the broker had kept."""

    replies = remembers = None
    is_pace = False
    way = Way(None, is_told=False, is_plain=True)

    def __init__(self, kind: str, name: str, filters: Sequence[Filter], take: Callable[[bytes], object]) -> None:
        self.wanted = Wanted(filters)
        self.counts = SourceCounts(name, kind=kind)
        self._take = take

    def add(self, payload: bytes, captures: tuple[str, ...], receipt: Receipt) -> None:
        self._take(payload)

    def take(self, payloads: Sequence[bytes], captures: list[tuple[str, ...]], receipts: Sequence[Receipt], now: int) -> None:
        for payload in payloads:
            self._take(payload)

    def flush(self, now: int) -> None:
        """Each was taken when it came."""

    def refuse(self, payload: bytes, receipt: Receipt, reason: str, detail: str) -> None:
        self.counts.reject([Reject(reason, detail, payload[: self.counts.watch.excerpt])])


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
        watch = self.counts.watch
        if rows.rejects and watch.excerpt > KEPT_BYTES:
            rows.rejects = [one._replace(data=payloads[one.payload][: watch.excerpt]) for one in rows.rejects]
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


class Router:
    """Hands every PUBLISH of one link to the sources that subscribed to it."""

    def __init__(self, sources: Sequence[Inbox], clock: Clock, drops: Drops) -> None:
        self.drops = drops
        self.is_closed = False
        """Set at a stop: what still comes is left to the broker, unacknowledged, and comes again at the next start."""
        self._sources = sources
        self._clock = clock
        self._routes: dict[tuple[bytes, tuple[int, ...]], list[tuple[Inbox, tuple[str, ...]]]] = {}

    def on_publishes(self, batch: Sequence[Inbound]) -> None:
        """Takes all messages of one read: decode, push to every pipeline, then settle what nobody held."""
        if self.is_closed:
            return self._turn_away(batch)
        if not (self._take_one(batch[0]) if len(batch) == 1 else self._take_plain(batch)):
            self._take_all(batch)

    def _take_one(self, message: Inbound) -> bool:
        """The same as `_take_plain` for the only message of a read."""
        topic, payload, _, retain, identifiers, receipt, properties = message
        route = self._routes.get((topic, identifiers))
        if route is None or len(route) != 1 or retain or properties == UNREAD:
            return False
        source, captures = route[0]
        if not source.way.is_plain or (properties and source.replies is not None):
            return False
        now = self._clock.now()
        if source.counts.watch.on_raw:
            source.counts.watch.came(Arrival(payload, now, topic, captures))
        source.take((payload,), [captures], (receipt,), now)
        receipt.done()
        return True

    def _take_plain(self, batch: Sequence[Inbound]) -> bool:
        """The short way for a read of messages that are all of one source, which only decodes them; whether they could go that
        way."""
        topics, payloads, _, retains, identifiers, receipts, properties = zip(*batch, strict=True)
        if any(retains) or UNREAD in properties:
            return False
        keys = [*zip(topics, identifiers, strict=True)]
        if keys.count(keys[0]) == len(keys):
            del keys[1:]
        source: Inbox | None = None
        captures: list[tuple[str, ...]] = []
        for key in keys:
            route = self._routes.get(key)
            if route is None or len(route) != 1 or (source is not None and source is not route[0][0]):
                return False
            source, caught = route[0]
            captures.append(caught)
        if source is None or not source.way.is_plain or (source.replies is not None and any(properties)):
            return False  # those of the last kind may be requests
        captures *= len(batch) // len(captures)
        now, watch = self._clock.now(), source.counts.watch
        if watch.on_raw:
            for topic, payload, caught in zip(topics, payloads, captures, strict=True):
                watch.came(Arrival(payload, now, topic, caught))
        source.take(payloads, captures, receipts, now)
        for receipt in receipts:
            if receipt is not NONE:
                receipt.done()
        return True

    def _take_all(self, batch: Sequence[Inbound]) -> None:
        now = self._clock.now()
        touched: dict[Inbox, None] = {}
        asks: list[Ask] = []
        fault: Exception | None = None
        routes = self._routes
        for message in batch:
            topic, payload, qos, retain, identifiers, receipt, properties = message
            if properties == UNREAD:
                self._refuse(message, "too_large", TOO_MANY_PROPERTIES)
                continue
            route = routes.get((topic, identifiers))
            if route is None:
                route = self._find(topic, identifiers)
            if not route:
                self.drops.add("unrouted" if len(topic) <= TOPIC_BYTES else "topic_too_long", topic=topic[:200])
            for source, captures in route:
                if retain:
                    if source.remembers is None or source.remembers.is_known(topic, payload):
                        source.counts.retained += 1
                        continue
                    receipt = as_kept(receipt)
                elif source.remembers is not None:
                    source.remembers.see(topic, payload)
                if source.counts.watch.on_raw:
                    source.counts.watch.came(Arrival(payload, now, topic, captures))
                ask = None
                if source.replies is not None and properties and not retain:
                    ask = source.replies.ask(properties, receipt, qos, now)
                if ask is None:
                    source.add(payload, captures, receipt)
                else:
                    asks.append(ask)
                    if not ask.is_open:  # refused at once
                        continue
                    source.add(payload, captures, ask)
                touched[source] = None
        for source in touched if len(touched) == 1 else sorted(touched, key=attrgetter("is_pace")):
            try:
                source.flush(now)
            except Exception as error:
                fault = fault or error
        for ask in asks:
            ask.done()
        if fault is not None:  # the other sources have theirs; who called lets go of the receipts
            raise fault
        for message in batch:
            message[5].done()

    def _turn_away(self, batch: Sequence[Inbound]) -> None:
        """At a stop, whoever asks is told at once, and does not come again."""
        now = self._clock.now()
        for topic, _, qos, retain, identifiers, receipt, properties in batch:
            for source, _ in self._find(topic, identifiers):
                if source.replies is None or retain:
                    continue
                ask = source.replies.ask(properties, receipt, qos, now)
                if ask is not None:
                    ask.fail("shutdown", "edged is stopping")
                    ask.done()
                    receipt.done()

    def refuse(self, message: Inbound, reason: str, detail: str) -> None:
        """Lets a message go that no source may have, and counts it at each that would have had it."""
        self._refuse(message, reason, detail)
        message[5].done()

    def _refuse(self, message: Inbound, reason: str, detail: str) -> None:
        topic, payload, qos, retain, identifiers, receipt, properties = message
        now = self._clock.now()
        route = self._find(topic, identifiers)
        if not route:
            self.drops.add(reason, topic=topic[:200], detail=detail)
        for source, _ in route:
            if retain and source.remembers is None:
                continue
            source.counts.last_arrival = now
            source.counts.messages += 1
            ask = source.replies.ask(properties, receipt, qos, now) if source.replies is not None and not retain else None
            source.refuse(payload, ask or receipt, reason, detail)
            if ask is not None:
                ask.done()

    def route_to(self, sources: Sequence[Inbox]) -> None:
        """To these and no others from the next read on."""
        self._sources = sources
        self._routes.clear()

    def drop_caches(self) -> None:
        self._routes.clear()

    def _find(self, topic: bytes, identifiers: tuple[int, ...]) -> list[tuple[Inbox, tuple[str, ...]]]:
        """The sources of a topic: by subscription identifier where the broker sends one, else by matching filters."""
        if len(topic) > TOPIC_BYTES:
            return []
        text = topic.decode()
        route = []
        for source in self._sources:
            matching = ((one, captures) for one, topic in source.wanted.filters if (captures := topic.match(text)) is not None)
            identifier, captures = next(matching, (0, None))
            # Of several filters of a source that match, the first one counts: the copies for the others are the same message.
            if captures is not None and (not identifiers or identifier in identifiers):
                route.append((source, captures))
        if len(topic) <= ROUTE_BYTES:
            if len(self._routes) >= ROUTES:
                self._routes.clear()
            self._routes[topic, identifiers] = route
        return route


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
