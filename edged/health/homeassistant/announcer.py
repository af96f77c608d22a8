"""Announces to Home Assistant what it shows, and takes back what is no longer there.

    once a second: what was not said on this connection, since Home Assistant started, or differs from what was said
                   -> onto the disk, where it is new -> said, a few at a time, where the outbox has room
                   what was told once and is no longer meant -> an empty message -> acknowledged -> off the disk

A planned stop takes nothing back: by the status topic all entities become unavailable.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import structlog

from edged.health.homeassistant.ledger import Ledger, Place, Told, encoded, read, write
from edged.health.homeassistant.payloads import (
    Key,
    config_topic,
    key_components,
    key_device,
    key_id,
    main_device,
    main_id,
    platforms,
    without,
)
from edged.health.running import Running
from edged.health.status import UP
from edged.plan.records import HomeAssistantPlan
from edged.records import Flags, Message, Receipt
from edged.system.one_shot import start_one_shot_thread

AT_ONCE = 20
"""Devices said at most in one look."""

log: Any = structlog.get_logger("edged")


class _Due(NamedTuple):
    """A device to be announced. `judged`: the sources that say whether its key lives."""

    place: Place
    source: str
    key: Key
    judged: tuple[str, ...]


_Saying = tuple[_Due, dict[str, Any]]


class Announcer:
    """`look` is called about once a second."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._ledger: Ledger = {}
        self.is_writing = False
        self._said: dict[Place, tuple[str, ...]] = {}
        """What was said since the last connect of the broker, or start of Home Assistant: of which sources each depends."""
        self._leaving: dict[Place, Receipt | None] = {}
        """What is to be taken back, with what is owed for it once that was said."""
        self._stale: list[_Due] = []
        """Devices of keys that were not heard yet, of which something else is to be said."""
        self._unheard: dict[Place, Told] = {}
        """Keys that an earlier run may have left alive."""
        self._seen: dict[str, tuple[int, int]] = {}
        self._places: dict[tuple[str, int], tuple[Key, Place]] = {}
        self.left_out = 0
        """Keys beyond the most."""
        self._has_warned = False

    def restore(self) -> None:
        """What an earlier run told, before anything is said."""
        self._ledger = read(self._running.plan.state_dir)
        self._unheard = {place: told for place, told in self._ledger.items() if told.judged}
        self._begin()

    def adopt(self, running: Running) -> None:
        """Speaks of another running."""
        self._running = running
        self._begin()

    def facts(self) -> dict[str, Any]:
        """For health; empty where nothing is announced."""
        if self._shown is None:
            return {}
        return {"homeassistant": {"devices": len(self._ledger) - len(self._leaving), "left_out": self.left_out}}

    @property
    def _shown(self) -> HomeAssistantPlan | None:
        return self._running.plan.homeassistant

    def look(self) -> None:
        shown = self._shown
        if self.is_writing or (shown is None and not self._ledger):
            return
        self._forget_what_is_lost()
        is_other = self._bury()
        said: list[_Saying] = []
        if shown is not None and self._running.links[shown.broker].state in UP:
            keys = list(self._keys(shown))
            heard = {one.place for one in keys}
            self._say_unheard(shown, heard)
            said = [(one, self._payload(one)) for one in islice(self._due(shown, keys, heard), AT_ONCE)]
        for one, payload in said:
            is_other |= self._put(one, platforms(payload))
        self._take_back()
        if is_other:
            self._write_and_say(said)
        else:
            self._say(said)

    def _write_and_say(self, said: list[_Saying]) -> None:
        self.is_writing = True
        running = self._running
        work = partial(write, running.plan.state_dir, encoded(self._ledger))

        def done(_: object) -> None:
            self.is_writing = False
            if running is self._running:
                self._say(said)

        start_one_shot_thread("edged-note", work, lambda _: None).add_done_callback(done)

    def _begin(self) -> None:
        """With this plan, and what was told."""
        self._said.clear()
        self._places.clear()
        self._leaving.clear()
        self._stale.clear()
        self.left_out = 0
        plan, shown = self._running.plan, self._shown
        main = Place(shown.broker, config_topic(shown, main_id(plan))) if shown is not None else None
        for place, told in self._ledger.items():
            meant = main
            components: dict[str, str] = {}
            if shown is not None and told.source:
                components = key_components(shown, told.source)
                is_key = bool(components) and len(told.key) == len(plan.sources[told.source].key_names)
                meant = Place(shown.broker, config_topic(shown, key_id(plan, told.source, told.key))) if is_key else None
            if place != meant:
                self._leaving[place] = None
                if place.broker not in self._running.links:
                    log.warning("homeassistant_left", topic=place.topic, reason=f"there is no broker.{place.broker} any more")
            elif told.source and told.components != components:
                self._stale.append(_Due(place, told.source, told.key, told.judged))

    def _forget_what_is_lost(self) -> None:
        """All is said again after a connect, and when Home Assistant starts."""
        for name, link in self._running.links.items():
            seen = (link.counts.connects, self._running.births.count)
            if self._seen.get(name) != seen:
                self._seen[name] = seen
                self._said = {place: said for place, said in self._said.items() if place.broker != name}
                self._leaving = {p: None if p.broker == name else owed for p, owed in self._leaving.items()}

    # What is announced

    def _due(self, shown: HomeAssistantPlan, keys: list[_Due], heard: set[Place]) -> Iterator[_Due]:
        ledger = self._ledger
        main = Place(shown.broker, config_topic(shown, main_id(self._running.plan)))
        if main not in self._said:
            yield _Due(main, "", (), ())
        self.left_out = 0
        room = shown.most_devices - sum(bool(told.source) for place, told in ledger.items() if place not in self._leaving)
        for one in keys:
            if one.place not in ledger or one.place in self._leaving:
                room -= 1
                if room < 0 and not self._gives_way(heard):
                    self._leave_out(shown.most_devices)
                    continue
            if self._said.get(one.place) != one.judged:
                yield one
        for one in self._stale:
            if one.place not in heard and one.place in ledger and one.place not in self._said:
                yield one

    def _keys(self, shown: HomeAssistantPlan) -> Iterator[_Due]:
        """Every key that was heard of, with the sources that say whether it lives."""
        running = self._running
        for source, group, roots in {(one.source, one.key_group, one.roots) for one in shown.shown.values() if one.source}:
            table = running.keys[group]
            judges = {root: flags for root in roots if (flags := self._judged(root)) is not None}
            for id in range(len(table)):
                key = table.names(id)
                known = self._places.get((source, id))
                if known is None or known[0] is not key:
                    place = Place(shown.broker, config_topic(shown, key_id(running.plan, source, key)))
                    known = self._places[source, id] = (key, place)
                yield _Due(known[1], source, key, tuple(root for root, flags in judges.items() if flags[id]))

    def _judged(self, root: str) -> Flags | None:
        """Of which keys a source says whether they live."""
        fresh = self._running.freshness.get(root)
        if fresh is None or not self._running.plan.sources[root].key_names:
            return None
        return ((fresh.last_good > 0) | fresh.is_expected) & fresh.is_judged

    def _gives_way(self, heard: set[Place]) -> bool:
        """Whether a key that was not heard since the start makes room."""
        for place, told in self._ledger.items():
            if told.source and place not in heard and place not in self._leaving:
                self._leaving[place] = None
                return True
        return False

    def _say_unheard(self, shown: HomeAssistantPlan, heard: set[Place]) -> None:
        """A crash left the topics of keys as they were: what was not heard since is not there."""
        for place in list(self._unheard)[: 10 * AT_ONCE]:
            told = self._unheard.pop(place)
            for source in told.judged if place not in heard and place not in self._leaving else ():
                topic = "/".join((self._running.plan.base_topic, "source", source, *told.key))
                self._running.links[shown.broker].send(Message(topic.encode(), b"offline", 0, True))

    def _leave_out(self, most: int) -> None:
        self.left_out += 1
        if not self._has_warned:
            self._has_warned = True
            log.warning("homeassistant_full", reason=f"keys become at most {most} devices; those beyond are not shown")

    def _payload(self, one: _Due) -> dict[str, Any]:
        plan, shown = self._running.plan, self._shown
        assert shown is not None
        if not one.source:
            return main_device(plan, shown)
        return key_device(plan, shown, one.source, one.key, one.judged)

    def _put(self, one: _Due, components: dict[str, str]) -> bool:
        """Whether something has to be written down before it is said."""
        self._leaving.pop(one.place, None)
        told = self._ledger.get(one.place)
        if told is not None and (told.components, told.judged) == (components, one.judged):
            return False
        fresh = Told({}, {}, one.source, one.key)
        self._ledger[one.place] = (told or fresh).now(components, one.judged)
        if told is None:
            log.info("homeassistant", announced=one.place.topic, entities=len(components))
        return True

    def _say(self, said: list[_Saying]) -> None:
        for one, payload in said:
            body = msgspec.json.encode(without(payload, self._ledger[one.place].gone))
            message = Message(one.place.topic.encode(), body, 1, True)
            link = self._running.links[one.place.broker]
            if link.state not in UP or link.room(message.size) < 1:
                break
            link.send(message)
            self._said[one.place] = one.judged

    # What is taken back

    def _take_back(self) -> None:
        for place in [place for place, owed in self._leaving.items() if owed is None][:AT_ONCE]:
            link = self._running.links.get(place.broker)
            receipt = Receipt(0)
            message = Message(place.topic.encode(), b"", 1, True, receipt=receipt)
            if link is not None and link.state in UP and link.room(message.size) >= 1:
                self._leaving[place] = receipt
                link.send(message)

    def _bury(self) -> bool:
        """Whether something was taken back for good: the broker has it."""
        gone = [place for place, owed in self._leaving.items() if owed is not None and not owed.owed]
        for place in gone:
            del self._leaving[place]
            self._ledger.pop(place, None)
            self._said.pop(place, None)
            log.info("homeassistant", removed=place.topic)
        return bool(gone)
