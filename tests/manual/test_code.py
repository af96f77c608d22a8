"""The page that explains the code is true: every file and name on it exists where the page says, and every room is on it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import tomli

import edged

ROOT = Path(__file__).parents[2]
EDGED = Path(edged.__file__).parent
TEXT = (EDGED / "manual" / "code.md").read_text("utf-8")
PLACEHOLDER = "NAME"
WORDS = 25


def spans() -> Iterator[tuple[int, str]]:
    """Every code span of the page, with its line."""
    for number, line in enumerate(TEXT.splitlines(), 1):
        for span in re.findall(r"`([^`]+)`", line):
            yield number, span


def find(place: str) -> Path | None:
    """A file or folder as the page names it: in edged/, or in the repository."""
    return next((path for path in (EDGED / place, EDGED.parent / place, ROOT / place) if path.exists()), None)


def names(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """What is defined there: functions, classes, constants, and of classes `Class.method` and `Class.attribute`."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.ClassDef(name=name):
                yield prefix + name
                yield from names(node, f"{prefix}{name}.")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield prefix + name
                if prefix:
                    yield from (prefix + own for own in attributes(node))
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name


def attributes(method: ast.AST) -> Iterator[str]:
    """What a method sets of `self`."""
    for node in ast.walk(method):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name


def names_of(path: Path) -> set[str]:
    return set(names(ast.parse(path.read_text("utf-8"))))


def texts(path: Path) -> set[str]:
    """The strings of a file: reasons, states, names of counters."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[str]:
    """The first cells of the table in a section, without its head."""
    return [line.split("|")[1].strip() for line in section(title).splitlines() if line.startswith("|")][2:]


def test_every_file_and_every_name_in_one_exists() -> None:
    stale, seen = [], 0
    for number, span in spans():
        place, _, name = span.partition(":")
        if PLACEHOLDER in span or not re.fullmatch(r"[\w./-]+(\.py|\.md|\.toml|/)", place):
            continue
        seen += 1
        path = find(place)
        if path is None:
            stale.append(f"code.md:{number}: there is no {place}")
        elif name and name not in names_of(path):
            stale.append(f"code.md:{number}: {place} has no {name}")
    assert not stale, "\n".join(stale)
    assert seen > 100


def test_every_other_word_in_code_type_is_one_of_the_code_or_of_the_configuration() -> None:
    words = set(re.findall(r"\w+", (EDGED / "config" / "REFERENCE.md").read_text("utf-8")))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for file in EDGED.rglob("*.py"):
        words |= {part for name in names_of(file) for part in name.split(".")} | texts(file)
    stale = []
    for number, span in spans():
        match = re.fullmatch(r"(\w+)(\(.*\))?", span)
        target = re.fullmatch(r"make ([\w-]+)", span)
        if (match and match[1] not in words) or (target and target[1] not in targets):
            stale.append(f"code.md:{number}: nothing is called {span!r}")
    assert not stale, "\n".join(stale)


def test_every_room_is_on_the_page_in_the_order_of_the_layers() -> None:
    there = {
        path.name + "/" * path.is_dir()
        for path in EDGED.iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    }
    listed = [cell.strip("`") for cell in rows("The rooms")]
    assert sorted(listed) == sorted(there - {"__init__.py"})
    contracts = tomli.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    level = {room: i for i, layer in enumerate(layers) for room in layer.split(" | ")}
    levels = [level[name.removesuffix("/").removesuffix(".py")] for name in listed]
    assert levels == sorted(levels), "the table of rooms is not in the order of the layers in pyproject.toml"


def test_the_glossary_is_sorted_and_of_the_size_that_it_should_have() -> None:
    assert rows("Words") == sorted(rows("Words"))
    assert len(rows("Words")) == WORDS


def test_the_page_is_installed_with_the_package() -> None:
    data = tomli.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["edged"]
    assert any((EDGED / "manual" / "code.md") in EDGED.glob(pattern) for pattern in data)
