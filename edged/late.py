"""Code that only some configurations need, by the place where it is.

A row of a table of kinds names its code so, and a daemon has only the code of the kinds that its configuration names: 3 MiB less
for a plain one. Whoever plans or builds a part gets its code, before the part runs; nothing on the data path does.
"""

from __future__ import annotations

from importlib import import_module
from typing import Generic, TypeVar

T = TypeVar("T")


class Late(Generic[T]):
    """What a module has under a name: `Late("edged.decode.influx:Influx")`. A test gets all that edged names."""

    def __init__(self, place: str) -> None:
        self.place = place

    def get(self) -> T:
        """It itself. Imports the module, unless somebody did before."""
        module, _, name = self.place.partition(":")
        found: T = getattr(import_module(module), name)
        return found
