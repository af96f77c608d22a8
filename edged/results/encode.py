"""Results as bytes: the envelope (who, when, which model) around what an output type said, in one of five formats.

JSON goes out without its last brace, so that the age is added when it is sent (see `records.Message`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Protocol

import msgspec
import numpy as np

from edged.records import Result
from edged.results.fields import ENVELOPE, ENVELOPE_AFTER, ENVELOPE_BEFORE, About, ResultField, value_at

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_Get = Callable[[Result, int], Any]


NO_TAGS: Mapping[str, str] = {}


class Envelope:
    """What all results of a pipeline say about it; its encoders share it.

    `model` (`vibration@1a2b3c4d`, None without a model) and `clock_unsynced` may change between two results.
    `names` gives the parts of the key for a key id; None if the pipeline is not keyed. `tags` are the device's.
    """

    def __init__(
        self,
        device: str,
        pipeline: str,
        model: str | None,
        run: str,
        names: Callable[[int], tuple[str, ...]] | None = None,
        tags: Mapping[str, str] = NO_TAGS,
    ) -> None:
        self.device = device
        self.pipeline = pipeline
        self.model = model
        self.run = run
        self.names = names
        self.tags = tags
        self.clock_unsynced = False
        self.about: Mapping[str, About] = {}
        """What people call the keys (`keys` of a source)."""

    def about_key(self, key: int) -> About | None:
        return self.about.get("/".join(self.names(key))) if self.about and self.names is not None else None

    def show_keys(self, about: Mapping[str, About]) -> None:
        """The keys are called so from here on."""
        self.about = about

    def show(self, model: str) -> None:
        """Results are those of this model from here on."""
        self.model = model


class Encoder(Protocol):
    def __call__(self, result: Result, now: int) -> tuple[bytes, bool]:
        """The bytes of a result at `now` (monotonic ns), and whether they are JSON that lacks `age_ms` and the last brace."""


def make_encoder(
    envelope: Envelope,
    known: Sequence[ResultField],
    format: str = "json",
    fields: Sequence[str] = (),
    dtype: str = "float32",
) -> Encoder:
    """An encoder for one `publish` entry. `known`: the fields of the output; `fields`: those to send, none for all;
    `dtype`: the element type in format "raw" of a field that has none of its own.

    Raises: ValueError, with a text for a person.
    """
    chosen = _chosen(fields, (*ENVELOPE, *known))
    match format:
        case "json":
            return _SomeJson(envelope, chosen) if chosen else _Json(envelope)
        case "msgpack":
            return _Packed(envelope, chosen, known, msgspec.msgpack.Encoder().encode)
        case "cbor":
            return _Packed(envelope, chosen, known, _cbor())
        case "text":
            return _Text(envelope, _the_one(chosen, known, "text", ("number", "text", "bool")))
        case "raw":
            field = _numbers(chosen, known)
            return _Tensor(envelope, field, field.dtype or dtype)
    raise ValueError(f'expected json, msgpack, cbor, raw or text, found "{format}"')


def rfc3339(time: int) -> str:
    """UTC ns as `2026-01-31T12:00:00.000000Z`."""
    seconds, ns = divmod(time, 10**9)
    return f"{_second(seconds)}.{ns // 1000:06d}Z"


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}"


def envelope_fields(envelope: Envelope) -> Callable[[Result, int], dict[str, Any]]:
    """Reads the envelope of a result at `now`, for conditions that name one of its fields (`when.When`)."""
    return _Fields(envelope).picker(ENVELOPE)


def encode_error(code: str, why: str) -> bytes:
    """What a requester gets in the place of a result."""
    return msgspec.json.encode({"error": {"code": code, "message": why}})


def encode_partial(text: str) -> bytes:
    """What a model has written so far."""
    return msgspec.json.encode({"text": text, "partial": True})


class _Json:
    """All fields. What is the same from result to result is kept as text."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._encode = msgspec.json.Encoder().encode
        encode = self._encode
        tags = b',"tags":%b' % encode(dict(envelope.tags)) if envelope.tags else b""
        self._start = b'{"device":%b%b,"pipeline":%b' % (encode(envelope.device), tags, encode(envelope.pipeline))
        self._end = b',"run":%b,"seq":' % encode(envelope.run)
        self._head = self._start + self._end
        self._heads: dict[int, tuple[tuple[str, ...], Mapping[str, About], bytes]] = {}
        self._model: str | None = None
        self._after_time = b""
        self._time: int | None = None
        self._after_seq = b""
        """Of results of that time: those of what came together."""

    def __call__(self, result: Result, now: int) -> tuple[bytes, bool]:
        envelope = self._envelope
        head = self._head if envelope.names is None else self._keyed_head(envelope.names(result.key), result.key)
        if envelope.model is not self._model:
            self._model, self._time = envelope.model, None
            self._after_time = b"" if envelope.model is None else b',"model":%b' % self._encode(envelope.model)
        if result.time != self._time:
            self._time = result.time
            seconds, ns = divmod(result.time, 10**9)
            self._after_seq = b',"time":"%b.%06dZ"%b,' % (_second(seconds).encode(), ns // 1000, self._after_time)
        text = b"%b%d%b%b" % (head, result.seq, self._after_seq, self._encode(result.body)[1:-1])
        if result.degraded:
            text += b',"degraded":true'
        if envelope.clock_unsynced:
            text += b',"clock":"unsynced"'
        if result.carried is not None:
            text += b',"carried":' + result.carried
        return text, True

    def _keyed_head(self, names: tuple[str, ...], key: int) -> bytes:
        kept = self._heads.get(key)
        about = self._envelope.about
        if kept is not None and kept[0] is names and kept[1] is about:  # an id may come to mean another key
            return kept[2]
        head = self._start + b',"key":%b' % self._encode("/".join(names))
        if (known := self._envelope.about_key(key)) is not None:
            head += b',"key_label":%b' % self._encode(known.label) if known.label is not None else b""
            head += b',"key_tags":%b' % self._encode(dict(known.tags)) if known.tags else b""
        head += self._end
        self._heads[key] = (names, about, head)
        return head


class _Fields:
    """Looks fields up, in the envelope or in the body."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._table: dict[str, _Get] = {
            "device": lambda result, now: envelope.device,
            "tags": lambda result, now: dict(envelope.tags) or None,
            "pipeline": lambda result, now: envelope.pipeline,
            "key": lambda result, now: None if envelope.names is None else "/".join(envelope.names(result.key)),
            "key_label": lambda result, now: None if (one := envelope.about_key(result.key)) is None else one.label,
            "key_tags": lambda result, now: None if (one := envelope.about_key(result.key)) is None else dict(one.tags) or None,
            "run": lambda result, now: envelope.run,
            "seq": lambda result, now: result.seq,
            "time": lambda result, now: rfc3339(result.time),
            "model": lambda result, now: envelope.model,
            "age_ms": lambda result, now: round((now - result.arrival) / 1e6, 3),
            "degraded": lambda result, now: result.degraded or None,
            "clock": lambda result, now: "unsynced" if envelope.clock_unsynced else None,
            "carried": lambda result, now: None if result.carried is None else msgspec.json.decode(result.carried),
        }

    def getter(self, field: ResultField) -> _Get:
        if field in ENVELOPE:
            return self._table[field.name]
        return lambda result, now: value_at(result.body, field.path)

    def picker(self, fields: Sequence[ResultField]) -> Callable[[Result, int], dict[str, Any]]:
        """Makes the record with only these fields, at the paths that they have in the whole one; what is absent stays out."""
        getters = [(field.path, self.getter(field)) for field in fields]

        def pick(result: Result, now: int) -> dict[str, Any]:
            record: dict[str, Any] = {}
            for path, get in getters:
                value = get(result, now)
                if value is None:
                    continue
                at = record
                for part in path[:-1]:
                    at = at.setdefault(part, {})
                at[path[-1]] = value
            return record

        return pick


class _SomeJson:
    """Chosen fields. With `age_ms` among them it is left to be added when sent, else the object is whole."""

    def __init__(self, envelope: Envelope, chosen: Sequence[ResultField]) -> None:
        others = [field for field in chosen if field.name != "age_ms"]
        self._is_open = len(others) < len(chosen) and bool(others)
        self._pick = _Fields(envelope).picker(others if self._is_open else chosen)
        self._encode = msgspec.json.Encoder().encode

    def __call__(self, result: Result, now: int) -> tuple[bytes, bool]:
        record = self._pick(result, now)
        text = self._encode(record)
        if self._is_open and record:
            return text[:-1], True
        return text, False


class _Packed:
    """A map of the chosen or all fields in MessagePack or CBOR; its `age_ms` is the age at encoding."""

    def __init__(
        self,
        envelope: Envelope,
        chosen: Sequence[ResultField],
        known: Sequence[ResultField],
        encode: Callable[[Any], bytes],
    ) -> None:
        self._pick = _Fields(envelope).picker(chosen or _whole(known))
        self._encode = encode

    def __call__(self, result: Result, now: int) -> tuple[bytes, bool]:
        return self._encode(self._pick(result, now)), False


class _Text:
    """The bare value of one field."""

    def __init__(self, envelope: Envelope, field: ResultField) -> None:
        self._get = _Fields(envelope).getter(field)
        self._encode = msgspec.json.Encoder().encode

    def __call__(self, result: Result, now: int) -> tuple[bytes, bool]:
        value = self._get(result, now)
        return value.encode() if isinstance(value, str) else self._encode(value), False


class _Tensor:
    """One tensor, its elements little-endian, one after another; null is NaN."""

    def __init__(self, envelope: Envelope, field: ResultField, dtype: str) -> None:
        self._get = _Fields(envelope).getter(field)
        self._dtype = np.dtype(dtype).newbyteorder("<")
        if self._dtype.kind not in "biuf":
            raise ValueError(f'format "raw" is for numbers; {field.name} is {dtype}: use "json"')

    def __call__(self, result: Result, now: int) -> tuple[bytes, bool]:
        value = self._get(result, now)
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, (np.ndarray, np.generic)):
            return value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes(), False
        return np.asarray(value, self._dtype).tobytes(), False


def _whole(known: Sequence[ResultField]) -> list[ResultField]:
    """All fields in the order of the whole result; a field within another comes with it."""
    return [*ENVELOPE_BEFORE, *(field for field in known if len(field.path) == 1), *ENVELOPE_AFTER]


def _chosen(names: Sequence[str], known: Sequence[ResultField]) -> list[ResultField]:
    by_name = {field.name: field for field in known}
    for name in names:
        if name not in by_name:
            raise ValueError(f'expected fields of the result ({", ".join(by_name)}), found "{name}"')
    return [by_name[name] for name in names]


def _the_one(chosen: Sequence[ResultField], known: Sequence[ResultField], format: str, kinds: tuple[str, ...]) -> ResultField:
    """The one field of format "raw" or "text": the one chosen, else the only one there is."""
    fitting = chosen or [field for field in known if field.kind in kinds]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(field.name for field in known)
    raise ValueError(f'format "{format}" sends one field, found {len(fitting)}: set fields to one of: {names}')


def _numbers(chosen: Sequence[ResultField], known: Sequence[ResultField]) -> ResultField:
    """The one field of format "raw". Of those that hold several, the values of a regression are all there and in their order."""
    field = _the_one(chosen, known, "raw", ("tensor", "number"))
    is_text = field.kind == "text" or field.dtype in ("string", "object")
    if not is_text and (field.kind != "object" or field.name == "values"):
        return field
    fitting = ", ".join(f.name for f in known if f.kind in ("tensor", "number") and f.dtype not in ("string", "object"))
    found = "is text" if is_text else "holds several"
    raise ValueError(
        f'format "raw" sends the numbers of one field; "{field.name}" {found}: use "json", or set fields to one of: {fitting}'
    )


def _cbor() -> Callable[[Any], bytes]:
    """cbor2 is an extra: imported only where it is asked for."""
    try:
        cbor2 = importlib.import_module("cbor2")
    except ImportError as error:
        raise ValueError('format "cbor" needs the package cbor2: pip install "edged[cbor]"') from error
    dumps: Callable[[Any], bytes] = cbor2.dumps
    return dumps
