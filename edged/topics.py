"""MQTT topics: filters that capture levels, and templates that are filled with what was captured.

A filter (`plant/{line}/{pump}/telemetry`) is what a source subscribes to; a template (`plant/{line}/{pump}/health`) is
where results go. Pure: knows no broker and no configuration table. Every function that parses raises TopicError with
a text for a person; matching and filling never do, except that `fill` refuses what no broker takes as a topic.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

import msgspec

MAX_BYTES = 65535
SHARE = "$share/"
"""How a filter begins whose messages the broker deals out to all members of a group: `$share/GROUP/FILTER`."""
NOT_CAPTURED = ("device", "base_topic", "pipeline", "key")

FIELD = "field"
"""The capture that names the field which a message carries. It is no part of a key."""

_NO_CHARACTERS = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
_UNFIT = re.compile(f"[\0-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_NO_CHARACTERS}]")
"""What MQTT lets a broker refuse in a topic, or forbids: control characters, half pairs, non-characters. Many brokers end the
connection over it, and what was sent is then sent again on the next one."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_-]+")

# What a pattern of `_meet` is made of, besides single characters.
_IN_LEVEL = "+"  # any number of characters, none of them a slash
_ANY = "#"  # any number of characters


class TopicError(ValueError):
    """A topic that cannot be used; the text says what is wrong with it and what to write."""


class TopicFilter(msgspec.Struct, frozen=True):
    """What a source subscribes to. `mqtt` is what the broker gets; `captures` names the captured levels in order."""

    text: str
    mqtt: str
    captures: tuple[str, ...]
    has_wildcards: bool
    """Holds a `+` or `#` of its own, besides its captures."""
    _pattern: re.Pattern[str]

    def match(self, topic: str) -> tuple[str, ...] | None:
        """The captured texts, one a capture; None when the topic is not for this filter."""
        found = self._pattern.fullmatch(topic)
        return found.groups() if found else None


class Template(msgspec.Struct, frozen=True):
    """Where results go: literal text between placeholders. `literals` has one more part than `names`.

    `text` is the whole, with what was known at once filled in.
    """

    text: str
    literals: tuple[str, ...]
    names: tuple[str, ...]

    def fill(self, values: Mapping[str, str]) -> str:
        """The topic. `values` has a text for every name. Raises TopicError when no broker takes it."""
        topic = self.literals[0] + "".join(values[n] + text for n, text in zip(self.names, self.literals[1:], strict=True))
        if len(topic) > MAX_BYTES // 4 and len(topic.encode()) > MAX_BYTES:
            raise TopicError("the topic comes to more than 65535 bytes")
        if found := unfit(topic):
            raise TopicError(f"the topic has {found}, which brokers refuse")
        if topic.startswith("$"):
            raise TopicError("the topic begins with $, as the broker's own do")
        return topic


def unfit(text: str) -> str:
    """The first character that brokers refuse in a topic, such as U+0001; empty if there is none."""
    found = _UNFIT.search(text)
    return f"U+{ord(found[0]):04X}" if found else ""


def parse_filter(text: str, fixed: Mapping[str, str] | None = None) -> TopicFilter:
    """A subscription, with `fixed` names (`{device}`, `{base_topic}`) filled in.

    `{name}` matches one level and captures it, `{name...}` (last) one level or more. Raises TopicError.
    """
    fixed = fixed or {}
    filled = _PLACEHOLDER.sub(lambda m: fixed.get(m[1], m[0]), text)
    _check_text(filled)
    if filled.startswith(SHARE):
        group, _, rest = filled.removeprefix(SHARE).partition("/")
        raise TopicError(f'"{filled}": the group is a key of its own; write topic = "{rest}" and share = "{group}"')
    levels: list[str] = []
    captures: list[str] = []
    pattern: list[str] = []
    parts = filled.split("/")
    for i, level in enumerate(parts):
        is_last = i == len(parts) - 1
        if level == "+":
            levels.append("+")
            pattern.append("[^/]*")
        elif level == "#":
            _require_last(is_last, "#")
            levels.append("#")
        elif "{" in level or "}" in level:
            name, is_rest = _capture(level, captures)
            if is_rest:
                _require_last(is_last, f"{{{name}...}}")
            captures.append(name)
            levels.append("#" if is_rest else "+")
            pattern.append("(.+)" if is_rest else "([^/]*)")
        elif "+" in level or "#" in level:
            raise TopicError(f'"{level}": + and # stand for whole levels: between two slashes, alone')
        else:
            levels.append(level)
            pattern.append(re.escape(level))
    if levels[-1] == "#" and parts[-1] == "#":
        expression = "/".join(pattern) + "(?:/.*)?" if pattern else ".*"
    else:
        expression = "/".join(pattern)
    if levels[0] in ("+", "#"):
        expression = r"(?!\$)" + expression  # wildcards do not reach topics of the broker's own
    has_wildcards = any(part in ("+", "#") for part in parts)
    return TopicFilter(filled, "/".join(levels), tuple(captures), has_wildcards, re.compile(expression, re.DOTALL))


def parse_template(text: str, fixed: Mapping[str, str], names: Collection[str]) -> Template:
    """A topic to publish to: `fixed` names are filled in at once, `names` are those that `fill` will be given.

    Raises TopicError, naming what is known and what was probably meant.
    """
    for name in _PLACEHOLDER.findall(text):
        if name not in names and name not in fixed:
            raise TopicError(_unknown(name, [*names, *(n for n in fixed if n not in names)]))
    filled = _PLACEHOLDER.sub(lambda m: fixed.get(m[1], m[0]), text)
    pieces = _PLACEHOLDER.split(filled)
    literals, names = tuple(pieces[0::2]), tuple(pieces[1::2])
    rest = "".join(literals)
    if "{" in rest or "}" in rest:
        raise TopicError(f'"{text}": a brace is not closed; a name stands in a pair of braces, such as {{key}}')
    _check_text(filled)
    if "+" in rest or "#" in rest:
        raise TopicError(f'"{text}": + and # cannot be published to; they belong into subscriptions')
    if filled.startswith("$"):
        raise TopicError(f'"{text}": topics that begin with $ belong to the broker')
    return Template(filled, literals, names)


def shared(group: str, filter: str) -> str:
    """What a member of a group subscribes to; the filter as it is without a group."""
    return f"{SHARE}{group}/{filter}" if group else filter


def unshared(filter: str) -> str:
    """What a filter, as a broker gets it, matches, whoever shares it."""
    return filter.removeprefix(SHARE).partition("/")[2] if filter.startswith(SHARE) else filter


def overlaps(a: TopicFilter, b: TopicFilter) -> bool:
    """Whether some topic would match both filters, as a broker sees them."""
    return any(_meet(x, y) for x in _filter_patterns(a.mqtt) for y in _filter_patterns(b.mqtt) if not _is_hidden(x, y))


def covers(wide: str, narrow: str) -> bool:
    """Whether whatever a filter, as a broker gets it, matches is matched by another one too."""
    if wide[:1] in ("+", "#") and narrow[:1] == "$":
        return False
    levels, others = wide.split("/"), narrow.split("/")
    for i, level in enumerate(levels):
        if level == "#":
            return True
        if i >= len(others) or others[i] == "#" or (level != "+" and level != others[i]):
            return False
    return len(levels) == len(others)


def matches(a: TopicFilter, template: Template, deep: Collection[str] = ("key", "base_topic")) -> bool:
    """Whether what is published to the template could come back through the filter, whatever fills its placeholders.

    Those named in `deep` may hold slashes; the others fill a part of one level.
    """
    pattern: list[str | tuple[str]] = [*template.literals[0]]
    for name, literal in zip(template.names, template.literals[1:], strict=True):
        pattern.append((_ANY if name in deep else _IN_LEVEL,))
        pattern.extend(literal)
    return any(_meet(x, pattern) for x in _filter_patterns(a.mqtt) if not _is_hidden(x, pattern))


def _check_text(text: str) -> None:
    if not text:
        raise TopicError("expected a topic, found an empty string")
    if found := unfit(text):
        raise TopicError(f"expected a topic without control characters and non-characters, which brokers refuse; found {found}")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise TopicError("expected a topic of at most 65535 bytes")


def _require_last(is_last: bool, what: str) -> None:
    if not is_last:
        raise TopicError(f"{what} takes all levels that follow, so it must be the last one")


def _capture(level: str, taken: Sequence[str]) -> tuple[str, bool]:
    found = _PLACEHOLDER.fullmatch(level)
    if found is None:
        inside = _PLACEHOLDER.search(level)
        if inside is None:
            raise TopicError(f'"{level}": a brace is not closed; a capture stands in a pair of braces, such as {{pump}}')
        raise TopicError(f'"{level}": a capture is a whole level; write {inside[0]} alone between two slashes')
    name = found[1].removesuffix("...")
    if name in NOT_CAPTURED:
        raise TopicError(f"{{{name}}} is filled in by edged and cannot be captured; choose another name")
    if not _NAME.fullmatch(name):
        raise TopicError(f'"{level}": a capture is named with letters, digits, _ and -, such as {{pump}} or {{rest...}}')
    if name in taken:
        raise TopicError(f"{{{name}}} is captured twice; each level needs a name of its own")
    return name, found[1] != name


def _unknown(name: str, known: Sequence[str]) -> str:
    text = f"{{{name}}} is not known here; known: {' '.join(f'{{{k}}}' for k in known)}"
    meant = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"{text}; did you mean {{{meant[0]}}}?" if meant else text


Pattern = Sequence["str | tuple[str]"]


@lru_cache(maxsize=1024)
def _filter_patterns(mqtt: str) -> tuple[Pattern, ...]:
    """A filter as characters and runs of characters; `a/#` also matches `a`, so it has two."""
    pattern: list[str | tuple[str]] = []
    levels = mqtt.split("/")
    for i, level in enumerate(levels):
        if level == "#":
            return ([*pattern, "/", (_ANY,)], pattern) if i else ([(_ANY,)],)
        if i:
            pattern.append("/")
        pattern.extend([(_IN_LEVEL,)] if level == "+" else level)
    return (pattern,)


def _is_hidden(x: Pattern, y: Pattern) -> bool:
    """One is below a topic of the broker's own ($SYS), the other begins with a wildcard, which does not reach there."""
    return (x[:1] == ["$"] and _begins_with_wildcard(y)) or (y[:1] == ["$"] and _begins_with_wildcard(x))


def _begins_with_wildcard(x: Pattern) -> bool:
    return bool(x) and isinstance(x[0], tuple)


def _meet(x: Pattern, y: Pattern) -> bool:
    """Whether some text fits both patterns: a search over the pairs of places reached in each."""
    reached, todo = {(0, 0)}, [(0, 0)]
    while todo:
        i, j = todo.pop()
        if i == len(x) and j == len(y):
            return True
        for step in _steps(x, y, i, j):
            if step not in reached:
                reached.add(step)
                todo.append(step)
    return False


def _steps(x: Pattern, y: Pattern, i: int, j: int) -> list[tuple[int, int]]:
    here = x[i] if i < len(x) else None
    there = y[j] if j < len(y) else None
    steps = []
    if isinstance(here, tuple):
        steps.append((i + 1, j))
        if there is not None and (here[0] == _ANY or there != "/"):
            steps.append((i, j + 1))
    if isinstance(there, tuple):
        steps.append((i, j + 1))
        if here is not None and (there[0] == _ANY or here != "/"):
            steps.append((i + 1, j))
    if isinstance(here, str) and here == there:
        steps.append((i + 1, j + 1))
    return steps
