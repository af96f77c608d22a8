"""Where each key of a TOML file stands: a scanner, since tomli gives the values but no positions.

It reads text that tomli has accepted and knows only as much of TOML as it takes to find keys and the first character of
values. On text that tomli refused it goes as far as it can and stops; `open_brackets` then tells what was left open.
Offsets are characters of the text after CRLF has become LF, as tomli counts them.
"""

from __future__ import annotations

import re
from bisect import bisect_right

import msgspec

KeyPath = tuple["str | int", ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b", '"': '"', "\\": "\\"}
# Longest delimiter first: a text ends at the first one that is not escaped. Up to two more quotes belong to the text.
_STRINGS = {
    '"""': re.compile(r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL),
    "'''": re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}", re.DOTALL),
    '"': re.compile(r'"(?:[^"\\\n]|\\[^\n])*"'),
    "'": re.compile(r"'[^'\n]*'"),
}


class Place(msgspec.Struct, frozen=True):
    """Offsets of one key: of its name (for an element of a list: of the element) and of its value (a table: its `[` or `{`)."""

    key: int
    value: int


class Positions(msgspec.Struct, frozen=True):
    """The places of all keys of one text."""

    text: str
    places: dict[KeyPath, Place]

    def line_column(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both counted from 1."""
        starts = [0, *(m.end() for m in re.finditer("\n", self.text))]
        line = bisect_right(starts, offset)
        return line, offset - starts[line - 1] + 1

    def locate(self, path: KeyPath, at: str = "value") -> tuple[int, int]:
        """Line and column of a key's `value`, of the `key` itself, or of the `table` that holds it.

        A key that is not in the file is looked for where it would stand: at the nearest table above it.
        """
        if at == "table" or path not in self.places:
            path = path[:-1]
            while path and path not in self.places:
                path = path[:-1]
            at = "value"
        if not path:
            return 1, 1
        place = self.places[path]
        return self.line_column(place.key if at == "key" else place.value)


class _Stopped(Exception):
    """The text goes on in a way that is no TOML."""


class Scanner(msgspec.Struct):
    """One pass over a text. `run` fills `places`; `duplicates` has (path, first offset, second offset) of keys given twice."""

    text: str
    at: int = 0
    places: dict[KeyPath, Place] = msgspec.field(default_factory=dict)
    implied: set[KeyPath] = msgspec.field(default_factory=set)
    lengths: dict[KeyPath, int] = msgspec.field(default_factory=dict)
    open_brackets: list[int] = msgspec.field(default_factory=list)
    duplicates: list[tuple[KeyPath, int, int]] = msgspec.field(default_factory=list)

    def run(self) -> None:
        """Scan to the end, or as far as the text is TOML."""
        table: KeyPath = ()
        try:
            while True:
                self.skip(_BLANK_LINES)
                if self.at >= len(self.text):
                    return
                if self.text[self.at] == "[":
                    table = self.header()
                else:
                    self.pair(table)
        except _Stopped:
            return

    def skip(self, blank: re.Pattern[str]) -> None:
        found = blank.match(self.text, self.at)
        if found:
            self.at = found.end()

    def take(self, token: str) -> None:
        if not self.text.startswith(token, self.at):
            raise _Stopped
        self.at += len(token)

    def header(self) -> KeyPath:
        """`[a.b]` or `[[a.b]]`: the path of the table that the following keys belong to."""
        begin = self.at
        is_list = self.text.startswith("[[", begin)
        self.take("[[" if is_list else "[")
        parts = self.dotted_key()
        self.skip(_BLANK)
        self.take("]]" if is_list else "]")
        path: KeyPath = ()
        for name, offset in parts[:-1]:
            path = (*path, name)
            self.imply(path, offset, begin)
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)
        name, offset = parts[-1]
        path = (*path, name)
        if is_list:
            count = self.lengths.get(path, 0)
            if count == 0:
                self.record(path, Place(offset, begin))
            self.lengths[path] = count + 1
            path = (*path, count)
        self.record(path, Place(offset, begin))
        return path

    def pair(self, table: KeyPath) -> None:
        """`a.b = value`, at the end of a line or in braces."""
        parts = self.dotted_key()
        self.skip(_BLANK)
        self.take("=")
        self.skip(_BLANK)
        path = table
        for name, offset in parts[:-1]:
            path = (*path, name)
            self.imply(path, offset, offset)
        name, offset = parts[-1]
        path = (*path, name)
        self.record(path, Place(offset, self.at))
        self.value(path)

    def record(self, path: KeyPath, place: Place) -> None:
        if path in self.places and path not in self.implied:
            self.duplicates.append((path, self.places[path].key, place.key))
            return
        self.implied.discard(path)
        self.places[path] = place

    def imply(self, path: KeyPath, key: int, value: int) -> None:
        """A table that is only there because something below it is."""
        if path not in self.places:
            self.places[path] = Place(key, value)
            self.implied.add(path)

    def dotted_key(self) -> list[tuple[str, int]]:
        parts = []
        while True:
            self.skip(_BLANK)
            begin = self.at
            parts.append((self.key_part(), begin))
            self.skip(_BLANK)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def key_part(self) -> str:
        begin = self.at
        quote = self.text[self.at : self.at + 1]
        if quote in ('"', "'") and quote:
            self.string(quote)
            raw = self.text[begin + 1 : self.at - 1]
            return unescape(raw) if quote == '"' else raw
        found = _BARE_KEY.match(self.text, self.at)
        if found is None:
            raise _Stopped
        self.at = found.end()
        return found[0]

    def value(self, path: KeyPath) -> None:
        first = self.text[self.at : self.at + 1]
        if first == "[":
            self.array(path)
        elif first == "{":
            self.inline_table(path)
        elif first in ('"', "'") and first:
            triple = first * 3
            self.string(triple if self.text.startswith(triple, self.at) else first)
        else:
            self.skip(_SCALAR)

    def string(self, quote: str) -> None:
        found = _STRINGS[quote].match(self.text, self.at)
        if found is None:
            raise _Stopped
        self.at = found.end()

    def array(self, path: KeyPath) -> None:
        self.open_brackets.append(self.at)
        self.take("[")
        index = 0
        while True:
            self.skip(_BLANK_LINES)
            if self.text.startswith("]", self.at):
                break
            element = (*path, index)
            self.record(element, Place(self.at, self.at))
            self.value(element)
            index += 1
            self.comma_or("]")
        self.at += 1
        self.open_brackets.pop()

    def inline_table(self, path: KeyPath) -> None:
        self.open_brackets.append(self.at)
        self.take("{")
        while True:
            self.skip(_BLANK_LINES)
            if self.text.startswith("}", self.at):
                break
            self.pair(path)
            self.comma_or("}")
        self.at += 1
        self.open_brackets.pop()

    def comma_or(self, closing: str) -> None:
        self.skip(_BLANK_LINES)
        if self.text.startswith(",", self.at):
            self.at += 1
        elif not self.text.startswith(closing, self.at):
            raise _Stopped


def scan(text: str) -> Positions:
    """The places of all keys of a text that tomli accepts."""
    scanner = Scanner(text)
    scanner.run()
    return Positions(text, scanner.places)


def unescape(raw: str) -> str:
    """The text between two double quotes as TOML means it."""

    def one(found: re.Match[str]) -> str:
        code = found[1] or found[2] or found[3]
        return chr(int(code, 16)) if code else _ESCAPED.get(found[4], found[4])

    return _ESCAPE.sub(one, raw)


def written(path: KeyPath) -> str:
    """A path as a person writes it: `pipeline.motor.publish[1].topic`, keys quoted where TOML wants them quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part if _BARE_KEY.fullmatch(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{bare}" if text else bare
    return text


def parse_path(text: str) -> KeyPath:
    """The inverse of `written`."""
    parts: list[str | int] = []
    for quoted, index, bare in re.findall(r'"((?:[^"\\]|\\.)*)"|\[(\d+)\]|([^.\[\]"]+)', text):
        parts.append(int(index) if index else unescape(quoted) if quoted else bare)
    return tuple(parts)
