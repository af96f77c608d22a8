"""From the messages of a few seconds to the streams that a source may read: topics that differ in one level and hold the same
numbers are the sensors of one stream. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from edged.decode.propose import Reading, json_fields, readings

KEPT_PAYLOADS = 8
MAX_TOPICS = 2000
MAX_PAYLOAD = 64 * 1024


class Heard(msgspec.Struct):
    """What came on one topic: how many messages, and the newest of them. `kept`: those that the broker had kept from before."""

    count: int = 0
    kept: int = 0
    payloads: list[bytes] = msgspec.field(default_factory=list)

    def take(self, payload: bytes, is_kept: bool) -> None:
        self.kept += is_kept
        self.count += not is_kept
        self.payloads = [*self.payloads[1 - KEPT_PAYLOADS :], payload[:MAX_PAYLOAD]]


class Stream(msgspec.Struct, frozen=True):
    """`topic` as it stands in a configuration. `rate` is that of one key, 0 where nothing came but what was kept."""

    topic: str
    keys: tuple[str, ...]
    rate: float
    reading: Reading

    @property
    def about(self) -> str:
        of = f"{len(self.keys)} keys ({', '.join(self.keys[:4])}{', ...' if len(self.keys) > 4 else ''}), " if self.keys else ""
        rate = f"{self.rate:.3g}/s" if self.rate else "retained only"
        return f"{self.topic}: {of}{rate}, {', '.join(self.reading.fields[:8])}"


def streams_of(heard: Mapping[str, Heard], seconds: float) -> list[Stream]:
    """All streams whose numbers can be read, those that say most first."""
    alike: dict[tuple[int, str], list[str]] = defaultdict(list)
    read: dict[tuple[int, str], Reading] = {}
    for topic, one in heard.items():
        if (reading := _reading(one.payloads)) is None or topic.startswith("$"):
            continue
        mark = (topic.count("/"), repr(reading.keys))
        read[mark] = reading
        alike[mark].append(topic)
    found = [stream for mark, topics in alike.items() for stream in _streams(topics, read[mark], heard, seconds)]
    return sorted(found, key=lambda one: (-max(1, len(one.keys)) * one.rate, one.topic))


def _reading(payloads: Sequence[bytes]) -> Reading | None:
    if fields := json_fields(payloads):
        return Reading({"decode": {"format": "json", "fields": fields}}, "JSON")
    lines = [payload.strip() for payload in payloads]
    if any(b"\n" in line for line in lines):
        return None
    return next(iter(readings(b"\n".join([b"", *lines, *lines, *lines, b""]))), None)


def _streams(topics: Sequence[str], reading: Reading, heard: Mapping[str, Heard], seconds: float) -> list[Stream]:
    """With the level of the topic as the key that leaves the fewest streams, if one joins any."""
    split = [topic.split("/") for topic in topics]
    best: dict[Any, list[list[str]]] = {tuple(levels): [levels] for levels in split}
    place = -1
    for i in range(len(split[0])):
        groups: dict[Any, list[list[str]]] = defaultdict(list)
        for levels in split:
            rest = (*levels[:i], "", *levels[i + 1 :])
            groups[rest].append(levels)
        if len(groups) < len(best):
            best, place = groups, i
    return [_stream(levels, place, reading, heard, seconds) for levels in best.values()]


def _stream(group: list[list[str]], place: int, reading: Reading, heard: Mapping[str, Heard], seconds: float) -> Stream:
    total = sum(heard["/".join(levels)].count for levels in group)
    rate = total / seconds / len(group)
    if len(group) == 1:
        return Stream("/".join(group[0]), (), rate, reading)
    levels = [*group[0]]
    levels[place] = "{" + _key_name(levels[place - 1] if place else "") + "}"
    return Stream("/".join(levels), tuple(sorted(one[place] for one in group)), rate, reading)


def _key_name(before: str) -> str:
    """A name for the level that differs: `pump` behind `pumps`."""
    name = re.sub(r"\W", "_", before).removesuffix("s")
    return name if re.fullmatch(r"[a-zA-Z_]\w*", name) else "sensor"
