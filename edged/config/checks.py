"""What must hold between the keys of one table.

`RULES` says for each table which keys depend on one another and the function that looks at them. It gets the converted
table and the plain one, so that it can tell a key that was given from a default. What needs a model, a size or the
captures of several topics is the plan's to check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from edged.config.convert import Finish, Rule
from edged.config.files import read_small
from edged.config.parsers import STAND_INS, path_of_name
from edged.config.provider_options import KNOWN, OWN
from edged.config.schema import (
    Batch,
    Broker,
    Checksum,
    Decode,
    DecodedSource,
    FieldSpec,
    Frame,
    Gate,
    Health,
    Input,
    Model,
    MqttSource,
    Output,
    Pipeline,
    ProviderOptions,
    Publish,
    ReplaySource,
    SerialSource,
    Step,
    Table,
    When,
)
from edged.config.units import MS
from edged.config.words import did_you_mean, found_among, quoted, shown
from edged.decode.formats import FORMATS, with_field_key
from edged.results.heads.head import Check
from edged.results.heads.table import HEADS
from edged.topics import parse_filter

Raw = Mapping[str, Any]
Wrong = Iterator["tuple[str, str] | tuple[str, str, str]"]

INHERITED = ("dtype", "scale", "offset", "unit", "valid", "shape")
"""Keys of `decode` that stand for those of every field that does not say its own."""

PARTLY_KNOWN = ("path", "dtype", "endian", "bits", "values")
"""Keys of a field that not every format has."""


def mutual_tls(table: Broker, raw: Raw) -> Wrong:
    if (table.cert is None) != (table.key is None):
        given, absent = ("cert", "key") if table.key is None else ("key", "cert")
        yield given, f"mutual TLS needs cert and key, and {absent} is missing; add it, or remove {given}"


def tls_keys(table: Broker, raw: Raw) -> Wrong:
    if not table.url.is_tls:
        for name in ("ca", "cert", "key"):
            if name in raw:
                yield name, f"has no effect with {table.url}, which is not encrypted; write mqtts://", "key"


def certificates(table: Broker, raw: Raw) -> Wrong:
    for name in ("ca", "cert"):
        path = getattr(table, name)
        if path is None:
            continue
        try:
            read_small(path)
        except ValueError as error:
            yield name, str(error)


def password_alone(table: Broker, raw: Raw) -> Wrong:
    if table.version == "3.1.1" and table.password is not None and table.username is None:
        yield "password", 'MQTT 3.1.1 has no password without a user; add username, or use version = "5"'


def health_interval(table: Health, raw: Raw) -> Wrong:
    if table.interval < 100 * MS:
        yield "interval", f'expected at least "100ms", found {shown(raw["interval"])}'


def frame(table: Frame, raw: Raw) -> Wrong:
    around = len(table.sync or b"") + len(table.tail or b"")
    if table.type == "fixed" and around and table.size is not None and table.size <= around:
        which = "sync and tail" if table.tail else "sync"
        yield "size", f"expected more than the {around} {which} bytes, found {table.size}; it is the whole frame"
    if table.type == "length" and table.offset is not None and table.offset < len(table.sync or b""):
        sync = len(table.sync or b"")
        yield "offset", f"expected the length field after the {sync} sync bytes: at least {sync}, found {table.offset}"


def crc_parameters(table: Checksum, raw: Raw) -> Wrong:
    for key in ("poly", "init", "xor"):
        value = getattr(table, key)
        if table.type == "crc8" and value is not None and value > 0xFF:
            yield key, f"expected at most 0xFF for a CRC of 8 bits, found {value:#x}; without the polynomial's highest bit"


def markers(table: Frame, raw: Raw) -> Wrong:
    if table.type == "line" and table.sync is not None and not isinstance(table.sync, bytes):
        yield "sync", "expected bytes without open bits at the start of a line"
    if table.type == "line" and isinstance(table.sync, bytes) and table.end in table.sync:
        yield "sync", "the line's end stands in it, so no line ever begins so"


def length_field(table: Frame, raw: Raw) -> Wrong:
    if table.length == "uint8" and "endian" in raw:
        yield "endian", 'has no effect with length = "uint8": one byte has no order', "key"


def health_nowhere(table: Health, raw: Raw) -> Wrong:
    if table.broker == () and "interval" in raw:
        yield "interval", "has no effect with broker = []: health is published nowhere", "key"


def flow_control(table: SerialSource, raw: Raw) -> Wrong:
    if table.flow == "xonxoff" and table.frame.type != "line":
        text = f'"xonxoff" takes the bytes 0x11 and 0x13 out of the stream, and frames of type "{table.frame.type}" may hold them'
        yield "flow", f'{text}; write "none", or "rtscts" where the wires are there'
    if table.flow == "rtscts" and "rts" in raw:
        yield "rts", 'has no effect with flow = "rtscts", which sets the line by itself', "key"


def overridden(table: Decode, raw: Raw) -> Wrong:
    """Keys of `decode` that stand for those of every field that does not say its own, where every field does."""
    fields = raw.get("fields", [])
    given = fields if isinstance(fields, list) else [fields]
    for key in INHERITED:
        is_of_skipped = key in ("dtype", "shape")  # of what is skipped too, on the wire
        takers = [
            one for spec, one in zip(table.fields, given, strict=True) if is_of_skipped or spec.name not in ("_", _time_of(table))
        ]
        if key in raw and takers and all(isinstance(one, dict) and key in one for one in takers):
            yield key, f"has no effect, since every field says its own {key}; remove it here, or there", "key"


def byte_order(table: Decode, raw: Raw) -> Wrong:
    types = {spec.dtype or table.dtype or "float32" for spec in table.fields} or {table.dtype or "float32"}
    if "endian" in raw and types <= {"int8", "uint8", "bool"}:
        yield "endian", f"has no effect on {quoted(sorted(types))}: one byte has no order", "key"


def numbers_on_the_wire(table: Decode, raw: Raw) -> Wrong:
    fields = raw.get("fields", [])
    for i, spec in enumerate(table.fields):
        at = f"fields[{i}]" if isinstance(fields, list) else "fields"
        dtype, order = spec.dtype or table.dtype or "", spec.endian or table.endian
        if spec.endian is not None and dtype in ("int8", "uint8", "bool"):
            yield f"{at}.endian", f'has no effect on "{dtype}": one byte has no order', "key"
        if dtype in ("int24", "uint24") and order in ("cdab", "badc"):
            key = f"{at}.endian" if spec.endian is not None else "endian"
            yield key, f'expected "big" or "little" for {dtype}, found "{order}": three bytes have no words'
        if spec.bits is None:
            continue
        if "int" not in dtype:
            yield f"{at}.bits", f'"{dtype}" is no whole number; bits are taken of such as "uint16"', "key"
        elif sum(spec.bits) > (width := int(dtype.lstrip("uint"))):
            yield f"{at}.bits", f"expected bits below {width}, those of {dtype}, found {list(spec.bits)}"


def skipped(table: Decode, raw: Raw) -> Wrong:
    """What is said of the values of a field that has none: it is skipped, or a time."""
    fields = raw.get("fields", [])
    for i, spec in enumerate(table.fields):
        one = fields[i] if isinstance(fields, list) else fields
        is_time = spec.name == _time_of(table)
        if not isinstance(one, dict) or (spec.name != "_" and not is_time):
            continue
        at = f"fields[{i}]" if isinstance(fields, list) else "fields"
        why = "the time of the sample, read as decode.time says" if is_time else "skipped"
        for key in ("scale", "offset", "unit", "valid", "values"):
            if key in one:
                yield f"{at}.{key}", f"has no effect: this field is {why}", "key"


def _time_of(table: Decode) -> str | None:
    return table.time.field if table.time is not None else None


def decode_fields(table: Decode, raw: Raw) -> Wrong:
    kind = FORMATS[table.format]
    fields = raw.get("fields", [])
    given = fields if isinstance(fields, list) else [fields]
    for i, (spec, one) in enumerate(zip(table.fields, given, strict=True)):
        at = f"fields[{i}]" if isinstance(fields, list) else "fields"
        keys = one if isinstance(one, dict) else {}
        for key in PARTLY_KNOWN:
            if key in keys and key not in kind.field_keys:
                belongs = f"it belongs to {quoted(with_field_key(key))}"
                yield f"{at}.{key}", f'has no effect with format = "{table.format}"; {belongs}', "key"
        if kind.needs_dtype and spec.dtype is None and table.dtype is None:
            yield f"{at}.dtype", 'required: the type on the wire, such as "int16"; one for all fields: decode.dtype', "table"
        if spec.name == "_" and kind.is_by_path:
            yield at, f'"_" skips a column; {table.format} has none: leave the field out'
    counts = Counter(spec.name for spec in table.fields if spec.name != "_")
    for name, count in counts.items():
        if count > 1:
            last = max(i for i, spec in enumerate(table.fields) if spec.name == name)
            yield f"fields[{last}]", f'"{name}" stands {count} times; each field needs a name of its own ("_" skips one)'
    if table.fields and all(spec.name == "_" for spec in table.fields):
        yield "fields", 'expected a field that is not "_", found none'


def picture(table: Decode, raw: Raw) -> Wrong:
    """A picture is one field, and its pixels are no values to be scaled or judged."""
    if not FORMATS[table.format].is_of_pictures:
        return
    fields = raw.get("fields", [])
    given = fields if isinstance(fields, list) else [fields]
    if len(given) > 1:
        yield "fields", f"expected one name, what the picture is called, found {len(given)}"
    for i, one in enumerate(given):
        at = f"fields[{i}]" if isinstance(fields, list) else "fields"
        for key in ("scale", "offset", "unit", "valid", "shape") if isinstance(one, dict) else ():
            if key in one:
                yield f"{at}.{key}", f'has no effect with format = "{table.format}"; preprocess has the steps for pictures', "key"


def picture_source(table: DecodedSource, raw: Raw) -> Wrong:
    if FORMATS[table.decode.format].is_of_pictures and "on_bad" in raw:
        yield "on_bad", "has no effect on pictures: one that cannot be decoded is dropped", "key"


BytesSource = SerialSource | MqttSource | ReplaySource


def fill_max_bytes(table: BytesSource, raw: Raw) -> BytesSource:
    return msgspec.structs.replace(table, max_bytes=_filled_max_bytes(table, raw))


def _filled_max_bytes(table: BytesSource, raw: Raw) -> int:
    """A picture is larger than a line or a message of numbers."""
    return (None if "max_bytes" in raw else FORMATS[table.decode.format].max_bytes) or table.max_bytes


def fill_fields(table: Decode, raw: Raw) -> Decode:
    """Fields with what `decode` says for all of them, and with the path that follows from their name."""
    fields = raw.get("fields", [])
    given = fields if isinstance(fields, list) else [fields]
    specs: Sequence[FieldSpec] = table.fields
    kind = FORMATS[table.format]
    if not specs and kind.default_field:
        specs, given = (FieldSpec(name=kind.default_field),), [{}]
    filled = []
    for spec, one in zip(specs, given, strict=True):
        own = one if isinstance(one, dict) else {}
        changes: dict[str, Any] = {
            key: getattr(table, key) for key in INHERITED if key not in own and getattr(table, key) is not None
        }
        if not spec.path:
            changes["path"] = path_of_name(spec.name)
        if kind.default_dtype and spec.dtype is None and "dtype" not in changes:
            changes["dtype"] = kind.default_dtype
        filled.append(msgspec.structs.replace(spec, **changes))
    return msgspec.structs.replace(table, fields=tuple(filled))


def keys_and_time(table: DecodedSource, raw: Raw) -> Wrong:
    captures = parse_filter(table.topic[0], STAND_INS).captures if isinstance(table, MqttSource) else ()
    names = captures if table.key is None else table.key
    if table.max_keys is not None and not names:
        place = (
            "capture a level of topic, such as plant/{pump}, or name a field with key" if captures == () else "name one with key"
        )
        yield "max_keys", f"has no effect without a key; {place}", "key"
    for name, count in Counter(names).items():
        if count > 1:
            yield "key", f'"{name}" stands {count} times'
    known = _declared(table.decode)
    if known is None:
        return
    for i, name in enumerate(table.key or ()):
        if name not in captures and name not in known:
            at = f"key[{i}]" if isinstance(raw["key"], list) else "key"
            yield at, f"expected a capture of topic or a field of decode.fields, {found_among(name, [*captures, *known])}"
    time = table.decode.time
    if time is not None and time.field not in known:
        text = f"expected a field of decode.fields, {found_among(time.field, known)}"
        yield (
            "decode.time.field",
            f"{text}; add it where it stands in the {'line' if FORMATS[table.decode.format].lines else 'frame'}",
        )


def carried(table: DecodedSource, raw: Raw) -> Wrong:
    if table.carry and not FORMATS[table.decode.format].is_by_path:
        belongs = f"it belongs to {quoted(name for name, kind in FORMATS.items() if kind.is_by_path)}"
        yield "carry", f'has no effect with format = "{table.decode.format}"; {belongs}', "key"
    for name, count in Counter(table.carry).items():
        if count > 1:
            yield "carry", f'"{name}" stands {count} times'


def _declared(decode: Decode) -> list[str] | None:
    """Names of the fields, where every field must be declared to be found; None where the payload names them."""
    kind = FORMATS[decode.format]
    if kind.is_by_path or decode.header:
        return None
    if kind.is_of_pictures:
        return []
    return [spec.name for spec in decode.fields if spec.name != "_"]


def mqtt_topics(table: MqttSource, raw: Raw) -> Wrong:
    for topic, count in Counter(table.topic).items():
        if count > 1:
            yield "topic", f"{shown(topic)} stands {count} times"


def binary_frames(table: SerialSource, raw: Raw) -> Wrong:
    if table.frame.type == "line" and FORMATS[table.decode.format].is_binary:
        text = f'{table.decode.format} is binary: a line end may stand inside a sample; set frame to type "fixed" or "length"'
        yield ("frame", text) if "frame" in raw else ("frame", text, "table")


def checksum_of_frames(table: SerialSource | ReplaySource, raw: Raw) -> Wrong:
    frames, checksum = table.frame.type, table.checksum
    if checksum.type in ("nmea", "teleinfo"):
        if frames != "line":
            yield (
                "checksum",
                f'"{checksum.type}" stands at the end of a line; frames of type "{frames}" have sums and CRCs of bytes',
            )
    elif checksum.type != "none" and frames == "line" and checksum.encoding is None:
        cure = "; a line's checksum of two hex digits after * is nmea" if checksum.type == "xor8" else ""
        own = 'lines have "nmea", "teleinfo", or encoding = "hex"'
        text = f'"{checksum.type}" of bytes is for frames of type "fixed" or "length"; {own}'
        yield "checksum", f"{text}{cure}"
    limit = table.max_bytes if table.decode is None else _filled_max_bytes(table, raw)
    if table.frame.size is not None and table.frame.size > limit:
        yield "frame.size", f"a frame of {table.frame.size} bytes is longer than max_bytes, {limit} bytes; set max_bytes"


def normalize(table: Step, raw: Raw) -> Wrong:
    if table.step != "normalize":
        return
    pairs = [("mean", "std"), ("min", "max")]
    given = [pair for pair in pairs if any(getattr(table, key) is not None for key in pair)]
    if len(given) != 1:
        found = "both" if given else "neither"
        yield "step", f"normalize needs mean and std, or min and max; found {found}"
        return
    first, second = given[0]
    low, high = getattr(table, first), getattr(table, second)
    if low is None or high is None:
        absent = first if low is None else second
        yield absent, f"required: normalize needs {first} and {second}", "table"
    elif len(low) != len(high) and 1 not in (len(low), len(high)):
        yield second, f"expected as many numbers as in {first}, {len(low)}, found {len(high)}"
    elif second == "std" and any(x == 0 for x in high):
        yield "std", "expected numbers other than 0, since the values are divided by them"
    elif second == "max" and any(a >= b for a, b in zip(_spread(low, len(high)), _spread(high, len(low)), strict=True)):
        yield "max", "expected numbers greater than those of min"


def _spread(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    return values * count if len(values) == 1 else values


def constant_or_fields(table: Input, raw: Raw) -> Wrong:
    if "value" in raw:
        for key in ("fields", "size", "layout"):
            if key in raw:
                yield key, "has no effect beside value, which is a constant instead of fields; remove one of the two", "key"
    for name, count in Counter(table.fields or ()).items():
        if count > 1:
            yield "fields", f'"{name}" stands {count} times'


def output_names(table: Output, raw: Raw) -> Wrong:
    if not HEADS[table.type].takes_several and table.tensor is not None and len(table.tensor) > 1:
        yield "tensor", f'expected one output of the model for type = "{table.type}", found {len(table.tensor)}'
    names = [field.name for field in table.fields or ()]
    for name, count in Counter(names).items():
        if count > 1:
            yield "fields", f'"{name}" stands {count} times; each value needs a name of its own'


def only_of(head: str, check: Check) -> Callable[[Output, Raw], Wrong]:
    """A check of one output type, not asked of the others."""

    def find(table: Output, raw: Raw) -> Wrong:
        return check.find(table, raw) if table.type == head else iter(())

    return find


def provider_options(table: ProviderOptions, raw: Raw) -> Wrong:
    for provider, known in KNOWN.items():
        for name in getattr(table, provider) or ():
            if name in OWN:
                yield f"{provider}.{name}", f"cannot be set here: {OWN[name]}", "key"
            elif name not in known:
                others = [other for other, names in KNOWN.items() if name in names]
                cure = f'; it belongs to "{others[0]}"' if others else did_you_mean(name, known)
                yield f"{provider}.{name}", f"ONNX Runtime has no such option for {provider}{cure}", "key"


def options_of_others(table: Model, raw: Raw) -> Wrong:
    """TensorRT leaves to CUDA what it cannot do itself; all else that is not tried has no options either."""
    if table.providers is None or table.provider_options is None:
        return
    if "tensorrt" not in table.providers and table.provider_options.tensorrt is not None:
        yield "provider_options.tensorrt", "has no effect, since providers does not name tensorrt", "key"
    if not {"tensorrt", "cuda"} & set(table.providers) and table.provider_options.cuda is not None:
        yield "provider_options.cuda", "has no effect, since providers names no GPU", "key"


def gate_conditions(table: Gate, raw: Raw) -> Wrong:
    if not {"of", "above", "below", "label"} & raw.keys():
        yield "of", 'required: when is it open? Such as above = 0.8, label = "worn", or of = "anomaly" (true)', "table"


def batch_delay(table: Batch, raw: Raw) -> Wrong:
    if table.max == 1 and table.delay:
        yield "delay", "has no effect with max = 1: there is nothing to wait for", "key"


def conditions(table: When | Gate, raw: Raw) -> Wrong:
    if table.above is not None and table.below is not None and table.above >= table.below:
        yield "below", f"nothing is above {table.above:g} and below {table.below:g}; both must hold"
    if table.label is not None and (table.above is not None or table.below is not None) and table.of == "label":
        yield "of", '"label" is a text and has no above or below; leave of out'


def intervals(table: When, raw: Raw) -> Wrong:
    if table.min_interval is not None and table.max_interval is not None and table.min_interval > table.max_interval:
        yield "max_interval", f"expected at least min_interval, {shown(raw['min_interval'])}, found {shown(raw['max_interval'])}"


def published_fields(table: Publish, raw: Raw) -> Wrong:
    fields = table.fields or ()
    if table.format == "text" and len(fields) != 1:
        found = f"found {len(fields)}" if fields else "found none"
        text = f'expected one field, whose bare value is sent as text, {found}; such as fields = "score"'
        yield ("fields", text) if fields else ("fields", text, "table")
    if table.format == "raw" and len(fields) > 1:
        yield "fields", f'expected one tensor for format = "raw", found {len(fields)}; publish each by itself'
    for name, count in Counter(fields).items():
        if count > 1:
            yield "fields", f'"{name}" stands {count} times'


def without_model(table: Pipeline, raw: Raw) -> Wrong:
    if table.model is not None:
        return
    if HEADS[table.output.type].needs_model:
        yield "output", f'"{table.output.type}" needs a model; without one the samples themselves are the result'
    for key in ("postprocess", "inputs", *(("slots", "overflow") if table.gate is None else ())):
        if key in raw:
            yield key, "has no effect without a model", "key"


def alignment(table: Pipeline, raw: Raw) -> Wrong:
    if table.align is None:
        return
    if len(table.source) == 1 and table.align.rate is None:
        yield "align", "has no effect on one source without align.rate", "key"
    elif table.align.rate is not None and table.align.to is not None:
        yield "align.to", "expected to or rate, found both: a row for each sample of a stream, or a regular grid", "key"


RULES: dict[type[Table], tuple[Rule, ...]] = {
    Broker: (
        Rule(("cert", "key"), mutual_tls),
        Rule(("url",), tls_keys),
        Rule(("ca", "cert"), certificates),
        Rule(("version", "username", "password"), password_alone),
    ),
    Health: (Rule(("interval",), health_interval), Rule(("interval", "broker"), health_nowhere)),
    Frame: (
        Rule(("type", "size", "sync", "tail", "offset"), frame),
        Rule(("type", "length", "endian"), length_field),
        Rule(("type", "sync", "end"), markers),
    ),
    Checksum: (Rule(("type", "poly", "init", "xor"), crc_parameters),),
    Decode: (
        Rule(("format", "fields", "dtype"), decode_fields),
        Rule(("fields", "time"), overridden),
        Rule(("fields", "time"), skipped),
        Rule(("format", "fields", "dtype", "endian"), byte_order),
        Rule(("fields", "dtype", "endian"), numbers_on_the_wire),
        Rule(("format", "fields"), picture),
    ),
    DecodedSource: (
        Rule(("decode", "key", "max_keys", "topic"), keys_and_time),
        Rule(("decode", "carry"), carried),
        Rule(("decode", "on_bad"), picture_source),
    ),
    MqttSource: (Rule(("topic",), mqtt_topics),),
    SerialSource: (
        Rule(("frame", "decode"), binary_frames),
        Rule(("frame", "checksum", "max_bytes"), checksum_of_frames),
        Rule(("flow", "rts", "frame"), flow_control),
    ),
    ReplaySource: (Rule(("frame", "checksum", "max_bytes"), checksum_of_frames),),
    ProviderOptions: (Rule(("tensorrt", "cuda"), provider_options),),
    Model: (Rule(("providers", "provider_options"), options_of_others),),
    Step: (Rule(("step", "mean", "std", "min", "max"), normalize),),
    Input: (Rule(("fields", "value"), constant_or_fields),),
    Output: (
        Rule(("type", "tensor", "fields"), output_names),
        *(Rule(("type", *check.reads), only_of(name, check)) for name, kind in HEADS.items() for check in kind.checks),
    ),
    When: (Rule(("above", "below", "label", "of"), conditions), Rule(("min_interval", "max_interval"), intervals)),
    Gate: (Rule(("above", "below", "label", "of"), conditions), Rule(("of", "above", "below", "label"), gate_conditions)),
    Batch: (Rule(("max", "delay"), batch_delay),),
    Publish: (Rule(("format", "fields"), published_fields),),
    Pipeline: (
        Rule(("model", "output", "gate"), without_model),
        Rule(("align", "source"), alignment),
    ),
}
FINISH: dict[type[Table], Finish] = {
    Decode: fill_fields,
    DecodedSource: fill_max_bytes,
}
