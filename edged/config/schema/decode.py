"""`decode`: what a frame or a message holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from edged.config.parsers.choices import Absent, ByteOrder, Flag, WireType
from edged.config.parsers.measures import (
    Zone,
)
from edged.config.parsers.names import (
    FieldName,
    FieldPath,
    Label,
    Pattern,
    Text,
)
from edged.config.parsers.numbers import (
    Bits,
    Count,
    Factor,
    Number,
    Range,
    Register,
)
from edged.config.schema.keys import Key, Several, Table
from edged.decode import formats

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[tuple(formats.FORMATS)]
RegisterTable = Literal["holding", "input", "coil", "discrete"]


class Element(Table, frozen=True, kw_only=True):
    """One number on the wire, or in a line."""

    FIRST = "name"
    name: Annotated[
        FieldName,
        Key('what the field is called; `"_"` skips one. Fields named by `time` or `key` are not values for the model'),
    ]
    base: Annotated[Literal[10, 16], Key("16: hexadecimal, `1F` or `0x1F`: csv, text, struct with dtype text")] = 10
    dtype: Annotated[
        WireType | None,
        Key(
            "element type: struct, raw, modbus; `text`: ASCII of `size` bytes, a number where one is wanted; `uint11` with "
            "`shape = 16`: numbers of so many bits side by side, the lowest first if little; json, msgpack, cbor: `text`, for "
            "inputs of a model that take strings",
            default="struct: required, raw: float32, modbus: uint16, of a bit bool",
        ),
    ] = None
    size: Annotated[
        Count | None,
        Key(
            "of a field of dtype text the bytes: struct; or the most characters: json, msgpack, cbor",
            default="struct: required for dtype text, else 64",
        ),
    ] = None
    endian: Annotated[ByteOrder | None, Key("byte order of this field: struct, modbus", default="that of `decode`")] = None
    bits: Annotated[Bits | None, Key("these bits of the number, the lowest is 0: struct, modbus", default="all")] = None
    scale: Annotated[Factor, Key("value = raw x scale + offset")] = 1.0
    offset: Annotated[Number, Key("value = raw x scale + offset")] = 0.0
    unit: Annotated[
        Text | None,
        Key(
            "the unit, for people: health shows it. edged compares it with the manifest's and with that of a dsmr "
            "telegram, and never converts"
        ),
    ] = None
    valid: Annotated[
        Range | None, Key("the possible range, after scaling; a value outside is bad (`on_bad`)", default="any finite")
    ] = None
    values: Annotated[
        dict[str, Number] | None,
        Key(
            "numbers for texts: `{ open = 1, closed = 0 }`; true and false are 1 and 0 by themselves, and a text that is a "
            "number is that number: csv, text, json, msgpack, cbor, senml, influx, dsmr, vedirect, struct with dtype text"
        ),
    ] = None
    absent: Annotated[
        Absent | None,
        Key(
            "what a message that does not have it at all gets: `drop`, `hold` (the last value, not marked `degraded`; before the "
            "first the message is `incomplete`), or a number. null, NaN and texts are not absent but bad; struct: bytes cut off "
            "at the end: not for raw, modbus, image",
            default="as `on_bad` says; senml and fields that messages name: `hold`",
        ),
    ] = None
    shape: Annotated[
        Annotated[tuple[Count, ...], Several()],
        Key("the shape of a field that is a tensor: `[64]`", default="scalar"),
    ] = ()


class FieldSpec(Element, frozen=True, kw_only=True):
    """One value of a sample. What it does not set itself, `decode` sets for it."""

    path: Annotated[
        FieldPath,
        Key(
            "where it stands in the message: json, msgpack, cbor, senml, influx, and around `payload`. `a.b`, `rows.0.v`, `.` "
            "the whole, `^.a` from the root of the message on (with `rows`, `payload`), `list[id=T1].v` the element whose member "
            "equals, `list[=driveway]` the element that equals; dsmr: its OBIS code, vedirect: its label",
            default="`name`",
        ),
    ] = ()
    after: Annotated[
        Label | None,
        Key(
            "the label that stands before it, then any of `:`, `=` and blanks; no letter or digit stands before the label; "
            '`""`: the first number of the line: text without `pattern`',
            default="`name`",
        ),
    ] = None
    register: Annotated[
        Register | None, Key("the register's address on the wire, from 0: modbus", default="required for modbus")
    ] = None
    table: Annotated[RegisterTable | None, Key("which registers: modbus", default="that of `decode`")] = None
    repeat: Annotated[
        Count | None, Key("`fields` of it so many times over, each a tensor of that many: struct", default="once")
    ] = None
    fields: Annotated[
        Annotated[tuple[Element, ...], Several(1)],
        Key("what is repeated; `name` is then that of the group, for `rows`: struct", default="none"),
    ] = ()


class Time(Table, frozen=True, kw_only=True):
    """Where a sample says when it was taken."""

    FIRST = "format"
    field: Annotated[
        FieldName | None, Key("the field that holds the time", default="the one that the format has; required where it has none")
    ] = None
    format: Annotated[
        Literal[
            "rfc3339",
            "iso8601",
            "unix_s",
            "unix_ms",
            "unix_us",
            "unix_ns",
            "elapsed_s",
            "elapsed_ms",
            "elapsed_us",
            "dsmr",
            "arrival",
        ],
        Key(
            "how it is written; iso8601: with or without a zone, a `T` or a blank, `+0100`, a comma fraction, `2026/01/31`; "
            "elapsed: since the sensor started (`millis()`), anchored at the first sample; dsmr: `YYMMDDhhmmss` with W or S for "
            "winter and summer, of a telegram that of `0-0:1.0.0` or of the code that `field` says (a gas meter's); arrival: "
            "when it came, whatever the payload says"
        ),
    ]
    zone: Annotated[
        Zone | None,
        Key(
            "of times that do not say theirs: `local` `utc` or such as `+02:00`: iso8601; of dsmr that of winter",
            default='iso8601: `"local"`, dsmr: `"+01:00"`',
        ),
    ] = None


class Decode(Table, frozen=True, kw_only=True):
    """How bytes become named values."""

    TYPE = "format"
    format: Annotated[
        FormatName,
        Key(
            "how a payload or frame is written; text: values behind labels (`after`), or by `pattern`; cbor needs `edged[cbor]`; "
            'senml: RFC 8428, fields by `n`, or with `key = "n"` each record; influx: line protocol, fields `X`, `tags.X`; '
            "nmea: `lat lon alt speed track climb hdop satellites depth heading mheading pitch roll rot temp xdr.NAME` in SI "
            "units and degrees, one sample an epoch; ubx: the same of NAV-PVT; dsmr: OBIS codes (P1, IEC 62056-21 mode D), "
            "vedirect: labels; these four bring their frame and checksum; "
            "wav: sound, a row a frame, a column a channel, full scale is 1, and its header's rate must be `rate`; "
            "image: a JPEG, PNG or WebP, turned as its EXIF data says, needs `edged[image]`"
        ),
    ]
    fields: Annotated[
        Annotated[tuple[FieldSpec, ...], Several(1)],
        Key(
            "the values, in the order the model gets them. csv: columns; json, msgpack, cbor: paths; struct: in wire order; "
            'text: in any order; raw: one row after another; image: what the picture is called. `"_"` skips',
            default='raw, wav: `"value"`, image: `"image"`, text: the groups of `pattern`, else required',
            required=tuple(name for name, kind in formats.FORMATS.items() if not kind.default_field and not kind.is_by_pattern),
        ),
    ] = ()
    payload: Annotated[
        FieldPath | None,
        Key(
            "the member that holds what is decoded; around it is JSON, or what `pattern` says. `time`, `key`, `where`, `carry` "
            "and fields with a `path` "
            "(of formats that have paths: from `^` on) are read from around it. Where messages name their fields: the value",
            default="the whole",
            only=formats.with_key("payload"),
        ),
    ] = None
    encoding: Annotated[
        Literal["base64", "hex"] | None,
        Key(
            "how bytes are written as text; edged ignores blanks, and reads base64 also from a data URL",
            default="as they are",
            only=formats.with_key("encoding"),
        ),
    ] = None
    compress: Annotated[
        Literal["gzip", "zlib", "zstd"] | None,
        Key(
            "how the payload is compressed; what it opens to must fit into `max_bytes`",
            default="none",
            only=formats.with_key("compress"),
        ),
    ] = None
    rows: Annotated[
        FieldPath | None,
        Key(
            "an array each element of which is a sample, with its own time, key and `where`; `.`: the payload itself. Paths are "
            "those of an element, from `^` on those of the message. Several documents, one a line, need no key. struct: `.`: "
            "record after record, or the name of a group (`repeat`)",
            default="a message is a sample",
            only=formats.with_key("rows"),
        ),
    ] = None
    named_by: Annotated[
        FieldPath | None,
        Key(
            "the member that names the field whose value stands in `payload`, as `{field}` in a topic does. Values are held; "
            "with `rows`, elements of one time make one sample",
            default="none",
            only=formats.with_key("named_by"),
        ),
    ] = None
    absent: Annotated[Absent | None, Key("the default for fields that do not set their own", only=formats.with_key("absent"))] = (
        None
    )
    time: Annotated[
        Time | None,
        Key(
            "when a sample was taken",
            default="as senml and influx say, else on arrival: samples of one read or message are spread back at `rate`",
            only=formats.with_key("time"),
        ),
    ] = None
    header: Annotated[
        Flag, Key("the first line names the columns, and `fields` picks them by name", only=formats.with_key("header"))
    ] = False
    separator: Annotated[
        Text,
        Key(
            ('what stands between two columns; `" "`: any number of blanks or tabs. A cell may stand in double quotes'),
            only=formats.with_key("separator"),
        ),
    ] = ","
    pattern: Annotated[
        Pattern | None,
        Key(
            "a regular expression with named groups, `(?P<kg>[+-] *[\\d.]+)kg`, searched once in each line; what it does "
            "not match counts as `other`. Of other formats than text: what stands around `payload`, one of its groups",
            default="text: `after` of each field",
            only=formats.with_key("pattern"),
        ),
    ] = None
    decimal: Annotated[Literal[".", ","], Key("the decimal point of numbers", only=formats.with_key("decimal"))] = "."
    base: Annotated[
        Literal[10, 16] | None,
        Key("the default for fields that do not set their own", only=formats.with_key("base")),
    ] = None
    endian: Annotated[
        ByteOrder,
        Key(
            "byte order, as meters name it: big is abcd, little dcba; cdab: words swapped",
            default='`"little"`, modbus: `"big"`',
            only=formats.with_key("endian"),
        ),
    ] = "little"
    table: Annotated[
        RegisterTable | None,
        Key("the default for fields that do not set their own", default='`"holding"`', only=formats.with_key("table")),
    ] = None
    rest: Annotated[
        Literal["refuse", "skip"], Key("what to do with bytes behind the last field", only=formats.with_key("rest"))
    ] = "refuse"
    max_pixels: Annotated[
        Count,
        Key(
            "a larger picture is refused by its header, before it is decoded",
            default="4194304",
            only=formats.with_key("max_pixels"),
        ),
    ] = 4 * 1024 * 1024
    color: Annotated[
        Literal["rgb", "bgr", "gray"] | None,
        Key(
            "the order of the colors",
            default='the model\'s, where `model.toml` says it, else `"rgb"`',
            only=formats.with_key("color"),
        ),
    ] = None
    dtype: Annotated[WireType | None, Key("the default for fields that do not set their own", only=formats.with_key("dtype"))] = (
        None
    )
    scale: Annotated[Factor | None, Key("the default for fields that do not set their own", only=formats.with_key("scale"))] = (
        None
    )
    offset: Annotated[Number | None, Key("the default for fields that do not set their own", only=formats.with_key("offset"))] = (
        None
    )
    unit: Annotated[Text | None, Key("the default for fields that do not set their own", only=formats.with_key("unit"))] = None
    valid: Annotated[Range | None, Key("the default for fields that do not set their own", only=formats.with_key("valid"))] = None
    shape: Annotated[
        Annotated[tuple[Count, ...], Several()] | None,
        Key("the default for fields that do not set their own", only=formats.with_key("shape")),
    ] = None
