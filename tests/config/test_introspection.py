from __future__ import annotations

import msgspec

from edged.config import schema
from edged.config.introspection import attributes, tables_with_places


def test_the_defaults_of_all_keys_are_those_of_the_structs() -> None:
    tables = [t for t in vars(schema).values() if isinstance(t, type) and issubclass(t, schema.Table) and t is not schema.Table]
    assert len(tables) > 20
    for table in tables:
        found = {one.field: one.default for one in attributes(table).values()}
        for info in msgspec.structs.fields(table):
            has_factory = info.default_factory is not msgspec.NODEFAULT
            assert found[info.name] == (info.default_factory() if has_factory else info.default), (table, info.name)


def test_every_table_has_its_place() -> None:
    places = {where: table for table, where in tables_with_places()}
    assert places["pipeline", "NAME", "window"] is schema.Window
    assert places["pipeline", "NAME", "publish"] is schema.Publish
    assert () not in places
