"""What a table of the file is made of: `Key` says what the reference page says of a key, and where it has an effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from edged.config.parsers.measures import (
    CapOf,
)


class Key(msgspec.Struct, frozen=True):
    """What is said of one key. `default` is its default in words where that is not one value.

    Within a table that has a type, `only` names the types for which the key has an effect, `required` those that need it.
    """

    meaning: str
    default: str = ""
    only: tuple[str, ...] = ()
    required: tuple[str, ...] = ()


class Several(msgspec.Struct, frozen=True):
    """Marks `T+`: a single value stands for a list of one. `at_least` is the shortest list accepted."""

    at_least: int = 0


Limit = Annotated[tuple[CapOf, ...], Several(1)]
"""Never more than each of them."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the file. A string stands for a table that has only the key FIRST; the key TYPE says of which type it is.

    An empty table inside another one has no effect and is refused, unless IS_SAID_BY_EMPTY."""

    FIRST: ClassVar[str] = ""
    TYPE: ClassVar[str] = ""
    IS_SAID_BY_EMPTY: ClassVar[bool] = False
    SLIPS: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Keys that one would look for here: the key that is meant, and the words that say so."""
