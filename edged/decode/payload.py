"""Whole payloads to rows: the decoder of MQTT messages, and of frames once they are cut out of a stream."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np

from edged.decode.carry import MAX_BYTES, make_carry
from edged.decode.formats import FORMATS, Numbers, TakesOne
from edged.decode.plan import DecodePlan
from edged.decode.refusals import Refusals
from edged.decode.values import Screen, excerpts
from edged.records import Reject, Rows


class PayloadDecoder(Protocol):
    """Payloads to rows, each payload by itself: what is wrong with one touches no other."""

    def decode(self, payloads: Sequence[bytes], sensors: Sequence[Hashable] | None = None) -> Rows:
        """The rows of all payloads, in order, and a Reject for each that was refused (of many one, with their number).

        `sensors[i]` names whose payload i is (the captures of its topic): with on_bad "hold" it gets its own last values.
        `values` may be a read-only view of the joined payloads.
        """


class _Numbers:
    """Of every format whose rows are numbers, which may be bad one by one."""

    def __init__(self, plan: DecodePlan, numbers: Numbers, tree: Any, is_one: bool) -> None:
        self._plan = plan
        self._is_one = is_one
        self._numbers = numbers
        self._screen = Screen(plan)
        self._carry = make_carry(tree, plan.carry) if plan.carry else None
        self._one = numbers.one if isinstance(numbers, TakesOne) and self._carry is None else None

    def decode(self, payloads: Sequence[bytes], sensors: Sequence[Hashable] | None = None) -> Rows:
        if not payloads:
            return Rows(np.empty((0, self._plan.width), self._plan.dtype))
        carry, limit = self._carry, self._plan.max_bytes
        if self._one is not None and len(payloads) == 1 and len(payloads[0]) <= limit:
            raw = self._one(payloads[0])
            values = None if raw is None else self._screen.good(raw)
            if values is not None:
                return Rows(values)
        # What is too large is not even looked at: reading it could take far more memory than its size.
        carried = [carry(payload) if len(payload) <= limit else None for payload in payloads] if carry is not None else None
        refused = self._refused(payloads, carried) if carried is not None or max(map(len, payloads)) > limit else None
        if refused:
            rows = self._without(refused, payloads, sensors)
        else:
            refusals = Refusals(self._is_one)
            rows = self._screen.rows(self._numbers.decode(payloads, refusals), refusals, sensors)
            rows.rejects = refusals.records
        rows.carried = carried
        if rows.rejects:
            rows.rejects = excerpts(rows.rejects, payloads)
        return rows

    def _refused(self, payloads: Sequence[bytes], carried: Sequence[bytes | None] | None) -> dict[int, Reject]:
        """Those whose values are not even looked at, by index."""
        limit = self._plan.max_bytes
        refused: dict[int, Reject] = {}
        for i, payload in enumerate(payloads):
            if len(payload) > limit:
                refused[i] = Reject("too_large", f"{len(payload)} bytes, at most {limit} are taken (max_bytes)", payload=i)
        for i, one in enumerate(carried or ()):
            if one is not None and len(one) > MAX_BYTES:
                text = f"{', '.join(self._plan.carry)}: {len(one)} bytes as JSON, at most {MAX_BYTES} are carried (carry)"
                refused.setdefault(i, Reject("carry_too_large", text, payload=i))
        return refused

    def _without(self, refused: dict[int, Reject], payloads: Sequence[bytes], sensors: Sequence[Hashable] | None) -> Rows:
        kept = [i for i in range(len(payloads)) if i not in refused]
        rest = self.decode([payloads[i] for i in kept], None if sensors is None else [sensors[i] for i in kept])
        origin = np.arange(len(rest.values)) if rest.payload is None else rest.payload
        rest.payload = np.array(kept, np.int32)[origin]
        rest.rejects = [*refused.values(), *(reject._replace(payload=kept[reject.payload]) for reject in rest.rejects)]
        return rest


def make_payload_decoder(plan: DecodePlan, is_one: bool = False) -> PayloadDecoder:
    """The decoder of one source's payloads; `is_one`: they are pieces of one read, and what is refused is said of it as a whole.
    It has state only where bad values are held."""
    kind = FORMATS[plan.format]
    if kind.pictures is not None:
        return kind.pictures(plan)
    assert kind.numbers is not None
    return _Numbers(plan, kind.numbers(plan), kind.tree, is_one)
