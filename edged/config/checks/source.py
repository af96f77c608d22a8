"""Checks of sources: their frames, checksums, topics, keys, and what is carried past the model."""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from edged.config.convert import Finish, Raw, Rule, Wrong
from edged.config.parsers.names import STAND_INS
from edged.config.ports import is_contradicted, rate_of, shared_port
from edged.config.schema import (
    PROVED,
    Checksum,
    Decode,
    DecodedSource,
    Frame,
    MqttSource,
    Port,
    ReplaySource,
    Send,
    SerialSource,
    Table,
)
from edged.decode.formats import FORMATS, with_field_key
from edged.notation.markers import BLOCKS, OpenMarker
from edged.notation.patterns import groups_of
from edged.notation.words import duration, found_among, quoted, rate_said, shown
from edged.topics import FIELD, parse_filter


def frame(table: Frame, raw: Raw) -> Wrong:
    around = len(table.sync or b"") + len(table.tail or b"")
    least = around + (not any(isinstance(one, OpenMarker) for one in (table.sync, table.tail)))  # open bits are data
    if table.type == "fixed" and around and table.size is not None and table.size < least:
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
    if table.type == "line" and isinstance(table.sync, bytes) and table.end and table.end in table.sync:
        yield "sync", "the line's end stands in it, so no line ever begins so"


def blocks(table: Frame, raw: Raw) -> Wrong:
    """What ends a line or a block."""
    if table.type == "line" and table.end == b"":
        yield "end", 'expected bytes such as [0xAA, 0x55] or a string, found an empty one; a line ends with "\\n" or "\\r"'
    if table.type == "block" and not {"start", "end", "gap"} & set(raw):
        yield "type", 'a block needs its start line, its end line or a gap; write such as start = "/" or end = "!"'
    if table.start == b"":
        yield "start", 'expected how the first line of a block begins, such as "/", found an empty string'
    if table.type == "dle" and table.sync is not None and (not isinstance(table.sync, bytes) or table.sync[:1] != b"\x10"):
        yield "sync", "expected bytes that begin with DLE, [0x10, 0x02] or [0x10]"
    for id in table.crc_extra or ():
        if not id.isdigit() or int(id) >= 1 << 24:
            yield f"crc_extra.{id}", f"expected the id of a message, 0 to {(1 << 24) - 1}", "key"


def fill_end(table: Frame, raw: Raw) -> Frame:
    """Only lines have an end by themselves."""
    return table if table.type == "line" or "end" in raw else msgspec.structs.replace(table, end=None)


def length_field(table: Frame, raw: Raw) -> Wrong:
    if table.length == "uint8" and "endian" in raw:
        yield "endian", 'has no effect with length = "uint8": one byte has no order', "key"


def _brings_frame(table: SerialSource | ReplaySource) -> bool:
    """Whether the format says how its frames look."""
    return table.decode is not None and bool(FORMATS[table.decode.format].frame)


def binary_frames(table: SerialSource, raw: Raw) -> Wrong:
    if shared_port(table):
        return  # its port says how frames are cut
    if not FORMATS[table.decode.format].is_binary or table.decode.encoding is not None or table.decode.payload is not None:
        return
    if table.frame.type in BLOCKS:
        yield "frame", f'"{table.frame.type}" is lines of text, and {table.decode.format} is binary'
    if table.frame.type == "line" and not _brings_frame(table):
        text = f'{table.decode.format} is binary: a line end may stand inside a sample; set frame to type "fixed" or "length"'
        yield ("frame", text) if "frame" in raw else ("frame", text, "table")


def checksum_of_frames(table: SerialSource | ReplaySource | Port, raw: Raw) -> Wrong:
    if isinstance(table, SerialSource) and shared_port(table):
        return
    frames, checksum = table.frame.type, table.checksum
    if not isinstance(table, Port) and _brings_frame(table):
        for key in ("frame", "checksum"):
            if key in raw:
                text = f'has no effect with format = "{table.decode.format}", which brings its own frame and checksum'
                yield key, f"{text}; remove the line", "key"
        return
    if checksum.type != "none" and frames in (*PROVED, "block"):
        why = "has no checksum of its own" if frames == "block" else "is proved by its own sum"
        yield "checksum", f'has no effect with frame = "{frames}", which {why}; remove the line', "key"
    elif checksum.type in ("nmea", "teleinfo"):
        if frames != "line":
            yield (
                "checksum",
                f'"{checksum.type}" stands at the end of a line; frames of type "{frames}" have sums and CRCs of bytes',
            )
    elif checksum.type != "none" and frames == "line" and checksum.encoding is None:
        fix = "; a line's checksum of two hex digits after * is nmea" if checksum.type == "xor8" else ""
        own = 'lines have "nmea", "teleinfo", or encoding = "hex" or "line-safe"'
        text = f'"{checksum.type}" of bytes is for frames of type "fixed" or "length"; {own}'
        yield "checksum", f"{text}{fix}"
    limit = table.max_bytes if isinstance(table, Port) or table.decode is None else _filled_max_bytes(table, raw)
    if table.frame.size is not None and table.frame.size > limit:
        yield "frame.size", f"a frame of {table.frame.size} bytes is longer than max_bytes, {limit} bytes; set max_bytes"


def asked_at_a_pace(table: SerialSource, raw: Raw) -> Wrong:
    if is_contradicted(table):
        asked = rate_of(table)
        assert table.rate is not None
        assert asked is not None
        text = f"{rate_said(table.rate)} contradicts send, which asks for {rate_said(asked)}"
        yield "rate", f"{text}; remove rate"


def sending(table: Send, raw: Raw) -> Wrong:
    if table.checksum.type in ("nmea", "teleinfo"):
        yield "checksum", f'"{table.checksum.type}" is a checksum of lines that come in; write it into data'
    if table.checksum.encoding == "all-hex":
        yield "checksum.encoding", '"all-hex" is for what comes in; write the checksum into data'
    if table.every is None and "timeout" in raw and table.answer is None:
        yield "timeout", "has no effect: nothing is waited for when the port opens without answer", "key"
    if table.every is not None and table.timeout is not None and table.timeout > table.every:
        yield "timeout", f"{duration(table.timeout)} is longer than every, {duration(table.every)}: it would never be kept"


def only_of_a_bus(table: DecodedSource, raw: Raw) -> Wrong:
    if table.decode.format == "modbus" and not isinstance(table, ReplaySource):
        yield "decode.format", '"modbus" is that of recordings; a bus is asked by a source of type = "modbus"'


def port_of_windows(table: SerialSource, raw: Raw) -> Wrong:
    if isinstance(table.port, str) and re.fullmatch(r"(?i)COM\d+:?", table.port):
        yield (
            "port",
            f'expected a device such as "/dev/ttyUSB0", found {shown(table.port)}, a name of Windows; ls /dev/serial/by-id',
        )


def flow_control(table: SerialSource | Port, raw: Raw) -> Wrong:
    is_text = (
        isinstance(table, SerialSource) and table.decode is not None and FORMATS[table.decode.format].frame in ("line", "dsmr")
    )
    if table.flow == "xonxoff" and table.frame.type not in ("line", "block", "dsmr") and not is_text:
        text = f'"xonxoff" takes the bytes 0x11 and 0x13 out of the stream, and frames of type "{table.frame.type}" may hold them'
        yield "flow", f'{text}; write "none", or "rtscts" where the wires are there'
    if table.flow == "rtscts" and "rts" in raw:
        yield "rts", 'has no effect with flow = "rtscts", which sets the line by itself', "key"


def mqtt_topics(table: MqttSource, raw: Raw) -> Wrong:
    for topic, count in Counter(table.topic).items():
        if count > 1:
            yield "topic", f"{shown(topic)} is listed {count} times"


def _captures(table: DecodedSource) -> tuple[str, ...]:
    """The levels of the topic that may be a key."""
    if not isinstance(table, MqttSource):
        return ()
    return tuple(name for name in parse_filter(table.topic[0], STAND_INS).captures if name != FIELD)


def named_fields(table: MqttSource, raw: Raw) -> Wrong:
    """A topic that names the field which its messages carry."""
    if FIELD not in parse_filter(table.topic[0], STAND_INS).captures:
        return
    decode, kind = table.decode, FORMATS[table.decode.format]
    if kind.named is None:
        able = quoted(name for name, one in FORMATS.items() if one.named is not None)
        yield "topic", f'{{field}} names the one value of a message, and format = "{decode.format}" has more; it goes with {able}'
    if decode.named_by is not None:
        yield "decode.named_by", "has no effect: {field} in topic names the field already", "key"
    for key in ("header", "pattern"):
        if key in raw["decode"]:
            yield f"decode.{key}", "has no effect with {field} in topic: a message is one value", "key"


def decimals(table: DecodedSource, raw: Raw) -> Wrong:
    """Where a topic names the field, a message is one value, and nothing separates it."""
    decode = table.decode
    is_one = isinstance(table, MqttSource) and FIELD in parse_filter(table.topic[0], STAND_INS).captures
    if decode.format == "csv" and decode.decimal == decode.separator and not is_one:
        yield "decode.decimal", 'expected another character than the separator, found ","; write separator = ";" or "\\t"'


def paths_of_lines(table: DecodedSource, raw: Raw) -> Wrong:
    """Lines have no members, but topics may name what stands in one."""
    kind, fields = FORMATS[table.decode.format], raw["decode"].get("fields", [])
    is_named = isinstance(table, MqttSource) and FIELD in parse_filter(table.topic[0], STAND_INS).captures
    if kind.is_by_path or kind.named is None or is_named or table.decode.payload is not None:
        return
    for i, one in enumerate(fields if isinstance(fields, list) else [fields]):
        if isinstance(one, dict) and "path" in one:
            at = f"decode.fields[{i}].path" if isinstance(fields, list) else "decode.fields.path"
            belongs = f"it belongs to {quoted(with_field_key('path'))}"
            yield at, f'has no effect with format = "{table.decode.format}"; {belongs}', "key"


def keys_and_time(table: DecodedSource, raw: Raw) -> Wrong:
    captures = _captures(table)
    names = captures if table.key is None else table.key
    if table.max_keys is not None and not names:
        place = (
            "capture a level of topic, such as plant/{pump}, or name a field with key" if captures == () else "name one with key"
        )
        yield "max_keys", f"has no effect without a key; {place}", "key"
    for name, count in Counter(names).items():
        if count > 1:
            yield "key", f'"{name}" is listed {count} times'
    known = _declared(table.decode)
    if known is None:
        return
    for i, name in enumerate(table.key or ()):
        if name not in captures and name not in known:
            at = f"key[{i}]" if isinstance(raw["key"], list) else "key"
            yield at, f"expected a capture of topic or a field of decode.fields, {found_among(name, [*captures, *known])}"
    time = table.decode.time
    if time is not None and time.field is not None and time.field not in known:
        text = f"expected a field of decode.fields, {found_among(time.field, known)}"
        yield (
            "decode.time.field",
            f"{text}; add it where it stands in the {'line' if FORMATS[table.decode.format].lines else 'frame'}",
        )


def _declared(decode: Decode) -> list[str] | None:
    """Names of the fields, where every field must be declared to be found; None where the payload names them."""
    kind = FORMATS[decode.format]
    if kind.is_by_path or decode.header or decode.payload is not None:
        return None
    if kind.is_of_pictures:
        return []
    if decode.pattern is not None:
        return list(groups_of(decode.pattern))
    units = ["address"] if decode.format == "modbus" else []
    return units + [spec.name for spec in decode.fields if spec.name != "_"]


def conditions_of_where(table: DecodedSource, raw: Raw) -> Wrong:
    """What `where` names must be there to be judged."""
    captures = _captures(table)
    known = [] if table.decode.format == "raw" else _declared(table.decode)
    for name in table.where or ():
        if known is not None and name not in captures and name not in known:
            wanted = "a field of decode.fields or a capture of topic" if captures else "a field of decode.fields"
            yield f"where.{name}", f"expected {wanted}, {found_among(name, [*captures, *known])}", "key"


def carried(table: DecodedSource, raw: Raw) -> Wrong:
    kind = FORMATS[table.decode.format]
    is_around = table.decode.payload is not None and not kind.is_of_pictures
    if table.carry and is_around and table.decode.pattern is not None and not kind.is_by_pattern:
        yield "carry", "has no effect with decode.pattern: no JSON stands around the payload", "key"
    elif table.carry and kind.tree is None and not is_around:
        belongs = f"it belongs to {quoted(name for name, kind in FORMATS.items() if kind.tree is not None)}"
        yield "carry", f'has no effect with format = "{table.decode.format}"; {belongs}', "key"
    for name, count in Counter(table.carry).items():
        if count > 1:
            yield "carry", f'"{name}" is listed {count} times'


def names_of_positions(table: DecodedSource, raw: Raw) -> Wrong:
    """Formats of one sensor, whose values are all numbers."""
    for key in ("key", "where"):
        if key in raw and FORMATS[table.decode.format].names:
            yield key, f'has no effect with format = "{table.decode.format}", whose messages are all of one sensor', "key"


def picture_source(table: DecodedSource, raw: Raw) -> Wrong:
    if FORMATS[table.decode.format].is_of_pictures and "on_bad" in raw:
        yield "on_bad", "has no effect on pictures: one that cannot be decoded is dropped", "key"


BytesSource = SerialSource | MqttSource | ReplaySource


def fill(table: BytesSource, raw: Raw) -> BytesSource:
    """What follows from the format: the largest frame, and the frame of a format that brings its own."""
    table = msgspec.structs.replace(table, max_bytes=_filled_max_bytes(table, raw))
    frame = FORMATS[table.decode.format].frame
    return msgspec.structs.replace(table, frame=Frame(type=frame)) if frame and not isinstance(table, MqttSource) else table


def _filled_max_bytes(table: BytesSource, raw: Raw) -> int:
    """A picture is larger than a line or a message of numbers."""
    return (None if "max_bytes" in raw else FORMATS[table.decode.format].max_bytes) or table.max_bytes


RULES: dict[type[Table], tuple[Rule, ...]] = {
    Frame: (
        Rule(("type", "size", "sync", "tail", "offset"), frame),
        Rule(("type", "length", "endian"), length_field),
        Rule(("type", "sync", "end"), markers),
        Rule(("type", "start", "end", "gap", "sync", "crc_extra"), blocks),
    ),
    Checksum: (Rule(("type", "poly", "init", "xor"), crc_parameters),),
    DecodedSource: (
        Rule(("decode", "key", "max_keys", "topic"), keys_and_time),
        Rule(("decode", "topic"), paths_of_lines),
        Rule(("decode", "topic"), decimals),
        Rule(("decode",), only_of_a_bus),
        Rule(("decode", "carry"), carried),
        Rule(("decode", "key", "where"), names_of_positions),
        Rule(("decode", "on_bad"), picture_source),
        Rule(("decode", "where", "topic"), conditions_of_where),
    ),
    MqttSource: (Rule(("topic",), mqtt_topics), Rule(("topic", "decode"), named_fields)),
    Send: (Rule(("checksum", "every", "timeout", "answer"), sending),),
    Port: (
        Rule(("frame", "checksum", "max_bytes"), checksum_of_frames),
        Rule(("flow", "rts", "frame"), flow_control),
    ),
    SerialSource: (
        Rule(("port",), port_of_windows),
        Rule(("frame", "decode", "port"), binary_frames),
        Rule(("frame", "checksum", "max_bytes", "port"), checksum_of_frames),
        Rule(("flow", "rts", "frame"), flow_control),
        Rule(("rate", "send", "key"), asked_at_a_pace),
    ),
    ReplaySource: (Rule(("frame", "checksum", "max_bytes"), checksum_of_frames),),
}
FINISH: dict[type[Table], Finish] = {DecodedSource: fill, Frame: fill_end}
