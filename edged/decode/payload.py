"""Whole payloads to rows: the decoder of MQTT messages, and of frames once they are cut out of a stream."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import numpy as np

from edged.decode.csv import Csv
from edged.decode.json import Tree
from edged.decode.plan import DecodePlan
from edged.decode.struct import Records
from edged.decode.values import Screen, Table, excerpts
from edged.records import Reject, Rows


class Format(Protocol):
    """What knows one format."""

    def decode(self, payloads: Sequence[bytes]) -> Table: ...


FORMATS: dict[str, Callable[[DecodePlan], Format]] = {
    "csv": Csv,
    "json": Tree,
    "msgpack": Tree,
    "raw": Records,
    "struct": Records,
}


class PayloadDecoder:
    """Payloads to rows, each payload by itself: what is wrong with one touches no other."""

    def __init__(self, plan: DecodePlan) -> None:
        self._plan = plan
        self._format = FORMATS[plan.format](plan)
        self._screen = Screen(plan)

    def decode(self, payloads: Sequence[bytes], sensors: Sequence[Hashable] | None = None) -> Rows:
        """The rows of all payloads, in order, and a Reject for each that was refused.

        `sensors[i]` names whose payload i is (the captures of its topic): with on_bad "hold" it gets its own last values.
        `values` may be a read-only view of the joined payloads.
        """
        if not payloads:
            return Rows(np.empty((0, self._plan.width), self._plan.dtype))
        if max(map(len, payloads)) > self._plan.max_bytes:
            rows = self._without_large(payloads, sensors)
        else:
            rows = self._screen.rows(self._format.decode(payloads), sensors)
        if rows.rejects:
            rows.rejects = excerpts(rows.rejects, payloads)
        return rows

    def _without_large(self, payloads: Sequence[bytes], sensors: Sequence[Hashable] | None) -> Rows:
        limit = self._plan.max_bytes
        rejects = [
            Reject("too_large", f"{len(payload)} bytes, at most {limit} are taken (max_bytes)", payload=index)
            for index, payload in enumerate(payloads)
            if len(payload) > limit
        ]
        kept = [index for index, payload in enumerate(payloads) if len(payload) <= limit]
        rest = self.decode([payloads[index] for index in kept], None if sensors is None else [sensors[index] for index in kept])
        origin = np.arange(len(rest.values)) if rest.payload is None else rest.payload
        rest.payload = np.array(kept, np.int32)[origin]
        rest.rejects = rejects + [reject._replace(payload=kept[reject.payload]) for reject in rest.rejects]
        return rest


def make_payload_decoder(plan: DecodePlan) -> PayloadDecoder:
    """The decoder of one source's payloads. It has state only where bad values are held."""
    return PayloadDecoder(plan)
