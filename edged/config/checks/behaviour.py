"""Checks of behaviours: what one key needs of another."""

from __future__ import annotations

from edged.config.convert import Raw, Rule, Wrong
from edged.config.schema import Behaviour, OnEnd, Table


def one_end(table: OnEnd, raw: Raw) -> Wrong:
    """A message or bytes, and what belongs to each."""
    if (table.topic is None) == (table.write is None):
        found = "both" if table.topic is not None else "neither"
        yield "topic" if table.topic is not None else "", f"expected topic (with value) or write (with data), found {found}"
        return
    own, other = (("value",), ("data",)) if table.topic is not None else (("data",), ("value", "retain"))
    for key in own:
        if key not in raw:
            yield key, f"required with {'topic' if table.topic is not None else 'write'}", "table"
    for key in other:
        if key in raw:
            yield key, f"has no effect with {'topic' if table.topic is not None else 'write'}", "key"


def by_key(table: Behaviour, raw: Raw) -> Wrong:
    if table.per == "key" and not table.source:
        yield "per", 'an instance is made with the first row of its key: say source = "..."; which has keys'


def no_inbox(table: Behaviour, raw: Raw) -> Wrong:
    for key in ("inbox", "overflow"):
        if key in raw and not table.source:
            yield key, "has no effect without source", "key"
    if "limit" in raw and not table.publish:
        yield "limit", "has no effect without publish", "key"


RULES: dict[type[Table], tuple[Rule, ...]] = {
    OnEnd: (Rule((), one_end),),
    Behaviour: (Rule(("per", "source"), by_key), Rule(("source", "publish"), no_inbox)),
}
