"""What a path leads to in a tree of dicts and lists."""

from __future__ import annotations

from enum import Enum
from typing import Any

from edged.decode.where import as_text
from edged.notation.field_paths import Path, Select, Step


class Nothing(Enum):
    """What a path leads to when it leads nowhere, which is something else than null."""

    ABSENT = "absent"


ABSENT = Nothing.ABSENT
_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}


def find(tree: Any, path: Path, root: Any = ABSENT) -> Any:
    """What `path` leads to; ABSENT when it leads nowhere. `root` is the message's, where `tree` is an element of it."""
    for part in path:
        if part is Step.ROOT:
            tree = root if root is not ABSENT else tree
        elif isinstance(part, Select):
            tree = _selected(tree, part)
        elif isinstance(part, Step):
            continue
        elif isinstance(tree, dict):
            tree = tree.get(str(part), tree.get(part, ABSENT) if isinstance(part, int) else ABSENT)
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            tree = tree[part]
        else:
            return ABSENT
    return tree


def _selected(tree: Any, select: Select) -> Any:
    for one in tree if isinstance(tree, list) else ():
        found = find(one, select.member) if select.member else one
        if as_text(found) == select.value:
            return one
    return ABSENT


def kind_of(leaf: Any) -> str:
    """What a value is, in words."""
    return "null" if leaf is None else "nothing" if leaf is ABSENT else _KINDS.get(type(leaf), type(leaf).__name__)


def members(tree: Any, shown: int = 6) -> str:
    """What a message is, in few words: that it has these members, or what else it is."""
    if not isinstance(tree, dict):
        return f"it is {kind_of(tree)}"
    names = [str(name)[:40] for name in list(tree)[:shown]]
    return f"it has {', '.join(names)}{', ...' if len(tree) > shown else ''}" if names else "it has no member"
