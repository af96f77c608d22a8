"""Which source a PUBLISH is for: the way of a read of one link to those that subscribed to its topics.

Whoever takes messages is an `Inbox`: a source, or `Told`, what edged itself listens to. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol

from edged.clock.clock import Clock
from edged.decode.where import Condition
from edged.mqtt.frames import MAX_PROPERTIES, MAX_PROPERTIES_BYTES, UNREAD, Inbound
from edged.records import NONE, Receipt, Reject
from edged.sources.counts import Arrival, SourceCounts
from edged.sources.kept import KeptMessages, as_kept
from edged.sources.replies import Ask, Replies
from edged.telemetry import Drops
from edged.topics import TopicFilter

ROUTES = 4096
"""Topics remembered with their sources; when more come by, the table starts over."""
ROUTE_BYTES = 256
"""Longer topics are looked up each time, so that the table is bounded in bytes as well."""
TOPIC_BYTES = 1024
"""Longer topics are nobody's: their levels would become keys, which are kept."""
TOO_MANY_PROPERTIES = f"more than {MAX_PROPERTIES} MQTT properties, or more than {MAX_PROPERTIES_BYTES} bytes of them"


class Filter(NamedTuple):
    """One subscribed filter of a source; `identifier` is the subscription's under MQTT 5."""

    identifier: int
    topic: TopicFilter


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
