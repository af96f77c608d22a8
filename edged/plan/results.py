"""How large results are: as messages, and while they are made of a model's outputs. What is not known is taken for small."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from edged.mqtt.settings import LinkSettings
from edged.plan.records import PipelinePlan, PublishPlan
from edged.records import USUAL_BYTES

NUMBER = {"json": 25, "text": 25, "msgpack": 9, "cbor": 9, "raw": 8}
"""Bytes of a number in a message, at most, by format."""
QUOTES = 6
"""Bytes around a text in a message."""
OBJECT = 32
"""Bytes of a number as Python has it, with its place in a list."""


def message_bytes(p: PipelinePlan, x: PublishPlan) -> int:
    """What one result of this entry takes as a message, at most."""
    chosen = x.settings.fields
    size = USUAL_BYTES
    for field, path in p.results:
        if chosen is None or field.name in chosen or path[0] in chosen:
            size += (field.stop - field.start) * NUMBER[x.settings.format] + len(field.name)
    return size + p.output.text_bytes + about_bytes(p)


def about_bytes(p: PipelinePlan) -> int:
    """Of the label and the tags of the key that has most of them."""
    texts = ([one.label or "", *(text for tag in one.tags for text in tag)] for _, one in p.about)
    return max((sum(len(text.encode()) + QUOTES for text in each) for each in texts), default=0)


def largest(pipelines: Iterable[PipelinePlan]) -> int:
    """The largest message of all."""
    return max((message_bytes(p, x) for p in pipelines for x in p.publishes), default=0)


def with_room(links: Mapping[str, LinkSettings], pipelines: Mapping[str, PipelinePlan]) -> dict[str, LinkSettings]:
    """Every outbox as large as it must be: half of it takes one result of each entry that publishes there, since a pipeline
    waits until all of its own have room."""
    whole = dict.fromkeys(links, 0)
    for p in pipelines.values():
        for x in p.publishes:
            whole[x.broker] += message_bytes(p, x)
    return {name: replace(link, outbox_bytes=max(link.outbox_bytes, 2 * whole[name])) for name, link in links.items()}


def making_bytes(p: PipelinePlan, batch: int) -> int:
    """What the results of one run take while they are made: their numbers one by one, and the texts of one."""
    numbers = 0 if p.output.keeps_arrays or not p.results else p.results[-1][0].stop
    return batch * numbers * OBJECT + 3 * max((message_bytes(p, x) for x in p.publishes), default=0)
