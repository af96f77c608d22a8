from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.config.introspection import attributes, tables_in, types_of
from edged.config.schema import Config, Decode, Pipeline, Step, Table
from edged.notation.values import Function
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
    assert [table for table, _ in tables_in(attributes(Config)["source"].type)] == [
        kind.get().settings for kind in KINDS.values()
    ]
    assert all(types_of(kind.get().settings) == (name,) for name, kind in KINDS.items())


def test_the_functions_of_a_pipeline_go_by_their_keys() -> None:
    one, other = (Function(Path("steps.py"), name) for name in ("one", "other"))
    steps = Step(step="normalize", mean=(1.0,), std=(1.0,)), Step(step=one)
    assert Pipeline(source=("a",), preprocess=steps, postprocess=(other,)).functions == {
        "preprocess[1]": one,
        "postprocess[0]": other,
    }
    assert Pipeline(source=("a",)).functions == {}
