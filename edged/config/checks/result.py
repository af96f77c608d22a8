"""Checks of results: outputs, conditions, what is published."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from edged.config.convert import Raw, Rule, Wrong
from edged.config.schema import (
    Gate,
    HomeAssistant,
    Output,
    Publish,
    ShownEntity,
    Table,
    When,
)
from edged.notation.words import shown
from edged.results.heads.head import Check
from edged.results.heads.table import HEADS


def output_names(table: Output, raw: Raw) -> Wrong:
    if not HEADS[table.type].takes_several and table.tensor is not None and len(table.tensor) > 1:
        yield "tensor", f'expected one output of the model for type = "{table.type}", found {len(table.tensor)}'
    names = [field.name for field in table.fields or ()]
    for name, count in Counter(names).items():
        if count > 1:
            yield "fields", f'"{name}" is listed {count} times; each value needs a name of its own'


def only_of(head: str, check: Check) -> Callable[[Output, Raw], Wrong]:
    """A check of one output type, not asked of the others."""

    def find(table: Output, raw: Raw) -> Wrong:
        return check.find.get()(table, raw) if table.type == head else iter(())

    return find


def conditions(table: When | Gate, raw: Raw) -> Wrong:
    if table.above is not None and table.below is not None and table.above >= table.below:
        yield "below", f"nothing is above {table.above:g} and below {table.below:g}; both must hold"
    if table.label is not None and (table.above is not None or table.below is not None) and table.of == "label":
        yield "of", '"label" is a text and has no above or below; leave of out'


def intervals(table: When, raw: Raw) -> Wrong:
    if table.min_interval is not None and table.max_interval is not None and table.min_interval > table.max_interval:
        yield "max_interval", f"expected at least min_interval, {shown(raw['min_interval'])}, found {shown(raw['max_interval'])}"


def gate_conditions(table: Gate, raw: Raw) -> Wrong:
    if not {"of", "above", "below", "label", "change"} & raw.keys():
        yield "of", 'required: when is it open? Such as above = 0.8, label = "worn", or of = "anomaly" (true)', "table"


def published_fields(table: Publish, raw: Raw) -> Wrong:
    fields = table.fields or ()
    if table.format == "text" and len(fields) != 1:
        found = f"found {len(fields)}" if fields else "found none"
        text = f'expected one field, whose bare value is sent as text, {found}; such as fields = "score"'
        yield ("fields", text) if fields else ("fields", text, "table")
    if table.format == "raw" and len(fields) > 1:
        yield "fields", f'expected one tensor for format = "raw", found {len(fields)}; publish each by itself'
    for name, count in Counter(fields).items():
        if count > 1:
            yield "fields", f'"{name}" is listed {count} times'


def announced(table: HomeAssistant, raw: Raw) -> Wrong:
    if "discovery" not in raw:
        yield "discovery", "required: true, or false", "table"


def icons(table: ShownEntity, raw: Raw) -> Wrong:
    if table.icon is not None and not re.fullmatch(r"[a-z0-9-]+:[a-z0-9-]+", table.icon):
        yield "icon", f'expected an icon such as "mdi:pump", found {shown(table.icon)}'


RULES: dict[type[Table], tuple[Rule, ...]] = {
    Output: (
        Rule(("type", "tensor", "fields"), output_names),
        *(Rule(("type", *check.reads), only_of(name, check)) for name, kind in HEADS.items() for check in kind.checks),
    ),
    When: (Rule(("above", "below", "label", "of"), conditions), Rule(("min_interval", "max_interval"), intervals)),
    Gate: (
        Rule(("above", "below", "label", "of"), conditions),
        Rule(("of", "above", "below", "label", "change"), gate_conditions),
    ),
    HomeAssistant: (Rule(("discovery",), announced),),
    ShownEntity: (Rule(("icon",), icons),),
    Publish: (Rule(("format", "fields"), published_fields),),
}
