"""No class is too large to be read, and none is changed from outside: who wires parts calls them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import edged

ROOT = Path(edged.__file__).parent
MAX_ATTRIBUTES, MAX_ARGUMENTS = 15, 10
LARGE: set[str] = set()
"""Those that are to be cut; each goes from here with the cut, and none comes in."""
RECORDS = {"counts", "_counts", "lag", "slot", "block", "rows", "spread", "module"}
"""The names of ledgers and records, which whoever works on them fills."""
SAME_KIND = {"old", "track"}
"""Another of one's own class, or a part that nobody else has."""
WIRING = ("assembly", "build", "connect", "gating")


def classes() -> Iterator[tuple[ast.ClassDef, ast.FunctionDef]]:
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                yield from ((node, one) for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__")


def own_attributes(node: ast.ClassDef) -> set[str]:
    stored = (one for one in ast.walk(node) if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store))
    return {one.attr for one in stored if isinstance(one.value, ast.Name) and one.value.id == "self"}


def test_no_class_is_too_large() -> None:
    found = {
        node.name
        for node, init in classes()
        if len(own_attributes(node)) > MAX_ATTRIBUTES or len(init.args.args) + len(init.args.kwonlyargs) - 1 > MAX_ARGUMENTS
    }
    assert found == LARGE


def test_nothing_is_assigned_from_outside_where_parts_are_built_and_wired() -> None:
    found = []
    for file in sorted([*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "daemon" / f"{name}.py" for name in WIRING)]):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                owner = ast.unparse(node.value).rpartition(".")[2]
                if owner not in {"self"} | RECORDS | SAME_KIND:
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not found, "\n".join(found)
