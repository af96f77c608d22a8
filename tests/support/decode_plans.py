"""Plans and samples of bytes for the tests of decoders."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np

from edged.config import schema
from edged.decode import DecodePlan, plan_decode
from edged.decode.stream import StreamDecoder, make_stream_decoder
from edged.records import Reject, Rows


def field(name: str, **keys: Any) -> schema.FieldSpec:
    return schema.FieldSpec(name=name, **keys)


def plan(format: Any, *fields: str | schema.FieldSpec, time: tuple[str, Any] | None = None, **keys: Any) -> DecodePlan:
    """A plan, from what `decode` and the source say. Keys that `decode` has go there."""
    specs = tuple(one if isinstance(one, schema.FieldSpec) else field(one) for one in fields)
    ours = (
        *("header", "separator", "endian", "rest", "pattern", "decimal", "base"),
        *("rows", "named_by", "payload", "encoding", "compress"),
    )
    of_decode = {key: keys.pop(key) for key in ours if key in keys}
    stamp = None if time is None else schema.Time(field=time[0] or None, format=time[1])
    keys.setdefault("max_bytes", 65536)
    planned = plan_decode(schema.Decode(format=format, fields=specs, time=stamp, **of_decode), **keys)
    assert isinstance(planned, DecodePlan), planned
    return planned


def fed(decoder: StreamDecoder, chunks: list[bytes]) -> tuple[np.ndarray[Any, Any], list[Reject]]:
    """All rows and rejects of a stream that comes in these chunks."""
    parts: list[Rows] = [rows for chunk in chunks if (rows := decoder.feed(chunk)) is not None]
    values = [part.values for part in parts if len(part.values)]
    rejects = [reject for part in parts for reject in part.rejects]
    return (np.concatenate(values) if values else np.empty((0, 0))), rejects


def rows_of(planned: DecodePlan, data: bytes) -> list[list[float]]:
    """The rows of a whole stream."""
    rows: list[list[float]] = fed(make_stream_decoder(planned), [data])[0].tolist()
    return rows


def chopped(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(places)]


def refused(rejects: Any) -> Counter[str]:
    """How many by reason."""
    counts: Counter[str] = Counter()
    for reject in rejects:
        counts[reject.reason] += reject.times
    return counts


def reasons(rejects: Any) -> list[str]:
    return [reject.reason for reject in rejects]
