"""A table of sensors (`keys = "pumps.csv"`): a row for each key, a column for each thing in which they differ.

Cells are separated by what separates the names in the first line: a comma, a tab, or a semicolon (as spreadsheets write it where
numbers have a comma: they may have one here too). A cell in quotes may hold the separator. Empty lines and those that begin
with # are left out. What the columns mean is for the plan to judge, which knows fields and pipelines; each cell has its place.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from edged.notation.words import shown

KEY = "key"
MAX_ROWS = 10_000
MAX_COLUMNS = 100
MAX_CHARACTERS = 256
"""Of one cell."""
SEPARATORS = ",;\t"


class Cell(msgspec.Struct, frozen=True):
    """What stands at a place of the file; line and column are counted from 1."""

    text: str
    line: int
    column: int


class KeyRow(msgspec.Struct, frozen=True):
    """A key, and the cells of the other columns; None where one is empty."""

    key: Cell
    cells: tuple[Cell | None, ...]


class KeyFile(msgspec.Struct, frozen=True):
    """`columns` are all but `key`, in their order, as are the cells of each row."""

    path: Path
    name: str
    columns: tuple[Cell, ...] = ()
    rows: tuple[KeyRow, ...] = ()
    has_decimal_comma: bool = False

    def at(self, cell: Cell) -> str:
        """Its place, for a person."""
        return f"{self.name}:{cell.line}:{cell.column}"

    def number(self, cell: Cell) -> float:
        """Raises ValueError where it is none."""
        number = float(cell.text.replace(",", ".") if self.has_decimal_comma else cell.text)
        if number - number != 0:
            raise ValueError
        return number


def parse_key_file(path: Path, name: str, content: bytes) -> KeyFile:
    """Raises ValueError, with the place in the file."""
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{name}:{line}: expected UTF-8; save the file as UTF-8") from None
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not numbered:
        raise ValueError(f"{name}: expected a first line with the names of the columns, {KEY} among them, found an empty file")
    separator = max(SEPARATORS, key=numbered[0][1].count)
    header = _cells(name, *numbered[0], separator)
    names = [cell.text for cell in header]
    if KEY not in names:
        raise ValueError(f"{name}:{header[0].line}:1: expected a column {KEY} in the first line, found {shown(numbered[0][1])}")
    for i, cell in enumerate(header):
        if cell.text in names[:i] or not cell.text:
            said = f'the column "{cell.text}" stands here twice' if cell.text else "a column without a name"
            raise ValueError(f"{name}:{cell.line}:{cell.column}: {said}; each has a name of its own")
    if len(header) > MAX_COLUMNS or len(numbered) > MAX_ROWS + 1:
        found = f"{len(header)} and {len(numbered) - 1}"
        raise ValueError(f"{name}: expected at most {MAX_COLUMNS} columns and {MAX_ROWS} rows, found {found}")
    at = names.index(KEY)
    rows = tuple(_row(name, _cells(name, n, line, separator), len(header), at) for n, line in numbered[1:])
    first: dict[str, int] = {}
    for row in rows:
        if (line := first.setdefault(row.key.text, row.key.line)) != row.key.line:
            text = f"the key {shown(row.key.text)} has a row already, in line {line}; each key has one"
            raise ValueError(f"{name}:{row.key.line}:{row.key.column}: {text}")
    return KeyFile(path, name, (*header[:at], *header[at + 1 :]), rows, separator == ";")


def _row(name: str, cells: list[Cell], width: int, at: int) -> KeyRow:
    line = cells[0].line
    if len(cells) != width:
        raise ValueError(f"{name}:{line}:1: expected {width} cells, as the first line has, found {len(cells)}")
    key = cells[at]
    if not key.text:
        raise ValueError(f"{name}:{line}:{key.column}: expected a key, found an empty cell")
    return KeyRow(key, tuple([cell if cell.text else None for cell in (*cells[:at], *cells[at + 1 :])]))


def _cells(name: str, line: int, text: str, separator: str) -> list[Cell]:
    cell = re.compile(rf'[ ]*(?:"((?:[^"]|"")*)"[ ]*|(?![ ]*")([^{separator}]*))(?={separator}|$)')
    found, at = [], 0
    while True:
        match = cell.match(text, at)
        if match is None:
            raise ValueError(f'{name}:{line}:{at + 1}: expected the " that ends this cell; a " in a cell is written ""')
        value = match[2].strip() if match[1] is None else match[1].replace('""', '"')
        if len(value) > MAX_CHARACTERS:
            raise ValueError(f"{name}:{line}:{at + 1}: expected at most {MAX_CHARACTERS} characters, found {len(value)}")
        start = match.start(2) if match[1] is None else match.start(1) - 1
        found.append(Cell(value, line, start + 1))
        at = match.end() + 1
        if match.end() == len(text):
            return found
