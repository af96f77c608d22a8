"""Where prepared rows and windows go: into slots, to wait for a run, or without a model straight on, as results.

Which of the two a pipeline has is chosen where it is built: nobody else knows whether there is a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from numpy.typing import NDArray

from edged.model.inputs import AnyFiller
from edged.pipeline.slots import Slots
from edged.records import NONE, Carried, Field, Receipt, Slot

Arrays = dict[str, NDArray[Any]]
T = TypeVar("T")


class Due(NamedTuple):
    """What is known of prepared rows, one entry a row; None where it makes no difference. As `Slots.put_many` takes it."""

    keys: Sequence[int]
    times: Sequence[int]
    arrival: int
    receipts: Sequence[Receipt]
    degraded: Sequence[bool] | None = None
    carried: Carried | None = None
    stretches: Sequence[int] | None = None
    are_open: Sequence[bool] | None = None

    def only(self, rows: Sequence[int]) -> Due:
        """Of these rows."""

        def kept(facts: Sequence[T]) -> list[T]:
            return [facts[i] for i in rows]

        def kept_of(facts: Sequence[T] | None) -> list[T] | None:
            return None if facts is None else kept(facts)

        return Due(
            kept(self.keys),
            kept(self.times),
            self.arrival,
            kept(self.receipts),
            kept_of(self.degraded),
            kept_of(self.carried),
            kept_of(self.stretches),
            kept_of(self.are_open),
        )


class DueWindow(NamedTuple):
    """What is known of a prepared window. As `Slots.put` takes it."""

    key: int
    time: int
    arrival: int
    receipt: Receipt
    degraded: bool
    carried: bytes | None
    stretch: int
    is_open: bool


class Into(Protocol):
    """Where prepared rows and windows go."""

    def rows(self, values: NDArray[Any], due: Due) -> None: ...

    def window(self, values: NDArray[Any], due: DueWindow) -> None: ...

    def close(self) -> None: ...


class IntoSlots:
    """They wait in slots; `wake` is told that they do. `settles`: what waits for a model elsewhere is settled by that."""

    def __init__(
        self,
        slots: Slots,
        fillers: Mapping[str, AnyFiller],
        wake: Callable[[], None],
        refuse: Callable[[Exception], None],
        settles: bool = False,
    ) -> None:
        self._slots = slots
        self._fillers = tuple((slots.rows[name], filler) for name, filler in fillers.items())
        self._wake = wake
        self._refuse = refuse
        self._settles = settles

    def rows(self, values: NDArray[Any], due: Due) -> None:
        if self._settles:
            due = due._replace(receipts=[one if one.is_request else NONE for one in due.receipts])
        taken = self._slots.put_many(*due)
        rows = [row for row in taken if row is not None]
        if not rows:
            return
        if len(rows) < len(taken):
            values = values[[i for i, row in enumerate(taken) if row is not None]]
        try:
            for array, filler in self._fillers:
                filler.fill_many(array, rows, values)
        except Exception:
            for row, i in {row: i for i, row in enumerate(rows)}.items():
                self._fill(row, values[i])
        self._wake()

    def window(self, values: NDArray[Any], due: DueWindow) -> None:
        if self._settles and not due.receipt.is_request:
            due = due._replace(receipt=NONE)
        row = self._slots.put(*due)
        if row is not None:
            self._fill(row, values)
            self._wake()

    def _fill(self, row: int, values: NDArray[Any]) -> None:
        try:
            for rows, filler in self._fillers:
                filler.fill(rows[row, ...], values)
        except Exception as error:
            self._slots.drop_row(row)
            self._refuse(error)

    def close(self) -> None:
        self._fillers = ()


class AtOnce:
    """Without a model they are results at once: the fields themselves are the outputs, by name."""

    def __init__(self, fields: Sequence[Field], finish: Callable[[list[Slot], Arrays], None]) -> None:
        self._fields = fields
        self._finish = finish

    def rows(self, values: NDArray[Any], due: Due) -> None:
        for receipt in due.receipts:
            receipt.hold()
        flags = due.degraded if due.degraded is not None else [False] * len(due.keys)
        texts = due.carried if due.carried is not None else [None] * len(due.keys)
        each = zip(due.keys, due.times, due.receipts, flags, texts, strict=True)
        self._finish([Slot(0, k, t, due.arrival, r, d, c) for k, t, r, d, c in each], named(values, self._fields))

    def window(self, values: NDArray[Any], due: DueWindow) -> None:
        self._finish([Slot(0, *due[:6])], named(values[None], self._fields))

    def close(self) -> None:
        pass


def named(values: NDArray[Any], fields: Sequence[Field]) -> Arrays:
    """The fields of rows or windows, by name."""
    return {f.name: values[..., f.start] if not f.shape else _tensor(values, f) for f in fields}


def _tensor(values: NDArray[Any], field: Field) -> NDArray[Any]:
    return values[..., field.start : field.stop].reshape(*values.shape[:-1], *field.shape)
