"""What is refused, in few words: who sends 64 KiB of newlines is told of four of them, and how many there were.

A record costs a text and a line of memory, and bad input makes one for every byte where nothing bounds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.records import Reject

MAX_RECORDS = 4
"""Records of one reason and payload that stand alone; the others of it are one more, with their count."""
MAX_ROWS = 1 << 18
"""Samples in one payload: 5 s of sound at 48 kHz. More cost memory that no plan counts."""
TOO_MANY_ROWS = f"at most {MAX_ROWS} samples are taken in one payload"


class Refusals:
    """The rejects of one call. `is_one`: the payloads are pieces of one whole, as the lines of a read are, and count as one."""

    def __init__(self, is_one: bool = False) -> None:
        self.is_one = is_one
        self._records: list[Reject] = []
        self._said: dict[tuple[str, int], int] = {}  # records that stand alone
        self._rest: dict[tuple[str, int], list[int]] = {}  # where the record of the others is, and how many those are

    @property
    def records(self) -> list[Reject]:
        records = self._records.copy()
        for at, times in self._rest.values():
            records[at] = records[at]._replace(times=times)
        return records

    def says(self, reason: str, payload: int = 0) -> bool:
        """Whether the next one will be seen. If not, its words need not be made."""
        return (reason, 0 if self.is_one else payload) not in self._rest

    def add(self, reject: Reject) -> None:
        of = (reject.reason, 0 if self.is_one else reject.payload)
        rest = self._rest.get(of)
        if rest is not None:
            rest[1] += reject.times
            return
        said = self._said[of] = self._said.get(of, 0) + 1
        if said > MAX_RECORDS:
            self._rest[of] = [len(self._records), reject.times]
        self._records.append(reject)

    def add_all(self, payloads: Sequence[int] | NDArray[Any], words: Callable[[int], Reject]) -> None:
        """One of one reason for each of `payloads`; `words(i)` makes the i-th, and is asked only for those that are seen."""
        if not len(payloads):
            return
        of = np.zeros(len(payloads), np.intp) if self.is_one else np.asarray(payloads)
        order = np.argsort(of, kind="stable")
        cuts = [0, *(np.flatnonzero(np.diff(of[order])) + 1).tolist(), len(of)]
        for start, stop in pairwise(cuts):
            for i in order[start : min(stop, start + MAX_RECORDS)].tolist():
                self.add(words(i))
            if (more := stop - start - MAX_RECORDS) > 0:
                self.add(words(order.item(start + MAX_RECORDS))._replace(times=more))
