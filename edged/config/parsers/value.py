"""What every parser has: how its type is called, and what it may look at beside the value."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from edged.notation.files import read_small


class Surroundings(msgspec.Struct, frozen=True):
    """What a value may refer to outside the file. `warnings` collects remarks on the value being parsed, `files` what the small
    files hold that values name. `copies`: files to be read in the place of others, by these."""

    folder: Path
    environ: Mapping[str, str]
    warnings: list[str] = []
    files: dict[Path, bytes] = {}
    copies: Mapping[Path, Path] = {}

    def __repr__(self) -> str:
        return f"Surroundings({self.folder})"  # what files hold is for nobody's log

    def place(self, name: str) -> Path:
        """Where a path of the configuration leads. Raises ValueError for what only a shell would understand."""
        home = self.environ.get("HOME", "/home/...")
        if name == "~" or name.startswith("~/"):
            raise ValueError(f"~ is not expanded; write {home}{name[1:]}")
        if found := re.search(r"\$\{?(\w+)\}?", name):
            meant = home if found[1] == "HOME" else "..."
            raise ValueError(f"nothing is replaced here, {found[0]} stays as it is; write {name.replace(found[0], meant)}")
        return self.folder / name

    def file(self, name: str) -> Path:
        """Where to read a small file that is named."""
        path = self.place(name)
        where = self.copies.get(path, path)
        with contextlib.suppress(ValueError):  # who reads it says what is wrong with it
            self.files[path] = read_small(where)
        return where


class Value(msgspec.Struct, frozen=True):
    """How a value is written: the name of its type in the reference page, and what makes it of the TOML value."""

    name: str
    parse: Callable[[Any, Surroundings], Any]
