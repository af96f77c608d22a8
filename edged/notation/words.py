"""How values, names and durations are said in texts for people."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from edged.notation.units import MIN, MS, NS, RATE_UNITS, US, D, H, S

if TYPE_CHECKING:
    from edged.records import Cap

MAX_NAMES = 12


def shown(raw: object) -> str:
    """A value of the file as an error shows it: short, with the word for its kind where that is not plain to see."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, int | float):
        return f"the number {raw}"
    if isinstance(raw, str):
        text = '"' + without_user(raw).replace("\n", "\\n").replace("\r", "\\r").replace("\0", "\\0") + '"'
        return text if len(text) <= 80 else text[:76] + '..."'
    if isinstance(raw, list):
        return "an empty list" if not raw else "a list"
    return "a table" if isinstance(raw, dict) else "a date or time"


def without_user(text: str) -> str:
    """An address is shown without its user and password, wherever in a text it stands and however long they are."""
    return re.sub(r"//.*@", "//...@", text, flags=re.DOTALL)


def kind(raw: object) -> str:
    """Like `shown`, without the value itself: for what may be secret."""
    if isinstance(raw, bool):
        return "true or false"
    if isinstance(raw, int | float):
        return "a number"
    return "a string" if isinstance(raw, str) else shown(raw)


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant, or None."""
    folded = {k.lower().replace("-", "_"): k for k in known}
    word = word.lower().replace("-", "_")
    longer = [k for k in folded if k.startswith(word)] if word else []
    if longer:
        return folded[longer[0]] if len(longer) == 1 else None
    close = difflib.get_close_matches(word, list(folded), n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def help_on(word: str) -> str:
    """What to type to read of a state or a reason in the manual."""
    return f'edged help "{word}"' if " " in word else f"edged help {word}"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """`; did you mean "baudrate"?`, or nothing."""
    meant = nearest(name, known)
    return f'; did you mean "{meant}"?' if meant else ""


def found_among(name: str, known: Sequence[str]) -> str:
    """`found "x"` with what was probably meant, else with all that there is."""
    return f'found "{name}"' + (did_you_mean(name, known) or f"; there are: {listed(known)}")


def listed(names: Iterable[str]) -> str:
    """The names with commas; of many only the first ones."""
    names = tuple(names)
    first = ", ".join(names[:MAX_NAMES])
    return f"{first}, ... ({len(names)} in all)" if len(names) > MAX_NAMES else first or "none"


def quoted(words: Iterable[str]) -> str:
    """`"cpu" "cuda"`: words as they stand in the file."""
    return " ".join(f'"{word}"' for word in words)


def counted(n: int) -> str:
    """A number as a text says it: `three`, `12`."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[n] if n < len(words) else str(n)


def rate_said(rate: float) -> str:
    """`400 a second`, `one in 10 s`."""
    return f"{rate:g} per second" if rate >= 1 else f"one in {1 / rate:g} s"


def caps_said(caps: Iterable[Cap]) -> str:
    """As a person writes them: `6/min and 200/d`, `1 in 40s`."""
    units = {int(seconds * S): unit for unit, seconds in RATE_UNITS.items()}
    return " and ".join(
        f"{c.count}/{units[c.period]}" if c.period in units else f"{c.count} in {duration(c.period)}" for c in caps
    )


def duration(ns: int) -> str:
    """As a person writes it: `60s`, `250ms`, `30min`."""
    for unit, size, least in (("d", D, 2), ("h", H, 2), ("min", MIN, 2), ("s", S, 1), ("ms", MS, 1), ("us", US, 1)):
        if ns % size == 0 and ns >= least * size:
            return f"{ns // size}{unit}"
    return f"{ns // NS}ns"
