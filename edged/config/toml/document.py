"""Reads TOML: text to plain values and positions, or one friendly line about the first place where it is no TOML.

The only importer of tomli. What a syntax error most probably comes from is a table at the end of this file.

Where the text is no TOML nobody can tell a value from the rest of it, and a value may be a password without quotes: so no
message quotes what it found, only names that were read as names of keys and tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import tomli

from edged.config.toml.positions import KeyPath, Positions, Scanner, scan, written


class Document(msgspec.Struct, frozen=True):
    """The values of a file as tomli gives them, and where they stand."""

    values: dict[str, Any]
    positions: Positions


class SyntaxProblem(Exception):
    """The text is no TOML from `line` and `column` (counted from 1) on."""

    def __init__(self, line: int, column: int, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.column = column
        self.text = text


def parse(text: str) -> Document:
    """Raises SyntaxProblem at the first place that is no TOML."""
    text = text.replace("\r\n", "\n")
    try:
        values = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise _explain(text, error.msg, error.pos) from None
    except RecursionError:
        raise SyntaxProblem(1, 1, "TOML: brackets are nested too deep") from None
    return Document(values, scan(text))


class _Failure(msgspec.Struct, frozen=True):
    """What tomli said, where, and what was found up to there."""

    text: str
    message: str
    at: int
    scanner: Scanner

    @property
    def word(self) -> str:
        """What stands at the place, up to the end of its line."""
        return self.text[self.at :].split("\n", 1)[0].strip()

    @property
    def end(self) -> str:
        return "" if self.word else ", found the end of the line"

    @property
    def line_before(self) -> str:
        return self.text[: self.at].rsplit("\n", 1)[-1]

    def line_of(self, offset: int) -> int:
        return self.text.count("\n", 0, offset) + 1


def _explain(text: str, message: str, at: int) -> SyntaxProblem:
    scanner = Scanner(text[:at])
    scanner.run()
    failure = _Failure(text, message, min(at, len(text)), scanner)
    said = _something_else(failure)
    for pattern, explain in _EXPLANATIONS:
        found = re.match(pattern, message)
        said = said or (explain(failure, found) if found else None)
    offset, words = said or (failure.at, "TOML: what begins here is none")
    line, column = Positions(text, {}).line_column(offset)
    return SyntaxProblem(line, column, words)


Said = tuple[int, str] | None

_UNSEEN = {
    "\u00a0": "no-break space",
    "\u2007": "figure space",
    "\u200b": "zero-width space",
    "\u200c": "zero-width non-joiner",
    "\u200d": "zero-width joiner",
    "\u202f": "narrow no-break space",
    "\u2060": "word joiner",
    "\u3000": "ideographic space",
    "\ufeff": "byte-order mark",
}
"""What comes along when text is copied from a web page."""
_WIDE = range(0xFF01, 0xFF5F)
"""Letters, digits and signs as an input method for Chinese or Japanese writes them: each is an ASCII one, shifted."""
_YAML = re.compile(r"(?:---|[\w-]+:(?:\s.*)?)$")
_MARKERS = ("<<<<<<< ", "=======", ">>>>>>> ", "||||||| ")


def _something_else(failure: _Failure) -> Said:
    """What is no slip in TOML: another kind of file, or characters that look like others."""
    text, begin = failure.text, failure.at - len(failure.line_before)
    line = text[begin:].split("\n", 1)[0]
    if "\r" in line:
        return begin + line.index("\r"), "TOML: the lines end in CR alone; save the file with LF or CRLF at the end of each line"
    if line.startswith(_MARKERS):
        return begin, "a merge conflict was left in the file; keep one of the two sides, and remove the lines with the markers"
    first = next((one for one in text.split("\n") if one.strip() and not one.lstrip().startswith("#")), "")
    if _YAML.match(first) and not re.search(r"^\s*\[|^[^#:\"']*=", text, re.MULTILINE):
        offset = text.index(first)
        return offset, 'this is YAML, and the configuration is TOML; write [broker.main] and below it url = "mqtt://localhost"'
    if failure.text[failure.at :].startswith("\0") or "\0" in line:
        offset = begin + line.index("\0") if "\0" in line else failure.at
        return offset, "expected text, found a NUL byte; the file is damaged or not text: restore it, or write it again"
    for offset, character in enumerate(line, begin):
        if offset >= failure.at - 1 and (name := _UNSEEN.get(character)):
            column = offset - begin + 1
            return offset, f"TOML: an invisible {name} (U+{ord(character):04X}) in column {column}; type a plain blank, or none"
        if offset >= failure.at - 1 and ord(character) in _WIDE:
            plain = chr(ord(character) - 0xFEE0)
            return offset, f"TOML: this is a full-width {plain} (U+{ord(character):04X}); write the plain {plain}"
    return None


def not_utf8(content: bytes, at: int) -> str:
    """What to say of bytes that are no UTF-8 from `at` on."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "expected UTF-8 text, found UTF-16; save the file as UTF-8"
    return f"expected UTF-8 text, found the byte 0x{content[at]:02X}; save the file as UTF-8"


def _declared_twice(failure: _Failure, _: re.Match[str]) -> Said:
    header = failure.text.rfind("\n", 0, failure.at) + 1
    whole = Scanner(failure.text[: failure.at] + "]" * (failure.text.startswith("]]", failure.at) + 1))
    whole.run()
    path = whole.duplicates[-1][0] if whole.duplicates else _header_path(failure)
    first = failure.scanner.places.get(path)
    where = f", first at line {failure.line_of(first.value)}" if first else ""
    one = {"source": "sensor", "broker": "broker", "model": "model", "pipeline": "pipeline"}.get(str(path[0]) if path else "")
    fix = f"; a second {one} needs a name of its own" if one and len(path) == 2 else "; put all its keys in one place"
    return header, f"{written(path)}: declared twice{where}{fix}"


def _header_path(failure: _Failure) -> KeyPath:
    inside = failure.line_before.strip().lstrip("[").rstrip("]")
    return tuple(part.strip().strip("\"'") for part in inside.split("."))


def _is_header(failure: _Failure) -> bool:
    """Whether the line is the header of a table: one that begins with a bracket may also be in the midst of a value."""
    before = Scanner(failure.text[: failure.at - len(failure.line_before)])
    before.run()
    is_outside = before.at >= len(before.text) and not before.open_brackets
    return is_outside and failure.line_before.lstrip().startswith("[")


def _given_twice(failure: _Failure, _: re.Match[str]) -> Said:
    if _is_header(failure):
        path = _header_path(failure)
        for end in range(1, len(path) + 1):
            place = failure.scanner.places.get(path[:end])
            if place is not None and failure.text[place.value] != "[":
                is_value = f"{written(path[:end])}: is a value at line {failure.line_of(place.value)} and a table here"
                return failure.at - len(failure.line_before), f"{is_value}; rename one of the two"
        return _declared_twice(failure, _)
    if not failure.scanner.duplicates:
        return None
    path, first, second = failure.scanner.duplicates[-1]
    return second, f"{written(path)}: given twice, first at line {failure.line_of(first)}; remove one"


def _closed(failure: _Failure, found: re.Match[str]) -> Said:
    path = tuple(re.findall(r"'([^']*)'", found[1]))
    place = failure.scanner.places.get(path)
    where = f" at line {failure.line_of(place.value)}" if place else ""
    begin = failure.at - len(failure.line_before.lstrip())
    return begin, f"{written(path)}: was written whole{where}, in braces or brackets; put all of it in one place"


def _not_closed(failure: _Failure, _: re.Match[str]) -> Said:
    if not failure.scanner.open_brackets:
        return None
    opened = failure.scanner.open_brackets[-1]
    what = "brace" if failure.text[opened] == "{" else "bracket"
    line = failure.line_of(opened)
    if failure.at >= len(failure.text):
        return failure.at, f"TOML: the {what} opened at line {line} is not closed"
    if line == failure.line_of(failure.at) and failure.word:
        column = opened - failure.text.rfind("\n", 0, opened)
        closing = "}" if what == "brace" else "]"
        return failure.at, f"TOML: expected a comma or {closing}; the {what} opened at column {column} is not closed"
    return failure.at, f"TOML: the {what} opened at line {line} is not closed, or a comma is missing before this"


def _no_key(failure: _Failure, found: re.Match[str]) -> Said:
    if failure.scanner.open_brackets:
        return _not_closed(failure, found)
    return failure.at, f"TOML: expected a name{failure.end}"


def _no_value(failure: _Failure, _: re.Match[str]) -> Said:
    word = re.split(r"[\s,\]}#]", failure.word, maxsplit=1)[0] if failure.word else ""
    if not word:
        return failure.at, "TOML: expected a value after =, found the end of the line"
    if word.lower() in ("true", "yes", "on", "false", "no", "off"):
        return failure.at, f"TOML: write {'true' if word.lower() in ('true', 'yes', 'on') else 'false'} instead"
    if word[0] in "“”„‟«‘’":
        return failure.at, 'TOML: these are quotes of a word processor; write "..."'
    if re.fullmatch(r"[+-]?\.\d+", word):
        return failure.at, "TOML: a number needs a digit before the point, such as 0.5"
    if word[0] in "=,":
        return failure.at, f"TOML: expected a value, found {word[0]}"
    return failure.at, 'TOML: expected a value; a string needs quotes: "..."'


def _end_expected(failure: _Failure, _: re.Match[str]) -> Said:
    begun = re.search(r"=\s*([^=]*)$", failure.line_before)
    value = begun[1].strip() if begun else ""
    word = re.split(r"[\s,\]}#]", failure.word, maxsplit=1)[0]
    if failure.word.startswith(","):
        return failure.at, "TOML: expected the end of the line, found a comma; outside of braces and brackets there is none"
    if re.fullmatch(r"[+-]?0", value) and word[:1].isdigit():
        return failure.at - 1, "TOML: a number does not begin with 0"
    if re.fullmatch(r"[+-]?[\d._]+", value) and word and not word[0].isspace() and failure.text[failure.at] == word[0]:
        return failure.at - len(value), 'TOML: a value with a unit is a string, in quotes, such as "8MiB"'
    if failure.line_before.strip().startswith("["):
        return failure.at, "TOML: expected the end of the line after a table's name"
    return failure.at, "TOML: expected the end of the line after a value"


def _backslash(failure: _Failure, _: re.Match[str]) -> Said:
    return (
        failure.at,
        'TOML: a backslash in "..." begins an escape; double it (\\\\), or use single quotes, which take it as it is',
    )


def _text_not_closed(failure: _Failure, _: re.Match[str]) -> Said:
    if failure.text[failure.at : failure.at + 1] not in ("\n", ""):
        character = failure.text[failure.at]
        return failure.at, f"TOML: the character U+{ord(character):04X} cannot stand here"
    before = failure.line_before
    begin = max(before.rfind('"'), before.rfind("'"))
    return failure.at - len(before) + max(begin, 0), "TOML: this string has no closing quote on its line"


def _quote_expected(failure: _Failure, found: re.Match[str]) -> Said:
    opened = failure.text.rfind(found[1], 0, failure.at)
    return max(opened, 0), f"TOML: the string that begins here is not closed; expected {found[1]}"


def _no_equals(failure: _Failure, _: re.Match[str]) -> Said:
    if failure.word.startswith(":"):
        return failure.at, "TOML: write key = value, found a colon"
    return (
        failure.at,
        f"TOML: expected = after a key{failure.end or '; a name needs quotes if it has more than letters, digits, _ and -'}",
    )


def _header_open(failure: _Failure, found: re.Match[str]) -> Said:
    return failure.at, f"TOML: expected {found[1]} after the name of a table{failure.end}"


def _no_statement(failure: _Failure, _: re.Match[str]) -> Said:
    fix = "; this is TOML, not JSON" if failure.word.startswith("{") else ""
    return failure.at, f"TOML: expected key = value or [table]{fix}"


def _no_date(failure: _Failure, _: re.Match[str]) -> Said:
    return failure.at, "TOML: there is no such date or time; a string needs quotes"


_EXPLANATIONS: tuple[tuple[str, Callable[[_Failure, re.Match[str]], Said]], ...] = (
    (r"Cannot declare", _declared_twice),
    (r"Cannot overwrite", _given_twice),
    (r"Duplicate inline table key", _given_twice),
    (r"Cannot (?:mutate immutable|redefine|extend).*?\((.*)\)", _closed),
    (r"Unclosed (?:inline table|array)", _not_closed),
    (r"Invalid initial character", _no_key),
    (r"Invalid value", _no_value),
    (r"Invalid date", _no_date),
    (r"Expected newline or end of document", _end_expected),
    (r"Unescaped|Invalid hex value|Escaped character", _backslash),
    (r"Illegal character", _text_not_closed),
    (r"Unterminated string", _text_not_closed),
    (r"Expected (\"+|'+)$", _quote_expected),
    (r"Expected ['\"](\"+|'+)['\"]", _quote_expected),
    (r"Expected '='", _no_equals),
    (r"Expected '(\]+)'", _header_open),
    (r"Invalid statement", _no_statement),
)
