from __future__ import annotations

from collections.abc import Iterator

import pytest

from edged.config.convert import attributes, tables_in, types_of
from edged.config.schema import Config, Decode, Table
from edged.sources.kinds import KINDS

LATER = {"match"}


def tables(table: type[Table] = Config) -> Iterator[type[Table]]:
    yield table
    for attribute in attributes(table).values():
        for inner, _ in tables_in(attribute.type):
            yield from tables(inner)


@pytest.mark.parametrize("table", sorted(set(tables()), key=repr), ids=repr)
def test_every_key_says_what_it_means(table: type[Table]) -> None:
    assert table.__doc__
    for attribute in attributes(table).values():
        assert attribute.key.meaning, attribute.name
        assert attribute.name not in LATER, "a key that does nothing yet"
        kinds = types_of(Decode if issubclass(table, Decode) else table) if table.TYPE else ()
        assert not kinds or {*attribute.key.only, *attribute.key.required} <= {*kinds}


@pytest.mark.parametrize("table", sorted(set(tables()), key=repr), ids=repr)
def test_short_forms_and_types_are_keys(table: type[Table]) -> None:
    assert not table.FIRST or table.FIRST in attributes(table)
    assert not table.TYPE or table.TYPE in attributes(table)


def test_source_types_are_those_of_the_table() -> None:
    assert [table for table, _ in tables_in(attributes(Config)["source"].type)] == [kind.settings for kind in KINDS.values()]
    assert all(types_of(kind.settings) == (name,) for name, kind in KINDS.items())
