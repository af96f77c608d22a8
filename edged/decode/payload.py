"""Whole payloads to rows: the decoder of MQTT messages, and of frames once they are cut out of a stream."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
from msgspec.structs import replace

from edged.decode.carry import MAX_BYTES, make_carry
from edged.decode.formats import FORMATS, Numbers, TakesArrival, TakesUsual, forget_stream
from edged.decode.paths import ABSENT, find, kind_of
from edged.decode.plan import DecodePlan
from edged.decode.refusals import Refusals
from edged.decode.values import UNTOLD, Arrived, BadPayload, Screen, excerpts
from edged.notation.field_paths import flat
from edged.records import Reject, Rows

if TYPE_CHECKING:
    from edged.decode.tree import Documents


class PayloadDecoder(Protocol):
    """Payloads to rows, each payload by itself: what is wrong with one touches no other."""

    def decode(
        self,
        payloads: Sequence[bytes],
        sensors: Sequence[Hashable] | None = None,
        arrived: Arrived = UNTOLD,
    ) -> Rows:
        """The rows of all payloads, in order, and a Reject for each that was refused (of many one, with their number).

        `sensors[i]` names whose payload i is (the captures of its topic): where values are held it gets its own last ones.
        `values` may be a read-only view of the joined payloads.
        """


class _Numbers:
    """Of every format whose rows are numbers, which may be bad one by one."""

    def __init__(self, plan: DecodePlan, numbers: Numbers, tree: Any, is_one: bool) -> None:
        self._plan = plan
        self._is_one = is_one
        self._numbers = numbers
        self._tell = numbers.tell if isinstance(numbers, TakesArrival) and plan.is_told else None
        self._screen = Screen(plan)
        self._carry = make_carry(tree, plan.carry) if plan.carry else None
        self._usual = numbers.usual if isinstance(numbers, TakesUsual) and self._carry is None else None

    def decode(
        self,
        payloads: Sequence[bytes],
        sensors: Sequence[Hashable] | None = None,
        arrived: Arrived = UNTOLD,
    ) -> Rows:
        if not payloads:
            return Rows(np.empty((0, self._plan.width), self._plan.dtype))
        limit = self._plan.max_bytes
        is_small = (len(payloads[0]) if len(payloads) == 1 else max(map(len, payloads))) <= limit
        if self._usual is not None and is_small:
            raw = self._usual(payloads)
            values = None if raw is None else self._screen.good(raw, sensors)
            if values is not None:
                return Rows(values)
        # What is too large is not even looked at: reading it could take far more memory than its size.
        carried = _carried(self._carry, payloads, limit) if self._carry is not None else None
        refused = self._refused(payloads, carried) if carried is not None or not is_small else None
        if refused:
            rows = self._without(refused, payloads, sensors, arrived)
        else:
            refusals = Refusals(self._is_one)
            if self._tell is not None:
                self._tell(arrived)
            rows = self._screen.rows(self._numbers.decode(payloads, refusals), refusals, sensors, arrived.now)
            rows.rejects = refusals.records
        rows.carried = carried
        if rows.rejects:
            rows.rejects = excerpts(rows.rejects, payloads)
        return rows

    def reset(self) -> None:
        forget_stream(self._numbers)

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

    def _without(
        self,
        refused: dict[int, Reject],
        payloads: Sequence[bytes],
        sensors: Sequence[Hashable] | None,
        arrived: Arrived,
    ) -> Rows:
        kept = [i for i in range(len(payloads)) if i not in refused]
        rest = self.decode(*_only(kept, payloads, sensors, arrived))
        return _back(rest, kept, list(refused.values()))


class _Opened:
    """Of payloads that are written in digits, or compressed."""

    def __init__(self, plan: DecodePlan, decoder: PayloadDecoder) -> None:
        from edged.decode.opened import opener

        self._open = opener(plan.encoding, plan.compress, plan.max_bytes)
        self._limit = plan.max_bytes
        self._decoder = decoder

    def decode(
        self,
        payloads: Sequence[bytes],
        sensors: Sequence[Hashable] | None = None,
        arrived: Arrived = UNTOLD,
    ) -> Rows:
        found: list[bytes] = []
        kept: list[int] = []
        rejects: list[Reject] = []
        for i, payload in enumerate(payloads):
            try:
                if len(payload) > self._limit:
                    raise BadPayload("too_large", f"{len(payload)} bytes, at most {self._limit} are taken (max_bytes)")
                found.append(self._open(payload))
                kept.append(i)
            except BadPayload as bad:
                rejects.append(bad.reject(i))
        _, of_sensors, of_arrived = _only(kept, payloads, sensors, arrived)
        rows = self._decoder.decode(found, of_sensors, of_arrived)
        return _back(rows, kept, excerpts(rejects, payloads)) if rejects else rows

    def reset(self) -> None:
        forget_stream(self._decoder)


class _Inside:
    """Of messages one member of which is what is decoded; times, keys and other fields are read from around it."""

    def __init__(self, plan: DecodePlan, around: DecodePlan, inside: DecodePlan, is_one: bool) -> None:
        from edged.decode.json import json_documents
        from edged.decode.opened import opener

        assert plan.payload is not None
        self._plan = plan
        self._path = plan.payload
        self._documents = json_documents if around.pattern is None else by_pattern(around.pattern)
        self._around = make_payload_decoder(around, is_one)
        self._inside = make_payload_decoder(inside, is_one)
        self._open = opener(plan.encoding, plan.compress, plan.max_bytes)
        self._columns = [
            np.concatenate([np.empty(0, np.intp), *(np.arange(plan.field(f.name).start, plan.field(f.name).stop) for f in part)])
            for part in (around.value_fields, inside.value_fields)
        ]
        self._is_whole = not around.value_fields
        self._key_parts = [name in around.key_fields for name in plan.key_fields]

    def decode(
        self,
        payloads: Sequence[bytes],
        sensors: Sequence[Hashable] | None = None,
        arrived: Arrived = UNTOLD,
    ) -> Rows:
        outer = self._around.decode(payloads, sensors, arrived)
        rejects = list(outer.rejects)
        found: list[bytes] = []
        kept: list[int] = []  # the row around each
        owners = range(len(outer.values)) if outer.payload is None else outer.payload.tolist()
        refused: list[Reject] = []
        for row, owner in enumerate(owners):
            try:
                if row and owners[row - 1] == owner:
                    raise BadPayload("malformed", "expected one sample around the payload, found an array")
                found.append(self._member(payloads[owner]))
                kept.append(row)
            except BadPayload as bad:
                refused.append(bad.reject(owner))
        rejects += excerpts(refused, payloads)
        which = [owners[row] for row in kept]
        _, of_sensors, of_arrived = _only(which, payloads, sensors, arrived)
        inner = self._inside.decode(found, of_sensors, of_arrived)
        rejects += [reject._replace(payload=which[reject.payload]) for reject in inner.rejects]
        at = np.arange(len(inner.values)) if inner.payload is None else inner.payload
        rows = np.array(kept, np.int32)[at]  # the row around each sample
        values = inner.values
        if not self._is_whole:
            values = np.empty((len(at), self._plan.width), self._plan.dtype)
            values[:, self._columns[0]], values[:, self._columns[1]] = outer.values[rows], inner.values
        flags = [one for one in (None if outer.degraded is None else outer.degraded[rows], inner.degraded) if one is not None]
        carried = outer.carried
        if inner.carried is not None:
            carried = [None] * len(payloads)
            for i, one in zip(which, inner.carried, strict=True):
                carried[i] = one
        return Rows(
            values,
            outer.time[rows] if outer.time is not None else inner.time,
            self._keys(outer, inner, rows.tolist()),
            np.array(which, np.int32)[at],
            np.logical_or.reduce(flags) if flags else None,
            rejects,
            carried,
        )

    def reset(self) -> None:
        forget_stream(self._around)
        forget_stream(self._inside)

    def _keys(self, outer: Rows, inner: Rows, rows: list[int]) -> list[tuple[str, ...]] | None:
        if not self._plan.key_fields:
            return None
        keys = []
        for i, row in enumerate(rows):
            around, inside = iter(outer.keys[row] if outer.keys else ()), iter(inner.keys[i] if inner.keys else ())
            keys.append(tuple([next(around if is_around else inside) for is_around in self._key_parts]))
        return keys

    def _member(self, payload: bytes) -> bytes:
        (tree, *_) = self._documents(payload)
        leaf = find(tree, self._path, tree)
        if leaf is ABSENT or leaf is None:
            raise BadPayload("other", f"{flat(self._path)} is {'absent' if leaf is ABSENT else 'null'}")
        if isinstance(leaf, str):
            data = leaf.encode()
        elif self._plan.encoding is None and self._plan.compress is None and FORMATS[self._plan.format].is_by_path:
            data = msgspec.json.encode(leaf)
        else:
            raise BadPayload("malformed", f"{flat(self._path)}: expected a string, found {kind_of(leaf)}")
        try:
            return self._open(data)
        except BadPayload as bad:
            raise BadPayload(bad.reason, f"{flat(self._path)}: {bad.detail}") from None


def _carried(carry: Callable[[bytes], bytes | None], payloads: Sequence[bytes], limit: int) -> list[bytes | None]:
    """What is carried of each payload; of one that is too large nothing is looked at."""
    return [carry(payload) if len(payload) <= limit else None for payload in payloads]


def _only(
    kept: Sequence[int], payloads: Sequence[bytes], sensors: Sequence[Hashable] | None, arrived: Arrived
) -> tuple[list[bytes], list[Hashable] | None, Arrived]:
    """Those of some payloads."""
    of_sensors = None if sensors is None else [sensors[i] for i in kept]
    of_arrived = arrived._replace(names=[arrived.names[i] for i in kept]) if arrived.names else arrived
    return [payloads[i] for i in kept], of_sensors, of_arrived


def _back(rows: Rows, kept: list[int], rejects: list[Reject]) -> Rows:
    """Rows of the payloads numbered `kept` as rows of all of them, of which the others were refused."""
    origin = np.arange(len(rows.values)) if rows.payload is None else rows.payload
    rows.payload = np.array(kept, np.int32)[origin]
    rows.rejects = [*rejects, *(reject._replace(payload=kept[reject.payload]) for reject in rows.rejects)]
    if rows.carried is not None:
        carried: list[bytes | None] = [None] * (max([*kept, *(reject.payload for reject in rejects)], default=-1) + 1)
        for i, one in zip(kept, rows.carried, strict=True):
            carried[i] = one
        rows.carried = carried
    return rows


def make_payload_decoder(plan: DecodePlan, is_one: bool = False) -> PayloadDecoder:
    """The decoder of one source's payloads; `is_one`: they are pieces of one read, and what is refused is said of it as a whole.
    It has state where values are held, and where the payloads are frames of a stream whose format spreads a sample over some."""
    if plan.around is not None and plan.inside is not None:
        return _Inside(plan, plan.around, plan.inside, is_one)
    if plan.encoding is not None or plan.compress is not None:
        return _Opened(plan, make_payload_decoder(replace(plan, encoding=None, compress=None), is_one))
    kind = FORMATS[plan.format]
    if kind.pictures is not None:
        return kind.pictures.get()(plan)
    assert kind.numbers is not None
    numbers: Numbers
    if plan.pattern is not None and not kind.is_by_pattern:
        from edged.decode.tree import Walk

        numbers = Walk(plan, by_pattern(plan.pattern))
    elif plan.is_named and kind.named is not None:
        from edged.decode.named import Named

        numbers = Named(plan, kind.named.get())
    else:
        numbers = kind.numbers.get()(plan)
    return _Numbers(plan, numbers, kind.tree.get() if kind.tree is not None and plan.carry else None, is_one)


def by_pattern(pattern: str) -> Documents:
    """A reader of payloads that a pattern describes: its groups are the members of a document."""
    search = re.compile(pattern).search

    def read(payload: bytes) -> Sequence[Any]:
        found = search(payload.decode("utf-8", "replace"))
        if found is None:
            raise BadPayload("other", "decode.pattern does not match")
        return ({name: text for name, text in found.groupdict().items() if text is not None},)

    return read
