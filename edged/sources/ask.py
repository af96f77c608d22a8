"""A stream of questions: its samples are what behaviours ask. Nothing comes of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from edged.config import schema
from edged.records import Block, Field
from edged.sources.counts import SourceCounts
from edged.sources.kind import Kind, Parts, Planned


class AskSource:
    """It has a place in health and in plans like any other."""

    def __init__(self, name: str, counts: SourceCounts) -> None:
        self.name = name
        self.counts = counts
        self.state = "idle"
        self.reason = ""

    async def run(self, push: Callable[[Block], None]) -> None:
        await asyncio.get_running_loop().create_future()


def build(plan: Planned, parts: Parts) -> AskSource:
    return AskSource(plan.name, parts.counts)


def describe(plan: Planned) -> str:
    return "what behaviours ask"


def fields_of(settings: Any) -> tuple[Field, ...]:
    return tuple(Field(name, i, i + 1) for i, name in enumerate(settings.fields))


KIND = Kind(schema.AskSource, build, describe, made=fields_of, is_played=True)
