"""`where`: which messages are meant, by what one of their fields, columns, members or captures is.

Judged before the number of columns and before any value, so that another kind of message can never be malformed. What is not
meant is `other`: counted, and of no concern to anybody. Knows no format: each says what it found under a name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from edged.decode.refusals import Refusals
from edged.records import Reject

Value = str | float | bool
SHOWN_CHARACTERS = 40


class Condition(msgspec.Struct, frozen=True):
    """What is found under `name` must be one of `accepted`."""

    name: str
    accepted: tuple[Value, ...]

    def fits(self, found: Any) -> bool:
        """A value as the message has it: a text that says a number is that number, and the other way round."""
        if isinstance(found, bool):
            return any(one is found or one == str(found).lower() for one in self.accepted)
        if isinstance(found, int | float):
            return any(not isinstance(one, bool) and (one == found or _number(one) == found) for one in self.accepted)
        if isinstance(found, str):
            return self.fits_text(found)
        return False

    def fits_text(self, text: str, base: int = 10) -> bool:
        """The same for a cell of a line, whose numbers are written to `base`."""
        if text in self.accepted:
            return True
        number = _number(text, base)
        return any(
            text == str(one).lower() if isinstance(one, bool) else not isinstance(one, str) and one == number
            for one in self.accepted
        )

    def other(self, found: Any) -> str:
        """Why a message is another one."""
        if found is None:
            return f"{self.name} is absent"
        found = str(found).lower() if isinstance(found, bool) else found
        shown = f'"{found[:SHOWN_CHARACTERS]}"' if isinstance(found, str) else str(found)[:SHOWN_CHARACTERS]
        return f"{self.name} = {shown}"


def as_text(value: Any) -> str | None:
    """A scalar as a file writes it; None for what is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)
    return value if isinstance(value, str) else None


def conditions(where: Mapping[str, tuple[Value, ...]] | None) -> tuple[Condition, ...]:
    """Those of a source."""
    return tuple(Condition(name, accepted) for name, accepted in (where or {}).items())


def refuse_others(refusals: Refusals, payloads: Sequence[int], reasons: Sequence[str]) -> None:
    """Counts other messages: of pieces of one whole, one record for each reason."""
    if not refusals.is_one:
        for payload, reason in zip(payloads, reasons, strict=True):
            refusals.add(Reject("other", reason, payload=payload))
        return
    first = dict(zip(reversed(reasons), reversed(payloads), strict=True))
    for reason, times in Counter(reasons).items():
        refusals.add(Reject("other", reason, payload=first[reason], times=times))


def _number(text: Value, base: int = 10) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        return float(int(text, 16)) if base == 16 and "_" not in text else float(text) if "_" not in text else None
    except ValueError:
        return None
