from __future__ import annotations

import pytest

from edged.decode.formats import FORMATS, with_field_key, with_key


@pytest.mark.parametrize(
    ("key", "formats"),
    [
        ("endian", ("struct", "modbus", "raw")),
        ("rows", ("json", "msgpack", "cbor", "struct")),
        ("color", ("image",)),
    ],
)
def test_the_formats_for_which_a_key_has_an_effect(key: str, formats: tuple[str, ...]) -> None:
    assert with_key(key) == formats


def test_the_formats_of_which_parts_are_found_by_a_path() -> None:
    assert (
        with_field_key("path")
        == tuple(name for name, format in FORMATS.items() if format.is_by_path)
        == ("json", "msgpack", "cbor", "senml", "influx", "nmea", "ubx", "dsmr", "vedirect")
    )
    assert [name for name, format in FORMATS.items() if format.tree is not None] == ["json", "msgpack", "cbor"]


def test_every_format_has_one_decoder() -> None:
    assert all((format.numbers is None) is format.is_of_pictures for format in FORMATS.values())
