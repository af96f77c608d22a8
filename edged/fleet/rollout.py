"""The laptop's side of a roll-out: who is meant, how far it is, and whether it goes on. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from edged.fleet.announcement import CONFIGURATION, Announcement, is_for, place

BAD = ("failed", "went_back", "refused")
MAX_DEVICES = 200_000


class Progress(NamedTuple):
    """Of the devices that are meant: `done` run it, `bad` say why not, the others are on their way."""

    meant: tuple[str, ...]
    done: tuple[str, ...]
    bad: Mapping[str, str]

    @property
    def waiting(self) -> tuple[str, ...]:
        settled = {*self.done, *self.bad}
        return tuple(name for name in self.meant if name not in settled)


def entries(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a report says, by model, and of the configuration."""
    return {**said["models"], **({CONFIGURATION: said["configuration"]} if "configuration" in said else {})}


class Group:
    """What is retained below the topic of a group: reports by device, and the newest counter of each model."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.reports: dict[str, dict[str, Any]] = {}
        self.counters: dict[str, int] = {}
        self.announced: dict[str, Announcement] = {}

    def take(self, topic: str, payload: bytes) -> str | None:
        """A message below it; returns the device of a report. What is none is passed over."""
        kind, _, name = topic.removeprefix(f"{self.topic}/").partition("/")
        try:
            said = msgspec.json.decode(payload)
            if kind == "model" or (kind == "configuration" and name == CONFIGURATION):
                self.announced[name] = one = msgspec.json.decode(said["signed"], type=Announcement)
                self.counters[name] = max(one.counter, self.counters.get(name, 0))
            elif kind == "report" and said["device"] == name and (name in self.reports or len(self.reports) < MAX_DEVICES):
                counters = {model: int(entry["counter"]) for model, entry in entries(said).items()}
                self.reports[name] = said
                for model, counter in counters.items():
                    self.counters[model] = max(counter, self.counters.get(model, 0))
                return name
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return None

    def next_counter(self, model: str, utc_s: float) -> int:
        """Higher than any that was seen; the time besides, so that it also rises where nothing was."""
        return max(self.counters.get(model, 0) + 1, int(utc_s))

    def meant(self, one: Announcement) -> tuple[str, ...]:
        """The devices that take it, of those that ever reported and have that model."""
        return tuple(
            name
            for name, said in sorted(self.reports.items())
            if one.model in entries(said) and is_for(one, name, said.get("tags") or {})
        )

    def canary(self, one: Announcement, percent: float) -> float:
        """So many percent, or as many as it takes for one device to be among them."""
        places = sorted(place(one.model, name) for name in self.meant(msgspec.structs.replace(one, percent=100.0)))
        return percent if not places else min(100.0, max(percent, places[0] + 1e-6))

    def progress(self, one: Announcement) -> Progress:
        """How far an announcement is."""
        meant = self.meant(one)
        done, bad = [], {}
        for name in meant:
            entry = entries(self.reports[name])[one.model]
            is_this = entry.get("counter") == one.counter
            if is_this and entry.get("state") == "running":
                done.append(name)
            elif entry.get("state") in BAD and (is_this or entry["state"] == "refused"):
                bad[name] = f"{entry['state']}: {entry.get('reason', '')}"
        return Progress(meant, tuple(done), bad)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One line a device and model."""
        for name, said in sorted(self.reports.items()):
            for model, entry in sorted(entries(said).items()):
                yield {"device": name, "edged": said.get("version", ""), "model": model, **entry}
