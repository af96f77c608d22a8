"""A format that edged does not have: `a=1;b=2`, one sample a payload."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edged.decode.formats import Format
from edged.decode.plan import DecodePlan
from edged.decode.refusals import Refusals
from edged.decode.values import Table
from edged.late import Late
from edged.records import Reject


class Pairs:
    def __init__(self, plan: DecodePlan) -> None:
        self._names = [field.name for field in plan.value_fields]

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table:
        rows, origin = [], []
        for index, payload in enumerate(payloads):
            found = dict(pair.split("=") for pair in payload.decode().split(";") if "=" in pair)
            if found.keys() >= {*self._names}:
                rows.append([float(found[name]) for name in self._names])
                origin.append(index)
            else:
                refusals.add(Reject("absent", "a pair is missing", payload=index))
        return Table(np.array(rows, np.float64).reshape(-1, len(self._names)), origin=np.array(origin, np.int32))


FORMAT = Format(keys=("scale", "offset", "unit", "valid"), numbers=Late("tests.support.added.pairs:Pairs"))
